from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.cut_cards import (
    CutsCard,
    EventCutsCard,
    ListedParticleCutsCard,
    PairCutsCard,
    ParticleCutsCard,
)
from mlgen.errors import CardError
from mlgen.physics.kinematics import delta_r, eta, mass, pt
from mlgen.physics.near_cuts import NearCuts, tightened

GROUP = SubprocessGroup(name="u u~ > e+ e- g", pdg_ids=((2, -2, -11, 11, 21),))
CARD = CutsCard(
    jets=ParticleCutsCard(pt_min_gev=20, abs_eta_max=4),
    leptons=ParticleCutsCard(energy_min_gev=10),
    jet_lepton=PairCutsCard(delta_r_min=0.4),
    lepton_lepton=PairCutsCard(mass_min_gev=60, mass_max_gev=120),
    event=EventCutsCard(ht_max_gev=500),
    particles=(ListedParticleCutsCard(pdg_ids=(11,), pt_min_gev=5),),
)


def momenta(n: int) -> Tensor:
    """Massless final legs of any transverse momentum and direction; no conservation, as cuts need none."""
    rng = torch.Generator().manual_seed(1)
    pt_gev = 100 * torch.rand(n, 5, generator=rng, dtype=torch.float64)
    rapidity = 10 * torch.rand(n, 5, generator=rng, dtype=torch.float64) - 5
    phi = 2 * math.pi * torch.rand(n, 5, generator=rng, dtype=torch.float64)
    components = (rapidity.cosh(), phi.cos(), phi.sin(), rapidity.sinh())
    return torch.stack([pt_gev * component for component in components], dim=2)


def test_every_bound_is_tightened_and_what_is_none_stays() -> None:
    tight = tightened(CARD)
    assert tight.jets.pt_min_gev == pytest.approx(22)
    assert tight.jets.abs_eta_max == pytest.approx(4 / 1.1)
    assert tight.jets.pt_max_gev == math.inf
    assert tight.leptons.energy_min_gev == pytest.approx(11)
    assert tight.jet_lepton.delta_r_min == pytest.approx(0.44)
    assert tight.lepton_lepton.mass_min_gev == pytest.approx(66)
    assert tight.lepton_lepton.mass_max_gev == pytest.approx(120 / 1.1)
    assert tight.event.ht_max_gev == pytest.approx(500 / 1.1)
    assert tight.particles[0].pdg_ids == (11,)
    assert tight.particles[0].pt_min_gev == pytest.approx(5.5)
    assert tight.photons == CARD.photons
    assert tightened(CARD, factor=1.0) == CARD
    assert tightened(CutsCard()) == CutsCard()


def test_points_near_the_cuts_pass_the_card_and_fail_the_tighter_ones() -> None:
    card = CutsCard(
        jets=ParticleCutsCard(pt_min_gev=20, abs_eta_max=4),
        jet_lepton=PairCutsCard(delta_r_min=0.4),
    )
    points = momenta(20_000)
    near = NearCuts(card, [GROUP])(points, 0)
    jet = points[:, 4]
    distance = torch.minimum(delta_r(points[:, 2], jet), delta_r(points[:, 3], jet))
    inside = (pt(jet) >= 20) & (eta(jet).abs() <= 4) & (distance >= 0.4)
    expected = inside & ((pt(jet) < 22) | (eta(jet).abs() > 4 / 1.1) | (distance < 0.44))
    assert torch.equal(near, expected)
    assert 0.01 < float(near.double().mean()) < 0.2


def test_in_a_narrow_window_every_point_is_near_its_bounds() -> None:
    card = CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=87, mass_max_gev=95))
    tight = tightened(card).lepton_lepton
    assert tight.mass_min_gev == pytest.approx(91)
    assert tight.mass_max_gev > tight.mass_min_gev
    points = momenta(200_000)
    near = NearCuts(card, [GROUP])(points, 0)
    pair = mass(points[:, 2] + points[:, 3])
    inside = (pair >= 87) & (pair <= 95)
    assert torch.equal(near, inside)
    assert bool(near.any())


def test_without_cuts_nothing_is_near_them() -> None:
    assert not bool(NearCuts(CutsCard(), [GROUP])(momenta(100), 0).any())


@pytest.mark.parametrize("factor", [0.9, 0.0, math.inf, math.nan])
def test_a_factor_that_does_not_tighten_is_an_error(factor: float) -> None:
    with pytest.raises(CardError, match=r"factor = .*: expected a number of at least 1"):
        NearCuts(CARD, [GROUP], factor=factor)
