"""Adapt a VEGAS grid, and the share of the points that each channel gets."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.cards import VegasCard
from mlgen.core import Evaluation, Integrand, Progress, random_stream
from mlgen.errors import GenerationError
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.proposal import Proposal, draw
from mlgen.samplers.vegas import GridStatistics, VegasGrid

MIN_SHARE = 0.1
"""This part of the points is spread over all channels evenly, so that none starves on bad luck."""
MIN_CHANNEL_SHARE = 0.001
"""Of many channels each gets this part of the points, as long as that is at most `MAX_EVEN_SHARE`."""
MAX_EVEN_SHARE = 0.25

MIN_POINTS = 500
"""A grid is refined on this many points at least: on fewer, it would follow their noise, and shut
regions out that are then missing from the estimate although its error looks small."""
NEGLIGIBLE = 0.001
"""The smallest channels that together have this part of the spread are not given those points."""


def adapt_grid(
    integrand: Integrand[Evaluation], card: VegasCard, seed: int, progress: Progress
) -> tuple[VegasGrid, Tensor, int]:
    """Refine a uniform grid in `card.n_iterations` rounds.

    A round has `card.n_points` points, or 2 `MIN_POINTS` for each channel that is not negligible,
    whichever is more: half of them at most are spent on seeing enough of every channel, and the
    others go where the weights spread most. A channel that got fewer than `MIN_POINTS`, since it is
    negligible, keeps its grid.

    Returns:
        grid: the adapted grid.
        fractions: (n_channels,), see `share_of_points`.
        n_calls: how many matrix elements were computed.

    Raises:
        GenerationError: no point passed the cuts.
    """
    n_channels = integrand.n_channels
    grid = VegasGrid.uniform(n_channels, integrand.n_dim, card.n_bins)
    fractions = torch.full((n_channels,), 1 / n_channels, dtype=torch.float64)
    n_points = max(card.n_points, 2 * MIN_POINTS * n_channels)
    n_calls = 0
    with progress.step("adapting VEGAS", card.n_iterations) as advance:
        for iteration in range(card.n_iterations):
            rng = random_stream(seed, "adapt", iteration)
            proposal = Proposal(sampler=grid, fractions=fractions)
            batch, evaluation = draw(integrand, proposal, n_points, rng)
            sums = ChannelSums.of(batch, n_channels)
            n_calls += evaluation.n_calls
            if sums.mean == 0:
                raise GenerationError(
                    f"none of {n_points} points passes the cuts: expected cuts that leave "
                    "phase space, or a larger vegas.n_points"
                )
            # Whole numbers of points are within 1 of what the fractions say.
            is_seen = sums.n_points >= MIN_POINTS - 1
            squares = grid.statistics(batch).squares * is_seen[:, None, None]
            grid = grid.refined(GridStatistics(squares=squares), card.damping)
            spread = sums.root_mean_squares
            matters = _matters(spread)
            n_points = max(card.n_points, 2 * MIN_POINTS * int(matters.sum()))
            fractions = _shares(spread, matters * MIN_POINTS / n_points)
            advance(1, f"{sums.mean:.5g} ± {sums.error:.2g} pb")
    return grid, share_of_points(spread), n_calls


def share_of_points(spread: Tensor) -> Tensor:
    """Fractions in proportion to the spread of each channel's weights, with a floor.

    In proportion to the standard deviation they would give the least variance of the integral; with
    the root mean square they come close, and do not starve a channel whose weights are alike.
    """
    return _shares(spread, torch.zeros_like(spread))


def _shares(spread: Tensor, at_least: Tensor) -> Tensor:
    """Fractions in proportion to the spread, on top of a floor for all and one for each."""
    n_channels = len(spread)
    even = min(max(MIN_SHARE, MIN_CHANNEL_SHARE * n_channels), MAX_EVEN_SHARE)
    floor = at_least.clamp(min=even / n_channels)
    return (1 - floor.sum()) * spread / spread.sum() + floor


def _matters(spread: Tensor) -> Tensor:
    """Which channels are not among the smallest that are negligible together: bool (n_channels,)."""
    ascending, order = spread.sort()
    matters = torch.empty_like(spread, dtype=torch.bool)
    matters[order] = ascending.cumsum(0) > NEGLIGIBLE * ascending.sum()
    return matters
