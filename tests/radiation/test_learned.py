"""What was learned, from momenta to momenta."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import MlgenError
from mlgen.radiation.hard_object import HardObject
from mlgen.radiation.jets import check_jet_events
from mlgen.radiation.learned import N_POSTERIOR, LearnedRadiation, learn
from mlgen.radiation.representation import Representation
from mlgen.radiation.settings import TrainingSettings
from tests.radiation.networks import SMALL, random_network
from tests.radiation.samples import PT_MIN, random_events


def learned(n_networks: int = 2, variational: bool = False) -> LearnedRadiation:
    settings = replace(SMALL, variational="last" if variational else "none")
    return LearnedRadiation(
        representation=Representation.of(random_events(500, seed=51), PT_MIN),
        settings=settings,
        networks=tuple(random_network(seed, settings) for seed in range(n_networks)),
        hard_object=HardObject(torch.Generator().manual_seed(n_networks)),
    )


def test_drawn_jets_are_events() -> None:
    radiation, hard = learned(), random_events(500, seed=52).hard
    drawn = radiation.sample(hard, torch.Generator().manual_seed(53), max_jets=6)
    check_jet_events(drawn, PT_MIN)
    assert torch.equal(drawn.hard, hard)
    assert 3 <= int(drawn.n_jets.max()) <= 6


def test_densities_are_in_physical_variables() -> None:
    radiation, events = learned(), random_events(50, seed=54)
    particles = radiation.representation.encode(events)
    inside = radiation.ensemble.density(particles)
    found = radiation.density(events)
    assert torch.equal(found.std, inside.std)
    log_jac = radiation.representation.log_jac(particles)[:, 1:].sum(1)
    torch.testing.assert_close(found.log_prob, inside.log_prob + log_jac)
    none = events.n_jets == 0
    assert torch.equal(found.log_prob[none], inside.log_prob[none])


@pytest.mark.parametrize("variational", [False, True])
def test_a_state_comes_back(variational: bool) -> None:
    radiation, events = learned(variational=variational), random_events(50, seed=55)
    assert len(radiation.ensemble.members) == (2 * N_POSTERIOR if variational else 2)
    table, tensors = radiation.state()
    back = LearnedRadiation.restore(json.loads(json.dumps(table)), tensors)
    assert back.representation == radiation.representation
    assert back.settings == radiation.settings
    for one, other in zip(back.density(events), radiation.density(events), strict=True):
        assert torch.equal(one, other)


def test_bad_tables_are_refused() -> None:
    table, tensors = learned().state()
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        LearnedRadiation.restore({**table, "network": {"colour": 1}}, tensors)
    with pytest.raises(KeyError, match="network_1"):
        LearnedRadiation.restore(table, {k: v for k, v in tensors.items() if k != "network_1"})


def test_an_ensemble_is_learned_from_resampled_events() -> None:
    settings = TrainingSettings(n_epochs=1, batch_size=64, n_members=2)
    events = random_events(300, seed=56)
    found = learn(events, PT_MIN, SMALL, settings, 1, SilentProgress())
    assert len(found.records) == len(found.radiation.networks) == 2
    density = found.radiation.density(events)
    assert bool((density.std > 0).all())


def test_bad_events_are_refused() -> None:
    events = random_events(300, seed=57)
    with pytest.raises(MlgenError, match="expected more than 100 GeV"):
        learn(events, 100.0, SMALL, TrainingSettings(), 1, SilentProgress())
