from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from mlgen.cards import RunCard, VegasCard
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import GenerationError
from mlgen.integration.adapt import FEWEST, USUAL, GridLearner
from mlgen.integration.candidates import Goal
from mlgen.integration.learner import Learner, LearnerState, NoCheckpoints, teach
from tests.integration.toys import nothing, peaks

CARD = VegasCard(n_points=4000, n_iterations=4, n_bins=16)


@dataclass
class Memory(NoCheckpoints):
    """Checkpoints in memory."""

    states: dict[str, LearnerState] = field(default_factory=dict)
    n_offers: int = 0

    def load(self, purpose: str) -> LearnerState | None:
        return self.states.get(purpose)

    def offer(self, learner: Learner) -> None:
        self.n_offers += 1
        state = learner.state()
        tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
        self.states[learner.purpose] = LearnerState(tensors=tensors, numbers=state.numbers)


def learner(goal: Goal | None = None, card: VegasCard = CARD) -> GridLearner:
    return GridLearner(3, 2, card, goal)


def test_teaching_ends_when_the_learner_is_done_and_counts_what_it_took() -> None:
    toy, grid = peaks(), learner()
    teach(grid, toy, 1, SilentProgress())
    assert grid.progress == 1
    assert toy.sizes == [4000] * 4
    assert 0 < grid.n_calls < sum(toy.sizes), "a part of the constant is cut away"


def test_teaching_ends_when_the_learner_is_no_longer_wanted() -> None:
    grid = learner()
    teach(grid, peaks(), 1, SilentProgress(), is_wanted=lambda: grid.n_rounds < 2)
    assert grid.n_rounds == 2
    assert grid.progress == 0.5


def test_an_adaptation_goes_on_from_its_checkpoint_as_if_nothing_had_happened() -> None:
    whole, part, again = learner(), learner(), learner()
    teach(whole, peaks(), 1, SilentProgress())
    memory = Memory()
    teach(part, peaks(), 1, SilentProgress(), memory, is_wanted=lambda: part.n_rounds < 2)
    assert memory.n_offers == 2
    toy = peaks()
    teach(again, toy, 1, SilentProgress(), memory)
    assert len(toy.sizes) == 2
    assert torch.equal(again.grid.edges, whole.grid.edges)
    assert torch.equal(again.fractions, whole.fractions)


def test_what_is_done_is_not_begun_again() -> None:
    memory = Memory()
    teach(learner(), peaks(), 1, SilentProgress(), memory)
    toy = peaks()
    teach(learner(), toy, 1, SilentProgress(), memory)
    assert toy.sizes == []


def test_points_that_are_all_zero_are_an_error_of_the_learner() -> None:
    with pytest.raises(GenerationError, match="none of 4000 points passes the cuts"):
        teach(GridLearner(1, 2, CARD), nothing(), 1, SilentProgress())


@pytest.mark.parametrize(
    ("n_events", "low", "high"), [(100, FEWEST, FEWEST), (10**9, USUAL, USUAL)]
)
def test_a_round_is_as_large_as_the_events_are_worth(n_events: int, low: int, high: int) -> None:
    toy = peaks()
    open_card = VegasCard(n_iterations=3, n_bins=16)
    grid = learner(Goal.of(RunCard(n_events=n_events)), open_card)
    teach(grid, toy, 1, SilentProgress())
    assert toy.sizes[0] == FEWEST, "nothing is known yet"
    assert all(low <= n <= high for n in toy.sizes[1:])
    assert grid.n_points_to_goal is not None
    assert grid.n_points_to_goal > n_events


def test_a_goal_that_does_not_know_its_points_gets_the_usual_number() -> None:
    toy = peaks()
    goal = Goal(name="the points", seconds=lambda candidate: 1.0)
    teach(learner(goal, VegasCard(n_iterations=2, n_bins=16)), toy, 1, SilentProgress())
    assert toy.sizes == [USUAL] * 2
