"""Chunks of work computed by several processes of this machine; one that dies loses only its chunk.

with local_workers(2) as workers:
    for index, result in workers.compute(task, range(100)):
        ...
"""

from __future__ import annotations

import os
import signal
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from mlgen.campaign.schedule import Schedule
from mlgen.campaign.worker import Answer, Recipe, Task
from mlgen.campaign.worker_process import WorkerProcess, end
from mlgen.errors import CardError, MatrixElementError, MlgenError

N_DEATHS = 3
"""So many workers may a chunk cost before it is an error."""

N_AHEAD = 8
"""So many chunks for each worker may be begun, counted from the oldest unfinished one."""

_LOOK_S = 1.0
"""How often workers are looked at that died without closing their pipe."""

_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A worker that died, and its chunk, which was done again."""

    index: int
    cause: str
    """`signal 9 (SIGKILL)`."""


class Workers(ABC):
    """What computes the chunks of tasks; a context manager, which ends what it started."""

    are_children: ClassVar[bool] = False
    """Whether the system adds their CPU time to that of this process, when they end."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        """Workers that died."""
        self.cpu_s = 0.0
        """CPU time of the chunks that other processes computed."""

    @abstractmethod
    def compute(self, task: Task[Result], indices: Iterable[int]) -> Iterator[tuple[int, Result]]:
        """Each chunk's index and result, once, in the order in which they finish.

        Chunks are begun in the order of the indices, which are asked for when a worker is free, and
        a bounded number ahead of the oldest unfinished one. To close the iterator early gives up
        those that were begun.

        Raises:
            MlgenError: a chunk ends every worker that computes it.
            Exception: what the task raises; results that are there come before.
        """

    @abstractmethod
    def close(self) -> None:
        """End all workers."""

    def start(self, module: str) -> None:  # noqa: B027  # nothing to start, for most
        """Say that there will be work soon, for which this module is needed."""

    def release(self) -> None:  # noqa: B027  # nothing to end, for most
        """End processes that start again where there is work: what they cost is counted then."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def local_workers(n_workers: int) -> Workers:
    """Workers on this machine; a single one is this process itself.

    Raises:
        CardError: there would be none.
        MlgenError: this system allows only one.
    """
    if n_workers < 1:
        raise CardError(f"--workers = {n_workers}: expected a positive number of processes")
    return InProcess() if n_workers == 1 else LocalWorkers(n_workers)


class InProcess(Workers):
    """Compute in this process, one chunk after the other."""

    def compute(self, task: Task[Result], indices: Iterable[int]) -> Iterator[tuple[int, Result]]:
        function = None
        for index in indices:
            function = function or task.open()
            yield index, function(index)

    def close(self) -> None:
        """There is nothing to end."""


class LocalWorkers(Workers):
    """Compute in processes of this machine, which stay from one task to the next."""

    are_children = True

    def __init__(self, n_workers: int, grace_s: float = 5.0) -> None:
        """Start nothing yet.

        Args:
            n_workers: how many processes, started when there is work for them.
            grace_s: what they have to end by themselves.

        Raises:
            MlgenError: the system cannot do it.
        """
        super().__init__()
        if os.name != "posix":
            raise MlgenError(f"--workers = {n_workers}: expected 1 on {sys.platform}")
        self._n_workers = n_workers
        self._grace_s = grace_s
        self._processes: list[WorkerProcess] = []

    def compute(self, task: Task[Result], indices: Iterable[int]) -> Iterator[tuple[int, Result]]:
        recipe = Recipe.of(task)
        schedule = Schedule(indices, N_AHEAD * self._n_workers)
        deaths: Counter[int] = Counter()
        try:
            self._hand_out(schedule, recipe)
            while self._busy():
                answers, dead = self._listen()
                for answer in answers:
                    schedule.done(answer.index)
                    self.cpu_s += answer.cpu_s
                errors = [self._bury(process, schedule, deaths) for process in dead]
                if not any(errors) and not any(answer.failure for answer in answers):
                    # Before the caller looks at the results: no worker waits for that.
                    self._hand_out(schedule, recipe)
                for answer in sorted(answers, key=lambda answer: answer.failure is not None):
                    yield answer.index, answer.value()
                for error in filter(None, errors):
                    raise error
        finally:
            self._end(self._busy())

    def close(self) -> None:
        self.release()

    def start(self, module: str) -> None:
        while len(self._processes) < self._n_workers:
            self._processes.append(WorkerProcess(module))

    def release(self) -> None:
        self._end(self._processes)

    def _busy(self) -> list[WorkerProcess]:
        return [process for process in self._processes if process.is_busy]

    def _hand_out(self, schedule: Schedule, recipe: Recipe) -> None:
        """Give chunks to the workers that have none; start them where they are missing."""
        idle = [process for process in self._processes if not process.is_busy]
        for _ in range(self._n_workers - len(self._busy())):
            index = schedule.next()
            if index is None:
                return
            if not idle:
                idle.append(WorkerProcess())
                self._processes.append(idle[-1])
            idle.pop().give(index, recipe)

    def _listen(self) -> tuple[list[Answer], list[WorkerProcess]]:
        """Wait for something to happen: chunks that are finished, and workers that died."""
        answers, dead = [], []
        busy = self._busy()
        ready = wait([process.connection for process in busy], _LOOK_S)
        for process in busy:
            try:
                answer = process.receive(process.connection in ready)
            except EOFError:
                dead.append(process)
                continue
            if answer is not None:
                answers.append(answer)
        return answers, dead

    def _bury(
        self, process: WorkerProcess, schedule: Schedule, deaths: Counter[int]
    ) -> MlgenError | None:
        """Put the chunk of a dead worker back, or give an error where it has cost too many."""
        self._processes.remove(process)
        index, code = process.index, process.bury()
        self.losses.append(Loss(index=index, cause=_cause(code)))
        deaths[index] += 1
        if deaths[index] < N_DEATHS:
            schedule.repeat(index)
            return None
        where = f"chunk {index}" if process.is_open else f"chunk {index}, before it began"
        what = f"{where}: its worker ended {N_DEATHS} times, the last time by {_cause(code)}"
        if -code in _CRASHES:
            return MatrixElementError(f"{what}: expected a matrix element that does not crash")
        if -code == signal.SIGKILL:
            return MlgenError(f"{what}: expected enough memory, or fewer workers")
        return MlgenError(f"{what}: expected a result")

    def _end(self, processes: list[WorkerProcess]) -> None:
        self._processes = [process for process in self._processes if process not in processes]
        end(processes, self._grace_s)


def _cause(code: int) -> str:
    """How a process ended, by its exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:  # a real-time signal
        return f"signal {-code}"
