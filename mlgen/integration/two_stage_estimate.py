"""Fresh points measure what two-stage unweighting compares with, and what it keeps."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import Progress
from mlgen.errors import GenerationError
from mlgen.events.two_stage import TwoStageEfficiency, find_x_max, two_stage_efficiency
from mlgen.events.unweighting import find_w_max_by_channel
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.measure import estimate_chunks
from mlgen.integration.proposal import Proposal
from mlgen.integration.two_stage import Maxima, SurrogateIntegrand, Survivors, first_step

MOST_POINTS = 16
"""A surrogate of which fewer points survive is not worth more of them."""

FIRST_BUDGETS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.0)
"""Of s_max, in units of the card's overweight budget; the first keeps most points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStageEstimate:
    """What fresh points say of a frozen proposal with a frozen surrogate."""

    maxima: Maxima
    sums: ChannelSums
    """The cross section, from the points of the second step."""
    efficiency: TwoStageEfficiency
    kept: tuple[float, float]
    """The share of the points that become events, and its error: see `generate.ChunkPlan.of`."""
    overweight_on_fresh_points: float
    """The overweight excess on each half of the survivors, with x_max from the other half."""
    n_points: int
    n_survivors: int
    n_calls: int
    """Exact matrix elements."""
    us_per_point: float
    """Wall-clock microseconds for a point and what the surrogate says of it."""
    us_per_survivor: float
    """Wall-clock microseconds for the exact weight of a survivor."""

    @property
    def us_per_event(self) -> float:
        """Wall-clock microseconds, but for the picks of its flavours, helicities and colour flow."""
        return self.us_per_point / self.kept[0] + self.us_per_survivor / self.efficiency.eps_2


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateSizes:
    """What the first step compares with, and what it keeps."""

    floor: Tensor
    """(n_channels,), pb."""
    s_max: Tensor
    """(n_channels,), pb."""
    size: Tensor
    """(n_channels,), the mean of min(s, s_max), pb."""
    n_points: int
    n_calls: int
    """Exact matrix elements, of points where the surrogate was not trusted."""

    @property
    def p_1(self) -> Tensor:
        """The share of the points of each channel that survive: (n_channels,)."""
        return self.size / self.s_max.where(self.s_max > 0, torch.ones_like(self.s_max))

    @property
    def fractions(self) -> Tensor:
        return self.s_max / self.s_max.sum()


def estimate_two_stage(
    integrand: SurrogateIntegrand,
    proposal: Proposal,
    card: RunCard,
    title: str,
    progress: Progress,
    n_survivors: int = 20_000,
    cost_ratio: float | None = None,
    ceiling: Tensor | None = None,
) -> TwoStageEstimate:
    """Find s_max on `card.n_estimate` fresh points and x_max on others, by survivors of the first step.

    Args:
        n_survivors: how many are expected, and so many exact matrix elements; fewer where that would take
            more than `MOST_POINTS` times the points of the first step.
        cost_ratio: what a point costs without its exact matrix element over what that costs. It decides
            how large the overweight budget of s_max is; without it, that is the card's, as that of x_max
            always is.
        ceiling: (n_channels,), pb, the largest s_max: without it, one point where the surrogate is far too
            large would rule what all others are compared with.

    Raises:
        GenerationError: no point passes the cuts, or no survivor has a weight.
        NonFiniteWeight: a weight is NaN or infinite.
    """
    factors = (1.0,) if cost_ratio is None else FIRST_BUDGETS
    sizes = measure_sizes(integrand, proposal, card, title, progress, factors, ceiling)
    first = sizes[0]
    n_needed = math.ceil(n_survivors / float(first.fractions @ first.p_1))
    n_points = min(n_needed, MOST_POINTS * card.n_estimate)
    even_survivors = replace(proposal, fractions=first.fractions)
    second = replace(card, n_estimate=n_points)
    survivors, us = _survivors(integrand, even_survivors, first, second, title, progress)
    extra = (survivors.n_calls - len(survivors.channel)) / n_points
    best = min(
        (_Tried.of(one, survivors, first.s_max, card.overweight_budget, extra) for one in sizes),
        key=lambda tried: tried.cost(cost_ratio or 0.0),
    )
    return TwoStageEstimate(
        maxima=best.maxima,
        sums=survivors.sums,
        efficiency=best.efficiency,
        kept=best.kept(survivors.sums.n_points),
        overweight_on_fresh_points=best.overweight_on_fresh_points(card.overweight_budget),
        n_points=first.n_points + n_points,
        n_survivors=len(survivors.channel),
        n_calls=first.n_calls + survivors.n_calls,
        us_per_point=us[0],
        us_per_survivor=us[1],
    )


def _survivors(
    integrand: SurrogateIntegrand,
    proposal: Proposal,
    sizes: SurrogateSizes,
    card: RunCard,
    title: str,
    progress: Progress,
) -> tuple[Survivors, tuple[float, float]]:
    """Those of `card.n_estimate` fresh points; microseconds a point, and a survivor."""
    parts: list[Survivors] = []
    drawing_s = correcting_s = 0.0
    with progress.step(f"correcting {title}", card.n_estimate) as advance:
        for n, rng in estimate_chunks(card, f"{title}, second step"):
            started = time.perf_counter()
            drawn = integrand.draw(proposal, n, rng)
            drawing_s += time.perf_counter() - started
            started = time.perf_counter()
            parts.append(first_step(integrand, drawn, sizes.floor, sizes.s_max, rng))
            correcting_s += time.perf_counter() - started
            advance(n, f"{sum(len(part.channel) for part in parts)} survivors")
    survivors = Survivors.joined(parts)
    n_survivors = max(len(survivors.channel), 1)
    return survivors, (1e6 * drawing_s / card.n_estimate, 1e6 * correcting_s / n_survivors)


def measure_sizes(
    integrand: SurrogateIntegrand,
    proposal: Proposal,
    card: RunCard,
    title: str,
    progress: Progress,
    factors: Sequence[float] = (1.0,),
    ceiling: Tensor | None = None,
) -> list[SurrogateSizes]:
    """Find s_max on `card.n_estimate` fresh points, for these multiples of the card's overweight budget.

    Args:
        ceiling: (n_channels,), pb, see `estimate_two_stage`.

    Raises:
        GenerationError: no point passes the cuts.
        NonFiniteWeight: a weight is NaN or infinite.
    """
    raw, channels, n_calls = [], [], 0
    no_floor = torch.zeros(integrand.integrand.n_channels, dtype=torch.float64)
    with progress.step(f"measuring the surrogate {title}", card.n_estimate) as advance:
        for n, rng in estimate_chunks(card, f"{title}, first step"):
            drawn = integrand.draw(proposal, n, rng)
            raw.append(drawn.s(no_floor))
            channels.append(drawn.channel)
            n_calls += drawn.n_exact
            advance(n, "")
    s, channel = torch.cat(raw), torch.cat(channels)
    if ceiling is not None:
        s = s.minimum(ceiling[channel])
    if not bool(s.any()):
        raise GenerationError(
            f"none of {len(s)} points passes the cuts: expected a larger run.n_estimate"
        )
    n_channels = len(no_floor)
    n_points = channel.bincount(minlength=n_channels).clamp(min=1)
    floor = integrand.trust.floor * channel.bincount(s, minlength=n_channels) / n_points
    s = s.maximum(floor[channel]).where(s > 0, torch.zeros_like(s))
    found = []
    for factor in factors:
        budget = min(factor * card.overweight_budget, 0.5)
        s_max = find_w_max_by_channel(s, channel, n_channels, budget)
        below = channel.bincount(s.minimum(s_max[channel]), minlength=n_channels)
        found.append(
            SurrogateSizes(
                floor=floor, s_max=s_max, size=below / n_points, n_points=len(s), n_calls=n_calls
            )
        )
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tried:
    """One s_max, and what survivors of another one say of it."""

    sizes: SurrogateSizes
    ratio: Tensor
    """(n,), u_1 w / s with this s_max."""
    channel: Tensor
    """(n,)."""
    counts: Tensor
    """(n,), p_1 over that which made them survivors."""
    extra: float
    """Exact matrix elements for each point beside those of survivors."""
    maxima: Maxima

    @classmethod
    def of(
        cls, sizes: SurrogateSizes, survivors: Survivors, s_max: Tensor, budget: float, extra: float
    ) -> Self:
        """With survivors of the given s_max (n_channels,), and the x_max of a budget."""
        s, channel = survivors.s, survivors.channel
        here, there = s / sizes.s_max[channel], s / s_max[channel]
        ratio = survivors.ratio * here.clamp(min=1) / there.clamp(min=1)
        counts = here.clamp(max=1) / there.clamp(max=1)
        x_max = find_x_max(ratio, channel, sizes.size, budget, counts)
        return cls(
            sizes=sizes,
            ratio=ratio,
            channel=channel,
            counts=counts,
            extra=extra,
            maxima=Maxima(floor=sizes.floor, s_max=sizes.s_max, x_max=x_max),
        )

    @property
    def efficiency(self) -> TwoStageEfficiency:
        fractions = self.maxima.fractions
        calls = 1 + self.extra / float(fractions @ self.sizes.p_1)
        zeta = self.ratio / self.maxima.x_max[self.channel]
        return two_stage_efficiency(
            zeta, self.channel, self.sizes.p_1, fractions, calls, self.counts
        )

    def cost(self, cost_ratio: float) -> float:
        """Of an effective event, in exact matrix elements."""
        found = self.efficiency
        return (cost_ratio / found.eps_1 + found.calls) / (found.eps_2 * found.alpha)

    def kept(self, n_points: Tensor) -> tuple[float, float]:
        """The share of the points that become events, and its error.

        Args:
            n_points: (n_channels,), of all points that the survivors are left of.
        """
        each = self.counts * (self.ratio / self.maxima.x_max[self.channel]).abs().clamp(max=1)
        fractions = self.maxima.fractions
        sums = ChannelSums(
            n_points=n_points,
            total=self.channel.bincount(each, minlength=len(fractions)),
            total_squares=self.channel.bincount(each.square(), minlength=len(fractions)),
        )
        error = (fractions.square() * sums.variances).sum().sqrt()
        return float(fractions @ sums.means), float(error)

    def overweight_on_fresh_points(self, budget: float) -> float:
        """The overweight excess on survivors that x_max was not found on."""
        half = torch.arange(len(self.ratio), device=self.ratio.device) % 2 == 0
        found = []
        for mine in (half, ~half):
            columns = (column[~mine] for column in (self.ratio, self.channel, self.counts))
            ratio, channel, counts = columns
            x_max = find_x_max(ratio, channel, self.sizes.size, budget, counts)
            fresh = replace(
                self,
                ratio=self.ratio[mine],
                channel=self.channel[mine],
                counts=self.counts[mine],
                maxima=replace(self.maxima, x_max=x_max),
            )
            found.append(fresh.efficiency.overweight)
        return sum(found) / len(found)
