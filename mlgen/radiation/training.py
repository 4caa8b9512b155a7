"""Train a radiation network on the likelihood of events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.core import Progress, random_stream
from mlgen.errors import TrainingFailed
from mlgen.fitting import Batches, Best, TrainingRecord, check_finite, cosine_schedule
from mlgen.radiation.linear import VariationalLinear
from mlgen.radiation.model import SCALES, RadiationNetwork
from mlgen.radiation.representation import Particles
from mlgen.radiation.settings import NetworkSettings, TrainingSettings
from mlgen.radiation.variants import Truncated, Variant, start_variant
from mlgen.soap import AveragedSoap

CHECKS = 20
"""How often the validation loss is computed."""
WIDTHS_LEARN = 5.0
"""How much faster distributions of weights learn their widths, which have far to go, as logarithms."""
MIXTURES_LEARN = 0.2
"""And how much more slowly mixtures do, and by Adam: else their components all become one in the first steps."""
WHAT = "radiation"
TILE = 4096
"""Events whose validation loss is computed at once."""


def train(
    particles: Particles,
    network_settings: NetworkSettings,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
    scales: Sequence[float] = SCALES,
) -> tuple[RadiationNetwork, TrainingRecord]:
    """Maximise the likelihood of events, of each its first `n_max` jets.

    The learning rate rises, then falls as a cosine to zero. What is kept is a running mean of the
    parameters, where other events have their largest likelihood.

    Args:
        scales: (9,), of the representation that the particles have.

    Raises:
        TrainingFailed: there are too few events, or the loss is not finite.
    """
    started = time.process_time()
    variant = start_variant(settings.variant, settings.n_max)
    seen, validation = _split_off(first_jets(particles, settings.n_max), settings, seed)
    network = RadiationNetwork(network_settings, random_stream(seed, "start radiation", 0), scales)
    optimizer = AveragedSoap(network, _rates(network), network.mixtures.parameters())
    batches = Batches(len(seen), random_stream(seed, "train radiation", 0))
    rng = random_stream(seed, "renew radiation", 0)
    best, losses = Best(network, WHAT), list[float]()
    training, to_renew = seen, list(variant.renews_at)
    n_steps, done, batch_size = 0, 0.0, min(settings.batch_size, len(seen))
    total = max(1, round(settings.epochs(len(particles)) * len(seen) / batch_size))
    with progress.step(f"training radiation ({settings.variant})", 1.0) as advance:
        while done < 1:
            if to_renew and done >= to_renew[0]:
                to_renew.pop(0)
                training = variant.renew(network, seen, rng)
            until, before = min(1.0, (len(losses) + 1) / CHECKS), done
            network.train()
            with optimizer.stepping():
                while done < until:
                    index = batches.take(batch_size)
                    columns, n_jets = training.columns[index], training.n_jets[index]
                    loss = batch_loss(network, variant, columns, n_jets)
                    check_finite(float(loss.detach()), n_steps, WHAT)
                    loss = loss + network.divergence() / len(seen)
                    optimizer.step(loss, settings.learning_rate * cosine_schedule(done))
                    n_steps += 1
                    done = max(
                        n_steps / total, (time.process_time() - started) / settings.max_cpu_s
                    )
            network.eval()
            losses.append(_validation_loss(network, validation, settings.n_max))
            best.see(n_steps, losses[-1])
            advance(min(1.0, done) - before, f"loss {losses[-1]:.4f}")
        best.restore()
    return network, TrainingRecord(
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


def _rates(network: RadiationNetwork) -> dict[nn.Parameter, float]:
    """What learns faster or more slowly than the rest, so many times."""
    layers = [layer for layer in network.modules() if isinstance(layer, VariationalLinear)]
    rates = dict.fromkeys(network.mixtures.parameters(), MIXTURES_LEARN)
    return rates | {layer.log_std: WIDTHS_LEARN for layer in layers}


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
