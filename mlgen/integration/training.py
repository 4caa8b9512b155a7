"""Train a sampler on points that it draws itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from mlgen.cards import FlowCard
from mlgen.core import TrainingBatch, random_stream
from mlgen.errors import GenerationError, TrainingFailed
from mlgen.integration.adapt import share_of_points
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.learner import Learner, LearnerState
from mlgen.integration.losses import best_fractions, objective, renyi_divergence, visible_order
from mlgen.integration.optimizer import AveragedAdam
from mlgen.integration.proposal import Proposal, channel_weight, with_shares
from mlgen.integration.quality import efficiency_of
from mlgen.integration.replay import Replay, random_parts
from mlgen.samplers.module import SamplerModule

STEPS_PER_ROUND = 16
"""Optimizer steps between two draws."""
WATCHED_ROUNDS = 8
"""Efficiencies are of the points of so many rounds: of one alone they would fluctuate too much."""

WARM_UP = 0.05
"""The share of the training in which the learning rate rises."""
DECAY_FROM = 0.5
"""From here on the learning rate falls."""

COLLAPSED = 0.1
"""A sampler has collapsed where eps_uw falls below this part of what it was at first."""

VISIBLE = 0.02
"""The order of the divergence stays where this part of the points, effectively, carries its moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What training left behind, beside the sampler."""

    fractions: Tensor
    """(n_channels,), the share of the points that each channel should get."""
    losses: tuple[float, ...]
    """One for each optimizer step."""
    efficiencies: tuple[float, ...]
    """Of each round: eps_uw of the last rounds' points before they were trained on."""
    orders: tuple[float, ...]
    """Of each round: the order of the divergence that was minimised."""


class SamplerLearner(Learner):
    """Fits a sampler to the integrand, in place.

    In rounds, points are drawn from the sampler, with the running mean of its parameters, and evaluated
    once, and optimizer steps made on them and on those of the rounds before. The order of the Rényi
    divergence that is minimised rises from that of the variance to `card.renyi_order`: large orders
    see only the tail, and want a good start.
    """

    purpose = "train"
    title = "training the flow"

    def __init__(
        self, sampler: SamplerModule, fractions: Tensor, card: FlowCard, seed: int, budget: float
    ) -> None:
        """Begin to train.

        Args:
            fractions: (n_channels,), the share of the points of each channel to begin with; one with 0
                stays so.
            seed: of the order in which points are used again.
            budget: t, the overweight budget that progress is judged by.
        """
        self.sampler, self._card, self._seed = sampler, card, seed
        self._objective = objective(card)
        self._fractions = self._target = fractions
        self._sums = ChannelSums.empty(sampler.n_channels)
        self._n_kept = _in_proportion(card.kept_rounds, card)
        self._patience = _in_proportion(card.patience, card)
        self._replay = Replay(max(self._n_kept, WATCHED_ROUNDS))
        self._budget = budget
        self._optimizer = AveragedAdam(sampler)
        self.losses: list[float] = []
        self.orders: list[float] = []
        self.efficiencies: list[float] = []
        self._progress = 0.0
        self._progress_per_step = 1 / card.n_steps

    @property
    def n_rounds(self) -> int:
        return len(self.efficiencies)

    @property
    def n_points(self) -> int:
        return math.ceil(STEPS_PER_ROUND * self._card.batch_size / self._card.reuse)

    @property
    def progress(self) -> float:
        return self._progress

    @property
    def n_steps_before_watched(self) -> float:
        """Steps that came before the points were drawn that efficiencies are of, on average."""
        n_watched = min(self.n_rounds, WATCHED_ROUNDS)
        return STEPS_PER_ROUND * (self.n_rounds - (n_watched + 1) / 2)

    @property
    def proposal(self) -> Proposal:
        return Proposal(sampler=self.sampler, fractions=self._fractions)

    def learn(self, batch: TrainingBatch) -> str:
        self._replay.add(batch)
        self._watch(batch)
        self._judge()
        rng = random_stream(self._seed, "replay", self.n_rounds)
        n_left = math.ceil((1 - self._progress) / self._progress_per_step - 1e-6)
        is_online = self._progress + self._progress_per_step / 2 < 1 - self._card.offline
        n_steps = min(STEPS_PER_ROUND, n_left) if is_online else n_left
        with self._optimizer.stepping():
            kept = self._replay.last(self._n_kept)
            for part in random_parts(kept, n_steps, self._card.batch_size, rng):
                self._step(part)
        return f"eps_uw {self.efficiencies[-1]:.3f}, loss {self.losses[-1]:.4f}"

    def finish(self) -> Training:
        """Freeze the sampler."""
        self.sampler.requires_grad_(False)
        return Training(
            fractions=self._fractions,
            losses=tuple(self.losses),
            efficiencies=tuple(self.efficiencies),
            orders=tuple(self.orders),
        )

    def lost(self, n_points: int) -> GenerationError:
        return TrainingFailed(f"none of {n_points} points passes the cuts: the sampler has drifted")

    def state(self) -> LearnerState:
        tensors = {f"adam.{name}": value for name, value in self._optimizer.state().items()}
        tensors |= {f"replay.{name}": value for name, value in self._replay.tensors().items()}
        tensors |= {f"sums.{f.name}": getattr(self._sums, f.name) for f in fields(self._sums)}
        tensors |= {"fractions": self._fractions, "target": self._target}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        tensors["orders"] = torch.tensor(self.orders, dtype=torch.float64)
        tensors["efficiencies"] = torch.tensor(self.efficiencies, dtype=torch.float64)
        return LearnerState(
            tensors=tensors,
            numbers={"progress": self._progress, "progress_per_step": self._progress_per_step},
        )

    def restore(self, state: LearnerState) -> None:
        self._optimizer.restore(_under("adam.", state.tensors))
        self._replay.restore(_under("replay.", state.tensors))
        self._sums = ChannelSums(**_under("sums.", state.tensors))
        self._fractions, self._target = state.tensors["fractions"], state.tensors["target"]
        self.losses = state.tensors["losses"].tolist()
        self.orders = state.tensors["orders"].tolist()
        self.efficiencies = state.tensors["efficiencies"].tolist()
        self._progress = state.numbers["progress"]
        self._progress_per_step = state.numbers["progress_per_step"]

    def _watch(self, batch: TrainingBatch) -> None:
        """Judge the sampler by points that are still held out, and share out the next ones."""
        n_channels, is_drawn = self.sampler.n_channels, self._fractions > 0
        self._sums = _faded(self._sums, ChannelSums.of(batch, n_channels))
        self._fractions = share_of_points(self._sums.root_mean_squares, is_drawn)
        seen = self._replay.last(WATCHED_ROUNDS)
        visible = visible_order(channel_weight(seen) / self._target[seen.channel], VISIBLE)
        self.orders.append(min(visible, self._objective.order(self._progress)))
        self.efficiencies.append(efficiency_of(seen, n_channels, self._budget))
        if self._objective.stratified:
            weight, order = channel_weight(batch), self.orders[-1]
            best = best_fractions(weight, batch.channel, n_channels, order)
            self._target = share_of_points((self._target + best) / 2, is_drawn)
        else:
            self._target = self._fractions

    def _judge(self) -> None:
        """Stop a sampler that has collapsed, and bring one to its end that learns no more."""
        before, now = self.efficiencies[0], self.efficiencies[-1]
        if now < COLLAPSED * before:
            raise TrainingFailed(
                f"eps_uw fell from {before:.3g} to {now:.3g} in {len(self.losses)} steps: the sampler "
                "has collapsed; a smaller flow.learning_rate may help"
            )
        if self._has_stalled():
            # What is left is the part in which the learning rate falls, in proportion.
            self._progress_per_step = DECAY_FROM / len(self.losses)
            self._progress = DECAY_FROM

    def _has_stalled(self) -> bool:
        """Whether the last rounds were no better than the best one before."""
        patience = self._patience
        if not 0 < patience < self.n_rounds or self._progress >= DECAY_FROM:
            return False
        return max(self.efficiencies[-patience:]) <= max(self.efficiencies[:-patience])

    def _step(self, part: TrainingBatch) -> None:
        loss = loss_of(self.sampler, part, self.orders[-1], self._target)
        rate = self._card.learning_rate * _learning_rate(self._progress)
        self._optimizer.step(loss, rate)
        self.losses.append(_finite(float(loss.detach()), len(self.losses)))
        self._progress += self._progress_per_step
        if self._progress > 1 - self._progress_per_step / 2:
            self._progress = 1.0


def loss_of(sampler: SamplerModule, batch: TrainingBatch, order: float, target: Tensor) -> Tensor:
    """The divergence of a batch, computed where the integrand is not 0.

    Args:
        target: (n_channels,), the fractions of the channels.
    """
    if sampler.channel_weights is not None:
        batch = with_shares(batch, sampler.channel_weights)
    inside = (batch.value != 0).nonzero()[:, 0]
    log_prob = sampler.log_prob(batch.r[inside], batch.channel[inside])
    spread = torch.zeros_like(batch.value).index_put((inside,), log_prob.to(batch.value.dtype))
    return renyi_divergence(batch, spread, order, target[batch.channel])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin like this, named by the rest."""
    return {
        name.removeprefix(prefix): tensor.clone()
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _in_proportion(n_rounds: int, card: FlowCard) -> int:
    """As many rounds as hold the points that so many have where each is used four times."""
    return math.ceil(n_rounds * max(1.0, card.reuse / 4))


def _learning_rate(progress: float) -> float:
    """A linear start, a plateau, then half a cosine down to zero."""
    rise = min(1.0, progress / WARM_UP + 0.01)
    fall = max(0.0, progress - DECAY_FROM) / (1 - DECAY_FROM)
    return rise * 0.5 * (1 + math.cos(math.pi * fall))


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"loss = {loss} at training step {step}: expected a finite number; "
            "a smaller flow.learning_rate or flow.renyi_order may help"
        )
    return loss


def _faded(old: ChannelSums, new: ChannelSums) -> ChannelSums:
    """Sums that forget: the sampler that made the old ones has changed since."""
    half = replace(
        old, n_points=old.n_points / 2, total=old.total / 2, total_squares=old.total_squares / 2
    )
    return half + new
