from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from mlgen.cards import FlowCard
from mlgen.core import PhaseSpacePoints, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.channel_features import ChannelFeatures
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.learner import teach
from mlgen.integration.proposal import Proposal, draw
from mlgen.integration.training import SamplerLearner
from mlgen.phasespace.multichannel import MultiChannel
from mlgen.samplers.channel_weights import ResidualWeights
from mlgen.samplers.flow import CouplingFlow
from mlgen.samplers.vegas import VegasGrid
from tests.integration.toys import process
from tests.laws import check_estimate, check_shares_add_up
from tests.phasespace.test_priors import exchanges
from tests.phasespace.wired import Wired, wire_card

LEARNS = "phase_space.learned_weights=true"


class Reweighted(MultiChannel):
    """Shares with weights that were learned: large random ones."""

    features: ChannelFeatures
    weights: ResidualWeights

    def log_prior(self, points: PhaseSpacePoints) -> Tensor:
        own, every = self.log_shares(points)
        group = self._group_of_channel[points.channel]
        change: Tensor = self.weights(self.features(points, group, every), points.channel)
        return own + change


def reweighted(wired: Wired) -> Reweighted:
    phase_space = Reweighted.__new__(Reweighted)
    phase_space.__dict__.update(wired.phase_space.__dict__)
    features = ChannelFeatures(wired.groups, phase_space.n_shares)
    group = torch.tensor([channel.group for channel in phase_space.channels])
    phase_space.features = features
    phase_space.weights = random_weights(group, features)
    return phase_space


def random_weights(group: Tensor, features: ChannelFeatures) -> ResidualWeights:
    rng = torch.Generator().manual_seed(3)
    weights = ResidualWeights(group, features.n_shares, features.n_features, rng)
    with torch.no_grad():
        weights.last.normal_(std=0.3, generator=rng)
    return weights.requires_grad_(False)


@pytest.mark.parametrize("name", ["ee_to_uug", "uux_to_zggg", "pp_to_eejj"])
def test_learned_shares_of_a_group_add_up_to_one(name: str) -> None:
    wired = wire_card(name)
    phase_space = reweighted(wired)
    for group in {phase_space.channels[c].group for c in wired.unlike_channels}:
        points, channels = wired.inside(group, 20), wired.channels_of(group)
        change = phase_space.log_prior(points) - wired.phase_space.log_prior(points)
        assert float(change.abs().max()) > 0.1
        check_shares_add_up(phase_space, points, channels, exchanges(wired, group))


def test_shares_that_see_the_order_of_identical_legs_do_not_add_up() -> None:
    wired = wire_card("uux_to_zggg")
    phase_space = reweighted(wired)
    phase_space.features._has_alike = False
    with pytest.raises(AssertionError, match="not close"):
        check_shares_add_up(
            phase_space, wired.inside(0, 20), wired.channels_of(0), exchanges(wired, 0)
        )


def test_features_are_finite_and_of_the_order_of_one() -> None:
    wired = wire_card("uux_to_zggg")
    features = ChannelFeatures(wired.groups, wired.phase_space.n_shares)
    points = wired.inside()
    seen = features(
        points, torch.zeros(len(points)).long(), wired.phase_space.log_shares(points)[1]
    )
    assert seen.shape == (len(points), features.n_features)
    assert float(seen[:, features.n_shares :].abs().max()) < 10


# --- with a sampler --------------------------------------------------------------------------

FLOW = FlowCard(n_bins=6, n_hidden=16, batch_size=512, n_steps=96, learning_rate=1e-2)


def integrand_of(*overrides: str) -> ProcessIntegrand:
    return process("ee_to_uug", *overrides).integrand


def reference() -> ChannelSums:
    """Without learned weights."""
    integrand = integrand_of()
    grid = VegasGrid.uniform(integrand.n_channels, integrand.n_dim, 8)
    return sums_of(integrand, grid)


def sums_of(integrand: ProcessIntegrand, sampler: VegasGrid | CouplingFlow) -> ChannelSums:
    fractions = torch.full((integrand.n_channels,), 1 / integrand.n_channels).double()
    proposal = Proposal(sampler=sampler, fractions=fractions)
    batch, evaluation = draw(integrand, proposal, 100_000, random_stream(4, "fresh", 0))
    assert torch.equal(evaluation.value, batch.value)
    return ChannelSums.of(batch, integrand.n_channels)


def with_random_weights(integrand: ProcessIntegrand) -> VegasGrid:
    features = integrand.channel_features
    assert features is not None
    grid = VegasGrid.uniform(integrand.n_channels, integrand.n_dim, 8)
    group = torch.tensor([channel.group for channel in integrand.phase_space.channels])
    grid.learned_weights = random_weights(group, features)
    return grid


def pull(one: ChannelSums, other: ChannelSums) -> float:
    return (one.mean - other.mean) / math.hypot(one.error, other.error)


def test_any_weights_leave_the_cross_section_as_it_is_and_move_it_between_channels() -> None:
    integrand = integrand_of(LEARNS)
    theirs, ours = reference(), sums_of(integrand, with_random_weights(integrand))
    check_estimate(ours.mean, ours.error, theirs.mean, max_relative_error=0.05)
    moved = (ours.means - theirs.means).abs() / (ours.variances + theirs.variances).sqrt()
    assert float(moved.max()) > 5


def test_weights_that_do_not_add_up_change_the_cross_section() -> None:
    integrand = integrand_of(LEARNS)
    wrong = with_random_weights(integrand)
    weights = wrong.learned_weights
    assert weights is not None

    def too_much(module: object, seen: object, log_share: Tensor) -> Tensor:
        return log_share + 0.3

    weights.register_forward_hook(too_much)
    assert abs(pull(sums_of(integrand, wrong), reference())) > 5


def test_without_the_option_an_integrand_shows_no_features() -> None:
    integrand = integrand_of()
    assert integrand.start_weights(torch.Generator()) is None
    wrong = with_random_weights(integrand_of(LEARNS))
    with pytest.raises(ValueError, match="shows features"):
        sums_of(integrand, wrong)


@cache
def trained() -> tuple[CouplingFlow, SamplerLearner]:
    integrand = integrand_of(LEARNS)
    grid = VegasGrid.uniform(integrand.n_channels, integrand.n_dim, 8)
    flow = CouplingFlow(grid, FLOW, random_stream(1, "initialise", 0))
    flow.learned_weights = integrand.start_weights(random_stream(1, "channel weights", 0))
    fractions = torch.full((integrand.n_channels,), 1 / integrand.n_channels).double()
    learner = SamplerLearner(flow, fractions, FLOW, 1, 0.001)
    teach(learner, integrand, 1, SilentProgress())
    learner.finish()
    return flow, learner


def test_trained_weights_have_changed_and_give_the_same_cross_section() -> None:
    flow, _ = trained()
    assert flow.learned_weights is not None
    assert float(flow.learned_weights.last.abs().max()) > 0.01
    theirs, ours = reference(), sums_of(integrand_of(LEARNS), flow)
    assert abs(pull(ours, theirs)) < 5
    assert ours.error < 0.02 * ours.mean
    assert ours.error < 0.5 * theirs.error


def test_a_training_with_weights_goes_on_from_its_state_bit_for_bit() -> None:
    flow, learner = trained()
    integrand = integrand_of(LEARNS)
    again = CouplingFlow(
        VegasGrid.uniform(integrand.n_channels, integrand.n_dim, 8), FLOW, torch.Generator()
    )
    again.learned_weights = integrand.start_weights(torch.Generator())
    other = SamplerLearner(again, learner.proposal.fractions, FLOW, 1, 0.001)
    other.restore(learner.state())
    assert again.learned_weights is not None
    assert flow.learned_weights is not None
    assert torch.equal(again.learned_weights.last, flow.learned_weights.last)
    kept, stored = other.state().tensors, learner.state().tensors
    assert all(torch.equal(kept[name], stored[name]) for name in stored)


def test_features_of_points_outside_the_cuts_count_for_nothing() -> None:
    integrand = integrand_of(LEARNS)
    rng = random_stream(5, "points", 0)
    r = torch.rand((200, integrand.n_dim + integrand.n_flat), generator=rng, dtype=torch.float64)
    evaluation = integrand(r, torch.arange(200) % integrand.n_channels)
    assert evaluation.features is not None
    outside = evaluation.value == 0
    assert bool(outside.any())
    assert not bool(evaluation.features[outside].any())
    plain = replace(integrand, channel_features=None)(r, torch.arange(200) % integrand.n_channels)
    assert torch.equal(plain.value, evaluation.value)
