"""Monotone rational-quadratic splines of the unit interval, written for tensors.

Eqs. (4)-(8) of arXiv:1906.04032 (Gregory and Delbourgo, IMA J. Numer. Anal. 2 (1982) 123). All
arrays have the splines along their last axis, so that each step is one pass over contiguous
memory, and no step selects by a boolean mask, so that the graph can be exported.

A spline's knots are computed in the precision of its network, and read as exact numbers in the
precision of the points: the map is then continuous, and invertible to the last digits of float64,
although its network runs in float32.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_SIZE = 0.01
"""The least width and height of a bin, in units of those of a uniform one."""

MIN_SLOPE = 1e-3
"""The least slope at a knot, before it is scaled so that a logit of 0 means a slope of 1."""


class Segment(NamedTuple):
    """The bin that a point lies in: the spline goes from (x0, y0) to (x1, y1), with slopes d0, d1."""

    x0: Tensor
    x1: Tensor
    y0: Tensor
    y1: Tensor
    d0: Tensor
    d1: Tensor

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y(x) and ln dy/dx, eqs. (4) and (5) of arXiv:1906.04032; x in [x0, x1]."""
        w, h = self.x1 - self.x0, self.y1 - self.y0
        s = h / w
        t = (x - self.x0) / w
        tt = t * (1 - t)
        denominator = s + (self.d0 + self.d1 - 2 * s) * tt
        y = self.y0 + h * (s * t * t + self.d0 * tt) / denominator
        return y, _log_slope(self, s, t, tt, denominator)

    def solve(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The x with y(x) = y, and ln dx/dy, eqs. (6)-(8) of arXiv:1906.04032; y in [y0, y1]."""
        w, h = self.x1 - self.x0, self.y1 - self.y0
        s = h / w
        q = self.d0 + self.d1 - 2 * s
        above = y - self.y0
        a = h * (s - self.d0) + above * q
        b = h * self.d0 - above * q
        c = s * above
        # This root of the two does not cancel; rounding may take the radicand of a double root
        # below zero.
        t = 2 * c / (b + (b * b + 4 * a * c).clamp(min=0).sqrt())
        tt = t * (1 - t)
        return self.x0 + t * w, -_log_slope(self, s, t, tt, s + q * tt)


def _log_slope(segment: Segment, s: Tensor, t: Tensor, tt: Tensor, denominator: Tensor) -> Tensor:
    numerator = segment.d1 * t * t + 2 * s * tt + segment.d0 * (1 - t).square()
    return ((s / denominator).square() * numerator).log()


def spline(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate one spline at each point.

    Args:
        x: in [0, 1], shape (n,).
        logits: shape (3 n_bins + 1, n): of widths, of heights, of slopes; all 0 is the identity.

    Returns:
        y: in [0, 1], shape (n,), in the precision of x.
        log_slope: ln dy/dx, shape (n,).
    """
    xs, ys, slopes = _knots(logits)
    y, log_slope = _segment(xs, ys, slopes, _bin(x, xs), x.dtype).evaluate(x)
    return y.clamp(0, 1), log_slope


def spline_inverse(y: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The x at which each spline takes the value y, and ln dx/dy; see `spline`."""
    xs, ys, slopes = _knots(logits)
    x, log_slope = _segment(xs, ys, slopes, _bin(y, ys), y.dtype).solve(y)
    return x.clamp(0, 1), log_slope


def _knots(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Abscissae and ordinates of the knots, (n_bins + 1, n), and the logits of their slopes."""
    n_bins = len(logits) // 3
    return (
        knots_of(logits[:n_bins]),
        knots_of(logits[n_bins : 2 * n_bins]),
        logits[2 * n_bins :],
    )


def knots_of(logits: Tensor) -> Tensor:
    """Partitions of the unit interval, (n_bins + 1, n), with bins of the sizes softmax(logits)."""
    n_bins = len(logits)
    sizes = torch.softmax(logits, dim=0) * (1 - MIN_SIZE) + MIN_SIZE / n_bins
    # Row by row: cumsum along the first axis walks through memory in strides, four times as slow.
    inner = accumulate(sizes[:-1].unbind())
    return torch.stack([torch.zeros_like(logits[0]), *inner, torch.ones_like(logits[0])])


def find_bin(table: Tensor, first: Tensor, stride: int, n_bins: int, values: Tensor) -> Tensor:
    """The bin that holds each value, by bisection of one partition for each, all at once.

    `torch.searchsorted` wants the partitions of all values laid out beside each other, which takes
    ten times as long.

    Args:
        table: partitions of the unit interval into n_bins bins, one-dimensional.
        first: where each value's partition begins in the table, the shape of the values.
        stride: from a knot to the next one of the same partition.
    """
    index = torch.zeros_like(first)
    step = 1 << (n_bins - 1).bit_length()
    while step := step >> 1:
        trial = (index + step).clamp(max=n_bins - 1)
        index = torch.where(values >= table[first + trial * stride], trial, index)
    return index


def _bin(values: Tensor, knots: Tensor) -> Tensor:
    """The bin that holds each value (n,) between the knots (n_bins + 1, n)."""
    return (values >= knots[1:-1]).sum(dim=0)


def _segment(
    xs: Tensor, ys: Tensor, slope_logits: Tensor, index: Tensor, dtype: torch.dtype
) -> Segment:
    n = len(index)
    lower = index * n + torch.arange(n, device=index.device)
    picked = [
        table.flatten().index_select(0, at)
        for table in (xs, ys, slope_logits)
        for at in (lower, lower + n)
    ]
    x0, x1, y0, y1 = (knot.to(dtype) for knot in picked[:4])
    return Segment(x0, x1, y0, y1, _slope(picked[4]).to(dtype), _slope(picked[5]).to(dtype))


def _slope(logit: Tensor) -> Tensor:
    return (F.softplus(logit) + MIN_SLOPE) / (math.log(2) + MIN_SLOPE)
