"""How points are drawn: a frozen sampler, and the share of the points that each channel gets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlgen.core import ChannelWeights, EvaluationT, Integrand, Sampler, TrainingBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """The density that points come from: fractions[c] q(r | c)."""

    sampler: Sampler
    fractions: Tensor
    """(n_channels,), adding up to 1; a channel with 0 is never drawn."""


def draw_channels(fractions: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """n channels in random order, in numbers within 1 of n times their fractions.

    Systematic sampling: each channel's expected number is exact, and any part of the result
    that is chosen by position is a fair sample.
    """
    edges = fractions.cumsum(0) / fractions.sum()
    offset = torch.rand((), generator=rng, dtype=torch.float64)
    position = (torch.arange(n, dtype=torch.float64) + offset) / n
    channel = torch.searchsorted(edges, position, right=True)
    # Rounding may leave the last edge below 1; the last channel that is drawn ends there.
    channel = channel.clamp(max=int(fractions.nonzero()[-1]))
    return channel[torch.randperm(n, generator=rng)]


def draw(
    integrand: Integrand[EvaluationT], proposal: Proposal, n: int, rng: torch.Generator
) -> tuple[TrainingBatch, EvaluationT]:
    """Draw n points and evaluate the integrand at each."""
    channel = draw_channels(proposal.fractions, n, rng)
    with torch.no_grad():
        r, log_q = proposal.sampler.sample(channel, rng)
        flat = torch.rand((n, integrand.n_flat), generator=rng, dtype=torch.float64)
        evaluation = integrand(torch.cat([r, flat], dim=1), channel)
    batch = TrainingBatch(
        r=r,
        channel=channel,
        value=evaluation.value,
        log_q=log_q,
        fraction=proposal.fractions[channel],
    )
    if proposal.sampler.channel_weights is None:
        return batch, evaluation
    if evaluation.features is None:
        raise ValueError("learned channel weights need an integrand that shows features")
    with torch.no_grad():
        batch = replace(batch, features=evaluation.features)
        batch = with_shares(batch, proposal.sampler.channel_weights)
    return batch, replace(evaluation, value=batch.value)


def with_shares(batch: TrainingBatch, weights: ChannelWeights) -> TrainingBatch:
    """The points with the shares that these weights give to their channels."""
    inside = batch.value.nonzero()[:, 0]
    log_share = weights(batch.features[inside], batch.channel[inside])
    ratio = (log_share - batch.log_share[inside]).exp()
    return replace(
        batch,
        value=batch.value.index_put((inside,), batch.value[inside] * ratio),
        log_share=batch.log_share.index_put((inside,), log_share),
    )


def channel_weight(batch: TrainingBatch) -> Tensor:
    """value / q, whose mean over the points of a channel is the channel's integral: (n,)."""
    return batch.value * (-batch.log_q).exp()
