"""What many points say, in few numbers: binned counts, quantiles and shares with their errors.

Errors are those of independent points. A network's errors at neighbouring points are not: between
trainings these numbers vary more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mlgen.surrogates.calibration import ONE_SIGMA

PULL_RANGE = (-5.0, 5.0)
N_PULL_BINS = 50
PULL_QUANTILES = (0.005, 0.025, 0.5 - ONE_SIGMA / 2, 0.5, 0.5 + ONE_SIGMA / 2, 0.975, 0.995)
DELTA_RANGE = (1e-8, 1e2)
N_DELTA_BINS = 80
"""Of equal width in ln |Delta|: 8 a decade."""
DELTA_QUANTILES = (0.5, 0.9, 0.99, 0.999)
COVERAGE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, ONE_SIGMA, 0.8, 0.9, 0.95, 0.99, 0.999)
N_ERROR_BINS = 20
LEAST_IN_BIN = 25
"""Points: with fewer there are fewer bins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PullDistribution:
    """How pulls are distributed: normally, with mean 0 and width 1, where uncertainties are right."""

    n: int
    width: float
    """Half the range from 16 to 84 %."""
    width_error: float
    quantiles: tuple[float, ...]
    """At `PULL_QUANTILES`."""
    counts: tuple[int, ...]
    """In `N_PULL_BINS` bins of equal width over `PULL_RANGE`."""
    n_below: int
    n_above: int

    @property
    def median(self) -> float:
        return self.quantiles[PULL_QUANTILES.index(0.5)]

    @classmethod
    def of(cls, pull: Tensor) -> Self:
        """The distribution of pulls (n,), which may be infinite."""
        ordered = pull.sort().values
        low, high = (quantile(ordered, 0.5 + sign * ONE_SIGMA / 2) for sign in (-1, 1))
        errors = [quantile_error(ordered, 0.5 + sign * ONE_SIGMA / 2) for sign in (-1, 1)]
        # Two quantiles at the shares p and 1 - p of one sample have the correlation p / (1 - p).
        correlation = (1 - ONE_SIGMA) / (1 + ONE_SIGMA)
        variance = errors[0] ** 2 + errors[1] ** 2 - 2 * correlation * errors[0] * errors[1]
        counts, n_below, n_above = _binned(ordered, pull_edges())
        return cls(
            n=len(pull),
            width=(high - low) / 2,
            width_error=math.sqrt(variance) / 2,
            quantiles=tuple(quantile(ordered, share) for share in PULL_QUANTILES),
            counts=counts,
            n_below=n_below,
            n_above=n_above,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaDistribution:
    """How |Delta| is distributed, where Delta = predicted / true - 1."""

    quantiles: tuple[float, ...]
    """At `DELTA_QUANTILES`."""
    counts: tuple[int, ...]
    """In `N_DELTA_BINS` logarithmic bins over `DELTA_RANGE`."""
    n_below: int
    n_above: int

    @classmethod
    def of(cls, delta: Tensor) -> Self:
        """The distribution of |Delta| (n,)."""
        ordered = delta.sort().values
        counts, n_below, n_above = _binned(ordered, delta_edges())
        quantiles = tuple(quantile(ordered, share) for share in DELTA_QUANTILES)
        return cls(quantiles=quantiles, counts=counts, n_below=n_below, n_above=n_above)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How many points lie within the interval that is said to hold a share of them."""

    nominal: float
    share: float
    error: float
    """Binomial: never 0, even where all points lie inside, or none."""

    @classmethod
    def of(cls, pull: Tensor, nominal: float) -> Self:
        """Of the central interval of a normal distribution, for pulls (n,)."""
        n_sigma = torch.special.ndtri(torch.tensor((1 + nominal) / 2, dtype=torch.float64))
        n_inside = int((pull.abs() < n_sigma).sum())
        return cls(
            nominal=nominal,
            share=n_inside / len(pull),
            error=share_error(n_inside, len(pull)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorBin:
    """Points of about the same predicted standard deviation, and how large their errors really are."""

    n: int
    std: float
    """The median of the predicted standard deviations of ln |M|²."""
    realised: float
    """What 68 % of the absolute errors of ln |M|² lie below."""
    realised_error: float


def pull_edges() -> Tensor:
    """Those of the bins of pulls, (N_PULL_BINS + 1,)."""
    return torch.linspace(*PULL_RANGE, N_PULL_BINS + 1, dtype=torch.float64)


def delta_edges() -> Tensor:
    """Those of the bins of |Delta|, (N_DELTA_BINS + 1,)."""
    low, high = (math.log10(end) for end in DELTA_RANGE)
    return torch.logspace(low, high, N_DELTA_BINS + 1, dtype=torch.float64)


def error_bins(error: Tensor, std: Tensor) -> tuple[ErrorBin, ...]:
    """Points in bins of equal size by their predicted standard deviations, the smallest first.

    Args:
        error: (n,), of ln |M|², predicted minus true.
        std: (n,), predicted.
    """
    n_bins = max(1, min(N_ERROR_BINS, len(error) // LEAST_IN_BIN))
    found = []
    for index in std.argsort().tensor_split(n_bins):
        sizes = error[index].abs().sort().values
        found.append(
            ErrorBin(
                n=len(index),
                std=quantile(std[index], 0.5),
                realised=quantile(sizes, ONE_SIGMA),
                realised_error=quantile_error(sizes, ONE_SIGMA),
            )
        )
    return tuple(found)


def quantile(ordered: Tensor, share: float) -> float:
    """The value in ascending order (n,) that a share of them lie below."""
    # torch.quantile takes no more than 16 million values.
    return float(ordered[round(share * (len(ordered) - 1))])


def quantile_error(ordered: Tensor, share: float) -> float:
    """The standard deviation of a quantile of values in ascending order (n,), from their spacing."""
    shift = math.sqrt(share * (1 - share) / len(ordered))
    high, low = min(share + shift, 1.0), max(share - shift, 0.0)
    # The ranks are whole numbers: of few values, they are not as far apart as asked for.
    between = (round(high * (len(ordered) - 1)) - round(low * (len(ordered) - 1))) / len(ordered)
    if between == 0:
        return math.inf
    return (quantile(ordered, high) - quantile(ordered, low)) * shift / between


def share_error(n_inside: int, n: int) -> float:
    """The standard deviation of a share, given n_inside of n points and nothing known before."""
    a, b = n_inside + 1, n - n_inside + 1
    return math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))


def share(mask: Tensor) -> float:
    """The part of the points (n,) of which a mask is true."""
    return float(mask.double().mean())


def _binned(ordered: Tensor, edges: Tensor) -> tuple[tuple[int, ...], int, int]:
    """The counts in bins, closed at their lower ends, and those of values below and above all."""
    below: Sequence[int] = torch.searchsorted(ordered.double().contiguous(), edges).tolist()
    counts = tuple(high - low for low, high in itertools.pairwise(below))
    return counts, below[0], len(ordered) - below[-1]
