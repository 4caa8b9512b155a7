"""Train a radiation network on the likelihood of events."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mlgen.core import Progress, random_stream
from mlgen.errors import TrainingFailed
from mlgen.radiation.linear import Linear, VariationalLinear
from mlgen.radiation.model import SCALES, RadiationNetwork
from mlgen.radiation.representation import Particles
from mlgen.radiation.settings import NetworkSettings, TrainingSettings
from mlgen.radiation.variants import Truncated, Variant, start_variant

WARM_UP = 0.05
"""The share of the training in which the learning rate rises."""
CHECKS = 20
"""How often the validation loss is computed."""
BETAS = (0.9, 0.98)
WIDTHS_LEARN = 5.0
"""How much faster distributions of weights learn their widths, which have far to go, as logarithms."""
MAX_GRADIENT_NORM = 2.0
AVERAGING = 0.005
"""The share of a step in the running mean of the parameters."""
FIRST_SHARES = 5
"""Before, step n has the share 5 / (n + 4): the mean forgets where it came from."""
TILE = 4096
"""Events whose validation loss is computed at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """How a training went."""

    n_training: int
    n_steps: int
    cpu_s: float
    best_step: int
    """After which the validation loss was least: what is kept."""
    validation_losses: tuple[float, ...]
    """Each some steps after the one before: -ln p of an event's first n_max jets, in columns."""


def train(
    particles: Particles,
    network_settings: NetworkSettings,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
    scales: Sequence[float] = SCALES,
) -> tuple[RadiationNetwork, TrainingRecord]:
    """Maximise the likelihood of events, of each its first `n_max` jets.

    AdamW (arXiv:1711.05101); the learning rate rises, then falls as a cosine to zero. What is kept is a
    running mean of the parameters, where other events have their largest likelihood.

    Args:
        scales: (7,), of the representation that the particles have.

    Raises:
        TrainingFailed: there are too few events, or the loss is not finite.
    """
    started = time.process_time()
    variant = start_variant(settings.variant, settings.n_max)
    seen, validation = _split_off(first_jets(particles, settings.n_max), settings, seed)
    network = RadiationNetwork(network_settings, random_stream(seed, "start radiation", 0), scales)
    steps = _Steps(network, settings)
    batches = _Batches(len(seen), settings.batch_size, random_stream(seed, "train radiation", 0))
    rng = random_stream(seed, "renew radiation", 0)
    best, losses = _Best(), list[float]()
    training, to_renew = seen, list(variant.renews_at)
    n_steps, done = 0, 0.0
    total = max(1, round(settings.epochs(len(particles)) * len(seen) / batches.size))
    with progress.step(f"training radiation ({settings.variant})", 1.0) as advance:
        while done < 1:
            if to_renew and done >= to_renew[0]:
                to_renew.pop(0)
                training = variant.renew(steps.averaged(), seen, rng)
            until, before = min(1.0, (len(losses) + 1) / CHECKS), done
            while done < until:
                index = batches.take()
                loss = batch_loss(network, variant, training.columns[index], training.n_jets[index])
                check_finite(float(loss.detach()), n_steps)
                steps.step(loss + network.divergence() / len(seen), done)
                n_steps += 1
                done = max(n_steps / total, (time.process_time() - started) / settings.max_cpu_s)
            losses.append(_validation_loss(steps.averaged(), validation, settings.n_max))
            best.see(steps.averaged(), n_steps, losses[-1])
            advance(min(1.0, done) - before, f"loss {losses[-1]:.4f}")
    return RadiationNetwork.restore(network_settings, best.state), TrainingRecord(
        n_training=len(seen),
        n_steps=n_steps,
        cpu_s=time.process_time() - started,
        best_step=best.step,
        validation_losses=tuple(losses),
    )


def first_jets(particles: Particles, n_max: int) -> Particles:
    """The events with their first n_max jets alone."""
    columns, n_jets = particles.columns[:, : 1 + n_max], particles.n_jets.clamp(max=n_max)
    return replace(particles, columns=columns, n_jets=n_jets)


def batch_loss(
    network: RadiationNetwork, variant: Variant, columns: Tensor, n_jets: Tensor
) -> Tensor:
    """The mean of -ln p over events (n, n_rows, 4) with n_jets (n,), its splitting terms those of a variant."""
    terms = network(columns, n_jets)
    target, weight = variant.splitting(network, columns, n_jets)
    entropy = F.binary_cross_entropy_with_logits(
        terms.split, target, weight=weight, reduction="none"
    )
    loss: Tensor = (entropy.sum() - terms.log_kin.sum()) / len(n_jets)
    return loss


def check_finite(loss: float, step: int) -> None:
    """Stop where there is nothing to descend.

    Raises:
        TrainingFailed: the loss is not finite.
    """
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"loss = {loss} at training step {step} of radiation: expected a finite number; "
            "a smaller learning rate may help"
        )


class _Steps:
    """AdamW with clipped gradients, and a running mean of what it learns."""

    def __init__(self, network: RadiationNetwork, settings: TrainingSettings) -> None:
        self._network = network
        self._optimizer = torch.optim.AdamW(_groups(network, settings), betas=BETAS)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        state = {name: tensor.clone() for name, tensor in network.state().items()}
        self._averaged = RadiationNetwork.restore(network.settings, state)
        self._n_steps = 0

    def step(self, loss: Tensor, done: float) -> None:
        """Go against the gradient of the loss."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * _schedule(done)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._n_steps += 1
        share = max(AVERAGING, FIRST_SHARES / (self._n_steps + FIRST_SHARES - 1))
        pairs = zip(self._averaged.parameters(), self._network.parameters(), strict=True)
        with torch.no_grad():
            for mean, latest in pairs:
                mean.lerp_(latest, share)

    def averaged(self) -> RadiationNetwork:
        """The network with the running mean; later steps change it."""
        return self._averaged


def _groups(network: RadiationNetwork, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Which parameters decay, and how fast each learns.

    Where weights have a distribution, their prior is in the loss, and nothing decays.
    """
    layers = [module for module in network.modules() if isinstance(module, Linear)]
    widths = [layer.log_std for layer in layers if isinstance(layer, VariationalLinear)]
    decaying = [x.weight for x in layers if not isinstance(x, VariationalLinear)]
    apart = {id(parameter) for parameter in widths + decaying}
    others = [parameter for parameter in network.parameters() if id(parameter) not in apart]
    rate = settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": decaying, "lr": rate, "weight_decay": settings.weight_decay},
        {"params": others, "lr": rate, "weight_decay": 0.0},
        {"params": widths, "lr": WIDTHS_LEARN * rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class _Batches:
    """Indices of events in random order, each once before any comes again."""

    def __init__(self, n_events: int, size: int, rng: torch.Generator) -> None:
        self._n_events, self._rng = n_events, rng
        self.size = min(size, n_events)
        self._order = torch.empty(0, dtype=torch.int64)

    def take(self) -> Tensor:
        if len(self._order) < self.size:
            self._order = torch.randperm(self._n_events, generator=self._rng)
        index, self._order = self._order[: self.size], self._order[self.size :]
        return index


class _Best:
    """The parameters with the least validation loss so far."""

    def __init__(self) -> None:
        self._loss = math.inf
        self.state: dict[str, Tensor] = {}
        self.step = 0

    def see(self, network: RadiationNetwork, step: int, loss: float) -> None:
        check_finite(loss, step)
        if loss < self._loss:
            self._loss, self.step = loss, step
            self.state = {name: tensor.clone() for name, tensor in network.state().items()}


def _split_off(
    particles: Particles, settings: TrainingSettings, seed: int
) -> tuple[Particles, Particles]:
    """Events to learn from, and others to validate with; both in single precision."""
    n = len(particles)
    n_validation = round(settings.validation_share * n)
    if n_validation < 1 or n - n_validation < 1:
        raise TrainingFailed(f"events = {n}: expected some to learn from and some to validate with")
    rng = random_stream(seed, "split events", 0)
    order = torch.randperm(n, generator=rng)
    learned = order[n_validation:]
    if settings.n_members > 1:
        learned = learned[torch.randint(len(learned), (len(learned),), generator=rng)]
    single = replace(particles, columns=particles.columns.float())
    return single.select(learned), single.select(order[:n_validation])


@torch.no_grad()
def _validation_loss(network: RadiationNetwork, validation: Particles, n_max: int) -> float:
    """What all variants want to be small: that of the jets that are seen."""
    known, total = Truncated(n_max), 0.0
    for index in torch.split(torch.arange(len(validation)), TILE):
        tile = validation.select(index)
        total += len(index) * float(batch_loss(network, known, tile.columns, tile.n_jets))
    return total / len(validation)


def _schedule(done: float) -> float:
    """A linear start, then a cosine down to zero."""
    rise = min(1.0, done / WARM_UP + 0.01)
    fall = max(0.0, done - WARM_UP) / (1 - WARM_UP)
    return rise * 0.5 * (1 + math.cos(math.pi * fall))
