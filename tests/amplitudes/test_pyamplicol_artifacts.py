from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from mlgen.amplitudes import pyamplicol_artifacts
from mlgen.amplitudes.pyamplicol import ArtifactChecks, PyamplicolAmplitude, provide
from mlgen.amplitudes.pyamplicol_artifacts import ArtifactCache, MatrixElement
from mlgen.amplitudes.pyamplicol_runtime import ProcessRuntime
from mlgen.core import SubprocessGroup
from mlgen.errors import MatrixElementError, MissingExtra, UnsupportedProcess
from mlgen.physics.model import StandardModel
from tests.amplitudes.pyamplicol_requests import (
    OTHER_ELEMENTS,
    UUX,
    RecordedProgress,
    alpha_s,
    points,
    request,
)


def test_the_first_call_reports_each_artifact_and_the_second_makes_none(
    made: tuple[PyamplicolAmplitude, RecordedProgress],
    artifact_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, first = made
    title = "preparing the matrix element"
    assert first.done == pytest.approx(first.totals)
    assert first.totals.get(title, 0) <= 5
    monkeypatch.setattr(subprocess, "Popen", None)
    progress = RecordedProgress()
    provide(request(artifact_cache), progress)
    assert not progress.totals


def test_each_artifact_has_a_note_beside_it_with_what_was_checked(
    amplitude: PyamplicolAmplitude, artifact_cache: Path
) -> None:
    notes = [
        json.loads(path.read_text()) for path in (artifact_cache / "pyamplicol").glob("*.json")
    ]
    checks = {
        (process, note["colour"]): found
        for note in notes
        for process, found in note["processes"].items()
    }
    assert 1 < checks["g g > g t t~", "lc"]["leading over full colour"] < 1.5
    assert checks["g u > e- e+ u", "full"]["Lorentz invariance"] < 1e-9
    assert ("g u~ > e+ e- u~", "full") not in checks  # conjugate to the one above


def test_a_process_that_is_part_of_an_artifact_is_found_there(
    amplitude: PyamplicolAmplitude, artifact_cache: Path
) -> None:
    progress = RecordedProgress()
    # The same with its legs in another order.
    reordered = SubprocessGroup(
        name="u g > e- e+ u", pdg_ids=((2, 21, 11, -11, 2),), qcd_order=1, qed_order=2
    )
    alone = provide(request(artifact_cache, (reordered,)), progress)
    assert not progress.totals
    momenta, expected = points("gu_epemu")
    momenta = momenta[:, [1, 0, 3, 2, 4]]
    value = alone(momenta, alpha_s(momenta), 0).value
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)


def test_a_process_without_colour_is_refused(tmp_path: Path) -> None:
    leptons = SubprocessGroup(name="e+ e- > mu+ mu-", pdg_ids=((-11, 11, -13, 13),), qed_order=2)
    with pytest.raises(UnsupportedProcess, match=r"coloured leg.*closed_form.*umami.*python"):
        provide(request(tmp_path, (leptons,)), RecordedProgress())


def test_quark_lines_that_only_electroweak_bosons_join_are_refused(tmp_path: Path) -> None:
    scattering = SubprocessGroup(
        name="u u > w+ w+ d d", pdg_ids=((2, 2, 24, 24, 1, 1),), qcd_order=0, qed_order=4
    )
    with pytest.raises(UnsupportedProcess, match=r"^u u > w\+ w\+ d d with QCD=0: .*umami.*python"):
        provide(request(tmp_path, (scattering,)), RecordedProgress())


def test_another_power_of_alpha_s_than_the_groups_is_refused(
    amplitude: PyamplicolAmplitude, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = ProcessRuntime.totals
    monkeypatch.setattr(
        ProcessRuntime, "totals", lambda self, momenta: 0 * totals(self, momenta) + 1
    )
    with pytest.raises(MatrixElementError, match=r"alpha_s\^0: expected alpha_s\^1"):
        amplitude.check_alpha_s_power(UUX)


def test_a_missing_extra_names_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"mlgen-hep\[amplitudes\].*closed_form"):
        provide(request(tmp_path), RecordedProgress())


def test_a_process_that_cannot_be_made_says_why(artifact_cache: Path) -> None:
    forbidden = MatrixElement(
        process="u u~ > e+ mu- g",
        pdg_ids=(2, -2, -11, 13, 21),
        colour="full",
        qcd_order=1,
        qed_order=2,
    )
    cache = ArtifactCache(artifact_cache)
    message = r"could not make u u~ > e\+ mu- g.*no concrete.*umami"
    with pytest.raises(UnsupportedProcess, match=message):
        cache.prepare([forbidden], ArtifactChecks(StandardModel(), cache), RecordedProgress())
    assert cache.find(forbidden) is None


def test_a_matrix_element_that_fails_a_check_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(processes: list[str], artifact: Path, **options: Any) -> None:
        artifact.mkdir()

    def failing(element: MatrixElement, artifact: Path) -> dict[str, float]:
        raise MatrixElementError("|M|² = -1: expected a positive number")

    monkeypatch.setattr(pyamplicol_artifacts, "generate", fake)
    cache = ArtifactCache(tmp_path)
    elements = [OTHER_ELEMENTS["gg_gg"]]
    with pytest.raises(MatrixElementError, match="expected a positive number"):
        cache.prepare(elements, failing, RecordedProgress())
    assert not list((tmp_path / "pyamplicol").iterdir())
    cache.prepare(elements, lambda element, artifact: {"a law": 0.0}, RecordedProgress())
    assert cache.find(elements[0]) is not None


def test_a_generation_that_is_aborted_says_what_is_likely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def aborting(command: list[str], **options: Any) -> subprocess.Popen[str]:
        return popen([sys.executable, "-c", "import os; os.abort()"], **options)

    monkeypatch.setattr(subprocess, "Popen", aborting)
    with pytest.raises(MatrixElementError, match="signal 6: another process of this user"):
        provide(request(tmp_path), RecordedProgress())
    assert not list((tmp_path / "pyamplicol").iterdir())


def test_a_damaged_artifact_names_the_folder_to_delete(
    amplitude: PyamplicolAmplitude, artifact_cache: Path, tmp_path: Path
) -> None:
    # Another process may be making some there.
    unfinished = shutil.ignore_patterns(".making-*", "*.part", "models")
    shutil.copytree(artifact_cache / "pyamplicol", tmp_path / "pyamplicol", ignore=unfinished)
    leading = MatrixElement(
        process="g g > g t t~", pdg_ids=(21, 21, 21, 6, -6), colour="lc", qcd_order=3, qed_order=0
    )
    damaged = ArtifactCache(tmp_path).folder_of(leading)
    payload = damaged / "evaluators.pacbin"
    payload.write_bytes(payload.read_bytes()[:-1000])
    with pytest.raises(MatrixElementError, match=f"delete {damaged}"):
        provide(request(tmp_path), RecordedProgress())


class Waited(Exception):
    """Raised by a progress that is told to wait."""


def test_two_generations_of_one_user_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user_cache(name: str, ensure_exists: bool) -> Path:
        return tmp_path

    class Impatient(RecordedProgress):
        @contextmanager
        def step(self, title: str, total: float) -> Iterator[Callable[[float, str], None]]:
            def advance(more: float, note: str = "") -> None:
                raise Waited(note)

            yield advance

    monkeypatch.setattr(pyamplicol_artifacts, "user_cache_path", user_cache)
    with (
        FileLock(tmp_path / "symbolica.lock"),
        pytest.raises(Waited, match="waiting for another process"),
    ):
        provide(request(tmp_path), Impatient())


WORKER = """
import pickle, sys
from pathlib import Path
amplitude, momenta, alpha_s, stop = pickle.load(sys.stdin.buffer)
amplitude(momenta, alpha_s, 0)
print("ready", flush=True)
value = None
while value is None or not Path(stop).exists():
    value = amplitude(momenta, alpha_s, 0).value
imported = {"pyamplicol", "symbolica"} & set(sys.modules)
print(len(imported), *value.tolist())
"""


def test_several_processes_evaluate_at_once_and_without_symbolica(
    amplitude: PyamplicolAmplitude, tmp_path: Path
) -> None:
    momenta, expected = points("uux_epemg")
    stop = tmp_path / "stop"
    task = pickle.dumps((amplitude, momenta, alpha_s(momenta), str(stop)))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(task)
        worker.stdin.close()
        worker.stdin = None
    # Each one evaluates on until both do.
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    stop.touch()
    for worker in workers:
        out, _ = worker.communicate(timeout=100)
        assert worker.returncode == 0
        n_imported, *values = (float(x) for x in out.split())
        assert n_imported == 0
        torch.testing.assert_close(
            torch.tensor(values, dtype=torch.float64), expected, rtol=1e-9, atol=0
        )
    assert not {"pyamplicol", "symbolica"} & set(sys.modules)
