"""Batches of points whose values are computed elsewhere: which are out, back, or given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor

from mlgen.core import TrainingBatch
from mlgen.errors import GenerationError
from mlgen.integration.replay import joined

_COLUMNS = tuple(column.name for column in fields(TrainingBatch))
_COUNTERS = ("next_id", "first_counted", "n_back")

ItemT = TypeVar("ItemT")


class Ledger:
    """Hands out ids, and takes each batch back once.

    A batch that is back belongs to the round that is being learned from, or, if it was handed out
    since counting began, to the result; one that was handed out before is forgotten.
    """

    def __init__(self) -> None:
        self.counts = False
        """Whether batches that are handed out now belong to the result."""
        self.next_id = 0
        self.first_counted = 0
        self.n_back = 0
        """Points of all batches that are back."""
        # By their ids; the value of a batch that is out is 0.
        self._out: dict[int, TrainingBatch] = {}
        self._round: dict[int, TrainingBatch] = {}
        self._counted: dict[int, TrainingBatch] = {}
        self._cancelled: set[int] = set()

    @property
    def out(self) -> list[int]:
        """The batches that are out."""
        return sorted(self._out)

    @property
    def missing(self) -> list[int]:
        """Those of them that belong to the result."""
        return [id for id in self.out if id >= self.first_counted]

    @property
    def n_in_round(self) -> int:
        """Points of the round, out or back."""
        return sum(len(batch) for part in (self._out, self._round) for batch in part.values())

    def hand_out(self, batch: TrainingBatch) -> int:
        """The id of a new batch."""
        self._out[self.next_id] = batch
        self.next_id += 1
        return self.next_id - 1

    def get(self, id: int) -> TrainingBatch:
        """A batch that is out.

        Raises:
            GenerationError: there is none of this id.
        """
        if id in self._out:
            return self._out[id]
        became = "was not asked for"
        if id in self._cancelled:
            became = "was cancelled"
        elif 0 <= id < self.next_id:
            became = "was told before"
        expected = listed(self.out) if self._out else "none, since all are told"
        raise GenerationError(f"batch {id} {became}: expected {expected}")

    def take_back(self, id: int, told: TrainingBatch) -> None:
        """Take a batch that is out back with its values."""
        del self._out[id]
        self.n_back += len(told)
        if not self.counts:
            self._round[id] = told
        elif id >= self.first_counted:
            self._counted[id] = told

    def cancel(self, id: int) -> None:
        """Give a batch up that is out."""
        del self._out[id]
        self._cancelled.add(id)

    def round(self) -> TrainingBatch | None:
        """The points of the round in the order of their ids; None while one is out."""
        if self._out or not self._round:
            return None
        return joined([self._round[id] for id in sorted(self._round)])

    def close_round(self) -> None:
        """Begin a new round."""
        self._round.clear()

    def begin_counting(self) -> None:
        """From here on, what is handed out belongs to the result."""
        self.close_round()
        self.counts, self.first_counted = True, self.next_id

    def counted(self) -> list[TrainingBatch]:
        """The batches of the result that are back, in the order of their ids."""
        return [self._counted[id] for id in sorted(self._counted)]

    def tensors(self) -> dict[str, Tensor]:
        """All batches, to be stored."""
        tensors = {"cancelled": torch.tensor(sorted(self._cancelled), dtype=torch.int64)}
        for kind, batches in self._batches().items():
            for id, batch in batches.items():
                tensors |= {f"{kind}.{id}.{name}": getattr(batch, name) for name in _COLUMNS}
        return tensors

    def numbers(self) -> dict[str, float]:
        """All counters, to be stored."""
        return {"counts": self.counts} | {name: getattr(self, name) for name in _COUNTERS}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> None:
        """Go on from what `tensors` and `numbers` returned."""
        self.counts = bool(numbers["counts"])
        for name in _COUNTERS:
            setattr(self, name, int(numbers[name]))
        self._cancelled = set(tensors["cancelled"].tolist())
        for kind, batches in self._batches().items():
            batches.clear()
            ids = {int(name.split(".")[0]) for name in under(f"{kind}.", tensors)}
            for id in ids:
                batches[id] = TrainingBatch(**under(f"{kind}.{id}.", tensors))

    def _batches(self) -> dict[str, dict[int, TrainingBatch]]:
        return {"out": self._out, "round": self._round, "counted": self._counted}


def listed(ids: Sequence[int]) -> str:
    """Ids for people, the first ten of many."""
    shown = ", ".join(str(id) for id in ids[:10])
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return f"{'batches' if len(ids) > 1 else 'batch'} {shown}{more}"


def under(prefix: str, items: Mapping[str, ItemT]) -> dict[str, ItemT]:
    """The items whose names begin like this, named by the rest."""
    return {
        name.removeprefix(prefix): item for name, item in items.items() if name.startswith(prefix)
    }
