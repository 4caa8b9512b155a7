"""How good a surrogate is: its deviations, pulls and coverage on points that taught it nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.surrogates.calibration import ONE_SIGMA
from mlgen.surrogates.distributions import (
    COVERAGE_LEVELS,
    Coverage,
    DeltaDistribution,
    ErrorBin,
    PullDistribution,
    error_bins,
    share,
)
from mlgen.surrogates.group_surrogate import LogPrediction
from mlgen.surrogates.sample import AmplitudeSample

REGIONS = {"all": 1.0, "top 1 %": 0.01, "top 0.1 %": 0.001}
"""The shares of points with the largest |M|²."""
NEAR_CUTS = "near the cuts"
"""The region that callers know: see `mlgen.physics.near_cuts`."""
PRECISE = 1e-3
"""|Delta| below it counts as precise."""
TOTAL, SYSTEMATIC, STATISTICAL = "total", "systematic", "statistical"
_TINY = 1e-300


class Predictor(Protocol):
    """What predicts ln |M|²: a `GroupSurrogate`, or anything like it."""

    def predict(self, momenta: Tensor) -> LogPrediction:
        """At momenta (n, n_ext, 4), float64, GeV."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionAccuracy:
    """How well a surrogate does in a region of phase space, points that it does not cover included."""

    n: int
    precise_share: float
    """Of the points with |Delta| below `PRECISE`, where Delta = predicted / true - 1."""
    delta: DeltaDistribution
    pulls: Mapping[str, PullDistribution]
    """Of ln |M|²: `TOTAL` and `SYSTEMATIC`, and `STATISTICAL` where several trainings were given."""
    coverage: tuple[Coverage, ...]
    """At `COVERAGE_LEVELS`, with both parts of the uncertainty."""
    errors: tuple[ErrorBin, ...]
    """How large errors are, by predicted standard deviation."""
    covered_share: float
    """Of the points that the surrogate has seen the like of."""

    @property
    def delta_quantiles(self) -> tuple[float, ...]:
        """|Delta| at `distributions.DELTA_QUANTILES`."""
        return self.delta.quantiles

    @property
    def pull_width(self) -> float:
        """Half the range from 16 to 84 % of (predicted - true) / std, of ln |M|²."""
        return self.pulls[TOTAL].width

    @property
    def systematic_pull_width(self) -> float:
        """The same with the systematic part alone."""
        return self.pulls[SYSTEMATIC].width

    @property
    def coverage_68(self) -> float:
        """The share of the points within one standard deviation: 0.683 where it means that."""
        return self.coverage_at(ONE_SIGMA).share

    @property
    def coverage_95(self) -> float:
        """Within 1.96."""
        return self.coverage_at(0.95).share

    def coverage_at(self, nominal: float) -> Coverage:
        """The coverage at one of `COVERAGE_LEVELS`."""
        return self.coverage[COVERAGE_LEVELS.index(nominal)]


def accuracy(
    surrogate: Predictor,
    sample: AmplitudeSample,
    near_cuts: Tensor | None = None,
    others: Sequence[Predictor] = (),
) -> dict[str, RegionAccuracy]:
    """The accuracy in each of `REGIONS`, and near the cuts, for a sample of its own.

    Args:
        near_cuts: (n,), bool, the points of the region `NEAR_CUTS`; it is left out where there are none.
        others: surrogates of the same |M|², each trained for itself, for the statistical pulls:
            see `statistical_pull`.

    Raises:
        MlgenError: the mask does not fit.
    """
    if near_cuts is not None and near_cuts.shape != sample.value.shape:
        raise MlgenError(
            f"near_cuts = shape {tuple(near_cuts.shape)}: expected ({len(sample)},), one truth value "
            "for each point of the sample"
        )
    predicted = surrogate.predict(sample.momenta)
    scatter = _statistical(predicted, [other.predict(sample.momenta) for other in others])
    log_value = sample.value.log()
    order = log_value.argsort(descending=True)
    regions = {name: order[: max(1, round(part * len(sample)))] for name, part in REGIONS.items()}
    if near_cuts is not None and bool(near_cuts.any()):
        regions[NEAR_CUTS] = near_cuts.nonzero(as_tuple=True)[0]
    found = {}
    for name, index in regions.items():
        chosen = LogPrediction(*(column[index] for column in predicted))
        statistical = None if scatter is None else scatter[:, index].flatten()
        found[name] = region_accuracy(chosen, log_value[index], statistical)
    return found


def region_accuracy(
    predicted: LogPrediction, log_value: Tensor, statistical: Tensor | None = None
) -> RegionAccuracy:
    """The accuracy at points whose true ln |M|² is given, (n,).

    Args:
        statistical: statistical pulls, any number of them, from `statistical_pull`.
    """
    error = predicted.log_value - log_value
    delta = torch.expm1(error).abs()
    pull = error / predicted.std.clamp(min=_TINY)
    pulls = {TOTAL: pull, SYSTEMATIC: systematic_pull(predicted, log_value)}
    if statistical is not None:
        pulls[STATISTICAL] = statistical
    return RegionAccuracy(
        n=len(error),
        precise_share=share(delta < PRECISE),
        delta=DeltaDistribution.of(delta),
        pulls={name: PullDistribution.of(of) for name, of in pulls.items()},
        coverage=tuple(Coverage.of(pull, nominal) for nominal in COVERAGE_LEVELS),
        errors=error_bins(error, predicted.std),
        covered_share=share(predicted.is_covered),
    )


def systematic_pull(predicted: LogPrediction, log_value: Tensor) -> Tensor:
    """(mean - truth) / systematic std, (n,): the systematic pull of arXiv:2412.12069.

    Its width is 1 where the statistical part is negligible, and more elsewhere.

    Args:
        log_value: (n,), the true ln |M|².
    """
    return (predicted.log_value - log_value) / predicted.systematic.clamp(min=_TINY)


def statistical_pull(means: Tensor, statistical: Tensor) -> Tensor:
    """(A_k - <A>) / statistical std of several trainings: the statistical pull of arXiv:2412.12069.

    There A_k are draws from one network's posterior, of which the statistical std is computed, so that
    the width is 1 by construction. Trainings on samples of their own, or with seeds of their own, test
    it: the scatter of what was learned is to be what the statistical std says. <A> is their mean, which
    lies nearer to each of them than the truth: the factor is Bessel's.

    Args:
        means: (k, n), ln |M|² as each of k > 1 trainings predicts it.
        statistical: (k, n) or (n,), positive.

    Returns:
        (k, n).

    Raises:
        ValueError: there is one training alone.
    """
    n_trainings = len(means)
    if n_trainings < 2:
        raise ValueError("a scatter takes two trainings at least")
    bessel = math.sqrt(n_trainings / (n_trainings - 1))
    return bessel * (means - means.mean(0)) / statistical.clamp(min=_TINY)


def _statistical(predicted: LogPrediction, others: Sequence[LogPrediction]) -> Tensor | None:
    """Statistical pulls (k, n); None without other trainings, or where no training claims a scatter."""
    every = [predicted, *others]
    stds = torch.stack([one.statistical for one in every])
    if not others or not bool((stds > 0).all()):
        return None
    return statistical_pull(torch.stack([one.log_value for one in every]), stds)
