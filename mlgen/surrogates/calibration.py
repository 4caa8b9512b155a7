"""Make a predicted standard deviation mean what it says: recalibration on points held out.

A network that is trained well past the point where its errors look random is too careful in most
places and too sure in others. Its standard deviation is multiplied with a factor such that 68 % of
the held-out points lie within one, at each size of the standard deviation and of |M|². Where an
error has one sign more often than the other, which averages over many points would show, the mean is
shifted by a part of the standard deviation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

ONE_SIGMA = 0.682689492137086
"""The share of a normal distribution within one standard deviation."""
MAX_BINS = 40
N_CELLS = 256
"""Of the tables that the functions become: their ranges are some tens, their bins wider than 0.1."""
LEAST_WIDTH = 1e-2
"""Of the range of a table: in a smaller one rounding in single precision would show."""
POINTS_PER_BIN = 250
"""Fewer do not tell a quantile to better than 6 %."""
TAIL = 0.125
"""The part of the points at either end that has finer bins, each half as large as the one before."""
POINTS_IN_TAIL = 40
"""The last of these holds at least so many: known to 15 %, which is less than what changes in a bin of twice the size."""
LAST_KNOTS = 4
"""Which say how the factor goes on towards the largest |M|²."""
N_SWEEPS = 4
LEAST_STD = 1e-12


class Recalibration(nn.Module):
    """A factor for standard deviations, and a shift of means in units of them.

    ln of the factor is a sum of two functions, of ln of the predicted standard deviation and of
    ln |M|² as predicted; the shift is one of the former. They start as 1 and 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of_std = _Tabulated(2)
        self.of_value = _Tabulated(1)

    def forward(self, log_std: Tensor, log_value: Tensor) -> tuple[Tensor, Tensor]:
        """The factor, and what a prediction is too large by in units of its standard deviation.

        Args:
            log_std: ln of predicted standard deviations of ln |M|², (n,).
            log_value: ln |M|² as predicted, (n,).
        Returns:
            factor, shift: (n,) each.
        """
        log_factor, shift = self.of_std(log_std)
        return (log_factor + self.of_value(log_value)[0]).exp(), shift

    def fit(self, error: Tensor, log_std: Tensor, log_value: Tensor) -> None:
        """Put 68 % of the errors (n,) within one standard deviation, by backfitting.

        Args:
            error: of ln |M|², predicted minus true, at points that trained nothing.
            log_std: ln of its predicted standard deviation, (n,).
            log_value: ln |M|² as predicted, (n,).
        """
        std_bins, value_bins = _Bins(log_std), _Bins(log_value)
        pull = error / log_std.exp()
        shift = std_bins.quantile(pull, 0.5)
        log_size = (pull - shift.at(log_std)).abs().clamp(min=LEAST_STD).log()
        of_value = value_bins.quantile(torch.zeros_like(pull), 0.5)
        for _ in range(N_SWEEPS):
            of_std = std_bins.quantile(log_size - of_value.at(log_value), ONE_SIGMA)
            of_value = value_bins.quantile(log_size - of_std.at(log_std), ONE_SIGMA)
            of_value = of_value.continued(log_value.max())
        self.of_std.tabulate([of_std, shift])
        self.of_value.tabulate([of_value])


class _PiecewiseLinear(NamedTuple):
    """A continuous function of one number, linear between knots and constant beyond."""

    knots: Tensor
    heights: Tensor

    def at(self, number: Tensor) -> Tensor:
        """The function at numbers (n,)."""
        low, high = self.knots[:-1], self.knots[1:]
        width = high - low
        inside = (number[:, None].clamp(low, high) - low) / torch.where(width > 0, width, 1.0)
        return self.heights[0] + inside @ self.heights.diff()

    def continued(self, end: Tensor) -> _PiecewiseLinear:
        """The function with one knot more at the end, where it rises as the last knots do, or stays.

        Where |M|² is largest a network is worst, and there are too few points for a bin.
        """
        at, height = self.knots[-LAST_KNOTS:], self.heights[-LAST_KNOTS:]
        # Each bin of the tail has half the points of the one before.
        share = 0.5 ** torch.arange(len(at), dtype=torch.float64)
        share /= share.sum()
        offset = at - share @ at
        slope = (share @ (offset * height)) / (share @ offset.square()).clamp(min=LEAST_WIDTH**2)
        last = self.heights[-1] + slope.clamp(min=0) * (end - self.knots[-1])
        return _PiecewiseLinear(
            torch.cat([self.knots, end[None]]), torch.cat([self.heights, last[None]])
        )


class _Tabulated(nn.Module):
    """Functions of one number, linear between equally spaced knots and constant beyond."""

    low: Tensor
    cells_per_unit: Tensor
    heights: Tensor

    def __init__(self, n_functions: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros((), dtype=torch.float64))
        self.register_buffer("cells_per_unit", torch.ones((), dtype=torch.float64))
        heights = torch.zeros(n_functions, N_CELLS + 1, dtype=torch.float64)
        self.register_buffer("heights", heights)

    def forward(self, number: Tensor) -> Tensor:
        """The functions at numbers (n,): (n_functions, n)."""
        position = ((number - self.low) * self.cells_per_unit).clamp(0, N_CELLS)
        # What is not a number has no cell, and stays what it is.
        cell = position.nan_to_num(0.0).long().clamp(max=N_CELLS - 1)
        left, right = self.heights[:, cell], self.heights[:, cell + 1]
        return left + (right - left) * (position - cell)

    def tabulate(self, functions: Sequence[_PiecewiseLinear]) -> None:
        """Take functions that have the same knots."""
        low, high = functions[0].knots[0], functions[0].knots[-1]
        # One knot is a constant, with cells of any width.
        width = (high - low).clamp(min=LEAST_WIDTH)
        self.low.copy_(low)
        self.cells_per_unit.copy_(N_CELLS / width)
        at = low + width * torch.linspace(0, 1, N_CELLS + 1, dtype=torch.float64)
        self.heights.copy_(torch.stack([function.at(at) for function in functions]))


class _Bins:
    """Points in bins by a number (n,): of equal size, but for ever smaller ones at both ends."""

    def __init__(self, number: Tensor) -> None:
        order = number.argsort()
        self._bins = [order[a:b] for a, b in itertools.pairwise(_bin_ends(len(number)))]
        self._knots = torch.stack([number[index].median() for index in self._bins])

    def quantile(self, values: Tensor, share: float) -> _PiecewiseLinear:
        """A quantile of values (n,) in each bin, at its median."""
        heights = torch.stack([values[index].quantile(share) for index in self._bins])
        return _PiecewiseLinear(self._knots, heights)


def _bin_ends(n: int) -> list[int]:
    """Where bins of n ordered points begin and end."""
    tail: list[int] = []
    share = TAIL
    while share * n >= POINTS_IN_TAIL:
        tail.append(round(n * share))
        share /= 2
    low, high = (tail[0], n - tail[0]) if tail else (0, n)
    n_bins = max(1, min(MAX_BINS - 2 * len(tail), (high - low) // POINTS_PER_BIN))
    inner = [low + (high - low) * k // n_bins for k in range(n_bins + 1)]
    ends = [*reversed(tail[1:]), *inner, *(n - size for size in tail[1:])]
    return [0, *ends, n] if tail else ends
