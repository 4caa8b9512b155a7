"""What an integration works with, beside the integrand and the card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mlgen.core import Clock, Progress
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learner import NO_CHECKPOINTS, Checkpoints
from mlgen.integration.proposal import Proposal
from mlgen.samplers.module import SamplerModule

NOT_WORTH_MEASURING_S = 20.0
"""Nothing is trained for a goal that is reached in this time without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """What a surrogate of the integrand would cost and save."""

    learning_s: float
    """Wall-clock seconds to learn it."""
    saved_us_per_point: float
    """Wall-clock microseconds that a point costs less with it alone."""
    saved_us_in_training: float
    """The same for a point that a sampler is trained on."""
    trains: bool
    """Whether a sampler is to be trained on it."""
    us_per_survivor: float
    """Wall-clock microseconds that an event costs beside its points."""


class Guide(Protocol):
    """A surrogate of the integrand, to make events faster, and to train a sampler on.

    What a sampler is worth, and what events weigh, is measured with the exact integrand alone.
    """

    def guidance(
        self, integrand: ProcessIntegrand, proposal: Proposal, n_points: float, aids: Aids
    ) -> tuple[Guidance | None, int]:
        """What to expect, None where it is not wanted; and how many matrix elements that took.

        Args:
            n_points: that a sampler would be trained on.
        """

    def guided(self, integrand: ProcessIntegrand, aids: Aids) -> ProcessIntegrand:
        """The integrand to train a sampler on.

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
    """What a sampler may be trained on instead of the exact integrand."""
