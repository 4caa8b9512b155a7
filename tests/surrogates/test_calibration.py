from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlgen.surrogates.accuracy import region_accuracy
from mlgen.surrogates.calibration import ONE_SIGMA, Recalibration
from mlgen.surrogates.domain import BEYOND, TargetRange, TrainingDomain
from mlgen.surrogates.group_surrogate import LogPrediction


def misjudged(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Errors, ln of a std that is too small where it is small or |M|² is large, and ln |M|²."""
    rng = torch.Generator().manual_seed(seed)
    noise, log_std, log_value = torch.randn(3, n, generator=rng, dtype=torch.float64).unbind(0)
    truth = (log_std - 0.5 * log_std.clamp(max=0) + 0.7 * log_value.clamp(min=0) + 1).exp()
    return noise * truth, log_std, log_value


def covered(error: Tensor, std: Tensor) -> float:
    return float((error.abs() < std).double().mean())


def test_recalibrated_deviations_cover_what_they_say_in_each_region() -> None:
    recalibration = Recalibration()
    recalibration.fit(*misjudged(20_000, seed=1))
    error, log_std, log_value = misjudged(200_000, seed=2)
    factor, shift = recalibration(log_std, log_value)
    std = log_std.exp() * factor
    error = error - log_std.exp() * shift
    regions = [
        torch.arange(len(error)),
        log_value.topk(2000).indices,
        log_std.topk(2000).indices,
        (-log_std).topk(2000).indices,
    ]
    for region in regions:
        assert covered(error[region], std[region]) == pytest.approx(ONE_SIGMA, abs=0.06)
        # The control: as they were predicted.
        assert covered(error[region], log_std[region].exp()) < 0.5


def test_deviations_go_on_rising_where_too_few_points_are_left_for_a_bin() -> None:
    def rare(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Errors that are as |M|², which has a power law; their std is predicted as 1."""
        rng = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, generator=rng, dtype=torch.float64)
        log_value = -torch.rand(n, generator=rng, dtype=torch.float64).log()
        return noise * log_value.exp(), torch.zeros_like(noise), log_value

    recalibration = Recalibration()
    recalibration.fit(*rare(20_000, seed=1))
    error, log_std, log_value = rare(1_000_000, seed=2)
    largest = log_value.topk(500).indices
    factor, _ = recalibration(log_std, log_value)
    # The few points of the last bins do not tell it better than to half its size.
    assert 0.5 < covered(error[largest], factor[largest]) < 0.95
    # The control: the factor of the largest 0.5 %.
    constant = factor[log_value.topk(5000).indices].median().expand_as(factor)
    assert covered(error[largest], constant[largest]) < 0.3


def test_a_bias_is_taken_out() -> None:
    recalibration = Recalibration()
    error, log_std, log_value = misjudged(20_000, seed=1)
    recalibration.fit(error + 1.5 * log_std.exp() * log_std, log_std, log_value)
    fresh, log_std, log_value = misjudged(100_000, seed=2)
    biased = fresh + 1.5 * log_std.exp() * log_std
    shifted = biased - log_std.exp() * recalibration(log_std, log_value)[1]
    for region in (log_std.topk(10_000).indices, (-log_std).topk(10_000).indices):
        too_large = float((shifted[region] > 0).double().mean())
        assert too_large == pytest.approx(0.5, abs=0.04)
        assert abs(float((biased[region] > 0).double().mean()) - 0.5) > 0.06, "the control"


def test_with_few_points_there_is_one_factor() -> None:
    recalibration = Recalibration()
    error, log_std, log_value = misjudged(50, seed=1)
    recalibration.fit(error, log_std, log_value)
    factor, shift = recalibration(log_std, log_value)
    torch.testing.assert_close(factor, factor[:1].expand(50))
    error = error - log_std.exp() * shift
    assert covered(error, log_std.exp() * factor) == pytest.approx(ONE_SIGMA, abs=0.03)


def test_it_starts_as_the_factor_1() -> None:
    somewhere = torch.linspace(-5, 5, 10, dtype=torch.float64)
    factor, shift = Recalibration()(somewhere, somewhere)
    assert factor.tolist() == [1.0] * 10
    assert shift.tolist() == [0.0] * 10


def test_the_report_of_normal_errors_says_so() -> None:
    rng = torch.Generator().manual_seed(3)
    std = torch.full((100_000,), 1e-3, dtype=torch.float64)
    error = std * torch.randn(100_000, generator=rng, dtype=torch.float64)
    zero = torch.zeros_like(error)
    predicted = LogPrediction(error, 0.8 * std, 0.6 * std, zero == 0)
    found = region_accuracy(predicted, zero)
    assert found.pull_width == pytest.approx(1, abs=0.02)
    assert found.systematic_pull_width == pytest.approx(1.25, abs=0.03)
    assert found.coverage_68 == pytest.approx(ONE_SIGMA, abs=0.01)
    assert found.coverage_95 == pytest.approx(0.95, abs=0.01)
    assert found.precise_share == pytest.approx(ONE_SIGMA, abs=0.01)
    assert found.delta_quantiles[0] == pytest.approx(0.6745e-3, rel=0.03)
    assert found.covered_share == 1


def test_a_domain_knows_its_sample_and_not_what_lies_outside() -> None:
    rng = torch.Generator().manual_seed(1)
    along = torch.rand(5000, 1, generator=rng) - 0.5
    sample = 3 * along + 0.1 * torch.randn(5000, 4, generator=rng)
    domain = TrainingDomain(4)
    assert bool(domain(1e9 * sample).all()), "before it is fitted it holds everything"
    domain.fit(sample)
    assert bool(domain(sample).all())
    assert not bool(domain(2.5 * sample[sample[:, 0].abs() > 1]).any())
    # Inside of the box, far from the diagonal.
    corner = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    assert bool(((corner > sample.amin(0)) & (corner < sample.amax(0))).all())
    assert not bool(domain(corner))


def test_a_range_of_targets_is_a_little_wider_than_its_sample() -> None:
    target = torch.linspace(-1.5, 2.5, 9)
    targets = TargetRange()
    assert bool(targets(1e9 * target).all()), "before it is fitted it holds everything"
    targets.fit(target)
    assert bool(targets(target).all())
    edges = torch.tensor([-1.5 - BEYOND, 2.5 + BEYOND])
    assert bool(targets(0.99 * edges).all())
    assert not bool(targets(1.01 * edges).any())
    assert not bool(targets(torch.tensor([torch.nan])))
