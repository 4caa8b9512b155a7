"""Samplers that were tried, what fresh points say of them, and what they are wanted for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mlgen.cards import RunCard
from mlgen.integration.measure import Estimate
from mlgen.integration.proposal import Proposal
from mlgen.samplers.module import SamplerModule


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A sampler, frozen, and what fresh points say of it."""

    name: str
    sampler: SamplerModule
    proposal: Proposal
    measured: Estimate
    losses: tuple[float, ...] = ()
    """Of each optimizer step."""
    efficiencies: tuple[float, ...] = ()
    """eps_uw of the points of each round of training, before they were trained on."""

    def proposal_for(self, weighted: bool) -> Proposal:
        """What events are drawn from: for unweighting, channels come in proportion to their w_max."""
        if weighted:
            return self.proposal
        return Proposal(sampler=self.sampler, fractions=self.measured.unweighting_fractions)

    def seconds_for(self, n_events: int, weighted: bool) -> float:
        """What that many events would take, by measurement; for weighted ones, as many effective ones."""
        yield_per_point = self.measured.ess_of_sizes if weighted else self.measured.kept
        return n_events / yield_per_point * self.measured.us_per_point * 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What is expected of a sampler before it is used."""

    sampler: str
    n_steps: int
    """Optimizer steps."""
    training_s: float
    """Wall-clock seconds to train and to measure it, 0 where that is done."""
    goal_s: float
    """Wall-clock seconds from there to the goal."""

    @property
    def total_s(self) -> float:
        return self.training_s + self.goal_s


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCurve:
    """How training went."""

    sampler: str
    losses: tuple[float, ...]
    """Of each optimizer step."""
    efficiencies: tuple[float, ...]
    """eps_uw of the points of each round, `STEPS_PER_ROUND` steps, before they were trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Integration:
    """The samplers that were tried, and the one that was chosen."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    reason: str
    """Why."""
    n_calls: int
    """Matrix elements computed so far."""
    expected: tuple[Expectation, ...] = ()
    """Without training and with it, before anything was trained, where the choice was left to the run."""
    warnings: tuple[str, ...] = ()
    """What went wrong on the way, and what was done instead."""
    curve: TrainingCurve | None = None
    """How training went, also where it failed or was given up; None where there was none."""
    dropped: tuple[int, ...] = ()
    """Channels that are never drawn: what was integrated is `ProcessIntegrand.without` them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What a sampler is wanted for."""

    name: str
    """In the plural, for people: `the events`."""
    seconds: Callable[[Candidate], float]
    """What its points would take with a candidate, as they were measured."""
    yield_of: Callable[[float, float], float] = lambda kept, ess: ess / max(1 - ess, 1e-9)
    """How much a point is worth, by the share that is kept and the effective sample size of |w|; the default is for errors of an integral."""
    amount: float | None = None
    """How much is wanted, in the unit of `yield_of`, where that is known beforehand."""
    has_own_points: bool = False
    """Whether the points that measure a sampler count for nothing else, so that they may decide what is used."""

    saved_us_per_point: float = 0.0
    """What each point will cost less than measured, because a surrogate stands in for its |M|²."""
    fixed_s: float = 0.0
    """What it takes beside its points, whatever the sampler."""

    def takes(self, candidate: Candidate) -> float:
        """Wall-clock seconds with a candidate."""
        us_per_point = candidate.measured.us_per_point
        left = max(us_per_point - self.saved_us_per_point, 0.0)
        return self.fixed_s + self.seconds(candidate) * left / us_per_point

    def n_points(self, kept: float, ess: float) -> float | None:
        """How many points it takes, as far as that is known."""
        return None if self.amount is None else self.amount / self.yield_of(kept, ess)

    @classmethod
    def of(cls, run: RunCard) -> Goal:
        """The events that a card asks for."""
        return cls(
            name="the events",
            seconds=lambda c: c.seconds_for(run.n_events, run.weighted),
            yield_of=lambda kept, ess: ess if run.weighted else kept,
            amount=run.n_events,
        )


MAX_PULL = 5.0
"""Standard deviations between two samplers' cross sections, beyond which one has lost a region."""
MAX_RELATIVE_SQUARE = 2.0
"""With weights whose mean square is larger than this many times that of VEGAS, a learned sampler has drifted."""


def drift(vegas: Candidate, learned: Candidate) -> str | None:
    """What shows that a sampler is worse than where it started from, None where nothing does."""
    ours, theirs = learned.measured, vegas.measured
    difference = ours.sums.mean - theirs.sums.mean
    error = math.hypot(ours.sums.error, theirs.sums.error)
    if abs(difference) > MAX_PULL * error:
        return (
            f"the {learned.name} has lost a part of phase space: it gives {ours.sums.mean:.5g} ± "
            f"{ours.sums.error:.2g} pb, {vegas.name} {theirs.sums.mean:.5g} ± {theirs.sums.error:.2g} pb"
        )
    # Not the effective sample size: where signs cancel, the integral in it is mostly noise.
    square, least = _mean_square(learned), _mean_square(vegas)
    if square > MAX_RELATIVE_SQUARE * least:
        return (
            f"the {learned.name} has drifted: the mean square of its weights is {square / least:.3g} "
            f"times that of {vegas.name}"
        )
    return None


def _mean_square(candidate: Candidate) -> float:
    """Of the weights of all channels together: the square of the integral over the effective sample size."""
    per_channel = candidate.measured.sums.root_mean_squares.square()
    drawn = candidate.proposal.fractions > 0
    return float((per_channel[drawn] / candidate.proposal.fractions[drawn]).sum())
