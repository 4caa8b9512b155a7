"""How long things take."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds that something takes, once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
