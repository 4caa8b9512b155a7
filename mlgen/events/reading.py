"""Reading event files of any format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from mlgen.core import EventBatch, SampleInfo


class EventFileReader(ABC):
    """An open event file: what it says of itself, and iteration over its events.

    A context manager. Memory does not grow with the file. Raises `EventFileError` on opening it and
    from the iteration: the file is damaged, truncated, or none that can be an event file. Events
    that are whole are handed out before the damage behind them is reported.
    """

    info: SampleInfo
    """`process`, `card` and `notes` are empty for the files of others."""

    @abstractmethod
    def __iter__(self) -> Iterator[EventBatch]:
        """The events, on the CPU, in the order of the file, in batches of some thousands at most."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
