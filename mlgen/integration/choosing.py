"""Which sampler to use, and how long to train it: what the card asks for, or what pays.

Training pays where it costs less time than it saves. What it costs is measured; what it gains follows
from a learning curve: of the logarithm of the inverse efficiency of VEGAS, n steps leave the share

    g(n) = 1 / (1 + sqrt(n / n_half)),

which describes the processes of `benchmarks/` with n_half from 15 to 1800. Before training n_half is
taken as `CAUTIOUS_HALF`; while it goes on, points that were not yet trained on tell.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from mlgen.integration.candidates import Candidate, Expectation, Goal

CAUTIOUS_HALF = 800.0
"""Steps that halve ln(1 / eps_uw), before anything is known."""

MARGIN = 0.8
"""Training must be expected to leave less than this part of the time that VEGAS would take."""

LENGTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Lengths of training that are considered, in units of that of the card."""

LITTLE = 0.02
"""Training is not given up for less than this part of the time that VEGAS would take."""

FIRST_VERDICT = 0.25
"""The share of the training after which it is first asked whether it still pays."""


class Policy(ABC):
    """Decides whether a sampler is trained, for how long, and which one is used in the end."""

    n_steps: int
    """Optimizer steps that are planned; 0: it is not trained."""
    reason: str
    """Why that many."""
    expected: tuple[Expectation, ...] = ()
    """What the decision rests on."""

    @abstractmethod
    def goes_on(self, n_done: int, n_seen: float, eps_uw: float) -> bool:
        """Whether to go on after `n_done` steps, where points drawn after `n_seen` have this efficiency."""

    @abstractmethod
    def choose(self, vegas: Candidate, learned: Candidate) -> tuple[Candidate, str]:
        """The sampler to use, and why."""


class AsAsked(Policy):
    """What the card names is trained and used."""

    reason = "the card asks for it"

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def goes_on(self, n_done: int, n_seen: float, eps_uw: float) -> bool:
        return True

    def choose(self, vegas: Candidate, learned: Candidate) -> tuple[Candidate, str]:
        return learned, self.reason


class TooLittle(Policy):
    """Nothing is trained for a goal that is reached sooner than costs are measured."""

    n_steps = 0

    def __init__(self, goal: Goal, seconds: float, name: str) -> None:
        """Stay with the sampler of that name, which takes so many seconds to the goal."""
        self.expected = (Expectation(sampler=name, n_steps=0, training_s=0.0, goal_s=seconds),)
        self.reason = f"{goal.name} take about {seconds:.3g} s with {name}, too little to train for"

    def goes_on(self, n_done: int, n_seen: float, eps_uw: float) -> bool:
        return False

    def choose(self, vegas: Candidate, learned: Candidate) -> tuple[Candidate, str]:
        return vegas, self.reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What a learned sampler costs, wall-clock, measured before it is trained."""

    us_per_point: float
    """Of drawing and evaluating a point."""
    s_per_step: float
    """Of an optimizer step, with the points that are drawn for it."""
    estimate_s: float = 0.0
    """Of the fresh points that measure it once it is trained."""


class WherePays(Policy):
    """A sampler is trained where and as long as it is expected to reach a goal sooner than VEGAS."""

    def __init__(
        self, goal: Goal, vegas: Candidate, learner: str, costs: Costs, n_steps: int
    ) -> None:
        """Plan the training that is expected to reach the goal soonest.

        Args:
            vegas: as measured.
            learner: the name of the sampler that would be trained.
            n_steps: the card's.
        """
        self._goal, self._vegas, self._learner, self._costs = goal, vegas, learner, costs
        without = goal.takes(vegas)
        stays = Expectation(sampler=vegas.name, n_steps=0, training_s=0.0, goal_s=without)
        lengths = {max(1, round(length * n_steps)) for length in LENGTHS}
        plan = min(
            (self._after(n, CAUTIOUS_HALF) for n in sorted(lengths)),
            key=lambda expectation: expectation.total_s,
        )
        self.expected = (stays, plan)
        self.n_steps = plan.n_steps if plan.total_s < MARGIN * without else 0
        self.reason = (
            f"{goal.name} take about {without:.3g} s with {vegas.name}; training the {learner} "
            f"would take about {plan.training_s:.3g} s, and {goal.name} then {plan.goal_s:.3g} s"
        )

    def goes_on(self, n_done: int, n_seen: float, eps_uw: float) -> bool:
        # Points from before the first step say nothing of what steps gain.
        if n_seen == 0 or n_done < FIRST_VERDICT * self.n_steps:
            return True
        n_half = observed_half(n_seen, self._vegas.measured.kept, eps_uw)
        end = self._after(self.n_steps, n_half)
        # What training took so far is gone either way.
        still = (1 - n_done / self.n_steps) * end.training_s
        to_go, without = still + end.goal_s, self._goal.takes(self._vegas)
        if to_go < without or still < LITTLE * without:
            return True
        self.reason = (
            f"given up after {n_done} steps with eps_uw = {eps_uw:.3g}: {self._goal.name} would "
            f"take about {to_go:.3g} s more with the {self._learner}, {without:.3g} s with "
            f"{self._vegas.name}"
        )
        return False

    def choose(self, vegas: Candidate, learned: Candidate) -> tuple[Candidate, str]:
        seconds = {candidate.name: self._goal.takes(candidate) for candidate in (vegas, learned)}
        chosen = min((vegas, learned), key=lambda candidate: seconds[candidate.name])
        said = ", ".join(f"{took:.3g} s with {name}" for name, took in seconds.items())
        return chosen, f"{self._goal.name} take about {said}"

    def _after(self, n_steps: int, n_half: float) -> Expectation:
        """What is expected of a training of so many steps."""
        costs, measured, yield_of = self._costs, self._vegas.measured, self._goal.yield_of
        kept, ess = measured.kept, measured.ess_of_sizes
        share = remaining(n_steps, n_half)
        gain = yield_of(kept**share, ess**share) / yield_of(kept, ess)
        left_us = max(costs.us_per_point - self._goal.saved_us_per_point, 0.0)
        price = left_us / measured.us_per_point
        return Expectation(
            sampler=self._learner,
            n_steps=n_steps,
            training_s=n_steps * costs.s_per_step + costs.estimate_s,
            goal_s=self._goal.fixed_s + self._goal.seconds(self._vegas) * price / gain,
        )


def remaining(n_steps: float, n_half: float) -> float:
    """g(n): the share of ln(1 / eps_uw) that is left."""
    return 1 / (1 + math.sqrt(n_steps / n_half)) if n_half < math.inf else 1.0


def observed_half(n_steps: float, before: float, now: float) -> float:
    """n_half from the efficiency before training and after some steps; infinite where nothing was gained."""
    if not 0 < before < now:
        return math.inf
    gain = math.log(before) / math.log(min(now, 1 - 1e-6)) - 1
    return n_steps / gain**2
