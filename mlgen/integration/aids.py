"""What an integration works with, beside the integrand and the card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mlgen.core import Amplitude, Clock, Progress
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learner import NO_CHECKPOINTS, Checkpoints, Round
from mlgen.integration.proposal import Proposal
from mlgen.samplers.module import SamplerModule

NOT_WORTH_MEASURING_S = 20.0
"""Nothing is trained for a goal that is reached in this time without."""

CLEAR_GAIN = 3.0
"""Where a surrogate is expected to make events so many times faster, there is hardly a doubt that it will be
used: it is counted on when samplers are chosen. With less it may be refused in the end, where a better
sampler would have paid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """What a surrogate of the integrand would cost and save."""

    learning_s: float
    """Wall-clock seconds to learn one that makes the events."""
    us_per_point: float
    """Wall-clock microseconds of a point without it."""
    saved_us_per_point: float
    """Wall-clock microseconds that a point costs less with it alone."""
    saved_us_in_training: float
    """The same for a point that a sampler learns from."""
    guides: bool
    """Whether samplers are to learn from a surrogate."""
    makes_events: bool
    """Whether one is asked for, or clearly expected to pay, when events are made."""
    gain: float
    """How many times faster the events are expected to come with it, once it is learned."""
    us_per_survivor: float
    """Wall-clock microseconds that an event costs beside its points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToLearn:
    """What is still to be learned, as far as that is known."""

    n_points: float
    """That samplers will learn from."""
    n_points_to_goal: float
    """That the goal would take."""


class Guide(Protocol):
    """A surrogate of the integrand, to make events faster, and for samplers to learn from.

    What a sampler is worth, and what events weigh, is measured with the exact integrand alone.
    """

    @property
    def is_wanted(self) -> bool:
        """Whether the card lets there be a surrogate."""

    def guidance(
        self, integrand: ProcessIntegrand, proposal: Proposal, to_learn: ToLearn, aids: Aids
    ) -> tuple[Guidance | None, int]:
        """What to expect, None where there is too little to do; and how many matrix elements that took."""

    def amplitude(self, integrand: ProcessIntegrand, before: Round, aids: Aids) -> Amplitude:
        """What samplers learn from in place of the integrand's own.

        Args:
            before: the round that comes next.

        Raises:
            TrainingFailed: nothing could be learned.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Aids:
    """Where an integration says how far it is, stores what it learns, and gets help from."""

    progress: Progress
    clock: Clock
    checkpoints: Checkpoints = NO_CHECKPOINTS
    """Where unfinished learning is stored, and found again."""
    start: SamplerModule | None = None
    """A sampler to begin training from, instead of one that starts as the adapted grid."""
    guide: Guide | None = None
    """What samplers may learn from instead of the exact integrand."""
