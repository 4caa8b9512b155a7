"""A run that drops channels, from the card to the pack."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import mlgen
from mlgen.campaign.pack import read_pack
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.events.check import check_file
from mlgen.jobs.stages import RunResult
from tests.matrix_elements import SMOOTH
from tests.test_resume import SETTINGS as QUICK
from tests.test_resume import same_results, stop

SETTINGS = (
    *SMOOTH,
    "run.sampler=flow",
    "run.n_events=500",
    "run.n_estimate=32768",
    "flow.n_steps=64",
    "flow.n_hidden=16",
    "flow.batch_size=1024",
    "vegas.n_iterations=4",
    "vegas.n_points=10000",
)


def run_in(folder: Path, *overrides: str) -> Path:
    mlgen.run(read_card(find_card("uux_to_zggg"), (*SETTINGS, *overrides)), folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_in(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module", params=["false", "true"], ids=["prior", "learned"])
def fewer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the shares of the prior, and with learned ones."""
    learned = f"phase_space.learned_weights={request.param}"
    folder = tmp_path_factory.mktemp("fewer") / "run"
    return run_in(folder, "phase_space.drop_below=0.1", learned)


def record(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return table


def test_the_record_says_which_channels_are_dropped_and_they_have_nothing(fewer: Path) -> None:
    channels = record(fewer)["channels"]
    dropped = [channel for channel in channels if channel["is_dropped"]]
    assert len(channels) == 6
    assert 0 < len(dropped) < 6
    for channel in channels:
        is_empty = channel["fraction"] == channel["cross_section_pb"] == 0
        assert is_empty == channel["is_dropped"]


def test_no_channel_is_dropped_unless_the_card_says_so(whole: Path) -> None:
    channels = record(whole)["channels"]
    assert not any(channel["is_dropped"] for channel in channels)
    assert min(channel["fraction"] for channel in channels) > 0


def test_the_cross_section_is_that_of_all_channels(fewer: Path, whole: Path) -> None:
    ours, theirs = record(fewer), record(whole)
    error = math.hypot(ours["cross_section_error_pb"], theirs["cross_section_error_pb"])
    assert error < 0.03 * theirs["cross_section_pb"]
    assert abs(ours["cross_section_pb"] - theirs["cross_section_pb"]) < 5 * error
    lost = sum(
        theirs["channels"][number]["cross_section_pb"]
        for number, channel in enumerate(ours["channels"])
        if channel["is_dropped"]
    )
    assert lost > 5 * error, "the comparison sees what the dropped channels had"
    # VEGAS and the flow.
    assert not ours["warnings"]


def test_the_events_are_good(fewer: Path) -> None:
    assert record(fewer)["n_events"] == 500
    assert check_file(fewer / "events.lhe.gz").is_good


def test_the_pack_says_which_channels_are_never_drawn(fewer: Path) -> None:
    is_dropped = [channel["is_dropped"] for channel in record(fewer)["channels"]]
    for packed in read_pack(fewer / "uux_to_zggg.mlgen.zip").samplers.values():
        assert [fraction == 0 for fraction in packed.fraction] == is_dropped
        assert [w_max == 0 for w_max in packed.w_max] == is_dropped


# --- interrupted ------------------------------------------------------------------------------


def dropping_card() -> Card:
    """A quick one; three of its six channels have less than a tenth of the cross section."""
    options = ("phase_space.drop_below=0.1", "phase_space.learned_weights=true")
    names = ("process.name=ee_to_mumu", "run.sampler=flow")
    return read_card(find_card("uux_to_zggg"), (*QUICK, *SMOOTH, *options, *names))


@pytest.fixture(scope="module")
def stopped_by_nothing(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run that drops channels, and that nothing stops."""
    result = mlgen.run(dropping_card(), tmp_path_factory.mktemp("dropping") / "out")
    assert any(channel.is_dropped for channel in result.record.channels)
    return result


@pytest.mark.parametrize(
    ("title", "n"),
    [
        ("adapting VEGAS", 2),
        ("adapting VEGAS to fewer channels", 1),
        ("training the flow", 3),
        ("generating", 1),
    ],
)
def test_an_interrupted_run_that_drops_channels_goes_on_to_the_same_bytes(
    title: str,
    n: int,
    stopped_by_nothing: RunResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlgen.campaign.checkpoint.INTERVAL_S", 0.0)
    monkeypatch.setattr("mlgen.campaign.checkpoint.PATIENCE", 0.0)
    stop(tmp_path, title, n, dropping_card())
    result = mlgen.resume(tmp_path)
    assert same_results(tmp_path, stopped_by_nothing)
    assert result.record.channels == stopped_by_nothing.record.channels
    assert result.record.n_matrix_element_calls == stopped_by_nothing.record.n_matrix_element_calls
