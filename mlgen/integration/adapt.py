"""Adapt a VEGAS grid, and the share of the points that each channel gets."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.cards import VegasCard
from mlgen.core import Evaluation, Integrand, Progress, random_stream
from mlgen.errors import GenerationError
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.proposal import Proposal, draw
from mlgen.samplers.vegas import VegasGrid

MIN_SHARE = 0.1
"""This part of the points is spread over all channels evenly, so that none starves on bad luck."""


def adapt_grid(
    integrand: Integrand[Evaluation], card: VegasCard, seed: int, progress: Progress
) -> tuple[VegasGrid, Tensor, int]:
    """Refine a uniform grid in `card.n_iterations` rounds.

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
    n_calls = 0
    with progress.step("adapting VEGAS", card.n_iterations) as advance:
        for iteration in range(card.n_iterations):
            rng = random_stream(seed, "adapt", iteration)
            proposal = Proposal(sampler=grid, fractions=fractions)
            batch, evaluation = draw(integrand, proposal, card.n_points, rng)
            sums = ChannelSums.of(batch, n_channels)
            n_calls += evaluation.n_calls
            if sums.mean == 0:
                raise GenerationError(
                    f"none of {card.n_points} points passes the cuts: expected cuts that leave "
                    "phase space, or a larger vegas.n_points"
                )
            grid = grid.refined(grid.statistics(batch), card.damping)
            fractions = share_of_points(sums.root_mean_squares)
            advance(1, f"{sums.mean:.5g} ± {sums.error:.2g} pb")
    return grid, fractions, n_calls


def share_of_points(spread: Tensor) -> Tensor:
    """Fractions in proportion to the spread of each channel's weights, with a floor.

    In proportion to the standard deviation they would give the least variance of the integral; with
    the root mean square they come close, and do not starve a channel whose weights are alike.
    """
    return (1 - MIN_SHARE) * spread / spread.sum() + MIN_SHARE / len(spread)
