from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlgen.cards import BeamCard, Card, FlowCard, ProcessCard
from mlgen.errors import PackError
from mlgen.samplers.channel_weights import ResidualWeights
from mlgen.samplers.registry import restore_sampler, sampler_state, start_sampler
from tests.samplers.targets import random_grid

GROUP = torch.tensor([0, 0, 0, 1, 2, 2])
N_IN_GROUP = torch.tensor([3, 1, 2])


def features(group: int, n: int = 50, seed: int = 1) -> Tensor:
    """ln of random shares, -inf where the group has fewer channels, and four more columns."""
    rng = torch.Generator().manual_seed(seed)
    share = torch.rand(n, 3, generator=rng, dtype=torch.float64)
    share[:, N_IN_GROUP[group] :] = 0
    others = torch.randn(n, 4, generator=rng, dtype=torch.float64)
    return torch.cat([(share / share.sum(1, keepdim=True)).log(), others], dim=1)


def weights(trained: bool, seed: int = 2) -> ResidualWeights:
    rng = torch.Generator().manual_seed(seed)
    made = ResidualWeights(GROUP, 3, 7, rng)
    if trained:
        with torch.no_grad():
            made.last.normal_(std=0.3, generator=rng)
    return made.requires_grad_(False)


def total(made: ResidualWeights, group: int) -> Tensor:
    """The sum of the learned shares of a group's channels."""
    seen = features(group)
    channels = [c for c, mine in enumerate(GROUP.tolist()) if mine == group]
    return torch.stack(
        [
            (seen[:, number] + made(seen, torch.full((len(seen),), channel))).exp()
            for number, channel in enumerate(channels)
        ]
    ).sum(0)


@pytest.mark.parametrize("group", [0, 1, 2])
def test_whatever_is_learned_the_shares_of_a_group_add_up_to_one(group: int) -> None:
    summed = total(weights(trained=True), group)
    torch.testing.assert_close(summed, torch.ones_like(summed), rtol=0, atol=1e-12)


def test_with_one_share_changed_they_do_not_add_up_to_one() -> None:
    class Wrong(ResidualWeights):
        def forward(self, features: Tensor, channel: Tensor) -> Tensor:
            return super().forward(features, channel) + 0.1 * (channel == 1)

    wrong = Wrong(GROUP, 3, 7, torch.Generator().manual_seed(2)).requires_grad_(False)
    assert float((total(wrong, 0) - 1).abs().max()) > 0.01


def test_they_start_as_the_prior_and_learn_something_else() -> None:
    channel = torch.arange(50) % 3
    start, later = (weights(trained)(features(0), channel) for trained in (False, True))
    torch.testing.assert_close(start, torch.zeros_like(start), rtol=0, atol=1e-12)
    assert float(later.abs().max()) > 0.1


def test_a_share_of_zero_gives_finite_gradients() -> None:
    made = weights(trained=True).requires_grad_(True)
    seen = features(0)
    seen[:, 2] = -torch.inf
    made(seen, torch.zeros(50, dtype=torch.int64)).sum().backward()
    gradients = [parameter.grad for parameter in made.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def a_card() -> Card:
    return Card(
        process=ProcessCard(name="ee_to_uug", definition="e+ e- > u u~ g"),
        beams=BeamCard(particles=("e+", "e-"), energies_gev=(250.0, 250.0)),
        flow=FlowCard(n_bins=5, n_hidden=8),
    )


def test_they_come_back_with_the_sampler_that_learned_them() -> None:
    card = a_card()
    grid = random_grid(6, 4, seed=1, n_bins=card.vegas.n_bins)
    sampler = start_sampler("flow", grid, card, torch.Generator().manual_seed(1))
    sampler.learned_weights = weights(trained=True)
    state = sampler_state(sampler)
    restored = restore_sampler("flow", card, n_channels=6, n_dim=4, state=state)
    channel = torch.arange(50) % 3
    ours, theirs = sampler.channel_weights, restored.channel_weights
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours(features(0), channel), theirs(features(0), channel))
    assert ours.is_like(theirs)
    other = ResidualWeights(GROUP[:5], 3, 7, torch.Generator())
    assert not ours.is_like(other)


def test_a_state_with_half_of_them_is_refused() -> None:
    card = a_card()
    grid = random_grid(6, 4, seed=1, n_bins=card.vegas.n_bins)
    sampler = start_sampler("flow", grid, card, torch.Generator().manual_seed(1))
    sampler.learned_weights = weights(trained=True)
    state = sampler_state(sampler)
    del state["learned_weights.last"]
    with pytest.raises(PackError, match="does not fit"):
        restore_sampler("flow", card, n_channels=6, n_dim=4, state=state)
