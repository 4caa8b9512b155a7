"""madnis (arXiv:2212.06172, 2311.01548; release 1.0.0) in a comparison, as its documentation has it.

Network, spline and optimizer are its defaults; the flow starts from its VEGAS pre-training; samples are
buffered and trained on again; the learning rate has one cycle; channels get points by their variance;
the loss is the stratified variance. Its learned channel weights are off: mlgen's integrands hold
the share of their channel already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlgen.core import Progress, TrainingBatch, random_stream
from mlgen.diagnostics.compare_vegas import import_vegas
from mlgen.diagnostics.contenders import FreshPoints, Learned, Meter
from mlgen.errors import GenerationError, MissingExtra
from mlgen.integration.adapt import share_of_points
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.proposal import channel_weight, draw_channels

PRETRAINING_SHARE = 0.1
"""The part of the calls that goes into the VEGAS grid that the flow starts from."""
PRETRAINING_ITERATIONS = 7
PRETRAINING_BINS = 64
PRETRAINING_DAMPING = 0.7

BATCH_SIZE = 1024
BATCH_SIZE_PER_CHANNEL = 128
"""Of more than one channel."""
LEARNING_RATE = 3e-3
"""The largest of the one-cycle schedule."""
BUFFERED_STEPS = 4
"""Steps on buffered samples after each on fresh ones: four fifths, as MadGraph 7 has it."""
BUFFER_CAPACITY = 102_400
MIN_BUFFER_SIZE = 4096
UNIFORM_CHANNEL_RATIO = 0.1

N_SCALE = 1000
"""Uniform points a channel that tell the size of the integrand: the loss wants numbers near 1."""
DRAWN_AT_ONCE = 16_384


def import_madnis() -> Any:
    """Its integrator module.

    Raises:
        MissingExtra: it is not installed, or vegas, which it uses, is not.
    """
    try:
        from madnis import integrator
    except ImportError as error:
        raise MissingExtra(
            "madnis is not installed: pip install madnis==1.0.0, or leave it out of --samplers"
        ) from error
    import_vegas()
    return integrator


def learn_madnis(integrand: Meter, n_calls: int, seed: int, progress: Progress) -> Learned:
    """Pre-train and train madnis; see `mlgen.diagnostics.contenders.Learn`."""
    before = integrand.spent
    rng = random_stream(seed, "compare madnis", 0)

    def share() -> float:
        return (integrand.spent - before).n_calls / n_calls

    # madnis draws from torch's global generator.
    with torch.random.fork_rng(devices=[]), progress.step("training madnis", 1.0) as advance:
        torch.manual_seed(rng.initial_seed())
        function = _Function(integrand, _scale(integrand, rng), rng)
        integrator = _integrator(function, share)
        _pretrain(integrator, integrand, n_calls, rng)
        shown = share()
        advance(shown, "VEGAS grid")
        # A step on fresh samples is followed by those on buffered ones.
        while share() < 1 or integrator.step_type_count != 0:
            status = integrator.train_step()
            if (now := share()) > shown:
                advance(min(now, 1.0) - shown, f"loss {status.loss:.4f}")
                shown = now
    settings = _settings(integrator)

    def draw(n_points: int) -> FreshPoints:
        generator = random_stream(seed, "compare madnis", 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return _draw(integrator, function, n_points)

    return Learned(cost=integrand.spent - before, settings=settings, draw=draw)


@dataclass(frozen=True)
class _Function:
    """mlgen's integrand as madnis calls it."""

    integrand: Meter
    scale: float
    """Its values are divided by this."""
    rng: torch.Generator

    def __call__(self, x: Tensor, channel: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        value = self.value(x, channel).to(x.dtype)
        if channel is None:
            return value
        # The share of the channel, which madnis asks for, is in the value already.
        return value, x.new_ones((len(x), self.integrand.n_channels))

    def value(self, x: Tensor, channel: Tensor | None) -> Tensor:
        """The scaled integrand at x (n, n_dim): (n,), float64."""
        if channel is None:
            channel = torch.zeros(len(x), dtype=torch.int64)
        # In float32 madnis may land on the edge of the cube, or an ulp outside.
        r = x.detach().to(torch.float64).clamp(2.0**-25, 1 - 2.0**-25)
        return self.integrand.value(r, channel, self.rng) / self.scale


def _scale(integrand: Meter, rng: torch.Generator) -> float:
    """The size of the integral, roughly."""
    channel = torch.arange(integrand.n_channels).repeat_interleave(N_SCALE)
    r = torch.rand((len(channel), integrand.n_dim), generator=rng, dtype=torch.float64)
    scale = float(integrand.value(r, channel, rng).abs().sum()) / N_SCALE
    if scale == 0:
        raise GenerationError(f"none of {len(channel)} points passes the cuts")
    return scale


def _integrator(function: _Function, share: Callable[[], float]) -> Any:
    """madnis's integrator, whose learning rate falls with the share of the calls that is spent."""
    module = import_madnis()
    n_dim, n_channels = function.integrand.n_dim, function.integrand.n_channels
    several = n_channels > 1
    integrand = module.Integrand(
        function,
        input_dim=n_dim,
        channel_count=n_channels if several else None,
        has_channel_weight_prior=several,
    )

    def one_cycle(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _one_cycle(share()))

    return module.Integrator(
        integrand,
        train_channel_weights=False,
        loss=module.stratified_variance,
        batch_size=BATCH_SIZE,
        batch_size_per_channel=BATCH_SIZE_PER_CHANNEL if several else 0,
        learning_rate=LEARNING_RATE,
        scheduler=one_cycle,
        uniform_channel_ratio=UNIFORM_CHANNEL_RATIO,
        drop_zero_integrands=True,
        buffer_capacity=BUFFER_CAPACITY,
        minimum_buffer_size=MIN_BUFFER_SIZE,
        buffered_steps=BUFFERED_STEPS,
    )


def _one_cycle(share: float) -> float:
    """torch's OneCycleLR, by the share of the calls that is spent: up to 0.3, then down, as cosines."""
    first, last, peak = 1 / 25, 1 / 250_000, 0.3
    if share < peak:
        return first + (1 - first) * 0.5 * (1 - math.cos(math.pi * share / peak))
    fall = (min(share, 1.0) - peak) / (1 - peak)
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * fall))


def _pretrain(integrator: Any, integrand: Meter, n_calls: int, rng: torch.Generator) -> None:
    """Start the flow from a VEGAS grid."""
    untrained = {k: v.clone() for k, v in integrator.flow.state_dict().items()}
    grid = import_madnis().VegasPreTraining(
        integrator, bins=PRETRAINING_BINS, damping=PRETRAINING_DAMPING
    )
    grid.rng = np.random.default_rng(rng.initial_seed())
    n_points = PRETRAINING_SHARE * n_calls / (PRETRAINING_ITERATIONS * integrand.n_channels)
    grid.train([max(100, round(n_points))] * PRETRAINING_ITERATIONS)
    grid.initialize_integrator()
    # madnis 1.0.0 takes logarithms of negative numbers where bins are narrower than 0.001.
    if not all(bool(value.isfinite().all()) for value in integrator.flow.state_dict().values()):
        integrator.flow.load_state_dict(untrained)


def _draw(integrator: Any, function: _Function, n_points: int) -> FreshPoints:
    n_channels = function.integrand.n_channels
    fractions = _fractions(integrator, n_channels)
    sums = ChannelSums.empty(n_channels)
    batches = []
    for first in range(0, n_points, DRAWN_AT_ONCE):
        n = min(DRAWN_AT_ONCE, n_points - first)
        channel = draw_channels(fractions, n, function.rng)
        theirs = channel if n_channels > 1 else None
        with torch.no_grad():
            x, log_q = integrator.flow.sample(n, channel=theirs, return_log_prob=True)
        batch = TrainingBatch(
            r=x,
            channel=channel,
            value=function.value(x, theirs) * function.scale,
            log_q=log_q.to(torch.float64),
            fraction=fractions[channel],
        )
        sums += ChannelSums.of(batch, n_channels)
        batches.append(batch)
    return FreshPoints(
        cross_section=sums.mean,
        error=sums.error,
        n_points=n_points,
        weight=torch.cat([channel_weight(batch) for batch in batches]),
        channel=torch.cat([batch.channel for batch in batches]),
    )


def _fractions(integrator: Any, n_channels: int) -> Tensor:
    """The share of the points of each channel, from the last batches of training."""
    if n_channels == 1:
        return torch.ones(1, dtype=torch.float64)
    means, variances, counts = (part.to(torch.float64) for part in integrator.integration_history)
    squares = (counts * (means.square() + variances)).nan_to_num()
    return share_of_points((squares.sum(0) / counts.sum(0).clamp(min=1)).sqrt())


def _settings(integrator: Any) -> Mapping[str, str | float]:
    return {
        "batch_size": integrator.batch_size,
        "learning_rate": LEARNING_RATE,
        "scheduler": "one cycle",
        "loss": "stratified_variance",
        "buffered_steps": BUFFERED_STEPS,
        "buffer_capacity": BUFFER_CAPACITY,
        "uniform_channel_ratio": UNIFORM_CHANNEL_RATIO,
        "steps": integrator.step,
        "pre-training, part of the calls": PRETRAINING_SHARE,
    }
