"""mlgen's own samplers in a comparison: adapted and trained as in a run, with the card's settings.

The card's numbers of points are scaled to the number of calls; everything else stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch

from mlgen.cards import Card, VegasCard
from mlgen.core import Progress, TrainingBatch, random_stream
from mlgen.diagnostics.contenders import NO_COST, FreshPoints, Learned, Meter
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.adapt import USUAL
from mlgen.integration.aids import Aids
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.integrator import VEGAS, integrate
from mlgen.integration.proposal import Proposal, channel_weight, draw

PILOT_SHARE = 0.1
"""A pilot of this part of the points finds out how many points of a grid pass the cuts."""
MEASURED_IN_LEARNING = 16_384
"""Points on which the integrator measures what it made: of no use here, and not counted."""


def learn_mlgen(
    sampler: str, card: Card, integrand: Meter, n_calls: int, seed: int, progress: Progress
) -> Learned:
    """A registered sampler of mlgen, made by the integrator; see `mlgen.diagnostics.contenders.Learn`.

    Args:
        sampler: as `run.sampler` names it.
        card: gives the settings.
    """
    run = replace(card.run, sampler=sampler, seed=seed, n_estimate=MEASURED_IN_LEARNING)
    planned = _planned(replace(card, run=run), integrand, n_calls)
    clock = _CostClock(integrand)
    integration = integrate(integrand, planned, Aids(progress=progress, clock=clock))

    def draw_points(n_points: int) -> FreshPoints:
        return _draw(integrand, integration.chosen.proposal, planned, n_points)

    return Learned(
        cost=clock.costs["adapt"] + clock.costs["train"],
        settings=_settings(planned),
        draw=draw_points,
        notes=integration.warnings,
    )


def _planned(card: Card, integrand: Meter, n_calls: int) -> Card:
    """The card with its points scaled, so that as many as `n_calls` of them pass the cuts.

    Points that pass become more while a grid adapts: a pilot tells how many do.
    """
    vegas, flow = _with_points(card.vegas, card.vegas.n_points or USUAL), card.flow
    is_grid = card.run.sampler == VEGAS
    n_flow = 0.0 if is_grid else flow.n_steps * flow.batch_size / flow.reuse
    scale = n_calls / (vegas.n_iterations * vegas.n_points + n_flow)
    pilot = replace(
        card,
        run=replace(card.run, sampler=VEGAS),
        vegas=_with_points(vegas, PILOT_SHARE * scale * vegas.n_points),
    )
    clock = _CostClock(integrand)
    integrate(integrand, pilot, Aids(progress=SilentProgress(), clock=clock))
    while_adapting, adapted = (
        cost.n_calls / cost.n_points for cost in (clock.costs["adapt"], clock.costs["estimate"])
    )
    return replace(
        card,
        vegas=_with_points(vegas, scale / while_adapting * vegas.n_points),
        flow=replace(flow, n_steps=max(1, round(scale / adapted * flow.n_steps))),
    )


def _settings(card: Card) -> Mapping[str, str | float]:
    vegas, flow = card.vegas, card.flow
    shown: dict[str, str | float] = {
        "vegas.n_iterations": vegas.n_iterations,
        "vegas.n_points": vegas.n_points,
        "vegas.n_bins": vegas.n_bins,
    }
    if card.run.sampler != VEGAS:
        shown |= {
            "flow.n_steps": flow.n_steps,
            "flow.batch_size": flow.batch_size,
            "flow.reuse": flow.reuse,
            "flow.loss": flow.loss,
            "flow.n_layers": flow.n_layers,
            "flow.n_hidden": flow.n_hidden,
        }
    return shown


def _draw(integrand: Meter, proposal: Proposal, card: Card, n_points: int) -> FreshPoints:
    sums = ChannelSums.empty(integrand.n_channels)
    batches: list[TrainingBatch] = []
    for index, n in enumerate(_chunks(n_points, card.run.chunk_size)):
        rng = random_stream(card.run.seed, f"compare {card.run.sampler}", index)
        batch, _ = draw(integrand, proposal, n, rng)
        sums += ChannelSums.of(batch, integrand.n_channels)
        batches.append(batch)
    return FreshPoints(
        cross_section=sums.mean,
        error=sums.error,
        n_points=n_points,
        weight=torch.cat([channel_weight(batch) for batch in batches]),
        channel=torch.cat([batch.channel for batch in batches]),
    )


class _CostClock:
    """Charges what the integrator does to its steps; see `mlgen.core.Clock`."""

    def __init__(self, integrand: Meter) -> None:
        self._integrand = integrand
        self.costs = {"adapt": NO_COST, "train": NO_COST, "estimate": NO_COST}

    @contextmanager
    def step(self, name: Literal["adapt", "train", "estimate", "surrogate"]) -> Iterator[None]:
        before = self._integrand.spent
        try:
            yield
        finally:
            self.costs[name] += self._integrand.spent - before


def _with_points(vegas: VegasCard, n_points: float) -> VegasCard:
    return replace(vegas, n_points=max(100, round(n_points)))


def _chunks(n: int, size: int) -> list[int]:
    n_full = math.ceil(n / size) - 1
    return [size] * n_full + [n - n_full * size]
