"""Les Houches event files, version 3.0 (hep-ph/0109068, hep-ph/0609017): writing and reading.

Header, init block and generator go through pylhe's types. The lines of the events are formatted
here: with pylhe 2.1.0's objects writing was the bottleneck (1e4 events of six particles in a
second of one core, at full precision, against 4.5e4 plain and 3e4 compressed).
"""

from __future__ import annotations

import gzip
import math
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import numpy as np
import pylhe
import torch

import mlgen
from mlgen.core import BeamInfo, EventBatch, SampleInfo
from mlgen.errors import EventFileError
from mlgen.events.lhe_scan import READ_BYTES, EventTable, LheScanner, parse_event

UNIT_WEIGHTS = 3
"""IDWTUP of a file in which every weight is exactly 1."""
WEIGHTS_IN_PB = -4
"""IDWTUP of a file whose weights, of any size and sign, are in pb with the cross section as mean."""

PROCESS_ID = 1
"""LPRUP, the same for all events."""

GZIP_LEVEL = 1
"""The digits of momenta do not compress: level 6 saves a tenth of the size for five times the time."""

EVENTS_PER_PIECE = 512
"""Text and numbers are exchanged in pieces so small that Python's garbage collector stays quiet."""

# pylhe 2.1.0 writes 8 to 15 digits unless told otherwise; repr is the shortest text that is
# read back to the same bits.
FORMAT = pylhe.LHEXMLFormat(
    initinfo="{beamA} {beamB} {energyA!r} {energyB!r} {PDFgroupA} {PDFgroupB} {PDFsetA} {PDFsetB}"
    " {weightingStrategy} {numProcesses}",
    procinfo="{xSection!r} {error!r} {unitWeight!r} {procId}",
)

MAX_WHOLE = 2**53
"""Whole numbers up to here survive being read as float64."""

CLOSING_TAG = b"</LesHouchesEvents>\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Weights:
    """How the weights of a sample stand in its file."""

    strategy: int
    factor: float
    """XWGTUP over `EventBatch.weight`."""
    largest: float
    """XMAXUP."""

    @classmethod
    def of(cls, batches: Sequence[EventBatch], info: SampleInfo) -> _Weights:
        weights = [weight for batch in batches for weight in batch.weight.tolist()]
        if not weights:
            raise EventFileError("events = 0: expected at least one event")
        if not info.weighted and all(weight == 1 for weight in weights):
            return cls(strategy=UNIT_WEIGHTS, factor=1.0, largest=1.0)
        mean = math.fsum(weights) / len(weights)
        if not (math.isfinite(mean) and mean != 0):
            raise EventFileError(f"mean event weight = {mean}: expected a number other than 0")
        factor = info.cross_section_pb / mean
        # Weights that came from a file have the right mean but for rounding: leave their bits.
        if abs(factor - 1) < 1e-12:
            factor = 1.0
        largest = factor * max(weights, key=abs)
        return cls(strategy=WEIGHTS_IN_PB, factor=factor, largest=abs(largest))


def write_lhe(path: Path, events: Iterable[EventBatch], info: SampleInfo) -> None:
    """Write events to a Les Houches file, compressed if its name ends in `.gz`.

    IDWTUP is +3 where every weight is exactly 1, with XWGTUP = 1 and the cross section in XSECUP;
    else -4, with XWGTUP_i = sigma u_i / mean(u) in pb, whose mean is XSECUP. All batches are held
    at once, since the mean must be known before the first event is written.

    The same arguments give the same bytes. The file is written under a temporary name
    (`.NAME.*.part`) in the same folder, read back and only then renamed.

    Args:
        path: its final name; a file that is there already is replaced.
        events: in the order of the file; weights are relative, or in pb if `info.weighted`.
        info: what the file says of itself. Its `notes` follow a first one, `n_events`.

    Raises:
        EventFileError: there are no events, a number is not finite, or the file cannot be written
            or does not read back; nothing has then its final name. Events that were written
            before, on a full disk say, stay in the temporary file, which the message names.
    """
    path = Path(path)
    batches = list(events)
    _check_finite(batches, info)
    weights = _Weights.of(batches, info)
    n_events = sum(map(len, batches))
    pieces = chain(
        [_head(info, weights, n_events).encode()],
        (text.encode() for batch in batches for text in format_events(batch, weights.factor)),
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
            batches.append(_parse(path, piece, first=n_events + 1))
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
        card=head.header.get("mlgen_card", "").removeprefix("\n").removesuffix("\n"),
        notes=tuple(note for note in notes if note[0] != "n_events"),
    )
    return info, EventBatch.concatenate(batches)


def read_init(path: Path, lines: Sequence[str]) -> pylhe.LHEInit:
    """The init block from its lines; `path` is for the message.

    Raises:
        EventFileError: numbers are missing or there are fewer processes than announced.
    """
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


def format_events(batch: EventBatch, factor: float) -> Iterator[str]:
    """The text of the events of a batch, some thousands at a time.

    Args:
        batch: the events.
        factor: XWGTUP over the weight of an event.
    """
    counts_text: dict[tuple[int, ...], str] = {}
    for start in range(0, len(batch), EVENTS_PER_PIECE):
        piece = batch.select(slice(start, start + EVENTS_PER_PIECE))
        is_row = piece.pdg_id != 0
        counts = torch.cat(
            [piece.pdg_id[..., None], piece.status[..., None], piece.mothers, piece.colour], dim=-1
        )
        numbers = torch.cat([piece.momenta, piece.mass[..., None], piece.spin[..., None]], dim=-1)
        rows = []
        for key, (e, px, py, pz, mass, spin) in zip(
            map(tuple, counts[is_row].tolist()), numbers[is_row].tolist(), strict=True
        ):
            # The same few hundred combinations of whole numbers come again and again.
            text = counts_text.get(key)
            if text is None:
                text = counts_text[key] = " ".join(map(str, key))
            rows.append(f"{text} {px!r} {py!r} {pz!r} {e!r} {mass!r} 0. {spin!r}")
        lines = []
        end = 0
        for n_rows, weight, scale, alpha_em, alpha_s in zip(
            is_row.sum(1).tolist(),
            (factor * piece.weight).tolist(),
            piece.scale.tolist(),
            piece.alpha_em.tolist(),
            piece.alpha_s.tolist(),
            strict=True,
        ):
            first, end = end, end + n_rows
            lines.append("<event>")
            lines.append(f"{n_rows} {PROCESS_ID} {weight!r} {scale!r} {alpha_em!r} {alpha_s!r}")
            lines += rows[first:end]
            lines.append("</event>")
        lines.append("")
        yield "\n".join(lines)


def _head(info: SampleInfo, weights: _Weights, n_events: int) -> str:
    """The file up to its first event."""
    notes = [("n_events", str(n_events)), *info.notes]
    for key, value in notes:
        if not key or " = " in key or len(f"{key}{value}".splitlines()) > 1:
            raise EventFileError(f"notes.{key} = {value!r}: expected one line")
    if len({key for key, _ in notes}) < len(notes):
        raise EventFileError(f"notes = {info.notes}: expected keys that differ, n_events apart")
    texts = {
        "mlgen_process": info.process,
        "mlgen_card": info.card and f"\n{info.card}\n",
        "mlgen_notes": "".join(f"\n{key} = {value}" for key, value in notes) + "\n",
    }
    elements = []
    for tag, text in texts.items():
        if text:
            element = ElementTree.Element(tag)
            element.text = text
            elements.append(element)
    one, other = info.beams
    init = pylhe.LHEInit(
        initInfo=pylhe.LHEInitInfo(
            beamA=one.pdg_id,
            beamB=other.pdg_id,
            energyA=float(one.energy_gev),
            energyB=float(other.energy_gev),
            # Since LHAPDF 5 the number of a set says it all, and the group is 0.
            PDFgroupA=0,
            PDFgroupB=0,
            PDFsetA=one.pdf_id,
            PDFsetB=other.pdf_id,
            weightingStrategy=weights.strategy,
            numProcesses=1,
        ),
        procInfo=[
            pylhe.LHEProcInfo(
                xSection=float(info.cross_section_pb),
                error=float(info.cross_section_error_pb),
                unitWeight=weights.largest,
                procId=PROCESS_ID,
            )
        ],
        generators=[pylhe.LHEGenerator(name="mlgen", version=mlgen.__version__, description="")],
    )
    header = pylhe.LHEHeader(initrwgt=pylhe.LHEInitRWGT(), extra_elements=elements)
    return (
        f'<LesHouchesEvents version="{FORMAT.version.value}">\n'
        f"{header.tolhe(FORMAT)}{init.tolhe(FORMAT)}\n"
    )


def _parse(path: Path, texts: Sequence[str], first: int) -> EventBatch:
    """The events of these texts; `path` and the number of the first one are for the message."""
    events = []
    for text in texts:
        try:
            events.append(parse_event(text))
        except EventFileError as error:
            raise EventFileError(f"{path}: event {first + len(events)}: {error}") from None
    table = EventTable.of(events)
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
    )


def _check_finite(batches: Sequence[EventBatch], info: SampleInfo) -> None:
    """Refuse what is NaN or infinite before anything is written."""
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
