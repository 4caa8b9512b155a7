"""Processes that are killed, interrupted, or lose what they are connected to."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from benchmarks.faults.cases import case
from benchmarks.faults.launch import Plan
from benchmarks.faults.matrix_elements import Fault
from benchmarks.faults.process import Finished, Process, demand
from benchmarks.faults.stage import (
    EVENTS,
    N_EVENTS,
    PACK,
    Stage,
    Whole,
    check_complete,
    check_names,
    check_not_complete,
    read_record,
    run_arguments,
)
from mlgen.events.check import check_file

STEPS = ("preparing", "adapting", "measuring", "training", "generating", "writing")

OFTEN = Plan(checkpoints=True)
SLOW = Fault(how="sleep", seconds=0.02, in_workers=True)


def strike(stage: Stage, process: Process, steps: dict[str, float], number: int) -> str:
    """Send a signal at a random time in a random step; which step."""
    word = stage.rng.choice(STEPS)
    chosen = [title for title in steps if title.startswith(word)]
    title = stage.rng.choice(chosen or list(steps))
    if process.wait_for(f"{title}: started"):
        time.sleep(stage.rng.uniform(0, steps[title]))
    process.send(number)
    return title


def go_on(stage: Stage, folder: Path, arguments: list[str], whole: Whole, number: int) -> str:
    """Resume, or begin again where there was nothing yet; and stop that once more."""
    for is_last in (False, True):
        has_stored = (folder / "checkpoint.zip").exists() or (folder / "job.json").exists()
        if has_stored:
            command = ["run", "--resume", str(folder)]
        elif folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
            check_complete(folder, whole)
            return "was complete"
        else:
            shutil.rmtree(folder, ignore_errors=True)  # an unfinished file may be there
            command = arguments
        process = stage.start(command, OFTEN)
        if not is_last:
            strike(stage, process, dict(whole.steps), number)
        finished = process.finished()
        if finished.code == 0:
            break
        check_stopped(finished, folder, number)
    finished.must_work()
    check_complete(folder, whole)
    return "resumed to the same bytes"


def check_stopped(finished: Finished, folder: Path, number: int) -> None:
    """It ended as the signal says, and nothing looks finished that is not."""
    # SIGTERM means nothing special before the work begins, and after it is done.
    if number == signal.SIGKILL or finished.code == -number:
        demand(finished.code == -number, f"exit {finished.code}: expected {-number}")
    else:
        finished.must_fail(130, "interrupted")
    if folder.exists():
        check_names(folder)


def stopped_at_random(stage: Stage, number: int, *options: str) -> str:
    whole = stage.wholes.flow
    folder = stage.folder / "out"
    arguments = [*run_arguments("out", sampler="flow"), *options]
    process = stage.start(arguments, OFTEN)
    title = strike(stage, process, dict(whole.steps), number)
    finished = process.finished()
    if finished.code == 0:
        finished.must_work()
        check_complete(folder, whole)
        return f"{title}: it had ended"
    check_stopped(finished, folder, number)
    return f"{title}: {go_on(stage, folder, arguments, whole, number)}"


@case("SIGKILL at a random time, twice, then --resume", repeats=20)
def _kill(stage: Stage) -> str:
    return stopped_at_random(stage, signal.SIGKILL)


@case("SIGTERM at a random time, twice, then --resume", repeats=15)
def _term(stage: Stage) -> str:
    return stopped_at_random(stage, signal.SIGTERM)


@case("Ctrl-C at a random time, twice, then --resume", repeats=15)
def _interrupt(stage: Stage) -> str:
    return stopped_at_random(stage, signal.SIGINT)


@case("SIGKILL at a random time, 2 workers, then --resume", repeats=5)
def _kill_with_workers(stage: Stage) -> str:
    return stopped_at_random(stage, signal.SIGKILL, "--workers=2")


@case("Ctrl-C at a random time, 2 workers, then --resume", repeats=5)
def _interrupt_with_workers(stage: Stage) -> str:
    return stopped_at_random(stage, signal.SIGINT, "--workers=2")


@case("SIGHUP while chunks are made", repeats=2)
def _hang_up(stage: Stage) -> str:
    folder = stage.folder / "out"
    process = stage.start(run_arguments("out"), environment=slow())
    process.wait_for("generating: started")
    time.sleep(stage.rng.uniform(0, 0.5))
    process.send(signal.SIGHUP)
    finished = process.finished()
    demand(finished.code in (-signal.SIGHUP, 130), f"exit {finished.code}: expected SIGHUP's")
    check_not_complete(folder)
    return stage.resume(folder, same_as=stage.wholes.vegas)


@case("mlgen generate killed at a random time, then --resume", repeats=5)
def _generate(stage: Stage) -> str:
    folder, whole = stage.folder / "out", stage.wholes.generated
    arguments = ["generate", str(stage.wholes.pack), "--seed=5", "-o", "out"]
    process = stage.start(arguments)
    title = strike(stage, process, dict(whole.steps), signal.SIGKILL)
    process.finished()
    return f"{title}: {go_on(stage, folder, arguments, whole, signal.SIGKILL)}"


@case("mlgen train killed while it writes a checkpoint, then --resume", repeats=3)
def _train(stage: Stage) -> str:
    arguments = [*run_arguments("pack.mlgen.zip", sampler="flow")]
    arguments[0] = "train"
    plan = Plan(checkpoints=True, do="kill", file="checkpoint", nth=stage.rng.randint(2, 8))
    finished = stage.mlgen(arguments, plan)
    demand(finished.code == -signal.SIGKILL, f"exit {finished.code}: expected SIGKILL's")
    demand(not (stage.folder / "pack.mlgen.zip").exists(), "a pack, although training was killed")
    stage.mlgen(["train", "--resume", "pack.mlgen.zip.partial"]).must_work()
    same = (stage.folder / "pack.mlgen.zip").read_bytes()
    demand(same == (stage.wholes.flow.folder / PACK).read_bytes(), "another pack")
    return "resumed to the same bytes"


@case("killed when a file is opened, each in turn, then --resume", repeats=8)
def _kill_at_file(stage: Stage) -> str:
    folder = stage.folder / "out"
    names = [r"checkpoint", r"chunks", PACK, EVENTS, "report", r"run\.json"]
    name = stage.rng.choice(names)
    nth = 1 + stage.rng.randint(1, 5) if name in ("checkpoint", "chunks") else 1
    plan = Plan(checkpoints=True, do="kill", file=name, nth=nth)
    finished = stage.mlgen(run_arguments("out", sampler="flow"), plan)
    demand(finished.code == -signal.SIGKILL, f"exit {finished.code}: expected SIGKILL's")
    check_not_complete(folder)
    return f"{name}: " + stage.resume(folder, same_as=stage.wholes.flow)


@case("mlgen generate --shard killed at a chunk or at its file, then --resume", repeats=3)
def _shard(stage: Stage) -> str:
    whole = Whole(folder=stage.wholes.shards[1].parent)
    arguments = ["generate", str(stage.wholes.pack), "--seed=5", "--shard=2/3", "-o", "out"]
    name = stage.rng.choice([r"chunks/", EVENTS, r"run\.json"])
    finished = stage.mlgen(arguments, Plan(do="kill", file=name))
    demand(finished.code == -signal.SIGKILL, f"exit {finished.code}: expected SIGKILL's")
    check_not_complete(stage.folder / "out")
    return f"{name}: " + stage.resume(stage.folder / "out", same_as=whole)


@case("mlgen merge killed while it writes, then done again")
def _merge(stage: Stage) -> str:
    command = ["merge", *map(str, stage.wholes.shards), "-o", "merged.lhe.gz"]
    finished = stage.mlgen(command, Plan(do="kill", file="merged"))
    demand(finished.code == -signal.SIGKILL, f"exit {finished.code}: expected SIGKILL's")
    demand(not (stage.folder / "merged.lhe.gz").exists(), "a file, although it was killed")
    stage.mlgen(command).must_work()
    report = check_file(stage.folder / "merged.lhe.gz")
    demand(report.is_good and report.n_events == N_EVENTS, f"{report.findings[:1]}")
    return "a whole file"


def slow() -> dict[str, str | None]:
    """Each call of the matrix element takes its time."""
    return dict(Fault(how="sleep", seconds=0.05).environment)


# --- workers ---------------------------------------------------------------------------------


def workers_struck(stage: Stage, how_many: int) -> str:
    folder = stage.folder / "out"
    arguments = [*run_arguments("out"), "--workers=2"]
    process = stage.start(arguments, environment=dict(SLOW.environment))
    process.wait_for("generating: started")
    while len(process.children()) < 2 and not process.has_ended:
        time.sleep(0.002)
    time.sleep(stage.rng.uniform(0, 3))
    struck = process.children()[:how_many]
    for pid in struck:
        os.kill(pid, signal.SIGKILL)
    process.finished().must_work()
    check_complete(folder, stage.wholes.vegas)
    warnings = read_record(folder)["warnings"]
    return f"{len(warnings)} chunks again" if struck else "it had ended"


@case("SIGKILL of one of 2 workers at a random time", repeats=10)
def _one_worker(stage: Stage) -> str:
    return workers_struck(stage, 1)


@case("SIGKILL of all workers at a random time", repeats=5)
def _all_workers(stage: Stage) -> str:
    return workers_struck(stage, 2)


def doomed(stage: Stage, fault: Fault, code: int, pattern: str) -> str:
    """Workers that a matrix element ends again and again, then one that is well."""
    folder = stage.folder / "out"
    arguments = [*run_arguments("out"), "--workers=2"]
    finished = stage.mlgen(arguments, environment=dict(fault.environment))
    said = finished.must_fail(code, pattern)
    check_not_complete(folder)
    n_chunks = len(list((folder / "chunks").glob("*.zip")))
    resumed = stage.resume(folder, "--workers=2", same_as=stage.wholes.vegas)
    return f"{said}, {n_chunks} chunks kept, {resumed}"


@case("a chunk kills each worker that makes it")
def _thrice(stage: Stage) -> str:
    fault = Fault(how="kill", in_workers=True, after=1)
    return doomed(stage, fault, 1, r"its worker ended 3 times.*SIGKILL.*memory")


@case("a matrix element crashes in the workers (segmentation fault)")
def _segfault(stage: Stage) -> str:
    fault = Fault(how="segfault", in_workers=True, after=1)
    return doomed(stage, fault, 4, r"its worker ended 3 times.*SIGSEGV")


@case("a matrix element aborts in the workers")
def _abort(stage: Stage) -> str:
    fault = Fault(how="abort", in_workers=True, after=1)
    return doomed(stage, fault, 4, r"its worker ended 3 times.*SIGABRT")


@case("a matrix element crashes in one worker once")
def _segfault_once(stage: Stage) -> str:
    folder = stage.folder / "out"
    fault = Fault(how="segfault", in_workers=True, folder=str(stage.folder), times=1)
    arguments = [*run_arguments("out"), "--workers=2"]
    finished = stage.mlgen(arguments, environment=dict(fault.environment))
    finished.must_work()
    demand("WARNING: a worker ended by signal 11" in finished.err, "no warning")
    check_complete(folder, stage.wholes.vegas)
    return "exit 0, one chunk again, the same bytes"


@case("a matrix element exits in the workers")
def _exit_in_worker(stage: Stage) -> str:
    fault = Fault(how="exit", in_workers=True, after=1)
    return doomed(stage, fault, 4, r"raised SystemExit")


# --- what it is connected to -----------------------------------------------------------------


def through(stage: Stage, shell: str) -> str:
    """Run a command by a line of the shell that does something to its streams."""
    folder = stage.folder / "out"
    before = ("bash", "-c", shell, "bash")
    finished = stage.mlgen(run_arguments("out"), before=before)
    for sign in ("Traceback", "Exception ignored"):
        demand(sign not in finished.err, f"a stack trace: {finished.err[-300:]}")
    if finished.code == 0:
        check_complete(folder, stage.wholes.vegas)
        return "exit 0, all files are whole"
    demand(finished.code > 0 and (folder / "run.json").exists(), f"exit {finished.code}")
    demand(finished.code != 70, f"it said {finished.messages}")
    if read_record(folder)["status"] == "complete":
        check_complete(folder, stage.wholes.vegas)
        return f"exit {finished.code}, all files are whole"
    return f"exit {finished.code}, " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("standard output is closed by its reader (SIGPIPE)")
def _pipe(stage: Stage) -> str:
    return through(stage, '"$@" | true; exit ${PIPESTATUS[0]}')


@case("standard error is closed by its reader (SIGPIPE)")
def _error_pipe(stage: Stage) -> str:
    return through(stage, '"$@" 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}')


@case("standard input is closed")
def _no_input(stage: Stage) -> str:
    return through(stage, '"$@" <&-')


@case("standard output is closed")
def _no_output(stage: Stage) -> str:
    return through(stage, '"$@" >&-')


@case("all three standard streams are closed")
def _no_streams(stage: Stage) -> str:
    return through(stage, '"$@" <&- >&- 2>&-')


@case("standard output is a full disk")
def _full_output(stage: Stage) -> str:
    return through(stage, '"$@" >/dev/full')


@case("standard error is a full disk")
def _full_error(stage: Stage) -> str:
    return through(stage, '"$@" 2>/dev/full')
