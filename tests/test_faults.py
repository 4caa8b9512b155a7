"""Faults planted into the command line: each has its message and its exit code, and costs nothing that was done.

`python -m benchmarks.faults` plants many more, in processes of their own.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import matrix_elements
from benchmarks.faults.matrix_elements import FAULT, Fault
from benchmarks.faults.process import Broken
from benchmarks.faults.stage import EVENTS, PACK, Whole, check_complete, check_names, run_arguments
from mlgen.cli import run_arguments as mlgen

resource = pytest.importorskip("resource", reason="limits as POSIX has them")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert mlgen(run_arguments(folder)) == 0
    check_complete(folder, None)
    return Whole(folder=folder)


@pytest.fixture(scope="module")
def generated(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Events of its pack, which nothing disturbs."""
    folder = tmp_path_factory.mktemp("generated") / "out"
    assert mlgen(generation(whole, folder)) == 0
    return Whole(folder=folder)


def generation(whole: Whole, output: Path, *options: str) -> list[str]:
    return ["generate", str(whole.folder / PACK), "--seed=5", "-o", str(output), *options]


@pytest.fixture(autouse=True)
def quiet_matrix_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matrix_elements._counted, "calls", 0)
    monkeypatch.delenv(FAULT, raising=False)


Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """The one line of a failure, without progress and without how to go on."""

    def read() -> str:
        error = capsys.readouterr().err
        assert "Traceback" not in error
        lines = [line for line in error.splitlines() if line.startswith("mlgen: ")]
        first, *notes = lines
        assert all("goes on" in note for note in notes)
        return first

    return read


def plant(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.setenv(FAULT, fault.environment[FAULT])


def check_resumes(folder: Path, whole: Whole, *options: str) -> None:
    assert mlgen(["run", "--resume", str(folder), *options]) == 0
    check_complete(folder, whole)


# --- disks -----------------------------------------------------------------------------------


@contextmanager
def full_disk(pattern: str, n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond some bytes, from the moment when one of a name is written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = io.open

    def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode not in ("r", "rb") and re.search(pattern, str(file)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        return real(file, mode, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("file", "n_bytes", "code", "message"),
    [
        ("checkpoint", 100, 1, r"checkpoint\.zip: cannot be written: File too large$"),
        (r"mlgen\.zip", 100, 1, r"ee_to_mumu\.mlgen\.zip: cannot be written: File too large$"),
        ("report", 5000, 1, r"report\.html: cannot be written: File too large$"),
        (r"run\.json", 100, 1, r"run\.json: cannot be written: File too large$"),
        (r"chunks/\.000003", 100, 1, r"000003\.zip: cannot be written: File too large$"),
        (
            "events",
            80_000,
            7,
            r"events\.lhe\.gz: cannot be written: File too large; \d+ whole events are left in ",
        ),
    ],
)
def test_a_full_disk_is_said_in_one_line_and_the_run_goes_on_when_it_is_not(
    file: str,
    n_bytes: int,
    code: int,
    message: str,
    whole: Whole,
    tmp_path: Path,
    said: Said,
) -> None:
    folder = tmp_path / "out"
    with full_disk(file, n_bytes):
        assert mlgen(run_arguments(folder)) == code
    assert re.search(message, said())
    check_names(folder)
    assert not (folder / EVENTS).exists() or file in ("report", r"run\.json")
    if file == "checkpoint":  # the first one: nothing was done yet
        assert list(folder.iterdir()) == []
        return
    check_resumes(folder, whole)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file/out", "file/out: cannot be made"),
        ("o" * 300, "cannot be made .File name too long"),
    ],
)
def test_a_folder_that_cannot_be_made_is_named(
    output: str, message: str, whole: Whole, tmp_path: Path, said: Said
) -> None:
    (tmp_path / "file").touch()
    assert mlgen(generation(whole, tmp_path / output)) == 1
    assert re.search(message, said())


def test_nobody_who_reads_the_progress_costs_no_event(
    generated: Whole, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    assert mlgen(generation(whole, tmp_path / "out")) == 0
    check_complete(tmp_path / "out", generated)


# --- matrix elements -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "raised ZeroDivisionError.*of the user's"),
        ("exit", r"raised SystemExit\(0\)"),
        ("nan", r"= nan: expected a finite \|M\|².*in GeV = \[\[250.0, "),
        ("inf", r"= inf: expected a finite \|M\|²"),
        ("shape", r"a tensor of shape \(\d+, 1\).*expected \|M\|² of each point"),
        ("out_of_memory", "raised MemoryError"),
    ],
)
def test_a_matrix_element_that_fails_has_exit_code_4_and_costs_only_its_chunk(
    how: str,
    message: str,
    whole: Whole,
    generated: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    folder = tmp_path / "out"
    plant(monkeypatch, Fault(how=how, after=4))
    assert mlgen(generation(whole, folder)) == 4
    assert re.search(r"matrix_element\.function .* of e\+ e- > mu\+ mu-.*" + message, said())
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert len(list((folder / "chunks").glob("*.zip"))) >= 1
    monkeypatch.delenv(FAULT)
    check_resumes(folder, generated)


def test_a_worker_that_is_killed_is_a_warning(
    whole: Whole,
    generated: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault = Fault(how="kill", after=2, in_workers=True, folder=str(tmp_path), times=1)
    plant(monkeypatch, fault)
    folder = tmp_path / "out"
    assert mlgen(generation(whole, folder, "--workers=2")) == 0
    check_complete(folder, generated)
    assert "WARNING: a worker ended by signal 9 (SIGKILL); chunk" in capsys.readouterr().err
    (warning,) = json.loads((folder / "run.json").read_text())["warnings"]
    assert "was made again" in warning


def test_a_generation_with_workers_that_is_killed_goes_on_with_workers_to_the_same_bytes(
    whole: Whole, generated: Whole, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    fault = Fault(how="sleep", seconds=0.05, in_workers=True)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from mlgen.cli import main; main(sys.argv[1:])",
            *generation(whole, folder, "--workers=2"),
        ],
        env={**os.environ, **fault.environment, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(list(folder.glob("chunks/*.zip"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "run.json").exists()
    check_names(folder)
    check_resumes(folder, generated, "--workers=2")


# --- what is stored --------------------------------------------------------------------------


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flipped, "damaged"),
        (lambda content: content[:-30], "no sampler pack, or a damaged one"),
        (lambda content: b"PK" + content[:50], "no sampler pack, or a damaged one"),
    ],
)
def test_a_damaged_pack_has_exit_code_8_and_gives_no_event(
    change: Callable[[bytes], bytes], message: str, whole: Whole, tmp_path: Path, said: Said
) -> None:
    path = tmp_path / PACK
    path.write_bytes(change((whole.folder / PACK).read_bytes()))
    assert mlgen(["generate", str(path), "-o", str(tmp_path / "out")]) == 8
    assert re.search(message, said())
    assert not (tmp_path / "out").exists()


def test_the_checks_of_this_file_notice_what_is_broken(
    whole: Whole, generated: Whole, tmp_path: Path
) -> None:
    for i, name in enumerate((EVENTS, PACK, "report.html")):
        folder = tmp_path / str(i)
        shutil.copytree(whole.folder, folder)
        check_complete(folder, whole)
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])
        with pytest.raises(Broken, match=re.escape(name)):
            check_complete(folder, whole)
    (tmp_path / "0" / EVENTS).unlink()
    with pytest.raises(Broken, match="no file"):
        check_complete(tmp_path / "0", whole)
    with pytest.raises(Broken, match="expected"):
        check_complete(generated.folder, whole)
