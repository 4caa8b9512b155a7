"""Les Houches event files, version 3.0 (hep-ph/0109068, hep-ph/0609017): writing and reading."""

from __future__ import annotations

import gzip
import math
import os
import secrets
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import fields
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

from mlgen.core import BeamInfo, EventBatch, SampleInfo
from mlgen.errors import EventFileError
from mlgen.events.lhe_scan import (
    MAX_WHOLE,
    READ_BYTES,
    EventTable,
    EventText,
    LheScanner,
    parse_event,
    parse_weights,
)
from mlgen.events.lhe_text import (
    CLOSING_TAG,
    EVENTS_PER_PIECE,
    UNIT_WEIGHTS,
    FileWeights,
    format_events,
    head_text,
)

if TYPE_CHECKING:
    import pylhe

GZIP_LEVEL = 1
"""The digits of momenta do not compress: level 6 saves a tenth of the size for five times the time."""


def write_lhe(path: Path, events: Iterable[EventBatch], info: SampleInfo) -> None:
    """Write events to a Les Houches file, compressed if its name ends in `.gz`.

    IDWTUP is +3 where every weight is exactly 1, with XWGTUP = 1 and the cross section in XSECUP;
    else -4, with XWGTUP_i = sigma u_i / mean(u) in pb, whose mean is XSECUP. All batches are held
    at once, since the mean must be known before the first event is written. The further weights
    stand in `<rwgt>`, in the unit of XWGTUP: the mean of one over that of XWGTUP is the ratio of
    their cross sections, and under -4 its mean is its cross section.

    The same arguments give the same bytes. The file is written under a temporary name
    (`.NAME.*.part`) in the same folder, read back and only then renamed.

    Args:
        path: its final name; a file that is there already is replaced.
        events: in the order of the file; weights are relative, or in pb if `info.weighted`.
        info: what the file says of itself. Its `notes` follow a first one, `n_events`.

    Raises:
        EventFileError: there are no events, a number is not finite, events have more or fewer
            weights than `info.variations`, or the file cannot be written or does not read back; nothing has then its final name. Events that were written
            before, on a full disk say, stay in the temporary file, which the message names.
    """
    path = Path(path)
    batches = list(events)
    _check_events(batches, info)
    weights = FileWeights.of(batches, info)
    n_events = sum(map(len, batches))
    pieces = chain(
        [head_text(info, weights, n_events).encode()],
        (
            text.encode()
            for batch in batches
            for text in format_events(batch, weights.factor, info.variations)
        ),
        [CLOSING_TAG],
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        checksum = _write(temporary, pieces, compress=path.suffix == ".gz")
        if _checksum(temporary, compressed=path.suffix == ".gz") != checksum:
            raise EventFileError(f"{path}: not what was written: the disk may be failing")
        # The events are our own text; the header has the caller's, such as a card.
        with LheScanner(temporary):
            pass
        os.replace(temporary, path)
    except OSError as error:
        n_whole = _n_whole_events(temporary) if temporary.exists() else 0
        if n_whole == 0:
            temporary.unlink(missing_ok=True)
        rest = f"; {n_whole} whole events are left in {temporary}" if n_whole else ""
        raise EventFileError(f"{path}: cannot be written: {error.strerror}{rest}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_lhe(path: Path) -> tuple[SampleInfo, EventBatch]:
    """What a Les Houches file says of itself, and its events, on the CPU.

    What `write_lhe` wrote comes back bit for bit, weights as they stand in the file: in pb, with
    `weighted`, unless all of them are 1. `process`, `card` and `notes` are empty for the files of
    others; the cross section is the sum over processes.

    Args:
        path: plain or compressed, told apart by content.

    Raises:
        EventFileError: the file is not there, damaged, truncated, or holds no events.
    """
    path = Path(path)
    batches: list[EventBatch] = []
    n_events = 0
    with LheScanner(path) as scanner:
        head = scanner.head
        events = iter(scanner)
        while piece := list(islice(events, EVENTS_PER_PIECE)):
            batches.append(_parse(path, piece, head.weight_ids, first=n_events + 1))
            n_events += len(piece)
    if n_events == 0:
        raise EventFileError(f"{path}: no events: expected at least one")
    init = read_init(path, head.init)
    notes = read_notes(head.header.get("mlgen_notes", ""))
    info = SampleInfo(
        beams=(
            BeamInfo(
                pdg_id=init.initInfo.beamA,
                energy_gev=init.initInfo.energyA,
                pdf_id=init.initInfo.PDFsetA,
            ),
            BeamInfo(
                pdg_id=init.initInfo.beamB,
                energy_gev=init.initInfo.energyB,
                pdf_id=init.initInfo.PDFsetB,
            ),
        ),
        cross_section_pb=math.fsum(process.xSection for process in init.procInfo),
        cross_section_error_pb=math.hypot(*(process.error for process in init.procInfo)),
        weighted=abs(init.initInfo.weightingStrategy) != UNIT_WEIGHTS,
        process=head.header.get("mlgen_process", ""),
        variations=head.variations,
        card=head.header.get("mlgen_card", "").removeprefix("\n").removesuffix("\n"),
        notes=tuple(note for note in notes if note[0] != "n_events"),
    )
    return info, EventBatch.concatenate(batches)


def read_init(path: Path, lines: Sequence[str]) -> pylhe.LHEInit:
    """The init block from its lines; `path` is for the message.

    Raises:
        EventFileError: numbers are missing or there are fewer processes than announced.
    """
    import pylhe  # late: it takes 0.6 s to import, and what writes files needs none of it

    try:
        first = pylhe.LHEInitInfo.fromstring(lines[0])
        processes = [pylhe.LHEProcInfo.fromstring(line) for line in lines[1:]]
    except (ValueError, OverflowError, IndexError) as error:
        raise EventFileError(f"{path}: init block: {error}: expected its numbers") from error
    if first.numProcesses != len(processes) or not processes:
        raise EventFileError(
            f"{path}: NPRUP = {first.numProcesses}: expected {len(processes)}, the lines there are"
        )
    return pylhe.LHEInit(initInfo=first, procInfo=processes, generators=[])


def read_notes(text: str) -> tuple[tuple[str, str], ...]:
    """The `key = value` lines of a header, in their order."""
    lines = [line.partition(" = ") for line in text.splitlines() if line.strip()]
    return tuple((key, value) for key, _, value in lines)


def _parse(
    path: Path, texts: Sequence[EventText], weight_ids: tuple[str, ...], first: int
) -> EventBatch:
    """The events of these texts; `path` and the number of the first one are for the message."""
    events, weights = [], []
    for text in texts:
        try:
            weights.append(parse_weights(text, weight_ids))
            events.append(parse_event(text.particles))
        except EventFileError as error:
            raise EventFileError(f"{path}: event {first + len(events)}: {error}") from None
    table = EventTable.of(events, weights)
    counts = table.particles[..., :6]
    broken = (np.abs(counts) > MAX_WHOLE) | (counts != np.floor(counts))
    if bool(broken.any()):
        number = first + int(broken.any((1, 2)).argmax())
        raise EventFileError(f"{path}: event {number}: expected whole numbers in columns 1 to 6")
    whole = torch.from_numpy(counts.astype(np.int64))
    info, particles = torch.from_numpy(table.info), torch.from_numpy(table.particles)
    return EventBatch(
        pdg_id=whole[..., 0],
        status=whole[..., 1],
        mothers=whole[..., 2:4],
        colour=whole[..., 4:6],
        momenta=particles[..., [9, 6, 7, 8]],
        mass=particles[..., 10],
        spin=particles[..., 12],
        weight=info[:, 2],
        scale=info[:, 3],
        alpha_em=info[:, 4],
        alpha_s=info[:, 5],
        variations=torch.from_numpy(table.weights),
    )


def _check_events(batches: Sequence[EventBatch], info: SampleInfo) -> None:
    """Refuse what is NaN, infinite or not announced before anything is written."""
    numbers = {
        "cross_section_pb": info.cross_section_pb,
        "cross_section_error_pb": info.cross_section_error_pb,
        "beams.energy_gev": sum(beam.energy_gev for beam in info.beams),
    }
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise EventFileError(f"{name} = {number}: expected a finite number")
    first = 1
    for batch in batches:
        if batch.variations.shape[1] != len(info.variations):
            raise EventFileError(
                f"event {first}: {batch.variations.shape[1]} variations: expected "
                f"{len(info.variations)}, as the sample says"
            )
        for field in fields(batch):
            column = getattr(batch, field.name)
            if column.is_floating_point() and not bool(column.isfinite().all()):
                event = int((~column.isfinite()).reshape(len(batch), -1).any(1).nonzero()[0])
                found = column[event].tolist()
                raise EventFileError(
                    f"event {first + event}: {field.name} = {found}: expected finite numbers"
                )
        first += len(batch)


def _write(path: Path, pieces: Iterable[bytes], compress: bool) -> int:
    """Write a new file and bring it to the disk; the CRC-32 of its uncompressed text."""
    checksum = 0
    with path.open("xb") as raw:
        with ExitStack() as stack:
            stream: BinaryIO | gzip.GzipFile = raw
            if compress:
                # No name and no time in the gzip header: the bytes depend on the events alone.
                stream = stack.enter_context(
                    gzip.GzipFile("", "wb", compresslevel=GZIP_LEVEL, fileobj=raw, mtime=0)
                )
            for piece in pieces:
                checksum = zlib.crc32(piece, checksum)
                stream.write(piece)
        raw.flush()
        os.fsync(raw.fileno())
    return checksum


def _checksum(path: Path, compressed: bool) -> int:
    """The CRC-32 of a file's uncompressed text."""
    checksum = 0
    with ExitStack() as stack:
        stream: BinaryIO | gzip.GzipFile = stack.enter_context(path.open("rb"))
        if compressed:
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream, mode="rb"))
        while piece := stream.read(READ_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _n_whole_events(path: Path) -> int:
    """How many events can be read from a file that may break off."""
    n_events = 0
    with suppress(EventFileError), LheScanner(path) as scanner:
        for _ in scanner:
            n_events += 1
    return n_events
