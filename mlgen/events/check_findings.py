"""What a check of an event file finds: faults of its events and of the file as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["error", "warning"]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, and which events of a table have it."""

    kind: str
    """A name that stays: `Finding.kind`."""
    severity: Severity
    expected: str
    mask: Mask
    """(n,)."""
    got: Callable[[int], str]
    """What is found in an event that has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One kind of fault, with the first place where it occurs."""

    severity: Severity
    kind: str
    """A name that stays the same from version to version; docs/event_files.md lists them."""
    what: str
    """`where = got: expected`, of the first one."""
    n_events: int
    """How many events have it; 0 for one of the file as a whole."""
    first_event: int
    """Counted from 1; 0 for the file as a whole."""


class Findings:
    """Faults in the order in which they were met; those of events once, with their number."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}

    def of_file(self, severity: Severity, kind: str, what: str) -> None:
        """Note a fault of the file as a whole."""
        finding = Finding(severity=severity, kind=kind, what=what, n_events=0, first_event=0)
        self._found[kind, what] = finding

    def of_event(self, kind: str, what: str, number: int) -> None:
        """Note an error of one event; those of one kind with one text after the last colon are one."""
        self._add(("error", kind, what.rpartition(": ")[2]), what, 1, number)

    def of_events(self, faults: Iterator[Fault], number: NDArray[np.int64]) -> None:
        """Note the faults of the events of a table, which have these numbers (n,) in the file."""
        for fault in faults:
            if fault.mask.any():
                first = int(fault.mask.argmax())
                what = f"{fault.got(first)}: expected {fault.expected}"
                key = (fault.severity, fault.kind, fault.expected)
                self._add(key, what, int(fault.mask.sum()), int(number[first]))

    def _add(self, key: tuple[Severity, str, str], what: str, n_events: int, first: int) -> None:
        severity, kind, expected = key
        seen = self._found.get((kind, expected))
        if seen is not None:
            what, first = seen.what, seen.first_event
            n_events += seen.n_events
        self._found[kind, expected] = Finding(
            severity=severity, kind=kind, what=what, n_events=n_events, first_event=first
        )

    def in_order(self) -> tuple[Finding, ...]:
        """The errors, then the warnings, each in the order in which they were met."""
        return tuple(sorted(self._found.values(), key=lambda finding: finding.severity))
