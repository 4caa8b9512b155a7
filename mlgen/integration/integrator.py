"""Adapt, freeze, estimate: the samplers that a card asks for, measured side by side."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from mlgen.cards import SamplingCard
from mlgen.core import Evaluation, Integrand, random_stream
from mlgen.errors import TrainingFailed
from mlgen.integration.adapt import GridLearner
from mlgen.integration.aids import NOT_WORTH_MEASURING_S, Aids, Guidance
from mlgen.integration.candidates import (
    Candidate,
    Goal,
    Integration,
    TrainingCurve,
    drift,
)
from mlgen.integration.choosing import MARGIN, AsAsked, Costs, Policy, TooLittle, WherePays
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learner import teach
from mlgen.integration.measure import estimate
from mlgen.integration.proposal import Proposal, draw
from mlgen.integration.training import SamplerLearner, loss_of
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.registry import start_sampler

VEGAS = "vegas"

USUAL_ESTIMATE = 131_072
"""Fresh points for a goal without a number of points, where the card leaves that open."""
LEAST_ESTIMATE, MOST_ESTIMATE = 65_536, 262_144
"""With fewer, w_max and the errors are not known well enough."""

N_JUDGED = 16_384
"""Points by which samplers are compared: whether one has drifted, and which is cheaper."""


def integrate(
    integrand: Integrand[Evaluation], card: SamplingCard, aids: Aids, goal: Goal | None = None
) -> Integration:
    """Adapt a VEGAS grid, train the sampler that the card names, and measure both.

    With `run.sampler = "auto"` the flow is trained where it is expected to reach the goal sooner
    than VEGAS would, for as long as that pays; the sampler that is cheaper from there on is chosen.
    A training that fails, or leaves a sampler that is worse than where it started, costs its time
    and nothing else: VEGAS is taken instead, and `Integration.warnings` says so.

    Args:
        goal: None: the events that the card asks for.

    Raises:
        CardError: no such sampler.
        GenerationError: no point passes the cuts.
        NonFiniteWeight: a weight is NaN or infinite.
    """
    return _Integrator(integrand, card, aids).run(goal or Goal.of(card.run))


class _Integrator:
    """One integration; counts matrix elements as it goes."""

    def __init__(self, integrand: Integrand[Evaluation], card: SamplingCard, aids: Aids) -> None:
        self._integrand, self._card, self._aids = integrand, card, aids
        self._run = card.run
        self._n_calls = 0
        self._curve: TrainingCurve | None = None
        self._dropped: tuple[int, ...] = ()
        self._judged: dict[str, Candidate] = {}
        self._guidance: Guidance | None = None
        self._warnings: list[str] = []

    def run(self, goal: Goal) -> Integration:
        card, aids = self._card, self._aids
        name = "flow" if card.run.sampler == "auto" else card.run.sampler
        with aids.clock.step("adapt"):
            adapted = self._adapted(goal)
            rng = random_stream(card.run.seed, "initialise", 0)
            sampler = aids.start or start_sampler(name, adapted.grid, card, rng)
            self._let_learn_weights(sampler)
        if not card.run.n_estimate:
            self._run = replace(card.run, n_estimate=_n_estimate(adapted.n_points_to_goal))
        vegas = self._measured(VEGAS, adapted.grid, adapted.fractions)
        policy = self._policy(name, goal, vegas, sampler, adapted.n_points_to_goal)
        learned, warning = self._learned(name, sampler, vegas, policy, goal)
        chosen, reason = vegas, warning or policy.reason
        if learned is not None and not warning:
            best, reason = policy.choose(self._judge(vegas, goal), self._judge(learned, goal))
            chosen = vegas if best.name == vegas.name else learned
        return Integration(
            candidates=(vegas,) if learned is None else (vegas, learned),
            chosen=chosen,
            reason=reason,
            n_calls=self._n_calls,
            expected=policy.expected,
            warnings=(*self._warnings, *([warning] if warning else [])),
            curve=self._curve,
            dropped=self._dropped,
        )

    def _let_learn_weights(self, sampler: SamplerModule) -> None:
        """Channel weights to be trained with the sampler, if asked for: those it has, or fresh ones."""
        integrand, wanted = self._integrand, None
        if isinstance(integrand, ProcessIntegrand) and any(True for _ in sampler.parameters()):
            rng = random_stream(self._run.seed, "channel weights", 0)
            wanted = integrand.start_weights(rng)
        has = sampler.learned_weights
        if wanted is None or has is None or not has.is_like(wanted):
            sampler.learned_weights = wanted

    def _adapted(self, goal: Goal) -> GridLearner:
        integrand, run = self._integrand, self._run
        learner = GridLearner(
            integrand.n_channels, integrand.n_dim, self._card.vegas, goal, run.overweight_budget
        )
        self._adapt(learner)
        if not isinstance(integrand, ProcessIntegrand):
            return learner
        self._dropped = integrand.small_channels(learner.integrals)
        if not self._dropped:
            return learner
        self._integrand = integrand.without(self._dropped)
        fewer = learner.without(self._dropped)
        self._adapt(fewer)
        return fewer

    def _adapt(self, learner: GridLearner) -> None:
        aids = self._aids
        teach(learner, self._integrand, self._run.seed, aids.progress, aids.checkpoints)
        self._n_calls += learner.n_calls

    def _policy(
        self,
        name: str,
        goal: Goal,
        vegas: Candidate,
        sampler: SamplerModule,
        n_points_to_goal: float | None,
    ) -> Policy:
        n_steps = self._card.flow.n_steps
        if self._card.run.sampler != "auto":
            if name != VEGAS:
                self._find_guidance(vegas.proposal)
            return AsAsked(0 if name == VEGAS else n_steps)
        if n_points_to_goal is None:
            seconds = goal.takes(self._judge(vegas, goal))
        else:
            seconds = 1e-6 * n_points_to_goal * vegas.measured.us_per_point
        if seconds <= NOT_WORTH_MEASURING_S:
            return TooLittle(goal, seconds, VEGAS)
        self._find_guidance(vegas.proposal)
        judged = self._judge(vegas, goal)
        with self._aids.clock.step("train"):
            costs = self._costs(sampler, vegas.proposal)
        return WherePays(self._helped(goal, judged), judged, name, costs, n_steps)

    def _learned(
        self,
        name: str,
        sampler: SamplerModule,
        vegas: Candidate,
        policy: Policy,
        goal: Goal,
    ) -> tuple[Candidate | None, str]:
        """The sampler as trained, None where it was not, and what went wrong, if anything did."""
        if policy.n_steps == 0:
            return None, ""
        run, flow = self._card.run, replace(self._card.flow, n_steps=policy.n_steps)
        fractions = vegas.proposal.fractions
        learner = SamplerLearner(sampler, fractions, flow, run.seed, run.overweight_budget)
        try:
            with self._aids.clock.step("train"):
                self._teach(learner, policy)
        except TrainingFailed as failure:
            return None, f"training the {name} failed: {failure}; {VEGAS} is used instead"
        finally:
            self._n_calls += learner.n_calls
            self._curve = TrainingCurve(
                sampler=name, losses=tuple(learner.losses), efficiencies=tuple(learner.efficiencies)
            )
        if learner.progress < 1:
            return None, ""
        trained = learner.finish()
        learned = replace(
            self._measured(name, sampler, trained.fractions),
            losses=trained.losses,
            efficiencies=trained.efficiencies,
        )
        problem = drift(self._judge(vegas, goal), self._judge(learned, goal))
        return learned, f"{problem}; {VEGAS} is used instead" if problem else ""

    def _judge(self, candidate: Candidate, goal: Goal) -> Candidate:
        """The candidate with what points say of it that may decide whether it is used.

        Those are not points that count: to leave out those that happen to have large weights, or to
        stay with VEGAS where it has none, would bias what is left.
        """
        if goal.has_own_points:
            return candidate
        if candidate.name not in self._judged:
            few = replace(self._run, n_estimate=min(N_JUDGED, self._run.n_estimate))
            title, progress = f"{candidate.name} for comparison", self._aids.progress
            with self._aids.clock.step("estimate"):
                measured = estimate(
                    self._integrand,
                    candidate.proposal,
                    few,
                    title,
                    progress,
                    self._aids.checkpoints,
                )
            self._n_calls += measured.n_calls
            # The time of a point is known better from the larger sample, and settled.
            measured = replace(measured, us_per_point=candidate.measured.us_per_point)
            self._judged[candidate.name] = replace(candidate, measured=measured)
        return self._judged[candidate.name]

    def _find_guidance(self, proposal: Proposal) -> None:
        """Whether training is to be guided by a surrogate."""
        aids, flow = self._aids, self._card.flow
        if aids.guide is None or not isinstance(self._integrand, ProcessIntegrand):
            return
        n_points = flow.n_steps * flow.batch_size / flow.reuse
        with aids.clock.step("surrogate"):
            found = aids.guide.guidance(self._integrand, proposal, n_points, aids)
        self._guidance, n_calls = found
        self._n_calls += n_calls

    def _helped(self, goal: Goal, vegas: Candidate) -> Goal:
        """The goal with a surrogate, where that is asked for, or expected to reach it sooner."""
        found = self._guidance
        if found is None or goal.amount is None:
            return goal
        fixed_s = 1e-6 * goal.amount * found.us_per_survivor
        helped = replace(goal, saved_us_per_point=found.saved_us_per_point, fixed_s=fixed_s)
        pays = helped.takes(vegas) + found.learning_s < MARGIN * goal.takes(vegas)
        return helped if self._card.run.surrogate == "always" or pays else goal

    def _to_train_on(self) -> Integrand[Evaluation]:
        """The integrand, or a cheaper one that guides the training."""
        guide, integrand = self._aids.guide, self._integrand
        is_guided = self._guidance is not None and self._guidance.trains
        if not is_guided or guide is None or not isinstance(integrand, ProcessIntegrand):
            return integrand
        try:
            with self._aids.clock.step("surrogate"):
                return guide.guided(integrand, self._aids)
        except TrainingFailed as failure:
            self._warnings.append(f"{failure}; the exact matrix element is trained on instead")
            return integrand

    def _teach(self, learner: SamplerLearner, policy: Policy) -> None:
        def is_wanted() -> bool:
            if learner.n_rounds == 0:
                return True
            n_done, n_seen = len(learner.losses), learner.n_steps_before_watched
            return policy.goes_on(n_done, n_seen, learner.efficiencies[-1])

        aids, seed = self._aids, self._card.run.seed
        teach(learner, self._to_train_on(), seed, aids.progress, aids.checkpoints, is_wanted)

    def _measured(self, name: str, sampler: SamplerModule, fractions: Tensor) -> Candidate:
        proposal = Proposal(sampler=sampler, fractions=fractions)
        with self._aids.clock.step("estimate"):
            aids = self._aids
            measured = estimate(
                self._integrand, proposal, self._run, name, aids.progress, aids.checkpoints
            )
        self._n_calls += measured.n_calls
        us_per_point = self._aids.checkpoints.settle(f"{name}.us_per_point", measured.us_per_point)
        measured = replace(measured, us_per_point=us_per_point)
        return Candidate(name=name, sampler=sampler, proposal=proposal, measured=measured)

    def _costs(self, sampler: SamplerModule, proposal: Proposal) -> Costs:
        """What points and optimizer steps cost, from a few that change nothing."""
        flow = self._card.flow
        rng = random_stream(self._card.run.seed, "probe", 0)
        drawing = replace(proposal, sampler=sampler)
        # The first of each compiles, allocates and fills caches.
        _, evaluation = draw(self._integrand, drawing, 256, rng)
        self._n_calls += evaluation.n_calls
        started = time.perf_counter()
        batch, evaluation = draw(self._integrand, drawing, 2 * flow.batch_size, rng)
        s_per_point = (time.perf_counter() - started) / len(batch)
        self._n_calls += evaluation.n_calls
        part = batch.select(torch.arange(flow.batch_size, device=batch.channel.device))
        spent = []
        for _ in range(4):
            started = time.perf_counter()
            loss = loss_of(sampler, part, flow.renyi_order, proposal.fractions)
            torch.autograd.grad(loss, list(sampler.parameters()), allow_unused=True)
            spent.append(time.perf_counter() - started)
        drawn_s, estimate_s = s_per_point, self._run.n_estimate * s_per_point
        if self._guidance is not None and self._guidance.trains:
            drawn_s = max(s_per_point - 1e-6 * self._guidance.saved_us_in_training, 0.0)
            estimate_s += self._guidance.learning_s
        drawn = flow.batch_size / flow.reuse * drawn_s
        settle = self._aids.checkpoints.settle
        return Costs(
            us_per_point=settle("costs.us_per_point", 1e6 * s_per_point),
            s_per_step=settle("costs.s_per_step", min(spent[1:]) + drawn),
            estimate_s=settle("costs.estimate_s", estimate_s),
        )


def _n_estimate(n_points_to_goal: float | None) -> int:
    if n_points_to_goal is None:
        return USUAL_ESTIMATE
    return int(min(max(LEAST_ESTIMATE, n_points_to_goal), MOST_ESTIMATE))
