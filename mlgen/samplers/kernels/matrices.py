"""Products of matrices for networks, on tiles of points, in blocks of 4 x 4: all sizes are multiples of 4.

Not `np.dot`: the library behind it starts threads of its own, which wait for each other.
"""

from __future__ import annotations

from mlgen.samplers.kernels.elementary import F0, F1
from mlgen.samplers.kernels.jit import Floats, inner, reordered
from mlgen.samplers.kernels.logits import TILE


@inner
def multiply(weight: Floats, rows: Floats, out: Floats) -> None:
    """Add weight (n_out, n_in) times rows (n_in, TILE) to out."""
    for j in range(0, len(weight), 4):
        to0, to1, to2, to3 = out[j], out[j + 1], out[j + 2], out[j + 3]
        for k in range(0, weight.shape[1], 4):
            r0, r1, r2, r3 = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
            a, b, c, d = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
            a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            c0, c1, c2, c3 = c[k], c[k + 1], c[k + 2], c[k + 3]
            d0, d1, d2, d3 = d[k], d[k + 1], d[k + 2], d[k + 3]
            for t in range(TILE):
                x0, x1, x2, x3 = r0[t], r1[t], r2[t], r3[t]
                to0[t] = to0[t] + a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                to1[t] = to1[t] + b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                to2[t] = to2[t] + c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                to3[t] = to3[t] + d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3


@reordered
def add_products(left: Floats, right: Floats, out: Floats) -> None:
    """Add left (n_left, TILE) times the transpose of right (n_right, TILE) to out."""
    for j in range(0, len(out), 2):
        l0, l1 = left[j], left[j + 1]
        for k in range(0, out.shape[1], 4):
            r0, r1, r2, r3 = right[k], right[k + 1], right[k + 2], right[k + 3]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = F0
            for t in range(TILE):
                a, b = l0[t], l1[t]
                a0 += a * r0[t]
                a1 += a * r1[t]
                a2 += a * r2[t]
                a3 += a * r3[t]
                b0 += b * r0[t]
                b1 += b * r1[t]
                b2 += b * r2[t]
                b3 += b * r3[t]
            of_0, of_1 = out[j, k : k + 4], out[j + 1, k : k + 4]
            of_0[0] += a0
            of_0[1] += a1
            of_0[2] += a2
            of_0[3] += a3
            of_1[0] += b0
            of_1[1] += b1
            of_1[2] += b2
            of_1[3] += b3


@reordered
def add_sums(rows: Floats, out: Floats) -> None:
    """Add the sums of rows (n_rows, TILE) to out (n_rows,)."""
    for j in range(len(out)):
        total, row = F0, rows[j]
        for t in range(TILE):
            total += row[t]
        out[j] += total


@inner
def add_layer(weight: Floats, bias: Floats, rows: Floats, out: Floats) -> None:
    """A linear layer of rows (n_in, TILE) with bias (1, n_out), into out (n_out, TILE)."""
    for j in range(len(out)):
        out[j, :] = bias[0, j]
    multiply(weight, rows, out)


@inner
def rectify(rows: Floats) -> None:
    """Clamp rows (n_rows, TILE) below at 0."""
    for j in range(len(rows)):
        row = rows[j]
        for t in range(TILE):
            # A maximum would become a masked store, which takes ten times as long.
            row[t] -= row[t] if row[t] < F0 else F0


@inner
def rectified_gradient(rows: Floats, of_rows: Floats) -> None:
    """Through `rectify`, whose results are the rows (n_rows, TILE)."""
    for j in range(len(rows)):
        row, of_row = rows[j], of_rows[j]
        for t in range(TILE):
            of_row[t] *= F1 if row[t] > F0 else F0
