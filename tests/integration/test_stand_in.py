"""When a surrogate is trained, and when it is used: by hand-made prices and measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import TrainingFailed
from mlgen.events.two_stage import TwoStageEfficiency
from mlgen.events.unweighting import UnweightingEfficiency
from mlgen.integration import stand_in as module
from mlgen.integration.aids import NOT_WORTH_MEASURING_S, Aids
from mlgen.integration.candidates import MAX_PULL, Candidate
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.helicity_choice import SecondStepChoice
from mlgen.integration.measure import Estimate
from mlgen.integration.proposal import Proposal
from mlgen.integration.stand_in import StandIn, stand_in
from mlgen.integration.surrogate_prices import Prices
from mlgen.integration.two_stage import Maxima, SurrogateIntegrand
from mlgen.integration.two_stage_estimate import TwoStageEstimate
from mlgen.samplers.vegas import VegasGrid
from tests.integration.toys import process

N_MEASURED = 50_000
N_STEPS = 1000
SETTINGS = (f"run.n_estimate={N_MEASURED}", f"surrogate.n_steps={N_STEPS}")
KEPT = 0.1
US_EXACT = 100.0
"""Of a point, its exact |M|² included."""
CHEAP = Prices(
    us_per_point=4.0,
    us_per_squared=96.0,
    us_per_prediction=6.0,
    share_inside=0.8,
    training_s=90.0,
)
US_PER_EVENT = 10.0 / KEPT + 120.0 / 0.6
"""With CHEAP: points are 4 + 6, calls 96 / 0.8, of survivors a share of 0.6 become events."""
BEFORE_S = 90.0 + 1e-6 * ((N_MEASURED + 20_000 / KEPT) * 10.0 + 20_000 * 120.0)
"""Training, as many points as measured the sampler, those that 20,000 survivors are left of, and the latter."""


def a_sum(mean: float, error: float, n: int = N_MEASURED) -> ChannelSums:
    squares = n * (mean**2 + error**2 * (n - 1))
    return ChannelSums(
        n_points=torch.tensor([float(n)]),
        total=torch.tensor([n * mean], dtype=torch.float64),
        total_squares=torch.tensor([squares], dtype=torch.float64),
    )


def candidate() -> Candidate:
    """A sampler that keeps KEPT of its points, each of which takes US_EXACT."""
    grid, ones = VegasGrid.uniform(1, 2, 4), torch.ones(1, dtype=torch.float64)
    measured = Estimate(
        sums=a_sum(1.0, 0.01),
        weights=torch.ones(N_MEASURED, dtype=torch.float64),
        channel=torch.zeros(N_MEASURED, dtype=torch.int64),
        w_max=ones / KEPT,
        eps_uw=UnweightingEfficiency(value=KEPT, error=0.001, n=N_MEASURED, t=0.001),
        ess=0.5,
        overweight_on_fresh_points=0.0,
        us_per_point=US_EXACT,
        n_calls=0,
    )
    proposal = Proposal(sampler=grid, fractions=ones)
    return Candidate(name="vegas", sampler=grid, proposal=proposal, measured=measured)


def card_of(surrogate: str, n_events: int, *overrides: str) -> Card:
    asked = (f"run.surrogate={surrogate}", f"run.n_events={n_events}")
    return read_card(find_card("ee_to_mumu"), (*SETTINGS, *asked, *overrides))


class Learns(Exception):
    """Raised where training begins."""


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object) -> None:
        raise Learns

    monkeypatch.setattr(module, "learned_surrogate", begin)


def choose(
    monkeypatch: pytest.MonkeyPatch, card: Card, prices: Prices | None = CHEAP
) -> StandIn | None:
    """What becomes of the surrogate with these prices; None: training begins."""

    def measured(*_: object) -> tuple[Prices, int]:
        assert prices is not None, "prices were measured"
        return prices, 77

    monkeypatch.setattr(Prices, "measured", measured)
    made = process("ee_to_mumu")
    aids = Aids(progress=SilentProgress(), clock=StepClock())
    try:
        return stand_in(made.integrand, candidate(), card, made.picker.model, aids)
    except Learns:
        return None


# --- before it is trained ---------------------------------------------------------------------


def without_s(n_events: int) -> float:
    return 1e-6 * n_events * US_EXACT / KEPT


def with_s(n_events: int) -> float:
    return BEFORE_S + 1e-6 * n_events * US_PER_EVENT


BREAK_EVEN = round(1e6 * BEFORE_S / (0.8 * US_EXACT / KEPT - US_PER_EVENT))
"""Events, from where a fifth of the time is saved."""


def test_what_is_expected_is_training_measuring_and_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n_events = BREAK_EVEN - 1000
    found = choose(monkeypatch, card_of("auto", n_events))
    assert found is not None
    without, with_it = found.expected
    assert (without.sampler, with_it.sampler) == ("vegas", "vegas with a surrogate")
    assert (without.n_steps, with_it.n_steps) == (0, N_STEPS)
    assert without.training_s == 0
    assert without.goal_s == pytest.approx(without_s(n_events))
    assert with_it.training_s == pytest.approx(90.0 + 0.5 + 2.0 + 2.4)
    assert with_it.goal_s == pytest.approx(1e-6 * n_events * (10.0 / 0.1 + 96.0 / 0.8 / 0.6))
    assert with_it.total_s == pytest.approx(with_s(n_events))
    assert found.n_calls == 77
    assert found.reason == (
        f"the events take about {without_s(n_events):.3g} s with vegas, and would take "
        f"{with_s(n_events):.3g} s with a surrogate, its training included"
    )


def test_many_events_pay_for_training_and_few_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The boundary is where four fifths of the time without it are the time with it."""
    assert 0.8 * without_s(BREAK_EVEN) == pytest.approx(with_s(BREAK_EVEN), rel=1e-5)
    assert without_s(BREAK_EVEN) > 2 * NOT_WORTH_MEASURING_S
    for n_events in (25_000, BREAK_EVEN // 2, BREAK_EVEN - 10):
        assert choose(monkeypatch, card_of("auto", n_events)) is not None
    for n_events in (BREAK_EVEN + 10, 2 * BREAK_EVEN, 10_000_000):
        assert choose(monkeypatch, card_of("auto", n_events)) is None


def test_a_training_that_takes_longer_needs_as_many_times_more_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dear = replace(CHEAP, training_s=9.0 * BEFORE_S + 90.0)
    for share, is_trained in ((9.99, False), (10.01, True)):
        found = choose(monkeypatch, card_of("auto", int(share * BREAK_EVEN)), dear)
        assert (found is None) == is_trained


@pytest.mark.parametrize(
    "dear",
    [
        replace(CHEAP, us_per_point=80.0, us_per_squared=20.0),
        replace(CHEAP, us_per_prediction=60.0),
        replace(CHEAP, us_per_squared=480.0),
    ],
    ids=["cheap matrix element", "slow surrogate", "dear survivors"],
)
def test_a_surrogate_that_saves_nothing_is_not_trained_for_any_number_of_events(
    dear: Prices, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = choose(monkeypatch, card_of("auto", 1_000_000_000), dear)
    assert found is not None
    assert found.integrand is None


def test_nothing_is_measured_for_events_that_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    n_events = round(1e6 * NOT_WORTH_MEASURING_S * KEPT / US_EXACT)
    found = choose(monkeypatch, card_of("auto", n_events), prices=None)
    assert found is not None
    assert found.reason == "the events take about 20 s with vegas, too little to train for"
    assert (found.expected, found.n_calls) == ((), 0)
    with pytest.raises(AssertionError, match="prices were measured"):
        choose(monkeypatch, card_of("auto", n_events + 1), prices=None)


def test_a_card_that_asks_for_one_gets_it_whatever_it_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dear = replace(CHEAP, training_s=1e9)
    assert choose(monkeypatch, card_of("always", 10), dear) is None


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (card_of("never", 1_000_000_000), "the card asks for none"),
        (card_of("auto", 1_000_000_000, "run.weighted=true"), "weighted events"),
    ],
    ids=["never", "weighted"],
)
def test_a_card_that_asks_for_none_gets_none(
    card: Card, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose(monkeypatch, card, prices=None) == StandIn(reason=reason)


def test_a_training_that_fails_costs_nothing_but_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise TrainingFailed("surrogate: 5 points of a group: expected at least 1284")

    monkeypatch.setattr(module, "learned_surrogate", fail)
    found = choose(monkeypatch, card_of("always", 10))
    assert found is not None
    assert found.integrand is None
    assert found.warnings == (found.reason,)
    assert found.reason == (
        "the surrogate failed: surrogate: 5 points of a group: expected at least 1284; it is not used"
    )


# --- once it is trained -----------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What fresh points are made to say of a trained surrogate, and what is done with it."""

    us_per_point: float = 10.0
    mean: float = 1.0
    error: float = 0.01
    n_events: int = 1_000_000

    @property
    def estimate(self) -> TwoStageEstimate:
        ones = torch.ones(1, dtype=torch.float64)
        return TwoStageEstimate(
            maxima=Maxima(floor=0 * ones, s_max=ones, x_max=ones),
            sums=a_sum(self.mean, self.error),
            efficiency=TwoStageEfficiency(eps_1=0.1, eps_2=0.8, alpha=0.5, overweight=0.001),
            kept=(0.08, 0.001),
            overweight_on_fresh_points=0.001,
            n_points=1000,
            n_survivors=100,
            n_calls=300,
            us_per_point=self.us_per_point,
            us_per_survivor=120.0,
        )

    @property
    def with_s(self) -> float:
        """Points for each event, survivors for each event, and events for each that counts."""
        return 1e-6 * self.n_events * (self.us_per_point / 0.08 + 120.0 / 0.8) / 0.5


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Measured], StandIn]:
    """What becomes of a surrogate of which that is measured."""

    class AllHelicities:
        def __init__(self, integrand: SurrogateIntegrand, measured: TwoStageEstimate, *_: Any):
            self.choice = SecondStepChoice(
                integrand=integrand, measured=measured, reason="there is one", n_calls=5
            )

        def run(self, _: object) -> SecondStepChoice:
            return self.choice

    def become(surrogate: str, measured: Measured) -> StandIn:
        monkeypatch.setattr(module, "learned_surrogate", lambda *_: (object(), 4321))
        monkeypatch.setattr(module, "HelicityChoice", AllHelicities)
        monkeypatch.setattr(module, "estimate_two_stage", lambda *_: measured.estimate)
        found = choose(monkeypatch, card_of(surrogate, measured.n_events))
        assert found is not None
        return found

    return become


def test_the_gain_is_the_time_without_over_the_time_with_it(
    trained: Callable[[str, Measured], StandIn],
) -> None:
    measured = Measured()
    found = trained("auto", measured)
    assert found.gain == pytest.approx(1000.0 / measured.with_s)
    assert found.gain == pytest.approx(1000.0 / (2 * (10.0 / 0.08 + 120.0 / 0.8)))
    assert found.integrand is not None
    assert found.n_points == 4321
    assert found.n_calls == 77 + 300 + 5
    assert found.helicities == "there is one"
    assert found.reason == "the events take about 1e+03 s with vegas, and 550 s with its surrogate"
    assert not found.warnings


def test_auto_uses_what_was_trained_where_events_come_sooner_with_it(
    trained: Callable[[str, Measured], StandIn],
) -> None:
    even_us = 0.08 * (0.5 * 1000.0 - 120.0 / 0.8)
    for us_per_point, is_used in ((0.999 * even_us, True), (1.001 * even_us, False)):
        found = trained("auto", Measured(us_per_point=us_per_point))
        assert (found.integrand is not None) == is_used
        assert (found.gain > 1) == is_used
        assert found.measured is not None
        assert not found.warnings


def test_a_card_that_asks_for_one_uses_it_though_events_come_later(
    trained: Callable[[str, Measured], StandIn],
) -> None:
    found = trained("always", Measured(us_per_point=1e6))
    assert found.integrand is not None
    assert found.gain < 1
    assert found.reason == "the card asks for it"


@pytest.mark.parametrize("surrogate", ["auto", "always"])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_surrogate_with_another_cross_section_is_not_used(
    surrogate: str, side: int, trained: Callable[[str, Measured], StandIn]
) -> None:
    """By the errors of both: sqrt(0.03² + 0.01²)."""
    allowed = MAX_PULL * (0.03**2 + 0.01**2) ** 0.5
    near = trained(surrogate, Measured(mean=1 + side * 0.99 * allowed, error=0.03))
    assert near.integrand is not None
    far = trained(surrogate, Measured(mean=1 + side * 1.01 * allowed, error=0.03))
    assert far.integrand is None
    assert far.reason.startswith("with the surrogate the cross section is ")
    assert far.warnings == (f"{far.reason}; it is not used",)
