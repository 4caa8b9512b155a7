"""What an event file holds, in one pass and in memory that does not grow with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mlgen.core import EventBatch, SampleInfo
from mlgen.errors import EventFileError
from mlgen.events.formats import open_reader

FINAL = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class EventSummary:
    """What a file says of itself, and what its events add up to."""

    info: SampleInfo
    n_events: int
    smallest: float
    """Weight."""
    largest: float
    ratios: tuple[float, ...]
    """The mean of each further weight over the mean weight."""
    final_states: tuple[tuple[tuple[int, ...], int], ...]
    """PDG ids, and how many events have them; the most frequent first."""


def summarise(path: Path) -> EventSummary:
    """Read a file to its end.

    Raises:
        EventFileError: it is not there, damaged, or holds no events.
    """
    n_events, smallest, largest, total = 0, math.inf, -math.inf, 0.0
    further: Tensor | None = None
    finals: Counter[tuple[int, ...]] = Counter()
    with open_reader(path) as reader:
        info = reader.info
        for batch in reader:
            n_events += len(batch)
            smallest = min(smallest, float(batch.weight.min()))
            largest = max(largest, float(batch.weight.max()))
            total += float(batch.weight.sum())
            mine = batch.variations.sum(0)
            further = mine if further is None else further + mine
            for ids, count in _final_states(batch):
                finals[ids] += count
    if further is None:
        raise EventFileError(f"{path}: no events: expected at least one")
    return EventSummary(
        info=info,
        n_events=n_events,
        smallest=smallest,
        largest=largest,
        ratios=tuple((further / total).tolist()),
        final_states=tuple(finals.most_common()),
    )


def _final_states(events: EventBatch) -> Iterator[tuple[tuple[int, ...], int]]:
    """The ids of outgoing particles that occur, and how often."""
    outgoing = torch.where(events.status == FINAL, events.pdg_id, 0)
    kinds, counts = torch.unique(outgoing, dim=0, return_counts=True)
    for ids, count in zip(kinds.tolist(), counts.tolist(), strict=True):
        yield tuple(pdg_id for pdg_id in ids if pdg_id), count
