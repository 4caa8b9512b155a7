"""Splines of logits, as coupling blocks have them, a tile of points at a time, in float32.

The numbers of a tile stand in rows of one array, at fixed places: LLVM then knows that they do not
overlap, without which it does not vectorise loops over many of them. FROM is the side of the
spline, x or y, that points are given on, and TO the other one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlgen.samplers.kernels.bins import evaluate_bin, gradient_in_bin, solve_bin
from mlgen.samplers.kernels.elementary import F0, F1, exp, log, sigmoid, softplus
from mlgen.samplers.kernels.jit import Floats, inner
from mlgen.samplers.splines import MIN_SIZE, MIN_SLOPE, SLOPE_OF_ZERO

TILE = 256
"""Points at a time: what is remembered of them stays in the caches next to the core."""

KEPT = np.float32(1 - MIN_SIZE)
LEAST_SLOPE = np.float32(MIN_SLOPE)
UNIT_SLOPE = np.float32(1 / SLOPE_OF_ZERO)
BELOW_1 = np.nextafter(np.float32(1), np.float32(0))

(FROM, LOW_FROM, SIZE_FROM, LOW_TO, SIZE_TO, LOGIT0, LOGIT1, D0, D1, TO, LOG, EDGE, PEAK) = (
    np.int64(row * TILE) for row in range(13)
)
SCALE_FROM, SCALE_TO, INDEX, OF_Y, OF_LOG, OF_X, OF_W, OF_H = (
    np.int64(row * TILE) for row in range(13, 21)
)
N_WORK = 21 * TILE


@inner
def softmax(
    logits: Floats, first: int, which: int, shares: Floats, work: Floats, scale: Any
) -> None:
    """Unnormalised shares (n_bins, TILE), and in the row `scale` what to multiply them by."""
    peak, total = work[PEAK : PEAK + TILE], work[scale : scale + TILE]
    row = logits[first, which]
    for t in range(TILE):
        peak[t], total[t] = row[t], F0
    for k in range(1, len(shares)):
        row = logits[first + k, which]
        for t in range(TILE):
            # A maximum would become a masked store, which takes ten times as long.
            above = row[t] - peak[t]
            peak[t] += F0 if above < F0 else above
    for k in range(len(shares)):
        row, share = logits[first + k, which], shares[k]
        for t in range(TILE):
            e = exp(row[t] - peak[t])
            share[t] = e
            total[t] += e
    for t in range(TILE):
        total[t] = KEPT / total[t]


@inner
def find_bin(logits: Floats, which: int, froms: Floats, tos: Floats, work: Floats) -> None:
    """The bins of the points FROM, given the shares of both sides (n_bins, TILE): rows up to D1."""
    n_bins = len(froms)
    least = np.float32(MIN_SIZE / n_bins)
    value, edge = work[FROM : FROM + TILE], work[EDGE : EDGE + TILE]
    scale_from, scale_to = work[SCALE_FROM : SCALE_FROM + TILE], work[SCALE_TO : SCALE_TO + TILE]
    low_from, low_to = work[LOW_FROM : LOW_FROM + TILE], work[LOW_TO : LOW_TO + TILE]
    index = work[INDEX : INDEX + TILE]
    for t in range(TILE):
        index[t], edge[t], low_from[t], low_to[t] = F0, F0, F0, F0
    for k in range(n_bins - 1):
        share_from, share_to = froms[k], tos[k]
        for t in range(TILE):
            size = share_from[t] * scale_from[t] + least
            edge[t] += size
            beyond = value[t] >= edge[t]
            low_from[t] += size if beyond else F0
            index[t] += F1 if beyond else F0
        for t in range(TILE):
            size = share_to[t] * scale_to[t] + least
            low_to[t] += size if value[t] >= edge[t] else F0
    for t in range(TILE):
        k = int(index[t])
        work[SIZE_FROM + t] = froms[k, t]
        work[SIZE_TO + t] = tos[k, t]
        work[LOGIT0 + t] = logits[2 * n_bins + k, which, t]
        work[LOGIT1 + t] = logits[2 * n_bins + k + 1, which, t]
    for t in range(TILE):
        work[SIZE_FROM + t] = work[SIZE_FROM + t] * work[SCALE_FROM + t] + least
        work[SIZE_TO + t] = work[SIZE_TO + t] * work[SCALE_TO + t] + least
        work[D0 + t] = (softplus(work[LOGIT0 + t]) + LEAST_SLOPE) * UNIT_SLOPE
        work[D1 + t] = (softplus(work[LOGIT1 + t]) + LEAST_SLOPE) * UNIT_SLOPE


@inner
def find_segments(
    points: Floats, logits: Floats, which: int, inverse: bool, shares: Floats, work: Floats
) -> None:
    """Fill the rows up to D1 for the points (n,), and the shares (2, n_bins, TILE).

    Args:
        logits: those of several splines for each point, (n_logits, n_splines, TILE).
        which: one of them.
    """
    n_bins = len(logits) // 3
    work[FROM : FROM + TILE] = F0
    for t in range(len(points)):
        work[FROM + t] = points[t]
    softmax(logits, n_bins if inverse else 0, which, shares[0], work, SCALE_FROM)
    softmax(logits, 0 if inverse else n_bins, which, shares[1], work, SCALE_TO)
    find_bin(logits, which, shares[0], shares[1], work)


@inner
def evaluate(work: Floats) -> None:
    """Fill the rows TO and LOG, y(x) and ln dy/dx, after `find_segments`."""
    for t in range(TILE):
        to, slope = evaluate_bin(
            work[FROM + t],
            work[LOW_FROM + t],
            work[SIZE_FROM + t],
            work[LOW_TO + t],
            work[SIZE_TO + t],
            work[D0 + t],
            work[D1 + t],
        )
        work[TO + t] = BELOW_1 if to > BELOW_1 else to
        work[LOG + t] = log(slope)


@inner
def solve(work: Floats) -> None:
    """Fill the rows TO and LOG, x(y) and ln dx/dy, after `find_segments`."""
    for t in range(TILE):
        to, slope = solve_bin(
            work[FROM + t],
            work[LOW_TO + t],
            work[SIZE_TO + t],
            work[LOW_FROM + t],
            work[SIZE_FROM + t],
            work[D0 + t],
            work[D1 + t],
        )
        work[TO + t] = BELOW_1 if to > BELOW_1 else to
        work[LOG + t] = -log(slope)


@inner
def logit_gradient(which: int, shares: Floats, work: Floats, of_logits: Floats) -> None:
    """Gradients of `evaluate` towards x, in the row OF_X, and the logits (n_logits, n_splines, TILE).

    Given those of y and of ln dy/dx in the rows OF_Y and OF_LOG, after `find_segments`.
    """
    n_bins = len(of_logits) // 3
    index = work[INDEX : INDEX + TILE]
    for t in range(TILE):
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
    # Towards the lower edge: minus OF_X, and OF_Y.
    rows = OF_X, OF_W, LOW_FROM, SIZE_FROM, SCALE_FROM
    size_gradient(rows, -F1, shares[0], work, of_logits[:n_bins], which)
    rows = OF_Y, OF_H, LOW_TO, SIZE_TO, SCALE_TO
    size_gradient(rows, F1, shares[1], work, of_logits[n_bins : 2 * n_bins], which)
    for k in range(n_bins + 1):
        row, at = of_logits[2 * n_bins + k, which], np.float32(k)
        for t in range(TILE):
            lower = work[LOGIT0 + t] if index[t] == at else F0
            row[t] = lower + (work[LOGIT1 + t] if index[t] + F1 == at else F0)


@inner
def size_gradient(
    rows: Any,
    sign: Any,
    shares: Floats,
    work: Floats,
    of_logits: Floats,
    which: int,
) -> None:
    """Gradients towards the logits of sizes, through the lower edge and the size of the bin."""
    of_low, inside, low, size, factor = (
        work[rows[0] : rows[0] + TILE],
        work[rows[1] : rows[1] + TILE],
        work[rows[2] : rows[2] + TILE],
        work[rows[3] : rows[3] + TILE],
        work[rows[4] : rows[4] + TILE],
    )
    index, mean, below = (
        work[INDEX : INDEX + TILE],
        work[EDGE : EDGE + TILE],
        work[PEAK : PEAK + TILE],
    )
    least = np.float32(MIN_SIZE / len(shares))
    for t in range(TILE):
        below[t] = sign * of_low[t]
        mean[t] = below[t] * (low[t] - index[t] * least)
    for t in range(TILE):
        mean[t] = (mean[t] + inside[t] * (size[t] - least)) / KEPT
    for k in range(len(shares)):
        row, share, at = of_logits[k, which], shares[k], np.float32(k)
        for t in range(TILE):
            towards = below[t] if at < index[t] else F0
            towards += inside[t] if at == index[t] else F0
            row[t] = share[t] * factor[t] * (towards - mean[t])
