from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.surrogates.accuracy import (
    NEAR_CUTS,
    STATISTICAL,
    SYSTEMATIC,
    TOTAL,
    RegionAccuracy,
    accuracy,
    region_accuracy,
    statistical_pull,
)
from mlgen.surrogates.calibration import ONE_SIGMA
from mlgen.surrogates.distributions import (
    COVERAGE_LEVELS,
    DELTA_QUANTILES,
    N_DELTA_BINS,
    N_PULL_BINS,
    Coverage,
    DeltaDistribution,
    PullDistribution,
    delta_edges,
    pull_edges,
    quantile_error,
    share_error,
)
from mlgen.surrogates.group_surrogate import LogPrediction
from mlgen.surrogates.sample import AmplitudeSample

N = 100_000


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cdf(x: float) -> float:
    """Of the normal distribution."""
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def found(too_narrow_by: float = 1.0, bias: float = 0.0) -> RegionAccuracy:
    """Of errors that are normal, with standard deviations from 1e-4 to 1e-2 and a bias in units of them."""
    true_std = 10 ** (-4 + 2 * torch.rand(N, generator=torch.Generator().manual_seed(1)).double())
    error = true_std * (normal(N, 2) + bias)
    std = true_std / too_narrow_by
    predicted = LogPrediction(error, 0.8 * std, 0.6 * std, error == error)
    return region_accuracy(predicted, torch.zeros_like(error))


@pytest.mark.parametrize(("too_narrow_by", "bias"), [(1, 0), (2, 0), (0.5, 0), (1, 2), (1, -2)])
def test_pulls_and_coverage_are_those_of_the_closed_forms(
    too_narrow_by: float, bias: float
) -> None:
    region = found(too_narrow_by, bias)
    total, systematic = region.pulls[TOTAL], region.pulls[SYSTEMATIC]
    assert total.width == pytest.approx(too_narrow_by, abs=5 * total.width_error)
    assert total.width_error < 0.01 * total.width
    assert total.median == pytest.approx(bias * too_narrow_by, abs=0.03 * too_narrow_by)
    assert systematic.width == pytest.approx(too_narrow_by / 0.8, rel=0.02)
    for coverage in region.coverage:
        n_sigma = float(torch.special.ndtri(torch.tensor((1 + coverage.nominal) / 2).double()))
        reach = n_sigma / too_narrow_by
        expected = cdf(reach - bias) - cdf(-reach - bias)
        assert coverage.share == pytest.approx(expected, abs=5 * coverage.error)
        assert coverage.error < 0.002


def test_coverage_is_right_only_where_uncertainties_are() -> None:
    for wrong in (found(too_narrow_by=1.1), found(too_narrow_by=0.9), found(bias=0.5)):
        coverage = wrong.coverage_at(ONE_SIGMA)
        assert abs(coverage.share - ONE_SIGMA) > 5 * coverage.error
    right = found()
    assert right.coverage_68 == pytest.approx(ONE_SIGMA, abs=0.01)
    assert right.coverage_95 == pytest.approx(0.95, abs=0.005)


def test_errors_grow_as_the_predicted_ones_where_these_are_right() -> None:
    for region, factor in ((found(), 1.0), (found(too_narrow_by=3), 3.0)):
        assert sum(of.n for of in region.errors) == N
        stds = [of.std for of in region.errors]
        assert stds == sorted(stds)
        assert stds[-1] > 50 * stds[0]
        for of in region.errors:
            assert of.realised_error < 0.03 * of.realised
            # A bin is not of one size, but from 10^(-4 + 2k / 20) to the next.
            assert of.realised == pytest.approx(factor * of.std, rel=0.08)


def test_deltas_are_those_of_the_closed_form() -> None:
    predicted = torch.log1p(torch.linspace(0, 1, N, dtype=torch.float64))
    one = torch.ones_like(predicted)
    region = region_accuracy(LogPrediction(predicted, one, one, one > 0), torch.zeros_like(one))
    assert region.delta_quantiles == pytest.approx(DELTA_QUANTILES, abs=1e-4)
    assert region.precise_share == pytest.approx(1e-3, rel=0.02)
    assert region.covered_share == 1


def test_every_point_is_counted_once_wherever_it_lies() -> None:
    numbers = torch.tensor([-math.inf, -9.0, -5.0, 0.0, 4.99, 5.0, 1e300, math.inf]).double()
    pulls = PullDistribution.of(numbers)
    assert (pulls.n_below, sum(pulls.counts), pulls.n_above) == (2, 3, 3)
    assert pulls.counts[0] == 1
    assert pulls.counts[-1] == 1
    assert len(pulls.counts) == N_PULL_BINS == len(pull_edges()) - 1
    deltas = DeltaDistribution.of(torch.tensor([0.0, 1e-9, 1.1e-8, 1e-3, 99.0, 101.0]).double())
    assert (deltas.n_below, sum(deltas.counts), deltas.n_above) == (2, 3, 1)
    assert len(deltas.counts) == N_DELTA_BINS == len(delta_edges()) - 1


def test_counts_are_those_of_a_plain_histogram() -> None:
    pull = 2 * normal(5000, 3)
    expected = torch.histogram(pull, pull_edges()).hist
    assert PullDistribution.of(pull).counts == tuple(expected.int().tolist())


def spread_of(number: Callable[[Tensor], float], n: int = 2000, repeats: int = 300) -> float:
    return float(torch.tensor([number(normal(n, 100 + i)) for i in range(repeats)]).std())


def test_errors_are_what_numbers_scatter_by() -> None:
    example = PullDistribution.of(normal(2000, 1))
    assert spread_of(lambda x: PullDistribution.of(x).width) == pytest.approx(
        example.width_error, rel=0.2
    )
    ordered = normal(2000, 1).sort().values
    assert spread_of(lambda x: float(x.quantile(0.9))) == pytest.approx(
        quantile_error(ordered, 0.9), rel=0.2
    )
    coverage = Coverage.of(normal(2000, 1), 0.95)
    assert spread_of(lambda x: Coverage.of(x, 0.95).share) == pytest.approx(coverage.error, rel=0.2)


def test_a_share_is_never_without_an_error() -> None:
    assert 0.05 < share_error(10, 10) == share_error(0, 10) < 0.1
    assert share_error(683_000, 10**6) == pytest.approx(math.sqrt(0.683 * 0.317) / 1000, rel=1e-3)


def test_the_scatter_of_trainings_tests_the_statistical_part() -> None:
    for n_trainings in (2, 4):
        means = 5 + torch.stack([1e-3 * normal(N, seed) for seed in range(n_trainings)])
        for claimed, width in ((1e-3, 1.0), (5e-4, 2.0)):
            pull = statistical_pull(means, torch.full((N,), claimed, dtype=torch.float64))
            assert pull.shape == (n_trainings, N)
            assert PullDistribution.of(pull.flatten()).width == pytest.approx(width, rel=0.01)
    with pytest.raises(ValueError, match="two trainings"):
        statistical_pull(means[:1], means[:1])


class Known:
    """Predicts ln |M|² from the energy of the first leg: that is the truth of `sample`."""

    def __init__(self, seed: int, statistical: float = 1e-3) -> None:
        self.seed, self.statistical = seed, statistical

    def predict(self, momenta: Tensor) -> LogPrediction:
        log_value = momenta[:, 0, 0]
        # Ten times worse where |M|² is among the largest 1 %.
        std = torch.where(log_value > 0.99, 1e-2, 1e-3)
        mean = log_value + std * normal(len(log_value), self.seed)
        statistical = torch.full_like(std, self.statistical)
        return LogPrediction(mean, torch.full_like(std, 1e-3), statistical, log_value < 0.999)


@pytest.fixture(scope="module")
def sample() -> AmplitudeSample:
    momenta = torch.zeros(N, 4, 4, dtype=torch.float64)
    momenta[:, 0, 0] = torch.rand(N, generator=torch.Generator().manual_seed(9)).double()
    return AmplitudeSample(momenta=momenta, value=momenta[:, 0, 0].exp())


def test_regions_hold_the_points_that_they_name(sample: AmplitudeSample) -> None:
    regions = accuracy(Known(seed=1, statistical=0.0), sample)
    assert {name: region.n for name, region in regions.items()} == {
        "all": N,
        "top 1 %": N // 100,
        "top 0.1 %": N // 1000,
    }
    assert regions["all"].pull_width == pytest.approx(1, abs=0.03)
    assert regions["top 1 %"].pull_width == pytest.approx(10, rel=0.2)
    assert regions["top 1 %"].covered_share == pytest.approx(0.9, abs=0.05)
    assert regions["top 0.1 %"].covered_share < 0.2


def test_the_region_near_the_cuts_is_that_of_the_mask(sample: AmplitudeSample) -> None:
    near = sample.momenta[:, 0, 0] > 0.995
    regions = accuracy(Known(seed=1, statistical=0.0), sample, near)
    assert regions[NEAR_CUTS].n == int(near.sum())
    assert regions[NEAR_CUTS].pull_width == pytest.approx(10, rel=0.2)
    assert NEAR_CUTS not in accuracy(Known(seed=1), sample, torch.zeros_like(near))
    with pytest.raises(MlgenError, match=r"near_cuts = shape \(3,\): expected \(100000,\)"):
        accuracy(Known(seed=1), sample, near[:3])


def test_other_trainings_give_statistical_pulls(sample: AmplitudeSample) -> None:
    others = [Known(seed) for seed in (2, 3)]
    pulls = accuracy(Known(seed=1), sample, others=others)["all"].pulls[STATISTICAL]
    assert pulls.n == 3 * N
    assert pulls.width == pytest.approx(1, abs=0.03)
    assert STATISTICAL not in accuracy(Known(seed=1), sample)["all"].pulls
    certain = [Known(seed, statistical=0.0) for seed in (2, 3)]
    assert STATISTICAL not in accuracy(Known(seed=1), sample, others=certain)["all"].pulls


def test_few_points_have_numbers_too(sample: AmplitudeSample) -> None:
    regions = accuracy(Known(seed=1), sample.select(slice(20)))
    assert regions["top 0.1 %"].n == 1
    assert [len(region.coverage) for region in regions.values()] == [len(COVERAGE_LEVELS)] * 3
