"""One worker process: it opens a task, computes chunks of it, and ends with the process that started it."""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Protocol, Self, TypeVar

import mlgen
from mlgen.errors import MlgenError

Result_co = TypeVar("Result_co", covariant=True)


class Task(Protocol[Result_co]):
    """What is to be computed, as a small recipe that can be pickled."""

    def open(self) -> Callable[[int], Result_co]:
        """Called once in each worker; gives the function that computes a chunk from its index.

        The result of a chunk is pickled, too; with one worker, nothing is.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A task on its way to other processes, perhaps on other machines."""

    task: bytes
    """Pickled."""
    paths: tuple[str, ...]
    """Where the sender imports from: functions that a card names may be in its working directory."""
    version: str
    """Of the sender's mlgen."""

    @classmethod
    def of(cls, task: Task[object]) -> Self:
        """The recipe of a task, sent from this process."""
        return cls(task=pickle.dumps(task), paths=import_paths(), version=mlgen.__version__)

    def open(self) -> Callable[[int], Any]:
        """The function that computes a chunk, in this process, by one thread.

        Raises:
            MlgenError: another version of mlgen is installed here.
            Exception: what the task raises.
        """
        if self.version != mlgen.__version__:
            raise MlgenError(
                f"a worker has mlgen {mlgen.__version__}: expected {self.version}, as where it was "
                "started from"
            )
        sys.path += [path for path in self.paths if path not in sys.path]
        compute: Callable[[int], Any] = pickle.loads(self.task).open()
        if "torch" in sys.modules:  # else it is not needed, and slow to import
            sys.modules["torch"].set_num_threads(1)
        return compute


def import_paths() -> tuple[str, ...]:
    """Where this process imports from; '', the working directory, by its name."""
    return tuple(os.path.abspath(path) for path in sys.path if isinstance(path, str))


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a worker is sent."""

    index: int
    """Of the chunk to compute."""
    recipe: Recipe | None
    """The task it is of; None: that of the order before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A worker says that its task is open, and begins with a chunk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of a chunk."""

    index: int
    result: bytes
    """Pickled; empty where it failed."""
    failure: Failure | None = None
    cpu_s: float = 0.0
    """What it took, opening the task included."""

    @classmethod
    def of(cls, index: int, opened: Callable[[], Callable[[int], object]]) -> Self:
        """Compute a chunk by the function of an open task; an error is an answer as well."""
        before = time.process_time()
        result, failure = b"", None
        try:
            result = pickle.dumps(opened()(index))
        except Exception as error:
            failure = Failure.of(error)
        cpu_s = time.process_time() - before
        return cls(index=index, result=result, failure=failure, cpu_s=cpu_s)

    def value(self) -> Any:
        """The result.

        Raises:
            Exception: what the computation raised.
        """
        if self.failure is not None:
            raise self.failure.error()
        return pickle.loads(self.result)


class RemoteTraceback(Exception):
    """The cause of an error that came from a worker: its stack trace there, as text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An exception on its way from a worker."""

    pickled: bytes
    text: str
    notes: tuple[str, ...]
    trace: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Pack an exception, of any class."""
        try:
            pickled = pickle.dumps(error)
            pickle.loads(pickled)  # fails where __init__ wants other arguments than it gave to args
        except Exception:
            pickled = b""
        return cls(
            pickled=pickled,
            text=f"{type(error).__name__}: {error}",
            notes=tuple(getattr(error, "__notes__", ())),
            trace="".join(traceback.format_exception(error)),
        )

    def error(self) -> Exception:
        """The exception with its notes; of a class that cannot be sent, a RuntimeError that names it."""
        try:
            error: Exception = pickle.loads(self.pickled)
        except Exception:
            error = RuntimeError(self.text)
            for note in self.notes:
                error.add_note(note)
        # A cause is printed where stack traces are, and nowhere else.
        error.__cause__ = RemoteTraceback(f"in a worker:\n\n{self.trace}")
        return error


def serve(descriptor: int, preload: str = "") -> None:
    """Compute what the other end of a pipe asks for, until that ends us or is gone.

    Args:
        descriptor: of this end of the pipe.
        preload: a module that will be needed.
    """
    os.set_inheritable(
        descriptor, False
    )  # else the pipe stays open in what a matrix element starts
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us decides
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_end_with_parent, args=(descriptor,), daemon=True).start()
    with suppress(EOFError, ConnectionError), Connection(descriptor) as connection:
        if preload:
            with _importing():
                import_module(preload)
        work = _OpenTask(connection)
        while True:
            order: Order = connection.recv()
            connection.send(Answer.of(order.index, partial(work.opened, order.recipe)))


class _OpenTask:
    """The task of a worker process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._compute: Callable[[int], Any]

    def opened(self, recipe: Recipe | None) -> Callable[[int], Any]:
        """The function of a new task, or, with None, that of the one before."""
        if recipe is not None:
            with _importing():
                self._compute = recipe.open()
            self._connection.send(Opened())
        return self._compute


@contextmanager
def _importing() -> Iterator[None]:
    """Keep the garbage collector from looking through all that is imported again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that what is half written is removed on the way out


def _end_with_parent(descriptor: int) -> None:
    """End this process, and those it started, once the other end of a pipe is closed.

    The system closes it where the parent was killed; a long chunk would notice only at its end. (What holds
    Python's global lock delays this until it lets go.)
    """
    hung_up = select.poll()
    hung_up.register(descriptor, 0)
    hung_up.poll()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
