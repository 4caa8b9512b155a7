"""Chunks of work computed by the workers of a dask scheduler.

Dask does a chunk again whose worker died, as often as its own setting
`distributed.scheduler.allowed-failures` allows.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from distributed import Client, Future, KilledWorker

from mlgen.campaign.schedule import Schedule
from mlgen.campaign.worker import Answer, Failure, Recipe, Task
from mlgen.campaign.workers import N_AHEAD, Loss, Workers
from mlgen.errors import MlgenError

if TYPE_CHECKING:  # the workers import this file: they need not wait for torch
    from mlgen.core import Progress

N_AT_ONCE = 2
"""Chunks for each worker at a time: the one that it computes, and the next one."""

_LOOK_S = 1.0
"""How often the scheduler is looked at: who works for it, and whether it is still there."""

Result = TypeVar("Result")


class Cluster(Protocol):
    """A scheduler that is ours."""

    def close(self) -> object:
        """End it, and its workers."""


class DaskWorkers(Workers):
    """Compute by all the workers that a scheduler has; they may come and go.

    The recipe of a task goes with each chunk: one that names files in a shared folder travels lighter than
    one that holds them. (A future of it, or a plugin of the workers, would be sent only once: distributed
    2026.8 crowds chunks where the future is, and fails to install a plugin while some worker dies.)
    """

    def __init__(
        self,
        client: Client,
        where: str,
        progress: Progress,
        cluster: Cluster | None = None,
        replace: Callable[[], None] = lambda: None,
    ) -> None:
        """Use a client, and close it in the end.

        Args:
            client: of the scheduler.
            where: its name, for people.
            progress: where it says that it waits for workers.
            cluster: to be closed, too.
            replace: called now and then, to make up for workers that are gone.
        """
        super().__init__()
        self._client = client
        self._where = where
        self._progress = progress
        self._cluster = cluster
        self._replace = replace
        self._name = ""
        self._looked_at = -_LOOK_S
        self._n_workers = 0
        client.subscribe_topic("all", self._hear)

    def compute(self, task: Task[Result], indices: Iterable[int]) -> Iterator[tuple[int, Result]]:
        schedule = Schedule(indices, N_AHEAD)
        finished: SimpleQueue[Future] = SimpleQueue()
        futures: dict[int, Future] = {}  # dask gives up those that nobody keeps
        recipe = Recipe.of(task)
        self._name = f"mlgen-{uuid.uuid4().hex}"
        with self._scheduler():
            self._wait_for_workers()
        try:
            while True:
                self._submit(schedule, recipe, futures, finished)
                if not futures:
                    return
                answers = self._answers(finished)
                for answer in answers:
                    del futures[answer.index]
                    schedule.done(answer.index)
                    self.cpu_s += answer.cpu_s
                for answer in sorted(answers, key=lambda answer: answer.failure is not None):
                    yield answer.index, answer.value()
        finally:
            with suppress(OSError, CancelledError):
                self._client.cancel(list(futures.values()))

    def close(self) -> None:
        with suppress(OSError):
            self._client.unsubscribe_topic("all")
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _submit(
        self,
        schedule: Schedule,
        recipe: Recipe,
        futures: dict[int, Future],
        finished: SimpleQueue[Future],
    ) -> None:
        """Keep the workers busy that are there now."""
        with self._scheduler():
            n_workers = max(1, self._look())
        schedule.n_ahead = N_AHEAD * n_workers
        while len(futures) < N_AT_ONCE * n_workers:
            index = schedule.next()
            if index is None:
                return
            key = (self._name, index)
            with self._scheduler():
                future = self._client.submit(_compute, recipe, index, key=key, priority=-index)
            futures[index] = future
            future.add_done_callback(finished.put)

    def _answers(self, finished: SimpleQueue[Future]) -> list[Answer]:
        """Wait for a chunk to be finished; all that are finished then.

        Raises:
            MlgenError: the scheduler is gone.
        """
        answers: list[Answer] = []
        with self._scheduler():
            while not answers or not finished.empty():
                try:
                    answers.append(self._answer(finished.get(timeout=_LOOK_S)))
                except Empty:
                    self._look()
                    if self._client.status != "running":
                        raise ConnectionError from None
        return answers

    def _answer(self, future: Future) -> Answer:
        """What a worker answered; where none did, an answer that says so."""
        index: int = future.key[1]
        try:
            answer: Answer = future.result()
            return answer
        except (OSError, CancelledError):
            raise
        except KilledWorker as cause:
            error = MlgenError(
                f"chunk {index}, or one beside it: its worker ended {cause.allowed_failures + 1} times: "
                f"expected a result; the logs of the workers of {self._where} may say why"
            )
            error.__cause__ = cause
        except Exception as cause:  # dask's own: those of the task are part of the answer
            error = MlgenError(
                f"{self._where}: {type(cause).__name__}: {cause}: expected mlgen to be installed there "
                "as it is here"
            )
            error.__cause__ = cause
        return Answer(index=index, result=b"", failure=Failure.of(error))

    def _look(self) -> int:
        """How many workers the scheduler has, as of a moment ago."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._n_workers = len(self._client.nthreads())
            self._looked_at = now
            self._replace()
        return self._n_workers

    def _wait_for_workers(self) -> None:
        if self._look():
            return
        with self._progress.step(f"waiting for workers of {self._where}", 1) as advance:
            while not self._look():
                time.sleep(_LOOK_S / 4)
            advance(1, "")

    @contextmanager
    def _scheduler(self) -> Iterator[None]:
        """Say so where the scheduler is gone."""
        try:
            if self._client.status != "running":
                raise ConnectionError
            yield
        except (OSError, CancelledError) as error:
            raise MlgenError(
                f"{self._where}: the scheduler is gone: expected it to stay to the end"
            ) from error

    def _hear(self, event: tuple[float, Any]) -> None:
        """Take down that a worker died. Called in another thread, whatever the scheduler does."""
        message = event[1]
        if not isinstance(message, dict) or message.get("action") != "remove-worker":
            return
        keys = [key for key in message["processing-tasks"] if isinstance(key, tuple | list)]
        chunks = [key[1] for key in keys if key[0] == self._name]
        if chunks and not message["expected"]:
            # The oldest one is computed, the others wait.
            self.losses.append(Loss(index=min(chunks), cause="lost by the scheduler"))


_one_at_a_time = Lock()


def _compute(recipe: Recipe, index: int) -> Answer:
    """What a worker does: one chunk at a time, as what a matrix element keeps may belong to one thread."""
    with _one_at_a_time:
        return Answer.of(index, partial(_opened, recipe))


@lru_cache(maxsize=1)
def _opened(recipe: Recipe) -> Callable[[int], Any]:
    return recipe.open()
