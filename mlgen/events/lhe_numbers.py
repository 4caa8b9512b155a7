"""The events of a Les Houches file as numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mlgen.errors import EventFileError

MAX_PARTICLES = 500
"""MAXNUP of the accord."""
MAX_WHOLE = 2**53
"""Whole numbers up to here survive being read as float64."""
N_INFO = 6
"""Numbers of an event's first line: NUP IDPRUP XWGTUP SCALUP AQEDUP AQCDUP."""
N_COLUMNS = 13
"""Numbers of a particle's line: IDUP ISTUP MOTHUP(2) ICOLUP(2) PUP(5) VTIMUP SPINUP."""


def exact_sum(numbers: Iterable[float]) -> float:
    """The sum, rounded once; NaN where it is too large or a number is not finite."""
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return math.nan


class EventText(NamedTuple):
    """One event as it stands in the file."""

    particles: str
    """What stands directly in the event: its first line and its particles."""
    weight_ids: tuple[str, ...] = ()
    """The ids of its further weights, in `<rwgt>`."""
    weights: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class EventTable:
    """Some events as numbers; the columns are those of the accord."""

    info: NDArray[np.float64]
    """(n, N_INFO)."""
    particles: NDArray[np.float64]
    """(n, n_max, N_COLUMNS); 0 in the rows from NUP on."""
    weights: NDArray[np.float64]
    """(n, n_weights): the further weights."""

    @classmethod
    def of(cls, events: list[list[float]], weights: list[list[float]]) -> Self:
        """The table of n >= 1 events as `parse_event` and `parse_weights` give them."""
        info = np.array([event[:N_INFO] for event in events])
        n_rows = info[:, 0].astype(np.int64)
        rows = np.array([x for event in events for x in event[N_INFO:]]).reshape(-1, N_COLUMNS)
        particles = np.zeros((len(events), int(n_rows.max()), N_COLUMNS))
        particles[np.arange(particles.shape[1]) < n_rows[:, None]] = rows
        return cls(info=info, particles=particles, weights=np.array(weights, dtype=np.float64))

    def select(self, mask: NDArray[np.bool_]) -> Self:
        """The events of a mask (n,)."""
        return replace(
            self,
            info=self.info[mask],
            particles=self.particles[mask],
            weights=self.weights[mask],
        )


def parse_weights(event: EventText, ids: tuple[str, ...]) -> list[float]:
    """The further weights of one event, in the order of these ids, which are those declared.

    Raises:
        EventFileError: it has others, or one of them is no number.
    """
    if len(event.weight_ids) != len(ids):
        raise EventFileError(
            f"<rwgt> of {len(event.weight_ids)} weights: expected {len(ids)}, as <initrwgt> declares"
        )
    texts: Sequence[str] = event.weights
    if event.weight_ids != ids:
        by_id = dict(zip(event.weight_ids, event.weights, strict=True))
        for name in event.weight_ids:
            if name not in ids:
                raise EventFileError(f"<wgt id={name!r}>: expected an id that <initrwgt> declares")
        if len(by_id) < len(ids):
            raise EventFileError("<wgt> of the same id twice: expected ids that differ")
        texts = [by_id[name] for name in ids]
    try:
        numbers = list(map(float, texts))
    except ValueError as error:
        raise EventFileError(f"<wgt>: {error}: expected a number") from None
    if any("_" in text or not text.isascii() for text in texts):
        raise EventFileError("<wgt> with characters that do not belong in a number")
    return numbers


def parse_event(text: str) -> list[float]:
    """The numbers of one event: N_INFO of its first line, then N_COLUMNS for each particle.

    Raises:
        EventFileError: the lines are not what the first one announces, or hold no numbers.
    """
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    if not lines:
        raise EventFileError("no lines: expected an event")
    words = lines[0].split()
    if len(words) != N_INFO:
        raise EventFileError(f"first line of {len(words)} numbers: expected {N_INFO}")
    try:
        n_particles = int(words[0])
    except ValueError:
        raise EventFileError(f"NUP = {words[0]}: expected a whole number") from None
    if n_particles > MAX_PARTICLES:
        raise EventFileError(f"NUP = {n_particles}: expected at most {MAX_PARTICLES}")
    particles = [line for line in lines[1:] if not line.lstrip().startswith("#")]
    if n_particles < 1 or len(particles) != n_particles:
        raise EventFileError(f"NUP = {n_particles}: expected {len(particles)}, the lines there are")
    for line in particles:
        row = line.split()
        if len(row) != N_COLUMNS:
            raise EventFileError(f"particle line of {len(row)} numbers: expected {N_COLUMNS}")
        words += row
    try:
        numbers = list(map(float, words))
    except ValueError as error:
        raise EventFileError(f"{error}: expected a number") from None
    # Python reads 1_0 and other alphabets' digits as numbers, and splits at their spaces; nobody
    # else does.
    suspicious = "_" in text or not text.isascii()
    if suspicious and any("_" in line or not line.isascii() for line in (lines[0], *particles)):
        raise EventFileError("a line with characters that do not belong in a number")
    return numbers
