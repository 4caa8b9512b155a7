"""Bounds from cuts: no point that passes the cuts is outside, and some points are almost on them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.cut_cards import (
    CutsCard,
    EventCutsCard,
    ListedPairCutsCard,
    ListedParticleCutsCard,
    PairCutsCard,
    ParticleCutsCard,
)
from mlgen.physics.bounds import CutBounds
from mlgen.physics.cuts import CardCuts
from mlgen.physics.kinematics import mass, pt, rapidity
from tests.physics.test_cut_definitions import group_of

CARD = CutsCard(
    jets=ParticleCutsCard(pt_min_gev=20.0, pt_max_gev=500.0, abs_eta_max=5.0),
    leptons=ParticleCutsCard(pt_min_gev=10.0, abs_eta_max=2.5, abs_y_max=2.4),
    bottoms=ParticleCutsCard(pt_min_gev=15.0, abs_eta_max=2.0),
    jet_jet=PairCutsCard(delta_r_min=0.4),
    jet_lepton=PairCutsCard(delta_r_min=0.4),
    jet_bottom=PairCutsCard(delta_r_min=0.7),
    bottom_bottom=PairCutsCard(delta_r_min=0.5),
    lepton_lepton=PairCutsCard(mass_min_gev=50.0, mass_max_gev=130.0),
    pairs=(ListedPairCutsCard(first=(22,), second=(6, -6), mass_min_gev=200.0),),
    particles=(ListedParticleCutsCard(pdg_ids=(1, -1), pt_min_gev=30.0, abs_y_max=3.0),),
)
BOUNDS = CutBounds(CARD)
MASSES = {5: 4.7, 6: 173.0}


def masses_of(final: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(MASSES.get(abs(p), 0.0) for p in final)


def near_the_cuts(final: tuple[int, ...], n: int = 100_000) -> Tensor:
    """Momenta (n, 2 + n_final, 4), many of them close to the least that cuts allow; two filler legs."""
    rng = torch.Generator().manual_seed(3)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=rng, dtype=torch.float64)

    eta_0, phi_0 = uniform(-2.4, 2.4), uniform(-math.pi, math.pi)
    legs = []
    for pdg_id, m in zip(final, masses_of(final), strict=True):
        transverse = max(BOUNDS.min_pt(pdg_id), 1.0) * (1 + 10 ** uniform(-5, 1.5))
        eta = eta_0 + uniform(-0.8, 0.8) * uniform(0, 1) ** 4
        phi = phi_0 + uniform(-3.2, 3.2)
        pz = transverse * eta.sinh()
        energy = (transverse**2 + pz**2 + m**2).sqrt()
        legs.append(torch.stack([energy, transverse * phi.cos(), transverse * phi.sin(), pz], -1))
    filler = torch.zeros_like(legs[0])
    return torch.stack([filler, filler, *legs], dim=1)


def passing(final: tuple[int, ...], card: CutsCard = CARD) -> Tensor:
    """The final momenta that pass."""
    momenta = near_the_cuts(final)
    passed = momenta[CardCuts(card, [group_of((2, -2, *final))])(momenta, 0)]
    assert len(passed) > 200
    return passed[:, 2:]


@pytest.mark.parametrize("pdg_id", [21, 1, 11, 5, 22])
def test_no_particle_that_passes_is_outside_its_bounds(pdg_id: int) -> None:
    momenta = passing((pdg_id, 21))[:, 0]
    assert (pt(momenta) >= BOUNDS.min_pt(pdg_id)).all()
    assert (rapidity(momenta).abs() <= BOUNDS.max_rapidity(pdg_id)).all()
    assert float(pt(momenta).min()) <= 1.01 * max(BOUNDS.min_pt(pdg_id), 1.0)


@pytest.mark.parametrize(
    ("pair", "slack"),
    [
        ((21, 21), 0.01),
        ((21, 1), 0.01),
        ((2, 11), 0.01),
        ((11, -11), 0.01),
        ((5, -5), 0.01),
        ((21, 5), 0.1),  # of a massive and a massless one, nothing reaches the bound
        ((22, 6), 0.01),
    ],
)
def test_no_pair_that_passes_is_lighter_than_its_bound_and_some_come_close(
    pair: tuple[int, int], slack: float
) -> None:
    bound = BOUNDS.min_pair_mass(*pair, *masses_of(pair))
    found = mass(passing(pair).sum(1))
    assert float(found.min()) >= bound * (1 - 1e-12)
    assert float(found.min()) <= bound * (1 + slack)
    assert float(found.max()) <= BOUNDS.max_pair_mass(*pair)


def test_the_bounds_of_pairs_are_those_that_can_be_written_down() -> None:
    jets = math.sqrt(2 * 20 * 20 * (1 - math.cos(0.4)))
    assert BOUNDS.min_pair_mass(21, 2, 0.0, 0.0) == pytest.approx(jets, rel=1e-12)
    assert BOUNDS.min_pair_mass(11, -11, 0.0, 0.0) == 50.0
    assert BOUNDS.max_pair_mass(11, -11) == 130.0
    assert BOUNDS.max_pair_mass(11, 13) == math.inf
    assert BOUNDS.min_pair_mass(6, -6, 173.0, 173.0) == 346.0
    assert CutBounds(CutsCard()).min_pair_mass(21, 21, 0.0, 0.0) == 0.0
    assert BOUNDS.max_rapidity(11) == 2.4
    assert BOUNDS.max_rapidity(6) == math.inf
    wide = CutBounds(replace(CARD, jet_jet=PairCutsCard(delta_r_min=5.0)))
    far = math.cosh(math.sqrt(25 - math.pi**2)) + 1
    assert wide.min_pair_mass(21, 21, 0.0, 0.0) == pytest.approx(math.sqrt(800 * far), rel=1e-12)


@pytest.mark.parametrize("final", [(21, 21, 21), (11, -11, 21), (5, -5, 21), (21, 2, 1, 11)])
def test_no_system_that_passes_is_lighter_than_its_bound(final: tuple[int, ...]) -> None:
    card = replace(CARD, lepton_lepton=PairCutsCard(mass_min_gev=12.0))
    bound = CutBounds(card).min_mass(final, masses_of(final))
    assert float(mass(passing(final, card).sum(1)).min()) >= bound > 0


def test_a_system_weighs_more_than_its_heaviest_pair() -> None:
    pair = BOUNDS.min_pair_mass(21, 21, 0.0, 0.0)
    assert BOUNDS.min_mass((21, 21, 21), (0.0,) * 3) == pytest.approx(math.sqrt(3) * pair)
    assert BOUNDS.min_mass((11, -11, 6, -6), (0.0, 0.0, 173.0, 173.0)) == 50.0 + 346.0
    assert BOUNDS.min_mass((11, -11), (0.0, 0.0)) == 50.0
    assert BOUNDS.min_mass((6,), (173.0,)) == 173.0


def along_x(*pts: float, mass_gev: float = 0.0) -> list[Tensor]:
    """Momenta across the beam, one for each pt, its sign the direction."""
    return [torch.tensor([math.hypot(p, mass_gev), p, 0.0, 0.0], dtype=torch.float64) for p in pts]


ELECTRONS_AT_REST = [torch.tensor([25.0, 0.0, s * 25.0, 0.0], dtype=torch.float64) for s in (1, -1)]


def pushed(pt_gev: float) -> list[Tensor]:
    """The two electrons of 50 GeV, with a transverse momentum in total."""
    energy = math.hypot(50.0, pt_gev) / 2
    return [torch.tensor([energy, pt_gev / 2, s * 25.0, 0.0], dtype=torch.float64) for s in (1, -1)]


@pytest.mark.parametrize(
    ("final", "event", "expected", "example"),
    [
        ((21, 21), EventCutsCard(), 40.0, along_x(20, -20)),
        ((11, -11, 21), EventCutsCard(), 20 + math.hypot(50, 20), [*pushed(20), *along_x(-20)]),
        ((11, -11, 21, 21), EventCutsCard(), 90.0, [*ELECTRONS_AT_REST, *along_x(20, -20)]),
        ((21, 2, 2), EventCutsCard(ht_min_gev=200.0), 200.0, None),
        ((21, 21), EventCutsCard(ht_min_gev=200.0), 200.0, along_x(100, -100)),
        (
            (11, -11, 21),
            EventCutsCard(ht_min_gev=80.0),
            80 + math.hypot(50, 80),
            [*pushed(80), *along_x(-80)],
        ),
        ((-11, 12), EventCutsCard(missing_pt_min_gev=60.0), 120.0, along_x(60, -60)),
        (
            (-11, 12, 21),
            EventCutsCard(missing_pt_min_gev=60.0),
            60 + math.sqrt(60**2 + 2 * 10 * 20 * (1 - math.cos(0.4))),
            None,
        ),
        (
            (6, -6, 21),
            EventCutsCard(),
            20 + math.hypot(346, 20),
            [*along_x(10, 10, mass_gev=173.0), *along_x(-20)],
        ),
        ((6, -6), EventCutsCard(), 346.0, along_x(0, 0, mass_gev=173.0)),
    ],
)
def test_the_least_energy_of_an_event_is_known_and_reached(
    final: tuple[int, ...], event: EventCutsCard, expected: float, example: list[Tensor] | None
) -> None:
    card = replace(CARD, event=event)
    bound = CutBounds(card).min_event_mass(final, masses_of(final))
    assert bound == pytest.approx(expected, rel=1e-12)
    if example is not None:
        # A little more of everything, so that rounding takes nothing below a cut.
        legs = torch.stack(example)
        legs = torch.stack([legs.new_zeros(4), legs.new_zeros(4), *legs])[None] * 1.000001
        assert CardCuts(card, [group_of((2, -2, *final))])(legs, 0).all()
        assert float(mass(legs[:, 2:].sum(1))) <= 1.01 * bound


@pytest.mark.parametrize(
    ("final", "h_t"),
    [
        ((11, -11, 21, 2), 0.0),
        ((11, -11, 21, 2), 90.0),
        ((21, 21, 21), 0.0),
        ((21, 21, 21), 90.0),
        ((5, -5, 21, 21), 90.0),
        ((6, -6, 21), 0.0),
    ],
)
def test_no_event_that_passes_has_less_energy_than_its_bound(
    final: tuple[int, ...], h_t: float
) -> None:
    card = replace(CARD, event=EventCutsCard(ht_min_gev=h_t))
    momenta = near_the_cuts(final)
    # The last leg balances the transverse momentum of the others.
    rest = momenta[:, 2:-1]
    last = momenta[:, -1].clone()
    last[:, 1:3] = -rest[:, :, 1:3].sum(1)
    last[:, 0] = (last[:, 1:].square().sum(-1) + masses_of(final)[-1] ** 2).sqrt()
    momenta = torch.cat([momenta[:, :-1], last[:, None]], dim=1)
    passed = momenta[CardCuts(card, [group_of((2, -2, *final))])(momenta, 0)][:, 2:]
    assert len(passed) > 20
    bound = CutBounds(card).min_event_mass(final, masses_of(final))
    least = float(mass(passed.sum(1)).min())
    assert bound * (1 - 1e-12) <= least <= 2 * bound
