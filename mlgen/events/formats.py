"""Event files of every format, told apart by their names when written, by content when read.

A format is an `EventFormat`, registered as an entry point of the group `mlgen.event_formats`; the
name of the entry is the end of its files' names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from mlgen.core import EventBatch, SampleInfo
from mlgen.errors import EventFileError
from mlgen.events.reading import EventFileReader
from mlgen.events.writing import EventFileWriter, FileWeights

GROUP = "mlgen.event_formats"
N_FIRST_BYTES = 16


@cache
def _registered() -> tuple[EntryPoint, ...]:
    """The registered formats; to look for them takes longer than to read a short file."""
    return tuple(sorted(entry_points(group=GROUP)))


class MakeWriter(Protocol):
    """How a writer is made: `EventFileWriter` describes it."""

    def __call__(
        self, path: Path, info: SampleInfo, weights: FileWeights
    ) -> EventFileWriter[Any]: ...


class MakeReader(Protocol):
    """How a reader is made: `EventFileReader` describes it."""

    def __call__(self, path: Path) -> EventFileReader: ...


class Recognise(Protocol):
    """Whether a file is of a format, from its first bytes."""

    def __call__(self, first_bytes: bytes) -> bool: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFormat:
    """A format of event files."""

    recognises: Recognise
    """Told the first 16 bytes, or all of a shorter file."""
    writer: MakeWriter
    reader: MakeReader


def format_names() -> tuple[str, ...]:
    """The ends of the names of files of all registered formats."""
    return tuple(entry.name for entry in _registered())


def open_writer(path: Path, info: SampleInfo, weights: FileWeights) -> EventFileWriter[Any]:
    """A writer of the format that the name of the file asks for.

    Raises:
        EventFileError: the name ends like that of no format, or `info` cannot stand in a file.
    """
    path = Path(path)
    formats = {entry.name: entry for entry in _registered()}
    fitting = [name for name in formats if path.name.endswith(f".{name}")]
    if not fitting:
        known = ", ".join(f".{name}" for name in sorted(formats))
        raise EventFileError(f"{path}: expected a name that ends in one of {known}")
    chosen: EventFormat = formats[max(fitting, key=len)].load()
    return chosen.writer(path, info, weights)


def open_reader(path: Path) -> EventFileReader:
    """A reader of the file, whatever its name.

    Raises:
        EventFileError: the file is not there, damaged at its head, or of no known format.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        # A pipe cannot be read twice, and may never begin.
        raise EventFileError(f"{path}: no regular file: expected an event file")
    try:
        with path.open("rb") as stream:
            first_bytes = stream.read(N_FIRST_BYTES)
    except OSError as error:
        raise EventFileError(f"{path}: {error.strerror}: expected an event file") from error
    for entry in _registered():
        known: EventFormat = entry.load()
        if known.recognises(first_bytes):
            return known.reader(path)
    raise EventFileError(f"{path}: begins with {first_bytes!r}: expected an event file")


def write_events(path: Path, batches: Iterable[EventBatch], info: SampleInfo) -> None:
    """Write events to a file of the format that its name asks for.

    Args:
        path: its final name; a file that is there already is replaced.
        batches: in the order of the file; gone through twice, since the mean weight must be known
            before the first event is written. Weights are relative, or in pb if `info.weighted`.
        info: what the file says of itself.

    Raises:
        EventFileError: see `FileWeights.of` and `EventFileWriter`.
    """
    weights = FileWeights.of(
        (weight for batch in batches for weight in batch.weight.tolist()), info
    )
    with open_writer(path, info, weights) as writer:
        for batch in batches:
            writer.write(batch)


def read_events(path: Path) -> tuple[SampleInfo, EventBatch]:
    """What an event file says of itself, and its events, on the CPU.

    What `write_events` wrote comes back bit for bit, weights as they stand in the file: in pb, with
    `weighted`, unless all of them are 1.

    Raises:
        EventFileError: the file is not there, damaged, truncated, or holds no events.
    """
    with open_reader(path) as reader:
        batches = list(reader)
        if not sum(map(len, batches)):
            raise EventFileError(f"{path}: no events: expected at least one")
        return reader.info, EventBatch.concatenate(batches)
