from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mlgen.cards import VegasCard
from mlgen.core import random_stream
from mlgen.errors import CardError, GenerationError
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.function_integral import FunctionIntegral, FunctionSettings
from mlgen.integration.proposal import draw
from tests.integration.functions import (
    N_VALUES,
    SERIES,
    SMALL,
    Array,
    camel,
    camel_integral,
    integrated,
    ridge,
    ridge_integral,
    series,
    step,
    waves,
)
from tests.laws import check_estimate, check_frequencies, check_pulls

WITH_FLOW = replace(SMALL, sampler="flow", relative_error=0.005)


@cache
def of_ridge() -> FunctionIntegral:
    return integrated(ridge, WITH_FLOW, n_dim=2)


@cache
def of_series(sampler: str = "vegas") -> FunctionIntegral:
    return integrated(series, replace(SMALL, sampler=sampler), n_dim=2, n_values=N_VALUES)


@cache
def of_waves() -> FunctionIntegral:
    return integrated(waves, replace(SMALL, absolute_error=0.003), n_dim=2)


def test_the_camel_comes_out_in_any_box() -> None:
    found = integrated(camel, SMALL, n_dim=4)
    check_estimate(found.value, found.error, camel_integral(4), max_relative_error=0.001)
    box = integrated(lambda x: camel(x * [0.5, 0.01]), SMALL, bounds=[(0.0, 2.0), (0.0, 100.0)])
    check_estimate(box.value, box.error, 200 * camel_integral(2), max_relative_error=0.001)


def test_a_flow_integrates_what_a_grid_cannot_adapt_to() -> None:
    found = of_ridge()
    assert found.sampler == "flow"
    check_estimate(found.value, found.error, ridge_integral(), max_relative_error=0.005)
    assert [candidate.name for candidate in found.candidates] == ["vegas", "flow"]
    assert found.ess > 1.5 * found.candidates[0].measured.ess


def test_numpy_and_torch_functions_have_the_same_integral() -> None:
    settings = replace(SMALL, relative_error=0.01)
    ours = integrated(ridge, settings, n_dim=2)
    theirs = integrated(
        lambda r: torch.exp(-(r[:, 0] - r[:, 1]).square() / (2 * 0.1**2)),
        settings,
        n_dim=2,
        backend="torch",
    )
    assert ours.value == pytest.approx(theirs.value, rel=1e-12)
    assert ours.error == pytest.approx(theirs.error, rel=1e-9)


def test_an_integral_that_is_zero_has_an_error_that_is_reached() -> None:
    found = of_waves()
    assert abs(found.value) < 5 * found.error
    assert found.is_reached
    assert 0.001 < found.error < 0.003
    # |sin| has the mean 2 / pi.
    check_estimate(found.absolute, found.error, (2 / math.pi) ** 2, max_relative_error=0.01)


def test_a_flow_for_an_integral_that_is_zero_is_not_taken_for_one_that_has_drifted() -> None:
    # With this seed VEGAS has 40 times the effective sample size, which is noise here.
    found = integrated(waves, replace(SMALL, sampler="flow", absolute_error=0.01, seed=3), n_dim=2)
    vegas, flow = found.candidates
    assert vegas.measured.ess > 10 * flow.measured.ess
    assert found.chosen is flow
    assert found.warnings == ()


def test_signs_cancel_in_the_value_and_in_the_effective_sample_size() -> None:
    found = integrated(step, replace(SMALL, relative_error=0.005), n_dim=2)
    check_estimate(found.value, found.error, 0.4, max_relative_error=0.005)
    check_estimate(found.absolute, found.absolute_sums.error + 1e-9, 1.0, max_relative_error=0.002)
    # (integral of f / integral of |f|)² is the most there can be.
    assert found.ess == pytest.approx(0.4**2, rel=0.1)
    assert found.eps_uw.value == pytest.approx(0.4, rel=0.1)


def test_a_function_that_is_negative_everywhere_is_as_good_as_its_opposite() -> None:
    ours = integrated(camel, SMALL, n_dim=2)
    theirs = integrated(lambda r: -camel(r), SMALL, n_dim=2)
    assert (theirs.value, theirs.error) == (-ours.value, ours.error)
    assert (theirs.ess, theirs.eps_uw) == (ours.ess, ours.eps_uw)
    assert theirs.absolute == ours.absolute == ours.value


def test_each_combination_has_its_integral_however_small_beside_the_others() -> None:
    for sampler in ("vegas", "flow"):
        found = of_series(sampler)
        check_estimate(found.value, found.error, 91.0001, max_relative_error=0.002)
        for value, error, expected in zip(
            found.values.flatten(), found.errors.flatten(), np.ravel(SERIES), strict=True
        ):
            if expected == 0:
                assert value == error == 0
            else:
                check_estimate(float(value), float(error), expected, max_relative_error=0.25)


def test_large_combinations_get_most_of_the_points() -> None:
    found = of_series()
    n_points = found.sums.n_points.view(N_VALUES)
    assert float(n_points[1, 0] / n_points.sum()) > 0.7


FEW = replace(
    SMALL,
    vegas=VegasCard(n_points=1000, n_iterations=2, n_bins=16),
    n_estimate=1000,
    chunk_size=1000,
    n_points=1000,
)


def lopsided(r: Array) -> Array:
    """Of both signs, and not a product."""
    values: Array = 3 * ridge(r) - 2 * r[:, 0]
    return values


@cache
def pulls() -> Tensor:
    expected = 3 * ridge_integral() - 1
    found = [integrated(lopsided, replace(FEW, seed=seed), n_dim=2) for seed in range(250)]
    return torch.tensor([(one.value - expected) / one.error for one in found])


def test_pulls_of_a_signed_integral_have_mean_0_and_width_1() -> None:
    check_pulls(pulls())


def test_the_test_above_notices_errors_that_are_too_small_and_a_bias() -> None:
    with pytest.raises(AssertionError, match="width"):
        check_pulls(1.3 * pulls())
    with pytest.raises(AssertionError, match="mean pull"):
        check_pulls(pulls() + 0.4)


def tail(r: Array) -> Array:
    """Of finite variance, most of which lies in points that are seldom drawn."""
    values: Array = r[:, 0] ** -0.45
    return values


AS_IT_IS = replace(
    FEW,
    vegas=VegasCard(n_points=100, n_iterations=1, damping=0.0),
    n_points=0,
    relative_error=0.07,
    n_estimate=100,
    chunk_size=50,
)
"""No adaptation: the tail stays."""


def mean_and_error(values: list[float]) -> tuple[float, float]:
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.std()) / len(values) ** 0.5


def test_the_number_of_points_does_not_bias_the_integral() -> None:
    values = [integrated(tail, replace(AS_IT_IS, seed=seed), n_dim=1).value for seed in range(250)]
    check_estimate(*mean_and_error(values), 1 / 0.55, max_relative_error=0.008)


def test_to_stop_when_the_error_looks_small_enough_would_bias_it() -> None:
    user = integrated(tail, AS_IT_IS, n_dim=1)
    values = []
    for seed in range(250):
        sums, chunk = ChannelSums.empty(1), 0
        while chunk < 2 or sums.error > AS_IT_IS.error_for(sums.mean):
            rng = random_stream(seed, "integral", chunk)
            batch, _ = draw(user.function, user.chosen.proposal, 50, rng)
            sums, chunk = sums + ChannelSums.of(batch, 1), chunk + 1
        values.append(sums.mean)
    with pytest.raises(AssertionError, match="pull -"):
        check_estimate(*mean_and_error(values), 1 / 0.55, max_relative_error=0.008)


def test_the_error_that_is_asked_for_is_reached_with_hardly_more_points_than_that_takes() -> None:
    for asked in (0.01, 0.003):
        found = integrated(ridge, replace(SMALL, relative_error=asked, chunk_size=500), n_dim=2)
        assert found.is_reached
        assert found.error > 0.8 * asked * found.value


def test_exactly_the_points_that_are_asked_for_are_drawn_and_counted() -> None:
    calls: list[int] = []

    def counted(r: Array) -> Array:
        calls.append(len(r))
        return camel(r)

    found = integrated(counted, replace(SMALL, n_points=12_345), n_dim=2)
    assert found.n_points == 12_345
    assert found.n_calls == sum(calls)
    assert max(calls) <= SMALL.chunk_size


def test_never_more_points_than_the_largest_number_are_drawn_and_the_result_says_so() -> None:
    settings = replace(SMALL, relative_error=1e-9, max_points=9000)
    found = integrated(ridge, settings, n_dim=2)
    assert found.n_points == 9000
    assert not found.is_reached
    check_estimate(found.value, found.error, ridge_integral(), max_relative_error=0.02)


def test_small_combinations_get_points_enough_for_an_error_of_their_own() -> None:
    found = integrated(series, replace(SMALL, relative_error=0.5), n_dim=2, n_values=N_VALUES)
    assert float(found.sums.n_points.min()) >= 30


def test_a_seed_fixes_the_integral_and_another_seed_changes_it() -> None:
    again = integrated(ridge, WITH_FLOW, n_dim=2)
    assert torch.equal(again.sums.total, of_ridge().sums.total)
    other = integrated(ridge, replace(WITH_FLOW, seed=2), n_dim=2)
    assert other.value != again.value


def test_auto_does_not_train_for_a_coarse_error_and_says_why() -> None:
    found = integrated(ridge, replace(SMALL, sampler="auto", relative_error=0.01), n_dim=2)
    assert found.sampler == "vegas"
    assert "the points of the integral take about" in found.reason


def test_unweighted_points_have_the_sign_of_the_function_and_its_distribution() -> None:
    found, n = of_waves(), 20_000
    sample = found.sample(n)
    assert len(sample) == n
    values = torch.from_numpy(waves(sample.points.numpy()))
    assert torch.equal(sample.weight.sign(), values.sign())
    assert float((sample.weight.abs() == 1).double().mean()) > 0.95
    # The integral of f g with g = 1 if r is in the first quarter of the square, where f > 0.
    first = (sample.points < 0.5).all(1)
    terms = sample.unit * sample.weight * first
    error = float(terms.std()) / n**0.5
    check_estimate(float(terms.mean()), error, 1 / math.pi**2, max_relative_error=0.02)


def test_weighted_points_average_to_the_integral() -> None:
    found, n = of_series(), 40_000
    sample = found.sample(n, weighted=True)
    assert sample.unit == 1
    error = float(sample.weight.std()) / n**0.5
    check_estimate(float(sample.weight.mean()), error, 91.0001, max_relative_error=0.02)
    # The mean of r1 in each combination (i, j): (1 + j) / (2 + j).
    terms = sample.weight * sample.points[:, 0]
    expected = 1 / 2 + 1e-4 * 3 / 4 + 100 / 2 - 10 * 3 / 4
    check_estimate(float(terms.mean()), error, expected, max_relative_error=0.02)


def test_unweighted_points_come_in_the_proportion_of_the_combinations() -> None:
    sample = of_series().sample(20_000)
    counts = torch.zeros(N_VALUES, dtype=torch.float64)
    counts.index_put_(tuple(sample.k.T), torch.ones(len(sample), dtype=torch.float64), True)
    shares = torch.tensor(SERIES, dtype=torch.float64).abs()
    # One in a million: too rare to be expected five times.
    assert float(counts[0, 2]) < 5
    counts[0, 2] = shares[0, 2] = 0
    check_frequencies(counts.flatten(), shares.flatten())
    assert bool((sample.weight[(sample.k == torch.tensor([1, 2])).all(1)] < 0).all())


def test_streams_of_points_are_independent_and_each_is_reproducible() -> None:
    found = of_waves()
    one, again, other = (found.sample(100, stream=stream) for stream in (0, 0, 1))
    assert torch.equal(one.points, again.points)
    assert not torch.equal(one.points, other.points)


def test_points_lie_in_the_box() -> None:
    found = integrated(lambda x: x.prod(1), SMALL, bounds=[(1, 2), (-3, -1)])
    points = found.sample(1000).points
    assert bool(((points[:, 0] >= 1) & (points[:, 0] <= 2)).all())
    assert bool(((points[:, 1] >= -3) & (points[:, 1] <= -1)).all())
    check_estimate(found.value, found.error, -6.0, max_relative_error=0.001)


def test_a_constant_takes_the_fewest_points_that_are_ever_drawn() -> None:
    found = integrated(lambda x: np.full(len(x), 2.5), SMALL, n_dim=2)
    check_estimate(found.value, found.error, 2.5, max_relative_error=0.001)
    assert found.n_points == SMALL.chunk_size


def test_a_function_that_is_zero_everywhere_is_an_error() -> None:
    with pytest.raises(GenerationError, match="none of 2000 points"):
        integrated(lambda x: 0 * x[:, 0], SMALL, n_dim=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed = -1: expected zero or a positive number"),
        ({"relative_error": -0.1}, "relative_error = -0.1: expected zero or a positive number"),
        ({"absolute_error": math.nan}, "absolute_error = nan: expected zero or a positive number"),
        ({"relative_error": 0.0}, "relative_error = 0.0: expected an error, or n_points"),
        ({"n_points": -5}, "n_points = -5: expected at least 0"),
        ({"chunk_size": 0}, "chunk_size = 0: expected at least 1"),
        ({"sampler": "auto", "n_points": 5}, "n_points = 5 with sampler = 'auto': expected an"),
    ],
)
def test_settings_that_make_no_sense_are_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=re.escape(message)):
        FunctionSettings(**({"sampler": "vegas"} | changes))


def test_an_unknown_sampler_gets_the_known_ones() -> None:
    with pytest.raises(CardError, match="'vegan': expected one of auto, flow, vegas"):
        integrated(ridge, replace(SMALL, sampler="vegan"), n_dim=2)
