"""What learns from points that were paid for, and the loop that pays for them.

A learner says where it wants points and how many, and takes their values; whoever asks it may compute
those values here, elsewhere, or go on later from its state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mlgen.core import Evaluation, Integrand, Progress, TrainingBatch, random_stream
from mlgen.errors import GenerationError
from mlgen.integration.exact_points import ExactPoints
from mlgen.integration.proposal import Proposal, draw


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerState:
    """All that a learner knows between two rounds."""

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]
    n_calls: int = 0
    """Matrix elements that were computed for it; whoever stores the state fills it in."""


class Learner(ABC):
    """A sampler in the making.

    A round is: draw `n_points` points from `proposal`, evaluate them, and hand them to `learn`.
    """

    purpose: str
    """Names the random streams of its points: `adapt`, `train`."""
    title: str
    """Of the progress bar."""
    n_calls: int = 0
    """Matrix elements that were computed for it by `teach`."""

    @property
    @abstractmethod
    def n_rounds(self) -> int:
        """Rounds so far."""

    @property
    @abstractmethod
    def proposal(self) -> Proposal:
        """Where the points of the next round are to come from."""

    @property
    @abstractmethod
    def n_points(self) -> int:
        """How many points the next round wants."""

    @property
    @abstractmethod
    def progress(self) -> float:
        """How much of the work is done, from 0 to 1; at 1 there are no more rounds."""

    @abstractmethod
    def lost(self, n_points: int) -> GenerationError:
        """What to raise where none of the points of a round passes the cuts."""

    @abstractmethod
    def learn(self, batch: TrainingBatch) -> str:
        """Take the points of a round; what there is to say of them.

        Raises:
            GenerationError: what was learned is of no use.
        """

    @abstractmethod
    def state(self) -> LearnerState:
        """What to store, so that `restore` goes on from here."""

    @abstractmethod
    def restore(self, state: LearnerState) -> None:
        """Go on from a stored state, in a learner that was made in the same way."""


Round = tuple[str, int]
"""A stage, and the index of a batch of it."""


class Checkpoints(Protocol):
    """Where learners are stored while they learn."""

    def load(self, purpose: str) -> LearnerState | None:
        """The state that was stored last, None if there is none."""

    def offer(self, learner: Learner) -> None:
        """Store the learner's state, if that was not done a few seconds ago."""

    def store(self, purpose: str, state: LearnerState) -> None:
        """Store what was learned otherwise, under a purpose of its own."""

    def settle(self, name: str, measured: float) -> float:
        """A measured time that decisions rest on, or the one that was stored in its place."""

    def keep(self, stage: str, index: int, evaluation: Evaluation) -> None:
        """Keep a batch of points for a surrogate to learn from, if there is to be one."""

    def kept(self, before: Round | None = None) -> Iterator[ExactPoints]:
        """All points that were kept, in the order of their stages; up to a round, if it is given."""


class NoCheckpoints:
    """Stores nothing."""

    def load(self, purpose: str) -> LearnerState | None:
        return None

    def offer(self, learner: Learner) -> None:
        return None

    def store(self, purpose: str, state: LearnerState) -> None:
        return None

    def settle(self, name: str, measured: float) -> float:
        return measured

    def keep(self, stage: str, index: int, evaluation: Evaluation) -> None:
        return None

    def kept(self, before: Round | None = None) -> Iterator[ExactPoints]:
        return iter(())


NO_CHECKPOINTS = NoCheckpoints()


def teach(
    learner: Learner,
    integrand: Integrand[Evaluation],
    seed: int,
    progress: Progress,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    is_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Draw points and hand them over until the learner is done, or no longer wanted.

    A learner that has learned nothing yet goes on from what was stored of it.

    Args:
        is_wanted: asked after each round.

    Raises:
        GenerationError: no point passed the cuts, or what the learner says.
    """
    if learner.n_rounds == 0 and (state := checkpoints.load(learner.purpose)) is not None:
        learner.restore(state)
        learner.n_calls = state.n_calls
    with progress.step(learner.title, 1.0) as advance:
        done = 0.0
        while learner.progress < 1 and is_wanted():
            rng = random_stream(seed, learner.purpose, learner.n_rounds)
            batch, evaluation = draw(integrand, learner.proposal, learner.n_points, rng)
            learner.n_calls += evaluation.n_calls
            checkpoints.keep(learner.purpose, learner.n_rounds, evaluation)
            if not bool(batch.value.any()):
                raise learner.lost(len(batch))
            note = learner.learn(batch)
            checkpoints.offer(learner)
            advance(learner.progress - done, note)
            done = learner.progress
