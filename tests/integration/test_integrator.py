from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
import torch

from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, GenerationError
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Candidate, Integration
from mlgen.integration.choosing import WherePays
from mlgen.integration.integrator import integrate
from tests.integration.toys import Toy, nothing, process, ridges
from tests.laws import check_estimate

SMALL = (
    "vegas.n_points=3000",
    "vegas.n_iterations=3",
    "vegas.n_bins=16",
    "flow.n_bins=6",
    "flow.n_hidden=16",
    "flow.batch_size=512",
    "flow.learning_rate=0.01",
    "run.n_estimate=10000",
    "run.chunk_size=5000",
)


def card_with(sampler: str, n_steps: int, *overrides: str) -> Card:
    settings = (*SMALL, f"run.sampler={sampler}", f"flow.n_steps={n_steps}", *overrides)
    return read_card(find_card("ee_to_mumu"), settings)


def integrated(toy: Toy, card: Card) -> Integration:
    return integrate(toy, card, Aids(progress=SilentProgress(), clock=StepClock()))


@cache
def with_flow() -> Integration:
    return integrated(ridges(), card_with("flow", 80))


def test_vegas_alone_trains_nothing() -> None:
    clock = StepClock()
    found = integrate(
        ridges(), card_with("vegas", 80), Aids(progress=SilentProgress(), clock=clock)
    )
    assert [candidate.name for candidate in found.candidates] == ["vegas"]
    assert found.chosen is found.candidates[0]
    assert found.reason == "the card asks for it"
    assert found.chosen.losses == ()
    assert clock.wall_s["train"] == 0
    assert clock.wall_s["adapt"] > 0
    assert clock.wall_s["estimate"] > 0


def test_a_flow_is_measured_beside_vegas_and_chosen_where_the_card_says_so() -> None:
    found = with_flow()
    assert [candidate.name for candidate in found.candidates] == ["vegas", "flow"]
    assert found.chosen is found.candidates[1]
    assert found.reason == "the card asks for it"
    assert len(found.chosen.losses) == 80


def test_both_samplers_give_the_true_integral() -> None:
    for candidate in with_flow().candidates:
        sums = candidate.measured.sums
        check_estimate(sums.mean, sums.error, ridges().integral, max_relative_error=0.02)


def test_the_estimate_uses_fresh_points_only() -> None:
    for candidate in with_flow().candidates:
        assert float(candidate.measured.sums.n_points.sum()) == 10_000


@pytest.mark.parametrize("sampler", ["vegas", "flow", "auto"])
def test_all_matrix_elements_are_counted(sampler: str) -> None:
    toy = ridges()
    found = integrated(toy, card_with(sampler, 10))
    assert found.n_calls == sum(toy.sizes)


def test_a_proposal_for_unweighting_draws_channels_in_proportion_to_their_largest_weights() -> None:
    chosen = with_flow().chosen
    fractions = chosen.proposal_for(weighted=False).fractions
    w_max = chosen.measured.w_max
    assert torch.equal(fractions, w_max / w_max.sum())
    assert chosen.proposal_for(weighted=False).sampler is chosen.proposal.sampler is chosen.sampler


def test_the_price_of_events_follows_from_efficiency_and_time_per_point() -> None:
    chosen = with_flow().chosen
    assert chosen.measured.kept == pytest.approx(chosen.measured.eps_uw.value)
    assert chosen.measured.ess_of_sizes == pytest.approx(chosen.measured.ess, rel=0.01)
    w_max = chosen.measured.w_max * chosen.measured.kept / 0.2
    priced = replace(chosen, measured=replace(chosen.measured, us_per_point=4.0, w_max=w_max))
    assert priced.seconds_for(1_000_000, weighted=False) == pytest.approx(20)
    ess = chosen.measured.ess_of_sizes
    assert priced.seconds_for(1_000_000, weighted=True) == pytest.approx(4 / ess)


def test_an_unknown_sampler_gets_the_known_ones() -> None:
    with pytest.raises(
        CardError, match=r"run\.sampler = 'vegan': expected one of auto, flow, vegas"
    ):
        integrated(ridges(), card_with("vegan", 10))


def test_an_integrand_that_is_zero_everywhere_is_an_error() -> None:
    with pytest.raises(GenerationError, match="none of 3000 points passes the cuts"):
        integrated(nothing(), card_with("auto", 10))


def test_auto_does_not_train_for_a_few_events_and_says_so() -> None:
    found = integrated(ridges(), card_with("auto", 2000, "run.n_events=10"))
    assert [candidate.name for candidate in found.candidates] == ["vegas"]
    assert re.fullmatch(
        r"the events take about [\d.e+-]+ s with vegas, too little to train for", found.reason
    )
    assert [one.sampler for one in found.expected] == ["vegas"]


def test_auto_does_not_train_where_that_takes_longer_than_it_saves_and_says_why_with_numbers() -> (
    None
):
    found = integrated(ridges(), card_with("auto", 1_000_000, "run.n_events=50_000_000"))
    assert [candidate.name for candidate in found.candidates] == ["vegas"]
    said = re.fullmatch(
        r"the events take about ([\d.e+-]+) s with vegas; training the flow would take about "
        r"([\d.e+-]+) s, and the events then ([\d.e+-]+) s",
        found.reason,
    )
    assert said is not None, found.reason
    without, training, after = (float(number) for number in said.groups())
    assert training + after > 0.8 * without
    stays, plan = found.expected
    assert (stays.n_steps, stays.training_s) == (0, 0)
    assert plan.n_steps > 0
    assert [without, training, after] == pytest.approx(
        [stays.total_s, plan.training_s, plan.goal_s], rel=0.01
    )


def slow_ridges() -> Toy:
    """So slow that a point saved is worth more than what the flow costs."""
    return replace(ridges(), us_per_point=30.0)


def test_auto_trains_for_many_events_and_takes_the_cheaper_sampler() -> None:
    card = card_with("auto", 80, "run.n_events=1_000_000_000")
    found = integrated(slow_ridges(), card)
    assert [candidate.name for candidate in found.candidates] == ["vegas", "flow"]
    assert len(found.candidates[1].losses) == found.expected[1].n_steps
    seconds = [candidate.seconds_for(10**9, weighted=False) for candidate in found.candidates]
    assert found.chosen is found.candidates[seconds.index(min(seconds))]
    said = re.fullmatch(
        r"the events take about ([\d.e+-]+) s with vegas, ([\d.e+-]+) s with flow", found.reason
    )
    assert said is not None, found.reason
    # Said of points of their own, the measured ones being those that count.
    assert [float(said[1]), float(said[2])] == pytest.approx(seconds, rel=0.1)


def test_measuring_what_training_costs_changes_nothing_that_is_learned() -> None:
    probed = integrated(slow_ridges(), card_with("auto", 80, "run.n_events=1_000_000_000"))
    n_steps = probed.expected[1].n_steps
    direct = integrated(ridges(), card_with("flow", n_steps))
    for mine, other in zip(probed.candidates, direct.candidates, strict=True):
        assert torch.equal(mine.measured.weights, other.measured.weights)


def test_auto_takes_vegas_for_muon_pairs() -> None:
    card = read_card(find_card("ee_to_mumu"), ("run.n_estimate=20000",))
    assert card.run.sampler == "auto"
    found = integrate(
        process("ee_to_mumu").integrand, card, Aids(progress=SilentProgress(), clock=StepClock())
    )
    assert found.chosen.name == "vegas"
    assert found.chosen.measured.eps_uw.value > 0.9


def test_a_seed_fixes_the_integration_and_another_seed_changes_it() -> None:
    again = integrated(ridges(), card_with("flow", 80))
    for mine, other in zip(with_flow().candidates, again.candidates, strict=True):
        assert torch.equal(mine.measured.weights, other.measured.weights)
        assert mine.measured.eps_uw == other.measured.eps_uw
        assert mine.losses == other.losses
    another = integrated(ridges(), card_with("vegas", 80, "run.seed=2"))
    assert not torch.equal(another.chosen.measured.weights, again.candidates[0].measured.weights)


def test_the_number_of_events_does_not_change_the_estimate() -> None:
    few, many = (
        integrated(ridges(), card_with("vegas", 80, f"run.n_events={n}")) for n in (10, 10_000)
    )
    assert torch.equal(few.chosen.measured.weights, many.chosen.measured.weights)


def test_weighted_events_are_drawn_as_the_integral_is() -> None:
    chosen = with_flow().chosen
    assert chosen.proposal_for(weighted=True) is chosen.proposal


def test_drift_is_not_judged_by_the_points_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Candidate] = []

    def listen(vegas: Candidate, learned: Candidate) -> None:
        judged.extend((vegas, learned))

    monkeypatch.setattr("mlgen.integration.integrator.drift", listen)
    found = integrated(ridges(), card_with("flow", 20))
    assert [candidate.name for candidate in judged] == ["vegas", "flow"]
    for mine, counts in zip(judged, found.candidates, strict=True):
        assert mine.sampler is counts.sampler
        assert not torch.isin(mine.measured.weights, counts.measured.weights).any()


def test_the_sampler_is_not_chosen_by_the_points_that_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Candidate] = []

    def listen(self: WherePays, vegas: Candidate, learned: Candidate) -> tuple[Candidate, str]:
        asked.extend((vegas, learned))
        return vegas, "that is what the test wants"

    monkeypatch.setattr(WherePays, "choose", listen)
    card = card_with("auto", 80, "run.n_events=1_000_000_000")
    found = integrated(slow_ridges(), card)
    assert found.chosen is found.candidates[0]
    for mine, counts in zip(asked, found.candidates, strict=True):
        assert mine.name == counts.name
        assert not torch.isin(mine.measured.weights, counts.measured.weights).any()
        assert mine.measured.us_per_point == counts.measured.us_per_point
