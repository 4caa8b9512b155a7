"""Progress that watches a run, and may stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StopsAt:
    """Progress that stops the run after some advances of a step."""

    def __init__(self, title: str, n: int, what: BaseException) -> None:
        self.title, self.n_left, self.what = title, n, what
        self.seen: list[str] = []

    @contextmanager
    def step(self, title: str, total: float) -> Iterator[Callable[[float, str], None]]:
        def advance(more: float, note: str = "") -> None:
            self.seen.append(title)
            if title == self.title:
                self.n_left -= 1
                if self.n_left == 0:
                    raise self.what

        yield advance
