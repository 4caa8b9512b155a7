"""Which chunk comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Schedule:
    """Chunks in the order of their indices; those that were lost once more, before all others.

    >>> schedule = Schedule([5, 6, 7, 8], n_ahead=2)
    >>> schedule.next(), schedule.next(), schedule.next()
    (5, 6, None)
    >>> schedule.done(6); print(schedule.next())  # 5 is the oldest: no more than two from there
    None
    >>> schedule.repeat(5); schedule.next()
    5
    >>> schedule.done(5); schedule.next(), schedule.next(), schedule.next()
    (7, 8, None)
    """

    def __init__(self, indices: Iterable[int], n_ahead: int) -> None:
        """Plan chunks.

        Args:
            indices: of the chunks, each once; asked for one at a time.
            n_ahead: how many chunks, counted from the oldest unfinished one, may have been begun: who
                puts results into order keeps fewer than that.
        """
        self.n_ahead = n_ahead
        self._indices = iter(indices)
        self._n_begun = 0
        self._unfinished: dict[int, int] = {}  # place of each index, oldest first
        self._lost: deque[int] = deque()

    @property
    def n_unfinished(self) -> int:
        """Chunks that were begun and are not done."""
        return len(self._unfinished)

    def next(self) -> int | None:
        """The chunk to begin, or begin again; None where there is none now."""
        if self._lost:
            return self._lost.popleft()
        oldest = next(iter(self._unfinished.values()), self._n_begun)
        if self._n_begun - oldest >= self.n_ahead:
            return None
        index = next(self._indices, None)
        if index is not None:
            self._unfinished[index] = self._n_begun
            self._n_begun += 1
        return index

    def done(self, index: int) -> None:
        """A chunk is finished."""
        del self._unfinished[index]

    def repeat(self, index: int) -> None:
        """A chunk that was begun is lost."""
        self._lost.append(index)
