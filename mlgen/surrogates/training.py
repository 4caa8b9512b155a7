"""Train networks on standardised features and targets."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.core import Progress, random_stream
from mlgen.fitting import Batches, Best, TrainingRecord, check_finite, cosine_schedule
from mlgen.soap import AveragedSoap
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.method import Trainee

CHECKS = 40
"""How often the validation loss is computed."""
BOOSTS_AT = (0.5, 0.75)
"""When badly described points are looked for."""
BADLY_DESCRIBED = 0.1
"""The part of the points, those with the largest standard deviations, that boosting repeats."""
TILE = 4096
"""Points that are evaluated at once."""
N_TIMED = 40
"""Optimizer steps that tell how long a training takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSet:
    """What a network sees, and what it is to say of it."""

    features: Tensor
    """(n, n_columns), float32."""
    target: Tensor
    """(n,), float32, standardised; or (n, n_targets)."""

    def __len__(self) -> int:
        return len(self.target)


def train(
    trainee: Trainee,
    training: TrainingSet,
    validation: TrainingSet,
    settings: SurrogateCard,
    seed: int,
    progress: Progress,
) -> TrainingRecord:
    """Minimise the loss of networks, and leave them with the parameters that do best on other points.

    The learning rate rises, then falls as a cosine to zero; batches may grow. With `boost`, points
    of large predicted standard deviation come more often from half of the training on (section 3 of
    arXiv:2206.14831).

    Raises:
        TrainingFailed: the loss is not finite.
    """
    started = time.process_time()
    optimizer = AveragedSoap(trainee)
    batches = Batches(len(training), random_stream(seed, "train surrogate", 0))
    best = Best(trainee, "the surrogate")
    losses: list[float] = []
    to_boost = list(BOOSTS_AT) if settings.boost > 0 else []
    n_steps, done = 0, 0.0
    with progress.step(trainee.title, 1.0) as advance:
        while done < 1:
            if to_boost and done >= to_boost[0]:
                to_boost.pop(0)
                batches.repeated = _boosted(trainee, training, settings.boost)
            until = min(1.0, (len(losses) + 1) / CHECKS)
            before = done
            with optimizer.stepping():
                while done < until:
                    index = batches.take(_batch_size(settings, done, len(training)))
                    loss = trainee.loss(
                        training.features[index], training.target[index], len(training)
                    )
                    check_finite(float(loss.detach()), n_steps, "the surrogate")
                    optimizer.step(loss, settings.learning_rate * cosine_schedule(done))
                    n_steps += 1
                    done = n_steps / settings.n_steps
                    if settings.max_cpu_s < math.inf:
                        spent = time.process_time() - started
                        done = max(done, spent / settings.max_cpu_s)
            losses.append(_validation_loss(trainee, validation))
            best.see(n_steps, losses[-1])
            advance(done - before, f"loss {losses[-1]:.3f}")
        best.restore()
    return TrainingRecord(
        n_training=len(training),
        n_steps=n_steps,
        cpu_s=time.process_time() - started,
        best_step=best.step,
        validation_losses=tuple(losses),
    )


def seconds_a_step(trainee: Trainee, batch: TrainingSet, learning_rate: float) -> float:
    """Wall-clock seconds that an optimizer step takes, from a few; the networks are spoilt."""
    optimizer = AveragedSoap(trainee)
    with optimizer.stepping():
        for n_done in range(N_TIMED):
            if n_done == N_TIMED // 2:  # the first steps allocate and fill caches
                started = time.perf_counter()
            loss = trainee.loss(batch.features, batch.target, len(batch))
            optimizer.step(loss, learning_rate)
    return (time.perf_counter() - started) / (N_TIMED - N_TIMED // 2)


def tiles(n: int) -> Iterator[slice]:
    """Parts of n points that are evaluated at once."""
    return (slice(start, start + TILE) for start in range(0, n, TILE))


def _validation_loss(trainee: Trainee, validation: TrainingSet) -> float:
    total = 0.0
    with torch.no_grad():
        for tile in tiles(len(validation)):
            total += float(trainee.errors(validation.features[tile], validation.target[tile]).sum())
    return total / len(validation)


def _boosted(trainee: Trainee, training: TrainingSet, boost: float) -> Tensor:
    """The indices of the worst points, each `boost` times."""
    with torch.no_grad():
        parts = [trainee.spread(training.features[tile]) for tile in tiles(len(training))]
    spread = torch.cat(parts)
    n_worst = max(1, round(BADLY_DESCRIBED * len(training)))
    worst = spread.topk(n_worst).indices
    return worst.repeat(math.ceil(boost))[: round(boost * n_worst)]


def _batch_size(settings: SurrogateCard, done: float, n_training: int) -> int:
    growth: float = settings.batch_growth**done
    return min(round(settings.batch_size * growth), n_training)
