"""The splines of splines.py, compiled by numba where that is installed: on CPUs several times as fast.

Each function falls back on torch's where its compiled twin does not apply: for other devices and
precisions, in graphs that are being traced, without numba. Gradients of the compiled ones are
written by hand. They remember points and parameters alone, and compute the rest once more, which
takes less time than to read it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlgen.samplers import splines

_allowed = ContextVar("_allowed", default=True)


@contextmanager
def only_torch() -> Iterator[None]:
    """Inside, nothing compiled is used."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def spline(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """`splines.spline`, compiled for float32."""
    if _applies(torch.float32, x, logits):
        return _apply(_Evaluate, x, logits)
    return splines.spline(x, logits)


def spline_inverse(y: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """`splines.spline_inverse`, compiled for float32."""
    if _applies(torch.float32, y, logits):
        return _apply(_Solve, y, logits)
    return splines.spline_inverse(y, logits)


def table_spline(
    x: Tensor, which: Tensor, xs: Tensor, ys: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """`splines.table_spline`, compiled for float64."""
    if _applies(torch.float64, x, xs, ys, slopes):
        return _apply(_Evaluate, x, which, xs, ys, slopes)
    return splines.table_spline(x, which, xs, ys, slopes)


def table_spline_inverse(
    y: Tensor, which: Tensor, xs: Tensor, ys: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """`splines.table_spline_inverse`, compiled for float64."""
    if _applies(torch.float64, y, xs, ys, slopes):
        return _apply(_Solve, y, which, xs, ys, slopes)
    return splines.table_spline_inverse(y, which, xs, ys, slopes)


def coupling_applies(columns: Tensor) -> bool:
    """Whether `couple` can be asked for these points."""
    return not torch.is_grad_enabled() and _applies(torch.float32, columns)


def couple(
    columns: Tensor,
    channel: Tensor,
    kept: Tensor,
    moved: Tensor,
    layers: Sequence[tuple[Tensor, Tensor]],
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """A whole coupling block, without gradients: faster than network and splines one by one.

    Args:
        columns: (n_dim, n).
        channel: (n,).
        kept, moved: the dimensions that the network is given, and those that splines move.
        layers: weights (n_out, n_in) and biases (n_out, 1), but (n_channels, n_out) of the first;
            the outputs of the last are (n_logits, n_moved).

    Returns:
        The columns moved, and ln |det| (n,).
    """
    from mlgen.samplers import kernels  # numba takes a while to import

    (weight, bias), *hidden, (last_weight, last_bias) = layers
    n_hidden, n_moved = len(weight), len(moved)
    hidden_weight, hidden_bias = (
        weight.new_empty(0, n_hidden, n_hidden),
        weight.new_empty(0, n_hidden),
    )
    if hidden:
        hidden_weight, hidden_bias = map(torch.stack, zip(*hidden, strict=True))
    # The logits of a dimension together.
    last_weight = last_weight.view(-1, n_moved, n_hidden).transpose(0, 1).reshape(-1, n_hidden)
    last_bias = last_bias.view(-1, n_moved).T.reshape(-1)
    layer_arrays = [
        (weight.contiguous(), bias.contiguous()),
        (hidden_weight, hidden_bias.view(-1, n_hidden)),
        (last_weight, last_bias),
    ]
    columns = columns.clone(memory_format=torch.contiguous_format)
    log_det = columns.new_empty(columns.shape[1])
    given: Any = _arrays(columns, channel.contiguous(), kept, moved)
    given += [*(tuple(_arrays(*pair)) for pair in layer_arrays), inverse, log_det.numpy()]
    kernels.couple(*given)
    return columns, log_det


def _applies(dtype: torch.dtype, *tensors: Tensor) -> bool:
    return (
        all(tensor.dtype == dtype and tensor.device.type == "cpu" for tensor in tensors)
        and _allowed.get()
        and not torch.compiler.is_compiling()
        and _has_numba()
    )


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


def _apply(function: type[Function], *tensors: Tensor) -> tuple[Tensor, Tensor]:
    contiguous = (tensor.contiguous() for tensor in tensors)
    moved, log_slope = function.apply(*contiguous)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return moved, log_slope


class _Evaluate(Function):
    """y and ln dy/dx of x and the parameters of the splines."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, *parameters)
        return _mapped(x, parameters, inverse=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor, of_log: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        return _gradient(x, parameters, of_y, of_log)


class _Solve(Function):
    """x and ln dx/dy of y and the parameters of the splines."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        x, log_slope = _mapped(y, parameters, inverse=True)
        ctx.save_for_backward(x, log_slope, *parameters)
        return x, log_slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor, of_log: Tensor) -> tuple[Tensor | None, ...]:
        """With y(x, p) at a fixed y: dx = (dy - dp dy/dp) dx/dy, and ln dx/dy = -ln dy/dx at that x."""
        x, log_slope, *parameters = ctx.saved_tensors
        through_log, *_ = _gradient(x, parameters, torch.zeros_like(x), -of_log)
        of_y = (of_x + through_log) * log_slope.exp()
        _, *of_parameters = _gradient(x, parameters, -of_y, -of_log)
        return of_y, *of_parameters


def _mapped(points: Tensor, parameters: Sequence[Tensor], inverse: bool) -> tuple[Tensor, Tensor]:
    from mlgen.samplers import kernels

    kernel: Any = kernels.map_by_logits if len(parameters) == 1 else kernels.map_by_table
    moved, log_slope = torch.empty_like(points), torch.empty_like(points)
    kernel(*_arrays(points, *parameters), inverse, *_arrays(moved, log_slope))
    return moved, log_slope


def _gradient(
    x: Tensor, parameters: Sequence[Tensor], of_y: Tensor, of_log: Tensor
) -> tuple[Any, ...]:
    """Gradients towards x and the parameters, given those of `_Evaluate`'s results."""
    from mlgen.samplers import kernels

    of = of_y.contiguous(), of_log.contiguous()
    of_x = torch.empty_like(x)
    if len(parameters) == 1:
        of_logits = torch.empty_like(parameters[0])
        kernels.logit_gradient(*_arrays(x, *parameters, *of, of_x, of_logits))
        return of_x, of_logits
    of_ys, of_slopes = (torch.empty_like(table) for table in parameters[2:])
    kernels.table_gradient(*_arrays(x, *parameters, *of, of_x, of_ys, of_slopes))
    return of_x, None, None, of_ys, of_slopes


def _arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    return [tensor.detach().numpy() for tensor in tensors]
