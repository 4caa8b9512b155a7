from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from mlgen.core import TrainingBatch, random_stream
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.samplers.vegas import VegasGrid
from tests.integration.toys import Toy, peaks
from tests.laws import check_estimate, check_pulls


def sample(
    toy: Toy, n: int, stream: int, shares: tuple[float, ...] = (0.3, 0.5, 0.2)
) -> ChannelSums:
    return ChannelSums.of(points(toy, n, stream, shares), toy.n_channels)


def points(toy: Toy, n: int, stream: int, shares: tuple[float, ...]) -> TrainingBatch:
    proposal = Proposal(
        sampler=VegasGrid.uniform(toy.n_channels, toy.n_dim, 8),
        fractions=torch.tensor(shares, dtype=torch.float64),
    )
    return draw(toy, proposal, n, random_stream(1, "estimate", stream))[0]


def test_the_mean_and_its_error_are_those_of_numpy() -> None:
    batch = points(peaks(), 5000, 0, (0.3, 0.5, 0.2))
    sums = ChannelSums.of(batch, 3)
    weights = [channel_weight(batch)[batch.channel == c].numpy() for c in range(3)]
    means = [w.mean() for w in weights]
    variances = [w.var(ddof=1) / len(w) for w in weights]
    squares = [np.sqrt((w**2).mean()) for w in weights]
    assert sums.n_points.tolist() == [1500, 2500, 1000]
    np.testing.assert_allclose(sums.means.numpy(), means, rtol=1e-12)
    np.testing.assert_allclose(sums.variances.numpy(), variances, rtol=1e-9)
    np.testing.assert_allclose(sums.root_mean_squares.numpy(), squares, rtol=1e-12)
    assert sums.mean == pytest.approx(sum(means), rel=1e-12)
    assert sums.error == pytest.approx(sum(variances) ** 0.5, rel=1e-9)


def test_sums_of_two_samples_are_those_of_the_joined_sample() -> None:
    toy = peaks()
    first, second = (points(toy, 1000, i, (0.3, 0.5, 0.2)) for i in (0, 1))
    added = ChannelSums.empty(3) + ChannelSums.of(first, 3) + ChannelSums.of(second, 3)
    weight = torch.cat([channel_weight(first), channel_weight(second)])
    channel = torch.cat([first.channel, second.channel])
    for c in range(3):
        mine = weight[channel == c]
        assert float(added.n_points[c]) == len(mine)
        assert float(added.total[c]) == pytest.approx(float(mine.sum()), rel=1e-12)
        assert float(added.total_squares[c]) == pytest.approx(float(mine.square().sum()), rel=1e-12)


def test_samples_with_different_fractions_may_be_added() -> None:
    toy = peaks()
    shares = [(0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)]
    sums = ChannelSums.empty(3)
    for i in range(60):
        sums += sample(toy, 5000, i, shares[i % 3])
    check_estimate(sums.mean, sums.error, toy.integral, max_relative_error=0.01)
    for c in range(3):
        check_estimate(
            float(sums.means[c]), float(sums.variances[c].sqrt()), toy.integrals[c], 0.01
        )


def test_points_that_are_zero_count() -> None:
    halved = sample(peaks(), 40_000, 0, (0.0, 0.0, 1.0))
    check_estimate(halved.mean, halved.error, 1.0, max_relative_error=0.01)


def test_a_channel_without_points_or_with_one_point_has_no_infinite_error() -> None:
    assert (ChannelSums.empty(2).mean, ChannelSums.empty(2).error) == (0.0, 0.0)
    single = sample(peaks(), 1, 0, (1.0, 0.0, 0.0))
    assert single.mean > 0
    assert single.error < float("inf")


@cache
def toy_samples() -> list[ChannelSums]:
    return [sample(peaks(), 1000, i) for i in range(400)]


def toy_pulls(error_scale: float = 1.0, bias: float = 0.0) -> Tensor:
    truth = peaks().integral
    pulls = [(s.mean + bias - truth) / (s.error * error_scale) for s in toy_samples()]
    return torch.tensor(pulls, dtype=torch.float64)


def test_pulls_of_independent_samples_have_mean_zero_and_width_one() -> None:
    check_pulls(toy_pulls())


def test_the_test_above_notices_errors_that_are_too_small() -> None:
    with pytest.raises(AssertionError, match="width"):
        check_pulls(toy_pulls(error_scale=0.8))


def test_the_test_above_notices_a_bias_of_half_an_error() -> None:
    typical = sample(peaks(), 1000, 0).error
    with pytest.raises(AssertionError, match="mean pull"):
        check_pulls(toy_pulls(bias=0.5 * typical))


def heavy_tail() -> Toy:
    """r^-0.45: of finite variance, most of which lies in points that are seldom drawn."""
    return Toy(functions=(lambda r: r[:, 0] ** -0.45,), integrals=(1 / 0.55,), n_dim=1)


@cache
def experiments() -> list[list[ChannelSums]]:
    """400 of 10 iterations of 100 points each."""
    toy = heavy_tail()
    return [[sample(toy, 100, 10 * first + i, (1.0,)) for i in range(10)] for first in range(400)]


def combined(by: str) -> tuple[float, float]:
    """The mean over the experiments, and its error."""
    results = []
    for iterations in experiments():
        if by == "points":
            results.append(sum(iterations, ChannelSums.empty(1)).mean)
        else:
            trust = [1 / s.error**2 for s in iterations]
            weighted = sum(t * s.mean for t, s in zip(trust, iterations, strict=True))
            results.append(weighted / sum(trust))
    values = torch.tensor(results, dtype=torch.float64)
    return float(values.mean()), float(values.std()) / len(values) ** 0.5


def test_iterations_combined_by_points_are_unbiased_under_a_heavy_tail() -> None:
    check_estimate(*combined(by="points"), heavy_tail().integral, max_relative_error=0.005)


def test_iterations_combined_by_estimated_variance_would_be_too_low() -> None:
    value, error = combined(by="variance")
    with pytest.raises(AssertionError, match="pull -"):
        check_estimate(value, error, heavy_tail().integral, max_relative_error=0.005)
