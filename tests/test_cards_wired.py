"""Every card that comes with mlgen becomes a process; a smooth function stands for |M|²."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import pytest
import torch
from torch import Tensor

from mlgen.build import Process, build
from mlgen.card_files import card_names, find_card, read_card
from mlgen.core import PhaseSpacePoints, random_stream
from mlgen.cut_cards import CutsCard, PairCutsCard, ParticleCutsCard
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.integrand import ProcessEvaluation
from mlgen.integration.proposal import Proposal, draw
from mlgen.physics.kinematics import delta_r, eta, mass, pt
from mlgen.samplers.vegas import VegasGrid
from tests.matrix_elements import SMOOTH

N_PER_CHANNEL = 500

JETS = ParticleCutsCard(pt_min_gev=20.0, abs_eta_max=5.0)
HARD_JETS = ParticleCutsCard(pt_min_gev=50.0, abs_eta_max=5.0)
CENTRAL_JETS = ParticleCutsCard(pt_min_gev=20.0, abs_eta_max=3.0)
LEPTONS = ParticleCutsCard(pt_min_gev=10.0, abs_eta_max=2.5)
PHOTONS = ParticleCutsCard(pt_min_gev=20.0, abs_eta_max=2.5)
APART = PairCutsCard(delta_r_min=0.4)
HEAVY_PAIR = PairCutsCard(mass_min_gev=50.0)
NEAR_Z = PairCutsCard(mass_min_gev=81.0, mass_max_gev=101.0)
"""What all LHC cards ask for where they have such particles, but that jets alone are harder."""

ONE_JET = CutsCard(jets=JETS)
TWO_JETS = CutsCard(jets=JETS, jet_jet=APART)
JETS_ALONE = CutsCard(jets=HARD_JETS, jet_jet=APART)
EE_JET = CutsCard(jets=JETS, leptons=LEPTONS, jet_lepton=APART, lepton_lepton=HEAVY_PAIR)
EE_TWO_JETS = CutsCard(
    jets=JETS, jet_jet=APART, leptons=LEPTONS, jet_lepton=APART, lepton_lepton=HEAVY_PAIR
)
TOP_SCALE = 173.0


@dataclass(frozen=True)
class Expected:
    """What a card stands for."""

    n_groups: int
    """|M|² that differ."""
    n_flavours: int
    """Flavour assignments of all groups, each beam assignment counted."""
    cuts: CutsCard
    scale_gev: float = 91.188


# Flavour assignments are counted by hand: of four quarks, q q~ has 8 of them with both beams, g q
# and g q~ together 16, q q and q~ q~ 8, unlike quarks 48. ee_to_mumu, pp_to_ee and ee_to_uug have
# the cuts of their runs in reference/xsec.json.
EXPECTED = {
    "ee_to_mumu": Expected(1, 1, CutsCard()),
    "ee_to_uug": Expected(1, 1, CutsCard(jets=CENTRAL_JETS, jet_jet=APART)),
    "gg_to_ggg": Expected(1, 1, JETS_ALONE),
    "gg_to_tt": Expected(1, 1, CutsCard(), TOP_SCALE),
    "gg_to_ttg": Expected(1, 1, ONE_JET, TOP_SCALE),
    "gg_to_ttgg": Expected(1, 1, TWO_JETS, TOP_SCALE),
    "pp_to_aj": Expected(6, 8 + 16, CutsCard(jets=JETS, photons=PHOTONS, jet_photon=APART)),
    "pp_to_ee": Expected(2, 8, CutsCard(lepton_lepton=HEAVY_PAIR)),
    "pp_to_eej": Expected(6, 8 + 16, EE_JET),
    # q q~ > g g, q q~ or another pair; g q > g q; q q' unlike; q q; g g > q q~.
    "pp_to_eejj": Expected(28, 8 + 8 + 24 + 16 + 48 + 8 + 4, EE_TWO_JETS),
    # u d~ and c s~ for W+, their conjugates for W-.
    "pp_to_ev": Expected(2, 4 + 4, CutsCard(leptons=LEPTONS)),
    "pp_to_evj": Expected(
        6, 2 * (4 + 4 + 4), CutsCard(jets=JETS, leptons=LEPTONS, jet_lepton=APART)
    ),
    "pp_to_jj": Expected(12, 8 + 8 + 24 + 16 + 48 + 8 + 4 + 1, JETS_ALONE),
    # Those with a gluon more, and g q > q and a pair of another flavour.
    "pp_to_jjj": Expected(16, 8 + 8 + 24 + 16 + 48 + 8 + 4 + 1 + 16 * 4, JETS_ALONE),
    "pp_to_tt": Expected(2, 8 + 1, CutsCard(), TOP_SCALE),
    "pp_to_ttj": Expected(4, 8 + 1 + 16, ONE_JET, TOP_SCALE),
    "pp_to_ttjj": Expected(12, 8 + 8 + 24 + 16 + 48 + 8 + 4 + 1, TWO_JETS, TOP_SCALE),
    "pp_to_wpwm": Expected(2, 8, CutsCard()),
    "pp_to_z": Expected(2, 8, CutsCard(lepton_lepton=NEAR_Z)),
    "pp_to_zj": Expected(6, 8 + 16, CutsCard(jets=JETS, lepton_lepton=NEAR_Z)),
    "pp_to_zz4l": Expected(2, 8, CutsCard(leptons=LEPTONS, lepton_lepton=HEAVY_PAIR)),
    "uux_to_eeg": Expected(1, 1, EE_JET),
    "uux_to_eegg": Expected(1, 1, EE_TWO_JETS),
    "uux_to_zggg": Expected(1, 1, TWO_JETS),
}
CARDS = sorted(EXPECTED)


@cache
def process(name: str) -> Process:
    return build(read_card(find_card(name), SMOOTH), SilentProgress())


@cache
def drawn(name: str) -> tuple[ProcessEvaluation, ChannelSums]:
    """As many points of each channel, uniform in r."""
    integrand = process(name).integrand
    n_channels = integrand.n_channels
    grid = VegasGrid.uniform(n_channels, integrand.n_dim, 8)
    proposal = Proposal(sampler=grid, fractions=torch.full((n_channels,), 1 / n_channels))
    n = N_PER_CHANNEL * n_channels
    batch, evaluation = draw(integrand, proposal, n, random_stream(1, "wired", 0))
    return evaluation, ChannelSums.of(batch, n_channels)


def by_group(name: str) -> list[tuple[tuple[int, ...], PhaseSpacePoints, Tensor]]:
    """Of each group that was drawn: the PDG ids, the points, and the values there (n,)."""
    evaluation, integrand = drawn(name)[0], process(name).integrand
    channels = integrand.phase_space.channels
    group = torch.tensor([channel.group for channel in channels])[evaluation.points.channel]
    return [
        (
            mine.pdg_ids[0],
            evaluation.points.select(group == index),
            evaluation.value[group == index],
        )
        for index, mine in enumerate(integrand.groups)
    ]


def kind(pdg_id: int) -> str:
    """What the cuts of the cards call a particle."""
    names = {21: "jet", 22: "photon", 11: "lepton", 13: "lepton"}
    return "jet" if abs(pdg_id) <= 4 else names.get(abs(pdg_id), "none")


def passes(ids: tuple[int, ...], momenta: Tensor, cuts: CutsCard) -> Tensor:
    """Which of the final momenta (n, n_final, 4) pass, cut by cut as the cards read."""
    windows = {"jet": cuts.jets, "lepton": cuts.leptons, "photon": cuts.photons}
    distances = {
        ("jet", "jet"): cuts.jet_jet.delta_r_min,
        ("jet", "lepton"): cuts.jet_lepton.delta_r_min,
        ("jet", "photon"): cuts.jet_photon.delta_r_min,
    }
    passed = torch.ones(len(momenta), dtype=torch.bool)
    for pdg_id, p in zip(ids, momenta.unbind(1), strict=True):
        if (window := windows.get(kind(pdg_id))) is not None:
            passed &= (pt(p) >= window.pt_min_gev) & (eta(p).abs() <= window.abs_eta_max)
    for (a, p), (b, q) in combinations(zip(ids, momenta.unbind(1), strict=True), 2):
        first, second = sorted((kind(a), kind(b)))
        passed &= delta_r(p, q) >= distances.get((first, second), 0.0)
        if a == -b and first == "lepton":
            pair = cuts.lepton_lepton
            passed &= (mass(p + q) >= pair.mass_min_gev) & (mass(p + q) <= pair.mass_max_gev)
    return passed


def test_the_cards_are_those_that_are_known_here() -> None:
    assert sorted(card_names()) == CARDS


@pytest.mark.parametrize("name", CARDS)
def test_the_default_cuts_beams_and_scales_of_a_card_are_as_agreed(name: str) -> None:
    card, expected = process(name).card, EXPECTED[name]
    assert card.cuts == expected.cuts
    beams = (("e+", "e-"), 250.0) if name.startswith("ee_") else (("p", "p"), 6500.0)
    assert (card.beams.particles, card.beams.energies_gev) == (beams[0], (beams[1],) * 2)
    assert card.scales.choice == "fixed"
    assert {card.scales.mu_r_gev, card.scales.mu_f_gev} == {expected.scale_gev}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_stands_for_all_its_subprocesses_in_as_few_groups_as_there_are(name: str) -> None:
    groups = process(name).integrand.groups
    assert sum(len(group.pdg_ids) * group.n_orientations for group in groups) == (
        EXPECTED[name].n_flavours
    )
    assert len(groups) == EXPECTED[name].n_groups
    assert len({ids for group in groups for ids in group.pdg_ids}) == sum(
        len(group.pdg_ids) for group in groups
    )


@pytest.mark.parametrize("name", ["pp_to_ev", "pp_to_evj"])
def test_a_w_of_either_charge_is_made(name: str) -> None:
    finals = {
        tuple(sorted(p for p in ids[2:] if abs(p) in (11, 12)))
        for group in process(name).integrand.groups
        for ids in group.pdg_ids
    }
    assert finals == {(-11, 12), (-12, 11)}


@pytest.mark.parametrize("name", CARDS)
def test_each_channel_of_a_card_has_a_finite_positive_share_of_the_cross_section(
    name: str,
) -> None:
    sums = drawn(name)[1]
    assert sums.n_points.tolist() == [N_PER_CHANNEL] * process(name).integrand.n_channels
    assert bool((sums.means > 0).all())
    assert math.isfinite(sums.mean)
    assert 0 < sums.error < sums.mean


@pytest.mark.parametrize("name", CARDS)
def test_points_count_exactly_where_they_are_inside_the_cuts(name: str) -> None:
    for ids, points, value in by_group(name):
        inside = passes(ids[2:], points.momenta[:, 2:], EXPECTED[name].cuts)
        inside &= points.log_jac > -math.inf
        assert int(inside.sum()) > 10
        torch.testing.assert_close(value != 0, inside)


@pytest.mark.parametrize(
    "shifted",
    [
        replace(EE_TWO_JETS, jets=replace(JETS, pt_min_gev=20.5)),
        replace(EE_TWO_JETS, leptons=replace(LEPTONS, abs_eta_max=2.45)),
        replace(EE_TWO_JETS, jet_jet=PairCutsCard(delta_r_min=0.45)),
        replace(EE_TWO_JETS, jet_lepton=PairCutsCard(delta_r_min=0.45)),
        replace(EE_TWO_JETS, lepton_lepton=PairCutsCard(mass_min_gev=51.0)),
    ],
)
def test_a_shifted_cut_is_noticed(shifted: CutsCard) -> None:
    assert any(
        bool((passes(ids[2:], points.momenta[:, 2:], shifted) != (value != 0)).any())
        for ids, points, value in by_group("pp_to_eejj")
    )


@pytest.mark.parametrize("name", CARDS)
def test_points_of_a_card_become_events_with_its_particles(name: str) -> None:
    wired, evaluation = process(name), drawn(name)[0]
    inside = evaluation.value.nonzero()[:, 0][:: max(1, len(evaluation.value) // 500)]
    points = evaluation.points.select(inside)
    events = wired.picker(points, evaluation.value[inside], random_stream(1, "picked", 0))
    assert len(events) == len(inside)
    is_outer = events.status.abs() == 1
    allowed = {
        ids if turn == 0 else (ids[1], ids[0], *ids[2:])
        for group in wired.integrand.groups
        for ids in group.pdg_ids
        for turn in range(group.n_orientations)
    }
    allowed = {(*ids[:2], *sorted(ids[2:])) for ids in allowed}
    for ids, outer in zip(events.pdg_id, is_outer, strict=True):
        first, second, *final = ids[outer].tolist()
        assert (first, second, *sorted(final)) in allowed
