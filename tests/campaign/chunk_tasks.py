"""Tasks for workers to compute, and to die of."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlgen.errors import NonFiniteWeight


@dataclass(frozen=True)
class Squares:
    """The square of the index, after a while."""

    seconds: float = 0.0

    def open(self) -> Callable[[int], int]:
        return self._compute

    def _compute(self, index: int) -> int:
        time.sleep(self.seconds)
        return index**2


@dataclass(frozen=True)
class Pids(Squares):
    """The process that computed the chunk."""

    def _compute(self, index: int) -> int:
        time.sleep(self.seconds)
        return os.getpid()


def die_by(what: str) -> None:
    """End this process: by the name of a signal, a real segmentation fault, or an exit code."""
    if what == "segfault":
        ctypes.string_at(0)
    elif what.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, what))
        time.sleep(60)
    else:
        os._exit(int(what))


@dataclass(frozen=True)
class Deadly:
    """Squares, but some chunks kill their worker: the first few times, which a folder remembers."""

    folder: Path
    deadly: tuple[int, ...]
    times: int
    how: str = "SIGKILL"
    in_open: bool = False
    seconds: float = 0.0

    def open(self) -> Callable[[int], int]:
        if self.in_open:
            die_by(self.how)
        return self._compute

    def _compute(self, index: int) -> int:
        (self.folder / f"chunk-{index}-by-{os.getpid()}").touch()
        time.sleep(self.seconds)
        if (
            index in self.deadly
            and len(list(self.folder.glob(f"chunk-{index}-by-*"))) <= self.times
        ):
            die_by(self.how)
        return index**2


class Awkward(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


@dataclass(frozen=True)
class Raising:
    """One chunk raises."""

    bad: int
    what: str
    slow: tuple[int, ...] = ()

    def open(self) -> Callable[[int], object]:
        if self.what == "in open":
            raise NonFiniteWeight("weight = nan")
        return self._compute

    def _compute(self, index: int) -> object:
        if index in self.slow:
            time.sleep(60)
        if index != self.bad:
            return index**2
        time.sleep(0.2)
        if self.what == "noted":
            error = NonFiniteWeight("weight = nan")
            error.add_note("momenta: 1 2 3 4")
            raise error
        if self.what == "awkward":
            raise Awkward(1, 2)
        if self.what == "unpicklable":
            return lambda: index
        raise ZeroDivisionError("1 / 0")


@dataclass(frozen=True)
class Stubborn:
    """Ignores SIGTERM, or starts a process that would outlive it; says so in a folder."""

    folder: Path
    starts: bool = False

    def open(self) -> Callable[[int], int]:
        return self._compute

    def _compute(self, index: int) -> int:
        pids = [os.getpid()]
        if self.starts:
            code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
            pids.append(subprocess.Popen([sys.executable, "-c", code], close_fds=False).pid)
        else:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(0.2)
        for pid in pids:
            (self.folder / str(pid)).touch()
        time.sleep(60)
        return index


@dataclass(frozen=True)
class Tidy:
    """Removes what it has half written on its way out."""

    folder: Path

    def open(self) -> Callable[[int], int]:
        return self._compute

    def _compute(self, index: int) -> int:
        partial = self.folder / f"{index}.partial"
        partial.touch()
        try:
            time.sleep(60)
        finally:
            partial.unlink()
        return index


@dataclass(frozen=True)
class SlowAt:
    """One chunk takes longer."""

    slow: int
    seconds: float

    def open(self) -> Callable[[int], int]:
        return self._compute

    def _compute(self, index: int) -> int:
        time.sleep(self.seconds if index == self.slow else 0)
        return index


@dataclass(frozen=True)
class Large:
    """30 MB."""

    def open(self) -> Callable[[int], bytes]:
        return lambda index: bytes([index]) * 30_000_000


@dataclass(frozen=True)
class Forking:
    """Chunk 0 dies the first time, and leaves a forked process that holds whatever was open."""

    folder: Path

    def open(self) -> Callable[[int], int]:
        return self._compute

    def _compute(self, index: int) -> int:
        if index == 0 and not list(self.folder.iterdir()):
            forked = os.fork()
            if forked == 0:
                time.sleep(60)
                os._exit(0)
            (self.folder / str(forked)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return index


@dataclass(frozen=True)
class Surroundings:
    """What a worker finds around it."""

    folder: str
    paths: list[str]
    omp_num_threads: str
    on_interrupt: str


@dataclass(frozen=True)
class Environment:
    """Looks around."""

    def open(self) -> Callable[[int], Surroundings]:
        return lambda index: Surroundings(
            folder=os.getcwd(),
            paths=sys.path,
            omp_num_threads=os.environ["OMP_NUM_THREADS"],
            on_interrupt=str(signal.getsignal(signal.SIGINT)),
        )


@dataclass(frozen=True)
class Threads:
    """How many threads torch computes with."""

    def open(self) -> Callable[[int], int]:
        import torch

        return lambda index: torch.get_num_threads()


@dataclass(frozen=True)
class Imports:
    """The names of the modules that are imported."""

    def open(self) -> Callable[[int], list[str]]:
        return lambda index: list(sys.modules)
