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
    """What it costs to train a sampler on a surrogate."""

    learning_s: float
    """Wall-clock seconds to learn the surrogate."""
    saved_s_per_point: float
    """Wall-clock seconds that each point costs less."""


class Guide(Protocol):
    """A cheaper integrand to train a sampler on; what it is worth is measured with the exact one."""

    def guidance(
        self, integrand: ProcessIntegrand, proposal: Proposal, n_points: float, aids: Aids
    ) -> tuple[Guidance | None, int]:
        """What it would cost for so many points, None where it is not to be; and how many matrix elements that took."""

    def guided(self, integrand: ProcessIntegrand, aids: Aids) -> ProcessIntegrand:
        """The integrand to train on.

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
