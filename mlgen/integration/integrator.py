"""Adapt, freeze, estimate: the samplers that a card asks for, measured side by side."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mlgen.cards import SamplingCard
from mlgen.core import Evaluation, Integrand, random_stream
from mlgen.errors import TrainingFailed
from mlgen.integration.adapt import GridLearner
from mlgen.integration.aids import NOT_WORTH_MEASURING_S, Aids
from mlgen.integration.candidates import (
    Candidate,
    Goal,
    Integration,
    TrainingCurve,
    drift,
)
from mlgen.integration.choosing import AsAsked, Costs, Policy, TooLittle, WherePays
from mlgen.integration.guiding import GUIDED_FROM, Guiding
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learner import teach
from mlgen.integration.measure import estimate
from mlgen.integration.proposal import Proposal, draw, draw_channels
from mlgen.integration.timing import seconds_of
from mlgen.integration.training import SamplerLearner, loss_of
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.registry import start_sampler

VEGAS = "vegas"

USUAL_ESTIMATE = 131_072
"""Fresh points for a goal without a number of points, where the card leaves that open."""
LEAST_ESTIMATE, MOST_ESTIMATE = 65_536, 262_144
"""With fewer, w_max and the errors are not known well enough. The least is enough where a surrogate will
make the events in all likelihood: it is measured by points of its own."""

N_TIMED = 4
"""How often that is done whose time is measured: the first time compiles, allocates and fills caches."""

N_JUDGED = 16_384
"""Points by which samplers are compared: whether one has drifted, and which is cheaper."""
MOST_JUDGED, SHARE_JUDGED = 65_536, 0.0025
"""As many, where they are this part of those that the goal takes: eps_uw is smaller for more points, and that
of training is of some 65,000."""


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
        self._n_judged = N_JUDGED
        self._judged: dict[str, Candidate] = {}
        self._guiding = Guiding(card, aids)
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
            n_estimate = _n_estimate(adapted.n_points_to_goal)
            if self._guiding.replaces_exact_points:
                n_estimate = LEAST_ESTIMATE
            self._run = replace(card.run, n_estimate=n_estimate)
        self._n_judged = _n_judged(adapted.n_points_to_goal)
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
            n_calls=self._n_calls + self._guiding.n_calls,
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
        if self._guiding.can_guide(integrand):
            self._adapt(learner, GUIDED_FROM)
            self._guiding.consider(integrand, learner)
            # What fails now is tried again with more points.
            self._guiding.learn(integrand, before=(learner.purpose, GUIDED_FROM))
        self._adapt(learner)
        self._n_calls += learner.n_calls
        if not isinstance(integrand, ProcessIntegrand):
            return learner
        self._dropped = integrand.small_channels(learner.integrals)
        if not self._dropped:
            return learner
        self._integrand = integrand.without(self._dropped)
        fewer = learner.without(self._dropped)
        self._adapt(fewer)
        self._n_calls += fewer.n_calls
        return fewer

    def _adapt(self, learner: GridLearner, n_rounds: int | None = None) -> None:
        """Up to so many rounds; None: all of them."""

        def is_wanted() -> bool:
            return n_rounds is None or learner.n_rounds < n_rounds

        aids, integrand = self._aids, self._guiding.guided(self._integrand)
        teach(learner, integrand, self._run.seed, aids.progress, aids.checkpoints, is_wanted)

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
            return AsAsked(0 if name == VEGAS else n_steps)
        if n_points_to_goal is None:
            seconds = goal.takes(self._judge(vegas, goal))
        else:
            seconds = 1e-6 * n_points_to_goal * vegas.measured.us_per_point
        if seconds <= NOT_WORTH_MEASURING_S:
            return TooLittle(goal, seconds, VEGAS)
        judged = self._judge(vegas, goal)
        with self._aids.clock.step("train"):
            costs = self._costs(sampler, vegas)
        helped = self._guiding.helped(goal, vegas.measured.us_per_point)
        return WherePays(helped, judged, name, costs, n_steps)

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
            few = replace(self._run, n_estimate=min(self._n_judged, self._run.n_estimate))
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

    def _teach(self, learner: SamplerLearner, policy: Policy) -> None:
        def is_wanted() -> bool:
            if learner.n_rounds == 0:
                return True
            n_done, n_seen = len(learner.losses), learner.n_steps_before_watched
            return policy.goes_on(n_done, n_seen, learner.efficiencies[-1])

        aids, seed = self._aids, self._card.run.seed
        if warning := self._guiding.learn(self._integrand, before=(learner.purpose, 0)):
            self._warnings.append(warning)
        integrand = self._guiding.guided(self._integrand)
        teach(learner, integrand, seed, aids.progress, aids.checkpoints, is_wanted)

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

    def _costs(self, sampler: SamplerModule, vegas: Candidate) -> Costs:
        """What points and optimizer steps cost, from a few that change nothing.

        A point costs what it costs with VEGAS, and what it takes longer to draw.
        """
        flow, proposal = self._card.flow, vegas.proposal
        rng = random_stream(self._run.seed, "probe", 0)
        channel = draw_channels(proposal.fractions, 2 * flow.batch_size, rng)
        drawing_s = []
        for drawn in (vegas.sampler, sampler):
            with torch.no_grad():
                spent = [seconds_of(partial(drawn.sample, channel, rng)) for _ in range(N_TIMED)]
            drawing_s.append(min(spent[1:]))
        with_grid, with_sampler = (1e6 * spent_s / len(channel) for spent_s in drawing_s)
        us_per_point = max(vegas.measured.us_per_point - with_grid, 0.0) + with_sampler
        batch, evaluation = draw(self._integrand, proposal, flow.batch_size, rng)
        self._n_calls += evaluation.n_calls

        def gradient() -> None:
            loss = loss_of(sampler, batch, flow.renyi_order, proposal.fractions)
            torch.autograd.grad(loss, list(sampler.parameters()), allow_unused=True)

        spent = [seconds_of(gradient) for _ in range(N_TIMED)]
        saved_us = self._guiding.saved_in_training(vegas.measured.us_per_point)
        drawn_s = 1e-6 * max(us_per_point - saved_us, 0.0)
        settle = self._aids.checkpoints.settle
        return Costs(
            us_per_point=settle("costs.us_per_point", us_per_point),
            s_per_step=settle(
                "costs.s_per_step", min(spent[1:]) + flow.batch_size / flow.reuse * drawn_s
            ),
            estimate_s=settle("costs.estimate_s", 1e-6 * self._run.n_estimate * us_per_point),
        )


def _n_estimate(n_points_to_goal: float | None) -> int:
    if n_points_to_goal is None:
        return USUAL_ESTIMATE
    return int(min(max(LEAST_ESTIMATE, n_points_to_goal), MOST_ESTIMATE))


def _n_judged(n_points_to_goal: float | None) -> int:
    return int(min(max(N_JUDGED, SHARE_JUDGED * (n_points_to_goal or 0.0)), MOST_JUDGED))
