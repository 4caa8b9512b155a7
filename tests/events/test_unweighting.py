from __future__ import annotations

import math
import time

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from mlgen.errors import GenerationError, NonFiniteWeight
from mlgen.events.unweighting import (
    MAX_OWN_EXCESS,
    accept,
    effective_sample_size,
    find_w_max,
    find_w_max_by_channel,
    overweight_excess,
    unweighting_curve,
    unweighting_efficiency,
)
from tests.laws import check_pulls


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


def several_channels(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weights in channels of different sizes and tails: the later, the smaller and the more spread.

    Half of the points are in channel 0; a third of the others' are zeros.
    """
    rng = torch.Generator().manual_seed(seed)
    channel = (torch.arange(n) % 10 - 4).clamp(min=0)
    u = torch.rand(n, generator=rng, dtype=torch.float64)
    weights = 5.0**-channel * u ** -(0.05 + 0.07 * channel)
    weights[(channel > 0) & (torch.arange(n) // 10 % 3 == 0)] = 0
    return weights, channel


def total_excess(weights: Tensor, channel: Tensor, w_max: Tensor) -> float:
    """The overweight excess, each channel's points counting for its cross section."""
    share = 1 / channel.bincount().to(weights)[channel]
    excess = ((weights.abs() - w_max[channel]).clamp(min=0) * share).sum()
    return float(excess / (weights.abs() * share).sum())


def sum_of_w_max_by_linear_programming(weights: Tensor, channel: Tensor, budget: float) -> float:
    """The smallest sum of w_max,c, by a general algorithm.

    The variables are w_max,c and each point's excess, s_i >= |w_i| - w_max,c and s_i >= 0.
    """
    n, n_channels = len(weights), int(channel.max()) + 1
    share = 1 / channel.bincount().to(weights)[channel]
    spent = torch.cat([torch.zeros(n_channels).to(weights), share])
    of_point = torch.nn.functional.one_hot(channel, n_channels).to(weights)
    above = torch.cat([-of_point, -torch.eye(n, dtype=weights.dtype)], dim=1)
    least = [
        find_w_max(weights[channel == c], max(budget, MAX_OWN_EXCESS)) for c in range(n_channels)
    ]
    found = linprog(
        c=[1.0] * n_channels + [0.0] * n,
        A_ub=torch.cat([above, spent[None]]).numpy(),
        b_ub=torch.cat([-weights, budget * (weights * share).sum()[None]]).numpy(),
        bounds=[(low, None) for low in [*least, *[0.0] * n]],
    )
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("budget", [0.0, 0.001, 0.01, 0.05, 0.1, 0.3])
def test_no_other_w_max_of_the_same_total_excess_have_a_smaller_sum(budget: float) -> None:
    weights, channel = several_channels(400, seed=1)
    w_max = find_w_max_by_channel(weights, channel, 6, budget)
    assert total_excess(weights, channel, w_max) <= budget * (1 + 1e-9)
    expected = sum_of_w_max_by_linear_programming(weights, channel, budget)
    assert float(w_max.sum()) == pytest.approx(expected, rel=1e-9)


def test_a_point_is_equally_likely_to_lie_above_w_max_in_every_channel() -> None:
    weights, channel = several_channels(200_000, seed=2)
    w_max = find_w_max_by_channel(weights, channel, 6, 0.001)
    above = (weights > w_max[channel]).to(torch.float64)
    likely = channel.bincount(above) / channel.bincount()
    torch.testing.assert_close(likely, likely.mean().expand(6), rtol=0, atol=1.1e-4)
    assert float(likely.mean()) > 0.001
    alone = sum(find_w_max(weights[channel == c], 0.001) for c in range(6))
    assert float(w_max.sum()) < 0.97 * alone


def test_one_channel_has_the_w_max_of_all_its_points_whatever_empty_ones_there_are() -> None:
    weights, channel = heavy_tailed(3000, seed=4), torch.zeros(3000, dtype=torch.int64)
    for budget in (0.0, 0.001, 0.3):
        expected = find_w_max(weights, budget)
        assert find_w_max_by_channel(weights, channel, 1, budget).tolist() == [expected]
        among_empty = find_w_max_by_channel(weights, channel + 1, 3, budget)
        assert among_empty.tolist() == pytest.approx([0, expected, 0], rel=1e-14)


def test_a_channel_counts_the_same_however_many_points_it_got() -> None:
    weights, channel = several_channels(1000, seed=3)
    again = (channel == 2) | (channel == 4)
    more, of_more = torch.cat([weights, weights[again]]), torch.cat([channel, channel[again]])
    w_max = find_w_max_by_channel(weights, channel, 6, 0.02)
    torch.testing.assert_close(
        find_w_max_by_channel(more, of_more, 6, 0.02), w_max, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("size", [1e-3, 1e-8, 1e-15])
def test_the_smallest_channel_is_drawn_and_most_of_it_lies_below_its_w_max(size: float) -> None:
    weights, channel = heavy_tailed(4000, seed=5), torch.arange(4000) % 4
    weights[channel == 1] *= size
    weights[channel == 2] = 0
    weights[2] = size  # its only point that is not cut away
    weights[channel == 3] = 0
    w_max = find_w_max_by_channel(weights, channel, 5, 0.01)
    assert (w_max > 0).tolist() == [True, True, True, False, False]
    for c in (1, 2):
        own = overweight_excess(weights[channel == c], float(w_max[c]))
        assert own <= MAX_OWN_EXCESS * (1 + 1e-9)


def test_samples_without_weights_have_w_max_zero_in_every_channel() -> None:
    zeros = torch.zeros(7, dtype=torch.float64)
    assert find_w_max_by_channel(zeros, torch.arange(7) % 2, 3, 0.1).tolist() == [0, 0, 0]
    nothing = find_w_max_by_channel(zeros[:0], torch.arange(0), 2, 0.1)
    assert nothing.tolist() == [0, 0]


def test_on_fresh_points_of_many_small_channels_the_excess_stays_near_the_budget() -> None:
    n_channels, budget = 60, 0.001
    fractions = torch.linspace(1, 0.1, n_channels, dtype=torch.float64).softmax(0)
    spread = torch.linspace(0.2, 1.2, n_channels, dtype=torch.float64)
    size = 10 ** -torch.linspace(0, 4, n_channels, dtype=torch.float64)

    def sample(n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Log-normal weights, the smaller channels the more spread."""
        rng = torch.Generator().manual_seed(seed)
        channel = torch.multinomial(fractions, n, True, generator=rng)
        z = torch.randn(n, generator=rng, dtype=torch.float64)
        return size[channel] * (spread[channel] * z).exp(), channel

    w_max = find_w_max_by_channel(*sample(131_072, seed=6), n_channels, budget)
    assert total_excess(*sample(2_000_000, seed=7), w_max) < 1.5 * budget


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
    w_max = find_w_max_by_channel(weights, channel, 2, 0.01)
    assert found.value == pytest.approx(sum(map(abs, sigma)) / float(w_max.sum()), rel=1e-12)
    assert (found.n, found.t) == (4000, 0.01)


def test_the_curve_of_efficiencies_has_those_of_single_budgets() -> None:
    rng = torch.Generator().manual_seed(5)
    channel = torch.arange(3000) % 3
    weight = (1 + channel) * torch.randn(3000, generator=rng, dtype=torch.float64).exp()
    weight[::7] *= -1
    weight[channel == 1] = 0
    budgets = [0.1, 1e-4, 0.01]
    singly = [unweighting_efficiency(weight, channel, t, rng, n_replicas=2).value for t in budgets]
    assert unweighting_curve(weight, channel, budgets).tolist() == pytest.approx(singly, rel=1e-12)


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


TINY = 12
"""Channels beside a large one, which together hold a tenth of the cross section."""


def pull_of_tiny_channels(u_of: str, w_max: Tensor, seed: int) -> float:
    """Pull of the mean of x over the events of the tiny channels, against its integral.

    x is uniform; the weight is 1 + x/5 in channel 0, and in the others x^-0.4 / 100 or, for two
    thirds of the points, zero.
    """
    rng = torch.Generator().manual_seed(seed)
    channel = torch.multinomial(w_max, 10_000, True, generator=rng)
    x, weights = tiny_channels(channel, rng)
    mask, u = accept(weights, w_max[channel], rng)
    if u_of == "clipped":
        u = u.sign()
    terms = torch.zeros_like(x)
    terms[mask] = w_max.sum() * u * x[mask] * (channel[mask] > 0)
    expected = TINY * 0.01 / 1.6 / 3
    error = float(terms.std()) / math.sqrt(len(x))
    return (float(terms.mean()) - expected) / error


def tiny_channels(channel: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    x, chance = torch.rand(2, len(channel), generator=rng, dtype=torch.float64)
    tiny = torch.where(chance < 1 / 3, 0.01 * x**-0.4, torch.zeros_like(x))
    return x, torch.where(channel > 0, tiny, 1 + x / 5)


def w_max_of_tiny_channels() -> Tensor:
    rng = torch.Generator().manual_seed(15)
    channel = torch.arange(6000) % (TINY + 1)
    _, weights = tiny_channels(channel, rng)
    return find_w_max_by_channel(weights, channel, TINY + 1, 0.06)


def test_events_of_channels_that_hold_next_to_nothing_come_without_bias() -> None:
    w_max = w_max_of_tiny_channels()
    check_pulls(torch.tensor([pull_of_tiny_channels("kept", w_max, s) for s in range(300)]))


def test_the_test_above_notices_clipped_overweights_of_tiny_channels() -> None:
    w_max = w_max_of_tiny_channels()
    pulls = torch.tensor([pull_of_tiny_channels("clipped", w_max, s) for s in range(300)])
    with pytest.raises(AssertionError, match="mean pull"):
        check_pulls(pulls)


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
