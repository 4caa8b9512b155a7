"""Where a case is played: a folder, commands in it, and what must hold after each."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.faults.launch import Plan
from benchmarks.faults.matrix_elements import FAULT
from mlgen.campaign.pack import read_pack
from mlgen.campaign.run_record import checksum
from mlgen.errors import MlgenError
from mlgen.events.check import check_file

ROOT = Path(__file__).parents[2]
FUNCTION = "benchmarks.faults.matrix_elements:muon_pairs"
N_EVENTS = 2000
TIMEOUT_S = 300
PACK = "ee_to_mumu.mlgen.zip"
EVENTS = "events.lhe.gz"

QUICK = (
    f"run.n_events={N_EVENTS}",
    "run.n_estimate=4000",
    "run.chunk_size=250",
    "vegas.n_points=2000",
    "vegas.n_iterations=3",
    "vegas.n_bins=16",
    "flow.n_bins=4",
    "flow.n_hidden=8",
    "flow.batch_size=256",
    "flow.n_steps=192",
    "matrix_element.provider=python",
    f"matrix_element.function={FUNCTION}",
)

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
    out: str
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """A run that nothing disturbed."""

    folder: Path
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds from the start of each step to that of the next one, by title."""


def run_arguments(output: Path | str, *sets: str, sampler: str = "vegas") -> list[str]:
    """A small run."""
    options = [f"--set={setting}" for setting in (*QUICK, *sets)]
    return ["run", "ee_to_mumu", f"--sampler={sampler}", *options, "-o", str(output)]


class Process:
    """A command that runs, and what it has said up to now."""

    def __init__(self, popen: subprocess.Popen[bytes], err: Path) -> None:
        self._popen, self._err = popen, err

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def wait_for(self, text: str) -> bool:
        """Whether it says so before it ends."""
        while not self.has_ended:
            if text in self._err.read_text(encoding="utf-8", errors="replace"):
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
        try:
            out, _ = self._popen.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            self._popen.kill()
            raise Broken(f"it hangs: no end after {TIMEOUT_S} s") from error
        err = self._err.read_text(encoding="utf-8", errors="replace")
        return Finished(code=self._popen.returncode, out=out.decode(errors="replace"), err=err)


class Stage:
    """A folder of its own for each repeat of a case."""

    def __init__(self, folder: Path, wholes: Wholes, seed: int) -> None:
        self.folder, self.wholes = folder, wholes
        self.rng = random.Random(seed)
        folder.mkdir(parents=True)
        self._n_commands = 0

    def start(
        self,
        arguments: Sequence[str],
        plan: Plan | None = None,
        environment: Mapping[str, str | None] | None = None,
        **how: Any,
    ) -> Process:
        """Begin a command in this folder.

        Args:
            environment: variables that differ from ours; None: not set.
            how: for `subprocess.Popen`.
        """
        command = [sys.executable, "-c", "from mlgen.cli import main; main()"]
        if plan is not None:
            command = [sys.executable, "-m", "benchmarks.faults.launch", plan.text]
        changed = {"PYTHONPATH": str(ROOT), FAULT: None, **(environment or {})}
        variables = {k: v for k, v in {**os.environ, **changed}.items() if v is not None}
        self._n_commands += 1
        err = self.folder.parent / f"{self.folder.name}.err-{self._n_commands}"
        how = {"cwd": self.folder, "stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, **how}
        with err.open("wb") as file:
            popen = subprocess.Popen([*command, *arguments], env=variables, stderr=file, **how)
        return Process(popen, err)

    def mlgen(
        self,
        arguments: Sequence[str],
        plan: Plan | None = None,
        environment: Mapping[str, str | None] | None = None,
        **how: Any,
    ) -> Finished:
        """Run a command to its end."""
        return self.start(arguments, plan, environment, **how).finished()

    def resume(self, folder: Path, *options: str, same_as: Whole | None) -> str:
        """Go on with a run, to the end, and to the same bytes as one that was never disturbed."""
        self.mlgen(["run", "--resume", str(folder), *options]).must_work()
        check_complete(folder, same_as)
        return "resumed to the same bytes"


class Wholes:
    """Runs that nothing disturbs, made when they are first wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def vegas(self) -> Whole:
        return self._run("vegas", run_arguments("out"))

    @cached_property
    def flow(self) -> Whole:
        """One that trains, and stores that at every occasion."""
        return self._run("flow", run_arguments("out", sampler="flow"), Plan(checkpoints=True))

    @cached_property
    def generated(self) -> Whole:
        """Events of the pack of `vegas`."""
        return self._run("generated", ["generate", str(self.pack), "--seed=5", "-o", "out"])

    @cached_property
    def pack(self) -> Path:
        return self.vegas.folder / PACK

    @cached_property
    def shards(self) -> list[Path]:
        """Three parts, and the whole: the event files."""
        files = []
        for i in (1, 2, 3):
            options = ["--seed=5", f"--shard={i}/3", "-o", "out"]
            whole = self._run(f"shard-{i}", ["generate", str(self.pack), *options])
            files.append(whole.folder / EVENTS)
        return files

    def _run(self, name: str, arguments: Sequence[str], plan: Plan | None = None) -> Whole:
        stage = Stage(self._folder / name, self, 0)
        process = stage.start(arguments, plan)
        started: dict[str, float] = {}
        while not process.has_ended:
            for line in process._err.read_text(encoding="utf-8").splitlines():
                if line.endswith(": started"):
                    started.setdefault(line.removesuffix(": started"), time.monotonic())
            time.sleep(0.002)
        times = [*started.values(), time.monotonic()]
        steps = {title: times[i + 1] - times[i] for i, title in enumerate(started)}
        process.finished().must_work()
        whole = Whole(folder=stage.folder / "out", steps=steps)
        check_complete(whole.folder, None)
        return whole


@contextmanager
def small_disk(folder: Path, n_bytes: int = 64 << 20) -> Iterator[bool]:
    """A disk of its own for a folder, as far as the system lets us mount one; whether it did."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "none", str(folder)]
    try:
        is_there = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        is_there = False
    try:
        yield is_there
    finally:
        if is_there:
            subprocess.run(["umount", str(folder)], capture_output=True, check=True)


# --- what must hold --------------------------------------------------------------------------


def check_names(folder: Path) -> None:
    """Whatever has its final name is whole."""
    for path in sorted(folder.glob("events.*")):
        report = check_file(path)
        demand(report.is_good, f"{path.name} is not whole: {report.findings[:1]}")
    for path in sorted(folder.glob("*.mlgen.zip")):
        try:
            read_pack(path)
        except MlgenError as error:
            raise Broken(f"{path.name} is not whole: {error}") from error
    page = folder / "report.html"
    if page.exists():
        demand(page.read_text(encoding="utf-8").rstrip().endswith("</html>"), "half a report.html")
    if (folder / "run.json").exists():
        record = read_record(folder)
        if record["status"] == "complete":
            check_record(folder, record)


def read_record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise Broken(f"run.json is not whole: {error}") from error
    return record


def check_record(folder: Path, record: Mapping[str, Any]) -> None:
    """The files of a complete run are there, as it says."""
    for name, file in record["files"].items():
        found = checksum(folder / name) if (folder / name).exists() else "no file"
        demand(found == file["sha256"], f"{name} has {found}: expected {file['sha256']}")
    demand(any(name.startswith("events.") for name in record["files"]), "no events in run.json")


def check_complete(folder: Path, whole: Whole | None) -> None:
    """All is there, nothing else is, and it is the same as in a run that was never disturbed."""
    check_names(folder)
    record = read_record(folder)
    demand(record["status"] == "complete", f"status {record['status']}: expected complete")
    check_record(folder, record)
    left = {path.name for path in folder.iterdir()} - {"run.json", *record["files"]}
    demand(not left, f"left over: {sorted(left)}")
    if whole is None:
        return
    expected = read_record(whole.folder)
    for key in ("n_events", "cross_section_pb", "cross_section_error_pb", "overweight_fraction"):
        demand(record[key] == expected[key], f"{key} = {record[key]}: expected {expected[key]}")
    for name in expected["files"]:
        if name != "report.html":  # it shows times
            same = checksum(folder / name) == checksum(whole.folder / name)
            demand(same, f"{name} has other bytes than an undisturbed run's")


def check_not_complete(folder: Path) -> None:
    """A run that failed does not look like one that did not."""
    check_names(folder)
    if (folder / "run.json").exists():
        status = read_record(folder)["status"]
        demand(status != "complete", "run.json says complete")
