"""Adapt, freeze, estimate: the samplers that a card asks for, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from mlgen.cards import RunCard, SamplingCard
from mlgen.core import Clock, Evaluation, Integrand, Progress, random_stream
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.generate import Estimate, estimate
from mlgen.integration.proposal import Proposal, draw
from mlgen.integration.training import loss_of, train
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.registry import start_sampler

VEGAS = "vegas"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A sampler, frozen, and what fresh points say of it."""

    name: str
    sampler: SamplerModule
    proposal: Proposal
    measured: Estimate
    losses: tuple[float, ...] = ()

    def proposal_for(self, weighted: bool) -> Proposal:
        """What events are drawn from: for unweighting, channels come in proportion to their w_max."""
        if weighted:
            return self.proposal
        return Proposal(sampler=self.sampler, fractions=self.measured.unweighting_fractions)

    def seconds_for(self, n_events: int, weighted: bool) -> float:
        """What that many events would take, by measurement; for weighted ones, as many effective ones."""
        yield_per_point = self.measured.ess if weighted else self.measured.eps_uw.value
        return n_events / yield_per_point * self.measured.us_per_point * 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Integration:
    """The samplers that were tried, and the one that was chosen."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    reason: str
    """Why."""
    n_calls: int
    """Matrix elements computed so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What `auto` chooses a sampler for."""

    name: str
    """In the plural, for people: `the events`."""
    seconds: Callable[[Candidate], float]
    """What it would take with a candidate."""

    @classmethod
    def of(cls, run: RunCard) -> Goal:
        """The events that a card asks for."""
        return cls(name="the events", seconds=lambda c: c.seconds_for(run.n_events, run.weighted))


def integrate(
    integrand: Integrand[Evaluation],
    card: SamplingCard,
    progress: Progress,
    clock: Clock,
    goal: Goal | None = None,
) -> Integration:
    """Adapt a VEGAS grid, train the sampler that the card names, and measure both.

    With `run.sampler = "auto"` the flow is trained where that takes less time than it could
    save, and the sampler that is cheaper to the goal is chosen.

    Args:
        goal: None: the events that the card asks for.

    Raises:
        CardError: no such sampler.
        GenerationError: no point passes the cuts.
        NonFiniteWeight: a weight is NaN or infinite.
    """
    run, goal = card.run, goal or Goal.of(card.run)
    learner = "flow" if run.sampler == "auto" else run.sampler
    rng = random_stream(run.seed, "initialise", 0)
    with clock.step("adapt"):
        grid, fractions, n_calls = adapt_grid(integrand, card.vegas, run.seed, progress)
        sampler = start_sampler(learner, grid, card, rng)
    proposal = Proposal(sampler=grid, fractions=fractions)
    with clock.step("estimate"):
        measured = estimate(integrand, proposal, run, VEGAS, progress)
    vegas = Candidate(name=VEGAS, sampler=grid, proposal=proposal, measured=measured)
    n_calls += measured.n_calls
    if learner == VEGAS:
        reason = "the card asks for it"
        return Integration(candidates=(vegas,), chosen=vegas, reason=reason, n_calls=n_calls)
    if run.sampler == "auto":
        with clock.step("train"):
            cost, n_probed = _training_seconds(sampler, integrand, proposal, card)
        n_calls += n_probed
        saving = goal.seconds(vegas)
        if cost > saving:
            reason = (
                f"training the {learner} would take about {cost:.3g} s, and with vegas {goal.name} "
                f"take about {saving:.3g} s"
            )
            return Integration(candidates=(vegas,), chosen=vegas, reason=reason, n_calls=n_calls)
    with clock.step("train"):
        budget = run.overweight_budget
        training = train(
            sampler, integrand, fractions, card.flow, run.seed, progress, budget=budget
        )
    proposal = Proposal(sampler=sampler, fractions=training.fractions)
    with clock.step("estimate"):
        measured = estimate(integrand, proposal, run, learner, progress)
    learned = Candidate(
        name=learner, sampler=sampler, proposal=proposal, measured=measured, losses=training.losses
    )
    n_calls += training.n_calls + measured.n_calls
    chosen, reason = learned, "the card asks for it"
    if run.sampler == "auto":
        seconds = {c.name: goal.seconds(c) for c in (vegas, learned)}
        chosen = min((vegas, learned), key=lambda c: seconds[c.name])
        reason = f"{goal.name} take about " + ", ".join(
            f"{seconds[name]:.3g} s with {name}" for name in seconds
        )
    return Integration(candidates=(vegas, learned), chosen=chosen, reason=reason, n_calls=n_calls)


def _training_seconds(
    sampler: SamplerModule, integrand: Integrand[Evaluation], proposal: Proposal, card: SamplingCard
) -> tuple[float, int]:
    """How long training would take, from one draw and two steps that change nothing.

    Returns:
        seconds: wall-clock time.
        n_calls: matrix elements computed to find out.
    """
    started = time.perf_counter()
    rng = random_stream(card.run.seed, "probe", 0)
    batch, evaluation = draw(
        integrand, replace(proposal, sampler=sampler), card.flow.batch_size, rng
    )
    drawn = time.perf_counter()
    for _ in range(2):
        loss = loss_of(sampler, batch, card.flow.renyi_order, proposal.fractions)
        torch.autograd.grad(loss, list(sampler.parameters()), allow_unused=True)
    per_step = (drawn - started) + (time.perf_counter() - drawn) / 2
    return card.flow.n_steps * per_step, evaluation.n_calls
