"""The readers of files, and what must hold of whatever they read.

Each reads a file or raises an error of mlgen's own family; `Broken` says that a law does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random

from benchmarks.fuzz import good_files
from benchmarks.fuzz.containers import HDF5, ZIP, gzip_again, gzip_bomb, inside_gzip
from benchmarks.fuzz.mutations import BYTES, JSON, TEXT, XML, Mutation, mutated
from mlgen.campaign.checkpoint import RunCheckpoint, read_checkpoint
from mlgen.campaign.chunk_files import ChunkFiles, chunk_bytes
from mlgen.campaign.conforming import check_conforms
from mlgen.campaign.pack import read_pack, write_pack
from mlgen.campaign.run_record import read_settled
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import card_to_toml, read_card
from mlgen.core import EventBatch, SampleInfo
from mlgen.errors import EventFileError, MlgenError
from mlgen.events.check import check_file
from mlgen.events.formats import read_events, write_events
from mlgen.events.lhe_reader import events_of, parse_texts, sample_info
from mlgen.events.lhe_scan import LheScanner
from mlgen.jobs.pack_job import read_job


class Broken(Exception):
    """A law that does not hold of what was read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A reader, and how the files that it reads are damaged."""

    name: str
    file: str
    """The name that the files have."""
    good_files: Callable[[], Sequence[bytes]]
    mutations: Sequence[Mutation]
    read: Callable[[Path], object]
    """Reads a file, and checks the laws.

    Raises:
        MlgenError: the file is refused.
        Broken: it was read, but not as it should be.
    """

    n_readings: int = 1
    """How often that goes through the file."""

    def case(self, files: Sequence[bytes], seed: int, number: int) -> bytes:
        """The bytes of a case: the same for the same numbers."""
        rng = Random(f"{seed} {self.name} {number}")
        return mutated(rng.choice(files), self.mutations, rng)


def same_bits(one: EventBatch, other: EventBatch) -> list[str]:
    """The names of the columns that differ in any bit."""
    return [
        field.name
        for field in fields(one)
        if (a := getattr(one, field.name)).shape != (b := getattr(other, field.name)).shape
        or a.numpy().tobytes() != b.numpy().tobytes()
    ]


# --- event files -----------------------------------------------------------------------------


def read_lhe(path: Path) -> object:
    """Read a Les Houches file the quick way, the slow way, and as `mlgen check` does."""
    try:
        found: tuple[SampleInfo, EventBatch] | EventFileError = read_events(path)
    except EventFileError as error:
        found = error
    try:
        slow = read_slowly(path)
    except EventFileError as error:
        if not isinstance(found, EventFileError):
            raise Broken(f"read quickly, but slowly: {error}") from None
    else:
        if isinstance(found, EventFileError):
            raise Broken(f"read slowly, but quickly: {found}")
        if differing := same_bits(found[1], slow):
            raise Broken(f"{differing} differ between the quick and the slow way")
    return checked(path, found)


def read_slowly(path: Path) -> EventBatch:
    """The events of a Les Houches file, each parsed from its text."""
    with LheScanner(path) as scanner:
        sample_info(path, scanner.head)
        texts = list(scanner)
        if not texts:
            raise EventFileError(f"{path}: no events")
        return events_of(path, parse_texts(path, texts, scanner.head.weight_ids, first=1), first=1)


def read_any(path: Path) -> object:
    """Read an event file, and as `mlgen check` does."""
    try:
        found: tuple[SampleInfo, EventBatch] | EventFileError = read_events(path)
    except EventFileError as error:
        found = error
    return checked(path, found)


def checked(path: Path, found: tuple[SampleInfo, EventBatch] | EventFileError) -> object:
    """Compare with `mlgen check`, and read again what is written of what was read."""
    report = check_file(path)
    if isinstance(found, EventFileError):
        if report.is_good:
            raise Broken(f"good for mlgen check, but refused: {found}")
        raise found
    info, events = found
    if len({len(getattr(events, field.name)) for field in fields(events)}) > 1:
        raise Broken("columns of different lengths")
    if report.n_events < len(events):
        raise Broken(f"{len(events)} events, {report.n_events} for mlgen check")
    check_copies(path, info, events)
    return found


def check_copies(path: Path, info: SampleInfo, events: EventBatch) -> None:
    """Write what was read, read that, write it again: only weights may change, and only once."""
    one, two = (path.with_name(f"{name}{path.name}") for name in ("one-", "two-"))
    try:
        write_events(one, [events], info)
    except MlgenError:
        return  # NaN, or a text that XML cannot hold
    info_one, events_one = read_events(one)
    may_change = {"weight", "variations"}
    if differing := set(same_bits(events, events_one)) - may_change:
        raise Broken(f"{sorted(differing)} differ when written and read again")
    if replace(info_one, weighted=info.weighted) != info:
        raise Broken(f"{info_one} when written and read again: expected {info}")
    write_events(two, [events_one], info_one)
    info_two, events_two = read_events(two)
    if info_two != info_one or same_bits(events_one, events_two):
        raise Broken("a copy of a copy differs")


# --- what campaigns leave --------------------------------------------------------------------


def conforming(value: object) -> None:
    """The law that what is read is of its types."""
    try:
        check_conforms(value)
    except TypeError as error:
        raise Broken(str(error)[:500]) from None


def read_pack_twice(path: Path) -> object:
    """Read a pack, and what is written of it."""
    pack = read_pack(path)
    conforming(pack)
    copy = path.with_name("copy.mlgen.zip")
    write_pack(copy, pack)
    first = copy.read_bytes()
    write_pack(copy, read_pack(copy))
    if copy.read_bytes() != first:
        raise Broken("a copy of a copy differs")
    return pack


def read_chunk(path: Path) -> object:
    """Read a chunk, and what is written of it."""
    chunk = ChunkFiles(path.parent, good_files.SOURCE).read(0)
    conforming(chunk.summary)
    good = good_files.chunk().events
    for field in fields(EventBatch):
        column, expected = getattr(chunk.events, field.name), getattr(good, field.name)
        if column.dtype != expected.dtype or column.dim() != expected.dim():
            raise Broken(f"{field.name} of type {column.dtype} and shape {tuple(column.shape)}")
        if len(column) != chunk.summary.n_events:
            raise Broken(
                f"{field.name} of {len(column)} events: {chunk.summary.n_events} announced"
            )
    chunk_bytes(chunk, good_files.SOURCE)
    return chunk


def read_stored_run(path: Path) -> object:
    """Read a checkpoint, and what is written of it."""
    stored = read_checkpoint(path)
    conforming(stored)
    copy = path.with_name("copy.zip")
    RunCheckpoint(copy, stored, StepClock(stored.cpu_s, stored.wall_s)).write()
    again = read_checkpoint(copy)
    if again.card != stored.card or again.learners.keys() != stored.learners.keys():
        raise Broken("a copy differs")
    return stored


def read_stored_job(path: Path) -> object:
    job = read_job(path)
    conforming(job)
    return job


def read_decisions(path: Path) -> object:
    settled = read_settled(path)
    if not all(math.isfinite(value) and value > 0 for value in settled.values()):
        raise Broken(f"{settled}")
    return settled


def read_card_twice(path: Path) -> object:
    """Read a card, and what is written of it."""
    card = read_card(path)
    path.write_text(card_to_toml(card), encoding="utf-8")
    if read_card(path) != card:
        raise Broken("a copy differs")
    return card


LHE_TEXT: Sequence[Mutation] = (*TEXT, *TEXT, *XML, *BYTES)
GZIP: Sequence[Mutation] = (*(inside_gzip(LHE_TEXT),) * 100, *BYTES, *BYTES, gzip_again, gzip_bomb)

READERS = (
    Reader(
        name="lhe",
        file="events.lhe",
        good_files=lambda: good_files.event_files("lhe") + good_files.others_lhe(),
        mutations=LHE_TEXT,
        read=read_lhe,
        n_readings=3,
    ),
    Reader(
        name="lhe.gz",
        file="events.lhe.gz",
        good_files=lambda: good_files.event_files("lhe.gz"),
        mutations=GZIP,
        read=read_lhe,
        n_readings=3,
    ),
    Reader(
        name="lheh5",
        file="events.lheh5",
        good_files=lambda: good_files.event_files("lheh5"),
        mutations=(*HDF5, *BYTES),
        read=read_any,
        n_readings=2,
    ),
    Reader(
        name="pack",
        file="a.mlgen.zip",
        good_files=good_files.packs,
        mutations=(*ZIP, *BYTES),
        read=read_pack_twice,
    ),
    Reader(
        name="chunk",
        file="000000.zip",
        good_files=good_files.chunks,
        mutations=(*ZIP, *BYTES),
        read=read_chunk,
    ),
    Reader(
        name="checkpoint",
        file="checkpoint.zip",
        good_files=good_files.checkpoints,
        mutations=(*ZIP, *BYTES),
        read=read_stored_run,
    ),
    Reader(
        name="job.json",
        file="job.json",
        good_files=good_files.jobs,
        mutations=(*JSON, *TEXT, *BYTES),
        read=read_stored_job,
    ),
    Reader(
        name="run.json",
        file="run.json",
        good_files=good_files.records,
        mutations=(*JSON, *TEXT, *BYTES),
        read=read_decisions,
    ),
    Reader(
        name="card",
        file="card.toml",
        good_files=good_files.cards,
        mutations=(*TEXT, *TEXT, *BYTES),
        read=read_card_twice,
    ),
)
