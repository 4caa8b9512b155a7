"""Fresh points measure what a frozen proposal is worth."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import Evaluation, Integrand, Progress, random_stream
from mlgen.errors import GenerationError
from mlgen.events.unweighting import (
    UnweightingEfficiency,
    effective_sample_size,
    find_w_max_by_channel,
    unweighting_efficiency,
)
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.learner import NO_CHECKPOINTS, Checkpoints
from mlgen.integration.proposal import Proposal, channel_weight, draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What fresh points say of a frozen proposal."""

    sums: ChannelSums
    weights: Tensor
    """(n,), pb: the weight of each point within its channel, zeros included."""
    channel: Tensor
    """(n,)."""
    w_max: Tensor
    """(n_channels,), pb."""
    eps_uw: UnweightingEfficiency
    ess: float
    overweight_on_fresh_points: float
    """The overweight excess on each half of the points, with w_max from the other half."""
    us_per_point: float
    """Wall-clock microseconds."""
    n_calls: int

    @property
    def kept(self) -> float:
        """The share of the points that unweighting keeps: that is eps_uw, but where signs cancel."""
        n_points = self.channel.bincount(minlength=len(self.w_max)).clamp(min=1)
        sizes = self.channel.bincount(self.weights.abs(), minlength=len(self.w_max)) / n_points
        return float(sizes.sum() / self.w_max.sum())

    @property
    def ess_of_sizes(self) -> float:
        """The effective sample size of |w|: that is `ess`, but where signs cancel."""
        n_points = self.channel.bincount(minlength=len(self.w_max))
        return effective_sample_size(self.weights.abs() / n_points[self.channel])

    @property
    def share_inside(self) -> tuple[float, float]:
        """The share of the points that have a weight, and its error."""
        share = float((self.weights != 0).double().mean())
        return share, math.sqrt(share * (1 - share) / len(self.weights))

    @property
    def unweighting_fractions(self) -> Tensor:
        """The share of the points of each channel for which its events come out right."""
        return self.w_max / self.w_max.sum()


def estimate(
    integrand: Integrand[Evaluation],
    proposal: Proposal,
    card: RunCard,
    title: str,
    progress: Progress,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> Estimate:
    """Measure cross section, w_max and efficiency on `card.n_estimate` fresh points.

    Args:
        checkpoints: keep the points, if that is wanted.

    Raises:
        GenerationError: all points are outside the cuts.
    """
    sums = ChannelSums.empty(integrand.n_channels)
    weights, channels = [], []
    n_calls, done = 0, 0
    elapsed = 0.0
    with progress.step(f"measuring {title}", card.n_estimate) as advance:
        for index, (n, rng) in enumerate(estimate_chunks(card, title)):
            started = time.perf_counter()
            batch, evaluation = draw(integrand, proposal, n, rng)
            elapsed += time.perf_counter() - started
            checkpoints.keep(f"estimate {title}", index, evaluation)
            sums += ChannelSums.of(batch, integrand.n_channels)
            weights.append(channel_weight(batch))
            channels.append(batch.channel)
            n_calls += evaluation.n_calls
            done += n
            advance(n, f"{sums.mean:.5g} ± {sums.error:.2g} pb")
    weight, channel = torch.cat(weights), torch.cat(channels)
    if not bool(weight.any()):
        raise GenerationError(
            f"none of {done} points passes the cuts: expected a larger run.n_estimate"
        )
    fractions = proposal.fractions
    budget = card.overweight_budget
    return Estimate(
        sums=sums,
        weights=weight,
        channel=channel,
        w_max=find_w_max_by_channel(weight, channel, integrand.n_channels, budget),
        eps_uw=unweighting_efficiency(
            weight, channel, budget, random_stream(card.seed, f"bootstrap {title}", 0)
        ),
        ess=effective_sample_size(weight / fractions[channel]),
        overweight_on_fresh_points=_overweight_on_fresh_points(weight, channel, fractions, budget),
        us_per_point=1e6 * elapsed / done,
        n_calls=n_calls,
    )


def estimate_chunks(card: RunCard, title: str) -> Iterator[tuple[int, torch.Generator]]:
    """How many points each chunk of an estimate has, and what they are drawn with."""
    for index, start in enumerate(range(0, card.n_estimate, card.chunk_size)):
        n = min(card.chunk_size, card.n_estimate - start)
        yield n, random_stream(card.seed, f"estimate {title}", index)


def _overweight_on_fresh_points(
    weight: Tensor, channel: Tensor, fractions: Tensor, budget: float
) -> float:
    """The overweight excess on points that w_max was not found on.

    Args:
        weight: (n,), pb, within its channel.
        fractions: (n_channels,), the share of the points that each channel had: divided by it, each
            channel counts with its cross section.
    """
    half = torch.arange(len(weight), device=weight.device) % 2 == 0
    fraction = fractions[channel]
    excess = 0.0
    for mine in (half, ~half):
        w_max = find_w_max_by_channel(weight[~mine], channel[~mine], len(fractions), budget)
        above = (weight[mine].abs() - w_max[channel[mine]]).clamp(min=0)
        excess += float((above / fraction[mine]).sum())
    return excess / float((weight.abs() / fraction).sum())
