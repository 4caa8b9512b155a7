"""The integral of a function of the user's, to the error that was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mlgen.cards import FlowCard, RunCard, VegasCard
from mlgen.core import Clock, Progress, TrainingBatch, random_stream
from mlgen.cut_cards import require
from mlgen.errors import CardError, GenerationError
from mlgen.events.unweighting import accept
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Candidate, Goal
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.integral import Integral
from mlgen.integration.integrator import integrate
from mlgen.integration.measure import Estimate
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.integration.replay import joined
from mlgen.integration.user_function import UserFunction

_MARGIN = 1.1
"""More points than the measured variance asks for: it may be too low."""
_MIN_POINTS = 30
"""Expected points of each combination, of which its own error is estimated."""
_GENEROUS = 100
"""Sampling gives up after this many times the points that were expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionSettings:
    """How a function is integrated."""

    sampler: str = "auto"
    """`vegas`, `flow`, any registered sampler, or `auto`: the one that takes less time to the error asked for."""
    seed: int = 1
    """Rules every random number."""
    relative_error: float = 0.001
    """The error to reach, relative to the integral."""
    absolute_error: float = 0.0
    """The error to reach where that is more: for integrals that may be zero."""
    n_points: int = 0
    """Exactly so many points instead; 0: as many as the errors take."""
    max_points: int = 10_000_000
    """Never more points than this, whatever errors they reach."""
    n_estimate: int = 131_072
    """Points that measure each sampler; the integral comes from others."""
    chunk_size: int = 16_384
    """Points of a call of the function, and of a random stream."""
    vegas: VegasCard = field(default_factory=VegasCard)
    flow: FlowCard = field(default_factory=FlowCard)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "zero or a positive number")
        for name in ("relative_error", "absolute_error"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "zero or a positive number")
        for name, least in (
            ("n_points", 0),
            ("max_points", 2),
            ("n_estimate", 2),
            ("chunk_size", 1),
        ):
            value = getattr(self, name)
            require(value >= least, name, value, f"at least {least}")
        if self.n_points == 0:
            given = self.relative_error + self.absolute_error
            require(given > 0, "relative_error", self.relative_error, "an error, or n_points")
        elif self.sampler == "auto":
            raise CardError(
                f"n_points = {self.n_points} with sampler = 'auto': expected an error to reach, "
                "which is what auto chooses by, or the name of a sampler"
            )

    @property
    def run(self) -> RunCard:
        """The same as a section of a card."""
        return RunCard(
            sampler=self.sampler,
            seed=self.seed,
            n_estimate=self.n_estimate,
            chunk_size=self.chunk_size,
        )

    def error_for(self, value: float) -> float:
        """The error to reach for an integral of that value."""
        return max(self.absolute_error, self.relative_error * abs(value))

    def points_for(self, measured: Estimate, fractions: Tensor) -> int:
        """How many points reach the error, by the variance that was measured.

        Args:
            measured: of `n_estimate` points.
            fractions: (n_channels,), the share of the points of each combination.
        """
        if self.n_points:
            return self.n_points
        value, error = measured.sums.mean, measured.sums.error
        target = self.error_for(value)
        ratio = error / target if target > 0 else math.inf
        needed = _MARGIN * len(measured.weights) * ratio**2
        least = max(self.chunk_size, _MIN_POINTS / float(fractions[fractions > 0].min()))
        return math.ceil(min(max(needed, least), self.max_points))


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionSample:
    """Points that are distributed as |f|, or that weights make so."""

    points: Tensor
    """(n, n_dim), in the box."""
    k: Tensor
    """(n, len(n_values)), int64: the combination of each point."""
    weight: Tensor
    """(n,): f over the density of the point, all combinations together, whose mean is the integral; or, of unweighted points, the sign of f, times |f| over its largest value where that was exceeded."""
    unit: float
    """The mean of `unit` times `weight` times g(points, k) is the integral of f g, whatever g."""

    def __len__(self) -> int:
        return len(self.weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionIntegral(Integral):
    """The integral of a function, and the samplers that were adapted to it."""

    function: UserFunction
    settings: FunctionSettings
    candidates: tuple[Candidate, ...]
    """The samplers that were tried, frozen, and what fresh points said of them."""
    chosen: Candidate
    reason: str
    """Why it was chosen."""
    warnings: tuple[str, ...]
    """What went wrong on the way, and what was done instead."""

    @property
    def is_reached(self) -> bool:
        """Whether the error is what was asked for: not where it takes more than `max_points`."""
        return self.error <= self.settings.error_for(self.value)

    def sample(self, n: int, *, weighted: bool = False, stream: int = 0) -> FunctionSample:
        """Draw points of the chosen sampler, and compute f at them.

        Unweighted points are kept with a probability in proportion to |f|; few have weights beyond
        1, which leave every mean as it is (the overweight budget is 0.1 %).

        Args:
            n: how many.
            weighted: whether to keep all points with their weights, those where f is 0 too.
            stream: another number gives other points, independent of these.

        Raises:
            GenerationError: unweighting keeps far fewer points than it did when it was measured.
        """
        require(n >= 1, "n", n, "at least 1")
        w_max = self.chosen.measured.w_max
        expected = n if weighted else n * float(w_max.sum()) / self.absolute
        size = self.settings.chunk_size
        batches: list[TrainingBatch] = []
        weights: list[Tensor] = []
        n_kept, chunk = 0, 0
        while n_kept < n:
            if chunk * size > _GENEROUS * (expected + size):
                raise GenerationError(
                    f"{n_kept} of {n} points kept of {chunk * size}: expected more from what was "
                    "measured; raise n_estimate, or take weighted points"
                )
            rng = random_stream(self.settings.seed, f"sample {stream}", chunk)
            batch, _ = draw(self.function, self.chosen.proposal_for(weighted), size, rng)
            weight = channel_weight(batch)
            if weighted:
                weights.append(weight / batch.fraction)
            else:
                mask, u = accept(weight, w_max[batch.channel], rng)
                batch = batch.select(mask)
                weights.append(u)
            batches.append(batch)
            n_kept, chunk = n_kept + len(batch), chunk + 1
        kept, weight = joined(batches), torch.cat(weights)[:n]
        return FunctionSample(
            points=self.domain.points(kept.r[:n]),
            k=self.domain.combinations(kept.channel[:n]),
            weight=weight,
            unit=1.0 if weighted else self.absolute / float(weight.abs().mean()),
        )


def integrate_function(
    function: UserFunction, settings: FunctionSettings, progress: Progress, clock: Clock
) -> FunctionIntegral:
    """Adapt samplers to a function, choose one, and integrate with fresh points.

    How many points the integral takes follows from the variance that was measured before, on other
    points. To stop when the error looks small enough, or to count the points by which the sampler and
    the number were chosen, would favour samples in which a tail was missed, and bias the integral.

    Raises:
        CardError: no such sampler.
        GenerationError: f is 0 at all points, or its values are not n real numbers.
        NonFiniteWeight: a value of f is NaN or infinite.
    """

    def seconds(candidate: Candidate) -> float:
        fractions = candidate.proposal.fractions
        n_points = settings.points_for(candidate.measured, fractions)
        return n_points * candidate.measured.us_per_point * 1e-6

    goal = Goal(name="the points of the integral", seconds=seconds, has_own_points=True)
    found = integrate(function, settings, Aids(progress=progress, clock=clock), goal)
    chosen = found.chosen
    n_points = settings.points_for(chosen.measured, chosen.proposal.fractions)
    with clock.step("estimate"):
        sums, absolute_sums = _integrated(function, chosen.proposal, n_points, settings, progress)
    return FunctionIntegral(
        domain=function.domain,
        sums=sums,
        absolute_sums=absolute_sums,
        ess=chosen.measured.ess,
        eps_uw=chosen.measured.eps_uw,
        sampler=chosen.name,
        n_calls=found.n_calls + n_points,
        function=function,
        settings=settings,
        candidates=found.candidates,
        chosen=chosen,
        reason=found.reason,
        warnings=found.warnings,
    )


def _integrated(
    function: UserFunction,
    proposal: Proposal,
    n_points: int,
    settings: FunctionSettings,
    progress: Progress,
) -> tuple[ChannelSums, ChannelSums]:
    """The sums over exactly n points of f, and of |f|."""
    sums = absolute_sums = ChannelSums.empty(function.n_channels)
    done, chunk = 0, 0
    with progress.step("integrating", n_points) as advance:
        while done < n_points:
            n = min(settings.chunk_size, n_points - done)
            rng = random_stream(settings.seed, "integral", chunk)
            batch, _ = draw(function, proposal, n, rng)
            sums += ChannelSums.of(batch, function.n_channels)
            batch = replace(batch, value=batch.value.abs())
            absolute_sums += ChannelSums.of(batch, function.n_channels)
            done, chunk = done + n, chunk + 1
            advance(n, f"{sums.mean:.5g} ± {sums.error:.2g}")
    return sums, absolute_sums
