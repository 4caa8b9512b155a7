from __future__ import annotations

import dataclasses
import math
import random

import pytest

from mlgen.cards import ModelCard
from mlgen.physics.model import StandardModel

MODEL = StandardModel()


def test_what_follows_from_the_inputs_is_that_of_madgraph() -> None:
    """MadGraph5_aMC@NLO's `sm` with its default parameter card: MW and sw2 as it prints them."""
    assert MODEL.w_mass_gev == pytest.approx(80.419002445756163, rel=1e-15)
    assert MODEL.sin2_theta_w == pytest.approx(0.22224648578577766, rel=1e-14)


def test_the_couplings_obey_the_relations_of_the_tree_level() -> None:
    assert MODEL.electric_charge**2 == pytest.approx(4 * math.pi / 132.507, rel=1e-15)
    # G_F / sqrt(2) = e² / (8 sin² M_W²)
    fermi = MODEL.electric_charge**2 / (8 * MODEL.sin2_theta_w * MODEL.w_mass_gev**2)
    assert fermi * math.sqrt(2) == pytest.approx(1.16639e-5, rel=1e-12)


def test_masses_and_widths_are_those_of_the_card() -> None:
    model = StandardModel(ModelCard(top_mass_gev=172.5, z_width_gev=2.5, tau_mass_gev=1.8))
    assert model.mass_gev(6) == model.mass_gev(-6) == 172.5
    assert model.width_gev(23) == 2.5
    assert model.mass_gev(-15) == 1.8
    assert [MODEL.mass_gev(i) for i in (5, 23, 24, 25)] == [4.7, 91.188, MODEL.w_mass_gev, 125.0]
    assert [MODEL.width_gev(i) for i in (6, -24, 25)] == [1.4915, 2.0476, 0.006382339]


@pytest.mark.parametrize("pdg_id", [1, -2, 3, 4, 11, -13, 12, 14, 16, 21, 22])
def test_the_others_are_massless_and_stable(pdg_id: int) -> None:
    assert MODEL.mass_gev(pdg_id) == 0
    assert MODEL.width_gev(pdg_id) == 0


def test_a_varied_model_has_all_its_inputs_larger() -> None:
    varied = MODEL.varied(random.Random(3)).inputs
    for item in dataclasses.fields(ModelCard):
        before, after = getattr(MODEL.inputs, item.name), getattr(varied, item.name)
        if isinstance(before, float):
            assert 1 < after / before < 1.5
    again = MODEL.varied(random.Random(3))
    assert again.inputs == varied
    assert 0 < again.sin2_theta_w < 0.25


def test_a_particle_and_its_antiparticle_have_opposite_charges() -> None:
    for pdg_id, particle in MODEL.particles.items():
        other = MODEL.particles[MODEL.conjugate(pdg_id)]
        assert other.charge == -particle.charge
        assert other.spin == particle.spin
        assert (other.pdg_id == pdg_id) == particle.is_self_conjugate


def test_each_vertex_conserves_charge_and_counts_couplings_as_legs_do() -> None:
    for vertex in MODEL.vertices():
        assert sum(MODEL.particles[p].charge for p in vertex.particles) == pytest.approx(0)
        assert sum(power for _, power in vertex.orders) == len(vertex.particles) - 2


def test_massless_fermions_have_no_vertex_with_the_higgs_boson() -> None:
    coupled = {abs(p) for v in MODEL.vertices() if 25 in v.particles for p in v.particles}
    assert coupled == {5, 6, 15, 23, 24, 25}
