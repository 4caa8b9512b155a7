"""Samplers compared on functions whose integral is known."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from mlgen.card_files import find_card, read_card
from mlgen.diagnostics import comparison
from mlgen.diagnostics.compare_madnis import _one_cycle
from mlgen.diagnostics.comparison import (
    MAX_PULL,
    NAMES,
    OURS,
    ComparisonResult,
    ComparisonSettings,
    Result,
    cheapest,
    compare_samplers,
    largest_pull,
    to_table,
)
from mlgen.diagnostics.comparison_plots import write_plots
from mlgen.diagnostics.comparison_text import comparison_text
from mlgen.diagnostics.contenders import Cost, FreshPoints
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, GenerationError, MissingExtra, NonFiniteWeight
from mlgen.events.unweighting import UnweightingEfficiency
from tests.integration.toys import Toy, nothing, peaks, ridges

N_CALLS = 30_000
SETTINGS = ComparisonSettings(n_calls=N_CALLS, n_points=10_000, seed=5)
CARD = read_card(find_card("pp_to_eej"), ("flow.batch_size=256", "flow.n_hidden=16"))


def available() -> tuple[str, ...]:
    """The samplers whose packages are installed here."""
    compared = compared_on("peaks").results
    return tuple(result.name for result in compared)


@cache
def compared_on(name: str) -> ComparisonResult:
    return compare(toy(name))


def toy(name: str) -> Toy:
    return {"peaks": peaks, "ridges": ridges}[name]()


def compare(integrand: Toy, settings: ComparisonSettings = SETTINGS) -> ComparisonResult:
    return compare_samplers(integrand, CARD, settings, SilentProgress(), "toy", "pb")


@pytest.mark.parametrize("name", ["peaks", "ridges"])
def test_every_sampler_finds_the_integral(name: str) -> None:
    integral = toy(name).integral
    for result in compared_on(name).results:
        points = result.points
        assert abs(points.cross_section - integral) < 5 * points.error, result.name
        assert 0 < points.error < 0.03 * integral, result.name


@pytest.mark.parametrize("name", ["peaks", "ridges"])
def test_every_sampler_learns_from_the_same_number_of_calls(name: str) -> None:
    results = {result.name: result for result in compared_on(name).results}
    spent = {key: result.learning.n_calls for key, result in results.items()}
    # The flow draws whole rounds, and more of its points pass as it learns.
    ours = [spent.pop(key) for key in OURS]
    for n_calls in ours:
        assert abs(n_calls / N_CALLS - 1) < 0.15
    # Nobody gets fewer than we took, but for half an iteration of vegas.
    for key, n_calls in spent.items():
        assert abs(n_calls / max(N_CALLS, *ours) - 1) < 0.06, key


def test_calls_are_points_inside_the_cuts_and_all_are_counted() -> None:
    integrand = peaks()
    settings = replace(SETTINGS, samplers=("vegas-classic",))
    pytest.importorskip("vegas")
    (result,) = compare(integrand, settings).results
    assert sum(integrand.sizes) == result.learning.n_points + result.sampling.n_points
    assert result.learning.n_calls < result.learning.n_points
    assert result.sampling.n_points >= SETTINGS.n_points


def test_efficiencies_are_those_of_the_same_number_of_fresh_points() -> None:
    for result in compared_on("peaks").results:
        assert len(result.points.weight) == SETTINGS.n_points, result.name
        assert {eps.n for eps in result.eps_uw} == {SETTINGS.n_points}
        assert [eps.t for eps in result.eps_uw] == [0.001, 0.01]
        assert 0 < result.ess <= 1


def test_strata_lower_the_error_and_the_weights_of_vegas() -> None:
    pytest.importorskip("vegas")
    classic, stratified = compared_on("ridges").results[:2]
    assert (classic.name, stratified.name) == ("vegas-classic", "vegas-stratified")
    assert stratified.relative_std < 0.5 * classic.relative_std
    assert stratified.ess > classic.ess


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    again = compare(peaks())
    assert torch.equal(torch.get_rng_state(), state)
    for first, second in zip(compared_on("peaks").results, again.results, strict=True):
        assert torch.equal(first.points.weight, second.points.weight), first.name
        assert first.learning.n_calls == second.learning.n_calls


def test_the_json_holds_what_is_promised() -> None:
    table = json.loads(json.dumps(to_table(compared_on("peaks")), allow_nan=False))
    assert table["schema"] == "mlgen-comparison"
    assert table.keys() >= {"n_calls", "n_points", "seed", "versions", "largest_pull", "cheapest"}
    assert tuple(table["samplers"]) == available()
    for row in table["samplers"].values():
        assert row.keys() >= {
            "settings",
            "cross_section",
            "error",
            "relative_std",
            "eps_uw",
            "ess",
            "learning",
            "sampling",
            "us_per_point",
            "us_per_unweighted_event",
            "cpu_s_to_events",
        }
        assert row["eps_uw"][0].keys() == {"value", "error", "n", "t"}
        assert row["learning"].keys() == {"n_points", "n_calls", "cpu_s", "integrand_cpu_s"}
        assert set(row["cpu_s_to_events"]) == {"10000", "100000", "1000000"}
        assert row["learning"]["integrand_cpu_s"] < row["learning"]["cpu_s"]


def test_the_plots_are_drawn(tmp_path: Path) -> None:
    for path in write_plots(compared_on("peaks"), tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_no_point_inside_the_cuts_is_said_so() -> None:
    for name in available():
        with pytest.raises(GenerationError, match="passes the cuts"):
            compare(nothing(), replace(SETTINGS, samplers=(name,)))


def test_a_sampler_that_fails_does_not_take_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise NonFiniteWeight("weight = nan: expected a finite weight (pb)")

    monkeypatch.setattr(comparison, "learn_mlgen", fail)
    pytest.importorskip("vegas")
    small = replace(SETTINGS, n_calls=2000, n_points=1000, samplers=("vegas-classic", "grid"))
    left = compare(peaks(), small)
    assert [result.name for result in left.results] == ["vegas-classic"]
    assert left.notes == ("mlgen grid FAILED: weight = nan: expected a finite weight (pb)",)
    with pytest.raises(NonFiniteWeight):
        compare(peaks(), replace(small, samplers=("grid",)))


def test_the_learning_rate_of_madnis_follows_the_one_cycle_of_torch() -> None:
    pytest.importorskip("madnis")
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=1001)
    for step in range(1000):
        share = step / 1000
        assert abs(float(cycle.get_last_lr()[0]) - _one_cycle(share)) < 0.01, share
        optimizer.step()
        cycle.step()


@pytest.mark.parametrize(
    ("package", "samplers"),
    [("vegas", ("vegas-classic", "vegas-stratified", "madnis")), ("madnis", ("madnis",))],
)
def test_a_missing_package_is_a_note_or_an_error_where_its_sampler_was_asked_for(
    package: str, samplers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.integrator", None)
    for name in samplers:
        with pytest.raises(MissingExtra, match=r"(vegas|madnis) is not installed: pip install"):
            compare(nothing(), replace(SETTINGS, samplers=(name,)))
    small = replace(SETTINGS, n_calls=2000, n_points=1000)
    left = compare(peaks(), small)
    assert {result.name for result in left.results}.isdisjoint(samplers)
    assert {"grid", "flow"} <= {result.name for result in left.results}
    assert any("not installed" in note for note in left.notes)
    assert "note: " in comparison_text(left)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_calls": 10}, "--calls 10: expected at least 1000"),
        ({"n_points": 0}, "--points 0: expected at least 1000"),
        ({"seed": -1}, "--seed -1: expected zero or a positive number"),
        ({"samplers": ("vegas",)}, "--samplers vegas: expected one of vegas-classic, "),
    ],
)
def test_bad_settings_are_named(settings: dict[str, int], message: str) -> None:
    with pytest.raises(CardError, match=message):
        ComparisonSettings(**settings)  # type: ignore[arg-type]  # some are wrong on purpose


def result(name: str, **numbers: float) -> Result:
    """A result with given numbers: value, error, eps_uw, CPU seconds of learning, us a point."""
    number = {"value": 1.0, "error": 0.1, "eps": 0.5, "learning_s": 1.0, "us": 1.0} | numbers
    eps = UnweightingEfficiency(value=number["eps"], error=0.01, n=1000, t=0.001)
    return Result(
        name=name,
        title=name,
        settings={},
        learning=Cost(n_points=1, n_calls=1, cpu_s=number["learning_s"], integrand_cpu_s=0),
        sampling=Cost(
            n_points=1_000_000, n_calls=1, cpu_s=number["us"], integrand_cpu_s=0.5 * number["us"]
        ),
        points=FreshPoints(
            cross_section=number["value"],
            error=number["error"],
            n_points=1000,
            weight=torch.ones(1),
            channel=torch.zeros(1, dtype=torch.int64),
        ),
        relative_std=1.0,
        eps_uw=(eps, eps),
        ess=1.0,
    )


def text_of(*results: Result) -> str:
    return comparison_text(
        ComparisonResult(title="toy", unit="pb", settings=SETTINGS, results=results, notes=())
    )


def test_the_cheapest_sampler_follows_from_learning_and_from_the_time_of_an_event() -> None:
    grid = result("grid", learning_s=1, us=10, eps=0.1)  # 100 us an event
    flow = result("flow", learning_s=11, us=20, eps=1.0)  # 20 us
    slow = result("madnis", learning_s=12, us=30, eps=1.0)
    assert cheapest((grid, slow, flow)) == ((0.0, "grid"), (125_000.0, "flow"))
    assert "grid; from 120,000 events on flow" in text_of(grid, slow, flow)
    at_the_crossing = grid.cpu_s_for(125_000), flow.cpu_s_for(125_000)
    assert math.isclose(*at_the_crossing)


def test_a_sampler_that_makes_no_events_is_never_the_cheapest() -> None:
    dead = result("grid", eps=0.0)
    assert cheapest((dead,)) == ()
    assert cheapest((dead, result("flow"))) == ((0.0, "flow"),)
    assert "never" in text_of(dead)
    assert (
        to_table(ComparisonResult(title="", unit="", settings=SETTINGS, results=(dead,), notes=()))[
            "samplers"
        ]["grid"]["us_per_unweighted_event"]
        is None
    )


def test_samplers_that_disagree_are_an_alarm() -> None:
    one, other = result("grid", value=1.0), result("flow", value=1.0 + 1.5 * MAX_PULL * 0.1)
    pull = largest_pull((one, other))
    assert pull is not None
    assert math.isclose(pull.value, -1.5 * MAX_PULL / math.sqrt(2))
    assert "WARNING: the samplers DISAGREE: grid and flow" in text_of(one, other)
    assert "the samplers agree" in text_of(one, result("flow", value=1.1))
    assert largest_pull((one,)) is None


def test_the_table_has_a_column_for_each_sampler() -> None:
    shown = comparison_text(compared_on("peaks"))
    for one in compared_on("peaks").results:
        assert one.title in shown
        assert one.name in NAMES
    for label in ("cross section [pb]", "eps_uw (t = 0.1 %)", "CPU s to 1,000,000 events"):
        assert label in shown
