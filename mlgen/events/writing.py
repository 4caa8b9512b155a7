"""Writing event files of any format: how weights stand in them, and when a file is a file.

A file is written under a temporary name (`.NAME.*.part`) in its folder, brought to the disk,
compared with what was written, and only then renamed: under its final name it is whole.
"""

from __future__ import annotations

import math
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from mlgen.core import EventBatch, SampleInfo
from mlgen.errors import EventFileError

UNIT_WEIGHTS = 3
"""IDWTUP of a file in which every weight is exactly 1."""
WEIGHTS_IN_PB = -4
"""IDWTUP of a file whose weights, of any size and sign, are in pb with the cross section as mean."""

EVENTS_PER_PIECE = 1024
"""Events that are encoded together. Part of the formats: compressed files differ where it does."""

WEIGHTS_PER_BLOCK = 1 << 14

PieceT = TypeVar("PieceT")
PieceT_co = TypeVar("PieceT_co", covariant=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileWeights:
    """How the weights of a sample stand in its file.

    IDWTUP is +3 where every weight is exactly 1, with XWGTUP = 1 and the cross section in XSECUP;
    else -4, with XWGTUP_i = sigma u_i / mean(u) in pb, whose mean is XSECUP.
    """

    strategy: int
    """IDWTUP."""
    factor: float
    """XWGTUP over `EventBatch.weight`; the same for each variation."""
    largest: float
    """XMAXUP."""
    n_events: int
    kish_effective_size: float
    """(sum u)² / sum u²: as many events of equal weight have the same statistical error."""

    @classmethod
    def of(cls, weights: Iterable[float], info: SampleInfo) -> Self:
        """How these weights (`EventBatch.weight`, in the order of the file) stand in a file.

        One pass, in bounded memory. The sum is exact, so that batches do not matter.

        Raises:
            EventFileError: there are no events, a weight is not finite, or their mean is 0.
        """
        check_info(info)
        tally = _Tally()
        try:
            total = math.fsum(chain.from_iterable(tally.passing(weights)))
        except OverflowError as error:
            raise EventFileError("sum of event weights = inf: expected a finite number") from error
        if tally.n_events == 0:
            raise EventFileError("events = 0: expected at least one event")
        kish = total * (total / tally.sum_of_squares) if tally.sum_of_squares else math.nan
        if not info.weighted and tally.all_are_one:
            strategy, factor, largest = UNIT_WEIGHTS, 1.0, 1.0
        else:
            mean = total / tally.n_events
            if not (math.isfinite(mean) and mean != 0):
                raise EventFileError(f"mean event weight = {mean}: expected a number other than 0")
            strategy, factor = WEIGHTS_IN_PB, info.cross_section_pb / mean
            # Weights that came from a file have the right mean but for rounding: leave their bits.
            if abs(factor - 1) < max(1e-12, 4e-16 * tally.sum_of_sizes / abs(total)):
                factor = 1.0
            largest = abs(factor * tally.largest)
        return cls(
            strategy=strategy,
            factor=factor,
            largest=largest,
            n_events=tally.n_events,
            kish_effective_size=kish,
        )


class _Tally:
    """Sums over weights that pass by, in blocks that do not depend on batches."""

    def __init__(self) -> None:
        self.n_events = 0
        self.all_are_one = True
        self.largest = 0.0
        self.sum_of_sizes = 0.0
        self.sum_of_squares = 0.0

    def passing(self, weights: Iterable[float]) -> Iterator[list[float]]:
        """The weights in blocks, counted as they pass."""
        weights = iter(weights)
        while block := list(islice(weights, WEIGHTS_PER_BLOCK)):
            numbers = np.array(block, dtype=np.float64)
            if not np.isfinite(numbers).all():
                broken = int((~np.isfinite(numbers)).argmax())
                raise EventFileError(
                    f"event {self.n_events + broken + 1}: weight = {block[broken]}: "
                    f"expected finite numbers"
                )
            sizes = np.abs(numbers)
            self.n_events += len(block)
            self.all_are_one &= bool((numbers == 1).all())
            self.largest = max(self.largest, float(sizes.max()))
            with np.errstate(over="ignore"):
                self.sum_of_sizes += float(sizes.sum())
                self.sum_of_squares += float(np.square(numbers).sum())
            yield block


class EventEncoder(Protocol[PieceT_co]):
    """Makes the piece of a file that holds some events.

    A frozen dataclass: other processes can be sent one, and make the pieces that a writer appends.
    """

    def __call__(self, events: EventBatch) -> PieceT_co:
        """The piece of these events.

        Raises:
            EventFileError: a number is not finite, or variations are not those of the sample.
        """


class EventFileWriter(ABC, Generic[PieceT]):
    """An event file that is being written: a context manager.

    Leaving it finishes the file and gives it its name, replacing one that is there; leaving it with
    an error leaves nothing. Where the disk fails or is full, whole events that were written stay in
    the temporary file, which the message names. The same events give the same bytes, in whichever
    batches they come; `append` wants the pieces of `in_pieces` for that.

    Raises `EventFileError` from any method: a number is not finite, variations are not those of
    the sample, the events are not as many as their weights, or the file cannot be written.
    """

    encode: EventEncoder[PieceT]

    def __init__(self, path: Path, info: SampleInfo, weights: FileWeights) -> None:
        check_info(info)
        self.path = Path(path)
        self.info = info
        self.weights = weights
        self.temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        self._n_events = 0
        self._waiting: list[EventBatch] = []
        self._is_kept = False

    def write(self, events: EventBatch) -> None:
        """Write events; up to a piece of them is held back until more come."""
        pieces = list(in_pieces([*self._waiting, events]))
        is_whole = not pieces or len(pieces[-1]) == EVENTS_PER_PIECE
        self._waiting = [] if is_whole else [pieces.pop()]
        for piece in pieces:
            self._append(self._encoded(piece))

    def append(self, piece: PieceT) -> None:
        """Write a piece that `encode` made, after what was written before."""
        self._flush()
        self._append(piece)

    def __enter__(self) -> Self:
        try:
            with self._reporting():
                self._begin()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._complete()
        finally:
            self._discard()

    @abstractmethod
    def _begin(self) -> None:
        """Make the temporary file, with what stands before the events."""

    @abstractmethod
    def _put(self, piece: PieceT) -> int:
        """Write a piece; how many events it holds."""

    @abstractmethod
    def _finish(self) -> None:
        """Write what stands after the events, bring all of it to the disk, and close the file."""

    @abstractmethod
    def _verify(self) -> None:
        """Raise `EventFileError` unless the temporary file holds what was written."""

    @abstractmethod
    def _release(self) -> None:
        """Close the temporary file, if it is open; an OSError is no matter."""

    @abstractmethod
    def _n_whole_events(self) -> int:
        """How many events can be read from the temporary file, which may break off."""

    def _append(self, piece: PieceT) -> None:
        with self._reporting():
            self._n_events += self._put(piece)

    def _flush(self) -> None:
        for events in self._waiting:
            self._append(self._encoded(events))
        self._waiting = []

    def _encoded(self, events: EventBatch) -> PieceT:
        try:
            return self.encode(events)
        except EventFileError:
            # An encoder counts from the first event of a piece: say it with the number in the file.
            check_events(events, len(self.info.variations), first=self._n_events + 1)
            raise

    def _complete(self) -> None:
        self._flush()
        if self._n_events != self.weights.n_events:
            raise EventFileError(
                f"{self.path}: {self._n_events} events: expected {self.weights.n_events}, "
                f"as many as their weights"
            )
        with self._reporting():
            self._finish()
            self._verify()
            os.replace(self.temporary, self.path)

    def _discard(self) -> None:
        with suppress(OSError):
            self._release()
        if not self._is_kept:
            with suppress(OSError):
                self.temporary.unlink(missing_ok=True)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """What the disk refuses, with where the whole events are that it took before."""
        try:
            yield
        except OSError as error:
            with suppress(OSError):
                self._release()
            n_whole = self._n_whole_events() if self.temporary.exists() else 0
            self._is_kept = n_whole > 0
            rest = f"; {n_whole} whole events are left in {self.temporary}" if n_whole else ""
            reason = error.strerror or str(error)
            raise EventFileError(f"{self.path}: cannot be written: {reason}{rest}") from error


def in_pieces(batches: Iterable[EventBatch]) -> Iterator[EventBatch]:
    """The events of these batches in the pieces in which a file holds them; the last may be short."""
    waiting: list[EventBatch] = []
    n_waiting = 0
    for batch in batches:
        start = 0
        while len(batch) - start >= EVENTS_PER_PIECE - n_waiting:
            end = start + EVENTS_PER_PIECE - n_waiting
            yield _joined([*waiting, batch.select(slice(start, end))])
            waiting, n_waiting, start = [], 0, end
        if start < len(batch):
            waiting.append(batch.select(slice(start, None)))
            n_waiting += len(batch) - start
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[EventBatch]) -> EventBatch:
    return batches[0] if len(batches) == 1 else EventBatch.concatenate(batches)


def check_info(info: SampleInfo) -> None:
    """Refuse what is NaN or infinite.

    Raises:
        EventFileError: says which number.
    """
    numbers = {
        "cross_section_pb": info.cross_section_pb,
        "cross_section_error_pb": info.cross_section_error_pb,
        "beams.energy_gev": sum(beam.energy_gev for beam in info.beams),
    }
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise EventFileError(f"{name} = {number}: expected a finite number")


def check_events(events: EventBatch, n_variations: int, first: int = 1) -> None:
    """Refuse what is NaN, infinite or not announced; the first event has the number `first`.

    Raises:
        EventFileError: says which event, and which of its columns.
    """
    if events.variations.shape[1] != n_variations:
        raise EventFileError(
            f"event {first}: {events.variations.shape[1]} variations: expected "
            f"{n_variations}, as the sample says"
        )
    for field in fields(events):
        column = getattr(events, field.name)
        if column.is_floating_point() and not bool(column.isfinite().all()):
            event = int((~column.isfinite()).reshape(len(events), -1).any(1).nonzero()[0])
            found = column[event].tolist()
            raise EventFileError(
                f"event {first + event}: {field.name} = {found}: expected finite numbers"
            )
