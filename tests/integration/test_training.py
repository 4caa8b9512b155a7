from __future__ import annotations

from functools import cache

import pytest
import torch

from mlgen.cards import FlowCard, VegasCard
from mlgen.core import Sampler, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import GenerationError, TrainingFailed
from mlgen.events.unweighting import effective_sample_size
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.learner import LearnerState, teach
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.integration.training import STEPS_PER_ROUND, SamplerLearner, Training
from mlgen.samplers.flow import CouplingFlow
from mlgen.samplers.vegas import VegasGrid
from tests.integration.toys import Toy, nothing, ridges
from tests.laws import check_estimate

VEGAS = VegasCard(n_points=4000, n_iterations=3, n_bins=16)


def learned(
    flow: CouplingFlow, toy: Toy, fractions: torch.Tensor, card: FlowCard, seed: int
) -> Training:
    learner = SamplerLearner(flow, fractions, card, seed, budget=0.001)
    teach(learner, toy, seed, SilentProgress())
    return learner.finish()


def trained(
    renyi_order: float, seed: int, n_steps: int, shares: tuple[float, ...] = ()
) -> tuple[CouplingFlow, Training]:
    """A flow that starts from an adapted grid, with its fractions or some others."""
    toy = ridges()
    card = FlowCard(
        n_bins=8,
        n_hidden=32,
        batch_size=1024,
        n_steps=n_steps,
        renyi_order=renyi_order,
        learning_rate=1e-2,
    )
    grid, fractions, _ = adapt_grid(toy, VEGAS, seed, SilentProgress())
    flow = CouplingFlow(grid, card, random_stream(seed, "initialise", 0))
    if shares:
        fractions = torch.tensor(shares, dtype=torch.float64)
    return flow, learned(flow, toy, fractions, card, seed)


long_training = cache(trained)


def sums_and_ess(sampler: Sampler, fractions: torch.Tensor) -> tuple[ChannelSums, float]:
    proposal = Proposal(sampler=sampler, fractions=fractions)
    batch, _ = draw(ridges(), proposal, 20_000, random_stream(9, "fresh", 0))
    ess = effective_sample_size(channel_weight(batch) / batch.fraction)
    return ChannelSums.of(batch, 2), ess


@pytest.mark.parametrize("renyi_order", [1.0, 2.0, 6.0])
def test_training_learns_a_correlation_that_a_grid_cannot(
    renyi_order: float,
) -> None:
    grid, fractions, _ = adapt_grid(ridges(), VEGAS, 1, SilentProgress())
    flow, training = long_training(renyi_order, 1, 200, ())
    _, before = sums_and_ess(grid, fractions)
    _, after = sums_and_ess(flow, training.fractions)
    assert before < 0.5
    assert after > 0.8


@pytest.mark.parametrize("renyi_order", [1.0, 2.0, 6.0])
def test_a_trained_sampler_gives_the_true_integral(renyi_order: float) -> None:
    flow, training = long_training(renyi_order, 1, 200, ())
    sums, _ = sums_and_ess(flow, training.fractions)
    check_estimate(sums.mean, sums.error, ridges().integral, max_relative_error=0.005)


def test_the_loss_falls_and_there_is_one_for_each_step() -> None:
    _, training = long_training(2.0, 1, 200, ())
    assert len(training.losses) == 200
    assert sum(training.losses[-20:]) < sum(training.losses[:20]) - 20 * 0.3


def test_a_trained_sampler_is_frozen() -> None:
    flow, _ = long_training(2.0, 1, 200, ())
    assert not any(parameter.requires_grad for parameter in flow.parameters())
    r, channel = torch.rand(3, 2, dtype=torch.float64), torch.tensor([0, 1, 0])
    assert not flow.log_prob(r, channel).requires_grad


@pytest.mark.parametrize(("n_steps", "shares"), [(200, ()), (24, (0.95, 0.05))])
def test_the_fractions_add_up_to_one_and_follow_the_cross_sections(
    n_steps: int, shares: tuple[float, ...]
) -> None:
    _, training = long_training(2.0, 1, n_steps, shares)
    assert float(training.fractions.sum()) == pytest.approx(1, rel=1e-12)
    # 1 : 3, but for the tenth that is spread evenly and what is left of the fluctuations.
    assert training.fractions.tolist() == pytest.approx([0.275, 0.725], abs=0.06)


def test_a_seed_fixes_what_is_learned_and_another_seed_changes_it() -> None:
    (first, one), (again, same), (other, another) = (trained(2.0, s, 10) for s in (1, 1, 2))
    assert one.losses == same.losses
    assert one.losses != another.losses
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    r, channel = torch.full((1, 2), 0.3, dtype=torch.float64), torch.tensor([0])
    assert not torch.equal(first.log_prob(r, channel), other.log_prob(r, channel))


@pytest.mark.parametrize("n_steps", [1, 7, 8, 9])
def test_there_are_exactly_as_many_steps_as_the_card_says(n_steps: int) -> None:
    _, training = trained(2.0, 1, n_steps)
    assert len(training.losses) == n_steps


def test_training_on_nothing_is_an_error() -> None:
    card = FlowCard(n_bins=4, n_hidden=8, batch_size=128, n_steps=2)
    flow = CouplingFlow(VegasGrid.uniform(1, 2, 4), card, torch.Generator().manual_seed(1))
    fractions = torch.ones(1, dtype=torch.float64)
    with pytest.raises(GenerationError, match="none of 512 points passes the cuts"):
        learned(flow, nothing(), fractions, card, 1)


def test_a_training_that_diverges_stops_with_the_step_where_it_did() -> None:
    toy, seed = ridges(), 1
    card = FlowCard(n_bins=8, n_hidden=16, batch_size=256, n_steps=50, learning_rate=1e30)
    fractions = torch.full((toy.n_channels,), 1 / toy.n_channels, dtype=torch.float64)
    grid = VegasGrid.uniform(toy.n_channels, toy.n_dim, 8)
    flow = CouplingFlow(grid, card, torch.Generator().manual_seed(seed))
    with pytest.raises(GenerationError, match="at training step"):
        learned(flow, toy, fractions, card, seed)


def flat_learner(patience: int, n_steps: int = 400) -> tuple[SamplerLearner, Toy]:
    """A learner of an integrand that its sampler has from the beginning."""
    toy = Toy(functions=(lambda r: torch.ones_like(r[:, 0]),), integrals=(1.0,))
    card = FlowCard(n_bins=4, n_hidden=8, batch_size=64, n_steps=n_steps, patience=patience)
    flow = CouplingFlow(VegasGrid.uniform(1, 2, 4), card, torch.Generator().manual_seed(1))
    return SamplerLearner(flow, torch.ones(1, dtype=torch.float64), card, 1, budget=0.001), toy


def test_a_training_that_gains_nothing_ends_early_but_with_its_last_part() -> None:
    learner, toy = flat_learner(patience=3)
    teach(learner, toy, 1, SilentProgress())
    # Three rounds after the first, and as many again in which the learning rate falls.
    assert len(learner.losses) == 2 * 3 * STEPS_PER_ROUND
    assert learner.progress == 1


@pytest.mark.parametrize(("reuse", "n_rounds"), [(1.0, 8), (4.0, 8), (10.0, 20)])
def test_as_many_points_are_kept_however_often_each_is_used(reuse: float, n_rounds: int) -> None:
    card = FlowCard(n_bins=4, n_hidden=8, batch_size=256, n_steps=480, reuse=reuse, patience=0)
    flow = CouplingFlow(VegasGrid.uniform(2, 2, 4), card, torch.Generator().manual_seed(1))
    learner = SamplerLearner(flow, torch.full((2,), 0.5, dtype=torch.float64), card, 1, 0.001)
    teach(learner, ridges(), 1, SilentProgress(), is_wanted=lambda: learner.n_rounds < 25)
    kept = [name for name in learner.state().tensors if name.startswith("replay.channel")]
    assert len(kept) == n_rounds


def test_a_training_without_patience_makes_all_its_steps() -> None:
    learner, toy = flat_learner(patience=0)
    teach(learner, toy, 1, SilentProgress())
    assert len(learner.losses) == 400


def test_a_training_that_still_gains_is_not_ended() -> None:
    _, training = trained(2.0, 1, 200)
    assert len(training.losses) == 200


def test_the_last_part_can_do_without_new_points() -> None:
    toy = ridges()
    card = FlowCard(n_bins=4, n_hidden=8, batch_size=128, n_steps=160, offline=0.5, kept_rounds=20)
    flow = CouplingFlow(VegasGrid.uniform(2, 2, 4), card, torch.Generator().manual_seed(1))
    learner = SamplerLearner(flow, torch.full((2,), 0.5, dtype=torch.float64), card, 1, 0.001)
    teach(learner, toy, 1, SilentProgress())
    assert len(learner.losses) == 160
    # Rounds of 16 steps for the first half, and one for all that is left.
    assert toy.sizes == [512] * 6


def test_a_sampler_that_collapses_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter((0.5, 0.4, 0.3, 0.04))
    monkeypatch.setattr("mlgen.integration.training.efficiency_of", lambda *_: next(seen))
    learner, toy = flat_learner(patience=0)
    with pytest.raises(TrainingFailed, match=r"eps_uw fell from 0\.5 to 0\.04 in 48 steps"):
        teach(learner, toy, 1, SilentProgress())


def test_training_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    whole, part, again = (ridge_learner() for _ in range(3))
    teach(whole, ridges(), 1, SilentProgress())
    teach(part, ridges(), 1, SilentProgress(), is_wanted=lambda: part.n_rounds < 3)
    assert 0 < part.progress < 1
    state = part.state()
    again.restore(
        LearnerState(
            tensors={name: value.clone() for name, value in state.tensors.items()},
            numbers=state.numbers,
        )
    )
    teach(again, ridges(), 1, SilentProgress())
    assert again.finish().losses == whole.finish().losses
    for name, value in whole.sampler.state_dict().items():
        assert torch.equal(value, again.sampler.state_dict()[name]), name
    assert torch.equal(again.proposal.fractions, whole.proposal.fractions)


def ridge_learner() -> SamplerLearner:
    card = FlowCard(n_bins=4, n_hidden=8, batch_size=128, n_steps=100)
    flow = CouplingFlow(VegasGrid.uniform(2, 2, 4), card, torch.Generator().manual_seed(1))
    return SamplerLearner(flow, torch.full((2,), 0.5, dtype=torch.float64), card, 1, budget=0.001)
