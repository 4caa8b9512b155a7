"""Points that were paid for, kept to be used again: buffered training (arXiv:2212.06172, section 3.4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import fields

import torch
from torch import Tensor

from mlgen.core import TrainingBatch


def joined(batches: list[TrainingBatch]) -> TrainingBatch:
    """The points of several batches in one."""
    columns = {
        f.name: torch.cat([getattr(batch, f.name) for batch in batches])
        for f in fields(TrainingBatch)
    }
    return TrainingBatch(**columns)


def random_parts(
    points: TrainingBatch, n_parts: int, size: int, rng: torch.Generator
) -> Iterator[TrainingBatch]:
    """Random parts of some points; a point comes again only when all others have come."""
    size = min(size, len(points))
    order, at = torch.randperm(len(points), generator=rng), 0
    for _ in range(n_parts):
        if at + size > len(order):
            order, at = torch.randperm(len(points), generator=rng), 0
        yield points.select(order[at : at + size])
        at += size


class Replay:
    """The last rounds of points.

    A point keeps the density that it was drawn from, so that weights stay right however much the
    sampler has changed since.
    """

    def __init__(self, n_rounds: int) -> None:
        """Keep so many rounds."""
        self._rounds: deque[TrainingBatch] = deque(maxlen=n_rounds)

    def add(self, batch: TrainingBatch) -> None:
        """Take a round of points; the oldest one may go."""
        self._rounds.append(batch)

    def last(self, n_rounds: int) -> TrainingBatch:
        """The points of the last rounds, of all that are kept if they are fewer."""
        return joined(list(self._rounds)[-n_rounds:])

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, to be stored: named `column.round`."""
        return {
            f"{f.name}.{index}": getattr(batch, f.name)
            for index, batch in enumerate(self._rounds)
            for f in fields(TrainingBatch)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep what `tensors` returned."""
        self._rounds.clear()
        n_rounds = sum(name.startswith("channel.") for name in tensors)
        names = [f.name for f in fields(TrainingBatch)]
        for index in range(n_rounds):
            self.add(TrainingBatch(**{name: tensors[f"{name}.{index}"] for name in names}))
