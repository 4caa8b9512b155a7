"""The splines of splines.py compiled for one CPU core by numba; compiled_splines.py is the way to them.

Those of logits, of coupling blocks, are in float32 and in tiles of points, one bin of all of them
after the other: the innermost loop runs over neighbours in memory, has no branch and calls nothing,
and so is vectorised, for any number of bins. Those of tables are in float64, point by point.

Nothing is assumed of numbers (`fastmath` is no more than fused multiplication and addition): what
is not a number comes out as one that is not. Constants are float32, as numba computes in float64
whatever meets a Python number; with points in float64 they become float64 of the same value.

All that is compiled stands in this file: numba's cache notices changes of the file that a function
stands in, and not of those that it calls functions from.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlgen.samplers.splines import MIN_SIZE, MIN_SLOPE, SLOPE_OF_ZERO

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

TILE = 256
"""Points at a time: all that is remembered of them stays in the first-level cache."""

compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})

F0, F1, F2, F4, HALF = (np.float32(number) for number in (0, 1, 2, 4, 0.5))

KEPT = np.float32(1 - MIN_SIZE)
LEAST_SLOPE = np.float32(MIN_SLOPE)
UNIT_SLOPE = np.float32(1 / SLOPE_OF_ZERO)
BELOW_1, BELOW_1_SINGLE = np.nextafter(1.0, 0.0), np.nextafter(np.float32(1), np.float32(0))

# --- exp and log -----------------------------------------------------------------------------
# expf and logf of the Cephes library (S. L. Moshier, netlib.org/cephes, single precision). numba
# finds no vectorised ones.

LOG2_E = np.float32(1 / math.log(2))
LN2, LN2_HIGH, LN2_LOW = (
    np.float32(math.log(2)),
    np.float32(0.693359375),
    np.float32(-2.12194440e-4),
)
LOWEST_EXPONENT = np.float32(-87)
X0, X1, X2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
X3, X4, X5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
L0, L1, L2 = np.float32(7.0376836292e-2), np.float32(-1.1514610310e-1), np.float32(1.1676998740e-1)
L3, L4, L5 = np.float32(-1.2420140846e-1), np.float32(1.4249322787e-1), np.float32(-1.6668057665e-1)
L6, L7, L8 = np.float32(2.0000714765e-1), np.float32(-2.4999993993e-1), np.float32(3.3333331174e-1)
LEAST, GREATEST, NAN = np.float32(2**-126), np.finfo(np.float32).max, np.float32(np.nan)
EXPONENT_BITS, BIAS = np.int32(23), np.int32(127)
SQRT_HALF_BITS = np.int32(0x3F3504F3)
"""sqrt(1/2) as an integer."""


@compiled
def exp(x: Any) -> Any:
    """e^x for x <= 0; below -87, where float32 ends, e^-87."""
    x = LOWEST_EXPONENT if x < LOWEST_EXPONENT else x
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LN2
    p = ((((X0 * r + X1) * r + X2) * r + X3) * r + X4) * r + X5
    power = np.int32((np.int32(n) + BIAS) << EXPONENT_BITS)
    return (p * (r * r) + r + F1) * power.view(np.float32)


@compiled
def log(x: Any) -> Any:
    """ln x for normal x > 0, and NaN for all else."""
    bits = np.float32(x).view(np.int32)
    e = np.int32(np.int32(bits - SQRT_HALF_BITS) >> EXPONENT_BITS)
    r = np.int32(bits - np.int32(e << EXPONENT_BITS)).view(np.float32) - F1
    n, rr = np.float32(e), r * r
    p = (((((((L0 * r + L1) * r + L2) * r + L3) * r + L4) * r + L5) * r + L6) * r + L7) * r + L8
    result = r * rr * p + n * LN2_LOW - HALF * rr + r + n * LN2_HIGH
    return result if LEAST <= x <= GREATEST else NAN


@compiled
def softplus(x: Any) -> Any:
    """ln(1 + e^x)."""
    e = exp(-abs(x))
    above = F1 + e
    # The second term is what rounding took from 1 + e.
    return (F0 if x < F0 else x) + log(above) + (e - (above - F1)) / above


@compiled
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    e = exp(-abs(x))
    return (e if x < F0 else F1) / (F1 + e)


# --- one bin ---------------------------------------------------------------------------------


@compiled
def evaluate_bin(x: Any, x0: Any, w: Any, y0: Any, h: Any, d0: Any, d1: Any) -> Any:
    """y and dy/dx, eqs. (4) and (5) of arXiv:1906.04032, in a bin of size (w, h) at (x0, y0)."""
    s = h / w
    t = (x - x0) / w
    t = F1 if t > F1 else t
    u = F1 - t
    tt = t * u
    denominator = s + (d0 + d1 - F2 * s) * tt
    g = s / denominator
    y = y0 + h * (s * t * t + d0 * tt) / denominator
    return y, g * g * (d1 * t * t + F2 * s * tt + d0 * u * u)


@compiled
def solve_bin(y: Any, x0: Any, w: Any, y0: Any, h: Any, d0: Any, d1: Any) -> Any:
    """The x with y(x) = y, and dy/dx, eqs. (6)-(8) of arXiv:1906.04032; see `evaluate_bin`."""
    s = h / w
    q = d0 + d1 - F2 * s
    above = y - y0
    a = h * (s - d0) + above * q
    b = h * d0 - above * q
    c = s * above
    radicand = b * b + F4 * a * c
    radicand = F0 * radicand if radicand < F0 else radicand
    t = F2 * c / (b + np.sqrt(radicand))
    t = F1 if t > F1 else t
    u = F1 - t
    tt = t * u
    g = s / (s + q * tt)
    return x0 + t * w, g * g * (d1 * t * t + F2 * s * tt + d0 * u * u)


@compiled
def gradient_in_bin(
    x: Any, x0: Any, w: Any, h: Any, d0: Any, d1: Any, of_y: Any, of_log: Any
) -> Any:
    """Gradients towards x, w, h, d0 and d1, given those of y and of ln dy/dx.

    That towards x0 is minus the one towards x, and that towards y0 is that of y.
    """
    s = h / w
    t = (x - x0) / w
    t = F1 if t > F1 else t
    u = F1 - t
    tt = t * u
    q = d0 + d1 - F2 * s
    # y = y0 + h top / denominator, ln dy/dx = 2 ln s - 2 ln denominator + ln slope
    denominator = s + q * tt
    top = s * t * t + d0 * tt
    slope = d1 * t * t + F2 * s * tt + d0 * u * u
    of_h = of_y * top / denominator
    of_top = of_y * h / denominator
    of_denominator = -(of_h * h + F2 * of_log) / denominator
    of_slope = of_log / slope
    of_q = of_denominator * tt
    of_tt = of_top * d0 + of_denominator * q + F2 * of_slope * s
    of_t = F2 * (of_top * s * t + of_slope * (d1 * t - d0 * u)) + of_tt * (u - t)
    of_d0 = of_top * tt + of_slope * u * u + of_q
    of_d1 = of_slope * t * t + of_q
    of_s = F2 * of_log / s + of_top * t * t + of_denominator + F2 * (of_slope * tt - of_q)
    of_x = of_t / w
    return of_x, -(of_s * s + of_t * t) / w, of_h + of_s / w, of_d0, of_d1


# --- splines of logits, in tiles -------------------------------------------------------------
# The numbers of a tile stand in rows of one array, at fixed places: LLVM then knows that they do
# not overlap, without which it does not vectorise loops over many of them. FROM is the side of
# the spline, x or y, that points are given on, and TO the other one.

(FROM, LOW_FROM, SIZE_FROM, LOW_TO, SIZE_TO, LOGIT0, LOGIT1, D0, D1, TO, LOG, EDGE, PEAK) = (
    np.int64(row * TILE) for row in range(13)
)
SCALE_FROM, SCALE_TO, INDEX, OF_Y, OF_LOG, OF_X, OF_W, OF_H = (
    np.int64(row * TILE) for row in range(13, 21)
)
N_WORK = 21 * TILE


@compiled
def softmax(
    logits: Floats, first: int, start: int, n: int, shares: Floats, work: Floats, scale: Any
) -> None:
    """Unnormalised shares (n_bins, TILE), and in the row `scale` what to multiply them by."""
    peak, total = work[PEAK : PEAK + n], work[scale : scale + n]
    peak[:] = logits[first, start : start + n]
    total[:] = F0
    for k in range(1, len(shares)):
        row = logits[first + k, start : start + n]
        for t in range(n):
            # A maximum would become a masked store, which takes ten times as long.
            above = row[t] - peak[t]
            peak[t] += F0 if above < F0 else above
    for k in range(len(shares)):
        row, share = logits[first + k, start : start + n], shares[k]
        for t in range(n):
            e = exp(row[t] - peak[t])
            share[t] = e
            total[t] += e
    for t in range(n):
        total[t] = KEPT / total[t]


@compiled
def find_bin(logits: Floats, start: int, n: int, froms: Floats, tos: Floats, work: Floats) -> None:
    """The bins of the points FROM, given the shares of both sides (n_bins, TILE): rows up to D1."""
    n_bins = len(froms)
    least = np.float32(MIN_SIZE / n_bins)
    value, edge = work[FROM : FROM + n], work[EDGE : EDGE + n]
    scale_from, scale_to = work[SCALE_FROM : SCALE_FROM + n], work[SCALE_TO : SCALE_TO + n]
    low_from, low_to = work[LOW_FROM : LOW_FROM + n], work[LOW_TO : LOW_TO + n]
    index = work[INDEX : INDEX + n]
    index[:], edge[:], low_from[:], low_to[:] = F0, F0, F0, F0
    for k in range(n_bins - 1):
        share_from, share_to = froms[k], tos[k]
        for t in range(n):
            size = share_from[t] * scale_from[t] + least
            edge[t] += size
            beyond = value[t] >= edge[t]
            low_from[t] += size if beyond else F0
            index[t] += F1 if beyond else F0
        for t in range(n):
            size = share_to[t] * scale_to[t] + least
            low_to[t] += size if value[t] >= edge[t] else F0
    for t in range(n):
        k = int(index[t])
        work[SIZE_FROM + t] = froms[k, t]
        work[SIZE_TO + t] = tos[k, t]
        work[LOGIT0 + t] = logits[2 * n_bins + k, start + t]
        work[LOGIT1 + t] = logits[2 * n_bins + k + 1, start + t]
    for t in range(n):
        work[SIZE_FROM + t] = work[SIZE_FROM + t] * work[SCALE_FROM + t] + least
        work[SIZE_TO + t] = work[SIZE_TO + t] * work[SCALE_TO + t] + least
        work[D0 + t] = (softplus(work[LOGIT0 + t]) + LEAST_SLOPE) * UNIT_SLOPE
        work[D1 + t] = (softplus(work[LOGIT1 + t]) + LEAST_SLOPE) * UNIT_SLOPE


@compiled
def prepare(
    points: Floats, logits: Floats, inverse: bool, start: int, n: int, shares: Floats, work: Floats
) -> None:
    """Fill the rows up to D1 for the points from start on, and the shares (2, n_bins, TILE)."""
    n_bins = len(logits) // 3
    work[FROM : FROM + n] = points[start : start + n]
    softmax(logits, n_bins if inverse else 0, start, n, shares[0], work, SCALE_FROM)
    softmax(logits, 0 if inverse else n_bins, start, n, shares[1], work, SCALE_TO)
    find_bin(logits, start, n, shares[0], shares[1], work)


@compiled
def map_tile(
    points: Floats, logits: Floats, inverse: bool, start: int, n: int, shares: Floats, work: Floats
) -> None:
    """Fill the rows TO and LOG too; see `prepare`."""
    prepare(points, logits, inverse, start, n, shares, work)
    if inverse:
        for t in range(n):
            work[TO + t], slope = solve_bin(
                work[FROM + t],
                work[LOW_TO + t],
                work[SIZE_TO + t],
                work[LOW_FROM + t],
                work[SIZE_FROM + t],
                work[D0 + t],
                work[D1 + t],
            )
            work[LOG + t] = -log(slope)
    else:
        for t in range(n):
            work[TO + t], slope = evaluate_bin(
                work[FROM + t],
                work[LOW_FROM + t],
                work[SIZE_FROM + t],
                work[LOW_TO + t],
                work[SIZE_TO + t],
                work[D0 + t],
                work[D1 + t],
            )
            work[LOG + t] = log(slope)


@compiled
def map_by_logits(
    points: Floats, logits: Floats, inverse: bool, moved: Floats, log_slope: Floats
) -> None:
    """`spline` or `spline_inverse` of the points (n,), into moved and log_slope."""
    shares = np.empty((2, len(logits) // 3, TILE), np.float32)
    work = np.empty(N_WORK, np.float32)
    for start in range(0, len(points), TILE):
        n = min(TILE, len(points) - start)
        map_tile(points, logits, inverse, start, n, shares, work)
        for t in range(n):
            to = work[TO + t]
            moved[start + t] = BELOW_1_SINGLE if to > BELOW_1_SINGLE else to
        log_slope[start : start + n] = work[LOG : LOG + n]


@compiled
def logit_gradient(
    x: Floats, logits: Floats, of_y: Floats, of_log: Floats, of_x: Floats, of_logits: Floats
) -> None:
    """Gradients towards x (n,) and the logits, given those of y and log_slope (n,) of `spline`."""
    n_bins = len(logits) // 3
    shares = np.empty((2, n_bins, TILE), np.float32)
    work = np.empty(N_WORK, np.float32)
    index = work[INDEX : INDEX + TILE]
    for start in range(0, len(x), TILE):
        n = min(TILE, len(x) - start)
        prepare(x, logits, False, start, n, shares, work)
        work[OF_Y : OF_Y + n] = of_y[start : start + n]
        work[OF_LOG : OF_LOG + n] = of_log[start : start + n]
        for t in range(n):
            work[OF_X + t], work[OF_W + t], work[OF_H + t], of_d0, of_d1 = gradient_in_bin(
                work[FROM + t],
                work[LOW_FROM + t],
                work[SIZE_FROM + t],
                work[SIZE_TO + t],
                work[D0 + t],
                work[D1 + t],
                work[OF_Y + t],
                work[OF_LOG + t],
            )
            work[LOGIT0 + t] = of_d0 * UNIT_SLOPE * sigmoid(work[LOGIT0 + t])
            work[LOGIT1 + t] = of_d1 * UNIT_SLOPE * sigmoid(work[LOGIT1 + t])
        of_x[start : start + n] = work[OF_X : OF_X + n]
        for t in range(n):
            work[OF_X + t] = -work[OF_X + t]  # now towards the lower edge
        rows = OF_X, OF_W, LOW_FROM, SIZE_FROM, SCALE_FROM
        size_gradient(rows, start, n, shares[0], work, of_logits[:n_bins])
        rows = OF_Y, OF_H, LOW_TO, SIZE_TO, SCALE_TO
        size_gradient(rows, start, n, shares[1], work, of_logits[n_bins : 2 * n_bins])
        for k in range(n_bins + 1):
            row, at = of_logits[2 * n_bins + k, start : start + n], np.float32(k)
            for t in range(n):
                lower = work[LOGIT0 + t] if index[t] == at else F0
                row[t] = lower + (work[LOGIT1 + t] if index[t] + F1 == at else F0)


@compiled
def size_gradient(
    rows: Any, start: int, n: int, shares: Floats, work: Floats, of_logits: Floats
) -> None:
    """Gradients towards the logits of sizes, through the lower edge and the size of the bin."""
    below, inside, low, size, factor = (
        work[rows[0] : rows[0] + n],
        work[rows[1] : rows[1] + n],
        work[rows[2] : rows[2] + n],
        work[rows[3] : rows[3] + n],
        work[rows[4] : rows[4] + n],
    )
    index, mean = work[INDEX : INDEX + n], work[EDGE : EDGE + n]
    least = np.float32(MIN_SIZE / len(shares))
    for t in range(n):
        mean[t] = below[t] * (low[t] - index[t] * least)
    for t in range(n):
        mean[t] = (mean[t] + inside[t] * (size[t] - least)) / KEPT
    for k in range(len(shares)):
        row, share, at = of_logits[k, start : start + n], shares[k], np.float32(k)
        for t in range(n):
            towards = below[t] if at < index[t] else F0
            towards += inside[t] if at == index[t] else F0
            row[t] = share[t] * factor[t] * (towards - mean[t])


# --- whole coupling blocks -------------------------------------------------------------------


@compiled
def multiply(weight: Floats, rows: Floats, out: Floats) -> None:
    """weight (n_out, n_in) times rows (n_in, TILE), into out.

    Not `np.dot`: the library behind it starts threads of its own, which wait for each other.
    """
    n_in = weight.shape[1]
    n_eights = n_in - n_in % 8
    for j in range(len(weight)):
        w, to = weight[j], out[j]
        to[:] = F0
        for k in range(0, n_eights, 8):
            r0, r1, r2, r3 = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
            r4, r5, r6, r7 = rows[k + 4], rows[k + 5], rows[k + 6], rows[k + 7]
            w0, w1, w2, w3, w4, w5, w6, w7 = (
                w[k], w[k + 1], w[k + 2], w[k + 3], w[k + 4], w[k + 5], w[k + 6], w[k + 7],
            )  # fmt: skip
            for t in range(TILE):
                low = w0 * r0[t] + w1 * r1[t] + w2 * r2[t] + w3 * r3[t]
                high = w4 * r4[t] + w5 * r5[t] + w6 * r6[t] + w7 * r7[t]
                to[t] += low + high
        for k in range(n_eights, n_in):
            row, number = rows[k], w[k]
            for t in range(TILE):
                to[t] += number * row[t]


@compiled
def add_bias(rows: Floats, bias: Floats) -> None:
    """Add to each row (TILE,) its number; clamp below at 0."""
    for j in range(len(rows)):
        row, number = rows[j], bias[j]
        for t in range(TILE):
            above = row[t] + number
            row[t] = F0 if above < F0 else above


@compiled
def add_channel_bias(rows: Floats, bias: Floats, channel: Ints) -> None:
    """Add to each row (TILE,) the numbers of the channels (n,), bias (n_channels, n_rows); clamp."""
    for j in range(len(rows)):
        row = rows[j]
        for t in range(len(channel)):
            above = row[t] + bias[channel[t], j]
            row[t] = F0 if above < F0 else above


@compiled
def couple(
    columns: Floats,
    channel: Ints,
    kept: Ints,
    moved: Ints,
    first: tuple[Floats, Floats],
    hidden: tuple[Floats, Floats],
    last: tuple[Floats, Floats],
    inverse: bool,
    log_det: Floats,
) -> None:
    """A coupling block of the columns (n_dim, n), in place; log_det (n,).

    The layers are pairs of weight and bias: first (n_hidden, n_kept), (n_channels, n_hidden);
    hidden (n_layers - 1, n_hidden, n_hidden), (n_layers - 1, n_hidden); last
    (n_moved n_logits, n_hidden), (n_moved n_logits,), the logits of a dimension together.
    """
    n_logits = len(last[0]) // len(moved)
    condition = np.zeros((len(kept), TILE), np.float32)
    rows = np.zeros((len(first[0]), TILE), np.float32)
    next_rows = np.zeros((len(first[0]), TILE), np.float32)
    logits = np.empty((len(last[0]), TILE), np.float32)
    shares = np.empty((2, n_logits // 3, TILE), np.float32)
    work = np.empty(N_WORK, np.float32)
    for start in range(0, columns.shape[1], TILE):
        n = min(TILE, columns.shape[1] - start)
        for i in range(len(kept)):
            row, column = condition[i], columns[kept[i], start : start + n]
            for t in range(n):
                row[t] = F2 * column[t] - F1
        multiply(first[0], condition, rows)
        if len(first[1]) == 1:
            add_bias(rows, first[1][0])
        else:
            add_channel_bias(rows, first[1], channel[start : start + n])
        for layer in range(len(hidden[0])):
            multiply(hidden[0][layer], rows, next_rows)
            add_bias(next_rows, hidden[1][layer])
            rows, next_rows = next_rows, rows
        multiply(last[0], rows, logits)
        log_det[start : start + n] = F0
        for j in range(len(logits)):
            row, number = logits[j], last[1][j]
            for t in range(TILE):
                row[t] += number
        for i in range(len(moved)):
            column = columns[moved[i], start : start + n]
            of_column = logits[i * n_logits : (i + 1) * n_logits]
            map_tile(column, of_column, inverse, 0, n, shares, work)
            for t in range(n):
                to = work[TO + t]
                column[t] = BELOW_1_SINGLE if to > BELOW_1_SINGLE else to
            for t in range(n):
                log_det[start + t] += work[LOG + t]


# --- splines of tables, point by point ---------------------------------------------------------


@compiled
def find_knots(points: Floats, which: Ints, table: Floats, at: Ints) -> None:
    """Where in the rows of a table the last knots stand that are not above the points (n,)."""
    at[:] = 0
    n_bins = table.shape[1] - 1
    while n_bins > 1:
        half = n_bins // 2
        # All points before the next step: the processor need not guess where each will go.
        for t in range(len(points)):
            at[t] += half * (points[t] >= table[which[t], at[t] + half])
        n_bins -= half


@compiled
def map_by_table(
    points: Floats,
    which: Ints,
    xs: Floats,
    ys: Floats,
    slopes: Floats,
    inverse: bool,
    moved: Floats,
    log_slope: Floats,
) -> None:
    """`table_spline` or `table_spline_inverse` of the points (n,), into moved and log_slope."""
    knots = np.empty(TILE, np.int64)
    for start in range(0, len(points), TILE):
        end = min(start + TILE, len(points))
        find_knots(points[start:end], which[start:end], ys if inverse else xs, knots[: end - start])
        for t in range(start, end):
            i, k = which[t], knots[t - start]
            x0, y0, d0, d1 = xs[i, k], ys[i, k], slopes[i, k], slopes[i, k + 1]
            w, h = xs[i, k + 1] - x0, ys[i, k + 1] - y0
            if inverse:
                to, slope = solve_bin(points[t], x0, w, y0, h, d0, d1)
                log_slope[t] = -np.log(slope)
            else:
                to, slope = evaluate_bin(points[t], x0, w, y0, h, d0, d1)
                log_slope[t] = np.log(slope)
            moved[t] = BELOW_1 if to > BELOW_1 else to


@compiled
def table_gradient(
    x: Floats,
    which: Ints,
    xs: Floats,
    ys: Floats,
    slopes: Floats,
    of_y: Floats,
    of_log: Floats,
    of_x: Floats,
    of_ys: Floats,
    of_slopes: Floats,
) -> None:
    """Gradients towards x (n,), ys and slopes, given those of y and log_slope (n,) of `table_spline`."""
    of_ys[:] = 0
    of_slopes[:] = 0
    knots = np.empty(TILE, np.int64)
    for start in range(0, len(x), TILE):
        end = min(start + TILE, len(x))
        find_knots(x[start:end], which[start:end], xs, knots[: end - start])
        for t in range(start, end):
            i, k = which[t], knots[t - start]
            w, h = xs[i, k + 1] - xs[i, k], ys[i, k + 1] - ys[i, k]
            of_x[t], _, of_h, of_d0, of_d1 = gradient_in_bin(
                x[t], xs[i, k], w, h, slopes[i, k], slopes[i, k + 1], of_y[t], of_log[t]
            )
            of_ys[i, k] += of_y[t] - of_h
            of_ys[i, k + 1] += of_h
            of_slopes[i, k] += of_d0
            of_slopes[i, k + 1] += of_d1
