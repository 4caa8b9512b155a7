"""One-dimensional densities: normalised, as scipy has them, and what samples follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mlgen.radiation import conditionals
from mlgen.radiation.conditionals import Conditional, Gaps, Gaussians, VonMises, von_mises
from tests.laws import check_frequencies

GAUSSIANS, VON_MISES = Gaussians(3), VonMises(3)
KINDS = [
    (GAUSSIANS, None),
    (GAUSSIANS, (-0.4,)),
    (GAUSSIANS, (-0.6, 0.0, -1.2)),
    (VON_MISES, None),
]
"""With where components end, all of them or each: at edges of `grid`."""


def some_parameters(conditional: Conditional, n: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, conditional.n_parameters, generator=rng, dtype=torch.float64)
    return conditional.first_parameters().double() + noise


def ends(upper: Sequence[float] | None, like: Tensor) -> Tensor | None:
    return None if upper is None else like.new_tensor(upper).expand(len(like), -1)


def grid(conditional: Conditional, upper: Sequence[float] | None, n: int) -> Tensor:
    """Points in the middle of equal bins of all that there is."""
    low, high = (-math.pi, math.pi) if conditional is VON_MISES else (-12.0, 12.0)
    high = high if upper is None else max(upper)
    return low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n


@pytest.mark.parametrize(("conditional", "upper"), KINDS)
def test_a_density_integrates_to_one(
    conditional: Conditional, upper: tuple[float, ...] | None
) -> None:
    x = grid(conditional, upper, 20_000)
    width = float(x[1] - x[0])
    for row in some_parameters(conditional, 5, seed=1):
        parameters, end = row.expand(len(x), -1), ends(upper, x)
        total = float(conditional.log_prob(parameters, x, end).exp().sum()) * width
        assert abs(total - 1) < 1e-5


LOG_KEPT = torch.tensor(math.log(0.1), dtype=torch.float64)
GAPS = [
    ((-0.6, -0.6), (0.3, -0.6)),
    ((-0.6, 0.3), (0.0, 0.9)),
    ((-0.6, -0.3), (0.3, 0.9)),
]
"""Lower and upper ends: one, two apart, two that overlap."""


def gaps_of(ends: tuple[tuple[float, ...], ...], like: Tensor) -> Gaps:
    low, high = (like.new_tensor(end).expand(len(like), -1) for end in ends)
    return Gaps(low, high, LOG_KEPT.to(like.dtype))


@pytest.mark.parametrize("ends", GAPS)
def test_a_density_with_gaps_integrates_to_one_and_is_lower_in_them(
    ends: tuple[tuple[float, ...], ...],
) -> None:
    x = grid(GAUSSIANS, None, 20_000)
    gaps = gaps_of(ends, x)
    for row in some_parameters(GAUSSIANS, 5, seed=11):
        parameters = row.expand(len(x), -1)
        found = GAUSSIANS.log_prob(parameters, x, gaps=gaps)
        assert abs(float(found.exp().sum()) * float(x[1] - x[0]) - 1) < 1e-5
        change = found - GAUSSIANS.log_prob(parameters, x)
        inside, outside = change[gaps.has(x)], change[~gaps.has(x)]
        torch.testing.assert_close(inside, (outside[0] + LOG_KEPT).expand_as(inside))
        torch.testing.assert_close(outside, outside[0].expand_as(outside))
        assert float(outside[0]) > 0


@pytest.mark.parametrize("ends", GAPS)
def test_samples_avoid_gaps_as_the_density_does(ends: tuple[tuple[float, ...], ...]) -> None:
    n, edges = 40_000, torch.tensor([-1.5, -0.6, -0.3, 0.0, 0.3, 0.9, 1.5], dtype=torch.float64)
    row = some_parameters(GAUSSIANS, 1, seed=12)[0]
    x = grid(GAUSSIANS, None, 80_000)
    log_prob = GAUSSIANS.log_prob(row.expand(len(x), -1), x, gaps=gaps_of(ends, x))
    shares = torch.bincount(torch.bucketize(x, edges), log_prob.exp(), minlength=len(edges) + 1)
    rng = torch.Generator().manual_seed(13)
    rows = row.expand(n, -1)
    drawn = GAUSSIANS.sample(rows, rng, gaps=gaps_of(ends, rows))
    counts = torch.bincount(torch.bucketize(drawn, edges), minlength=len(edges) + 1)
    check_frequencies(counts, shares)
    without = GAUSSIANS.sample(rows, rng)
    counts = torch.bincount(torch.bucketize(without, edges), minlength=len(edges) + 1)
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(counts, shares)


def test_how_much_a_gap_keeps_is_learned() -> None:
    x = grid(GAUSSIANS, None, 2000)
    gaps = gaps_of(GAPS[1], x)
    parameters = some_parameters(GAUSSIANS, 1, seed=14).expand(len(x), -1)
    truth = GAUSSIANS.log_prob(parameters, x, gaps=gaps).softmax(0)
    log_kept = torch.tensor(-0.5, dtype=torch.float64).requires_grad_()
    steps = torch.optim.Adam([log_kept], lr=0.05)
    for _ in range(200):
        steps.zero_grad()
        found = GAUSSIANS.log_prob(parameters, x, gaps=gaps._replace(log_kept=log_kept))
        (-truth @ found).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        steps.step()
    assert abs(float(log_kept.detach() - LOG_KEPT)) < 0.02


def test_above_the_upper_end_there_is_nothing() -> None:
    x = torch.tensor([-0.5, -0.3], dtype=torch.float64)
    parameters = some_parameters(GAUSSIANS, 2, seed=2)
    found = GAUSSIANS.log_prob(parameters, x, ends((-0.4, -0.6, -0.4), x))
    assert found[0] > -math.inf
    assert found[1] == -math.inf


def test_von_mises_mixtures_are_those_of_scipy() -> None:
    kappa, mean = np.array([0.02, 3.0, 900.0]), np.array([0.3, -3.0, 1.2])
    shares = np.array([0.5, 0.3, 0.2])
    parameters = np.concatenate([np.log(shares), kappa * np.cos(mean), kappa * np.sin(mean)])
    x = torch.linspace(-math.pi, math.pi, 501, dtype=torch.float64)
    expected = sum(
        share * stats.vonmises.pdf(x.numpy(), k, loc=m)
        for share, k, m in zip(shares, kappa, mean, strict=True)
    )
    rows = torch.from_numpy(parameters).expand(len(x), -1)
    found = VON_MISES.log_prob(rows, x).exp()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    # kappa² is large beside what single precision keeps of it.
    single = VON_MISES.log_prob(rows.float(), x.float())
    np.testing.assert_allclose(single.exp().numpy(), expected, rtol=1e-3)


def test_truncated_normal_densities_are_those_of_scipy() -> None:
    parameters = some_parameters(GAUSSIANS, 1, seed=3)[0]
    logits, means, widths = (part.numpy() for part in parameters.chunk(3))
    stds = np.log1p(np.exp(widths)) + 1e-3
    shares = np.exp(logits) / np.exp(logits).sum()
    x, upper = np.linspace(-4, 0.2, 301), 0.2
    of_all = sum(s * stats.norm.pdf(x, m, d) for s, m, d in zip(shares, means, stds, strict=True))
    below = sum(
        s * stats.norm.cdf(upper, m, d) for s, m, d in zip(shares, means, stds, strict=True)
    )
    at = torch.from_numpy(x)
    found = GAUSSIANS.log_prob(parameters.expand(len(x), -1), at, ends((upper,), at)).exp()
    np.testing.assert_allclose(found.numpy(), of_all / below, rtol=1e-9)


def counts_in_bins(
    conditional: Conditional, upper: tuple[float, ...] | None
) -> tuple[Tensor, Tensor]:
    """How often samples are in bins of probability 1 / 20, as the density has it, and the probabilities."""
    n, n_bins = 40_000, 20
    row = some_parameters(conditional, 1, seed=4)[0]
    x = grid(conditional, upper, 100_000)
    log_prob = conditional.log_prob(row.expand(len(x), -1), x, ends(upper, x))
    total = log_prob.exp().cumsum(0)
    edges = x[torch.searchsorted(total, total[-1] * torch.arange(1, n_bins) / n_bins)]
    rng = torch.Generator().manual_seed(5)
    drawn = conditional.sample(row.expand(n, -1), rng, ends(upper, row.expand(n, -1)))
    assert drawn.dtype == torch.float64
    assert upper is None or bool((drawn <= max(upper)).all())
    counts = torch.bincount(torch.bucketize(drawn, edges), minlength=n_bins)
    return counts, torch.ones(n_bins, dtype=torch.float64)


@pytest.mark.parametrize(("conditional", "upper"), KINDS)
def test_samples_follow_the_density(
    conditional: Conditional, upper: tuple[float, ...] | None
) -> None:
    check_frequencies(*counts_in_bins(conditional, upper))


def test_samples_do_not_follow_another_density() -> None:
    counts, shares = counts_in_bins(GAUSSIANS, (-0.4,))
    shares[3] *= 1.15
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(counts, shares)


def off_after_learning(n_steps: int = 400) -> float:
    """How far a mixture is off, in relation, that learns a normal density of azimuths within two deviations."""
    mixture, spread = VonMises(12), 0.5
    parameters = mixture.first_parameters().double().requires_grad_()
    x = grid(VON_MISES, None, 360)
    truth = (-0.5 * (x / spread).square()).softmax(0)
    steps = torch.optim.Adam([parameters], lr=0.05)
    for _ in range(n_steps):
        steps.zero_grad()
        log_prob = mixture.log_prob(parameters.expand(len(x), -1), x)
        (-truth @ log_prob).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        steps.step()
    learned = mixture.log_prob(parameters.detach().expand(len(x), -1), x).softmax(0)
    return float((learned / truth - 1)[x.abs() < 2 * spread].abs().max())


def test_components_learn_a_shape_that_none_of_them_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert off_after_learning() < 0.035
    # Components that begin as wide as half the circle become one.
    monkeypatch.setattr(conditionals, "NEIGHBOURS_APART", 2 * math.pi / 12)
    assert off_after_learning() > 0.06


@pytest.mark.parametrize("kappa", [1e-7, 1e-3, 0.5, 30.0, 1e6])
def test_von_mises_angles_have_the_moment_of_scipy(kappa: float) -> None:
    angles = von_mises(torch.full((50_000,), kappa).double(), torch.Generator().manual_seed(6))
    assert bool((angles.abs() <= math.pi).all())
    # 1 - cos rather than cos, of which nothing is left at large kappa.
    missing = 2 * (0.5 * angles).sin().square()
    expected = (
        stats.vonmises.expect(lambda x: 1 - np.cos(x), args=(kappa,))
        if kappa < 1e3
        else 0.5 / kappa
    )
    error = float(missing.std()) / len(angles) ** 0.5
    assert error < 0.02 * expected
    assert abs(float(missing.mean()) - expected) < 5 * error


def test_far_below_every_component_the_tail_is_exponential() -> None:
    # Standard deviations of about 0.7, means at -1.5 to 1.5: ndtr is 0 at -40.
    n, upper = 20_000, torch.full((20_000,), -40.0).double()
    row = GAUSSIANS.first_parameters().double()
    rng = torch.Generator().manual_seed(7)
    drawn = GAUSSIANS.sample(row.expand(n, -1), rng, upper[:, None])
    below = upper - drawn
    # The slope of ln p at the end, from the component that reaches lowest.
    slope = 38.5 / 0.701**2
    assert bool((below >= 0).all())
    assert abs(float(below.mean()) * slope - 1) < 0.03
    end = upper[:1].float()
    at_end = GAUSSIANS.log_prob(row[None].float(), end, end[:, None])
    assert abs(float(at_end) - math.log(slope)) < 0.01


@pytest.mark.parametrize(("conditional", "upper"), KINDS)
def test_gradients_are_finite(conditional: Conditional, upper: tuple[float, ...] | None) -> None:
    extremes: list[Callable[[Tensor], Tensor]] = [
        torch.zeros_like,
        lambda p: 30 * p,
        lambda p: -30 * p,
    ]
    for change in extremes:
        parameters = change(some_parameters(conditional, 50, seed=8).float()).requires_grad_()
        x = torch.linspace(-3, 3 if upper is None else max(upper), 50)
        conditional.log_prob(parameters, x, ends(upper, x)).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        assert parameters.grad is not None
        assert bool(parameters.grad.isfinite().all())
