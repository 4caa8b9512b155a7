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
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_SIZE = 0.01
"""The least width and height of a bin, in units of those of a uniform one."""

MIN_SLOPE = 1e-3
"""The least slope at a knot, before it is scaled so that a logit of 0 means a slope of 1."""

SLOPE_OF_ZERO = math.log(2) + MIN_SLOPE


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
        return y, self._log_slope(s, t, tt, denominator)

    def solve(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The x with y(x) = y, and ln dx/dy, eqs. (6)-(8) of arXiv:1906.04032; y in [y0, y1]."""
        w, h = self.x1 - self.x0, self.y1 - self.y0
        s = h / w
        q = self.d0 + self.d1 - 2 * s
        above = y - self.y0
        a = h * (s - self.d0) + above * q
        b = h * self.d0 - above * q
        c = s * above
        # Of the two roots the one that does not cancel; rounding may take the radicand of a
        # double root below zero.
        t = 2 * c / (b + (b * b + 4 * a * c).clamp(min=0).sqrt())
        tt = t * (1 - t)
        return self.x0 + t * w, -self._log_slope(s, t, tt, s + q * tt)

    def _log_slope(self, s: Tensor, t: Tensor, tt: Tensor, denominator: Tensor) -> Tensor:
        numerator = self.d1 * t * t + 2 * s * tt + self.d0 * (1 - t).square()
        return ((s / denominator).square() * numerator).log()


def spline(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate one spline at each point.

    Args:
        x: in [0, 1], shape (n,).
        logits: shape (3 n_bins + 1, n): of widths, of heights, of slopes; all 0 is the identity.

    Returns:
        y: in [0, 1), shape (n,), in the precision of x.
        log_slope: ln dy/dx, shape (n,).
    """
    xs, ys, slopes = _tables(logits)
    y, log_slope = _segment(xs, ys, slopes, _bin(x, xs), x.dtype).evaluate(x)
    return _inside(y), log_slope


def spline_inverse(y: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The x at which each spline takes the value y, and ln dx/dy; see `spline`."""
    xs, ys, slopes = _tables(logits)
    x, log_slope = _segment(xs, ys, slopes, _bin(y, ys), y.dtype).solve(y)
    return _inside(x), log_slope


def _inside(points: Tensor) -> Tensor:
    # Rounding, above all to float32, must not take a point of the open cube to where r = 1.
    return points.clamp(0.0, 1 - torch.finfo(points.dtype).eps / 2)


def partition(logits: Tensor) -> Tensor:
    """Knots that part the unit interval in bins of the sizes softmax(logits), (n_bins + 1, n)."""
    n_bins = len(logits)
    shares = torch.softmax(logits, dim=0)
    below = shares.new_ones(n_bins + 1, n_bins).tril_(-1) * (1 - MIN_SIZE)
    ramp = torch.arange(n_bins + 1, dtype=shares.dtype, device=shares.device) / n_bins
    # A running sum as a product of matrices: cumsum along the first axis takes six times as long.
    knots = torch.addmm(MIN_SIZE * ramp[:, None], below, shares)
    # The last one is 1 but for rounding. Autograd need not know: the sum of a softmax is constant.
    knots.detach()[-1] = 1
    return knots


def _tables(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Abscissae and ordinates of the knots, and the logits of their slopes: (n_bins + 1, n) each."""
    n_bins = len(logits) // 3
    widths, heights, slopes = logits.split_with_sizes([n_bins, n_bins, n_bins + 1])
    return partition(widths), partition(heights), slopes


def _bin(values: Tensor, knots: Tensor) -> Tensor:
    """The bin that holds each value (n,) between the knots (n_bins + 1, n)."""
    return (values.detach() >= knots.detach()[1:-1]).sum(dim=0)


def _segment(xs: Tensor, ys: Tensor, slopes: Tensor, index: Tensor, dtype: torch.dtype) -> Segment:
    at = torch.stack([index, index + 1])
    x, y = xs.gather(0, at).to(dtype), ys.gather(0, at).to(dtype)
    d = (F.softplus(slopes.gather(0, at)) + MIN_SLOPE).to(dtype) / SLOPE_OF_ZERO
    return Segment(*x.unbind(), *y.unbind(), *d.unbind())


def table_spline(
    x: Tensor, which: Tensor, xs: Tensor, ys: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """Evaluate at each point one of several splines that are given by tables.

    Args:
        x: in [0, 1], shape (n,).
        which: the spline of each point, shape (n,).
        xs, ys, slopes: at the knots, shape (n_splines, n_bins + 1); no gradient is computed for xs.

    Returns:
        y: in [0, 1), shape (n,).
        log_slope: ln dy/dx, shape (n,).
    """
    y, log_slope = _table_segment(x, which, xs, (xs.detach(), ys, slopes)).evaluate(x)
    return _inside(y), log_slope


def table_spline_inverse(
    y: Tensor, which: Tensor, xs: Tensor, ys: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """The x at which the splines take the values y, and ln dx/dy; see `table_spline`."""
    x, log_slope = _table_segment(y, which, ys, (xs.detach(), ys, slopes)).solve(y)
    return _inside(x), log_slope


def _table_segment(
    values: Tensor, which: Tensor, knots: Tensor, tables: tuple[Tensor, ...]
) -> Segment:
    n_knots = knots.shape[1]
    at = find_knot(knots.flatten(), which * n_knots, 1, n_knots - 1, values)
    at = torch.stack([at, at + 1])
    picked = (table.flatten().index_select(0, at.flatten()).view_as(at) for table in tables)
    return Segment(*(part for pair in picked for part in pair))


def find_knot(table: Tensor, first: Tensor, stride: int, n_bins: int, values: Tensor) -> Tensor:
    """Where in a table the last knot stands that is not above a value, by bisection.

    `torch.searchsorted` wants the partitions of all values laid out beside each other, which takes
    ten times as long.

    Args:
        table: partitions of the unit interval into n_bins bins, one-dimensional.
        first: where in the table each value's partition begins, the shape of the values.
        stride: from a knot to the next one of the same partition.
    """
    at, table, values = first, table.detach(), values.detach()
    while n_bins > 1:
        half = n_bins // 2
        probe = table.index_select(0, (at + half * stride).flatten()).view_as(values)
        at = at + (values >= probe) * (half * stride)
        n_bins -= half
    return at
