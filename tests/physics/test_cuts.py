from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.cut_cards import (
    CutsCard,
    EventCutsCard,
    ListedPairCutsCard,
    ListedParticleCutsCard,
    PairCutsCard,
    ParticleCutsCard,
)
from mlgen.errors import CardError
from mlgen.physics.cuts import CardCuts, is_jet, is_lepton
from mlgen.physics.leg_cuts import (
    STANDARD_KINDS,
    ParticleKinds,
    cut_key,
    leg_cuts,
    particle_cuts,
    particle_kinds,
    split_by_cuts,
)
from mlgen.physics.model import StandardModel

EEJ = (2, -2, -11, 11, 21)


def massless(pt_gev: float, eta_: float, phi: float) -> list[float]:
    return [
        pt_gev * math.cosh(eta_),
        pt_gev * math.cos(phi),
        pt_gev * math.sin(phi),
        pt_gev * math.sinh(eta_),
    ]


def event(*final: list[float]) -> Tensor:
    """One event; cuts look at its final legs alone."""
    beams = [[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, -1.0]]
    return torch.tensor([[*beams, *final]], dtype=torch.float64)


def passes(card: CutsCard, momenta: Tensor, *pdg_ids: int) -> bool:
    cuts = CardCuts(card, [SubprocessGroup(name="a process", pdg_ids=(pdg_ids or EEJ,))])
    return bool(cuts(momenta, 0))


ELECTRONS_AND_JET = event(massless(30, 0.5, 0.1), massless(25, -1.0, 2.0), massless(50, 3.0, -2.0))
MASS = math.sqrt(2 * 30 * 25 * (math.cosh(1.5) - math.cos(1.9)))
DISTANCE = math.hypot(2.5, 2.1)
"""Between the jet and the nearer lepton, e+."""


@pytest.mark.parametrize(
    ("loose", "tight"),
    [
        (ParticleCutsCard(pt_min_gev=49.99), ParticleCutsCard(pt_min_gev=50.01)),
        (ParticleCutsCard(pt_max_gev=50.01), ParticleCutsCard(pt_max_gev=49.99)),
        (ParticleCutsCard(abs_eta_max=3.001), ParticleCutsCard(abs_eta_max=2.999)),
    ],
)
def test_a_jet_passes_on_one_side_of_a_cut_and_fails_on_the_other(
    loose: ParticleCutsCard, tight: ParticleCutsCard
) -> None:
    assert passes(CutsCard(jets=loose), ELECTRONS_AND_JET)
    assert not passes(CutsCard(jets=tight), ELECTRONS_AND_JET)


@pytest.mark.parametrize(
    ("loose", "tight"),
    [
        (ParticleCutsCard(pt_min_gev=24.99), ParticleCutsCard(pt_min_gev=25.01)),
        (ParticleCutsCard(pt_max_gev=30.01), ParticleCutsCard(pt_max_gev=29.99)),
        (ParticleCutsCard(abs_eta_max=1.001), ParticleCutsCard(abs_eta_max=0.999)),
    ],
)
def test_each_lepton_has_to_pass(loose: ParticleCutsCard, tight: ParticleCutsCard) -> None:
    assert passes(CutsCard(leptons=loose), ELECTRONS_AND_JET)
    assert not passes(CutsCard(leptons=tight), ELECTRONS_AND_JET)


@pytest.mark.parametrize(
    ("loose", "tight"),
    [
        (PairCutsCard(mass_min_gev=MASS - 0.01), PairCutsCard(mass_min_gev=MASS + 0.01)),
        (PairCutsCard(mass_max_gev=MASS + 0.01), PairCutsCard(mass_max_gev=MASS - 0.01)),
        (PairCutsCard(delta_r_min=2.4), PairCutsCard(delta_r_min=2.45)),
    ],
)
def test_a_lepton_pair_passes_on_one_side_of_a_cut_and_fails_on_the_other(
    loose: PairCutsCard, tight: PairCutsCard
) -> None:
    assert math.hypot(1.5, 1.9) == pytest.approx(2.4207, abs=1e-4)
    assert passes(CutsCard(lepton_lepton=loose), ELECTRONS_AND_JET)
    assert not passes(CutsCard(lepton_lepton=tight), ELECTRONS_AND_JET)


def test_the_nearest_pair_of_jet_and_lepton_decides() -> None:
    assert passes(CutsCard(jet_lepton=PairCutsCard(delta_r_min=DISTANCE - 0.01)), ELECTRONS_AND_JET)
    tight = CutsCard(jet_lepton=PairCutsCard(delta_r_min=DISTANCE + 0.01))
    assert not passes(tight, ELECTRONS_AND_JET)


def test_distances_are_taken_the_short_way_round() -> None:
    near = event(massless(30, 0, 3.1), massless(30, 0, 0.0), massless(30, 0.1, -3.1))
    distance = math.hypot(0.1, 2 * math.pi - 6.2)
    assert distance < 0.2
    for delta_r_min, expected in ((distance - 1e-6, True), (distance + 1e-6, False)):
        card = CutsCard(jet_lepton=PairCutsCard(delta_r_min=delta_r_min))
        assert passes(card, near) is expected


def test_jets_are_massless_partons_and_pair_with_each_other() -> None:
    assert [is_jet(i) for i in (21, 1, -4, 5, 6, 22, 11)] == [True] * 3 + [False] * 4
    two_jets = event(massless(30, 0, 0), massless(30, 0, 0.3))
    card = CutsCard(jet_jet=PairCutsCard(delta_r_min=0.4))
    assert not passes(card, two_jets, 21, 21, 21, 21)
    assert not passes(card, two_jets, 21, 21, 3, -3)
    assert passes(card, two_jets, 21, 21, 5, -5)
    mass_of_two = 2 * 30 * math.sin(0.15)
    for edge, expected in ((mass_of_two - 0.01, True), (mass_of_two + 0.01, False)):
        card = CutsCard(jet_jet=PairCutsCard(mass_min_gev=edge))
        assert passes(card, two_jets, 21, 21, 21, 21) is expected


def test_lepton_pairs_are_of_one_flavour_and_opposite_charge() -> None:
    assert [is_lepton(i) for i in (11, -13, 15, 12, 21)] == [True] * 3 + [False] * 2
    card = CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=1000.0))
    pair = event(massless(30, 0, 0), massless(30, 0, 2.0))
    assert not passes(card, pair, 2, -2, -11, 11)
    assert not passes(card, pair, 2, -2, 15, -15)
    assert passes(card, pair, 2, -2, 11, 11)
    assert passes(card, pair, 2, -2, -11, 13)
    assert passes(card, pair, 2, -1, -11, 12)


def test_a_third_lepton_pairs_with_both_of_its_antiparticle() -> None:
    three = event(massless(30, 0, 0), massless(30, 0, 3.0), massless(30, 0, 0.1))
    card = CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=10.0))
    assert not passes(card, three, 2, -1, 11, 11, -11)
    assert passes(card, three, 2, -1, 11, -11, 11)


def test_heavy_particles_and_neutrinos_pass_everything() -> None:
    impossible = ParticleCutsCard(pt_min_gev=1e6)
    card = CutsCard(jets=impossible, leptons=impossible)
    pair = event(massless(30, 0, 0), massless(30, 0, 2.0))
    for pdg_ids in ((6, -6), (5, -5), (12, -12), (23, 22)):
        assert passes(card, pair, 21, 21, *pdg_ids)


def test_without_cuts_everything_passes_even_along_the_beam() -> None:
    along = event([9.0, 0, 0, 9.0], [9.0, 0, 0, -9.0], [1e-9, 0, 1e-9, 0])
    assert passes(CutsCard(), along)
    assert not passes(CutsCard(jets=ParticleCutsCard(abs_eta_max=9.0)), along, 2, -2, 21, 21, 21)


def test_a_bound_on_eta_that_is_beyond_double_precision_is_no_trouble() -> None:
    assert passes(CutsCard(jets=ParticleCutsCard(abs_eta_max=1e4)), ELECTRONS_AND_JET)


def test_each_group_has_its_own_legs() -> None:
    groups = [
        SubprocessGroup(name="jet last", pdg_ids=((2, -2, -11, 11, 21),)),
        SubprocessGroup(name="jet first", pdg_ids=((2, -2, 21, -11, 11),)),
    ]
    cuts = CardCuts(CutsCard(jets=ParticleCutsCard(pt_min_gev=40.0)), groups)
    assert [bool(cuts(ELECTRONS_AND_JET, group)) for group in (0, 1)] == [True, False]


def group_of(*pdg_ids: tuple[int, ...]) -> SubprocessGroup:
    return SubprocessGroup(name="a process", pdg_ids=pdg_ids)


def test_a_listed_pair_counts_once_and_never_with_itself() -> None:
    cuts = ListedPairCutsCard(first=(22, 6), second=(6, 22), delta_r_min=0.4)
    found = leg_cuts((21, 21, 6, 22, -6, 22), CutsCard(pairs=(cuts,)))
    assert [(a, b) for a, b, _ in found.pairs] == [(0, 1), (0, 3), (1, 3)]


def test_the_tighter_of_two_bounds_holds() -> None:
    listed = ListedParticleCutsCard(pdg_ids=(21,), pt_min_gev=10.0, pt_max_gev=40.0)
    jets = ParticleCutsCard(pt_min_gev=20.0, pt_max_gev=60.0)
    card = CutsCard(jets=jets, particles=(listed,))
    assert particle_cuts(21, card) == ParticleCutsCard(pt_min_gev=20.0, pt_max_gev=40.0)
    assert particle_cuts(1, card) == jets


def test_leptons_of_any_flavour_and_charge_keep_their_distance() -> None:
    card = CutsCard(lepton_lepton=PairCutsCard(delta_r_min=0.4, mass_min_gev=50.0))
    near = event(massless(30, 0, 0), massless(30, 0, 0.3))
    for flavours in ((11, 13), (11, 11), (-11, 11), (-15, 13)):
        assert not passes(card, near, 2, -2, *flavours)
    assert passes(card, near, 2, -2, 11, 12)


def test_a_model_says_what_its_massless_coloured_particles_are() -> None:
    card = CutsCard(
        jets=ParticleCutsCard(pt_min_gev=20.0), bottoms=ParticleCutsCard(pt_min_gev=50.0)
    )
    b_jets = ParticleKinds(jets=STANDARD_KINDS.jets | {5, -5, 9000001})
    assert [STANDARD_KINDS.of(i) for i in (5, 9000001, 22, 12)] == ["bottom", None, "photon", None]
    assert [b_jets.of(i) for i in (-5, 9000001)] == ["jet", "jet"]
    pair = event(massless(30, 0, 0), massless(30, 0, 2.0))
    groups = [group_of((21, 21, 5, -5))]
    assert not CardCuts(card, groups)(pair, 0)
    assert CardCuts(card, groups, b_jets)(pair, 0)


def test_flavours_that_are_cut_differently_cannot_share_a_group() -> None:
    up, charm = (2, -2, 21, 2), (4, -4, 21, 4)
    card = CutsCard(particles=(ListedParticleCutsCard(pdg_ids=(4, -4), pt_min_gev=30.0),))
    assert cut_key(up, card) != cut_key(charm, card)
    assert cut_key(up, CutsCard()) == cut_key(charm, CutsCard())
    assert cut_key(charm, card) == cut_key((-4, 4, 21, -4), card)
    CardCuts(card, [group_of(up), group_of(charm)])
    with pytest.raises(
        CardError, match=r"cuts: c c~ > g c and u u~ > g u are cut differently, but"
    ):
        CardCuts(card, [group_of(up, charm)])


def test_a_group_is_divided_where_its_flavours_are_cut_differently() -> None:
    flavours = ((2, -2, 21, 2), (4, -4, 21, 4), (1, -1, 21, 1))
    gluons = replace(group_of((21, 21, 21, 21)), name="g g > g g", qcd_order=2)
    groups = (replace(group_of(*flavours), n_orientations=2, qcd_order=3), gluons)
    listed = ListedParticleCutsCard(pdg_ids=(4, -4), pt_min_gev=30.0)
    card = CutsCard(particles=(listed,))
    divided = split_by_cuts(groups, card, StandardModel())
    assert [group.pdg_ids for group in divided] == [
        (flavours[0], flavours[2]),
        (flavours[1],),
        gluons.pdg_ids,
    ]
    assert [group.name for group in divided] == ["u u~ > g u", "c c~ > g c", "g g > g g"]
    assert [(g.n_orientations, g.qcd_order) for g in divided] == [(2, 3), (2, 3), (1, 2)]
    CardCuts(card, divided)
    (whole, _) = split_by_cuts(groups, CutsCard(), StandardModel())
    assert whole.pdg_ids == flavours


def test_the_kinds_of_the_standard_model_are_the_default_ones() -> None:
    assert particle_kinds(StandardModel()) == STANDARD_KINDS


def test_an_event_cut_that_no_process_can_pass_is_refused() -> None:
    card = CutsCard(event=EventCutsCard(missing_pt_min_gev=30.0, ht_max_gev=10.0))
    with pytest.raises(CardError, match=r"cuts.event.missing_pt_min_gev = 30.0: expected 0 GeV in"):
        CardCuts(card, [group_of(EEJ)])
    with pytest.raises(
        CardError, match=r"cuts.event.ht_min_gev = 5.0: expected 0 GeV in a process"
    ):
        CardCuts(CutsCard(event=EventCutsCard(ht_min_gev=5.0)), [group_of(EEJ[:-1])])
    both = CardCuts(card, [group_of(EEJ), group_of((2, -1, -11, 12, 21))])
    assert not both(ELECTRONS_AND_JET, 0)
