"""Checking a Les Houches event file: is it what the accord says, and what it says of itself?

Streaming, in bounded memory. A fault is reported once, with how often and where it occurs first.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pylhe
from numpy.typing import NDArray

from mlgen.errors import EventFileError
from mlgen.events.check_rules import (
    WEIGHT_TOLERANCE,
    Fault,
    Severity,
    View,
    colour_faults,
    init_faults,
    kinematic_faults,
    number_faults,
    particle_faults,
    variation_faults,
)
from mlgen.events.lhe_reader import read_init, read_notes
from mlgen.events.lhe_scan import (
    N_INFO,
    EventTable,
    EventText,
    LheHead,
    LheScanner,
    parse_event,
    parse_weights,
)
from mlgen.events.writing import EVENTS_PER_PIECE, WEIGHTS_IN_PB

KINEMATIC_TOLERANCE = 1e-9
"""What momentum sums and mass shells may miss, relative to the energies that enter, in a file of
11 or more digits; with fewer it is 100 units of the last digit, 10^(2 - digits)."""

DECIMAL = re.compile(r"[+-]?(\d*\.\d*)(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One kind of fault."""

    severity: Severity
    what: str
    """`where = got: expected`, of the first one."""
    n_events: int
    """How many events have it; 0 for one of the file as a whole."""
    first_event: int
    """Counted from 1; 0 for the file as a whole."""


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
    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        """Whether there are no errors; there may be warnings."""
        return all(finding.severity != "error" for finding in self.findings)


def check_file(path: Path) -> CheckReport:
    """Check a Les Houches file, plain or compressed.

    Errors are: not well-formed XML, DOCTYPE, truncation, no events; numbers that are missing, not
    finite or not whole; NUP or NPRUP against the lines; statuses, mothers and particles that
    cannot be; colour lines that do not close, or on particles that have none; charge or momentum
    that is not conserved, in the whole event or in the decay of a resonance; masses off shell;
    energies above the beam's; weights that contradict IDWTUP, XSECUP or XMAXUP; further weights
    that are not those that the header declares; another number of events than the header notes.
    What the accord leaves open, but readers may stumble over, is a
    warning.

    Raises:
        EventFileError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise EventFileError(f"{path}: no such file: expected an event file")
    findings = _Findings()
    tally = _Tally()
    init: pylhe.LHEInit | None = None
    try:
        with LheScanner(path) as scanner:
            init = _check_head(path, scanner.head, findings)
            piece: list[EventText] = []
            try:
                for text in scanner:
                    piece.append(text)
                    if len(piece) == EVENTS_PER_PIECE:
                        _check_piece(piece, scanner.head, init, tally, findings)
                        piece = []
            finally:
                _check_piece(piece, scanner.head, init, tally, findings)
                _check_totals(scanner.head, init, tally, findings)
    except EventFileError as error:
        findings.of_file("error", str(error).removeprefix(f"{path}: "))
    return CheckReport(
        path=path,
        n_events=tally.n_events,
        weighting_strategy=init.initInfo.weightingStrategy if init else 0,
        cross_section_pb=_cross_section(init) if init else math.nan,
        mean_weight=tally.mean_weight,
        findings=findings.in_order(),
    )


class _Findings:
    """Faults by their kind, in the order in which they were met."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Finding] = {}

    def of_file(self, severity: Severity, what: str) -> None:
        self._by_kind[what] = Finding(severity=severity, what=what, n_events=0, first_event=0)

    def of_events(
        self, severity: Severity, what: str, kind: str, n_events: int, first_event: int
    ) -> None:
        seen = self._by_kind.get(kind)
        if seen is not None:
            what, first_event = seen.what, seen.first_event
            n_events += seen.n_events
        self._by_kind[kind] = Finding(
            severity=severity, what=what, n_events=n_events, first_event=first_event
        )

    def in_order(self) -> tuple[Finding, ...]:
        return tuple(self._by_kind.values())


@dataclass(slots=True)
class _Tally:
    """What is carried from one piece of a file to the next: mostly sums."""

    tolerance: float = KINEMATIC_TOLERANCE
    n_events: int = 0
    n_weights: int = 0
    sum_of_weights: float = 0.0
    sum_of_squares: float = 0.0
    largest: float = 0.0

    @property
    def mean_weight(self) -> float:
        return self.sum_of_weights / self.n_weights if self.n_weights else math.nan

    @property
    def mean_weight_error(self) -> float:
        if not self.n_weights:
            return math.nan
        variance = self.sum_of_squares / self.n_weights - self.mean_weight**2
        return math.sqrt(max(variance, 0.0) / self.n_weights)


def _check_head(path: Path, head: LheHead, findings: _Findings) -> pylhe.LHEInit | None:
    """The init block, if it can be read."""
    if head.version not in ("1.0", "2.0", "3.0"):
        findings.of_file("warning", f"version = {head.version!r}: expected 1.0, 2.0 or 3.0")
    _check_declared(head, findings)
    try:
        init = read_init(path, head.init)
    except EventFileError as error:
        findings.of_file("error", str(error).removeprefix(f"{path}: "))
        return None
    first = init.initInfo
    if abs(first.weightingStrategy) not in (1, 2, 3, 4):
        findings.of_file(
            "error", f"IDWTUP = {first.weightingStrategy}: expected 1 to 4, or the negative"
        )
    for name, energy in (("EBMUP(1)", first.energyA), ("EBMUP(2)", first.energyB)):
        if not (math.isfinite(energy) and energy > 0):
            findings.of_file("error", f"{name} = {energy}: expected a positive energy in GeV")
    for process in init.procInfo:
        if not (math.isfinite(process.xSection) and process.xSection != 0):
            findings.of_file(
                "error", f"XSECUP = {process.xSection}: expected a cross section in pb"
            )
        if not process.error >= 0:
            findings.of_file("error", f"XERRUP = {process.error}: expected an error in pb")
    return init


def _check_declared(head: LheHead, findings: _Findings) -> None:
    """The further weights that the header declares."""
    ids = head.weight_ids
    for name, count in Counter(ids).items():
        if not name:
            findings.of_file("error", "<initrwgt>: a weight without an id: expected one")
        elif count > 1:
            findings.of_file("error", f"<weight id={name!r}> {count} times: expected once")


def _check_piece(
    texts: Sequence[EventText],
    head: LheHead,
    init: pylhe.LHEInit | None,
    tally: _Tally,
    findings: _Findings,
) -> None:
    """Check some events, and add them to the tally."""
    if tally.n_events == 0:
        tally.tolerance = _tolerance([text.particles for text in texts])
    table, number = _parse_piece(texts, head, tally, findings)
    if table is None:
        return

    def report(faults: Iterator[Fault], number: NDArray[np.int64]) -> None:
        for fault in faults:
            if fault.mask.any():
                first = int(fault.mask.argmax())
                what = f"{fault.got(first)}: expected {fault.expected}"
                findings.of_events(
                    fault.severity, what, fault.expected, int(fault.mask.sum()), int(number[first])
                )

    report(number_faults(table), number)
    sound = ~np.logical_or.reduce([fault.mask for fault in number_faults(table)])
    table, number = table.select(sound), number[sound]
    if len(number) == 0:
        return
    weight = table.info[:, 2]
    tally.n_weights += len(weight)
    tally.sum_of_weights += float(weight.sum())
    tally.sum_of_squares += float(np.square(weight).sum())
    tally.largest = max(tally.largest, float(np.abs(weight).max()))
    # Squares of absurd numbers overflow to infinity, which is then found to be off shell.
    with np.errstate(over="ignore", invalid="ignore"):
        view = View.of(table)
        report(particle_faults(view), number)
        report(colour_faults(view), number)
        report(kinematic_faults(view, tally.tolerance), number)
        if init is not None:
            report(init_faults(view, init, tally.tolerance), number)
            severity: Severity = "error" if _is_ours(head) else "warning"
            report(variation_faults(table, head.variations, init, severity), number)


def _parse_piece(
    texts: Sequence[EventText], head: LheHead, tally: _Tally, findings: _Findings
) -> tuple[EventTable | None, NDArray[np.int64]]:
    """The events that can be read, if any, and their numbers; counts all of them."""
    events: list[list[float]] = []
    weights: list[list[float]] = []
    numbers: list[int] = []
    for text in texts:
        tally.n_events += 1
        try:
            event = parse_event(text.particles)
            weights.append(parse_weights(text, head.weight_ids))
            events.append(event)
            numbers.append(tally.n_events)
        except EventFileError as error:
            kind = str(error).rpartition(": ")[2]
            findings.of_events("error", str(error), kind, 1, tally.n_events)
    number = np.array(numbers, dtype=np.int64)
    return (EventTable.of(events, weights) if events else None), number


def _check_totals(
    head: LheHead, init: pylhe.LHEInit | None, tally: _Tally, findings: _Findings
) -> None:
    """What is said of the whole sample, against the events."""
    notes = dict(read_notes(head.header.get("mlgen_notes", "")))
    is_ours = _is_ours(head)
    if tally.n_events == 0:
        findings.of_file("error", "no events: expected at least one")
    if is_ours and notes["n_events"] != str(tally.n_events):
        findings.of_file(
            "error", f"{tally.n_events} events: expected {notes['n_events']}, as the header notes"
        )
    if init is None or tally.n_weights == 0:
        return
    sigma, mean = _cross_section(init), tally.mean_weight
    if abs(init.initInfo.weightingStrategy) == abs(WEIGHTS_IN_PB):
        allowed = max(
            WEIGHT_TOLERANCE * abs(sigma), 0.0 if is_ours else 5 * tally.mean_weight_error
        )
        if not abs(mean - sigma) <= allowed:
            findings.of_file(
                "error", f"mean of XWGTUP = {mean:.9g} pb: expected XSECUP, {sigma:.9g} pb"
            )
        largest = sum(process.unitWeight for process in init.procInfo)
        if is_ours and not math.isclose(largest, tally.largest, rel_tol=WEIGHT_TOLERANCE):
            findings.of_file(
                "error", f"XMAXUP = {largest:.9g}: expected {tally.largest:.9g}, the largest weight"
            )


def _is_ours(head: LheHead) -> bool:
    return "n_events" in dict(read_notes(head.header.get("mlgen_notes", "")))


def _cross_section(init: pylhe.LHEInit) -> float:
    return math.fsum(process.xSection for process in init.procInfo)


def _tolerance(texts: Sequence[str]) -> float:
    """The relative tolerance of kinematics, from the digits that the first momenta have."""
    digits = 1
    for text in texts[:20]:
        for word in text.split()[N_INFO:]:
            if decimal := DECIMAL.fullmatch(word):
                digits = max(digits, len(decimal[1].replace(".", "").lstrip("0")))
    return max(KINEMATIC_TOLERANCE, 10.0 ** (2 - digits))
