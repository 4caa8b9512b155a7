from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.errors import GenerationError
from mlgen.events.two_stage import (
    TwoStageEfficiency,
    control_variate,
    effective_gain,
    find_x_max,
    two_stage_efficiency,
)
from mlgen.events.unweighting import (
    accept,
    effective_sample_size,
    find_w_max,
    find_w_max_by_channel,
    overweight_excess,
)
from tests.laws import check_estimate, check_pulls

N_POINTS = 400
S_MAX, X_MAX = 1.5, 1.2
"""Both are exceeded by many of the points below."""


def weights(n: int = N_POINTS, seed: int = 1) -> Tensor:
    """Of either sign, some of them 0, with a tail."""
    rng = torch.Generator().manual_seed(seed)
    found = torch.rand(n, generator=rng, dtype=torch.float64) ** -0.3
    found[::5] *= -1
    found[::7] = 0
    return found


def uneven(w: Tensor) -> Tensor:
    """Too small by a factor 3 at every ninth point, wrong by up to 40 % elsewhere."""
    phase = torch.arange(len(w), dtype=torch.float64)
    s = w.abs() * (1 + 0.4 * phase.sin())
    s[::9] /= 3
    return s.clamp(min=0.05)


SURROGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "the weight itself": lambda w: w.abs().clamp(min=0.05),
    "an uneven one": uneven,
    "one that knows nothing": lambda w: torch.ones_like(w),
}


Steps = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def two_stages(w: Tensor, s: Tensor, rng: torch.Generator) -> Tensor:
    """What each point leaves: the weight of its event, or 0."""
    kept, u_1 = accept(s, S_MAX, rng)
    mask, u = accept(u_1 * w[kept] / s[kept], X_MAX, rng)
    at = kept.nonzero()[:, 0][mask]
    return torch.zeros_like(w).index_put((at,), u)


def first_stage(w: Tensor, s: Tensor, rng: torch.Generator) -> Tensor:
    """The same without the second step."""
    kept, u_1 = accept(s, S_MAX, rng)
    at = kept.nonzero()[:, 0]
    return torch.zeros_like(w).index_put((at,), u_1 * w[at].sign() / X_MAX)


def pulls(steps: Steps, s: Tensor, n_repeats: int = 400) -> Tensor:
    """Of the mean weight that some observable of the points leaves."""
    w = weights()
    observable = torch.linspace(-1, 2, N_POINTS, dtype=torch.float64)
    expected = observable * w / (S_MAX * X_MAX)
    rng = torch.Generator().manual_seed(2)
    found = torch.stack([observable * steps(w, s, rng) for _ in range(n_repeats)])
    return (found.sum(1) - expected.sum()) / found.var(0).sum().sqrt()


@pytest.mark.parametrize("name", SURROGATES)
def test_each_point_leaves_its_weight_on_average_whatever_the_surrogate(name: str) -> None:
    s = SURROGATES[name](weights())
    assert bool((s > S_MAX).any()) or name == "one that knows nothing"
    check_pulls(pulls(two_stages, s))


def test_the_test_above_notices_that_the_second_step_is_left_out() -> None:
    with pytest.raises(AssertionError, match="mean pull"):
        check_pulls(pulls(first_stage, uneven(weights())))


# --- x_max -----------------------------------------------------------------------------------


def survivors(n: int = 3000) -> tuple[Tensor, Tensor, Tensor]:
    """Ratios of three channels, which differ in spread; the channels of different size."""
    rng = torch.Generator().manual_seed(3)
    channel = (torch.arange(n) % 10 - 4).clamp(min=0, max=2)
    spread = torch.tensor([0.02, 0.1, 0.4], dtype=torch.float64)[channel]
    ratio = (spread * torch.randn(n, generator=rng, dtype=torch.float64)).exp()
    return ratio, channel, torch.tensor([5.0, 1.0, 0.2], dtype=torch.float64)


def excess(ratio: Tensor, channel: Tensor, size: Tensor, x_max: Tensor) -> float:
    """Each channel's survivors count for its size."""
    share = (size / channel.bincount(minlength=len(size)))[channel]
    above = (ratio.abs() - x_max[channel]).clamp(min=0)
    return float((share * above).sum() / (share * ratio.abs()).sum())


@pytest.mark.parametrize("budget", [0.0, 0.001, 0.01])
def test_x_max_keeps_to_its_budget_at_the_smallest_cost(budget: float) -> None:
    ratio, channel, size = survivors()
    x_max = find_x_max(ratio, channel, size, budget)
    assert excess(ratio, channel, size, x_max) == pytest.approx(budget, rel=1e-6, abs=1e-15)
    alone = [find_w_max(ratio[channel == c], budget) for c in range(3)]
    assert float(size @ x_max) <= float(size @ size.new_tensor(alone)) * (1 + 1e-12)
    # Nothing is gained by moving a little of the budget from one channel to another.
    for gives, takes in ((0, 1), (1, 2), (2, 0)) if budget else ():
        moved = x_max.clone()
        moved[gives] *= 1.01
        while excess(ratio, channel, size, moved) < budget:
            moved[takes] *= 1 - 1e-4
        assert float(size @ moved) > float(size @ x_max) * (1 - 1e-4)


def test_points_that_count_with_their_chance_to_survive_give_the_x_max_of_survivors() -> None:
    w = weights(400_000).abs()
    s = uneven(w)
    kept, u_1 = accept(s, S_MAX, torch.Generator().manual_seed(4))
    channel = torch.zeros(len(w), dtype=torch.int64)
    size = s.clamp(max=S_MAX).mean()[None]
    of_survivors = find_x_max(u_1 * w[kept] / s[kept], channel[kept], size, 0.01)
    ratio = (s / S_MAX).clamp(min=1) * w / s
    of_points = find_x_max(ratio, channel, size, 0.01, (s / S_MAX).clamp(max=1))
    assert float(of_points) == pytest.approx(float(of_survivors), rel=0.01)
    uncounted = find_x_max(ratio, channel, size, 0.01)
    assert float(uncounted) != pytest.approx(float(of_survivors), rel=0.01)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_a_point_that_counts_twice_is_like_two(scale: float) -> None:
    ratio, channel, size = survivors()
    counts = 1.0 + torch.arange(len(ratio)) % 3
    repeated = counts.to(torch.int64)
    expected = find_x_max(
        ratio.repeat_interleave(repeated), channel.repeat_interleave(repeated), size, 0.003
    )
    found = find_x_max(ratio, channel, size, 0.003, scale * counts.double())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_a_channel_without_survivors_has_the_largest_x_max_so_that_it_is_drawn() -> None:
    ratio, channel, size = survivors()
    with_another = torch.cat([size, torch.tensor([1e-4, 0.0], dtype=torch.float64)])
    x_max = find_x_max(ratio, channel, with_another, 0.001)
    torch.testing.assert_close(x_max[:3], find_x_max(ratio, channel, size, 0.001))
    assert float(x_max[3]) == float(x_max[4]) == float(x_max[:3].max())


def test_survivors_without_any_weight_are_an_error() -> None:
    nothing = torch.zeros(7, dtype=torch.float64)
    with pytest.raises(
        GenerationError, match="no exact weight among 7 survivors of the surrogate: expected some"
    ):
        find_x_max(nothing, nothing.long(), torch.ones(1, dtype=torch.float64), 0.001)


# --- efficiencies ----------------------------------------------------------------------------


def simulated() -> tuple[TwoStageEfficiency, Tensor, int, int]:
    """What is expected; the events of a million points; the number of points and of survivors."""
    w = weights(1_000_000)
    s = uneven(w)
    rng = torch.Generator().manual_seed(5)
    kept, u_1 = accept(s, S_MAX, rng)
    ratio = u_1 * w[kept] / s[kept]
    _, u = accept(ratio, X_MAX, rng)
    one = torch.ones(1, dtype=torch.float64)
    p_1 = kept.double().mean()[None]
    expected = two_stage_efficiency(
        ratio / X_MAX, torch.zeros(len(ratio), dtype=torch.int64), p_1, one
    )
    return expected, u, len(w), len(ratio)


def test_efficiencies_are_those_of_the_events_that_are_made() -> None:
    expected, u, n_points, n_survivors = simulated()
    assert expected.eps_1 == pytest.approx(n_survivors / n_points, rel=1e-12)
    eps_2 = len(u) / n_survivors
    error = (eps_2 * (1 - eps_2) / n_survivors) ** 0.5
    check_estimate(eps_2, error, expected.eps_2, 0.01)
    assert expected.alpha == pytest.approx(effective_sample_size(u.abs()), rel=0.005)
    assert expected.alpha < 0.95
    assert expected.overweight == pytest.approx(overweight_excess(u, 1.0), rel=0.02)


def test_each_channel_counts_with_its_share_of_the_points() -> None:
    """Of all events half come from a channel that keeps 1/2 and 1/4, half from one that keeps 1/8 and 1."""
    zeta = torch.tensor([0.25] * 4 + [1.0] * 4, dtype=torch.float64)
    found = two_stage_efficiency(
        zeta,
        torch.tensor([0] * 4 + [1] * 4),
        torch.tensor([0.5, 0.125], dtype=torch.float64),
        torch.tensor([0.5, 0.5], dtype=torch.float64),
    )
    assert found.eps_1 == pytest.approx(0.3125)
    assert found.eps_1 * found.eps_2 == pytest.approx(0.125)
    assert (found.alpha, found.overweight) == pytest.approx((1.0, 0.0))


def test_the_gain_is_the_ratio_of_the_times_for_the_same_effective_number_of_events() -> None:
    efficiency, u, n_points, n_survivors = simulated()
    t_surrogate, t_exact = 5e-6, 1e-3
    w = weights(1_000_000)
    w_max = find_w_max(w, 0.001)
    eps_full = float(w.abs().clamp(max=w_max).mean()) / w_max
    with_surrogate = n_points * t_surrogate + n_survivors * t_exact
    without = t_exact / eps_full * effective_sample_size(u.abs()) * len(u)
    found = effective_gain(efficiency, eps_full, t_surrogate / t_exact)
    assert found == pytest.approx(without / with_surrogate, rel=0.01)
    assert found < efficiency.eps_2 / eps_full
    costly = replace(efficiency, calls=2.0)
    with_more = with_surrogate + n_survivors * t_exact
    assert effective_gain(costly, eps_full, t_surrogate / t_exact) == pytest.approx(
        without / with_more, rel=0.01
    )


# --- the cross section -----------------------------------------------------------------------


def test_the_weights_of_all_points_follow_from_those_of_survivors() -> None:
    w = weights()
    s = uneven(w)
    p_1 = (s / S_MAX).clamp(max=1)
    rng = torch.Generator().manual_seed(6)
    for surrogate in (s, torch.zeros_like(s), -3 * s):
        found = []
        for _ in range(400):
            kept, _ = accept(s, S_MAX, rng)
            found.append(control_variate(surrogate, w[kept], kept, p_1))
        every = torch.stack(found)
        spread = (w - surrogate).square() * (1 / p_1 - 1)
        check_pulls((every.sum(1) - w.sum()) / spread.sum().sqrt())


def test_an_exact_surrogate_gives_every_weight_without_any_spread() -> None:
    w = weights()
    p_1 = (w.abs() / S_MAX).clamp(max=1)
    kept, _ = accept(w.abs(), S_MAX, torch.Generator().manual_seed(7))
    assert torch.equal(control_variate(w, w[kept], kept, p_1), w)


def test_w_max_of_weights_that_all_count_alike_does_not_depend_on_how_much() -> None:
    w, channel = weights(), torch.arange(N_POINTS) % 3
    expected = find_w_max_by_channel(w, channel, 3, 0.01)
    for count in (1e-3, 1.0, 7.0):
        counts = torch.full_like(w, count)
        found = find_w_max_by_channel(w, channel, 3, 0.01, counts)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
