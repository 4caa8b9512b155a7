"""Whole coupling blocks, network and splines, with and without their gradients.

Layers are pairs of weights (n_out, n_in) and biases (1, n_out): the first, with a bias for each
channel (n_channels, n_out); those between, one after the other (n_layers - 1, ...); the last. All
sizes but n_channels and n_layers are filled up with zeros to multiples of 4. Rows are numbers of a
tile of points (..., TILE), columns those of all points (n_dim, n).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlgen.samplers.kernels.elementary import F0, F1
from mlgen.samplers.kernels.jit import Floats, Ints, inner, kernel
from mlgen.samplers.kernels.logits import (
    LOG,
    OF_LOG,
    OF_X,
    OF_Y,
    TILE,
    TO,
    evaluate,
    find_segments,
    logit_gradient,
    solve,
)
from mlgen.samplers.kernels.matrices import (
    add_layer,
    add_products,
    add_sums,
    multiply,
    rectified_gradient,
    rectify,
)

F2 = np.float32(2)


@inner
def activate(
    layers: Any, columns: Floats, kept: Ints, channel: Ints, start: int, n: int, rows: Any
) -> None:
    """The network up to its last hidden layer, for the n <= TILE points from start on.

    Fills two of the rows: what the network is given, and what each hidden layer makes of it.
    """
    (first, first_bias), (between, between_bias), _ = layers
    condition, hidden = rows
    for i in range(len(kept)):
        row, column = condition[i], columns[kept[i]]
        row[n:] = F0
        for t in range(n):
            row[t] = F2 * column[start + t] - F1
    for j in range(len(first)):
        row = hidden[0, j]
        row[:] = first_bias[0, j]
        if len(first_bias) > 1:
            for t in range(n):
                row[t] = first_bias[channel[start + t], j]
    multiply(first, condition, hidden[0])
    rectify(hidden[0])
    for layer in range(len(between)):
        add_layer(between[layer], between_bias[layer], hidden[layer], hidden[layer + 1])
        rectify(hidden[layer + 1])


@kernel
def couple(
    columns: Floats,
    channel: Ints,
    kept: Ints,
    moved: Ints,
    layers: Any,
    rows: Any,
    logits: Floats,
    shares: Floats,
    work: Floats,
    inverse: bool,
    log_det: Floats,
) -> None:
    """A coupling block of the columns, in place, and log_det (n,).

    Args:
        kept, moved: the dimensions that the network is given, and those that splines move.
        rows: to be filled, those that networks are given, of hidden layers (n_layers, n_hidden,
            TILE), and of the last one.
        logits: the last ones, as (n_logits, n_moved, TILE).
        shares, work: to be filled, (2, n_bins, TILE) and (N_WORK,).
        inverse: the splines are given their y.
    """
    condition, hidden, outputs = rows
    for start in range(0, columns.shape[1], TILE):
        n = min(TILE, columns.shape[1] - start)
        activate(layers, columns, kept, channel, start, n, (condition, hidden))
        add_layer(layers[2][0], layers[2][1], hidden[-1], outputs)
        log_det[start : start + n] = F0
        for i in range(len(moved)):
            column = columns[moved[i], start : start + n]
            find_segments(column, logits, i, inverse, shares, work)
            if inverse:
                solve(work)
            else:
                evaluate(work)
            for t in range(n):
                column[t] = work[TO + t]
                log_det[start + t] += work[LOG + t]


@kernel
def couple_gradient(
    columns: Floats,
    channel: Ints,
    kept: Ints,
    moved: Ints,
    layers: Any,
    rows: Any,
    logits: Floats,
    shares: Floats,
    work: Floats,
    of_after: Floats,
    of_log_det: Floats,
    transposed: Any,
    of_columns: Floats,
    of_layers: Any,
    of_rows: Any,
    of_logits: Floats,
) -> None:
    """Gradients of `couple` where it is not the inverse, given those of what it makes.

    Args:
        columns: those before `couple`; the next ones are as there.
        of_after, of_log_det: towards the columns after `couple`, and log_det.
        transposed: the weights of the layers, each transposed.
        of_columns: to be filled, towards the columns before `couple`.
        of_layers: to be added to, towards the layers.
        of_rows, of_logits: to be filled.
    """
    condition, hidden, outputs = rows
    of_condition, of_hidden, of_outputs = of_rows
    (of_first, of_first_bias), (of_between, of_between_bias), (of_last, of_last_bias) = of_layers
    for start in range(0, columns.shape[1], TILE):
        n = min(TILE, columns.shape[1] - start)
        activate(layers, columns, kept, channel, start, n, (condition, hidden))
        add_layer(layers[2][0], layers[2][1], hidden[-1], outputs)
        work[OF_Y : OF_Y + TILE] = F0
        work[OF_LOG : OF_LOG + TILE] = F0
        for i in range(len(moved)):
            dim = moved[i]
            find_segments(columns[dim, start : start + n], logits, i, False, shares, work)
            for t in range(n):
                work[OF_Y + t] = of_after[dim, start + t]
                work[OF_LOG + t] = of_log_det[start + t]
            logit_gradient(i, shares, work, of_logits)
            for t in range(n):
                of_columns[dim, start + t] = work[OF_X + t]
        # Back through the network.
        add_products(of_outputs, hidden[-1], of_last)
        add_sums(of_outputs, of_last_bias[0])
        of_hidden[:] = F0
        multiply(transposed[2], of_outputs, of_hidden[-1])
        for layer in range(len(of_between) - 1, -1, -1):
            rectified_gradient(hidden[layer + 1], of_hidden[layer + 1])
            add_products(of_hidden[layer + 1], hidden[layer], of_between[layer])
            add_sums(of_hidden[layer + 1], of_between_bias[layer, 0])
            multiply(transposed[1][layer], of_hidden[layer + 1], of_hidden[layer])
        rectified_gradient(hidden[0], of_hidden[0])
        add_products(of_hidden[0], condition, of_first)
        add_bias_gradient(of_hidden[0], channel[start : start + n], of_first_bias)
        of_condition[:] = F0
        multiply(transposed[0], of_hidden[0], of_condition)
        for i in range(len(kept)):
            dim, row = kept[i], of_condition[i]
            for t in range(n):
                of_columns[dim, start + t] = of_after[dim, start + t] + F2 * row[t]


@inner
def add_bias_gradient(of_rows: Floats, channel: Ints, of_bias: Floats) -> None:
    """Add to of_bias (n_channels, n_hidden) what the points (n,) of each channel give."""
    if len(of_bias) == 1:
        add_sums(of_rows, of_bias[0])
    else:
        for t in range(len(channel)):
            of_row = of_bias[channel[t]]
            for j in range(len(of_row)):
                of_row[j] += of_rows[j, t]
