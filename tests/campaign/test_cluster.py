from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mlgen.campaign.cluster import BatchSystem, batch_cluster, batch_workers, dask_workers
from mlgen.campaign.workers import Workers
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, MissingExtra, MlgenError, NonFiniteWeight
from tests.campaign.chunk_tasks import Deadly, Pids, Raising, Squares, Threads
from tests.campaign.dask_processes import dask_process, dask_scheduler
from tests.laws import check_workers

config = pytest.importorskip("dask.config", reason="needs the extra `cluster`")
pytest.importorskip("dask_jobqueue", reason="needs the extra `cluster`")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups as POSIX has them")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """No test hangs."""

    def bark(number: int, frame: object) -> None:
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """That of a scheduler with two workers, who are processes of one thread."""
    with (
        dask_scheduler(tmp_path_factory.mktemp("dask")) as (_, address),
        dask_process("worker", address, "--nworkers=2", "--nthreads=1"),
    ):
        yield address


@pytest.fixture
def workers(address: str) -> Iterator[Workers]:
    with dask_workers(address, SilentProgress()) as workers:
        yield workers


class Titles:
    """A progress that keeps the titles of its steps, and does something at the first."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.titles: list[str] = []
        self._then = then

    @contextmanager
    def step(self, title: str, total: float) -> Iterator[Callable[[float, str], None]]:
        self.titles.append(title)
        self._then()
        yield lambda more, note: None


# --- a scheduler that is there ---------------------------------------------------------------


def test_each_chunk_is_computed_once(workers: Workers) -> None:
    check_workers(workers, Squares())
    assert workers.losses == []
    assert workers.cpu_s > 0


def test_all_workers_compute_each_by_one_thread(workers: Workers) -> None:
    assert len(set(dict(workers.compute(Pids(0.05), range(40))).values())) == 2
    assert set(dict(workers.compute(Threads(), range(4))).values()) == {1}


def test_a_worker_that_dies_loses_only_its_chunk(workers: Workers, tmp_path: Path) -> None:
    found = list(workers.compute(Deadly(tmp_path, deadly=(3,), times=1), range(8)))
    assert sorted(found) == [(index, index**2) for index in range(8)]
    assert len(workers.losses) == 1


def test_a_chunk_that_kills_every_worker_is_an_error(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(MlgenError, match=r"^chunk \d, or one beside it: its worker ended 4 times"):
        list(workers.compute(Deadly(tmp_path, deadly=(0,), times=99), range(2)))
    assert len(list(tmp_path.glob("chunk-0-by-*"))) == 4
    assert dict(workers.compute(Squares(), [5])) == {5: 25}, "the next task is not affected"


def test_an_error_arrives_with_its_class_its_notes_and_its_stack_trace(workers: Workers) -> None:
    with pytest.raises(NonFiniteWeight, match="weight = nan") as caught:
        list(workers.compute(Raising(2, "noted"), range(4)))
    assert caught.value.__notes__ == ["momenta: 1 2 3 4"]
    assert "in _compute\n    raise error" in str(caught.value.__cause__)


def test_what_cannot_be_opened_there_is_an_error(workers: Workers) -> None:
    with pytest.raises(NonFiniteWeight, match="weight = nan"):
        list(workers.compute(Raising(2, "in open"), range(4)))


def test_closing_the_iterator_gives_up_what_was_begun(workers: Workers, tmp_path: Path) -> None:
    results = workers.compute(Deadly(tmp_path, deadly=(), times=0, seconds=0.2), range(1000))
    with closing(results):  # type: ignore[type-var]  # it is a generator
        next(results)
    assert dict(workers.compute(Squares(), [7])) == {7: 49}
    assert len(list(tmp_path.iterdir())) < 10


# --- one that is not, or no longer ----------------------------------------------------------


def test_without_workers_it_says_that_it_waits_and_begins_with_the_first(tmp_path: Path) -> None:
    with dask_scheduler(tmp_path) as (_, address):
        worker = dask_process("worker", address, "--nthreads=1")
        progress = Titles(worker.__enter__)
        try:
            with dask_workers(address, progress) as workers:
                assert dict(workers.compute(Squares(), range(3))) == {0: 0, 1: 1, 2: 4}
        finally:
            worker.__exit__(None, None, None)
        assert progress.titles == [f"waiting for workers of --dask {address}"]


def test_a_scheduler_that_is_lost_is_an_error_after_what_was_finished(tmp_path: Path) -> None:
    found: list[tuple[int, int]] = []
    with (
        dask_scheduler(tmp_path) as (scheduler, address),
        dask_process("worker", address, "--nthreads=1"),
        dask_workers(address, SilentProgress()) as workers,
    ):

        def indices() -> Iterator[int]:
            yield from range(10)
            scheduler.kill()
            yield from range(10, 10_000)

        with pytest.raises(MlgenError, match=rf"^--dask {address}: the scheduler is gone"):
            found.extend(workers.compute(Squares(0.05), indices()))
    assert 8 <= len(found) < 100
    assert dict(found) == {index: index**2 for index, _ in found}


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("tcp://127.0.0.1:1", MlgenError, "no scheduler answers .*: expected `dask scheduler`"),
        ("127.0.0.1", CardError, "expected an address like tcp://host:8786"),
        ("", CardError, "expected an address like tcp://host:8786"),
    ],
)
def test_where_there_is_no_scheduler_it_says_so(
    address: str, error: type[MlgenError], message: str
) -> None:
    with pytest.raises(error, match=f"^--dask {address}: {message}") as caught:
        dask_workers(address, SilentProgress())
    assert type(caught.value) is error


def test_missing_packages_are_named_with_the_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, name, start in (
        ("distributed", "dask", lambda: dask_workers("tcp://127.0.0.1:1", SilentProgress())),
        ("dask_jobqueue", "dask-jobqueue", lambda: batch_cluster("slurm")),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtra, match=rf"^{name} is not .*'mlgen-hep\[cluster\]', or"):
            start()


# --- batch systems ---------------------------------------------------------------------------


def test_jobs_are_what_the_configuration_of_dask_says() -> None:
    with (
        config.set({"jobqueue.slurm.queue": "short", "jobqueue.slurm.memory": "3 GB"}),
        closing(batch_cluster("slurm")) as cluster,
    ):
        script = cluster.job_script()
    for line in ("#SBATCH -p short", "#SBATCH --mem=3G", "#SBATCH --cpus-per-task=1"):
        assert line in script
    assert f"{sys.executable} -m distributed.cli.dask_worker tcp://" in script
    assert "--nthreads 1 " in script
    with closing(batch_cluster("htcondor")) as cluster:
        script = cluster.job_script()
    assert "MY.DaskWorkerCores = 1\nMY.DaskWorkerMemory = 2000000000\n" in script


# distributed 2026.8 warns when it deletes the cluster that it could not make.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_configuration_that_is_wrong_is_named() -> None:
    with (
        config.set({"jobqueue.slurm.memory": "much"}),
        pytest.raises(CardError, match=r"^jobqueue\.slurm of dask's configuration: .*much"),
    ):
        batch_cluster("slurm")


@pytest.mark.parametrize("system", ["slurm", "htcondor"])
def test_jobs_need_a_machine_to_submit_them_from(
    system: BatchSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    with pytest.raises(MlgenError, match=rf"^--{system}: \w+ is not found: expected a machine"):
        batch_workers(system, 2, SilentProgress())
    with pytest.raises(CardError, match=r"^--workers = 0: expected a positive number of jobs"):
        batch_workers(system, 0, SilentProgress())


def pretend_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str) -> None:
    """Put an `sbatch` into the path, and an `scancel`, which ends the process group of its job."""
    for name, text in (("sbatch", sbatch), ("scancel", 'kill -KILL -- "-$1"')):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_job_that_is_refused_is_an_error_with_the_words_of_the_batch_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_slurm(tmp_path, monkeypatch, "echo 'sbatch: error: invalid account' >&2; exit 1")
    with pytest.raises(MlgenError, match=r"(?s)^--slurm: a job cannot be.*: invalid account"):
        batch_workers("slurm", 2, SilentProgress())


def test_jobs_compute_and_those_that_end_early_are_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_it = f'cp "$1" {tmp_path}/$$; setsid sh {tmp_path}/$$ >/dev/null 2>&1 & echo "job $!"'
    pretend_slurm(tmp_path, monkeypatch, runs_it)
    with (
        config.set({"distributed.deploy.lost-worker-timeout": "1s"}),
        batch_workers("slurm", 1, SilentProgress()) as workers,
    ):
        (first,) = set(dict(workers.compute(Pids(), range(4))).values())
        threading.Timer(0.3, lambda: os.killpg(os.getpgid(first), signal.SIGKILL)).start()
        pids = set(dict(workers.compute(Pids(0.1), range(10))).values())
        assert len(pids - {first}) == 1
        assert len(workers.losses) == 1
    (last,) = pids - {first}
    deadline = time.monotonic() + 5
    while Path(f"/proc/{last}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{last}").exists(), "a job outlives the campaign"
