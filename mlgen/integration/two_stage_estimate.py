"""Fresh points measure what two-stage unweighting compares with, and what it keeps."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

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
    """Wall-clock microseconds, with the exact matrix elements of survivors shared by all points."""

    @property
    def us_per_event(self) -> float:
        return self.us_per_point / self.kept[0]


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
) -> TwoStageEstimate:
    """Find s_max on `card.n_estimate` fresh points and x_max on others, by survivors of the first step.

    Args:
        n_survivors: how many are expected, and so many exact matrix elements; fewer where that would take
            more than `MOST_POINTS` times the points of the first step.

    Raises:
        GenerationError: no point passes the cuts, or no survivor has a weight.
        NonFiniteWeight: a weight is NaN or infinite.
    """
    sizes = measure_sizes(integrand, proposal, card, title, progress)
    n_needed = math.ceil(n_survivors / float(sizes.fractions @ sizes.p_1))
    n_points = min(n_needed, MOST_POINTS * card.n_estimate)
    even_survivors = replace(proposal, fractions=sizes.fractions)
    parts: list[Survivors] = []
    started = time.perf_counter()
    with progress.step(f"correcting {title}", n_points) as advance:
        second = replace(card, n_estimate=n_points)
        for n, rng in estimate_chunks(second, f"{title}, second step"):
            drawn = integrand.draw(even_survivors, n, rng)
            parts.append(first_step(integrand, drawn, sizes.floor, sizes.s_max, rng))
            advance(n, f"{sum(len(part.channel) for part in parts)} survivors")
    elapsed = time.perf_counter() - started
    sums = ChannelSums.empty(len(sizes.s_max))
    for part in parts:
        sums += part.sums
    ratio = torch.cat([part.ratio for part in parts])
    channel = torch.cat([part.channel for part in parts])
    x_max = find_x_max(ratio, channel, sizes.size, card.overweight_budget)
    maxima = Maxima(floor=sizes.floor, s_max=sizes.s_max, x_max=x_max)
    zeta = ratio / x_max[channel]
    n_calls = sum(part.n_calls for part in parts)
    return TwoStageEstimate(
        maxima=maxima,
        sums=sums,
        efficiency=two_stage_efficiency(
            zeta, channel, sizes.p_1, maxima.fractions, n_calls / len(ratio)
        ),
        kept=_kept(zeta, channel, sums.n_points, maxima.fractions),
        overweight_on_fresh_points=_overweight_on_fresh_points(
            ratio, channel, sizes, card.overweight_budget
        ),
        n_points=sizes.n_points + n_points,
        n_survivors=len(ratio),
        n_calls=sizes.n_calls + n_calls,
        us_per_point=1e6 * elapsed / n_points,
    )


def measure_sizes(
    integrand: SurrogateIntegrand,
    proposal: Proposal,
    card: RunCard,
    title: str,
    progress: Progress,
) -> SurrogateSizes:
    """Find s_max with the card's overweight budget, on `card.n_estimate` fresh points.

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
    if not bool(s.any()):
        raise GenerationError(
            f"none of {len(s)} points passes the cuts: expected a larger run.n_estimate"
        )
    n_channels = len(no_floor)
    n_points = channel.bincount(minlength=n_channels).clamp(min=1)
    floor = integrand.trust.floor * channel.bincount(s, minlength=n_channels) / n_points
    s = s.maximum(floor[channel]).where(s > 0, torch.zeros_like(s))
    s_max = find_w_max_by_channel(s, channel, n_channels, card.overweight_budget)
    below = channel.bincount(s.minimum(s_max[channel]), minlength=n_channels)
    return SurrogateSizes(
        floor=floor, s_max=s_max, size=below / n_points, n_points=len(s), n_calls=n_calls
    )


def _kept(
    zeta: Tensor, channel: Tensor, n_points: Tensor, fractions: Tensor
) -> tuple[float, float]:
    """The share of the points that become events, and its error.

    Args:
        zeta: (n,), u_1 w / (s x_max) of survivors.
        channel: (n,).
        n_points: (n_channels,), of all points that they are left of.
        fractions: (n_channels,), of the points to come.
    """
    p_2 = zeta.abs().clamp(max=1)
    sums = ChannelSums(
        n_points=n_points,
        total=channel.bincount(p_2, minlength=len(fractions)),
        total_squares=channel.bincount(p_2.square(), minlength=len(fractions)),
    )
    error = (fractions.square() * sums.variances).sum().sqrt()
    return float(fractions @ sums.means), float(error)


def _overweight_on_fresh_points(
    ratio: Tensor, channel: Tensor, sizes: SurrogateSizes, budget: float
) -> float:
    """The overweight excess on survivors that x_max was not found on."""
    half = torch.arange(len(ratio), device=ratio.device) % 2 == 0
    found = []
    for mine in (half, ~half):
        x_max = find_x_max(ratio[~mine], channel[~mine], sizes.size, budget)
        maxima = Maxima(floor=sizes.floor, s_max=sizes.s_max, x_max=x_max)
        zeta = ratio[mine] / x_max[channel[mine]]
        found.append(two_stage_efficiency(zeta, channel[mine], sizes.p_1, maxima.fractions))
    return sum(one.overweight for one in found) / len(found)
