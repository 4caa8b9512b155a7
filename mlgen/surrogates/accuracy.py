"""How good a surrogate is: its deviations, pulls and coverage on points that taught it nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.surrogates.calibration import ONE_SIGMA
from mlgen.surrogates.group_surrogate import GroupSurrogate, LogPrediction
from mlgen.surrogates.sample import AmplitudeSample

REGIONS = {"all": 1.0, "top 1 %": 0.01, "top 0.1 %": 0.001}
"""The shares of points with the largest |M|²."""
DELTA_QUANTILES = (0.5, 0.9, 0.99, 0.999)
PRECISE = 1e-3
"""|Delta| below it counts as precise."""
_TINY = 1e-300


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionAccuracy:
    """How well a surrogate does in a region of phase space."""

    n: int
    precise_share: float
    """Of the points with |Delta| below `PRECISE`, where Delta = predicted / true - 1."""
    delta_quantiles: tuple[float, ...]
    """|Delta| at `DELTA_QUANTILES`."""
    pull_width: float
    """Half the range from 16 to 84 % of (predicted - true) / std, of ln |M|²."""
    systematic_pull_width: float
    """The same with the systematic part alone."""
    coverage_68: float
    """The share of the points within one standard deviation: 0.683 where it means that."""
    coverage_95: float
    """Within 1.96."""
    covered_share: float
    """Of the points that the surrogate has seen the like of."""


def accuracy(surrogate: GroupSurrogate, sample: AmplitudeSample) -> dict[str, RegionAccuracy]:
    """The accuracy in each of `REGIONS`, for a sample of its own."""
    predicted = surrogate.predict(sample.momenta)
    log_value = sample.value.log()
    order = log_value.argsort(descending=True)
    found = {}
    for name, share in REGIONS.items():
        index = order[: max(1, round(share * len(sample)))]
        chosen = LogPrediction(*(column[index] for column in predicted))
        found[name] = region_accuracy(chosen, log_value[index])
    return found


def region_accuracy(predicted: LogPrediction, log_value: Tensor) -> RegionAccuracy:
    """The accuracy at points whose true ln |M|² is given, (n,)."""
    error = predicted.log_value - log_value
    delta = torch.expm1(error).abs()
    pull = error / predicted.std.clamp(min=_TINY)
    quantiles = _quantiles(delta, DELTA_QUANTILES)
    return RegionAccuracy(
        n=len(error),
        precise_share=_share(delta < PRECISE),
        delta_quantiles=tuple(quantiles),
        pull_width=_width(pull),
        systematic_pull_width=_width(error / predicted.systematic.clamp(min=_TINY)),
        coverage_68=_share(pull.abs() < 1),
        coverage_95=_share(pull.abs() < 1.959963984540054),
        covered_share=_share(predicted.is_covered),
    )


def _width(pull: Tensor) -> float:
    """Half the range that holds 68 % of the pulls (n,)."""
    low, high = _quantiles(pull, (0.5 - ONE_SIGMA / 2, 0.5 + ONE_SIGMA / 2))
    return (high - low) / 2


def _quantiles(values: Tensor, at: tuple[float, ...]) -> list[float]:
    # torch.quantile takes no more than 16 million values.
    ordered = values.sort().values
    return [float(ordered[round(share * (len(ordered) - 1))]) for share in at]


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())
