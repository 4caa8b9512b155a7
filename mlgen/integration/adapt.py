"""Adapt a VEGAS grid, and the share of the points that each channel gets.

Adapting for a few events is not worth as many points as adapting for many: unless the card says how
many, a round takes a part of what the goal takes with the grid as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mlgen.cards import VegasCard
from mlgen.core import Evaluation, Integrand, Progress, TrainingBatch
from mlgen.errors import GenerationError
from mlgen.integration.candidates import Goal
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.learner import (
    NO_CHECKPOINTS,
    Checkpoints,
    Learner,
    LearnerState,
    teach,
)
from mlgen.integration.proposal import Proposal
from mlgen.integration.quality import efficiency_of, ess_of
from mlgen.samplers.vegas import GridStatistics, VegasGrid

MIN_SHARE = 0.1
"""This part of the points is spread over all channels evenly, so that none starves on bad luck."""
MIN_CHANNEL_SHARE = 0.001
"""Of many channels each gets this part of the points, as long as that is at most `MAX_EVEN_SHARE`."""
MAX_EVEN_SHARE = 0.25

MIN_POINTS = 500
"""A grid is refined on this many points at least: on fewer, it would follow their noise, and shut
regions out that are then missing from the estimate although its error looks small."""
FEWEST, USUAL = 10_000, 50_000
"""Points of a round where the card leaves that open: the least, and the most, which is also what a goal
without a number of points gets."""
SHARE_OF_GOAL = 0.1
"""Points of a round, in units of those that the goal takes."""

NEGLIGIBLE = 0.001
"""The smallest channels that together have this part of the spread are not given those points."""

ROUNDS_AFTER_DROPPING = 3
"""In which the channels that stay learn what they take over."""


class GridLearner(Learner):
    """Refines a uniform grid in `card.n_iterations` rounds.

    A round has `card.n_points` points, or 2 `MIN_POINTS` for each channel that is not negligible,
    whichever is more: half of them at most are spent on seeing enough of every channel, and the
    others go where the weights spread most. A channel that got fewer than `MIN_POINTS`, since it is
    negligible, keeps its grid.
    """

    purpose = "adapt"
    title = "adapting VEGAS"

    def __init__(
        self,
        n_channels: int,
        n_dim: int,
        card: VegasCard,
        goal: Goal | None = None,
        budget: float = 0.001,
    ) -> None:
        """Begin with a uniform grid.

        Args:
            goal: what the grid is wanted for, None where that is open.
            budget: t, the overweight budget that it is judged by.
        """
        self.grid = VegasGrid.uniform(n_channels, n_dim, card.n_bins)
        self._goal, self._budget = goal, budget
        self.n_points_to_goal: float | None = None
        """How many points the goal would take with the grid that drew the last round."""
        self._card = card
        self._n_rounds = 0
        self._matters = torch.ones(n_channels, dtype=torch.bool)
        self._spread = torch.ones(n_channels, dtype=torch.float64)
        self._is_drawn = torch.ones(n_channels, dtype=torch.bool)
        self.integrals = torch.zeros(n_channels, dtype=torch.float64)
        """(n_channels,), by the points of the last round."""

    def without(self, channels: Sequence[int]) -> GridLearner:
        """A learner that goes on from this one for some rounds, and draws no points in these channels."""
        card = replace(self._card, n_iterations=ROUNDS_AFTER_DROPPING)
        shape = self.grid.n_channels, self.grid.n_dim
        fewer = GridLearner(*shape, card, self._goal, self._budget)
        fewer.purpose, fewer.title = "adapt_again", "adapting VEGAS to fewer channels"
        fewer.grid, fewer.n_points_to_goal = self.grid, self.n_points_to_goal
        fewer._is_drawn[list(channels)] = False
        fewer._spread = self._spread * fewer._is_drawn
        fewer._matters = _matters(fewer._spread)
        return fewer

    @property
    def n_rounds(self) -> int:
        return self._n_rounds

    @property
    def progress(self) -> float:
        return self._n_rounds / self._card.n_iterations

    @property
    def n_points(self) -> int:
        return max(self._n_points_of_round(), 2 * MIN_POINTS * int(self._matters.sum()))

    @property
    def n_points_left(self) -> int:
        """How many points the rounds to come want, if they are like the next one."""
        return self.n_points * (self._card.n_iterations - self._n_rounds)

    @property
    def proposal(self) -> Proposal:
        at_least = self._matters * MIN_POINTS / self.n_points
        fractions = _shares(self._spread, at_least, self._is_drawn)
        return Proposal(sampler=self.grid, fractions=fractions)

    @property
    def fractions(self) -> Tensor:
        """(n_channels,), see `share_of_points`."""
        return share_of_points(self._spread, self._is_drawn)

    def lost(self, n_points: int) -> GenerationError:
        return GenerationError(
            f"none of {n_points} points passes the cuts: expected cuts that leave phase space, or a "
            "larger vegas.n_points"
        )

    def learn(self, batch: TrainingBatch) -> str:
        sums = ChannelSums.of(batch, self.grid.n_channels)
        # Whole numbers of points are within 1 of what the fractions say.
        is_seen = sums.n_points >= MIN_POINTS - 1
        squares = self.grid.statistics(batch).squares * is_seen[:, None, None]
        self.grid = self.grid.refined(GridStatistics(squares=squares), self._card.damping)
        if self._goal is not None:
            eps_uw = efficiency_of(batch, self.grid.n_channels, self._budget)
            self.n_points_to_goal = self._goal.n_points(eps_uw, ess_of(batch))
        self.integrals, self._spread = sums.means, sums.root_mean_squares
        self._matters = _matters(self._spread)
        self._n_rounds += 1
        return f"{sums.mean:.5g} ± {sums.error:.2g} pb"

    def _n_points_of_round(self) -> int:
        if self._card.n_points:
            return self._card.n_points
        if self._goal is None or self._goal.amount is None:
            return USUAL
        if self.n_points_to_goal is None:
            return FEWEST
        return int(min(max(FEWEST, SHARE_OF_GOAL * self.n_points_to_goal), USUAL))

    def state(self) -> LearnerState:
        return LearnerState(
            tensors={
                "edges": self.grid.edges,
                "spread": self._spread,
                "integrals": self.integrals,
            },
            numbers={"n_rounds": self._n_rounds, "n_points_to_goal": self.n_points_to_goal or 0.0},
        )

    def restore(self, state: LearnerState) -> None:
        self.grid = VegasGrid(state.tensors["edges"])
        self._spread, self.integrals = state.tensors["spread"], state.tensors["integrals"]
        self._matters = _matters(self._spread)
        self._n_rounds = int(state.numbers["n_rounds"])
        self.n_points_to_goal = state.numbers["n_points_to_goal"] or None


def adapt_grid(
    integrand: Integrand[Evaluation],
    card: VegasCard,
    seed: int,
    progress: Progress,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> tuple[VegasGrid, Tensor, int]:
    """Adapt a grid to an integrand.

    Returns:
        grid: the adapted grid.
        fractions: (n_channels,), see `share_of_points`.
        n_calls: how many matrix elements were computed.

    Raises:
        GenerationError: no point passed the cuts.
    """
    learner = GridLearner(integrand.n_channels, integrand.n_dim, card)
    teach(learner, integrand, seed, progress, checkpoints)
    return learner.grid, learner.fractions, learner.n_calls


def share_of_points(spread: Tensor, is_drawn: Tensor | None = None) -> Tensor:
    """Fractions in proportion to the spread of each channel's weights, with a floor.

    In proportion to the standard deviation they would give the least variance of the integral; with
    the root mean square they come close, and do not starve a channel whose weights are alike.

    Args:
        spread: (n_channels,).
        is_drawn: bool (n_channels,), the others get nothing; None: all.
    """
    is_drawn = torch.ones_like(spread, dtype=torch.bool) if is_drawn is None else is_drawn
    return _shares(spread, torch.zeros_like(spread), is_drawn)


def _shares(spread: Tensor, at_least: Tensor, is_drawn: Tensor) -> Tensor:
    """Fractions in proportion to the spread, on top of a floor for all that are drawn and one for each."""
    n_drawn = int(is_drawn.sum())
    even = min(max(MIN_SHARE, MIN_CHANNEL_SHARE * n_drawn), MAX_EVEN_SHARE)
    floor = at_least.clamp(min=even / n_drawn) * is_drawn
    return (1 - floor.sum()) * spread / spread.sum() + floor


def _matters(spread: Tensor) -> Tensor:
    """Which channels are not among the smallest that are negligible together: bool (n_channels,)."""
    ascending, order = spread.sort()
    matters = torch.empty_like(spread, dtype=torch.bool)
    matters[order] = ascending.cumsum(0) > NEGLIGIBLE * ascending.sum()
    return matters
