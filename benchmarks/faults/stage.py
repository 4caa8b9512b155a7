"""Where a case is played: a folder, commands in it, and what must hold after each."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.faults.launch import Plan
from benchmarks.faults.process import Broken, Finished, Process, demand, fork, fresh, variables
from mlgen.campaign.pack import read_pack
from mlgen.campaign.whole_files import checksum
from mlgen.errors import MlgenError
from mlgen.events.check import check_file

FUNCTION = "benchmarks.faults.matrix_elements:muon_pairs"
N_EVENTS = 2000
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
        is_fresh: bool = False,
        before: Sequence[str] = (),
    ) -> Process:
        """Begin a command in this folder.

        Args:
            environment: variables that differ from ours; None: not set.
            is_fresh: in an interpreter of its own.
            before: a command that runs it, in an interpreter of its own.
        """
        self._n_commands += 1
        err = self.folder.parent / f"{self.folder.name}.err-{self._n_commands}"
        changed = variables(environment or {})
        if is_fresh or before or (plan and (plan.blocked or plan.n_files)):
            return fresh(self.folder, arguments, plan, changed, err, before)
        return fork(self.folder, arguments, plan or Plan(), changed, err)

    def mlgen(
        self,
        arguments: Sequence[str],
        plan: Plan | None = None,
        environment: Mapping[str, str | None] | None = None,
        is_fresh: bool = False,
        before: Sequence[str] = (),
    ) -> Finished:
        """Run a command to its end."""
        return self.start(arguments, plan, environment, is_fresh, before).finished()

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
        shutil.rmtree(self._folder / name, ignore_errors=True)  # of an attempt that failed
        stage = Stage(self._folder / name, self, 0)
        process = stage.start(arguments, plan)
        started: dict[str, float] = {}
        while not process.has_ended:
            for line in process.err.splitlines():
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
