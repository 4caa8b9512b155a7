"""Fresh points: measure what a frozen proposal is worth, and make events from it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import Evaluation, EventBatch, Integrand, Progress, random_stream
from mlgen.errors import GenerationError
from mlgen.events.unweighting import (
    UnweightingEfficiency,
    accept,
    effective_sample_size,
    find_w_max_by_channel,
    overweight_excess,
    unweighting_efficiency,
)
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.picking import EventPicker
from mlgen.integration.proposal import Proposal, channel_weight, draw

_GENEROUS = 100
"""Generation gives up after this many times the points that the efficiency predicts."""

_MARGIN = 4.0
"""Standard deviations."""


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
    def unweighting_fractions(self) -> Tensor:
        """The share of the points of each channel for which its events come out right."""
        return self.w_max / self.w_max.sum()


def estimate(
    integrand: Integrand[Evaluation],
    proposal: Proposal,
    card: RunCard,
    title: str,
    progress: Progress,
) -> Estimate:
    """Measure cross section, w_max and efficiency on `card.n_estimate` fresh points.

    Raises:
        GenerationError: all points are outside the cuts.
    """
    sums = ChannelSums.empty(integrand.n_channels)
    weights, channels = [], []
    n_calls, done = 0, 0
    started = time.perf_counter()
    with progress.step(f"measuring {title}", card.n_estimate) as advance:
        for n, rng in estimate_chunks(card, title):
            batch, evaluation = draw(integrand, proposal, n, rng)
            sums += ChannelSums.of(batch, integrand.n_channels)
            weights.append(channel_weight(batch))
            channels.append(batch.channel)
            n_calls += evaluation.n_calls
            done += n
            advance(n, f"{sums.mean:.5g} ± {sums.error:.2g} pb")
    elapsed = time.perf_counter() - started
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A sample of events, and what its making says."""

    events: EventBatch
    sums: ChannelSums
    """Of all points of all chunks that were drawn."""
    overweight_fraction: float
    """The overweight excess realised on these fresh points."""
    n_points: int
    n_calls: int


def generate(
    integrand: ProcessIntegrand,
    proposal: Proposal,
    measured: Estimate,
    pick: EventPicker,
    card: RunCard,
    progress: Progress,
    title: str = "generating",
) -> Generated:
    """Draw chunks until `card.n_events` events are there; the first ones in chunk order are kept.

    How many chunks are drawn follows from the efficiency that was measured before, with a margin of
    four standard deviations: to stop when the events are there would favour chunks with large
    weights, and bias the cross section.

    Args:
        title: of the bar; it names the random streams too, so that samples of different titles
            are independent.
        proposal: its fractions are in proportion to w_max, unless the events are weighted.
        measured: of the same sampler: gives w_max, and how many points to expect.

    Raises:
        GenerationError: too many points gave too few events.
    """
    w_max = measured.w_max
    sums = ChannelSums.empty(integrand.n_channels)
    batches: list[EventBatch] = []
    ratios: list[Tensor] = []
    n_events, n_points, n_calls, chunk = 0, 0, 0, 0
    planned = _planned_chunks(card, measured)
    limit = card.max_points or _GENEROUS * planned * card.chunk_size
    with progress.step(title, card.n_events) as advance:
        while n_events < card.n_events or chunk < planned:
            if n_points >= limit:
                if n_events >= card.n_events:
                    break
                raise GenerationError(
                    f"{n_events} of {card.n_events} events after {n_points} points: expected more "
                    "from the efficiency that was measured; raise run.max_points or run.n_estimate"
                )
            rng = random_stream(card.seed, title, chunk)
            batch, evaluation = draw(integrand, proposal, card.chunk_size, rng)
            sums += ChannelSums.of(batch, integrand.n_channels)
            weight = channel_weight(batch)
            if card.weighted:
                mask = weight != 0
                u = (weight / batch.fraction)[mask]
            else:
                ratios.append(weight / w_max[batch.channel])
                mask, u = accept(weight, w_max[batch.channel], rng)
            batches.append(pick(evaluation.points.select(mask), u, rng))
            n_points += len(batch)
            n_calls += evaluation.n_calls
            chunk += 1
            kept = min(len(u), card.n_events - n_events)
            n_events += kept
            advance(kept, f"{n_points} points")
    events = EventBatch.concatenate(batches).select(slice(0, card.n_events))
    return Generated(
        events=events,
        sums=sums,
        overweight_fraction=overweight_excess(torch.cat(ratios), 1.0) if ratios else 0.0,
        n_points=n_points,
        n_calls=n_calls,
    )


def _planned_chunks(card: RunCard, measured: Estimate) -> int:
    """The chunks that hold the events with near certainty."""
    if card.weighted:
        kept = float((measured.weights != 0).double().mean())
        error = math.sqrt(kept * (1 - kept) / len(measured.weights))
    else:
        kept, error = measured.kept, measured.eps_uw.error
    # A tail that is hardly known has errors as large as the efficiency.
    kept = max(kept - _MARGIN * error, kept / 2)
    wanted = card.n_events + _MARGIN * math.sqrt(card.n_events)
    return math.ceil(wanted / (kept * card.chunk_size))
