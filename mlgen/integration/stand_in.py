"""A surrogate that stands in for the exact |M|² of a frozen sampler: whether it pays, learned, measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mlgen.cards import Card
from mlgen.errors import GenerationError, TrainingFailed
from mlgen.integration.aids import NOT_WORTH_MEASURING_S, Aids
from mlgen.integration.candidates import MAX_PULL, Candidate, Expectation
from mlgen.integration.helicity_choice import HelicityChoice
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.integrator import USUAL_ESTIMATE
from mlgen.integration.learned_surrogate import (
    MARGIN,
    USUAL_EPS_2,
    learned_surrogate,
    steps_for,
)
from mlgen.integration.surrogate_prices import Prices
from mlgen.integration.trust import Trust
from mlgen.integration.two_stage import SurrogateIntegrand
from mlgen.integration.two_stage_estimate import (
    MOST_POINTS,
    TwoStageEstimate,
    estimate_two_stage,
)
from mlgen.physics.model import Model
from mlgen.surrogates.surrogate import Surrogate

CEILING = 2.0
"""The largest s_max, in units of the w_max of the exact weights."""
N_SURVIVORS = 20_000
"""Points that measure x_max."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StandIn:
    """What became of the surrogate that a card asks for."""

    integrand: SurrogateIntegrand | None = None
    """None: events are made with the exact |M|² alone."""
    surrogate: Surrogate | None = None
    measured: TwoStageEstimate | None = None
    """By fresh points, that count for nothing else; also where it is not used."""
    reason: str
    """Why it is used, or not."""
    helicities: str = ""
    """Why its second step computes all helicities, or a few."""
    expected: tuple[Expectation, ...] = ()
    """Without it and with it, before it was trained."""
    gain: float = 0.0
    """f_eff: how many times faster events come, without what training took; 0 where it was not measured."""
    n_points: int = 0
    """That it learned from."""
    n_calls: int = 0
    """Exact matrix elements computed for it beside those."""
    warnings: tuple[str, ...] = ()


def stand_in(
    integrand: ProcessIntegrand, chosen: Candidate, card: Card, model: Model, aids: Aids
) -> StandIn:
    """Learn |M|² from the points that were kept, and see whether events come sooner with it.

    A training that fails, or a surrogate that does not help, costs its time and nothing else.

    Args:
        integrand: without the channels that were dropped.
        chosen: the sampler that makes the events.

    Raises:
        NonFiniteWeight: a weight is NaN or infinite.
    """
    if card.run.surrogate == "never" or card.run.weighted:
        return StandIn(reason="weighted events" if card.run.weighted else "the card asks for none")
    return _Choice(integrand, chosen, card, model, aids).run()


class _Choice:
    """Whether a surrogate is used; counts matrix elements as it goes."""

    def __init__(
        self,
        integrand: ProcessIntegrand,
        chosen: Candidate,
        card: Card,
        model: Model,
        aids: Aids,
    ) -> None:
        self._integrand, self._chosen, self._card = integrand, chosen, card
        self._model, self._aids = model, aids
        self._without_s = chosen.seconds_for(card.run.n_events, weighted=False)
        self._asks = card.run.surrogate == "always"
        self._n_calls = 0
        self._expected: tuple[Expectation, ...] = ()

    def run(self) -> StandIn:
        name = self._chosen.name
        if not self._asks and self._without_s <= NOT_WORTH_MEASURING_S:
            return self._without(
                f"the events take about {self._without_s:.3g} s with {name}, too little to train for"
            )
        proposal = self._chosen.proposal_for(weighted=False)
        with self._aids.clock.step("surrogate"):
            prices, n_calls = Prices.measured(self._integrand, proposal, self._card, self._model)
            prices = prices.settled(self._aids.checkpoints.settle, "surrogate")
        self._n_calls += n_calls
        self._expected = self._expectations(prices)
        with_it = self._expected[1].total_s
        if not self._asks and with_it > MARGIN * self._without_s:
            return self._without(
                f"the events take about {self._without_s:.3g} s with {name}, and would take "
                f"{with_it:.3g} s with a surrogate, its training included"
            )
        try:
            return self._measured(prices)
        except (TrainingFailed, GenerationError) as failure:
            warning = f"the surrogate failed: {failure}; it is not used"
            return replace(self._without(warning), warnings=(warning,))

    def _measured(self, prices: Prices) -> StandIn:
        aids, run = self._aids, self._card.run
        with aids.clock.step("surrogate"):
            settings = replace(self._card.surrogate, n_steps=self._n_steps(prices))
            surrogate, n_points = learned_surrogate(
                self._integrand, settings, run, self._model, aids, "surrogate"
            )
            with_all = SurrogateIntegrand(
                integrand=self._integrand, surrogate=surrogate, trust=Trust()
            )
            measured_with_all = self._estimate(with_all, "surrogate", prices.cost_ratio)
            self._n_calls += measured_with_all.n_calls
            second = HelicityChoice(
                with_all, measured_with_all, self._chosen.proposal, self._card, self._model, aids
            ).run(self._estimate)
        self._n_calls += second.n_calls
        measured = second.measured
        with_it = 1e-6 * run.n_events * measured.us_per_event / measured.efficiency.alpha
        found = StandIn(
            surrogate=surrogate,
            measured=measured,
            reason=f"the events take about {self._without_s:.3g} s with {self._chosen.name}, and "
            f"{with_it:.3g} s with its surrogate",
            expected=self._expected,
            gain=self._without_s / with_it,
            n_points=n_points,
            n_calls=self._n_calls,
            helicities=second.reason,
            warnings=second.warnings,
        )
        if problem := self._disagreement(measured):
            warnings = (*second.warnings, f"{problem}; it is not used")
            return replace(found, reason=problem, warnings=warnings)
        used = replace(found, integrand=second.integrand)
        if self._asks:
            return replace(used, reason="the card asks for it")
        return used if with_it < self._without_s else found

    def _estimate(
        self, integrand: SurrogateIntegrand, purpose: str, cost_ratio: float
    ) -> TwoStageEstimate:
        """See `helicity_choice.Estimator`."""
        aids, chosen = self._aids, self._chosen
        measured = estimate_two_stage(
            integrand,
            chosen.proposal,
            replace(self._card.run, n_estimate=self._n_estimate),
            f"{chosen.name} with a {purpose}",
            aids.progress,
            N_SURVIVORS,
            cost_ratio,
            CEILING * chosen.measured.w_max,
        )
        settle = aids.checkpoints.settle
        return replace(
            measured,
            us_per_point=settle(f"{purpose}.us_per_drawn_point", measured.us_per_point),
            us_per_survivor=settle(f"{purpose}.us_per_survivor", measured.us_per_survivor),
        )

    def _disagreement(self, measured: TwoStageEstimate) -> str:
        """What shows that the two ways to the cross section differ; there is no reason to but a fault."""
        ours, theirs = measured.sums, self._chosen.measured.sums
        error = math.hypot(ours.error, theirs.error)
        if abs(ours.mean - theirs.mean) <= MAX_PULL * error:
            return ""
        return (
            f"with the surrogate the cross section is {ours.mean:.5g} ± {ours.error:.2g} pb, without "
            f"{theirs.mean:.5g} ± {theirs.error:.2g} pb"
        )

    @property
    def _n_estimate(self) -> int:
        """Points that measure s_max: they are cheap."""
        return self._card.run.n_estimate or max(USUAL_ESTIMATE, len(self._chosen.measured.weights))

    def _goal_s(self, prices: Prices) -> float:
        """What the events are expected to take with a surrogate."""
        us_per_point = prices.us_per_point + prices.us_per_prediction
        us_per_event = (
            us_per_point / self._chosen.measured.kept + prices.us_per_survivor / USUAL_EPS_2
        )
        return 1e-6 * self._card.run.n_events * us_per_event

    def _n_steps(self, prices: Prices) -> int:
        return steps_for(self._goal_s(prices), self._card.surrogate.n_steps, prices.training_s)

    def _expectations(self, prices: Prices) -> tuple[Expectation, Expectation]:
        us_per_point = prices.us_per_point + prices.us_per_prediction
        n_estimate, n_steps = self._n_estimate, self._n_steps(prices)
        n_correcting = min(MOST_POINTS * n_estimate, N_SURVIVORS / self._chosen.measured.kept)
        n_measuring = n_estimate + n_correcting
        measuring_s = 1e-6 * (n_measuring * us_per_point + N_SURVIVORS * prices.us_per_call)
        name = self._chosen.name
        return (
            Expectation(sampler=name, n_steps=0, training_s=0.0, goal_s=self._without_s),
            Expectation(
                sampler=f"{name} with a surrogate",
                n_steps=n_steps,
                training_s=prices.training_s * n_steps / self._card.surrogate.n_steps + measuring_s,
                goal_s=self._goal_s(prices),
            ),
        )

    def _without(self, reason: str) -> StandIn:
        return StandIn(reason=reason, expected=self._expected, n_calls=self._n_calls)
