"""Reading Les Houches event files of any generator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlgen.core import BeamInfo, EventBatch, SampleInfo
from mlgen.errors import EventFileError
from mlgen.events.lhe_numbers import (
    MAX_WHOLE,
    EventTable,
    EventText,
    exact_sum,
    parse_event,
    parse_weights,
)
from mlgen.events.lhe_scan import LheHead, LheScanner
from mlgen.events.lhe_text import OWN_ELEMENTS, WRITERS_NOTES
from mlgen.events.reading import EventFileReader
from mlgen.events.writing import UNIT_WEIGHTS

if TYPE_CHECKING:
    import pylhe


class LheReader(EventFileReader):
    """Reads a Les Houches file, plain or compressed, told apart by content.

    The cross section is the sum over processes.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._scanner = LheScanner(self.path)
        try:
            self.info = sample_info(self.path, self._scanner.head)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[EventBatch]:
        n_events = 0
        for piece in self._scanner.pieces():
            table = piece.table
            if table is None:
                weight_ids = self._scanner.head.weight_ids
                table = parse_texts(self.path, piece.texts, weight_ids, first=n_events + 1)
            yield events_of(self.path, table, first=n_events + 1)
            n_events += len(table.info)

    def close(self) -> None:
        self._scanner.close()


def sample_info(path: Path, head: LheHead) -> SampleInfo:
    """What a head says of its sample; `path` is for the message.

    Raises:
        EventFileError: see `read_init`.
    """
    init = read_init(path, head.init)
    first = init.initInfo
    notes = read_notes(head.header.get("mlgen_notes", ""))
    return SampleInfo(
        beams=(
            BeamInfo(pdg_id=first.beamA, energy_gev=first.energyA, pdf_id=first.PDFsetA),
            BeamInfo(pdg_id=first.beamB, energy_gev=first.energyB, pdf_id=first.PDFsetB),
        ),
        cross_section_pb=exact_sum(process.xSection for process in init.procInfo),
        cross_section_error_pb=math.hypot(*(process.error for process in init.procInfo)),
        weighted=abs(first.weightingStrategy) != UNIT_WEIGHTS,
        process=head.header.get("mlgen_process", ""),
        variations=head.variations,
        card=head.header.get("mlgen_card", "").removeprefix("\n").removesuffix("\n"),
        notes=tuple(note for note in notes if note[0] not in WRITERS_NOTES),
        blocks=tuple(item for item in head.header.items() if item[0] not in OWN_ELEMENTS),
    )


def read_init(path: Path, lines: Sequence[str]) -> pylhe.LHEInit:
    """The init block from its lines; `path` is for the message.

    Raises:
        EventFileError: numbers are missing or there are fewer processes than announced.
    """
    import pylhe  # late: it takes 0.6 s to import, and what writes files needs none of it

    lines = [line for line in lines if not line.lstrip().startswith("#")]
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


def parse_texts(
    path: Path, texts: Sequence[EventText], weight_ids: tuple[str, ...], first: int
) -> EventTable:
    """The numbers of these events; `path` and the number of the first one are for the message.

    Raises:
        EventFileError: the first event that is not what it should be.
    """
    events, weights = [], []
    for text in texts:
        try:
            weights.append(parse_weights(text, weight_ids))
            events.append(parse_event(text.particles))
        except EventFileError as error:
            raise EventFileError(f"{path}: event {first + len(events)}: {error}") from None
    return EventTable.of(events, weights)


def events_of(path: Path, table: EventTable, first: int) -> EventBatch:
    """The events of a table; `path` and the number of the first one are for the message.

    Raises:
        EventFileError: a number that must be whole is not, or IDUP is 0.
    """
    counts = table.particles[..., :6]
    with np.errstate(invalid="ignore"):
        rounded = counts.astype(np.int64)
    broken = (rounded != counts) | (np.abs(rounded) > MAX_WHOLE)
    if bool(broken.any()):
        number = first + int(broken.any((1, 2)).argmax())
        raise EventFileError(f"{path}: event {number}: expected whole numbers in columns 1 to 6")
    # A row without a particle would be lost when the events are written again.
    is_row = np.arange(rounded.shape[1]) < table.info[:, :1]
    missing = is_row & (rounded[..., 0] == 0)
    if bool(missing.any()):
        number = first + int(missing.any(1).argmax())
        raise EventFileError(f"{path}: event {number}: IDUP = 0: expected a particle")
    whole = torch.from_numpy(rounded)
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
