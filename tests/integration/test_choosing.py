from __future__ import annotations

import math

import pytest
import torch

from mlgen.cards import RunCard
from mlgen.events.unweighting import UnweightingEfficiency
from mlgen.integration.candidates import (
    MAX_PULL,
    MAX_RELATIVE_SQUARE,
    Candidate,
    Goal,
    drift,
)
from mlgen.integration.choosing import (
    CAUTIOUS_HALF,
    MARGIN,
    AsAsked,
    Costs,
    TooLittle,
    WherePays,
    observed_half,
    remaining,
)
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.measure import Estimate
from mlgen.integration.proposal import Proposal
from mlgen.samplers.vegas import VegasGrid

N_STEPS = 1000


def candidate(
    name: str,
    eps_uw: float = 0.1,
    ess: float = 0.5,
    us_per_point: float = 100.0,
    mean: float = 1.0,
    error: float = 0.01,
) -> Candidate:
    """A sampler of which that was measured."""
    n = 10_000
    squares = n * (mean**2 + error**2 * (n - 1))
    sums = ChannelSums(
        n_points=torch.tensor([float(n)]),
        total=torch.tensor([n * mean], dtype=torch.float64),
        total_squares=torch.tensor([squares], dtype=torch.float64),
    )
    grid, ones = VegasGrid.uniform(1, 2, 4), torch.ones(1, dtype=torch.float64)
    measured = Estimate(
        sums=sums,
        weights=ones,
        channel=torch.zeros(1, dtype=torch.int64),
        w_max=ones / eps_uw,
        eps_uw=UnweightingEfficiency(value=eps_uw, error=0.01, n=n, t=0.001),
        ess=ess,
        overweight_on_fresh_points=0.0,
        us_per_point=us_per_point,
        n_calls=0,
    )
    proposal = Proposal(sampler=grid, fractions=ones)
    return Candidate(name=name, sampler=grid, proposal=proposal, measured=measured)


def policy(n_events: int, costs: Costs, **vegas: float) -> WherePays:
    goal = Goal.of(RunCard(n_events=n_events))
    return WherePays(goal, candidate("vegas", **vegas), "flow", costs, N_STEPS)


COSTS = Costs(us_per_point=110.0, s_per_step=0.01)


def test_what_the_card_asks_for_is_trained_and_taken_however_bad() -> None:
    asked = AsAsked(300)
    assert asked.n_steps == 300
    assert asked.goes_on(200, 100, 0.0)
    vegas, learned = candidate("vegas"), candidate("flow", eps_uw=0.001)
    assert asked.choose(vegas, learned) == (learned, "the card asks for it")


def test_nothing_is_trained_for_a_few_events_and_much_for_many() -> None:
    lengths = [policy(n, COSTS).n_steps for n in (1000, 10_000, 100_000, 10**6, 10**8)]
    assert lengths[0] == 0
    assert lengths == sorted(lengths)
    assert lengths[-1] == 3 * N_STEPS


def test_nothing_is_trained_where_the_matrix_element_is_much_cheaper_than_the_sampler() -> None:
    assert policy(10**8, Costs(us_per_point=2000.0, s_per_step=0.01)).n_steps == 0


def test_training_is_begun_only_where_it_promises_a_margin() -> None:
    for n_events in (10**3, 10**4, 3 * 10**4, 10**5, 10**6):
        found = policy(n_events, COSTS)
        stays, plan = found.expected
        assert stays.total_s == pytest.approx(n_events / 0.1 * 100e-6)
        assert (found.n_steps > 0) == (plan.total_s < MARGIN * stays.total_s)


def test_the_plan_is_the_shortest_way_on_the_learning_curve() -> None:
    found = policy(60_000, COSTS)
    plan = found.expected[1]

    def total(n_steps: int) -> float:
        eps_uw = math.pow(0.1, remaining(n_steps, CAUTIOUS_HALF))
        return n_steps * COSTS.s_per_step + 60_000 / eps_uw * COSTS.us_per_point * 1e-6

    assert plan.total_s == pytest.approx(total(plan.n_steps))
    assert 250 < plan.n_steps < 3000
    assert total(plan.n_steps) <= min(total(250), total(500), total(2000), total(3000))


def test_what_it_takes_to_measure_a_sampler_is_a_part_of_its_price() -> None:
    dear = Costs(us_per_point=110.0, s_per_step=0.01, estimate_s=50.0)
    with_it, without_it = policy(60_000, dear).expected[1], policy(60_000, COSTS).expected[1]
    assert with_it.n_steps == without_it.n_steps
    assert with_it.total_s == pytest.approx(without_it.total_s + 50)


def test_a_goal_that_is_near_leaves_vegas() -> None:
    found = TooLittle(Goal.of(RunCard(n_events=100)), 0.1, "vegas")
    assert found.n_steps == 0
    assert found.reason == "the events take about 0.1 s with vegas, too little to train for"
    assert [expected.goal_s for expected in found.expected] == [0.1]
    vegas, learned = candidate("vegas"), candidate("flow", eps_uw=0.9)
    assert found.choose(vegas, learned) == (vegas, found.reason)


def test_a_training_goes_on_while_points_show_that_it_pays_and_is_given_up_where_they_do_not() -> (
    None
):
    found = policy(10_000, Costs(us_per_point=110.0, s_per_step=0.001))
    assert found.n_steps > 0
    n_done = found.n_steps // 2
    assert found.goes_on(n_done, n_done - 50, eps_uw=0.3)
    assert found.goes_on(1, 1, eps_uw=0.05), "too early to tell"
    assert not found.goes_on(n_done, n_done - 50, eps_uw=0.05)
    assert found.reason.startswith(f"given up after {n_done} steps with eps_uw = 0.05: the events")


def test_a_training_is_not_given_up_for_what_is_little_beside_the_goal() -> None:
    found = policy(10**8, COSTS)
    assert found.goes_on(found.n_steps // 2, found.n_steps // 2, eps_uw=0.05)


def test_the_cheaper_sampler_is_taken_whatever_was_expected() -> None:
    vegas = candidate("vegas")
    found = policy(10**6, COSTS)
    better, worse = candidate("flow", eps_uw=0.5), candidate("flow", eps_uw=0.11, us_per_point=150)
    assert found.choose(vegas, better)[0] is better
    chosen, reason = found.choose(vegas, worse)
    assert chosen is vegas
    assert reason == "the events take about 1e+03 s with vegas, 1.36e+03 s with flow"


def test_half_of_the_logarithm_is_left_after_as_many_steps_as_halve_it() -> None:
    assert remaining(0, 300) == 1
    assert remaining(300, 300) == 0.5
    assert remaining(10**9, 300) < 0.001
    assert remaining(1000, math.inf) == 1


@pytest.mark.parametrize("n_half", [20.0, 300.0, 5000.0])
def test_the_learning_curve_is_found_again_from_a_point_of_it(n_half: float) -> None:
    before = 0.05
    now = before ** remaining(240, n_half)
    assert observed_half(240, before, now) == pytest.approx(n_half)


@pytest.mark.parametrize("now", [0.0, 0.04, 0.05])
def test_without_a_gain_nothing_is_expected(now: float) -> None:
    assert observed_half(100, 0.05, now) == math.inf


def test_a_goal_of_events_knows_how_many_points_it_takes() -> None:
    assert Goal.of(RunCard(n_events=1000)).n_points(0.1, 0.5) == 10_000
    assert Goal.of(RunCard(n_events=1000, weighted=True)).n_points(0.1, 0.5) == 2000
    unknown = Goal(name="the points", seconds=lambda c: 1.0)
    assert unknown.n_points(0.1, 0.5) is None


def test_a_sampler_that_lost_a_region_is_noticed() -> None:
    vegas = candidate("vegas", error=0.01)
    shift = (MAX_PULL + 0.5) * math.hypot(0.01, 0.005)
    lost = candidate("flow", ess=0.9, mean=1 - shift, error=0.005)
    assert "the flow has lost a part of phase space: it gives 0.93" in (drift(vegas, lost) or "")
    near = candidate("flow", ess=0.9, mean=1 - 0.8 * shift, error=0.005)
    assert drift(vegas, near) is None


def test_a_sampler_that_is_worse_than_its_start_is_noticed() -> None:
    # The mean square of the weights is 1 + 10,000 errors squared.
    vegas = candidate("vegas", error=0.01)
    worse, bad = candidate("flow", error=0.0165), candidate("flow", error=0.018)
    assert MAX_RELATIVE_SQUARE == 2
    assert drift(vegas, worse) is None
    assert drift(vegas, bad) == (
        "the flow has drifted: the mean square of its weights is 2.12 times that of vegas"
    )
