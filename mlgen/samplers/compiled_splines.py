"""Coupling blocks and marginal splines compiled by numba where that is installed: several times as fast.

What is compiled stands in kernels/. It applies to tensors on the CPU, outside of graphs that are
being traced; everything else is up to splines.py. Gradients are written by hand, in the direction
of training, towards u: they remember points and parameters alone, and compute the rest once more,
which takes less time than to read it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Layers = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
"""Weights and biases: the first layer, those between, the last."""

_allowed = ContextVar("_allowed", default=True)


@contextmanager
def only_torch() -> Iterator[None]:
    """Inside, nothing compiled is used."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def is_compiled(points: Tensor, dtype: torch.dtype, inverse: bool) -> bool:
    """Whether the functions below can be asked for these points, given the dtype of parameters."""
    return (
        points.dtype == dtype
        and points.device.type == "cpu"
        and not (inverse and torch.is_grad_enabled())
        and _allowed.get()
        and not torch.compiler.is_compiling()
        and _has_numba()
    )


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


@dataclass(frozen=True)
class Block:
    """What a coupling block does to which dimensions."""

    kept: NDArray[np.int64]
    """The dimensions that the network is given, (n_kept,)."""
    moved: NDArray[np.int64]
    """Those that splines move, (n_moved,)."""
    n_channels: int
    n_hidden: int
    n_layers: int
    n_logits: int
    """Of a spline; the network's outputs are (n_logits, n_moved)."""

    @property
    def n_outputs(self) -> int:
        return self.n_logits * len(self.moved)

    def layers(self, parameters: Sequence[Tensor]) -> Layers:
        """The layers of the network as kernels/coupling.py wants them."""
        weights, biases = (_arrays(*parameters[kind::2]) for kind in (0, 1))
        n = _multiple(self.n_hidden)
        between = np.zeros((self.n_layers - 1, n, n), np.float32)
        between_bias = np.zeros((self.n_layers - 1, 1, n), np.float32)
        for layer in range(self.n_layers - 1):
            between[layer, : self.n_hidden, : self.n_hidden] = weights[layer + 1]
            between_bias[layer, 0, : self.n_hidden] = biases[layer + 1][:, 0]
        return (
            (_filled(weights[0], n), _filled(biases[0], self.n_channels)),
            (between, between_bias),
            (_filled(weights[-1], _multiple(self.n_outputs)), _filled(biases[-1].T, 1)),
        )

    def gradients(self, of_layers: Layers) -> list[Tensor]:
        """Those towards the parameters, of those towards the layers."""
        (first, first_bias), (between, between_bias), (last, last_bias) = of_layers
        n = self.n_hidden
        parts = [first[:n, : len(self.kept)], first_bias[:, :n]]
        for layer in range(self.n_layers - 1):
            parts += [between[layer, :n, :n], between_bias[layer, :, :n].T]
        parts += [last[: self.n_outputs, :n], last_bias[:, : self.n_outputs].T]
        return [torch.from_numpy(part) for part in parts]

    def rows(self, tile: int) -> tuple[tuple[NDArray[np.float32], ...], NDArray[np.float32]]:
        """Room for the numbers of a tile: what the network is given and makes, and its logits."""
        sizes = (
            (_multiple(len(self.kept)), tile),
            (self.n_layers, _multiple(self.n_hidden), tile),
            (_multiple(self.n_outputs), tile),
        )
        rows = tuple(np.zeros(size, np.float32) for size in sizes)
        return rows, rows[2][: self.n_outputs].reshape(self.n_logits, len(self.moved), tile)


def _multiple(n: int) -> int:
    """The next multiple of 4."""
    return -(-n // 4) * 4


def _filled(matrix: NDArray[np.float32], n_rows: int) -> NDArray[np.float32]:
    """With zeros up to n_rows rows, and up to a multiple of 4 columns."""
    n, m = matrix.shape
    filled = np.zeros((n_rows, _multiple(m)), np.float32)
    filled[:n, :m] = matrix
    return filled


def couple(
    columns: Tensor, channel: Tensor, block: Block, parameters: Sequence[Tensor], inverse: bool
) -> tuple[Tensor, Tensor]:
    """A whole coupling block, its network and its splines.

    Args:
        columns: float32 (n_dim, n), in [0, 1].
        channel: (n,).
        parameters: of the network: weights (n_out, n_in) and biases (n_out, 1) from the first layer
            to the last, but (n_channels, n_hidden) those of the first.
        inverse: the splines take the value that they are given.

    Returns:
        The columns moved, and ln |det| (n,).
    """
    columns, channel = columns.contiguous(), channel.contiguous()
    if not inverse:
        return _apply(_Couple, columns, channel, block, *parameters)
    return _coupled(columns, channel, block, block.layers(parameters), inverse)


def move_by_tables(
    columns: Tensor, channel: Tensor, tables: tuple[Tensor, Tensor, Tensor], inverse: bool
) -> tuple[Tensor, Tensor]:
    """Marginal splines: one for each channel and dimension.

    Args:
        columns: float64 (n_dim, n), in [0, 1].
        channel: (n,).
        tables: xs, ys and slopes at the knots, (n_channels n_dim, n_bins + 1), those of a channel
            together; no gradient is computed for xs.
        inverse: the splines take the value that they are given.

    Returns:
        The columns moved, and ln |det| (n,).
    """
    inputs = [tensor.contiguous() for tensor in (columns, *tables, channel)]
    if not inverse:
        return _apply(_MoveByTables, *inputs)
    return _moved(inverse, *inputs)


def _apply(function: type[Function], *inputs: object) -> tuple[Tensor, Tensor]:
    moved, log_det = function.apply(*inputs)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return moved, log_det


class _Couple(Function):
    """The columns after a block and log_det, from those before and the parameters."""

    @staticmethod
    def forward(
        ctx: Any, columns: Tensor, channel: Tensor, block: Block, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(columns, channel)
        ctx.block, ctx.layers = block, block.layers(parameters)
        return _coupled(columns, channel, block, ctx.layers, inverse=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_after: Tensor, of_log_det: Tensor) -> tuple[Tensor | None, ...]:
        from mlgen.samplers.kernels import coupling, logits

        block, layers = ctx.block, ctx.layers
        columns, channel = ctx.saved_tensors
        of_columns = torch.empty_like(columns)
        transposed = tuple(np.ascontiguousarray(weight.swapaxes(-1, -2)) for weight, _ in layers)
        of_layers = tuple((np.zeros_like(weight), np.zeros_like(bias)) for weight, bias in layers)
        coupling.couple_gradient(
            *_given(columns, channel, block, layers),
            *_arrays(of_after.contiguous(), of_log_det.contiguous()),
            transposed,
            *_arrays(of_columns),
            of_layers,
            *block.rows(logits.TILE),
        )
        return of_columns, None, None, *block.gradients(of_layers)


def _coupled(
    columns: Tensor, channel: Tensor, block: Block, layers: Layers, inverse: bool
) -> tuple[Tensor, Tensor]:
    from mlgen.samplers.kernels import coupling  # numba takes a while to import

    columns, log_det = columns.clone(), columns.new_empty(len(channel))
    coupling.couple(*_given(columns, channel, block, layers), inverse, *_arrays(log_det))
    return columns, log_det


def _given(columns: Tensor, channel: Tensor, block: Block, layers: Layers) -> list[Any]:
    """What both kernels want first."""
    from mlgen.samplers.kernels import logits

    shares = np.empty((2, block.n_logits // 3, logits.TILE), np.float32)
    work = np.zeros(logits.N_WORK, np.float32)
    rows = block.rows(logits.TILE)
    points, channels = _arrays(columns, channel)
    return [points, channels, block.kept, block.moved, layers, *rows, shares, work]


class _MoveByTables(Function):
    """The columns moved and log_det, from the columns and the tables."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*inputs)
        return _moved(False, *inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_moved: Tensor, of_log_det: Tensor) -> tuple[Tensor | None, ...]:
        from mlgen.samplers.kernels.tables import table_gradient

        columns, xs, ys, slopes, channel = ctx.saved_tensors
        of_columns, of_ys, of_slopes = (torch.empty_like(one) for one in (columns, ys, slopes))
        of = of_moved.contiguous(), of_log_det.contiguous()
        table_gradient(
            *_arrays(columns, channel, xs, ys, slopes, *of, of_columns, of_ys, of_slopes)
        )
        return of_columns, None, of_ys, of_slopes, None


def _moved(
    inverse: bool, columns: Tensor, xs: Tensor, ys: Tensor, slopes: Tensor, channel: Tensor
) -> tuple[Tensor, Tensor]:
    from mlgen.samplers.kernels.tables import map_by_table

    moved, log_det = torch.empty_like(columns), columns.new_empty(len(channel))
    map_by_table(*_arrays(columns, channel, xs, ys, slopes), inverse, *_arrays(moved, log_det))
    return moved, log_det


def _arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    # `detach` takes longer than the rest.
    return [(one.detach() if one.requires_grad else one).numpy() for one in tensors]
