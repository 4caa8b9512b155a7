"""Progress bars for people, plain lines for logs, and silence for scripts.

Each satisfies `mlgen.core.Progress`. They write to standard error, so that standard output
holds results only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task
from rich.progress import Progress as RichBars
from rich.table import Column
from rich.text import Text


class RichProgress:
    """A bar for each step, with what is done, the time it took and the time left, and a note.

    Steps stay visible when they are done. Where the console is no terminal (a log file, a batch
    job), each step is a line at its start and at its end, and one every `interval_s` seconds
    in between, free of control characters.
    """

    def __init__(self, console: Console | None = None, *, interval_s: float = 10.0) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._interval_s = interval_s
        self._bars: RichBars | None = None

    @contextmanager
    def step(self, title: str, total: float) -> Iterator[Callable[[float, str], None]]:
        """A bar of the given length; see `mlgen.core.Progress`."""
        step = _Step(title, total)
        draws_bars = self._console.is_terminal and not self._console.is_dumb_terminal
        with self._bar(step) if draws_bars else self._lines(step) as advance:
            yield advance

    @contextmanager
    def _bar(self, step: _Step) -> Iterator[Callable[[float, str], None]]:
        # A console has one live display, so a step inside a step adds a bar to the outer one's.
        outermost = self._bars is None
        bars = self._bars or RichBars(*_columns(), console=self._console, refresh_per_second=4)
        if outermost:
            bars.start()
            self._bars = bars
        task = bars.add_task(step.title, total=1.0, step=step)

        def advance(more: float, note: str = "") -> None:
            step.advance(more, note)
            bars.update(task, completed=step.fraction)

        try:
            yield advance
            step.finish()
            bars.update(task, completed=1.0)
        except BaseException:
            step.fail()
            raise
        finally:
            bars.stop_task(task)
            if outermost:
                bars.stop()
                self._bars = None

    @contextmanager
    def _lines(self, step: _Step) -> Iterator[Callable[[float, str], None]]:
        self._print(f"{step.title}: started")
        printed_at = 0.0

        def advance(more: float, note: str = "") -> None:
            nonlocal printed_at
            step.advance(more, note)
            if step.elapsed_s - printed_at >= self._interval_s:
                printed_at = step.elapsed_s
                parts = [f"{100 * step.fraction:.0f}%", step.times(), step.note]
                self._print(f"{step.title}: " + ", ".join(part for part in parts if part))

        try:
            yield advance
            step.finish()
            note = f", {step.note}" if step.note else ""
            self._print(f"{step.title}: done in {_duration(step.elapsed_s)}{note}")
        except BaseException:
            step.fail()
            self._print(f"{step.title}: stopped after {_duration(step.elapsed_s)}")
            raise

    def _print(self, line: str) -> None:
        # Not by the console: rich ends the process where nobody reads any more.
        with suppress(OSError):
            print(line, file=self._console.file, flush=True)


class SilentProgress:
    """No output at all."""

    @contextmanager
    def step(self, title: str, total: float) -> Iterator[Callable[[float, str], None]]:
        """A step that nobody watches; see `mlgen.core.Progress`."""
        yield _ignore


def _ignore(more: float, note: str = "") -> None:
    """What a silent step does with an advance."""


class _Step:
    """How far a step is, and when it will be done."""

    def __init__(self, title: str, total: float) -> None:
        self.title = title
        self.note = ""
        self.state = "runs"
        self._total = total
        self._done = 0.0
        self._started = self._advanced = time.monotonic()
        self._ended: float | None = None

    def advance(self, more: float, note: str) -> None:
        self._done += more
        self._advanced = time.monotonic()
        self.note = note or self.note

    def finish(self) -> None:
        self.state, self._ended = "done", time.monotonic()

    def fail(self) -> None:
        self.state, self._ended = "stopped", time.monotonic()

    @property
    def fraction(self) -> float:
        if self.state == "done":
            return 1.0
        return min(self._done / self._total, 1.0) if self._total > 0 else 0.0

    @property
    def elapsed_s(self) -> float:
        return (self._ended or time.monotonic()) - self._started

    @property
    def left_s(self) -> float | None:
        """From the mean speed so far, counted down between advances; None before the first."""
        if self.state != "runs" or self.fraction == 0:
            return None
        at_advance = (self._advanced - self._started) * (1 / self.fraction - 1)
        return max(at_advance - (time.monotonic() - self._advanced), 0.0)

    def times(self) -> str:
        left = self.left_s
        return _duration(self.elapsed_s) + (f", {_duration(left)} left" if left is not None else "")


class _TextColumn(ProgressColumn):
    """A column that writes one thing of a step, never read as markup."""

    def __init__(self, text: Callable[[_Step], str], style: str = "", **column: object) -> None:
        super().__init__(Column(no_wrap=True, **column))  # type: ignore[arg-type]  # Column's own options
        self._text = text
        self._style = style

    def render(self, task: Task) -> Text:
        step: _Step = task.fields["step"]
        style = "red" if step.state == "stopped" else self._style
        return Text(self._text(step), style=style, overflow="ellipsis")


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        _TextColumn(lambda step: step.title, min_width=28),
        BarColumn(bar_width=16, finished_style="green"),
        _TextColumn(lambda step: f"{100 * step.fraction:.0f}%", justify="right", min_width=4),
        _TextColumn(lambda step: _duration(step.elapsed_s), justify="right", min_width=5),
        _TextColumn(_left, style="cyan", min_width=10),
        _TextColumn(lambda step: step.note, style="dim"),
    )


def _left(step: _Step) -> str:
    left = step.left_s
    if left is None:
        return "" if step.state == "runs" else step.state
    return f"{_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
