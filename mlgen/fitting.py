"""What trainings of networks have in common: batches, a schedule, what is kept, and the record."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlgen.errors import TrainingFailed

WARM_UP = 0.05
"""The share of the training in which the learning rate rises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """How a training went."""

    n_training: int
    n_steps: int
    cpu_s: float
    best_step: int
    """After which the validation loss was least: what is kept."""
    validation_losses: tuple[float, ...]
    """Each some steps after the one before."""


class Batches:
    """Indices of what is learned from, in random order, each once before any comes again."""

    def __init__(self, n: int, rng: torch.Generator) -> None:
        self._n, self._rng = n, rng
        self.repeated = torch.empty(0, dtype=torch.int64)
        """(n_repeated,), indices that come once more, in the next order and later ones."""
        self._order = torch.empty(0, dtype=torch.int64)

    def take(self, n: int) -> Tensor:
        """The next n indices."""
        if len(self._order) < n:
            every = torch.cat([torch.arange(self._n), self.repeated])
            self._order = every[torch.randperm(len(every), generator=self._rng)]
        index, self._order = self._order[:n], self._order[n:]
        return index


class Best:
    """The parameters of a module with the least validation loss so far."""

    def __init__(self, module: nn.Module, what: str) -> None:
        self._module, self._what = module, what
        self._loss = math.inf
        self._state: dict[str, Tensor] = {}
        self.step = 0

    def see(self, step: int, loss: float) -> None:
        """Compare what the module has now.

        Raises:
            TrainingFailed: the loss is not finite.
        """
        check_finite(loss, step, self._what)
        if loss < self._loss:
            self._loss, self.step = loss, step
            self._state = {key: value.clone() for key, value in self._module.state_dict().items()}

    def restore(self) -> None:
        """Give them back to the module."""
        self._module.load_state_dict(self._state)


def check_finite(loss: float, step: int, what: str) -> None:
    """Stop where there is nothing to descend.

    Raises:
        TrainingFailed: the loss is not finite.
    """
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"loss = {loss} at training step {step} of {what}: expected a finite number; "
            "a smaller learning rate may help"
        )


def cosine_schedule(done: float) -> float:
    """The learning rate in units of the largest one: a linear start, then a cosine down to zero."""
    rise = min(1.0, done / WARM_UP + 0.01)
    fall = max(0.0, done - WARM_UP) / (1 - WARM_UP)
    return rise * 0.5 * (1 + math.cos(math.pi * fall))
