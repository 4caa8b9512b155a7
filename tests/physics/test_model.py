from __future__ import annotations

import math

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
