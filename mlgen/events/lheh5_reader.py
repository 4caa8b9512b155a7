"""Reading LHEH5 event files of any generator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from mlgen.core import EventBatch
from mlgen.errors import EventFileError
from mlgen.events.lhe_numbers import MAX_PARTICLES, N_COLUMNS, N_INFO, EventTable
from mlgen.events.lhe_reader import events_of, sample_info
from mlgen.events.lhe_scan import LheHead
from mlgen.events.lheh5_datasets import UntrustedFile, check_sum, reporting, rows
from mlgen.events.lheh5_head import read_head
from mlgen.events.lheh5_layout import EVENT_COLUMNS, LAST_BITS, NOMINAL, PARTICLE_COLUMNS
from mlgen.events.reading import EventFileReader
from mlgen.events.writing import EVENTS_PER_PIECE

NOMINAL_NAMES = (NOMINAL, "weight", "nominal", "Nominal", "Weight")
"""What others call the weight of an event."""
UNKNOWN = -1.0
"""A scale or coupling that the file does not have, as in the accord."""


class Lheh5Reader(EventFileReader):
    """Reads an LHEH5 file: mlgen's, pylhe's, Sherpa's.

    `head` and `tables` give what a Les Houches file would have. Weights are in pb, but for files of
    ours in which they stand for 1. Events of weight 0 without particles, with which Sherpa counts
    trials that failed, are left out.
    """

    head: LheHead
    n_events: int
    """Rows of `events`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._file = UntrustedFile(self.path)
        try:
            with reporting(self.path):
                weight_names = self._open_tables()
                found = read_head(self._file, weight_names)
                self._last_bits = self._open_last_bits(found.unit_pb, len(weight_names))
            self.head, self._unit_pb = found.lhe, found.unit_pb
            names = ["events", "particles", LAST_BITS][: 2 if self._last_bits is None else 3]
            self._declared = {n: found.checksums[n] for n in names if n in found.checksums}
            self.info = sample_info(self.path, self.head)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[EventBatch]:
        first = 1
        for found in self.tables():
            yield events_of(self.path, found, first)
            first += len(found.info)

    def tables(self) -> Iterator[EventTable]:
        """The events as numbers, up to 1024 at a time.

        Raises:
            EventFileError: the file is damaged.
        """
        end = 0
        sums = dict.fromkeys(self._declared, 0)
        for first in range(0, self.n_events, EVENTS_PER_PIECE):
            with reporting(self.path):
                events = rows(self._events, first, min(first + EVENTS_PER_PIECE, self.n_events))
                n_particles, start = self._ranges(events, first, end)
                end = int(start[-1] + n_particles[-1])
                pieces = {"events": events, "particles": rows(self._particles, int(start[0]), end)}
                if self._last_bits is not None:
                    pieces[LAST_BITS] = self._last_bits[first : first + len(events)]
            for name in sums:
                sums[name] = isal_zlib.crc32(pieces[name], sums[name])
            found = self._table(pieces, n_particles, start - start[0], first)
            if len(found.info):
                yield found
        for name, declared in self._declared.items():
            check_sum(self.path, name, sums[name], declared)

    def close(self) -> None:
        self._file.close()

    def checksums(self, n_rows: Mapping[str, int]) -> dict[str, int]:
        """The CRC-32 of so many first rows of tables of these names.

        Raises:
            EventFileError: the file is damaged.
        """
        found = {}
        for name, n in n_rows.items():
            checksum = 0
            with reporting(self.path):
                dataset = self._file.table(name)
                for first in range(0, n, EVENTS_PER_PIECE):
                    end = min(first + EVENTS_PER_PIECE, n)
                    checksum = isal_zlib.crc32(dataset[first:end], checksum)
            found[name] = checksum
        return found

    def _open_tables(self) -> list[str]:
        """Find the tables of events and their columns; the names of the further weights."""
        self._events = self._file.table("events")
        self._particles = self._file.table("particles")
        self._file.check_is_filled(self._events)
        self.n_events = len(self._events)
        names = self._file.column_names(self._events, (*EVENT_COLUMNS, NOMINAL))
        particle_names = self._file.column_names(self._particles, PARTICLE_COLUMNS)
        weights = [name for name in names if name not in EVENT_COLUMNS]
        missing = {"nparticles", "start"}.difference(names)
        missing |= set(PARTICLE_COLUMNS).difference(particle_names)
        if missing or not weights:
            lacking = sorted(missing) or [NOMINAL]
            raise EventFileError(f"{self.path}: no columns {lacking}: expected them in LHEH5")
        nominal = next((name for name in NOMINAL_NAMES if name in weights), weights[0])
        weights.remove(nominal)
        column = {name: i for i, name in enumerate(names)}
        scale = next((name for name in ("scale", "fscale") if name in column), "scale")
        self._info_columns = [
            column.get(name, -1) for name in ("nparticles", "pid", nominal, scale, "aqed", "aqcd")
        ]
        self._start_column = column["start"]
        self._weight_columns = [column[name] for name in weights]
        self._particle_columns = [particle_names.index(name) for name in PARTICLE_COLUMNS]
        return weights

    def _open_last_bits(self, unit_pb: float | None, n_weights: int) -> Any:
        """The table of LAST_BITS, None where there is none."""
        if unit_pb is None or not n_weights:
            return None
        found = self._file.table(LAST_BITS)
        if found.shape != (self.n_events, n_weights) or found.dtype != np.int8:
            raise EventFileError(
                f"{self.path}: {LAST_BITS}: of shape {found.shape} and type {found.dtype}: "
                f"expected {(self.n_events, n_weights)} of int8"
            )
        return found

    def _ranges(
        self, events: NDArray[np.float64], first: int, end: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many particles each event has, and its first one; those before end at `end`."""
        n_particles, start = events[:, self._info_columns[0]], events[:, self._start_column]
        broken = ~((n_particles >= 0) & (n_particles <= MAX_PARTICLES))
        broken |= n_particles != np.floor(n_particles)
        if broken.any():
            event = int(broken.argmax())
            raise EventFileError(
                f"{self.path}: event {first + event + 1}: nparticles = {n_particles[event]}: "
                f"expected a whole number up to {MAX_PARTICLES}"
            )
        before = np.concatenate([[end], (start + n_particles)[:-1]])
        limit = np.minimum(before + MAX_PARTICLES, len(self._particles) - n_particles)
        # Events that share rows, or lie far apart, are not what anybody writes.
        broken = ~((start >= before) & (start <= limit)) | (start != np.floor(start))
        if broken.any():
            event = int(broken.argmax())
            raise EventFileError(
                f"{self.path}: event {first + event + 1}: start = {start[event]}: expected "
                f"{int(before[event])}, behind the event before and inside the table"
            )
        return n_particles.astype(np.int64), start.astype(np.int64)

    def _table(
        self,
        pieces: Mapping[str, NDArray[Any]],
        n_particles: NDArray[np.int64],
        start: NDArray[np.int64],
        first: int,
    ) -> EventTable:
        """Rows as the accord has them: `start` is counted from the first of these particles."""
        events, particles = pieces["events"], pieces["particles"]
        info = np.empty((len(events), N_INFO))
        for i, column in enumerate(self._info_columns):
            info[:, i] = events[:, column] if column >= 0 else UNKNOWN
        weights = events[:, self._weight_columns]
        if self._unit_pb is not None:
            others = info[:, 2] != self._unit_pb
            if others.any():
                event = int(others.argmax())
                raise EventFileError(
                    f"{self.path}: event {first + event + 1}: weight = {info[event, 2]}: expected "
                    f"{self._unit_pb} pb, as all weights stand for 1"
                )
            info[:, 2] = 1.0
            weights = weights / self._unit_pb
            if LAST_BITS in pieces:
                weights = (weights.view(np.int64) + pieces[LAST_BITS]).view(np.float64)
        if self._particle_columns != list(range(N_COLUMNS)):
            particles = particles[:, self._particle_columns]
        n_max = int(n_particles.max())
        is_row = np.arange(n_max) < n_particles[:, None]
        padded = np.zeros((len(events), n_max, N_COLUMNS))
        if n_particles.sum() == len(particles):
            padded[is_row] = particles
        else:
            padded[is_row] = particles[(start[:, None] + np.arange(n_max))[is_row]]
        found = EventTable(info=info, particles=padded, weights=weights)
        is_empty = (info[:, 2] == 0) & ~weights.any(1) & ~padded[..., 0].any(1)
        if not is_empty.any():
            return found
        found = found.select(~is_empty)
        n_max = int(found.info[:, 0].max(initial=0))
        return replace(found, particles=found.particles[:, :n_max])
