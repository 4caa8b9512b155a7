"""Make a predicted standard deviation mean what it says: recalibration on points held out.

A network that is trained well past the point where its errors look random is too careful in most
places and too sure in others. Its standard deviation is multiplied with a factor such that 68 % of
the held-out points lie within one, at each size of the standard deviation and of |M|². Where an
error has one sign more often than the other, which averages over many points would show, the mean is
shifted by a part of the standard deviation.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

ONE_SIGMA = 0.682689492137086
"""The share of a normal distribution within one standard deviation."""
N_KNOTS = 40
POINTS_PER_BIN = 250
"""Fewer do not tell a quantile to better than 6 %."""
TAIL = 0.125
"""The part of the points at either end that has finer bins, each half as large as the one before."""
POINTS_IN_TAIL = 80
"""The last of these holds at least so many."""
N_SWEEPS = 4
LEAST_STD = 1e-12


class Recalibration(nn.Module):
    """A factor for standard deviations, and a shift of means in units of them.

    ln of the factor is a sum of two piecewise linear functions, of ln of the predicted standard
    deviation and of ln |M|² as predicted, constant beyond their knots; the shift is one of the
    former. They start as 1 and 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of_std = _PiecewiseLinear()
        self.of_value = _PiecewiseLinear()
        self.shift_of_std = _PiecewiseLinear()

    def forward(self, log_std: Tensor, log_value: Tensor) -> Tensor:
        """The factor (n,) at ln of predicted standard deviations and of |M|², (n,) each."""
        factor: Tensor = (self.of_std(log_std) + self.of_value(log_value)).exp()
        return factor

    def shift(self, log_std: Tensor) -> Tensor:
        """What a prediction is too large by, in units of its standard deviation: (n,)."""
        shift: Tensor = self.shift_of_std(log_std)
        return shift

    def fit(self, error: Tensor, log_std: Tensor, log_value: Tensor) -> None:
        """Put 68 % of the errors (n,) within one standard deviation, by backfitting.

        Args:
            error: of ln |M|², predicted minus true, at points that trained nothing.
            log_std: ln of its predicted standard deviation, (n,).
            log_value: ln |M|² as predicted, (n,).
        """
        std_bins = _bins(log_std)
        pull = error / log_std.exp()
        self.shift_of_std.fit(log_std, pull, std_bins, 0.5)
        log_size = (pull - self.shift(log_std)).abs().clamp(min=LEAST_STD).log()
        value_bins = _bins(log_value)
        for _ in range(N_SWEEPS):
            self.of_std.fit(log_std, log_size - self.of_value(log_value), std_bins, ONE_SIGMA)
            self.of_value.fit(log_value, log_size - self.of_std(log_std), value_bins, ONE_SIGMA)


class _PiecewiseLinear(nn.Module):
    """A continuous function of one number, linear between knots and constant beyond."""

    knots: Tensor
    heights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("knots", torch.zeros(N_KNOTS, dtype=torch.float64))
        self.register_buffer("heights", torch.zeros(N_KNOTS, dtype=torch.float64))

    def forward(self, at: Tensor) -> Tensor:
        low, high = self.knots[:-1], self.knots[1:]
        width = high - low
        inside = (at[:, None].clamp(low, high) - low) / torch.where(width > 0, width, 1.0)
        return self.heights[0] + inside @ self.heights.diff()

    def fit(self, at: Tensor, number: Tensor, bins: list[Tensor], share: float) -> None:
        """A quantile of a number (n,) in each bin of points, at the bin's median."""
        knots = torch.stack([at[index].median() for index in bins])
        heights = torch.stack([number[index].quantile(share) for index in bins])
        # Knots that are not needed repeat the last one.
        missing = N_KNOTS - len(bins)
        self.knots.copy_(torch.cat([knots, knots[-1:].expand(missing)]))
        self.heights.copy_(torch.cat([heights, heights[-1:].expand(missing)]))


def _bins(at: Tensor) -> list[Tensor]:
    """The points in bins by a number (n,): of equal size, but for ever smaller ones at both ends."""
    n, share = len(at), TAIL
    tail: list[int] = []
    while share * n >= POINTS_IN_TAIL:
        tail.append(round(n * share))
        share /= 2
    low, high = (tail[0], n - tail[0]) if tail else (0, n)
    n_bins = max(1, min(N_KNOTS - 2 * len(tail), (high - low) // POINTS_PER_BIN))
    inner = [low + (high - low) * k // n_bins for k in range(n_bins + 1)]
    ends = [*reversed(tail[1:]), *inner, *(n - size for size in tail[1:])]
    ends = [0, *ends, n] if tail else ends
    order = at.argsort()
    return [order[a:b] for a, b in itertools.pairwise(ends)]
