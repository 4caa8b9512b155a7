"""Processes that run the command line: fresh interpreters, or forks of this one.

A fork has everything imported, which saves two seconds each time. It does nothing else differently.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# What a run imports on its way, so that forks have it.
import mlgen.api
import mlgen.diagnostics.plots
import mlgen.diagnostics.progress
import mlgen.events.check
import mlgen.show  # noqa: F401
from benchmarks.faults.launch import Plan, run
from benchmarks.faults.matrix_elements import FAULT

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300

MAIN = (sys.executable, "-c", "from mlgen.cli import main; main()")

_PROGRESS = re.compile(r"[^:]+: (started|done in .*|stopped after .*|\d+%.*)")
_NOTE = re.compile(r"goes on")


class Broken(Exception):
    """A promise that did not hold."""


def demand(holds: object, text: str) -> None:
    """Raise `Broken` unless it holds."""
    if not holds:
        raise Broken(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A command that has ended."""

    code: int
    """Minus a signal."""
    err: str

    @property
    def messages(self) -> list[str]:
        """What it said on standard error, but for progress, warnings and how to go on."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith("WARNING: ")]
        return [n for n in lines if not (_PROGRESS.fullmatch(n) or _NOTE.search(n))]

    def must_fail(self, code: int, pattern: str) -> str:
        """One clear line, and its exit code."""
        said = " / ".join(self.messages)
        demand("Traceback" not in self.err, f"a stack trace: {self.err[-300:]}")
        demand(self.code == code, f"exit {self.code}: expected {code}; it said {said!r}")
        demand(len(self.messages) == 1, f"it said {said!r}: expected one line")
        demand(said.startswith("mlgen: ") and re.search(pattern, said), f"it said {said!r}")
        return f"exit {code}"

    def must_work(self) -> str:
        demand(self.code == 0, f"exit {self.code}: expected 0; it said {self.err[-300:]!r}")
        demand(not self.messages, f"it said {self.messages}: expected nothing")
        return "exit 0"


class Process:
    """A command that runs, and what it has said up to now."""

    def __init__(self, pid: int, err: Path) -> None:
        self.pid, self._err = pid, err
        self._code: int | None = None

    @property
    def has_ended(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> bool:
        """Whether it says so before it ends."""
        while not self.has_ended:
            if text in self.err:
                return True
            time.sleep(0.002)
        return False

    def send(self, number: int) -> None:
        if not self.has_ended:
            os.kill(self.pid, number)

    def children(self) -> list[int]:
        """The processes that it started, as Linux lists them."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        try:
            return [int(pid) for pid in path.read_text().split()]
        except OSError:
            return []

    def finished(self) -> Finished:
        deadline = time.monotonic() + TIMEOUT_S
        while not self.has_ended:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise Broken(f"it hangs: no end after {TIMEOUT_S} s")
            time.sleep(0.002)
        assert self._code is not None
        return Finished(code=self._code, err=self.err)


def fork(
    folder: Path, arguments: Sequence[str], plan: Plan, environment: Mapping[str, str], err: Path
) -> Process:
    """Run a command in a fork of this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    err.touch()
    gc.freeze()
    pid = os.fork()
    if pid:
        return Process(pid, err)
    _become(folder, environment, err, lambda: run(plan, arguments))


def fresh(
    folder: Path,
    arguments: Sequence[str],
    plan: Plan | None,
    environment: Mapping[str, str],
    err: Path,
    before: Sequence[str] = (),
) -> Process:
    """Run a command in an interpreter of its own.

    Args:
        plan: None: the command line as it is installed.
        before: a command that runs it.
    """
    main = MAIN if plan is None else (sys.executable, "-m", "benchmarks.faults.launch", plan.text)
    with err.open("wb") as file:
        popen = subprocess.Popen(
            [*before, *main, *arguments],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    popen.returncode = 0  # `Process` waits for it
    return Process(popen.pid, err)


def variables(changed: Mapping[str, str | None]) -> dict[str, str]:
    """The environment of a command.

    Args:
        changed: variables that differ from ours; None: not set.
    """
    found = {**os.environ, "PYTHONPATH": str(ROOT), FAULT: None, **changed}
    return {name: value for name, value in found.items() if value is not None}


def _become(
    folder: Path, environment: Mapping[str, str], err: Path, main: Callable[[], int]
) -> NoReturn:
    """Turn this fork into a process of its own."""
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        nothing = os.open(os.devnull, os.O_RDWR)
        target = os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor, to in ((nothing, 0), (nothing, 1), (target, 2)):
            os.dup2(descriptor, to)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        code = main()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
