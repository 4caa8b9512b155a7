"""Events with jets from Pythia, in chunks, and the file that holds them: `mlgen radiation data`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from mlgen.campaign.jet_file import JetOrigin, StoredJets, write_jets
from mlgen.campaign.run_record import versions
from mlgen.campaign.whole_files import checksum
from mlgen.campaign.workers import Workers
from mlgen.core import EventBatch, Progress, SampleInfo, random_stream
from mlgen.errors import CardError, EventFileError
from mlgen.events.formats import open_reader, write_events
from mlgen.jobs.stages import one_thread
from mlgen.radiation.cluster import CompactEvents
from mlgen.radiation.pythia_data import PythiaSettings, ShowerChunk, make_chunk

N_EVENTS = 100_000
"""Where nothing says how many."""
MAX_REPEATED = 0.05
"""The share of events that may be showers of a hard event that has one already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JetOrder:
    """What is wanted of `mlgen radiation data`."""

    settings: PythiaSettings
    seed: int = 1
    n_events: int | None = None
    """None: all of the event file, or 100,000."""
    event_file: Path | None = None
    """What is showered; None: Pythia makes the process."""

    def __post_init__(self) -> None:
        if self.n_events is not None and self.n_events < 1:
            raise CardError(f"--n-events {self.n_events}: expected a positive number of events")
        if self.seed < 0:
            raise CardError(f"--seed {self.seed}: expected 0 or more")


def make_radiation_data(
    path: Path, order: JetOrder, workers: Workers, progress: Progress
) -> StoredJets:
    """Make events with jets, and write them; their bytes do not depend on the number of workers.

    Raises:
        MissingExtra: pythia8mc or fastjet is not installed.
        CardError: a setting is none of Pythia's.
        EventFileError: the event file is damaged, or its events are weighted.
        GenerationError: Pythia fails at too many events, or one has no pair of leptons.
        MlgenError: the file cannot be written.
    """
    with one_thread(), _hard_events(order, progress) as hard:
        task = _ShowerTask(order.settings, order.seed, hard.counts, hard.files)
        chunks: dict[int, ShowerChunk] = {}
        with progress.step("showering events", sum(hard.counts)) as advance:
            for index, chunk in workers.compute(task, range(len(hard.counts))):
                chunks[index] = chunk
                advance(hard.counts[index], f"{sum(map(_n_made, chunks.values())):,} events")
    stored = _joined([chunks[index] for index in sorted(chunks)], order, hard)
    write_jets(path, stored)
    return stored


def _n_made(chunk: ShowerChunk) -> int:
    return len(chunk.events)


@dataclass(frozen=True, slots=True)
class _ShowerTask:
    settings: PythiaSettings
    seed: int
    counts: tuple[int, ...]
    files: tuple[Path | None, ...]

    def open(self) -> Callable[[int], ShowerChunk]:
        return self._chunk

    def _chunk(self, index: int) -> ShowerChunk:
        return make_chunk(self.settings, self.seed, index, self.counts[index], self.files[index])


@dataclass(frozen=True, kw_only=True, slots=True)
class _HardEvents:
    """What is showered."""

    counts: tuple[int, ...]
    """How many events each chunk has."""
    files: tuple[Path | None, ...]
    """Of each chunk; None: Pythia makes the process."""
    info: SampleInfo | None = None
    n_distinct: int = 0
    sha256: str = ""


@contextmanager
def _hard_events(order: JetOrder, progress: Progress) -> Iterator[_HardEvents]:
    """The chunks, those of an event file in files of their own while they are needed."""
    per_chunk = order.settings.events_per_chunk
    if order.event_file is None:
        counts = _counts(order.n_events or N_EVENTS, per_chunk)
        yield _HardEvents(counts=counts, files=(None,) * len(counts))
        return
    with tempfile.TemporaryDirectory(prefix="mlgen-") as folder:
        yield _split(order.event_file, Path(folder), order, progress)


def _counts(n: int, per_chunk: int) -> tuple[int, ...]:
    return tuple(min(per_chunk, n - start) for start in range(0, n, per_chunk))


def _split(path: Path, folder: Path, order: JetOrder, progress: Progress) -> _HardEvents:
    """Write each chunk of an event file to a file of its own, all events with the weight 1.

    The whole file is read first: Pythia 8.317 takes half of a truncated one without an error.
    """
    weights = torch.cat([batch.weight for batch in _read(path)] or [torch.zeros(0)])
    copies = _copies(path, weights.double(), order)
    per_chunk = order.settings.events_per_chunk
    counts = _counts(int(copies.sum()), per_chunk)
    files = tuple(folder / f"{index}.lhe" for index in range(len(counts)))
    waiting: list[EventBatch] = []
    n_read = n_written = 0
    with (
        open_reader(path) as reader,
        progress.step("reading events", sum(counts)) as advance,
    ):
        info = replace(reader.info, weighted=False, variations=())
        for batch in reader:
            index = torch.arange(len(batch)).repeat_interleave(copies[n_read:][: len(batch)])
            n_read += len(batch)
            waiting.append(_unweighted(batch.select(index)))
            while n_written < len(counts) and sum(map(len, waiting)) >= counts[n_written]:
                ready = EventBatch.concatenate(waiting)
                n = counts[n_written]
                write_events(files[n_written], [ready.select(slice(0, n))], info)
                waiting = [ready.select(slice(n, None))]
                n_written += 1
                advance(n, "")
    return _HardEvents(
        counts=counts,
        files=files,
        info=reader.info,
        n_distinct=int((copies > 0).sum()),
        sha256=checksum(path),
    )


def _read(path: Path) -> Iterator[EventBatch]:
    with open_reader(path) as reader:
        yield from reader


def _unweighted(events: EventBatch) -> EventBatch:
    one = torch.ones_like(events.weight)
    return replace(events, weight=one, variations=one.new_empty(len(events), 0))


def _copies(path: Path, weights: Tensor, order: JetOrder) -> Tensor:
    """How often each event is showered, (n,): its weight over the usual one, rounded up or down at random.

    An event file of mlgen has a few overweight events, which stand for several.
    """
    if not len(weights):
        raise EventFileError(f"{path}: no events: expected at least one")
    if float(weights.min()) < 0:
        raise EventFileError(f"{path}: a weight of {float(weights.min()):g}: expected none below 0")
    rng = random_stream(order.seed, "copies of events", 0)
    uniform = torch.rand(len(weights), generator=rng, dtype=torch.float64)
    # Weights that differ by their rounding are the same.
    relative = weights / weights.median().clamp(min=1e-300)
    relative = torch.where((relative - 1).abs() < 1e-6, 1.0, relative)
    copies = (relative + uniform).floor()
    repeated = float((copies - 1).clamp(min=0).sum() / copies.sum())
    if repeated > MAX_REPEATED:
        raise EventFileError(
            f"{path}: {100 * repeated:.0f} % of the events would be repeated, by their weights: "
            "expected unweighted events"
        )
    copies = copies.long()
    n_there = int(copies.sum())
    n_wanted = n_there if order.n_events is None else order.n_events
    if n_wanted > n_there:
        raise EventFileError(f"{path}: {n_there} events: expected at least {n_wanted}")
    before = copies.cumsum(0) - copies
    return torch.minimum(copies, (n_wanted - before).clamp(min=0))


def _joined(chunks: Sequence[ShowerChunk], order: JetOrder, hard: _HardEvents) -> StoredJets:
    settings, path = order.settings, order.event_file
    n_tried = sum(chunk.n_tried for chunk in chunks)
    shares = [chunk.n_tried / n_tried for chunk in chunks]
    sigma = sum(share * chunk.cross_section_pb for share, chunk in zip(shares, chunks, strict=True))
    error = math.hypot(
        *(share * chunk.cross_section_error_pb for share, chunk in zip(shares, chunks, strict=True))
    )
    if hard.info is not None:
        sigma, error = hard.info.cross_section_pb, hard.info.cross_section_error_pb
    parts = [chunk.events for chunk in chunks]
    events = CompactEvents(
        hard=torch.cat([part.hard for part in parts]),
        jets=torch.cat([part.jets for part in parts]),
        n_jets=torch.cat([part.n_jets for part in parts]),
    )
    origin = JetOrigin(
        settings=settings.lines(path is not None),
        level=settings.level,
        jets=settings.jets,
        seed=order.seed,
        events_per_chunk=settings.events_per_chunk,
        event_file="" if path is None else path.name,
        event_file_sha256=hard.sha256,
        n_hard_events=hard.n_distinct,
        n_failed=sum(chunk.n_failed for chunk in chunks),
        n_tried=n_tried,
        cross_section_pb=sigma,
        cross_section_error_pb=error,
        versions={**versions(), "fastjet": metadata.version("fastjet")},
    )
    return StoredJets(events=events, origin=origin)
