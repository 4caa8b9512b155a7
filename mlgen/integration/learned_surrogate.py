"""A surrogate learned from the points that were kept: to stand in for |M|², or for samplers to learn from."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from mlgen.cards import Card, RunCard
from mlgen.core import Amplitude, random_stream
from mlgen.integration.aids import (
    CLEAR_GAIN,
    NOT_WORTH_MEASURING_S,
    Aids,
    Guidance,
    ToLearn,
)
from mlgen.integration.exact_points import samples_of
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learner import LearnerState, Round
from mlgen.integration.proposal import Proposal, draw
from mlgen.integration.surrogate_prices import Prices
from mlgen.integration.trust import EXACT_SHARE, GuidedAmplitude, Trust
from mlgen.physics.model import Model
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.surrogate import Surrogate, restore_surrogate, train_surrogate

GUIDE = "guide"
"""The purpose under which a surrogate is stored that samplers learn from."""
GUIDE_STEPS = 0.25
"""The part of the card's optimizer steps that such a one is trained for: it need not be precise."""
USUAL_EPS_2 = 0.6
"""Of the survivors of the first step, expected before anything is known."""
GUIDE_TRUST = Trust(max_relative_std=0.2)
"""A flow learns too little density where its guide is far too small, and no second step makes up for that:
on u u~ > e+ e- g, a rough guide that was followed as far as for events left eps_uw = 0.013, this one 0.49."""
GUIDE_MARGIN = 1.5
"""A guide must be expected to save so many times what its training takes."""
MARGIN = 0.8
"""A surrogate must be expected to leave less than this part of the time that events take without one."""
SHARE_OF_GOAL = 0.1
"""Of the time that events are expected to take with a surrogate, what its training may take."""
LEAST_STEPS = 2000
"""Optimizer steps that it takes at least, where the card has as many."""
N_PROBED = 512
"""Points that show whether there is enough to do to measure more."""


def learned_surrogate(
    integrand: ProcessIntegrand,
    settings: SurrogateCard,
    run: RunCard,
    model: Model,
    aids: Aids,
    purpose: str,
    before: Round | None = None,
) -> tuple[Surrogate, int]:
    """The surrogate that the points kept so far teach, and how many it learned from; trained once.

    One that samplers learned from serves, where it was trained as long, of all groups.

    Args:
        purpose: under which it is stored.
        before: the round that is still to come. A run that goes on after a stop may have points of it.

    Raises:
        TrainingFailed: there are too few points, or a loss is not finite.
    """
    for name in (purpose, GUIDE):
        if (state := aids.checkpoints.load(name)) is None:
            continue
        found = restore_surrogate(integrand.groups, model, settings, state.tensors)
        serves = state.numbers["n_steps"] >= settings.n_steps and None not in found.of_groups
        if name == purpose or serves:
            return found, int(state.numbers["n_points"])
    samples = samples_of(aids.checkpoints.kept(before), integrand, settings.max_points)
    surrogate, _ = train_surrogate(
        samples, integrand.groups, model, settings, run.seed, aids.progress
    )
    n_points = sum(map(len, samples))
    numbers = {"n_points": n_points, "n_steps": settings.n_steps}
    state = LearnerState(tensors=surrogate.state(), numbers=numbers)
    aids.checkpoints.store(purpose, state)
    return surrogate, n_points


def steps_for(goal_s: float, n_steps: int, training_s: float) -> int:
    """How long a surrogate is trained for events that are expected to take so many seconds with it.

    Args:
        n_steps: the card's, which is the most.
        training_s: what they take.
    """
    worth = SHARE_OF_GOAL * goal_s / max(training_s, 1e-9)
    return min(n_steps, max(LEAST_STEPS, round(worth * n_steps)))


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateGuide:
    """Lets samplers learn from a surrogate, with the exact |M|² at some of its points: an `aids.Guide`."""

    card: Card
    model: Model

    @property
    def is_wanted(self) -> bool:
        """See `aids.Guide`."""
        return self.card.run.surrogate != "never" and not self.card.run.weighted

    def guidance(
        self, integrand: ProcessIntegrand, proposal: Proposal, to_learn: ToLearn, aids: Aids
    ) -> tuple[Guidance | None, int]:
        """See `aids.Guide`."""
        card, n_events, settle = self.card, self.card.run.n_events, aids.checkpoints.settle
        exact_us, n_probed = self._us_per_point(integrand, proposal)
        about_s = 1e-6 * to_learn.n_points_to_goal * settle("guide.us_per_exact_point", exact_us)
        is_asked = card.run.surrogate == "always"
        if not is_asked and about_s <= NOT_WORTH_MEASURING_S:
            return None, n_probed
        prices, n_calls = Prices.measured(integrand, proposal, card, self.model)
        prices = prices.settled(settle, GUIDE)
        saved = prices.us_per_squared - prices.us_per_prediction
        in_training = saved - prices.us_per_squared / EXACT_SHARE
        survivor_us = prices.us_per_survivor / USUAL_EPS_2
        us_per_point = prices.us_per_point + prices.us_per_squared
        without_s = 1e-6 * to_learn.n_points_to_goal * us_per_point
        goal_s = 1e-6 * (
            to_learn.n_points_to_goal * (prices.us_per_point + prices.us_per_prediction)
            + n_events * survivor_us
        )
        s_per_step = prices.training_s / card.surrogate.n_steps
        n_steps = steps_for(goal_s, card.surrogate.n_steps, prices.training_s)
        learning_s, gain = n_steps * s_per_step, without_s / max(goal_s, 1e-9)
        wanted, guide_s = card.surrogate.guides, self._settings.n_steps * s_per_step
        pays = 1e-6 * to_learn.n_points * in_training > GUIDE_MARGIN * guide_s
        found = Guidance(
            learning_s=learning_s,
            us_per_point=us_per_point,
            saved_us_per_point=saved,
            saved_us_in_training=in_training,
            guides=wanted == "always" or (wanted == "auto" and pays),
            makes_events=is_asked
            or (gain > CLEAR_GAIN and goal_s + learning_s < MARGIN * without_s),
            gain=gain,
            us_per_survivor=survivor_us,
        )
        return found, n_probed + n_calls

    def amplitude(self, integrand: ProcessIntegrand, before: Round, aids: Aids) -> Amplitude:
        """See `aids.Guide`."""
        surrogate, _ = learned_surrogate(
            integrand, self._settings, self.card.run, self.model, aids, GUIDE, before
        )
        exact = integrand.amplitude
        return GuidedAmplitude(surrogate=surrogate, exact=exact, trust=GUIDE_TRUST)

    @property
    def _settings(self) -> SurrogateCard:
        settings = self.card.surrogate
        return replace(settings, n_steps=math.ceil(GUIDE_STEPS * settings.n_steps))

    def _us_per_point(self, integrand: ProcessIntegrand, proposal: Proposal) -> tuple[float, int]:
        """Of a point and its exact weight, by a few that change nothing; and how many those are."""
        rng = random_stream(self.card.run.seed, "probe goal", 0)
        started = time.perf_counter()
        _, evaluation = draw(integrand, proposal, N_PROBED, rng)
        return 1e6 * (time.perf_counter() - started) / N_PROBED, evaluation.n_calls
