"""Checking an event file: is it what the Les Houches accord says, and what it says of itself?

Streaming, in bounded memory. A fault is reported once, with how often and where it occurs first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlgen.errors import EventFileError
from mlgen.events.check_colour import colour_faults
from mlgen.events.check_findings import Finding, Findings
from mlgen.events.check_head import (
    VERSIONS,
    Head,
    InitBlock,
    check_declared,
    check_init,
    init_faults,
    unit_faults,
    variation_faults,
)
from mlgen.events.check_record import compare_with_record
from mlgen.events.check_rules import (
    event_faults,
    kinematic_faults,
    mother_faults,
    number_faults,
    particle_faults,
)
from mlgen.events.check_totals import Tally, check_totals, mass_faults
from mlgen.events.check_view import View
from mlgen.events.lhe_numbers import (
    N_COLUMNS,
    N_INFO,
    EventTable,
    EventText,
    parse_event,
    parse_weights,
)
from mlgen.events.lhe_reader import read_notes
from mlgen.events.lhe_scan import LheHead, LheScanner
from mlgen.events.lheh5_layout import MAGIC

KINEMATIC_TOLERANCE = 1e-9
"""What momentum sums and mass shells may miss, relative to the energies that enter, in a file of
11 or more digits; with fewer it is 100 units of the last digit, 10^(2 - digits)."""
LARGEST_TOLERANCE = 1e-3
"""Few digits may be round numbers."""
EVENTS_FOR_DIGITS = 20

EVENTS_PER_CHECK = 2048
"""Events that the rules look at together: fewer cost numpy's calls, more do not fit in caches."""
MAX_ROWS = 1 << 16
"""Of a table; a record may be a hundred times as long as those around it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """What was found in a file."""

    path: Path
    n_events: int
    """Whole events, those with faults included."""
    weighting_strategy: int
    """IDWTUP; 0 where no init block could be read."""
    cross_section_pb: float
    """XSECUP, summed over processes."""
    mean_weight: float
    """The mean of XWGTUP."""
    kish_effective_size: float
    """(sum w)² / sum w²: as many events of equal weight have the same statistical error."""
    checksum: Literal["agrees", "differs", "not compared"]
    """With the record of the run beside the file."""
    findings: tuple[Finding, ...]
    """The errors, then the warnings."""

    @property
    def is_good(self) -> bool:
        """Whether there are no errors; there may be warnings."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_table(self) -> dict[str, Any]:
        """The report as JSON has it; null for numbers that could not be had."""
        table = {"schema": "mlgen-check", "schema_version": 1, "is_good": self.is_good}
        for key, value in asdict(self).items():
            is_missing = isinstance(value, float) and not math.isfinite(value)
            table[key] = None if is_missing else value
        return table | {"path": str(self.path), "findings": [*map(asdict, self.findings)]}


def check_file(path: Path) -> CheckReport:
    """Check an event file of any format.

    Errors are: not well-formed XML, DOCTYPE, truncation, no events; numbers that are missing, not
    finite or not whole; NUP or NPRUP against the lines; statuses, mothers and particles that
    cannot be; colour lines that do not close, or on particles that have none; charge or momentum
    that is not conserved, in the whole event or in the decay of a resonance; masses off shell;
    energies above the beam's; weights that contradict IDWTUP, XSECUP or XMAXUP; further weights
    that are not those that the header declares; other numbers than the header notes; another
    checksum than that in the record of the run beside the file. What the accord leaves open, but
    readers may stumble over, is a warning.

    Raises:
        EventFileError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise EventFileError(f"{path}: no such file: expected an event file")
    check = _Check()
    is_same: bool | None = None
    try:
        is_same = compare_with_record(path, check.findings)
        if _begins_with(path, MAGIC):
            _check_lheh5(path, check)
        else:
            _check_lhe(path, check)
    except EventFileError as error:
        check.findings.of_file("error", "document", str(error).removeprefix(f"{path}: "))
    except OSError as error:
        check.findings.of_file("error", "document", f"cannot be read: {error.strerror}")
    init = check.head.init
    return CheckReport(
        path=path,
        n_events=check.tally.n_events,
        weighting_strategy=init.strategy if init else 0,
        cross_section_pb=init.cross_section_pb if init else math.nan,
        mean_weight=check.tally.mean,
        kish_effective_size=check.tally.kish_effective_size,
        checksum="not compared" if is_same is None else "agrees" if is_same else "differs",
        findings=check.findings.in_order(),
    )


@dataclass(slots=True)
class _Check:
    """A check on its way through a file."""

    findings: Findings = field(default_factory=Findings)
    tally: Tally = field(default_factory=Tally)
    head: Head = field(default_factory=lambda: Head(init=None))
    tolerance: float = math.nan
    _waiting: list[tuple[EventTable, NDArray[np.int64]]] = field(default_factory=list)

    def begin(self, head: LheHead) -> None:
        """Check what stands before the events."""
        init: InitBlock | None = None
        check_declared(head.weight_ids, self.findings)
        try:
            init = InitBlock.of(head.init)
            check_init(init, self.findings)
        except EventFileError as error:
            self.findings.of_file("error", "init", str(error))
        notes = dict(read_notes(head.header.get("mlgen_notes", "")))
        self.head = Head(init=init, variations=head.variations, notes=notes)

    def texts(self, texts: Sequence[EventText], ids: tuple[str, ...]) -> None:
        """Read and check the next events; those that cannot be read are counted too."""
        events: list[list[float]] = []
        weights: list[list[float]] = []
        numbers: list[int] = []
        for number, text in enumerate(texts, self.tally.n_events + 1):
            try:
                event = parse_event(text.particles)
                weights.append(parse_weights(text, ids))
                events.append(event)
                numbers.append(number)
            except EventFileError as error:
                self.findings.of_event("lines", str(error), number)
        self.tally.n_events += len(texts)
        for part in _parts([(len(event) - N_INFO) // N_COLUMNS for event in events]):
            self._add(EventTable.of(events[part], weights[part]), np.array(numbers[part]))

    def table(self, table: EventTable) -> None:
        """Check the next events."""
        number = np.arange(1, len(table.info) + 1) + self.tally.n_events
        self.tally.n_events += len(table.info)
        n, n_max = table.particles.shape[:2]
        if n * n_max <= MAX_ROWS:
            self._add(table, number)
            return
        n_rows = table.info[:, 0].astype(np.int64).tolist()
        for part in _parts(n_rows):
            cut = EventTable(
                info=table.info[part],
                particles=table.particles[part, : max(n_rows[part])],
                weights=table.weights[part],
            )
            self._add(cut, number[part])

    def finish(self, head: LheHead) -> None:
        """Check the events that wait, and what is said of all of them."""
        self._flush()
        check_totals(self.head, head.header, self.tally, self.findings)

    def _add(self, table: EventTable, number: NDArray[np.int64]) -> None:
        shapes = [
            table.particles.shape[:2],
            *(held.particles.shape[:2] for held, _ in self._waiting),
        ]
        n, n_max = sum(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
        if n > EVENTS_PER_CHECK or n * n_max > MAX_ROWS:
            self._flush()
        self._waiting.append((table, number))

    def _flush(self) -> None:
        if self._waiting:
            tables, numbers = zip(*self._waiting, strict=True)
            self._waiting.clear()
            self._apply_rules(_joined(tables), np.concatenate(numbers))

    def _apply_rules(self, table: EventTable, number: NDArray[np.int64]) -> None:
        """Check n events, which have these numbers (n,) in the file, and add them to the tally."""
        broken = number_faults(table)
        self.findings.of_events(iter(broken), number)
        is_broken = np.logical_or.reduce([fault.mask for fault in broken])
        if is_broken.any():
            table, number = table.select(~is_broken), number[~is_broken]
        if len(number) == 0:
            return
        if math.isnan(self.tolerance):
            self.tolerance = _tolerance(table)
        self.tally.add(table.info[:, 2])
        view = View.of(table)
        # Squares of absurd numbers overflow to infinity, which is then found to be off shell.
        with np.errstate(over="ignore", invalid="ignore"):
            faults = chain(
                particle_faults(view),
                mother_faults(view),
                event_faults(view),
                colour_faults(view),
                kinematic_faults(view, self.tolerance),
                init_faults(view, self.head, self.tolerance),
                unit_faults(table, self.head, self.tally.first),
                variation_faults(table, self.head),
                mass_faults(view, self.tally) if self.head.is_ours else (),
            )
            self.findings.of_events(faults, number)


def _check_lhe(path: Path, check: _Check) -> None:
    """Check a Les Houches file, plain or compressed."""
    with LheScanner(path) as scanner:
        head = scanner.head
        if head.version not in VERSIONS:
            what = f"version = {head.version!r}: expected one of {', '.join(VERSIONS)}"
            check.findings.of_file("warning", "version", what)
        check.begin(head)
        try:
            for piece in scanner.pieces():
                if piece.table is not None:
                    check.table(piece.table)
                else:
                    check.texts(piece.texts, head.weight_ids)
        finally:
            # What is whole before the damage is checked too.
            check.finish(head)


def _check_lheh5(path: Path, check: _Check) -> None:
    """Check an LHEH5 file."""
    from mlgen.events.lheh5_reader import Lheh5Reader  # late: HDF5 and its compression

    with Lheh5Reader(path) as reader:
        check.begin(reader.head)
        check.head = replace(check.head, counts_trials=not check.head.is_ours)
        try:
            for table in reader.tables():
                check.table(table)
        finally:
            check.finish(reader.head)


def _begins_with(path: Path, first_bytes: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(first_bytes)) == first_bytes


def _parts(n_rows: Sequence[int]) -> Iterator[slice]:
    """Slices of events with so many particles, each small enough for a table of MAX_ROWS."""
    start = longest = 0
    for end, n in enumerate(n_rows):
        longest = max(longest, n)
        if (end + 1 - start) * longest > MAX_ROWS:
            yield slice(start, end)
            start, longest = end, n
    if start < len(n_rows):
        yield slice(start, len(n_rows))


def _joined(tables: Sequence[EventTable]) -> EventTable:
    """The events of all tables, in their order."""
    if len(tables) == 1:
        return tables[0]
    n_max = max(table.particles.shape[1] for table in tables)
    particles = np.zeros((sum(len(table.info) for table in tables), n_max, N_COLUMNS))
    end = 0
    for table in tables:
        first, end = end, end + len(table.info)
        particles[first:end, : table.particles.shape[1]] = table.particles
    return EventTable(
        info=np.concatenate([table.info for table in tables]),
        particles=particles,
        weights=np.concatenate([table.weights for table in tables]),
    )


def _tolerance(table: EventTable) -> float:
    """The relative tolerance of kinematics, from the digits that the first momenta have."""
    momenta = table.particles[:EVENTS_FOR_DIGITS, :, 6:11]
    # The shortest decimals that give a number are not more than those it was read from.
    mantissas = [repr(number).partition("e")[0] for number in momenta[momenta != 0].tolist()]
    digits = [len(text.lstrip("-0.").replace(".", "").rstrip("0")) for text in mantissas]
    tolerance = 10.0 ** (2 - max(digits, default=1))
    return min(max(KINEMATIC_TOLERANCE, tolerance), LARGEST_TOLERANCE)
