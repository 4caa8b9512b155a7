from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.distorted import Distorted, worse_forward
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import GenerationError
from mlgen.integration.trust import Trust
from mlgen.integration.two_stage import SurrogateIntegrand
from mlgen.integration.two_stage_estimate import (
    MOST_POINTS,
    TwoStageEstimate,
    estimate_two_stage,
)
from tests.integration.surrogates import QUALITIES, chunks_of, estimated, joined, prepared, totals
from tests.laws import check_estimate


@pytest.mark.parametrize("quality", QUALITIES)
def test_an_estimate_foresees_what_is_made(quality: str) -> None:
    measured, made = estimated("pp_to_eej", quality), chunks_of(quality)
    found = totals(made)
    n_events = sum(chunk.summary.n_events for chunk in made)
    kept, error = measured.kept
    fresh_error = (kept / found.n_points) ** 0.5
    check_estimate(n_events / found.n_points, math.hypot(error, fresh_error), kept, 0.05)
    efficiency = measured.efficiency
    assert efficiency.eps_1 * efficiency.eps_2 == pytest.approx(kept, rel=0.03)
    expected_calls = efficiency.calls * efficiency.eps_1
    assert found.n_calls / found.n_points == pytest.approx(expected_calls, rel=0.03)
    assert (efficiency.calls > 1.1) == (quality == "wrong in a corner, and not asked there")
    assert efficiency.overweight == pytest.approx(0.01, rel=1e-6)
    assert found.overweight_fraction == pytest.approx(measured.overweight_on_fresh_points, rel=0.5)


def test_the_overweight_fraction_is_that_of_the_events() -> None:
    made = chunks_of("wrong in a corner")
    u = joined(made).weight
    assert float(u.min()) == 1
    from_events = float((u - 1).sum() / u.sum())
    assert totals(made).overweight_fraction == pytest.approx(from_events, rel=0.1)


def test_the_budget_of_x_max_counts_survivors() -> None:
    measured = estimated("pp_to_eej", "rough")
    assert 9_000 < measured.n_survivors < 11_000
    assert measured.n_calls == measured.n_survivors
    assert measured.us_per_event > measured.us_per_survivor > 0
    assert measured.us_per_event > measured.us_per_point > 0


@pytest.mark.parametrize("cost_ratio", [0.01, 0.3, 3.0])
@pytest.mark.parametrize("quality", ["good", "rough"])
def test_the_budget_of_s_max_is_that_which_makes_events_cheap(
    quality: str, cost_ratio: float
) -> None:
    """Beside estimates with each budget on its own, by survivors of their own."""

    def cost(measured: TwoStageEstimate) -> float:
        found = measured.efficiency
        return (cost_ratio / found.eps_1 + found.calls) / found.eps_2

    made = prepared("pp_to_eej")
    integrand = made.surrogate(quality)

    def by(cost_ratio: float | None) -> TwoStageEstimate:
        return estimate_two_stage(
            integrand, made.proposal, made.card, "budgets", SilentProgress(), 10_000, cost_ratio
        )

    chosen, plain = by(cost_ratio), by(None)
    assert cost(chosen) < 1.02 * cost(plain)
    if cost_ratio == 3.0:
        assert float(chosen.maxima.s_max.sum()) < 0.9 * float(plain.maxima.s_max.sum())
        assert cost(chosen) < {"good": 0.99, "rough": 0.97}[quality] * cost(plain)
    # What is said of an s_max by survivors of another holds for what is made with it.
    source = made.source(integrand, chosen)
    summaries = [source.chunk(index).summary for index in range(8)]
    n_points = sum(one.n_points for one in summaries)
    kept = sum(one.n_events for one in summaries) / n_points
    error = math.hypot(chosen.kept[1], (kept / n_points) ** 0.5)
    check_estimate(kept, error, chosen.kept[0], max_relative_error=0.05)
    n_calls = sum(one.n_calls for one in summaries)
    assert n_calls / n_points == pytest.approx(chosen.efficiency.eps_1, rel=0.05)


def test_the_points_of_the_second_step_are_limited() -> None:
    made = prepared("pp_to_eej")
    few = replace(made, card=replace(made.card, n_estimate=2000))
    integrand = made.surrogate("good")
    measured = estimate_two_stage(
        integrand, few.proposal, few.card, "two stages", SilentProgress(), n_survivors=1_000_000
    )
    assert measured.n_points == (1 + MOST_POINTS) * 2000
    assert measured.n_survivors < 100_000


def test_no_point_inside_the_cuts_is_an_error() -> None:
    made = prepared("pp_to_eej")
    integrand = made.surrogate("good")

    class Closed:
        def __call__(self, momenta: Tensor, group: int) -> Tensor:
            return torch.zeros(len(momenta), dtype=torch.bool)

    closed = replace(integrand, integrand=replace(integrand.integrand, cut=Closed()))
    with pytest.raises(GenerationError, match="none of 40000 points passes the cuts: expected a l"):
        made.estimate(closed)


def test_standard_deviations_on_top_leave_fewer_events_above_x_max() -> None:
    """Where the surrogate knows how wrong it is."""
    made = prepared("pp_to_eej")
    surrogate = Distorted(amplitude=made.process.integrand.amplitude, error=worse_forward(0.02))
    found = {
        n_std: made.estimate(
            SurrogateIntegrand(
                integrand=made.process.integrand, surrogate=surrogate, trust=Trust(n_std=n_std)
            )
        )
        for n_std in (0.0, 2.0)
    }
    assert found[2.0].efficiency.eps_2 > 1.1 * found[0.0].efficiency.eps_2
    sums = [one.sums for one in found.values()]
    error = math.hypot(sums[0].error, sums[1].error)
    check_estimate(sums[0].mean, error, sums[1].mean, 0.02)
