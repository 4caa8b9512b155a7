"""Train a sampler on points that it draws itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlgen.cards import FlowCard
from mlgen.core import Evaluation, Integrand, Progress, TrainingBatch, random_stream
from mlgen.errors import GenerationError
from mlgen.integration.adapt import share_of_points
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.losses import LOSSES
from mlgen.integration.proposal import Proposal, draw
from mlgen.samplers.module import SamplerModule

BATCHES_PER_ROUND = 8
"""Optimizer steps between two draws: the points of a round are a little stale, and paid for once."""

MAX_GRADIENT_NORM = 5.0
AVERAGING = 0.995
"""Decay, per step, of the running mean of the weights that training returns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What training left behind, beside the sampler."""

    fractions: Tensor
    """(n_channels,), the share of the points that each channel should get."""
    losses: tuple[float, ...]
    """One for each optimizer step."""
    n_calls: int
    """Matrix elements computed."""


def train(
    sampler: SamplerModule,
    integrand: Integrand[Evaluation],
    fractions: Tensor,
    card: FlowCard,
    seed: int,
    progress: Progress,
) -> Training:
    """Fit a sampler to the integrand, in place; it comes back frozen.

    In rounds, points are drawn from the sampler as it is and evaluated once, and a few optimizer
    steps made on those that are not zero.

    Args:
        fractions: (n_channels,), the share of the points of each channel to begin with.
    """
    optimizer = torch.optim.Adam(sampler.parameters(), lr=card.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=card.learning_rate, total_steps=card.n_steps + 1, pct_start=0.1
    )
    average = {name: value.clone() for name, value in sampler.state_dict().items()}
    loss_of = LOSSES[card.loss]
    losses: list[float] = []
    n_calls = 0
    sums = ChannelSums.empty(integrand.n_channels)
    with progress.step("training the flow", card.n_steps) as advance:
        while len(losses) < card.n_steps:
            rng = random_stream(seed, "train", len(losses))
            n = BATCHES_PER_ROUND * card.batch_size
            proposal = Proposal(sampler=sampler, fractions=fractions)
            batch, evaluation = draw(integrand, proposal, n, rng)
            n_calls += evaluation.n_calls
            sums = _faded(sums, ChannelSums.of(batch, integrand.n_channels))
            fractions = share_of_points(sums.root_mean_squares)
            parts = _parts(batch)
            if not parts:
                raise GenerationError(
                    f"none of {n} points passes the cuts: the sampler has drifted"
                )
            for part in parts[: card.n_steps - len(losses)]:
                optimizer.zero_grad()
                loss = loss_of(part, sampler.log_prob(part.r, part.channel))
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                torch.nn.utils.clip_grad_norm_(sampler.parameters(), MAX_GRADIENT_NORM)
                optimizer.step()
                schedule.step()
                _fade_into(average, sampler, max(1 - AVERAGING, 1 / (1 + len(losses))))
                losses.append(float(loss.detach()))
                advance(1, f"loss {losses[-1]:.4f}")
    sampler.load_state_dict(average)
    sampler.requires_grad_(False)
    return Training(fractions=fractions, losses=tuple(losses), n_calls=n_calls)


def _parts(batch: TrainingBatch) -> list[TrainingBatch]:
    """The points that are not zero, in as many parts as a round has steps."""
    nonzero = batch.select(batch.value != 0)
    return [
        nonzero.select(torch.arange(k, len(nonzero), BATCHES_PER_ROUND))
        for k in range(min(BATCHES_PER_ROUND, len(nonzero)))
    ]


@torch.no_grad()
def _fade_into(average: dict[str, Tensor], sampler: SamplerModule, share: float) -> None:
    for name, parameter in sampler.named_parameters():
        average[name].lerp_(parameter, share)


def _faded(old: ChannelSums, new: ChannelSums) -> ChannelSums:
    """Sums that forget: the sampler that made the old ones has changed since."""
    half = replace(
        old, n_points=old.n_points / 2, total=old.total / 2, total_squares=old.total_squares / 2
    )
    return half + new
