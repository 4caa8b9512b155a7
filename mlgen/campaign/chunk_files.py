"""The chunks of a sample that are done, a file each, until they are one event file.

What a killed process had finished is there, and is not made again.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlgen.campaign.archive import Archive, ArchiveKind, archive_bytes
from mlgen.campaign.whole_files import write_bytes_atomically
from mlgen.core import EventBatch
from mlgen.errors import MlgenError, PackError
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.generate import Chunk, ChunkSummary

CHUNKS_FOLDER = "chunks"

_KIND = ArchiveKind(
    title="chunk of events",
    index="chunk.json",
    schema="mlgen-chunk",
    schema_version=1,
    folder="events",
)
WHOLE_COLUMNS = ("pdg_id", "status", "mothers", "colour")
_NAME = re.compile(r"(\d+)\.zip")


def chunk_bytes(chunk: Chunk, source: str) -> bytes:
    """A chunk as a file holds it.

    Args:
        source: what it was made from; another one is another sample.
    """
    columns = {field.name: getattr(chunk.events, field.name) for field in fields(EventBatch)}
    table = {"source": source, "summary": summary_table(chunk.summary)}
    return archive_bytes(_KIND, table, {"events": columns})


def summary_table(summary: ChunkSummary) -> dict[str, Any]:
    """A summary as JSON has it."""
    table = {f.name: getattr(summary, f.name) for f in fields(summary)}
    return table | {"sums": sums_table(summary.sums)}


def summary_from_table(table: Mapping[str, Any]) -> ChunkSummary:
    """What `summary_table` was made of."""
    return ChunkSummary(**{**table, "sums": sums_from_table(table["sums"])})


def sums_table(sums: ChannelSums) -> dict[str, list[float]]:
    """Sums over channels as JSON has them, to the last bit."""
    return {f.name: getattr(sums, f.name).tolist() for f in fields(sums)}


def sums_from_table(table: Mapping[str, Sequence[float]]) -> ChannelSums:
    """What `sums_table` was made of."""
    return ChannelSums(
        **{name: torch.tensor(column, dtype=torch.float64) for name, column in table.items()}
    )


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """A folder of chunks of one sample."""

    folder: Path
    source: str
    """What they are made from."""

    def write(self, index: int, content: bytes) -> None:
        """Store a chunk.

        Raises:
            MlgenError: it cannot be written; those that are there stay.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise MlgenError(f"{self.folder}: cannot be made ({error.strerror})") from error
        write_bytes_atomically(self._path(index), content)

    def read(self, index: int) -> Chunk:
        """A chunk that is there.

        Raises:
            PackError: it is damaged, belongs to another sample, or is another chunk of this one.
        """
        path = self._path(index)
        archive = Archive(path, _KIND)
        if archive.index.get("source") != self.source:
            raise PackError(f"{path}: a chunk of another sample")
        chunk = archive.assemble(_assemble)
        if chunk.summary.index != index:
            raise PackError(f"{path}: chunk {chunk.summary.index}: expected {index}")
        return chunk

    def summaries(self) -> dict[int, ChunkSummary]:
        """The chunks that are there, by index; what is damaged, or of another sample, is removed."""
        found = {}
        for path in sorted(self.folder.glob("*.zip")):
            if name := _NAME.fullmatch(path.name):
                try:
                    found[int(name[1])] = self.read(int(name[1])).summary
                except PackError:
                    path.unlink()
        return found

    def events(self, chunks: Sequence[ChunkSummary], n_events: int) -> EventsOfChunks:
        """The first events of these chunks, in their order."""
        return EventsOfChunks(self, tuple(chunks), n_events)

    def remove(self) -> None:
        """The sample is complete, and stands elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06}.zip"


@dataclass(frozen=True, slots=True)
class EventsOfChunks:
    """Events that are read from their chunks, as often as they are iterated over."""

    files: ChunkFiles
    chunks: tuple[ChunkSummary, ...]
    n_events: int

    def __iter__(self) -> Iterator[EventBatch]:
        return self.between(0, self.n_events)

    def between(self, start: int, stop: int) -> Iterator[EventBatch]:
        """The events from `start` up to `stop`, counted from 0."""
        stop, first = min(stop, self.n_events), 0
        for chunk in self.chunks:
            after = first + chunk.n_events
            if first < stop and start < after:
                events = self.files.read(chunk.index).events
                yield events.select(slice(max(start - first, 0), stop - first))
            first = after


def _assemble(archive: Archive) -> Chunk:
    columns: dict[str, Tensor] = archive.tensors("events")
    summary = summary_from_table(archive.index["summary"])
    if set(columns) != {field.name for field in dataclasses.fields(EventBatch)}:
        raise KeyError("columns")
    for name, column in columns.items():
        is_whole = name in WHOLE_COLUMNS
        if column.dtype != (torch.int64 if is_whole else torch.float64) or column.dim() == 0:
            raise TypeError(f"{name} of type {column.dtype} and shape {tuple(column.shape)}")
        if len(column) != summary.n_events:
            raise TypeError(f"{name} of {len(column)} events: expected {summary.n_events}")
    return Chunk(summary=summary, events=EventBatch(**columns))
