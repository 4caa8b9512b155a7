"""Splines of tables, one for each channel and dimension, point by point, in float64."""

from __future__ import annotations

import numpy as np

from mlgen.samplers.kernels.bins import evaluate_bin, gradient_in_bin, solve_bin
from mlgen.samplers.kernels.jit import Floats, Ints, inner, kernel

TILE = 256
"""Points at a time."""

BELOW_1 = np.nextafter(1.0, 0.0)

AT_ONCE = 8
"""So many slopes have one logarithm: their product neither overflows nor underflows."""


@inner
def find_knots(points: Floats, splines: Ints, table: Floats, at: Ints) -> None:
    """Where in the rows of a table the last knots stand that are not above the points (n,)."""
    at[:] = 0
    n_bins = table.shape[1] - 1
    while n_bins > 1:
        half = n_bins // 2
        # All points before the next step: the processor need not guess where each will go.
        for t in range(len(points)):
            at[t] += half * (points[t] >= table[splines[t], at[t] + half])
        n_bins -= half


@kernel
def map_by_table(
    columns: Floats,
    channel: Ints,
    xs: Floats,
    ys: Floats,
    slopes: Floats,
    inverse: bool,
    moved: Floats,
    log_det: Floats,
) -> None:
    """Splines of the columns (n_dim, n), or their inverses, into moved and log_det (n,).

    Args:
        xs, ys, slopes: at the knots, (n_channels n_dim, n_bins + 1), those of a channel together.
    """
    n_dim, n_points = columns.shape
    knots, splines = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    product = np.empty(TILE)
    for start in range(0, n_points, TILE):
        n = min(TILE, n_points - start)
        log_det[start : start + n] = 0
        product[:] = 1
        for dim in range(n_dim):
            points, to = columns[dim, start : start + n], moved[dim, start : start + n]
            for t in range(n):
                splines[t] = channel[start + t] * n_dim + dim
            find_knots(points, splines, ys if inverse else xs, knots)
            for t in range(n):
                i, k = splines[t], knots[t]
                x0, y0, d0, d1 = xs[i, k], ys[i, k], slopes[i, k], slopes[i, k + 1]
                w, h = xs[i, k + 1] - x0, ys[i, k + 1] - y0
                if inverse:
                    one, slope = solve_bin(points[t], x0, w, y0, h, d0, d1)
                else:
                    one, slope = evaluate_bin(points[t], x0, w, y0, h, d0, d1)
                to[t] = BELOW_1 if one > BELOW_1 else one
                product[t] *= slope
            if dim % AT_ONCE == AT_ONCE - 1 or dim == n_dim - 1:
                for t in range(n):
                    log = np.log(product[t])
                    log_det[start + t] += -log if inverse else log
                product[:] = 1


@kernel
def table_gradient(
    columns: Floats,
    channel: Ints,
    xs: Floats,
    ys: Floats,
    slopes: Floats,
    of_moved: Floats,
    of_log_det: Floats,
    of_columns: Floats,
    of_ys: Floats,
    of_slopes: Floats,
) -> None:
    """Gradients of `map_by_table` where it is not the inverse, given those of what it makes."""
    of_ys[:] = 0
    of_slopes[:] = 0
    n_dim, n_points = columns.shape
    knots, splines = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    for dim in range(n_dim):
        for start in range(0, n_points, TILE):
            n = min(TILE, n_points - start)
            points = columns[dim, start : start + n]
            for t in range(n):
                splines[t] = channel[start + t] * n_dim + dim
            find_knots(points, splines, xs, knots)
            for t in range(n):
                i, k = splines[t], knots[t]
                w, h = xs[i, k + 1] - xs[i, k], ys[i, k + 1] - ys[i, k]
                of_y = of_moved[dim, start + t]
                of_columns[dim, start + t], _, of_h, of_d0, of_d1 = gradient_in_bin(
                    points[t],
                    xs[i, k],
                    w,
                    h,
                    slopes[i, k],
                    slopes[i, k + 1],
                    of_y,
                    of_log_det[start + t],
                )
                of_ys[i, k] += of_y - of_h
                of_ys[i, k + 1] += of_h
                of_slopes[i, k] += of_d0
                of_slopes[i, k + 1] += of_d1
