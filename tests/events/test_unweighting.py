from __future__ import annotations

import math
import time

import pytest
import torch
from torch import Tensor

from mlgen.errors import GenerationError, NonFiniteWeight
from mlgen.events.unweighting import (
    accept,
    effective_sample_size,
    find_w_max,
    find_w_max_by_channel,
    overweight_excess,
    unweighting_efficiency,
)


def heavy_tailed(n: int, seed: int, power: float = 0.3) -> Tensor:
    """Weights x^-power of uniform x, every seventh cut away, every fifth negative."""
    rng = torch.Generator().manual_seed(seed)
    weights = torch.rand(n, generator=rng, dtype=torch.float64) ** -power
    weights[::7] = 0
    weights[::5] *= -1
    return weights


@pytest.mark.parametrize("budget", [0.0, 1e-4, 1e-3, 0.1, 0.7])
@pytest.mark.parametrize("n", [1, 2, 100, 5000])
def test_w_max_is_the_smallest_that_keeps_to_the_budget(n: int, budget: float) -> None:
    weights = heavy_tailed(n + 1, seed=n)[1:]
    w_max = find_w_max(weights, budget)
    assert overweight_excess(weights, w_max) <= budget * (1 + 1e-9)
    assert overweight_excess(weights, w_max * (1 - 1e-6)) > budget


def test_without_a_budget_w_max_is_the_largest_weight_to_the_last_bit() -> None:
    for seed in range(20):
        weights = heavy_tailed(1000, seed)
        weights[:3] = -weights.abs().max()  # ties, of either sign
        assert find_w_max(weights, 0.0) == float(weights.abs().max())


def test_w_max_does_not_depend_on_signs_order_or_zeros() -> None:
    weights = heavy_tailed(1000, seed=1)
    expected = find_w_max(weights, 0.01)
    shuffled = weights[torch.randperm(1000, generator=torch.Generator().manual_seed(2))]
    with_zeros = torch.cat([weights, torch.zeros(5000, dtype=torch.float64)])
    assert find_w_max(weights.abs(), 0.01) == expected
    assert find_w_max(shuffled, 0.01) == expected
    assert find_w_max(with_zeros, 0.01) == pytest.approx(expected, rel=1e-14)


def test_a_sample_without_weights_has_w_max_zero() -> None:
    assert find_w_max(torch.zeros(7, dtype=torch.float64), 0.001) == 0.0
    assert find_w_max(torch.zeros(0, dtype=torch.float64), 0.001) == 0.0


def test_each_channel_has_its_own_w_max_and_an_empty_one_is_never_drawn() -> None:
    weights = heavy_tailed(3000, seed=4)
    channel = torch.arange(3000) % 3
    weights[channel == 1] = 0
    w_max = find_w_max_by_channel(weights, channel, n_channels=4, budget=0.01)
    assert w_max.tolist() == [
        find_w_max(weights[channel == 0], 0.01),
        0.0,
        find_w_max(weights[channel == 2], 0.01),
        0.0,
    ]
    drawn = torch.multinomial(w_max, 1000, True, generator=torch.Generator().manual_seed(5))
    assert set(drawn.tolist()) == {0, 2}


@pytest.mark.parametrize("bad", [-0.1, 1.0, math.nan])
def test_a_budget_outside_its_range_is_refused(bad: float) -> None:
    with pytest.raises(
        GenerationError, match=r"overweight budget = .*: expected a number in \[0, 1\)"
    ):
        find_w_max(torch.ones(3, dtype=torch.float64), bad)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_weight_that_is_not_finite_is_refused(bad: float) -> None:
    weights = torch.tensor([1.0, bad], dtype=torch.float64)
    with pytest.raises(
        NonFiniteWeight, match=r"weights\[1\] = (inf|nan): expected a number \(pb\)"
    ):
        find_w_max(weights, 0.1)


def test_the_efficiency_is_the_sum_of_cross_sections_over_the_sum_of_w_max() -> None:
    weights, channel = heavy_tailed(4000, seed=6), torch.arange(4000) % 4 // 3
    found = unweighting_efficiency(weights, channel, 0.01, torch.Generator().manual_seed(7))
    sigma = [float(weights[channel == c].mean()) for c in (0, 1)]
    w_max = [find_w_max(weights[channel == c], 0.01) for c in (0, 1)]
    assert found.value == pytest.approx(sum(map(abs, sigma)) / sum(w_max), rel=1e-12)
    assert (found.n, found.t) == (4000, 0.01)


def test_the_efficiency_of_constant_weights_is_one_and_certain() -> None:
    weights = torch.full((5000,), 3.0, dtype=torch.float64)
    channel = torch.zeros(5000, dtype=torch.int64)
    found = unweighting_efficiency(weights, channel, 0.0, torch.Generator().manual_seed(8))
    assert found.value == pytest.approx(1, rel=1e-12)
    assert found.error < 1e-12


def test_the_efficiency_of_no_cross_section_is_zero() -> None:
    zeros, channel = torch.zeros(50, dtype=torch.float64), torch.zeros(50, dtype=torch.int64)
    found = unweighting_efficiency(zeros, channel, 0.001, torch.Generator().manual_seed(8))
    assert (found.value, found.error) == (0.0, 0.0)


def test_the_bootstrap_error_is_the_spread_over_independent_samples() -> None:
    values, errors = [], []
    for seed in range(60):
        weights = heavy_tailed(8000, seed=100 + seed, power=0.2)
        channel = torch.arange(8000) % 2
        rng = torch.Generator().manual_seed(seed)
        found = unweighting_efficiency(weights.abs(), channel, 0.001, rng)
        values.append(found.value)
        errors.append(found.error)
    spread = float(torch.tensor(values, dtype=torch.float64).std())
    # The spread of 60 samples is known to 10 %, a bootstrap error of a tail to some 20 %.
    assert 0.6 < sum(errors) / 60 / spread < 1.6


def test_pooling_small_weights_leaves_the_bootstrap_as_it_was() -> None:
    weights = heavy_tailed(6000, seed=9).abs()
    channel = torch.zeros(6000, dtype=torch.int64)
    pooled = unweighting_efficiency(
        weights, channel, 0.01, torch.Generator().manual_seed(1), n_replicas=1000
    )
    rng = torch.Generator().manual_seed(2)
    values = []
    for _ in range(300):
        replica = weights[torch.randint(6000, (6000,), generator=rng)]
        values.append(float(replica.mean()) / find_w_max(replica, 0.01))
    one_by_one = float(torch.tensor(values, dtype=torch.float64).std())
    assert pooled.error == pytest.approx(one_by_one, rel=0.2)


def test_the_efficiency_of_a_survey_takes_less_than_a_second() -> None:
    weights, channel = heavy_tailed(131_072, seed=10), torch.arange(131_072) % 16
    start = time.process_time()
    unweighting_efficiency(weights, channel, 0.001, torch.Generator().manual_seed(11))
    assert time.process_time() - start < 5  # 0.1 s on an idle core


def observable_and_weights(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points x, uniform, and weights whose tail and sign depend on x."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(n, generator=rng, dtype=torch.float64)
    weights = torch.where(x < 0.8, x**-0.3, -0.5 * torch.ones_like(x))
    return x, weights


def pull_of_the_mean(u_of: str, seed: int) -> tuple[float, float]:
    """Pull and relative error of sum(u x) / n of events, against the integral of w x.

    Half of the cross section lies above w_max, so that what is done with it shows.
    """
    x, weights = observable_and_weights(400_000, seed)
    w_max = find_w_max(weights, 0.2)
    mask, u = accept(weights, w_max, torch.Generator().manual_seed(seed + 1))
    if u_of == "clipped":
        u = u.sign()
    expected = 0.8**1.7 / 1.7 - 0.5 * (1 - 0.8**2) / 2
    terms = torch.zeros_like(x)
    terms[mask] = w_max * u * x[mask]
    error = float(terms.std()) / len(x) ** 0.5
    return (float(terms.mean()) - expected) / error, error / expected


def test_events_that_keep_their_excess_reproduce_the_mean_of_an_observable() -> None:
    pull, relative_error = pull_of_the_mean("kept", seed=12)
    assert relative_error < 0.003
    assert abs(pull) < 5, f"pull {pull:.1f}"


def test_the_test_above_notices_clipped_overweights() -> None:
    pull, relative_error = pull_of_the_mean("clipped", seed=12)
    assert relative_error < 0.003
    assert abs(pull) > 5, f"pull {pull:.1f}"


def test_accepted_events_have_unit_weights_but_for_sign_and_excess() -> None:
    weights = torch.tensor([0.0, 0.5, -0.5, 2.0, -3.0, 1.0], dtype=torch.float64).repeat(2000)
    mask, u = accept(weights, 1.0, torch.Generator().manual_seed(13))
    kept = weights[mask]
    assert not mask[weights == 0].any()
    assert mask[weights.abs() >= 1].all()
    assert float(mask[weights.abs() == 0.5].double().mean()) == pytest.approx(0.5, abs=0.04)
    assert torch.equal(u, kept.sign() * kept.abs().clamp(min=1))


def test_each_point_is_compared_with_the_w_max_of_its_channel() -> None:
    weights = torch.tensor([1.0, 10.0, 0.0, 30.0], dtype=torch.float64)
    w_max = torch.tensor([1.0, 10.0, 0.0, 10.0], dtype=torch.float64)
    mask, u = accept(weights, w_max, torch.Generator().manual_seed(14))
    assert mask.tolist() == [True, True, False, True]
    assert u.tolist() == [1.0, 1.0, 3.0]
    assert overweight_excess(weights, w_max) == 20 / 41


def test_a_weight_from_a_channel_that_is_never_drawn_is_an_error() -> None:
    with pytest.raises(
        GenerationError, match=r"w_max = 0.0 for a point of weight 2.0 pb: expected a positive"
    ):
        accept(torch.tensor([2.0], dtype=torch.float64), 0.0, torch.Generator())


def test_the_effective_sample_size_is_one_for_equal_weights_and_counts_zeros() -> None:
    ones, zeros = torch.ones(10, dtype=torch.float64), torch.zeros(30, dtype=torch.float64)
    assert effective_sample_size(ones) == 1
    assert effective_sample_size(torch.cat([ones, zeros])) == 0.25
    assert effective_sample_size(torch.cat([ones, -ones])) == 0
    assert effective_sample_size(zeros) == 0
    assert overweight_excess(zeros, 1.0) == 0
