"""Adam (arXiv:1412.6980) with clipped gradients and a running mean of what it learns.

All parameters of a precision lie in one vector, so that a step is a handful of passes over contiguous
memory however many layers there are. (`torch.optim`, torch 2.13, imports the compiler with its first
optimizer, 1.3 CPU-seconds, and takes 2 to 6 times as long for a step of a small flow.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Algorithm 1 of arXiv:1412.6980."""

MAX_GRADIENT_NORM = 5.0
AVERAGING = 0.005
"""The share of a step in the running mean."""
FIRST_SHARES = 5
"""Before, step n has the share 5 / (n + 4): the mean forgets where it came from."""

_VECTORS = ("values", "mean", "square", "average")


class _Vector:
    """The parameters of one precision, end to end, and what is kept of each number."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.values = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self.gradient = torch.zeros_like(self.values)
        self.mean, self.square = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.average = self.values.clone()
        at = 0
        for parameter in parameters:
            part = slice(at, at + parameter.numel())
            # Views: autograd adds to the gradient in place, and a step changes the parameters.
            parameter.data = self.values[part].view_as(parameter)
            parameter.grad = self.gradient[part].view_as(parameter)
            at = part.stop


class AveragedAdam:
    """Adam on the parameters of a module, which become views of its vectors.

    The module has the running mean of its parameters but while steps are made:

        with optimizer.stepping():
            optimizer.step(loss(module), learning_rate)
    """

    def __init__(self, module: nn.Module) -> None:
        by_precision: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in module.parameters():
            by_precision.setdefault(parameter.dtype, []).append(parameter)
        self._vectors = [_Vector(parameters) for parameters in by_precision.values()]
        self.n_steps = 0

    @torch.no_grad()
    def step(self, loss: Tensor, learning_rate: float) -> None:
        """Go against the gradient of the loss, a scalar; inside of `stepping`."""
        for vector in self._vectors:
            vector.gradient.zero_()
        with torch.enable_grad():
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.n_steps += 1
        norm = math.hypot(*(float(vector.gradient.norm()) for vector in self._vectors))
        scale = min(1.0, MAX_GRADIENT_NORM / norm) if norm > 0 else 1.0
        rate = learning_rate / (1 - BETA_1**self.n_steps)
        correction = math.sqrt(1 - BETA_2**self.n_steps)
        share = max(AVERAGING, FIRST_SHARES / (self.n_steps + FIRST_SHARES - 1))
        for vector in self._vectors:
            gradient = vector.gradient.mul_(scale)
            vector.mean.lerp_(gradient, 1 - BETA_1)
            vector.square.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
            spread = vector.square.sqrt().div_(correction).add_(EPSILON)
            vector.values.addcdiv_(vector.mean, spread, value=-rate)
            vector.average.lerp_(vector.values, share)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Inside, the module has the parameters that steps start from."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state(self) -> dict[str, Tensor]:
        """All that a later step depends on."""
        tensors = {
            f"{name}.{index}": getattr(vector, name)
            for index, vector in enumerate(self._vectors)
            for name in _VECTORS
        }
        return tensors | {"n_steps": torch.tensor(self.n_steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        for index, vector in enumerate(self._vectors):
            for name in _VECTORS:
                getattr(vector, name).copy_(state[f"{name}.{index}"])
        self.n_steps = int(state["n_steps"])

    def _exchange(self) -> None:
        """Swap the parameters of the module and those that are kept."""
        for vector in self._vectors:
            kept = vector.values.clone()
            vector.values.copy_(vector.average)
            vector.average.copy_(kept)
