"""Train a sampler on points that it draws itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlgen.cards import FlowCard
from mlgen.core import Evaluation, Integrand, Progress, TrainingBatch, random_stream
from mlgen.errors import GenerationError
from mlgen.integration.adapt import share_of_points
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.losses import renyi_divergence
from mlgen.integration.proposal import Proposal, draw
from mlgen.samplers.module import SamplerModule

BATCHES_PER_ROUND = 8
"""Optimizer steps between two draws: the points of a round are a little stale, and paid for once."""

WARM_UP = 0.05
"""The share of the steps in which the learning rate rises."""

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
    steps made on them. The order of the Rényi divergence that is minimised rises from that of the
    variance to `card.renyi_order`: large orders see only the tail, and want a good start.

    Args:
        fractions: (n_channels,), the share of the points of each channel to begin with.

    Raises:
        GenerationError: no point passes the cuts, or the loss is no longer finite.
    """
    optimizer = torch.optim.Adam(sampler.parameters(), lr=card.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _learning_rate(step / card.n_steps)
    )
    average = {name: value.clone() for name, value in sampler.state_dict().items()}
    losses: list[float] = []
    n_calls = 0
    sums = ChannelSums.empty(integrand.n_channels)
    with progress.step("training the flow", card.n_steps) as advance:
        while len(losses) < card.n_steps:
            rng = random_stream(seed, "train", len(losses))
            n = BATCHES_PER_ROUND * card.batch_size
            proposal = Proposal(sampler=sampler, fractions=fractions)
            batch, evaluation = draw(integrand, proposal, n, rng)
            if not bool(batch.value.any()):
                raise GenerationError(
                    f"none of {n} points passes the cuts: the sampler has drifted"
                )
            n_calls += evaluation.n_calls
            sums = _faded(sums, ChannelSums.of(batch, integrand.n_channels))
            fractions = share_of_points(sums.root_mean_squares)
            for part in _parts(batch)[: card.n_steps - len(losses)]:
                loss = _loss(sampler, part, _order(len(losses) / card.n_steps, card.renyi_order))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                torch.nn.utils.clip_grad_norm_(sampler.parameters(), MAX_GRADIENT_NORM)
                optimizer.step()
                schedule.step()
                _fade_into(average, sampler, max(1 - AVERAGING, 1 / (1 + len(losses))))
                losses.append(_finite(float(loss.detach()), len(losses)))
                advance(1, f"loss {losses[-1]:.4f}")
    sampler.load_state_dict(average)
    sampler.requires_grad_(False)
    return Training(fractions=fractions, losses=tuple(losses), n_calls=n_calls)


def training_gradient(sampler: SamplerModule, batch: TrainingBatch, card: FlowCard) -> None:
    """What an optimizer step costs, without the step: for timing."""
    loss = _loss(sampler, batch, card.renyi_order)
    torch.autograd.grad(loss, list(sampler.parameters()), allow_unused=True)


def _loss(sampler: SamplerModule, batch: TrainingBatch, order: float) -> Tensor:
    inside = (batch.value != 0).nonzero()[:, 0]
    log_prob = sampler.log_prob(batch.r[inside], batch.channel[inside])
    return renyi_divergence(
        batch, torch.zeros_like(batch.value).index_put((inside,), log_prob), order
    )


def _learning_rate(progress: float) -> float:
    """A linear start, then half a cosine down to zero."""
    return min(1.0, progress / WARM_UP + 0.01) * 0.5 * (1 + math.cos(math.pi * progress))


def _order(progress: float, last: float) -> float:
    first = min(last, 2.0)
    return first + (last - first) * progress


def _parts(batch: TrainingBatch) -> list[TrainingBatch]:
    """The points of a round, in random order as they come, in parts of which none is all zeros."""
    every = (torch.arange(k, len(batch), BATCHES_PER_ROUND) for k in range(BATCHES_PER_ROUND))
    return [part for part in map(batch.select, every) if bool(part.value.any())]


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise GenerationError(
            f"loss = {loss} at training step {step}: expected a finite number; "
            "a smaller flow.learning_rate or flow.renyi_order may help"
        )
    return loss


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
