from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from mlgen.core import EventBatch, random_stream
from mlgen.errors import GenerationError, MlgenError
from mlgen.physics.kinematics import mass_squared, phi, pt, rapidity
from mlgen.radiation.hard_object import HardObject
from mlgen.radiation.learned import LearnedRadiation
from mlgen.radiation.radiator import Radiator, log_prob_after
from mlgen.radiation.records import JET, HardEvents
from mlgen.radiation.representation import Representation
from tests.radiation.networks import SMALL, random_network
from tests.radiation.samples import PT_MIN, random_events
from tests.radiation.test_records import hard_events

BEAMS = (6500.0, 6500.0)


@cache
def radiation(n_networks: int = 2) -> LearnedRadiation:
    return LearnedRadiation(
        representation=Representation.of(random_events(500, seed=51), PT_MIN),
        settings=SMALL,
        networks=tuple(random_network(seed, SMALL) for seed in range(n_networks)),
        hard_object=HardObject(torch.Generator().manual_seed(1)),
    )


def radiated(name: str, n_networks: int = 2, chunk: int = 0) -> EventBatch:
    radiator = Radiator(radiation=radiation(n_networks), beam_energies=BEAMS, max_jets=5)
    return radiator(hard_events(name), random_stream(1, "radiate", chunk)).events


@pytest.mark.parametrize("name", ["pp_to_ee", "pp_to_eej"])
def test_radiated_events_conserve_momentum_and_hold_jets_above_the_threshold(name: str) -> None:
    events = radiated(name)
    final = events.status == 1
    total = (events.momenta * final[..., None]).sum(1)
    torch.testing.assert_close(total, events.momenta[:, :2].sum(1), rtol=1e-9, atol=1e-6)
    is_jet = final & (events.pdg_id == JET)
    assert float(pt(events.momenta[is_jet]).min()) >= PT_MIN
    assert 0 < int(is_jet.sum(1).max()) <= 5
    assert len(set(is_jet.sum(1).tolist())) > 1


def test_the_partons_of_the_process_are_the_first_jets_with_masses_of_their_own() -> None:
    hard, events = HardEvents.of(hard_events("pp_to_eej")), radiated("pp_to_eej")
    row = (events.pdg_id == JET).long() * (events.status == 1).long()
    first = events.momenta[torch.arange(len(events)), row.argmax(1)]
    parton = hard.partons[:, 0]
    torch.testing.assert_close(pt(first), pt(parton), rtol=1e-6, atol=0)
    torch.testing.assert_close(phi(first), phi(parton), rtol=0, atol=1e-6)
    assert float(mass_squared(first).min()) > 0


def test_mass_and_rapidity_of_the_hard_object_are_those_of_the_process() -> None:
    hard, events = HardEvents.of(hard_events("pp_to_ee")), radiated("pp_to_ee")
    leptons = ((events.pdg_id.abs() == 11)[..., None] * events.momenta).sum(1)
    torch.testing.assert_close(mass_squared(leptons), mass_squared(hard.hard), rtol=1e-6, atol=0)
    torch.testing.assert_close(rapidity(leptons), rapidity(hard.hard), rtol=0, atol=1e-6)


def test_members_weigh_each_event_with_their_density_over_the_mean() -> None:
    events = radiated("pp_to_eej")
    assert events.variations.shape == (len(events), 2)
    mean = events.variations.mean(1)
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-6, atol=1e-6)
    assert float(events.variations.std(1).min()) > 0
    assert radiated("pp_to_eej", n_networks=1).variations.shape == (len(events), 0)


def test_what_is_given_is_left_out_of_the_density() -> None:
    learned = radiation()
    particles = learned.representation.encode(random_events(50, seed=3).up_to(3))
    network = learned.networks[0]
    whole = network.log_prob(particles).detach()
    torch.testing.assert_close(log_prob_after(network, particles, 0), whole, rtol=1e-5, atol=1e-5)
    later = log_prob_after(network, particles, 1)
    has_jets = particles.n_jets > 0
    assert not torch.isclose(later, whole)[has_jets].any()
    torch.testing.assert_close(later[~has_jets], log_prob_after(network, particles, 0)[~has_jets])


def test_events_are_the_same_for_the_same_stream_and_others_for_another() -> None:
    one, again, other = (radiated("pp_to_ee", chunk=chunk) for chunk in (0, 0, 1))
    assert torch.equal(one.momenta, again.momenta)
    assert one.momenta.shape != other.momenta.shape or not torch.equal(one.momenta, other.momenta)


def test_jets_that_the_beams_cannot_pay_for_are_drawn_again() -> None:
    hard = hard_events("pp_to_ee")
    energies = hard.momenta[:, :2, 0]
    poor = Radiator(
        radiation=radiation(), beam_energies=(1.1 * float(energies.max()),) * 2, max_jets=5
    )
    found = poor(hard, random_stream(1, "radiate", 0))
    assert found.n_redrawn > 0
    assert float(found.events.momenta[:, :2, 0].max()) <= 1.1 * float(energies.max())
    hopeless = replace(poor, beam_energies=(1.0, 1.0))
    with pytest.raises(GenerationError, match="expected some that beams of"):
        hopeless(hard, random_stream(1, "radiate", 0))


def test_partons_softer_than_the_jets_that_were_learned_from_are_refused() -> None:
    learned = radiation()
    high = replace(learned.representation, pt_min=1000.0)
    radiator = Radiator(radiation=replace(learned, representation=high), beam_energies=BEAMS)
    with pytest.raises(MlgenError, match="expected more than 1000 GeV"):
        radiator(hard_events("pp_to_eej"), random_stream(1, "radiate", 0))
