"""Whether a surrogate guides what samplers learn, and what it is expected to do for the events."""

from __future__ import annotations

from dataclasses import replace

from mlgen.cards import SamplingCard
from mlgen.core import Amplitude, Evaluation, Integrand
from mlgen.errors import TrainingFailed
from mlgen.integration.adapt import GridLearner
from mlgen.integration.aids import CLEAR_GAIN, Aids, Guidance, ToLearn
from mlgen.integration.candidates import Goal
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learner import Round

GUIDED_FROM = 2
"""Rounds of the grid's adaptation that are exact, for a surrogate to learn from."""


class Guiding:
    """What a surrogate is expected to do, and the amplitude that samplers learn from once there is one."""

    def __init__(self, card: SamplingCard, aids: Aids) -> None:
        self._card, self._aids, self._guide = card, aids, aids.guide
        self._amplitude: Amplitude | None = None
        self.found: Guidance | None = None
        """None: nothing is expected of one."""
        self.n_calls = 0
        """Matrix elements that it took to find out."""

    def can_guide(self, integrand: Integrand[Evaluation]) -> bool:
        """Whether there may be a surrogate of the integrand."""
        guide = self._guide
        return guide is not None and guide.is_wanted and isinstance(integrand, ProcessIntegrand)

    def consider(self, integrand: Integrand[Evaluation], learner: GridLearner) -> None:
        """See what a surrogate costs and saves, by points of a grid that was adapted for some rounds."""
        guide, settle = self._guide, self._aids.checkpoints.settle
        if guide is None or not isinstance(integrand, ProcessIntegrand):
            return
        flow, sampler = self._card.flow, self._card.run.sampler
        in_training = flow.n_steps * flow.batch_size / flow.reuse if sampler != "vegas" else 0.0
        to_learn = ToLearn(
            n_points=settle("guide.n_points", learner.n_points_left + in_training),
            n_points_to_goal=settle("guide.n_points_to_goal", learner.n_points_to_goal or 0.0),
        )
        with self._aids.clock.step("surrogate"):
            found = guide.guidance(integrand, learner.proposal, to_learn, self._aids)
        self.found, n_calls = found
        # A run that goes on looks again, by points of a grid that was adapted further.
        self.n_calls += int(settle("guide.n_calls", n_calls))

    def learn(self, integrand: Integrand[Evaluation], before: Round) -> str:
        """Learn a surrogate where it is to guide; what went wrong, if anything did.

        Args:
            before: the round that comes next.
        """
        guide, found = self._guide, self.found
        if guide is None or found is None or not isinstance(integrand, ProcessIntegrand):
            return ""
        if not found.guides or self._amplitude is not None:
            return ""
        try:
            with self._aids.clock.step("surrogate"):
                self._amplitude = guide.amplitude(integrand, before, self._aids)
        except TrainingFailed as failure:
            return f"{failure}; samplers learn from the exact matrix element instead"
        return ""

    def guided(self, integrand: Integrand[Evaluation]) -> Integrand[Evaluation]:
        """The integrand, or the cheaper one that there is to learn from."""
        if self._amplitude is None or not isinstance(integrand, ProcessIntegrand):
            return integrand
        return replace(integrand, amplitude=self._amplitude)

    @property
    def replaces_exact_points(self) -> bool:
        """Whether a surrogate will make the events in all likelihood."""
        found = self.found
        return found is not None and found.makes_events and found.gain > CLEAR_GAIN

    def helped(self, goal: Goal, us_per_point: float) -> Goal:
        """The goal with a surrogate, where one is expected to make the events.

        Args:
            us_per_point: without it, as measured since: a machine is busier at one time than at another.
        """
        found = self.found
        if found is None or not found.makes_events or goal.amount is None:
            return goal
        busier = us_per_point / found.us_per_point
        return replace(
            goal,
            saved_us_per_point=busier * found.saved_us_per_point,
            fixed_s=1e-6 * busier * goal.amount * found.us_per_survivor,
        )

    def saved_in_training(self, us_per_point: float) -> float:
        """Microseconds that a point costs less while a sampler is trained."""
        found = self.found
        if found is None or not found.guides:
            return 0.0
        return us_per_point / found.us_per_point * found.saved_us_in_training
