from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import mlgen
from mlgen.campaign.worker import Recipe
from mlgen.campaign.workers import N_AHEAD, InProcess, LocalWorkers, local_workers
from mlgen.errors import CardError, MatrixElementError, MlgenError, NonFiniteWeight
from tests.campaign.chunk_tasks import (
    Deadly,
    Environment,
    Forking,
    Imports,
    Large,
    Pids,
    Raising,
    SlowAt,
    Squares,
    Stubborn,
    Threads,
    Tidy,
)
from tests.laws import check_workers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """No test hangs."""

    def bark(number: int, frame: object) -> None:
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def workers() -> Iterator[LocalWorkers]:
    with LocalWorkers(2) as workers:
        yield workers


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def exists(pid: int) -> bool:
    """Whether a process is there; a zombie is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie: somebody else's may wait for long."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return exists(pid) and not Path("/proc").exists()


def pids_in(folder: Path, n: int) -> list[int]:
    """The processes that have said so in a folder, once there are n."""
    wait_until(lambda: len(list(folder.iterdir())) >= n)
    return [int(path.name) for path in folder.iterdir()]


# --- what all do -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_each_chunk_is_computed_once(n_workers: int) -> None:
    with local_workers(n_workers) as workers:
        check_workers(workers, Squares())


def test_the_law_of_workers_notices_what_breaks_it() -> None:
    class Twice(InProcess):
        def compute(self, task, indices):  # type: ignore[no-untyped-def]  # a caricature
            for found in super().compute(task, indices):
                yield from (found, found)

    class Hasty(InProcess):
        def compute(self, task, indices):  # type: ignore[no-untyped-def]  # a caricature
            return super().compute(task, list(indices))

    for broken in (Twice(), Hasty()):
        with pytest.raises(AssertionError):
            check_workers(broken, Squares())


def test_one_worker_is_this_process_and_more_are_not(workers: LocalWorkers) -> None:
    assert isinstance(local_workers(1), InProcess)
    assert dict(InProcess().compute(Pids(), [3])) == {3: os.getpid()}
    pids = set(dict(workers.compute(Pids(0.05), range(6))).values())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_no_workers_are_refused() -> None:
    with pytest.raises(CardError, match="--workers = 0: expected a positive number"):
        local_workers(0)


def test_results_come_as_they_finish_and_never_far_ahead_of_the_oldest(
    workers: LocalWorkers,
) -> None:
    asked: list[int] = []

    def indices() -> Iterator[int]:
        for index in range(100):
            asked.append(index)
            yield index

    order = [index for index, _ in workers.compute(SlowAt(0, 0.8), indices())]
    assert sorted(order) == list(range(100))
    place = order.index(0)
    assert place == 2 * N_AHEAD - 1, "the first chunk was slow: all that may come before it do"
    assert asked == list(range(100))


def test_chunks_may_depend_on_results(workers: LocalWorkers) -> None:
    total = 0

    def until_enough() -> Iterator[int]:
        index = 0
        while total < 50:
            yield index
            index += 1

    for _, square in workers.compute(Squares(), until_enough()):
        total += square
    assert total >= 50


def test_workers_stay_from_one_task_to_the_next(workers: LocalWorkers) -> None:
    first = set(dict(workers.compute(Pids(0.05), range(4))).values())
    squares = dict(workers.compute(Squares(), range(4)))
    again = set(dict(workers.compute(Pids(0.05), range(4))).values())
    assert squares == {index: index**2 for index in range(4)}
    assert first == again


def test_closing_the_iterator_gives_up_what_was_begun(workers: LocalWorkers) -> None:
    results = workers.compute(Pids(0.3), range(100))
    next(results)
    started = time.monotonic()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert time.monotonic() - started < 2
    assert dict(workers.compute(Squares(), [7])) == {7: 49}


def test_large_results_arrive_whole(workers: LocalWorkers) -> None:
    for index, found in workers.compute(Large(), range(4)):
        assert found == bytes([index]) * 30_000_000


# --- workers that die ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SIGKILL", "segfault", "SIGTERM", "0", "9"])
def test_a_worker_that_dies_loses_only_its_chunk(
    how: str, workers: LocalWorkers, tmp_path: Path
) -> None:
    task = Deadly(tmp_path, deadly=(1, 4), times=1, how=how, seconds=0.05)
    found = list(workers.compute(task, range(8)))
    assert sorted(found) == [(index, index**2) for index in range(8)]
    cause = {
        "SIGKILL": "signal 9 (SIGKILL)",
        "segfault": "signal 11 (SIGSEGV)",
        "SIGTERM": f"exit code {128 + signal.SIGTERM}",
    }.get(how, f"exit code {how}")
    assert sorted((loss.index, loss.cause) for loss in workers.losses) == [(1, cause), (4, cause)]
    tries = {index: len(list(tmp_path.glob(f"chunk-{index}-by-*"))) for index in range(8)}
    assert tries == {index: 2 if index in (1, 4) else 1 for index in range(8)}


def test_a_chunk_may_cost_two_workers(workers: LocalWorkers, tmp_path: Path) -> None:
    task = Deadly(tmp_path, deadly=(2,), times=2)
    assert len(dict(workers.compute(task, range(5)))) == 5
    assert [loss.index for loss in workers.losses] == [2, 2]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("segfault", MatrixElementError, r"by signal 11 \(SIGSEGV\): expected a matrix element"),
        ("SIGKILL", MlgenError, r"by signal 9 \(SIGKILL\): expected enough memory, or fewer"),
        ("3", MlgenError, "by exit code 3: expected a result"),
    ],
)
def test_a_chunk_that_kills_every_worker_is_an_error(
    how: str, error: type[MlgenError], message: str, workers: LocalWorkers, tmp_path: Path
) -> None:
    task = Deadly(tmp_path, deadly=(2,), times=99, how=how)
    with pytest.raises(error, match=f"^chunk 2: its worker ended 3 times.* {message}") as caught:
        list(workers.compute(task, range(3)))
    assert type(caught.value) is error
    assert len(workers.losses) == 3


def test_the_error_of_a_deadly_chunk_comes_after_what_was_finished(
    workers: LocalWorkers, tmp_path: Path
) -> None:
    found: list[tuple[int, int]] = []
    with pytest.raises(MlgenError, match="chunk 2"):
        found.extend(workers.compute(Deadly(tmp_path, deadly=(2,), times=99), range(3)))
    assert sorted(found) == [(0, 0), (1, 1)]


def test_workers_that_die_before_they_begin_say_so(workers: LocalWorkers, tmp_path: Path) -> None:
    task = Deadly(tmp_path, deadly=(), times=0, how="segfault", in_open=True)
    with pytest.raises(MatrixElementError, match=r"^chunk \d, before it began: its worker ended 3"):
        list(workers.compute(task, range(8)))


def test_a_worker_that_is_killed_while_it_waits_is_replaced(workers: LocalWorkers) -> None:
    pids = set(dict(workers.compute(Pids(0.05), range(4))).values())
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert dict(workers.compute(Squares(), range(4))) == {0: 0, 1: 1, 2: 4, 3: 9}


def test_a_death_is_noticed_where_a_process_of_its_own_holds_the_pipe(
    workers: LocalWorkers, tmp_path: Path
) -> None:
    assert dict(workers.compute(Forking(tmp_path), range(2))) == {0: 0, 1: 1}
    assert len(workers.losses) == 1
    (forked,) = pids_in(tmp_path, 1)
    wait_until(lambda: not runs(forked))


# --- errors ----------------------------------------------------------------------------------


def test_an_error_arrives_with_its_class_its_notes_and_its_stack_trace(
    workers: LocalWorkers,
) -> None:
    with pytest.raises(NonFiniteWeight, match="weight = nan") as caught:
        list(workers.compute(Raising(2, "noted"), range(4)))
    assert str(caught.value) == "weight = nan"
    assert caught.value.__notes__ == ["momenta: 1 2 3 4"]
    assert "in _compute\n    raise error" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("plain", ZeroDivisionError, "^1 / 0$"),
        ("awkward", RuntimeError, "^Awkward: 1 and 2$"),
        ("unpicklable", Exception, "pickle"),
        ("in open", NonFiniteWeight, "^weight = nan$"),
    ],
)
def test_any_error_arrives(
    what: str, error: type[Exception], message: str, workers: LocalWorkers
) -> None:
    with pytest.raises(error, match=message):
        list(workers.compute(Raising(2, what), range(4)))
    assert workers.losses == []
    assert dict(workers.compute(Squares(), [5])) == {5: 25}, "the next task is not affected"


def test_an_error_ends_the_others_soon_and_after_what_was_finished() -> None:
    found: list[tuple[int, object]] = []
    with LocalWorkers(3) as workers:
        list(workers.compute(Squares(0.1), range(9)))  # all three are there now
        started = time.monotonic()
        with pytest.raises(ZeroDivisionError):
            found.extend(workers.compute(Raising(3, "plain", slow=(4, 5)), range(9)))
        assert time.monotonic() - started < 3
    assert sorted(found) == [(0, 0), (1, 1), (2, 4)]


# --- the end ---------------------------------------------------------------------------------


def test_closing_ends_all_processes_and_leaves_no_zombie() -> None:
    with LocalWorkers(2) as workers:
        pids = set(dict(workers.compute(Pids(0.05), range(4))).values())
        assert all(map(exists, pids))
    assert not any(map(exists, pids))


@contextmanager
def ctrl_c_when(condition: Callable[[], object]) -> Iterator[None]:
    """Press Ctrl-C once something holds, and expect it to arrive."""

    def press() -> None:
        wait_until(condition)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    finger = threading.Thread(target=press)
    finger.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        finger.join()
        signal.signal(signal.SIGINT, before)


def test_on_ctrl_c_workers_remove_what_they_have_half_written(tmp_path: Path) -> None:
    started = time.monotonic()
    with ctrl_c_when(lambda: len(list(tmp_path.iterdir())) == 2), LocalWorkers(2) as workers:
        list(workers.compute(Tidy(tmp_path), range(4)))
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("starts", [False, True])
def test_what_ignores_sigterm_is_killed(starts: bool, tmp_path: Path) -> None:
    n = 4 if starts else 2
    with (
        ctrl_c_when(lambda: len(list(tmp_path.iterdir())) == n),
        LocalWorkers(2, grace_s=0.3) as workers,
    ):
        list(workers.compute(Stubborn(tmp_path, starts), range(4)))
    pids = pids_in(tmp_path, n)
    wait_until(lambda: not any(map(runs, pids)), 2)


PARENT = """
import signal, sys
from pathlib import Path
from mlgen.campaign.workers import LocalWorkers
from tests.campaign.chunk_tasks import Stubborn

signal.signal(signal.SIGINT, signal.default_int_handler)
with LocalWorkers(2, grace_s=0.3) as workers:
    list(workers.compute(Stubborn(Path(sys.argv[1]), starts=True), range(2)))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_parent_that_is_ended_by_a_signal(
    number: signal.Signals, tmp_path: Path
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    pids = pids_in(tmp_path, 4)
    assert all(map(runs, pids))
    parent.send_signal(number)
    assert parent.wait(10) == -number
    wait_until(lambda: not any(map(runs, pids)), 5)


# --- what is around a worker -----------------------------------------------------------------


def test_a_worker_imports_from_where_its_parent_does_and_leaves_ctrl_c_to_it(
    workers: LocalWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brought_along.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    ((_, found),) = workers.compute(Environment(), [0])
    assert found.folder == str(tmp_path)
    assert found.paths[0] == str(tmp_path)
    assert found.omp_num_threads == "1"
    assert found.on_interrupt == str(signal.SIG_IGN)


def test_a_script_without_a_guard_may_use_a_module_beside_it(tmp_path: Path) -> None:
    (tmp_path / "my_task.py").write_text(
        "class Doubled:\n    def open(self):\n        return lambda index: 2 * index\n"
    )
    (tmp_path / "script.py").write_text(
        "from mlgen.campaign.workers import LocalWorkers\n"
        "from my_task import Doubled\n"
        "print('once')\n"
        "with LocalWorkers(2) as workers:\n"
        "    print(sorted(workers.compute(Doubled(), range(3))))\n"
    )
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd="/")
    assert run.stdout == "once\n[(0, 0), (1, 2), (2, 4)]\n"
    assert run.stderr == ""
    assert run.returncode == 0


def test_torch_computes_with_one_thread(workers: LocalWorkers) -> None:
    assert dict(workers.compute(Threads(), [0])) == {0: 1}


def test_a_worker_imports_only_what_its_task_needs(workers: LocalWorkers) -> None:
    ((_, modules),) = workers.compute(Imports(), [0])
    assert "mlgen.campaign.worker" in modules
    assert {"torch", "numpy", "distributed", "typer"}.isdisjoint(modules)


def test_another_version_of_mlgen_is_refused() -> None:
    recipe = replace(Recipe.of(Squares()), version="0.0.1")
    with pytest.raises(MlgenError, match=rf"^a worker has mlgen {mlgen.__version__}: expected 0"):
        recipe.open()
