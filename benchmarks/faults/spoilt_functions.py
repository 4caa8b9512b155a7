"""Matrix elements that go wrong."""

from __future__ import annotations

import signal
import time

from benchmarks.faults.cases import case
from benchmarks.faults.interruptions import slow
from benchmarks.faults.matrix_elements import Fault
from benchmarks.faults.process import demand
from benchmarks.faults.stage import Stage, check_complete, check_not_complete, run_arguments


def spoilt(stage: Stage, how: str, code: int, pattern: str, n_workers: int = 1) -> str:
    """A matrix element that goes wrong while events are made; then it does not."""
    folder = stage.folder / "out"
    # In this process some calls come first, to adapt and to measure; in a worker, none do.
    after = 1 if n_workers > 1 else stage.rng.randint(8, 12)
    fault = Fault(how=how, after=after, in_workers=n_workers > 1)
    arguments = [*run_arguments("out"), f"--workers={n_workers}"]
    finished = stage.mlgen(arguments, environment=dict(fault.environment))
    said = finished.must_fail(code, pattern)
    demand("goes on" in finished.err, "it does not say how to go on")
    check_not_complete(folder)
    return f"{said}, " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("a matrix element raises")
def _raises(stage: Stage) -> str:
    return spoilt(stage, "raise", 4, r"muon_pairs of e\+ e- > mu\+ mu- raised ZeroDivisionError")


@case("a matrix element raises in a worker")
def _raises_in_worker(stage: Stage) -> str:
    return spoilt(stage, "raise", 4, "raised ZeroDivisionError", n_workers=2)


@case("a matrix element gives NaN")
def _nan(stage: Stage) -> str:
    return spoilt(stage, "nan", 4, r"= nan: expected a finite \|M\|².*in GeV = \[\[")


@case("a matrix element gives NaN in a worker")
def _nan_in_worker(stage: Stage) -> str:
    return spoilt(stage, "nan", 4, r"= nan: expected a finite", n_workers=2)


@case("a matrix element gives infinity")
def _infinity(stage: Stage) -> str:
    return spoilt(stage, "inf", 4, r"= inf: expected a finite \|M\|²")


@case("a matrix element gives the wrong shape")
def _shape(stage: Stage) -> str:
    return spoilt(stage, "shape", 4, r"a tensor of shape \(\d+, 1\).*expected \|M\|² of each point")


@case("a matrix element exits, with code 0")
def _exits(stage: Stage) -> str:
    return spoilt(stage, "exit", 4, "raised SystemExit")


@case("a matrix element asks for more memory than there is", repeats=2)
def _memory(stage: Stage) -> str:
    how = stage.rng.choice(["memory", "out_of_memory"])
    return spoilt(stage, how, 4, "raised (RuntimeError|MemoryError)", n_workers=2)


@case("a matrix element crashes this process (segmentation fault)")
def _crash(stage: Stage) -> str:
    folder = stage.folder / "out"
    fault = Fault(how="segfault", after=9)
    finished = stage.mlgen(run_arguments("out"), environment=dict(fault.environment))
    demand(finished.code == -signal.SIGSEGV, f"exit {finished.code}: expected SIGSEGV's")
    check_not_complete(folder)
    return f"exit {finished.code}, " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("a matrix element fails before anything is learned")
def _at_once(stage: Stage) -> str:
    folder = stage.folder / "out"
    fault = Fault(how="raise")
    finished = stage.mlgen(run_arguments("out"), environment=dict(fault.environment))
    said = finished.must_fail(4, "raised ZeroDivisionError")
    check_not_complete(folder)
    stage.mlgen(["run", "--resume", "out"]).must_fail(2, "nothing to go on with")
    return said


@case("a matrix element sleeps, and is interrupted", repeats=2)
def _sleeps(stage: Stage) -> str:
    folder = stage.folder / "out"
    process = stage.start(run_arguments("out"), environment=slow())
    process.wait_for("generating: started")
    time.sleep(stage.rng.uniform(0, 0.3))
    asked = time.monotonic()
    process.send(signal.SIGTERM)
    said = process.finished().must_fail(130, "interrupted")
    demand(time.monotonic() - asked < 10, "it took longer than 10 s to stop")
    check_not_complete(folder)
    return f"{said}, " + stage.resume(folder, same_as=stage.wholes.vegas)


@case("a worker's matrix element sleeps for an hour, and is interrupted")
def _sleeps_in_worker(stage: Stage) -> str:
    folder = stage.folder / "out"
    fault = Fault(how="sleep", seconds=3600, in_workers=True)
    arguments = [*run_arguments("out"), "--workers=2"]
    process = stage.start(arguments, environment=dict(fault.environment))
    process.wait_for("generating: started")
    time.sleep(4)
    asked = time.monotonic()
    process.send(signal.SIGTERM)
    said = process.finished().must_fail(130, "interrupted")
    demand(time.monotonic() - asked < 15, "it took longer than 15 s to stop")
    return f"{said}, " + stage.resume(folder, "--workers=2", same_as=stage.wholes.vegas)


@case("a library that the matrix element needs cannot be imported")
def _no_function(stage: Stage) -> str:
    arguments = run_arguments("out", "matrix_element.function=no_such_module:function")
    return stage.mlgen(arguments).must_fail(2, "expected a function that Python can import")


@case("the same numbers where nothing goes wrong (control)")
def _control(stage: Stage) -> str:
    # after = 10**9: the fault is there, and never its turn.
    fault = Fault(how="raise", after=10**9)
    environment = dict(fault.environment)
    stage.mlgen([*run_arguments("out"), "--workers=2"], environment=environment).must_work()
    check_complete(stage.folder / "out", stage.wholes.vegas)
    return "exit 0, the same bytes"
