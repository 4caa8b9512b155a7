"""A surrogate learned from the points that were kept: to stand in for |M|², or to train a sampler on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlgen.cards import Card
from mlgen.integration.aids import Aids, Guidance
from mlgen.integration.exact_points import samples_of
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learner import LearnerState
from mlgen.integration.proposal import Proposal
from mlgen.integration.surrogate_prices import Prices
from mlgen.integration.training import SamplerLearner
from mlgen.integration.trust import EXACT_SHARE, GuidedAmplitude, Trust
from mlgen.physics.model import Model
from mlgen.surrogates.surrogate import Surrogate, restore_surrogate, train_surrogate

GUIDE = "guide"
"""The purpose under which a surrogate is stored that a flow is trained on."""
USUAL_EPS_2 = 0.6
"""Of the survivors of the first step, expected before anything is known."""
GUIDE_TRUST = Trust(max_relative_std=0.2)
"""A flow learns too little density where its guide is far too small, and no second step makes up for that:
on u u~ > e+ e- g, a rough guide that was followed as far as for events left eps_uw = 0.013, this one 0.49."""
GUIDE_MARGIN = 1.5
"""A guide must be expected to save so many times what its training takes."""


def learned_surrogate(
    integrand: ProcessIntegrand,
    card: Card,
    model: Model,
    aids: Aids,
    purpose: str,
    before: str = "",
) -> tuple[Surrogate, int]:
    """The surrogate that the points kept so far teach, and how many they are; trained once.

    Args:
        purpose: under which it is stored.
        before: the stage that is still to come. A run that goes on after a stop may have points of it.

    Raises:
        TrainingFailed: there are too few points, or a loss is not finite.
    """
    if (state := aids.checkpoints.load(purpose)) is not None:
        surrogate = restore_surrogate(integrand.groups, model, card.surrogate, state.tensors)
        return surrogate, int(state.numbers["n_points"])
    samples = samples_of(aids.checkpoints.kept(before), integrand, card.surrogate.max_points)
    surrogate, _ = train_surrogate(
        samples, integrand.groups, model, card.surrogate, card.run.seed, aids.progress
    )
    n_points = sum(map(len, samples))
    state = LearnerState(tensors=surrogate.state(), numbers={"n_points": n_points})
    aids.checkpoints.store(purpose, state)
    return surrogate, n_points


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateGuide:
    """Lets a flow be trained on a surrogate, with the exact |M|² at some of its points: an `aids.Guide`."""

    card: Card
    model: Model

    def guidance(
        self, integrand: ProcessIntegrand, proposal: Proposal, n_points: float, aids: Aids
    ) -> tuple[Guidance | None, int]:
        """See `aids.Guide`."""
        run, wanted = self.card.run, self.card.surrogate.guides_flow
        if run.surrogate == "never" or run.weighted:
            return None, 0
        prices, n_calls = Prices.measured(integrand, proposal, self.card, self.model)
        prices = prices.settled(aids.checkpoints.settle, GUIDE)
        saved = prices.us_per_squared - prices.us_per_prediction
        in_training = saved - prices.us_per_squared / EXACT_SHARE
        pays = 1e-6 * n_points * in_training > GUIDE_MARGIN * prices.training_s
        found = Guidance(
            learning_s=prices.training_s,
            saved_us_per_point=saved,
            saved_us_in_training=in_training,
            trains=wanted == "always" or (wanted == "auto" and pays),
            us_per_survivor=prices.us_per_call / USUAL_EPS_2,
        )
        return found, n_calls

    def guided(self, integrand: ProcessIntegrand, aids: Aids) -> ProcessIntegrand:
        """See `aids.Guide`."""
        surrogate, _ = learned_surrogate(
            integrand, self.card, self.model, aids, GUIDE, before=SamplerLearner.purpose
        )
        exact = integrand.amplitude
        amplitude = GuidedAmplitude(surrogate=surrogate, exact=exact, trust=GUIDE_TRUST)
        return replace(integrand, amplitude=amplitude)
