"""Runs that draw a few helicities for each point that a surrogate chose: the events are those without."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlgen.api import generate, run
from mlgen.campaign.pack import read_pack
from mlgen.campaign.whole_files import checksum
from mlgen.core import OneHelicity
from mlgen.errors import CardError, PackError
from mlgen.integration import helicity_choice, helicity_prices, stand_in
from mlgen.jobs.generation import card_of, source_of
from mlgen.jobs.stages import RunResult
from mlgen.surrogates import helicity_shares
from tests.integration.toys import process
from tests.laws import check_estimate
from tests.matrix_elements import SMOOTH
from tests.surrogate_cards import PACK, quick_card, settled_in
from tests.test_surrogate_run import least_p_value

DRAWN = "surrogate.helicities=drawn"


@pytest.fixture(scope="module", autouse=True)
def little_to_learn() -> Iterator[None]:
    """Shares that are rough, and soon learned; and no report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stand_in, "N_SURVIVORS", 5000)
        patch.setattr(helicity_choice, "N_TABLES", 4000)
        patch.setattr(helicity_shares, "WIDTHS", (16, 16))
        patch.setattr(helicity_shares, "N_STEPS", 600)
        patch.setattr("mlgen.jobs.run.write_run_report", lambda *_: {})
        yield


@pytest.fixture(scope="module")
def with_all(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(quick_card("always"), tmp_path_factory.mktemp("all") / "out")


@pytest.fixture(scope="module")
def with_few(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(quick_card("always", DRAWN), tmp_path_factory.mktemp("few") / "out")


def test_the_events_are_distributed_as_with_all_helicities(
    with_few: RunResult, with_all: RunResult
) -> None:
    assert least_p_value(with_few.events, with_all.events) > 1e-3
    surrogate = read_pack(with_few.folder / PACK).surrogate
    assert surrogate is not None
    assert surrogate.n_draws > 0
    without = read_pack(with_all.folder / PACK).surrogate
    assert without is not None
    assert without.n_draws == 0


def test_the_cross_section_is_that_with_all_helicities(
    with_few: RunResult, with_all: RunResult
) -> None:
    one, every = with_few.record, with_all.record
    assert one.cross_section_pb is not None
    assert every.cross_section_pb is not None
    assert one.cross_section_error_pb is not None
    assert every.cross_section_error_pb is not None
    error = math.hypot(one.cross_section_error_pb, every.cross_section_error_pb)
    check_estimate(one.cross_section_pb, error, every.cross_section_pb, 0.05)


def test_the_record_says_why(with_few: RunResult, with_all: RunResult) -> None:
    one, every = with_few.record.surrogate, with_all.record.surrogate
    assert one is not None
    assert every is not None
    assert re.fullmatch(
        r"an event takes about \S+ us with \d drawn for each point, and \S+ us with all",
        one.helicities,
    )
    assert every.helicities == "the card asks for all"
    # By the measured times each has another s_max: eps_2 at the same one is compared in test_second_step.
    assert 0.3 < one.eps_2 < 1
    assert 0.3 < every.eps_2 < 1
    assert not with_few.record.warnings


def test_a_pack_makes_the_events_of_the_run(with_few: RunResult, tmp_path: Path) -> None:
    made = generate(with_few.folder / PACK, tmp_path / "out")
    assert checksum(made.events_path) == checksum(with_few.events_path)


def test_the_same_times_give_the_same_bytes(with_few: RunResult, tmp_path: Path) -> None:
    card = quick_card("always", DRAWN)
    again = run(card, tmp_path / "out", decisions=with_few.folder / "run.json")
    assert again.record.settled == with_few.record.settled
    for name in (PACK, "events.lhe.gz"):
        assert checksum(again.folder / name) == checksum(with_few.folder / name)


def test_times_that_say_that_more_helicities_are_free_can_be_decided_by_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always_the_same(work: Callable[[], object]) -> float:
        work()
        return 1e-3

    monkeypatch.setattr(helicity_prices, "seconds_of", always_the_same)
    card = quick_card("always", DRAWN, "run.n_events=300")
    first = run(card, tmp_path / "first")
    assert first.record.settled["helicities.us_per_more"] > 0
    again = run(card, tmp_path / "again", decisions=first.folder / "run.json")
    assert checksum(again.events_path) == checksum(first.events_path)


CHEAP = {
    "surrogate__us_per_drawn_point": 1.0,
    "surrogate__us_per_survivor": 1e5,
    "helicities__us_per_drawn": 10.0,
    "helicities__us_per_more": 10.0,
    "helicities__us_per_table": 1e4,
    "helicities__us_per_pick": 1e4,
    "helicities__training_s": 1.0,
    "surrogate, helicities drawn__us_per_drawn_point": 1.0,
    "surrogate, helicities drawn__us_per_survivor": 10.0,
}
"""Of a matrix element that is dear but for single helicities."""


@pytest.mark.parametrize(
    ("times", "is_drawn", "reason"),
    [
        (CHEAP, True, "an event takes about"),
        (CHEAP | {"helicities__training_s": 1e7}, False, r"would save about .* s to learn"),
        (
            CHEAP | {"surrogate, helicities drawn__us_per_survivor": 1e8},
            False,
            "an event takes about",
        ),
    ],
    ids=["it pays", "it would not pay", "it does not pay"],
)
def test_auto_decides_by_the_times_that_were_settled(
    times: dict[str, float], is_drawn: bool, reason: str, tmp_path: Path
) -> None:
    decisions = settled_in(tmp_path, **times)
    card = quick_card("always", "surrogate.helicities=auto", "run.n_events=1000")
    made = run(card, tmp_path / "out", decisions=decisions)
    found, packed = made.record.surrogate, read_pack(made.folder / PACK).surrogate
    assert found is not None
    assert packed is not None
    assert re.search(reason, found.helicities)
    assert (packed.n_draws > 0) == is_drawn
    assert made.record.n_events == 1000


def test_too_few_points_to_learn_from_end_in_a_warning_and_all_helicities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helicity_choice, "N_TABLES", 500)
    made = run(quick_card("always", DRAWN, "run.n_events=300"), tmp_path / "out")
    assert made.record.surrogate is not None
    assert made.record.surrogate.is_used
    (warning,) = made.record.warnings
    assert re.fullmatch(
        r"drawing helicities failed: helicities: \d+ points of a group: expected at least \d+; "
        "all are computed",
        warning,
    )


def test_a_matrix_element_without_helicities_is_told_early(tmp_path: Path) -> None:
    with pytest.raises(
        CardError, match=r"surrogate\.helicities = 'drawn': expected 'auto' or 'all' w"
    ):
        run(quick_card("always", DRAWN, *SMOOTH), tmp_path / "out")


def test_a_pack_that_draws_helicities_needs_a_matrix_element_that_has_them(
    with_few: RunResult,
) -> None:
    pack = read_pack(with_few.folder / PACK)
    assert pack.surrogate is not None
    made = replace(process("uux_to_eeg"), card=card_of(pack))
    amplitude = made.integrand.amplitude
    assert isinstance(amplitude, OneHelicity)

    plain = replace(made, integrand=replace(made.integrand, amplitude=amplitude.__call__))
    with pytest.raises(PackError, match="the pack draws helicities: expected a matrix elem"):
        source_of(pack, plain)
    damaged = {name: torch.zeros(3) for name in pack.surrogate.helicities}
    surrogate = replace(pack.surrogate, helicities=damaged)
    with pytest.raises(PackError, match=r"the helicities of .* do not fit the process"):
        source_of(replace(pack, surrogate=surrogate), made)
