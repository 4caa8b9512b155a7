"""A run that is stopped goes on where it was, to the bytes that it would have left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mlgen
from mlgen.api import resume, run
from mlgen.campaign.checkpoint import CHECKPOINT_FILE, RunCheckpoint, read_checkpoint
from mlgen.campaign.pack import read_pack
from mlgen.campaign.run_folder import sole_use
from mlgen.campaign.step_clock import StepClock
from mlgen.campaign.whole_files import checksum
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.cli import run_arguments
from mlgen.errors import CardError, MatrixElementError, MlgenError, PackError
from mlgen.integration.candidates import Candidate
from mlgen.integration.choosing import Costs
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.integrator import _Integrator
from mlgen.jobs.stages import RunResult
from mlgen.samplers.module import SamplerModule
from tests.stopping import StopsAt

SETTINGS = (
    "run.n_events=100",
    "run.n_estimate=5000",
    "run.chunk_size=5000",
    "vegas.n_points=2000",
    "vegas.n_iterations=3",
    "vegas.n_bins=16",
    "flow.n_bins=4",
    "flow.n_hidden=8",
    "flow.batch_size=256",
    "flow.n_steps=96",
)
N_ROUNDS = 6
RESULTS = ("events.lhe.gz", "ee_to_mumu.mlgen.zip")


def quick_card(*overrides: str) -> Card:
    return read_card(find_card("ee_to_mumu"), (*SETTINGS, "run.sampler=flow", *overrides))


@pytest.fixture(autouse=True)
def checkpoints_at_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlgen.campaign.checkpoint.INTERVAL_S", 0.0)
    monkeypatch.setattr("mlgen.campaign.checkpoint.PATIENCE", 0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run that nothing stops."""
    return run(quick_card(), tmp_path_factory.mktemp("whole") / "out")


def stop(folder: Path, title: str, n: int, card: Card | None = None) -> None:
    """Begin a run, and interrupt it in a step."""
    with pytest.raises(KeyboardInterrupt) as caught:
        run(card or quick_card(), folder, progress=StopsAt(title, n, KeyboardInterrupt()))
    assert caught.value.__notes__ == [f"`mlgen run --resume {folder}` goes on with this run"]


def same_results(folder: Path, whole: RunResult) -> bool:
    return all(checksum(folder / name) == checksum(whole.folder / name) for name in RESULTS)


@pytest.mark.parametrize(
    ("title", "n", "n_adapting", "n_training"),
    [
        ("preparing the matrix element", 1, 3, N_ROUNDS),
        ("adapting VEGAS", 2, 1, N_ROUNDS),
        ("measuring vegas", 1, 0, N_ROUNDS),
        ("training the flow", 1, 0, N_ROUNDS - 1),
        ("training the flow", 4, 0, N_ROUNDS - 4),
        ("training the flow", N_ROUNDS, 0, 0),
        ("generating", 1, 0, 0),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    title: str, n: int, n_adapting: int, n_training: int, whole: RunResult, tmp_path: Path
) -> None:
    stop(tmp_path, title, n)
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["error"]) == ("interrupted", "interrupted")
    watch = StopsAt("", 1, KeyboardInterrupt())
    result = resume(tmp_path, progress=watch)
    # What was learned is not learned again.
    assert watch.seen.count("adapting VEGAS") == n_adapting
    assert watch.seen.count("training the flow") == n_training
    assert same_results(tmp_path, whole)
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["n_resumed"]) == ("complete", 1)
    assert result.record.n_matrix_element_calls == whole.record.n_matrix_element_calls
    assert not (tmp_path / CHECKPOINT_FILE).exists()


@pytest.mark.parametrize(
    ("title", "n"), [("training the flow", 1), ("training the flow", 3), ("measuring flow", 1)]
)
def test_an_interrupted_run_with_other_options_goes_on_to_the_same_bytes(
    title: str, n: int, tmp_path: Path
) -> None:
    card = quick_card(
        "flow.loss=stratified_variance",
        "phase_space.learned_weights=true",
        "flow.kept_rounds=2",
        "flow.offline=0.34",
        "flow.patience=2",
        "flow.n_steps=160",
        "run.weighted=true",
        "process.definition=e+ e- > u u~ g",
        "matrix_element.provider=closed_form",
        "cuts.jets.pt_min_gev=10",
    )
    whole = run(card, tmp_path / "whole")
    assert any("learned_weights" in name for name in trained_names(whole))
    (tmp_path / "out").mkdir()
    stop(tmp_path / "out", title, n, card)
    resume(tmp_path / "out")
    assert same_results(tmp_path / "out", whole)


def trained_names(result: RunResult) -> set[str]:
    return set(read_pack(result.folder / "ee_to_mumu.mlgen.zip").samplers["flow"].tensors)


def test_a_run_may_be_interrupted_again_and_again(whole: RunResult, tmp_path: Path) -> None:
    stop(tmp_path, "adapting VEGAS", 1)
    for title in ("adapting VEGAS", "training the flow", "training the flow", "generating"):
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path, progress=StopsAt(title, 1, KeyboardInterrupt()))
    assert resume(tmp_path).record.n_resumed == 5
    assert same_results(tmp_path, whole)


def test_training_that_is_begun_with_other_numbers_gives_other_bytes(
    whole: RunResult, tmp_path: Path
) -> None:
    stop(tmp_path, "training the flow", 4)
    path = tmp_path / CHECKPOINT_FILE
    stored = read_checkpoint(path)
    for name, tensor in stored.learners["train"].tensors.items():
        if name.startswith("adam.") and tensor.is_floating_point():
            tensor *= 1.01
    RunCheckpoint(path, stored, StepClock()).write()
    resume(tmp_path)
    assert not same_results(tmp_path, whole)


def test_what_a_run_cost_before_it_was_interrupted_counts(tmp_path: Path) -> None:
    stop(tmp_path, "generating", 1)
    before = json.loads((tmp_path / "run.json").read_text())["cpu_s"]
    after = resume(tmp_path).record.cpu_s
    assert before["train"] > 0.01
    assert all(after[step] >= before[step] for step in before)


def test_a_decision_by_time_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What VEGAS takes looks long at first, and short when the run goes on.
    card = quick_card("run.sampler=auto", "run.n_events=1000", "flow.n_steps=320")
    monkeypatch.setattr("mlgen.integration.integrator.NOT_WORTH_MEASURING_S", 0.0)
    costs_as_they_are(monkeypatch)
    slow = slower_estimates(monkeypatch, 1e5)
    stop(tmp_path, "training the flow", 1, card)
    slow.setattr("mlgen.integration.integrator.NOT_WORTH_MEASURING_S", 0.0)
    slower_estimates(monkeypatch, 1e-5)
    (decision,) = (d for d in resume(tmp_path).record.decisions if d.name == "run.sampler")
    first, second = decision.expected
    assert first.goal_s > 10
    assert (first.sampler, second.sampler) == ("vegas", "flow")
    assert decision.outcome is not None
    assert decision.outcome.n_steps == second.n_steps > 0


def costs_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points that training draws cost what they do, whatever `slower_estimates` makes of those of VEGAS."""
    measured = _Integrator._costs

    def costs(self: _Integrator, sampler: SamplerModule, vegas: Candidate) -> Costs:
        usual = replace(vegas.measured, us_per_point=1.0)
        return measured(self, sampler, replace(vegas, measured=usual))

    monkeypatch.setattr(_Integrator, "_costs", costs)


def slower_estimates(monkeypatch: pytest.MonkeyPatch, factor: float) -> pytest.MonkeyPatch:
    from mlgen.integration import integrator, measure

    def slower(*arguments: Any) -> measure.Estimate:
        found = measure.estimate(*arguments)
        return replace(found, us_per_point=factor * found.us_per_point)

    monkeypatch.setattr(integrator, "estimate", slower)
    return monkeypatch


def test_a_complete_run_cannot_go_on(whole: RunResult) -> None:
    with pytest.raises(CardError, match=r"the run is complete .* expected an interrupted one"):
        resume(whole.folder)


@pytest.mark.parametrize("record", [None, "{", "[]"])
def test_a_folder_without_a_run_cannot_go_on(record: str | None, tmp_path: Path) -> None:
    if record is not None:
        (tmp_path / "run.json").write_text(record)
    with pytest.raises(CardError, match=r"--resume .*: no run is there"):
        resume(tmp_path)
    with pytest.raises(CardError, match="no run is there"):
        resume(tmp_path / "nowhere")


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    stop(tmp_path, "training the flow", 1)
    path = tmp_path / CHECKPOINT_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackError, match=r"checkpoint\.zip: damaged"):
        resume(tmp_path)
    assert path.read_bytes() == content


def test_a_checkpoint_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(mlgen, "__version__", "0.0.1")
        stop(tmp_path, "adapting VEGAS", 1)
    with pytest.raises(PackError, match=r"written by mlgen 0\.0\.1, this is .* expected the same"):
        resume(tmp_path)


def test_a_checkpoint_of_another_integrand_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(tmp_path, "training the flow", 2)
    weight = ProcessIntegrand.weight

    def other(self: ProcessIntegrand, *arguments: Any) -> Any:
        found = weight(self, *arguments)
        return replace(found, value=1.001 * found.value)

    monkeypatch.setattr(ProcessIntegrand, "weight", other)
    with pytest.raises(PackError, match="of another integrand: the values at stored points differ"):
        resume(tmp_path)


def test_a_failure_from_outside_keeps_what_was_learned(whole: RunResult, tmp_path: Path) -> None:
    progress = StopsAt("training the flow", 2, MatrixElementError("the library went away"))
    with pytest.raises(MatrixElementError) as caught:
        run(quick_card(), tmp_path, progress=progress)
    assert "what was done is kept" in caught.value.__notes__[0]
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"
    resume(tmp_path)
    assert same_results(tmp_path, whole)


def test_a_failure_that_would_come_again_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MlgenError, match="of 100000 events"):
        run(quick_card("run.sampler=vegas", "run.max_points=2000"), tmp_path, n_events=100_000)
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    with pytest.raises(CardError, match="the run is failed"):
        resume(tmp_path)


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    stop(tmp_path, "adapting VEGAS", 1)
    with sole_use(tmp_path), pytest.raises(MlgenError, match="another mlgen works there"):
        resume(tmp_path)
    resume(tmp_path)


def test_the_card_of_a_stopped_run_holds_to_the_last_digit(tmp_path: Path) -> None:
    card = quick_card("flow.learning_rate=0.0012345678901234567", "cuts.leptons.pt_min_gev=1e-3")
    stop(tmp_path, "adapting VEGAS", 1, card)
    result = resume(tmp_path)
    assert result.record.card["flow"]["learning_rate"] == card.flow.learning_rate
    pack = read_pack(tmp_path / "ee_to_mumu.mlgen.zip")
    assert "0.0012345678901234567" in pack.card


# --- the command line, in processes of its own


def arguments(folder: Path) -> list[str]:
    sets = [f"--set={setting}" for setting in (*SETTINGS, "flow.n_steps=400")]
    return ["run", "ee_to_mumu", "--sampler=flow", *sets, "-o", str(folder)]


def command(*arguments: str) -> list[str]:
    # Checkpoints at every round, as in the tests above; and Ctrl-C heard where the tests run in the
    # background of a shell, which has it ignored.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from mlgen.campaign import checkpoint as c; c.INTERVAL_S = c.PATIENCE = 0.0;"
        "from mlgen.cli import main; main(sys.argv[1:])"
    )
    return [sys.executable, "-c", code, *arguments]


@pytest.fixture(scope="module")
def long_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is long enough to be stopped, and was not."""
    folder = tmp_path_factory.mktemp("long") / "out"
    assert run_arguments(arguments(folder)) == 0
    return folder


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_process_that_is_stopped_by_a_signal_goes_on_to_the_same_bytes(
    number: str, long_whole: Path, tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    process = subprocess.Popen(
        command(*arguments(stopped)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    wait_for_training(stopped / CHECKPOINT_FILE, process)
    process.send_signal(getattr(signal, number))
    _, error = process.communicate(timeout=60)
    if number == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
        assert not (stopped / "run.json").exists()
    else:
        assert process.returncode == 130
        assert json.loads((stopped / "run.json").read_text())["status"] == "interrupted"
        assert f"`mlgen run --resume {stopped}` goes on with this run" in error.decode()
    assert "train" in read_checkpoint(stopped / CHECKPOINT_FILE).learners
    assert run_arguments(["run", "--resume", str(stopped)]) == 0
    left = {path.name for path in stopped.iterdir()}
    assert left == {path.name for path in long_whole.iterdir()}
    for name in RESULTS:
        assert checksum(stopped / name) == checksum(long_whole / name)


def wait_for_training(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it was stopped"
        if path.is_file() and "train" in read_checkpoint(path).learners:
            return
        time.sleep(0.02)
    pytest.fail("no training within two minutes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume", "nowhere"], "--resume nowhere: no run is there"),
        (["--resume", "nowhere", "-n", "10"], "expected no card and no other option beside it"),
        (["pp_to_ee", "--resume", "nowhere"], "expected no card and no other option beside it"),
    ],
)
def test_what_cannot_be_resumed_is_said_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_arguments(["run", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_show_says_how_a_stopped_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop(tmp_path, "adapting VEGAS", 1)
    assert run_arguments(["show", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "interrupted" in shown
    assert f"mlgen run --resume {tmp_path}" in shown
    (tmp_path / "run.json").unlink()  # as after SIGKILL
    assert run_arguments(["show", str(tmp_path)]) == 0
    assert f"mlgen run --resume {tmp_path}" in capsys.readouterr().out
