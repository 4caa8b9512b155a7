"""Disks that are full, folders that are not as they should be, and other limits of a system."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from benchmarks.faults.cases import case
from benchmarks.faults.interruptions import slow
from benchmarks.faults.launch import BALLAST, Plan
from benchmarks.faults.process import demand
from benchmarks.faults.stage import (
    EVENTS,
    PACK,
    Stage,
    check_complete,
    check_not_complete,
    run_arguments,
    small_disk,
)

WRITTEN = r"cannot be (written|made)"


def full_at(stage: Stage, file: str, code: int, nth: int = 1, sampler: str = "vegas") -> str:
    """The disk is full when a file is written; then it is not, and the run goes on."""
    whole = stage.wholes.flow if sampler == "flow" else stage.wholes.vegas
    disk = stage.folder / "disk"
    disk.mkdir()
    arguments = run_arguments("disk/out", sampler=sampler)
    with small_disk(disk) as is_small:
        do = "fill" if is_small else "limit"
        spare = stage.rng.choice([0, 2000])
        plan = Plan(checkpoints=True, do=do, file=f"disk/out.*{file}", nth=nth, spare=spare)
        pattern = WRITTEN + (".*No space left" if is_small else ".*File too large")
        finished = stage.mlgen(arguments, plan)
        said = finished.must_fail(code, pattern)
        for ballast in disk.rglob(BALLAST):
            ballast.unlink()
        folder = disk / "out"
        check_not_complete(folder)
        if (folder / "checkpoint.zip").exists():
            demand("goes on" in finished.err, "it does not say how to go on")
            return f"{said}, " + stage.resume(folder, same_as=whole)
        stage.mlgen(arguments).must_work()
        check_complete(folder, whole)
        return f"{said}, done anew in the same folder"


@case("disk full at the first checkpoint")
def _checkpoint(stage: Stage) -> str:
    return full_at(stage, "checkpoint", 1)


@case("disk full at a later checkpoint", repeats=3)
def _later_checkpoint(stage: Stage) -> str:
    return full_at(stage, "checkpoint", 1, nth=stage.rng.randint(3, 8), sampler="flow")


@case("disk full at a chunk of events", repeats=3)
def _chunk(stage: Stage) -> str:
    return full_at(stage, r"chunks/", 1, nth=stage.rng.randint(1, 8))


@case("disk full at the pack")
def _pack(stage: Stage) -> str:
    return full_at(stage, PACK, 1)


@case("disk full at the event file", repeats=2)
def _events(stage: Stage) -> str:
    return full_at(stage, EVENTS, 7)


@case("disk full at the report")
def _report(stage: Stage) -> str:
    return full_at(stage, "report", 1)


@case("disk full at run.json")
def _record(stage: Stage) -> str:
    return full_at(stage, r"run\.json", 1)


@case("disk full in the middle of the event file: whole events stay readable", repeats=3)
def _middle(stage: Stage) -> str:
    folder = stage.folder / "out"
    arguments = ["generate", str(stage.wholes.pack), "--seed=5", "-o", "out"]
    spare = stage.rng.randint(70_000, 90_000)
    plan = Plan(do="limit", file=EVENTS, spare=spare)
    finished = stage.mlgen(arguments, plan)
    said = finished.must_fail(7, r"cannot be written: File too large; \d+ whole events are left in")
    check_not_complete(folder)
    (left,) = folder.glob(".events*.part")
    from mlgen.events.formats import open_reader

    n_read = 0
    try:
        with open_reader(left) as reader:
            for batch in reader:
                n_read += len(batch)
    except Exception as error:
        demand(type(error).__name__ == "EventFileError", f"{error!r}")
    demand(f"; {n_read} whole events" in finished.err, f"{n_read} events can be read")
    resumed = stage.resume(folder, same_as=stage.wholes.generated)
    return f"{said}, {n_read} events readable, {resumed}"


@case("the LHEH5 file grows too large")
def _lheh5(stage: Stage) -> str:
    folder = stage.folder / "out"
    arguments = ["generate", str(stage.wholes.pack), "--seed=5", "--format=lheh5", "-o", "out"]
    plan = Plan(do="limit", file="events", spare=30_000)
    finished = stage.mlgen(arguments, plan)
    said = finished.must_fail(7, "cannot be written")
    check_not_complete(folder)
    return f"{said}, " + stage.resume(folder, same_as=None)


@case("output in a folder that cannot be written to")
def _unwritable(stage: Stage) -> str:
    # Even root cannot write there.
    finished = stage.mlgen(run_arguments("/proc/mlgen"))
    return finished.must_fail(1, "/proc/mlgen: cannot be made")


@case("output below a file")
def _below_a_file(stage: Stage) -> str:
    (stage.folder / "file").touch()
    finished = stage.mlgen(run_arguments("file/out"))
    return finished.must_fail(1, "file/out: cannot be made")


@case("output folder is not empty")
def _not_empty(stage: Stage) -> str:
    (stage.folder / "out").mkdir()
    (stage.folder / "out" / "precious").write_text("kept")
    said = stage.mlgen(run_arguments("out")).must_fail(2, "expected a new or an empty folder")
    demand([p.name for p in (stage.folder / "out").iterdir()] == ["precious"], "it was touched")
    return said


@case("output folder holds a complete run")
def _complete(stage: Stage) -> str:
    shutil.copytree(stage.wholes.vegas.folder, stage.folder / "out")
    said = stage.mlgen(run_arguments("out")).must_fail(2, "expected a new or an empty folder")
    check_complete(stage.folder / "out", stage.wholes.vegas)
    finished = stage.mlgen(["run", "--resume", "out"])
    finished.must_fail(2, "complete")
    return said


@case("output folder is removed while it runs", repeats=3)
def _removed(stage: Stage) -> str:
    folder = stage.folder / "out"
    name = stage.rng.choice(["checkpoint", r"chunks/", PACK, EVENTS, "report", r"run\.json"])
    plan = Plan(do="remove", file=name)
    finished = stage.mlgen(run_arguments("out"), plan)
    code = 7 if name == EVENTS else 1
    said = finished.must_fail(code, r"cannot be (written|made|read)")
    if folder.exists():
        check_not_complete(folder)
    return f"{name}: {said}"


@case("chunks are removed while the event file is written")
def _chunks_removed(stage: Stage) -> str:
    folder = stage.folder / "out"
    process = stage.start(run_arguments("out"), environment=slow())
    process.wait_for("generating: started")
    while len(list(folder.glob("chunks/*.zip"))) < 3 and not process.has_ended:
        time.sleep(0.002)
    for path in folder.glob("chunks/*.zip"):
        path.unlink(missing_ok=True)
    finished = process.finished()
    said = finished.must_fail(8, r"chunks/\d+\.zip: cannot be read")
    check_not_complete(folder)
    return f"{said}, " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("two runs in the same folder at once", repeats=2)
def _two_runs(stage: Stage) -> str:
    folder = stage.folder / "out"
    first = stage.start(run_arguments("out"), environment=slow())
    first.wait_for("preparing")
    second = stage.mlgen(run_arguments("out"))
    demand(second.code in (1, 2), f"exit {second.code}: expected 1 or 2")
    second.must_fail(second.code, "another mlgen works there|expected a new or an empty folder")
    resumed = stage.mlgen(["run", "--resume", "out"])
    resumed.must_fail(1, "another mlgen works there")
    first.finished().must_work()
    check_complete(folder, stage.wholes.vegas)
    return f"exit {second.code} and {resumed.code}, the first one is whole"


@case("two runs begin in the same empty folder", repeats=3)
def _race(stage: Stage) -> str:
    folder = stage.folder / "out"
    runs = [stage.start(run_arguments("out")) for _ in range(2)]
    ends = [run.finished() for run in runs]
    codes = sorted(end.code for end in ends)
    demand(codes[0] == 0 and codes[1] in (1, 2), f"exit {codes}: expected 0 and 1 or 2")
    check_complete(folder, stage.wholes.vegas)
    return f"exit {codes}"


@case("too few open files allowed", repeats=4)
def _descriptors(stage: Stage) -> str:
    folder = stage.folder / "out"
    n_files = stage.rng.randint(4, 14)
    plan = Plan(n_files=n_files)
    finished = stage.mlgen([*run_arguments("out"), "--workers=2"], plan)
    demand("Traceback" not in finished.err, f"a stack trace: {finished.err[-300:]}")
    if finished.code == 0:
        check_complete(folder, stage.wholes.vegas)
        return "exit 0"
    demand(finished.code != 70, f"unexpected: {finished.messages}")
    demand(len(finished.messages) == 1, f"it said {finished.messages}")
    if not folder.exists():
        return f"exit {finished.code}"
    check_not_complete(folder)
    if not (folder / "checkpoint.zip").exists():
        return f"exit {finished.code}"
    return f"exit {finished.code}, " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("too little memory, at a random limit", repeats=6)
def _memory(stage: Stage) -> str:
    folder = stage.folder / "out"
    plan = Plan(memory=int(10 ** stage.rng.uniform(6, 8.3)))
    finished = stage.mlgen(run_arguments("out"), plan)
    if finished.code == 0:
        check_complete(folder, stage.wholes.vegas)
        return "exit 0"
    if finished.code > 0:
        demand("Traceback" not in finished.err, f"a stack trace: {finished.err[-300:]}")
        lacks = any(word in finished.err.lower() for word in ("memory", "alloc", "failed to map"))
        demand(lacks and len(finished.messages) == 1, f"it said {finished.messages}")
    else:
        crashes = (-signal.SIGABRT, -signal.SIGSEGV)
        demand(finished.code in crashes, f"exit {finished.code}: expected an abort")
    if not (folder / "checkpoint.zip").exists():
        if folder.exists():
            check_not_complete(folder)
        return f"exit {finished.code}"
    check_not_complete(folder)
    return f"exit {finished.code}, " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("merge onto a full disk")
def _merge(stage: Stage) -> str:
    parts = [str(path) for path in stage.wholes.shards]
    plan = Plan(do="limit", file=r"merged", spare=30_000)
    finished = stage.mlgen(["merge", *parts, "-o", "merged.lhe.gz"], plan)
    said = finished.must_fail(7, "cannot be written")
    demand(not Path(stage.folder / "merged.lhe.gz").exists(), "a file, although it failed")
    stage.mlgen(["merge", *parts, "-o", "merged.lhe.gz"]).must_work()
    demand(os.path.getsize(stage.folder / "merged.lhe.gz") > 30_000, "it is too small")
    return f"{said}, and done again"
