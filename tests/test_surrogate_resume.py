"""Runs with a surrogate that are stopped go on to the same bytes; and flows that one guides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlgen.api import generate, resume, resume_train, run, train
from mlgen.campaign.checkpoint import CHECKPOINT_FILE, RunCheckpoint, read_checkpoint
from mlgen.campaign.point_files import POINTS_FOLDER
from mlgen.campaign.whole_files import checksum
from mlgen.cli import run_arguments
from mlgen.errors import PackError
from mlgen.integration import stand_in
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.jobs.stages import RunResult
from mlgen.surrogates.method import Method
from tests.laws import check_estimate
from tests.stopping import StopsAt
from tests.surrogate_cards import quick_card

NAME = "ee_to_uug"
PACK = f"{NAME}.mlgen.zip"
RESULTS = ("events.lhe.gz", PACK)
FLOW = (
    "run.sampler=flow",
    "run.n_events=1000",
    "run.n_estimate=8192",
    "flow.n_bins=4",
    "flow.n_hidden=8",
    "flow.batch_size=512",
    "flow.n_steps=64",
    "surrogate.n_hidden=32",
    "surrogate.n_steps=400",
    "surrogate.guides=always",
)
N_TRAINED_ON = 4 * 2048
"""Points of four rounds."""
LEARNING = Method.title
CORRECTING = "correcting flow with a surrogate"


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Checkpoints at every round, few survivors, no plots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlgen.campaign.checkpoint.INTERVAL_S", 0.0)
        patch.setattr("mlgen.campaign.checkpoint.PATIENCE", 0.0)
        patch.setattr("mlgen.jobs.run.write_run_report", lambda *_: {})
        patch.setattr(stand_in, "N_SURVIVORS", 2000)
        yield


class Watched:
    """A run, and how often its steps advanced."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        watch = StopsAt("", 1, KeyboardInterrupt())
        card = quick_card("always", *overrides, name=NAME)
        self.result: RunResult = run(card, folder, progress=watch)
        self.seen = watch.seen

    @property
    def decisions(self) -> Path:
        return self.result.folder / "run.json"

    @property
    def n_training(self) -> int:
        """Points that the surrogate of the events learned from."""
        assert self.result.record.surrogate is not None
        return self.result.record.surrogate.n_training


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A flow that a surrogate guides, then a surrogate of its own for the events."""
    return Watched(tmp_path_factory.mktemp("guided") / "out", *FLOW)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The same, with a flow that was trained on the exact matrix element."""
    folder = tmp_path_factory.mktemp("alone") / "out"
    return Watched(folder, *FLOW, "surrogate.guides=never")


def stop(folder: Path, title: str, n: int, whole: Watched, *overrides: str) -> None:
    card = quick_card("always", *FLOW, *overrides, name=NAME)
    progress = StopsAt(title, n, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(card, folder, progress=progress, decisions=whole.decisions)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def check_goes_on(folder: Path, whole: Watched) -> None:
    result = resume(folder)
    record, expected = result.record, whole.result.record
    # What says most of where two runs part comes first.
    assert record.settled == expected.settled
    assert record.warnings == expected.warnings
    assert record.samplers == expected.samplers
    assert record.surrogate == expected.surrogate
    assert record.n_matrix_element_calls == expected.n_matrix_element_calls
    for name in RESULTS:
        assert checksum(folder / name) == checksum(whole.result.folder / name)
    assert not (folder / POINTS_FOLDER).exists()
    assert not (folder / CHECKPOINT_FILE).exists()


# --- a guided flow ----------------------------------------------------------------------------


def test_a_guided_flow_takes_fewer_exact_matrix_elements(guided: Watched, alone: Watched) -> None:
    saved = alone.n_training - guided.n_training
    assert 0.2 * N_TRAINED_ON < saved < N_TRAINED_ON
    calls = [made.result.record.n_matrix_element_calls for made in (guided, alone)]
    assert calls[0] < calls[1]


def test_a_guided_flow_makes_the_events_of_its_process(guided: Watched, alone: Watched) -> None:
    ours, theirs = guided.result.record, alone.result.record
    assert (ours.sampler, theirs.sampler) == ("flow", "flow")
    assert ours.warnings == theirs.warnings == ()
    values = [ours.cross_section_pb, ours.cross_section_error_pb, theirs.cross_section_pb]
    mean, error, expected = (value for value in values if value is not None)
    check_estimate(mean, 2**0.5 * error, expected, max_relative_error=0.03)
    found = [record.samplers["flow"].eps_uw.value for record in (ours, theirs)]
    assert found[0] > 0.7 * found[1]


def test_guiding_learns_from_what_came_before_the_flow_and_the_events_from_all(
    guided: Watched,
) -> None:
    learned_at = guided.seen.index(LEARNING)
    assert "adapting VEGAS" in guided.seen[learned_at:], "the rounds to come are guided"
    assert learned_at < guided.seen.index("training the flow")
    assert guided.seen[guided.seen.index("training the flow") :].count(LEARNING) > 0


def test_a_guide_that_cannot_be_trained_leaves_the_exact_matrix_element(tmp_path: Path) -> None:
    """Too few points come before the flow, enough with those that it was trained on."""
    few = (
        "run.n_estimate=1000",
        "vegas.n_points=1000",
        "vegas.n_iterations=1",
        "surrogate.calibration_share=0.49",
    )
    whole = Watched(tmp_path / "whole", *FLOW, *few)
    (warning,) = whole.result.record.warnings
    assert warning.startswith("surrogate: ")
    assert warning.endswith(
        "points of a group: expected at least 2043; samplers learn from the exact matrix element instead"
    )
    # Points of the flow are there when the run goes on: they do not make a guide all at once.
    stop(tmp_path / "out", "training the flow", 3, whole, *few)
    check_goes_on(tmp_path / "out", whole)


# --- stopped ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "n"),
    [
        ("adapting VEGAS", 2),
        ("measuring vegas", 2),
        (LEARNING, 3),
        ("training the flow", 2),
        ("measuring flow", 1),
        (f"{LEARNING} again", 1),
        ("measuring the surrogate flow with a surrogate", 2),
        (CORRECTING, 1),
        ("generating", 1),
        ("writing events.lhe.gz", 1),
    ],
)
def test_an_interrupted_run_with_a_surrogate_goes_on_to_the_same_bytes(
    title: str, n: int, guided: Watched, tmp_path: Path
) -> None:
    if title.endswith(" again"):
        title, n = LEARNING, n + guided.seen.count(LEARNING) // 2
    stop(tmp_path, title, n, guided)
    check_goes_on(tmp_path, guided)


def test_a_run_with_a_surrogate_may_be_stopped_again_and_again(
    guided: Watched, tmp_path: Path
) -> None:
    stop(tmp_path, "training the flow", 1, guided)
    for title in ("training the flow", LEARNING, CORRECTING):
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path, progress=StopsAt(title, 1, KeyboardInterrupt()))
    check_goes_on(tmp_path, guided)


def test_points_that_were_kept_after_the_last_checkpoint_are_not_learned_from_twice(
    guided: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: files are there of rounds that no checkpoint knows."""
    n_written, write = 0, RunCheckpoint.write

    def first_only(self: RunCheckpoint) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == 1:
            write(self)

    with monkeypatch.context() as killed:
        killed.setattr(RunCheckpoint, "write", first_only)
        stop(tmp_path, "training the flow", 3, guided)
    assert not read_checkpoint(tmp_path / CHECKPOINT_FILE).learners
    assert list((tmp_path / POINTS_FOLDER).glob("*-train-000002.zip"))
    check_goes_on(tmp_path, guided)


def test_what_was_learned_is_not_learned_again(guided: Watched, tmp_path: Path) -> None:
    """Nor are the points read again that it was learned from."""
    stop(tmp_path, CORRECTING, 1, guided)
    damage(min((tmp_path / POINTS_FOLDER).glob("*-train-*.zip")))
    watch = StopsAt("", 1, KeyboardInterrupt())
    resume(tmp_path, progress=watch)
    assert not {LEARNING, "training the flow", "adapting VEGAS"} & set(watch.seen)


def test_a_training_with_a_surrogate_that_is_stopped_leaves_the_same_pack(
    guided: Watched, tmp_path: Path
) -> None:
    path, card = tmp_path / PACK, quick_card("always", *FLOW, name=NAME)
    with pytest.raises(KeyboardInterrupt):
        train(
            card,
            path,
            decisions=guided.decisions,
            progress=StopsAt(LEARNING, 3, KeyboardInterrupt()),
        )
    partial = tmp_path / f"{PACK}.partial"
    assert (partial / POINTS_FOLDER).is_dir()
    resume_train(partial)
    assert checksum(path) == checksum(guided.result.folder / PACK)
    assert not partial.exists()
    again = generate(path, tmp_path / "events")
    assert checksum(again.events_path) == checksum(guided.result.events_path)


def test_a_guided_run_knows_another_integrand(
    guided: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(tmp_path, "training the flow", 2, guided)
    luminosities = ProcessIntegrand._luminosities
    monkeypatch.setattr(
        ProcessIntegrand, "_luminosities", lambda *arguments: 1.001 * luminosities(*arguments)
    )
    with pytest.raises(PackError, match="of another integrand: the values at stored points differ"):
        resume(tmp_path)


# --- damaged ----------------------------------------------------------------------------------


def test_a_damaged_file_of_points_is_named_and_the_run_goes_on_without_it(
    guided: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The points of a learner that has gone on cannot be drawn again."""
    stop(tmp_path, "measuring flow", 1, guided)
    path = min((tmp_path / POINTS_FOLDER).glob("*-train-*.zip"))
    damage(path)
    for _ in range(2):
        assert run_arguments(["run", "--resume", str(tmp_path)]) == PackError.exit_code
        said = " ".join(capsys.readouterr().err.split())
        assert f"{path}: damaged" in said
        assert "delete this file to go on without its points" in said
        assert f"`mlgen run --resume {tmp_path}` goes on" in said
    path.unlink()
    record, expected = resume(tmp_path).record, guided.result.record
    assert record.n_events == expected.n_events
    assert record.surrogate is not None
    assert 0 < guided.n_training - record.surrogate.n_training <= N_TRAINED_ON // 4
    assert record.cross_section_pb == pytest.approx(expected.cross_section_pb, rel=0.05)
    assert not record.warnings


def test_points_of_an_estimate_are_drawn_again_in_place_of_a_damaged_file(
    guided: Watched, tmp_path: Path
) -> None:
    stop(tmp_path, "measuring flow", 1, guided)
    damage(min((tmp_path / POINTS_FOLDER).glob("*-estimate_vegas-*.zip")))
    check_goes_on(tmp_path, guided)
