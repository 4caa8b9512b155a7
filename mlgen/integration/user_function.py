"""A NumPy or torch function of the user's, as an `Integrand`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mlgen.core import Evaluation
from mlgen.errors import GenerationError, NonFiniteWeight
from mlgen.integration.domain import Domain

Backend = Literal["numpy", "torch"]
"""What a function is called with: NumPy arrays, or torch tensors."""

Function = Callable[..., Any]
"""f(points) with points (n, n_dim), float64, or, with discrete dimensions, f(points, k) with k
(n, len(n_values)), int64; gives n real numbers, of either sign."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserFunction:
    """A function as an `Integrand`: with the volume of its box, and a channel for each combination."""

    function: Function
    domain: Domain
    backend: Backend = "numpy"
    max_points: int = 16_384
    """Points of one call."""

    @property
    def n_dim(self) -> int:
        return self.domain.n_dim

    @property
    def n_flat(self) -> int:
        return 0

    @property
    def n_channels(self) -> int:
        return self.domain.n_channels

    def __call__(self, r: Tensor, channel: Tensor) -> Evaluation:
        """The function times the volume of its box.

        Raises:
            GenerationError: what the function returned is not n real numbers.
            NonFiniteWeight: a value is NaN or infinite; with the point.
            Exception: what the function raises comes through, with a note on the points.
        """
        parts = zip(*(torch.split(t, self.max_points) for t in (r, channel)), strict=True)
        values = [self._values(*part) for part in parts]
        value = torch.cat(values) * self.domain.volume
        return Evaluation(value=value, n_calls=len(r))

    def _values(self, r: Tensor, channel: Tensor) -> Tensor:
        points = self.domain.points(r)
        arguments = [points.clone()]  # the function may change what it is given
        if self.domain.n_values:
            arguments.append(self.domain.combinations(channel))
        try:
            if self.backend == "numpy":
                found = self.function(*(argument.numpy() for argument in arguments))
            else:
                found = self.function(*arguments)
        except Exception as error:
            shapes = ", ".join(str(tuple(argument.shape)) for argument in arguments)
            error.add_note(f"mlgen called the function with {self.backend} arrays {shapes}")
            raise
        if isinstance(found, Tensor) != (self.backend == "torch"):
            raise GenerationError(
                f"f = a {type(found).__name__} with backend = {self.backend!r}: expected "
                f"{'a torch tensor' if self.backend == 'torch' else 'a NumPy array'}, "
                'or the other of the backends "numpy" and "torch"'
            )
        return checked_values(found, points, channel, self.domain, "f")


def checked_values(
    values: object, points: Tensor, channel: Tensor, domain: Domain, where: str
) -> Tensor:
    """Values of a function as a tensor (n,), float64, with one finite number for each point.

    Args:
        values: a tensor, an array or a list of real numbers.
        points: (n, n_dim), in the box.
        channel: (n,).
        where: begins messages.

    Raises:
        GenerationError: these are not n real numbers.
        NonFiniteWeight: a value is NaN or infinite; with the point.
    """
    n = len(points)
    try:
        found = values.detach().cpu() if isinstance(values, Tensor) else _tensor(values)
    except (TypeError, ValueError) as error:
        raise GenerationError(f"{where}: expected {n} real numbers ({error})") from None
    if found.shape != (n,):
        raise GenerationError(f"{where} has the shape {tuple(found.shape)}: expected ({n},)")
    if found.is_complex():
        raise GenerationError(f"{where} has the dtype {found.dtype}: expected real numbers")
    found = found.to(torch.float64)
    is_finite = found.isfinite()
    if not bool(is_finite.all()):
        index = int((~is_finite).nonzero()[0])
        at = domain.describe(points[index], int(channel[index]))
        raise NonFiniteWeight(
            f"{where}[{index}] = {float(found[index])} at {at}: expected a finite number"
        )
    return found


def _tensor(values: object) -> Tensor:
    """A copy of an array or a list: the user's own may change afterwards."""
    return torch.from_numpy(np.array(values, order="C"))
