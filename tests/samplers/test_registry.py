from __future__ import annotations

import pytest
import torch

from mlgen.cards import BeamCard, Card, FlowCard, ProcessCard
from mlgen.errors import CardError, PackError
from mlgen.samplers.registry import (
    restore_sampler,
    sampler_names,
    sampler_state,
    start_sampler,
)
from tests.samplers.targets import drawn, random_grid


def a_card() -> Card:
    return Card(
        process=ProcessCard(name="ee_to_mumu", definition="e+ e- > mu+ mu-"),
        beams=BeamCard(particles=("e+", "e-"), energies_gev=(250.0, 250.0)),
        flow=FlowCard(n_bins=5, n_hidden=8),
    )


def test_the_samplers_that_mlgen_brings_are_registered() -> None:
    assert {"flow", "vegas"} <= set(sampler_names())


def test_a_name_that_is_not_registered_is_refused_with_those_that_are() -> None:
    grid = random_grid(1, 2, seed=1)
    with pytest.raises(
        CardError, match=r"run.sampler = 'vgeas': expected one of auto, flow, vegas"
    ):
        start_sampler("vgeas", grid, a_card(), torch.Generator())


def test_the_sampler_vegas_is_the_grid_itself() -> None:
    grid = random_grid(1, 2, seed=1)
    assert start_sampler("vegas", grid, a_card(), torch.Generator()) is grid


@pytest.mark.parametrize("name", ["vegas", "flow"])
def test_a_sampler_comes_back_from_its_state_bit_for_bit(name: str) -> None:
    card = a_card()
    grid = random_grid(3, 4, seed=1, n_bins=card.vegas.n_bins)
    sampler = start_sampler(name, grid, card, torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in sampler.parameters():
            noise = torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
            parameter.add_(noise, alpha=0.1)
    restored = restore_sampler(name, card, n_channels=3, n_dim=4, state=sampler_state(sampler))
    for one, other in zip(drawn(sampler, 500, seed=3), drawn(restored, 500, seed=3), strict=True):
        assert torch.equal(one, other)


def test_a_state_shares_no_memory_with_its_sampler() -> None:
    grid = random_grid(1, 2, seed=1)
    state = sampler_state(grid)
    state["edges"].zero_()
    assert float(grid.edges.max()) == 1


def test_a_state_of_another_shape_is_refused() -> None:
    card = a_card()
    grid = random_grid(1, 2, seed=1, n_bins=card.vegas.n_bins)
    state = sampler_state(start_sampler("flow", grid, card, torch.Generator()))
    with pytest.raises(PackError, match="state of sampler 'flow' does not fit its card"):
        restore_sampler("flow", card, n_channels=2, n_dim=2, state=state)
    with pytest.raises(PackError, match="state of sampler 'vegas' does not fit its card"):
        restore_sampler("vegas", card, n_channels=1, n_dim=2, state=state)
