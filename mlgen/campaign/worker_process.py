"""A worker process as the process that starts it sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Pipe
from time import monotonic

from mlgen.campaign.worker import Answer, Opened, Order, Recipe, import_paths

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from mlgen.campaign.worker import serve; serve(int(sys.argv[1]), sys.argv[3])"
)

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class WorkerProcess:
    """A process with one thread, a group of its own, and a pipe to this one.

    It is a fresh interpreter, as with the "spawn" of multiprocessing: a fork would copy the threads of
    torch in an undefined state. Unlike there, nobody's `__main__` is imported again: scripts need no
    `if __name__ == "__main__"`, and notebooks work. No other process can speak to it: the pipe has no
    name, and is inherited. Ctrl-C in a terminal, which goes to a group, does not reach it.
    """

    def __init__(self, preload: str = "") -> None:
        """Start it.

        Args:
            preload: a module that tasks will need; it is imported while there is no task yet.
        """
        self.index = -1
        """Of the chunk that it was given last."""
        self.is_busy = False
        """Whether it has not answered yet."""
        self.is_open = False
        """Whether it has opened its task."""
        self._recipe: Recipe | None = None
        paths = json.dumps(import_paths())
        self.connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), paths, preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def give(self, index: int, recipe: Recipe) -> None:
        """Let it compute a chunk of a task; where it is dead, `receive` will say so."""
        is_new = not self.is_open or recipe != self._recipe
        if is_new:
            self._recipe, self.is_open = recipe, False
        self.index, self.is_busy = index, True
        with suppress(ConnectionError):
            self.connection.send(Order(index=index, recipe=recipe if is_new else None))

    def receive(self, has_message: bool) -> Answer | None:
        """What it says, or None where it has not finished.

        Args:
            has_message: whether there is something to read, be it the end.

        Raises:
            EOFError: it is dead.
        """
        if not has_message:
            # What it started may hold its end of the pipe open.
            if self._process.poll() is None or self.connection.poll():
                return None
            raise EOFError
        try:
            message: Answer | Opened = self.connection.recv()
        except OSError as error:  # killed half way through a message
            raise EOFError from error
        if isinstance(message, Opened):
            self.is_open = True
            return None
        self.is_busy = False
        return message

    def bury(self) -> int:
        """Its exit code, once it is dead, minus a signal; what it started ends too."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)  # the pipe closes a little before the process ends
        return self._kill()

    def _kill(self) -> int:
        # The number of a group is not given to another one as soon as its leader is gone.
        self._signal(signal.SIGKILL)
        self.connection.close()
        return self._process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def end(processes: Iterable[WorkerProcess], grace_s: float) -> None:
    """End processes, and what they started: SIGTERM, and SIGKILL for those that are still there."""
    processes = list(processes)
    try:
        for process in processes:
            process._signal(signal.SIGTERM)
        deadline = monotonic() + grace_s
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process._process.wait(timeout=max(0.0, deadline - monotonic()))
    finally:  # also on a second Ctrl-C
        for process in processes:
            process._kill()
