"""The process that runs a command: what it imports, and what signals do to it."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def importing_for_good() -> Iterator[None]:
    """Keep the garbage collector away from what is imported, now and when the process ends.

    Else it looks through all of torch and matplotlib again and again: 0.8 s of CPU time in all.
    """
    if "torch" in sys.modules:  # a caller's process, whose objects are its own
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, which batch systems send before they kill, do as Ctrl-C; say how to go on."""
    takes_signals = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if takes_signals else None
    try:
        yield
    except KeyboardInterrupt as stop:
        print_notes(stop)
        raise
    finally:
        if takes_signals:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def print_notes(error: BaseException) -> None:
    """Say what was noted on an error, to standard error."""
    for note in getattr(error, "__notes__", ()):
        print(f"mlgen: {note}", file=sys.stderr)
