"""How long a surrogate of a run is trained, and when the one that guided its samplers serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch

from mlgen.campaign.step_clock import StepClock
from mlgen.cards import RunCard
from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.aids import Aids
from mlgen.integration.exact_points import ExactPoints
from mlgen.integration.learned_surrogate import GUIDE, LEAST_STEPS, learned_surrogate, steps_for
from mlgen.integration.learner import LearnerState, NoCheckpoints, Round
from mlgen.integration.proposal import Proposal, draw
from mlgen.samplers.vegas import VegasGrid
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.surrogate import Surrogate
from tests.integration.toys import process

MADE = process("pp_to_eej")
N_POINTS = 20_000


@dataclass
class Memory(NoCheckpoints):
    """Checkpoints in memory, with points of so many groups."""

    n_groups: int = len(MADE.integrand.groups)
    states: dict[str, LearnerState] = field(default_factory=dict)

    def load(self, purpose: str) -> LearnerState | None:
        return self.states.get(purpose)

    def store(self, purpose: str, state: LearnerState) -> None:
        self.states[purpose] = state

    def kept(self, before: Round | None = None) -> Iterator[ExactPoints]:
        integrand = MADE.integrand
        channels = torch.tensor([c.group < self.n_groups for c in integrand.phase_space.channels])
        grid = VegasGrid.uniform(integrand.n_channels, integrand.n_dim, 8)
        proposal = Proposal(sampler=grid, fractions=channels / channels.sum())
        rng = random_stream(1, "points", 0)
        points = ExactPoints.of(draw(integrand, proposal, N_POINTS, rng)[1])
        assert points is not None
        yield points


def learned(memory: Memory, purpose: str, n_steps: int) -> tuple[Surrogate, int]:
    settings = SurrogateCard(n_steps=n_steps, n_hidden=16)
    aids = Aids(progress=SilentProgress(), clock=StepClock(), checkpoints=memory)
    model = MADE.picker.model
    return learned_surrogate(MADE.integrand, settings, RunCard(), model, aids, purpose)


# --- how long -------------------------------------------------------------------------------------


def test_a_tenth_of_the_time_of_the_events_is_spent_on_training() -> None:
    assert steps_for(goal_s=300.0, n_steps=12_000, training_s=60.0) == 6000


@pytest.mark.parametrize(("goal_s", "expected"), [(1e6, 12_000), (1.0, LEAST_STEPS)])
def test_no_more_steps_than_the_card_has_and_no_fewer_than_are_of_use(
    goal_s: float, expected: int
) -> None:
    assert steps_for(goal_s, n_steps=12_000, training_s=60.0) == expected


def test_a_card_of_few_steps_is_followed() -> None:
    assert steps_for(goal_s=1.0, n_steps=300, training_s=60.0) == 300


# --- one that is there ----------------------------------------------------------------------------


def test_what_guided_the_samplers_serves_where_it_was_trained_as_long() -> None:
    memory = Memory()
    guide, n_points = learned(memory, GUIDE, 40)
    found, n_again = learned(memory, "surrogate", 40)
    assert n_again == n_points > 0
    assert list(memory.states) == [GUIDE]
    for name, tensor in guide.state().items():
        assert torch.equal(found.state()[name], tensor)


def test_another_is_trained_where_that_takes_longer() -> None:
    memory = Memory()
    learned(memory, GUIDE, 40)
    learned(memory, "surrogate", 41)
    assert list(memory.states) == [GUIDE, "surrogate"]


def test_another_is_trained_where_some_groups_were_not_learned() -> None:
    memory = Memory(n_groups=1)
    guide, _ = learned(memory, GUIDE, 40)
    assert None in guide.of_groups
    memory.n_groups = len(MADE.integrand.groups)
    found, _ = learned(memory, "surrogate", 40)
    assert list(memory.states) == [GUIDE, "surrogate"]
    assert None not in found.of_groups


def test_what_is_stored_is_not_learned_again() -> None:
    memory = Memory()
    first, _ = learned(memory, "surrogate", 40)
    memory.n_groups = 0
    again, _ = learned(memory, "surrogate", 40)
    for name, tensor in first.state().items():
        assert torch.equal(again.state()[name], tensor)
