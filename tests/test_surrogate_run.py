"""Runs in which a learned |M|² chooses the points: the events and the cross section are those without."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.distributions import compare, legs_of_events, observables, spectra_of
from mlgen.api import generate, merge, run
from mlgen.campaign.pack import read_pack
from mlgen.campaign.whole_files import checksum
from mlgen.cli import run_arguments
from mlgen.core import EventBatch, PhaseSpacePoints
from mlgen.events.check import check_file
from mlgen.integration import learned_surrogate, stand_in
from mlgen.integration.exact_points import samples_of
from mlgen.integration.guiding import GUIDED_FROM
from mlgen.integration.learned_surrogate import N_PROBED as N_PROBED_FIRST
from mlgen.integration.second_step import ExactSquared
from mlgen.integration.surrogate_prices import N_PROBED
from mlgen.integration.two_stage import SurrogateIntegrand
from mlgen.jobs.stages import RunResult
from mlgen.surrogates.sample import AmplitudeSample
from tests.laws import check_estimate
from tests.matrix_elements import SMOOTH
from tests.stopping import StopsAt
from tests.surrogate_cards import PACK, quick_card, record_of, settled_in


@pytest.fixture(scope="module", autouse=True)
def few_survivors() -> Iterator[None]:
    """Measure each surrogate by fewer of them, in a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stand_in, "N_SURVIVORS", 5000)
        yield


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the plots, which take longer than the rest; the two runs below have theirs."""
    monkeypatch.setattr("mlgen.jobs.run.write_run_report", lambda *_: {})


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(quick_card("never"), tmp_path_factory.mktemp("never") / "out")


@pytest.fixture(scope="module")
def with_it(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(quick_card("always"), tmp_path_factory.mktemp("always") / "out")


def samples_of_something_else(*arguments: Any) -> list[AmplitudeSample]:
    """Ten times smaller where the first final particle has little of the energy."""
    found = []
    for sample in samples_of(*arguments):
        energies = sample.momenta[:, 2:, 0]
        share = energies[:, 0] / energies.sum(1)
        found.append(replace(sample, value=sample.value * 10 ** (share.clamp(max=0.5) * 2 - 1)))
    return found


@pytest.fixture(scope="module")
def with_a_bad_one(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """With a surrogate that is sure of what is wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned_surrogate, "samples_of", samples_of_something_else)
        return run(quick_card("always"), tmp_path_factory.mktemp("bad") / "out")


def identical(first: EventBatch, second: EventBatch) -> bool:
    return all(
        torch.equal(getattr(first, column.name), getattr(second, column.name))
        for column in fields(EventBatch)
    )


# --- what comes out ---------------------------------------------------------------------------


def least_p_value(events: EventBatch, reference: EventBatch) -> float:
    """Of some twenty distributions, in bins that the reference fills equally."""
    legs, steps = legs_of_events(reference), torch.linspace(0, 1, 21, dtype=torch.float64)
    edges = {name: of(legs).quantile(steps) for name, of in observables(list(legs)).items()}
    found = compare(spectra_of(events, edges), spectra_of(reference, edges))
    assert len(found) >= 15
    assert max(one.n_dof for one in found) >= 15
    return min(one.p_value for one in found)


def test_the_events_are_distributed_as_without_a_surrogate(
    with_it: RunResult, with_a_bad_one: RunResult, without: RunResult
) -> None:
    for made in (with_it, with_a_bad_one):
        assert least_p_value(made.events, without.events) > 1e-4


def test_the_test_above_notices_that_the_second_step_is_left_out(
    with_a_bad_one: RunResult,
    without: RunResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def believed(
        self: SurrogateIntegrand, points: PhaseSpacePoints, _: Tensor, at: Tensor, *__: Any
    ) -> ExactSquared:
        found = self.integrand.squared(points.select(at), self.surrogate)
        return ExactSquared.of_all(found.value)

    monkeypatch.setattr(SurrogateIntegrand, "corrected", believed)
    wrong = generate(with_a_bad_one.folder / PACK, tmp_path / "out")
    assert least_p_value(wrong.events, without.events) < 1e-8


def test_the_cross_section_is_that_without_a_surrogate(
    with_it: RunResult, without: RunResult
) -> None:
    ours, theirs = with_it.record, without.record
    assert ours.cross_section_pb is not None
    assert ours.cross_section_error_pb is not None
    assert theirs.cross_section_pb is not None
    assert theirs.cross_section_error_pb is not None
    # Of either part of it: that of the sampler's estimate is the same in both.
    error = math.hypot(ours.cross_section_error_pb, theirs.cross_section_error_pb)
    check_estimate(ours.cross_section_pb, error, theirs.cross_section_pb, 0.02)
    found = ours.surrogate
    assert found is not None
    error = math.hypot(found.cross_section_error_pb, theirs.cross_section_error_pb)
    check_estimate(found.cross_section_pb, error, theirs.cross_section_pb, 0.02)


def test_there_are_exactly_as_many_events_as_were_asked_for(with_it: RunResult) -> None:
    assert with_it.record.n_events == len(with_it.events) == 3000
    assert check_file(with_it.events_path).is_good


def test_the_points_that_measured_the_surrogate_are_not_in_the_cross_section(
    with_it: RunResult, tmp_path: Path
) -> None:
    """It follows from the pack, which knows nothing of them, and from the points of the events."""
    again = generate(with_it.folder / PACK, tmp_path / "out").record
    assert again.cross_section_pb == with_it.record.cross_section_pb
    assert again.cross_section_error_pb == with_it.record.cross_section_error_pb
    pack, found = read_pack(with_it.folder / PACK), with_it.record.surrogate
    assert found is not None
    assert float(pack.chosen.estimate.sums.n_points.sum()) == 16384
    assert pack.chosen.estimate.sums.mean != found.cross_section_pb


def test_no_surrogate_is_trained_and_no_point_kept_unless_the_card_says_so(
    without: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert without.record.surrogate is None
    assert not without.record.settled.keys() & {"surrogate.us_per_point", "guide.us_per_point"}
    assert read_pack(without.folder / PACK).surrogate is None
    monkeypatch.setattr("mlgen.campaign.point_files.PointFiles.write", never_called)
    run(quick_card("never", "run.n_events=10"), tmp_path / "never")
    run(quick_card("auto", "run.n_events=10", "run.weighted=true"), tmp_path / "weighted")


def never_called(*_: Any) -> None:
    raise AssertionError("a point was kept")


# --- what is said of it -----------------------------------------------------------------------


def test_the_record_says_what_the_surrogate_reached(with_it: RunResult) -> None:
    found, record = record_of(with_it.folder)["surrogate"], with_it.record
    assert found["is_used"]
    assert found["method"] == "gaussian"
    # Of the grid's rounds and of its estimate; the others are outside the cuts.
    assert 0.3 * 28384 < found["n_training"] < 28384
    assert 0 < found["eps_1"] < 1
    assert 0 < found["eps_2"] < 1
    assert 0.97 < found["alpha"] <= 1
    assert 0 < found["overweight_fraction"] < 0.05
    assert 4500 < found["n_survivors"] < 5500
    assert found["n_points"] > 16384
    assert min(found[key] for key in ("gain", "us_per_point", "us_per_survivor")) > 0
    pack = read_pack(with_it.folder / PACK).surrogate
    assert pack is not None
    assert pack.kept == pytest.approx(found["eps_1"] * found["eps_2"], rel=0.1)
    assert record.overweight_fraction == pytest.approx(found["overweight_fraction"], rel=0.6)
    assert record.wall_s["surrogate"] > 0
    assert record.warnings == ()
    assert not [one for one in record.decisions if one.name == "run.surrogate"]


def test_matrix_elements_for_the_surrogate_are_counted(
    with_it: RunResult, without: RunResult, tmp_path: Path
) -> None:
    """Beside those of the sampler: of the points that told what things cost, and of survivors."""
    for_learning = []
    for made in (with_it, without):
        events = generate(made.folder / PACK, tmp_path / made.folder.parent.name).record
        all_calls = made.record.n_matrix_element_calls
        for_learning.append(all_calls - events.n_matrix_element_calls)
    found = with_it.record.surrogate
    assert found is not None
    for_it = for_learning[0] - for_learning[1]
    n_probed = 2 * (N_PROBED + 256) + N_PROBED_FIRST
    assert found.n_survivors + 1000 < for_it < found.n_survivors + n_probed + 500


def test_show_says_how_good_a_surrogate_is(
    with_it: RunResult, without: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(path: Path) -> str:
        assert run_arguments(["show", str(path)]) == 0
        return capsys.readouterr().out

    assert "made the events faster" in shown(with_it.folder)
    assert "f_eff" in shown(with_it.folder)
    assert " numbers, keeps 0." in shown(with_it.folder / PACK)
    assert re.search(r"^surrogate +yes$", shown(with_it.events_path), re.MULTILINE)
    for path in (without.folder, without.folder / PACK):
        assert "surrogate" not in shown(path)


def test_the_report_shows_the_two_steps(with_it: RunResult, without: RunResult) -> None:
    assert "<h2>Surrogate</h2>" in (with_it.folder / "report.html").read_text()
    assert "<h2>Surrogate</h2>" not in (without.folder / "report.html").read_text()


# --- packs, workers, parts --------------------------------------------------------------------


def test_a_pack_with_a_surrogate_makes_the_events_of_the_run(
    with_it: RunResult, tmp_path: Path
) -> None:
    again = generate(with_it.folder / PACK, tmp_path / "out", workers=2)
    assert checksum(again.events_path) == checksum(with_it.events_path)


def test_parts_of_a_sample_with_a_surrogate_join_to_the_whole(
    with_it: RunResult, tmp_path: Path
) -> None:
    parts = [
        generate(with_it.folder / PACK, tmp_path / str(number), shard=(number, 2)).events_path
        for number in (1, 2)
    ]
    joined = merge(parts, tmp_path / "joined.lhe.gz")
    assert joined.n_events == with_it.record.n_events
    assert joined.cross_section_pb == with_it.record.cross_section_pb


def test_the_same_times_give_the_same_bytes(with_it: RunResult, tmp_path: Path) -> None:
    """Even of what the card asks for: how much the first step keeps depends on what is dear."""
    again = run(quick_card("always"), tmp_path / "out", decisions=with_it.folder / "run.json")
    assert again.record.settled == with_it.record.settled
    for name in (PACK, "events.lhe.gz"):
        assert checksum(again.folder / name) == checksum(with_it.folder / name)


def test_times_of_a_run_where_no_points_are_left_to_learn_decide_again(tmp_path: Path) -> None:
    """A number of points may be 0, as no time is."""
    card = quick_card("always", f"vegas.n_iterations={GUIDED_FROM}")
    first = run(card, tmp_path / "first")
    assert first.record.settled["guide.n_points"] == 0
    again = run(card, tmp_path / "again", decisions=first.folder / "run.json")
    assert checksum(again.events_path) == checksum(first.events_path)


# --- auto -------------------------------------------------------------------------------------

DEAR = {
    "vegas__us_per_point": 1e5,
    "surrogate__us_per_point": 10.0,
    "surrogate__us_per_squared": 3e4,
    "surrogate__us_per_prediction": 1.0,
    "surrogate__training_s": 1.0,
    "surrogate__us_per_drawn_point": 11.0,
    "surrogate__us_per_survivor": 1e5,
}
"""Of a slow matrix element."""


@pytest.mark.parametrize(
    ("times", "choice", "is_trained", "reason"),
    [
        (DEAR, "always", True, r"s with vegas, and .* s with its surrogate"),
        ({"vegas__us_per_point": 5.0}, "never", False, "too little to train for"),
        (
            DEAR | {"surrogate__training_s": 1e7},
            "never",
            False,
            r"would take .* with a surrogate, its training included",
        ),
        (
            DEAR | {"surrogate__us_per_survivor": 1e7},
            "never",
            True,
            r"s with vegas, and .* s with its surrogate",
        ),
    ],
    ids=["it pays", "few events", "it would not pay", "it does not pay"],
)
def test_auto_decides_by_the_times_that_were_settled(
    times: dict[str, float],
    choice: str,
    is_trained: bool,
    reason: str,
    without: RunResult,
    tmp_path: Path,
) -> None:
    decisions = settled_in(tmp_path, **times)
    made = run(quick_card("auto"), tmp_path / "out", decisions=decisions)
    (decision,) = (one for one in made.record.decisions if one.name == "run.surrogate")
    assert decision.choice == choice
    assert re.search(reason, decision.reason)
    assert (made.record.surrogate is not None) == is_trained
    assert (read_pack(made.folder / PACK).surrogate is not None) == (choice == "always")
    assert made.record.n_events == 3000
    assert not (made.folder / "points").exists()
    if choice == "never":
        assert identical(made.events, without.events)
    else:
        assert decision.outcome is not None
        assert decision.outcome.n_steps == 200
        with_it = decision.expected[1]
        assert (with_it.sampler, with_it.training_s > 1) == ("vegas with a surrogate", True)
        found = made.record.surrogate
        assert found is not None
        assert found.gain > 1


def test_auto_asks_for_no_surrogate_where_events_are_weighted(tmp_path: Path) -> None:
    card = quick_card("auto", "run.weighted=true", "run.n_events=100")
    made = run(card, tmp_path / "out")
    (decision,) = (one for one in made.record.decisions if one.name == "run.surrogate")
    assert (decision.choice, decision.reason) == ("never", "weighted events")


def test_weighted_events_by_a_surrogate_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ("--set=run.weighted=true", "--set=run.surrogate=always")
    assert run_arguments(["run", "ee_to_mumu", *sets, "-o", str(tmp_path / "out")]) == 2
    assert "run.surrogate = 'always': expected `never` or `auto`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- what goes wrong --------------------------------------------------------------------------


def test_too_few_points_to_learn_from_end_in_a_warning_and_the_events_of_one_step(
    without: RunResult, tmp_path: Path
) -> None:
    made = run(quick_card("always", "surrogate.max_points=500"), tmp_path / "out")
    (warning,) = made.record.warnings
    assert warning == (
        "the surrogate failed: surrogate: 500 points of a group: expected at least 1284; "
        "it is not used"
    )
    assert made.record.surrogate is None
    assert read_pack(made.folder / PACK).tables["warnings"] == [warning]
    assert identical(made.events, without.events)


def test_a_surrogate_that_contradicts_the_sampler_is_not_used(
    without: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrected = SurrogateIntegrand.corrected

    def wrong(self: SurrogateIntegrand, *arguments: Any) -> ExactSquared:
        found = corrected(self, *arguments)
        return replace(found, value=1.5 * found.value)

    monkeypatch.setattr(SurrogateIntegrand, "corrected", wrong)
    made = run(quick_card("always"), tmp_path / "out")
    (warning,) = made.record.warnings
    assert warning.startswith("with the surrogate the cross section is ")
    assert warning.endswith("pb; it is not used")
    assert made.record.surrogate is not None
    assert not made.record.surrogate.is_used
    assert identical(made.events, without.events)


def test_a_group_that_too_few_points_are_known_of_has_its_exact_matrix_element(
    tmp_path: Path,
) -> None:
    points = ("vegas.n_points=10000", "vegas.n_iterations=2")
    card = quick_card("always", "surrogate.max_points=6000", *points, name="pp_to_eej")
    made, expected = (
        run(card, tmp_path / "few"),
        run(quick_card("never", *points, name="pp_to_eej"), tmp_path / "never"),
    )
    packed = read_pack(made.folder / "pp_to_eej.mlgen.zip").surrogate
    assert packed is not None
    n_learned = len({name.partition(".")[0] for name in packed.tensors})
    assert 0 < n_learned < len(made.record.groups) == 6
    assert made.record.warnings == ()
    for ours, theirs in zip(made.record.groups, expected.record.groups, strict=True):
        error = math.hypot(ours.cross_section_error_pb, theirs.cross_section_error_pb)
        check_estimate(ours.cross_section_pb, error, theirs.cross_section_pb, 0.1)
    assert least_p_value(made.events, expected.events) > 1e-4


def test_dropped_channels_stay_dropped_with_a_surrogate(tmp_path: Path) -> None:
    """A channel without points has no s_max, and takes part in nothing."""
    dropping = ("phase_space.drop_below=0.1", "run.n_events=200")
    made = run(quick_card("always", *SMOOTH, *dropping, name="uux_to_zggg"), tmp_path / "out")
    is_dropped = [channel.is_dropped for channel in made.record.channels]
    assert any(is_dropped)
    packed = read_pack(made.folder / "uux_to_zggg.mlgen.zip").surrogate
    assert packed is not None
    assert [share == 0 for share in packed.fraction] == is_dropped
    assert made.record.n_events == 200


def test_an_unknown_method_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    watch = StopsAt("", 1, KeyboardInterrupt())
    with pytest.raises(Exception, match=r"surrogate\.method = 'magic': expected one of bayes"):
        run(quick_card("always", "surrogate.method=magic"), tmp_path / "out", progress=watch)
    assert watch.seen == []
