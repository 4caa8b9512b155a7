from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.card_files import card_names, find_card, read_card
from mlgen.cards import Card
from mlgen.core import Channel, PhaseSpacePoints, Resonance, SubprocessGroup
from mlgen.cut_cards import CutsCard, PairCutsCard, ParticleCutsCard
from mlgen.errors import CardError
from mlgen.phasespace.channels import TreePhaseSpace, build_phase_space
from mlgen.phasespace.invariants import Uniform
from mlgen.phasespace.production import LeptonProduction
from mlgen.phasespace.tree import Decay, Leaf, TreeMap
from mlgen.physics.cuts import CardCuts
from mlgen.physics.kinematics import mass_squared, pt, rapidity
from mlgen.physics.model import StandardModel
from mlgen.physics.process import read_process
from tests.laws import check_phase_space
from tests.subprocess_groups import subprocess_groups

MODEL = StandardModel()
PROTONS = (6500.0, 6500.0)


def wire(card: Card) -> tuple[tuple[SubprocessGroup, ...], TreePhaseSpace]:
    groups = read_process(card.process, card.beams.particles, MODEL)
    hadronic = card.beams.particles == ("p", "p")
    energies = card.beams.energies_gev
    return groups, build_phase_space(groups, MODEL, card.cuts, energies, hadronic)


def at_protons(definition: str, cuts: CutsCard | None = None) -> TreePhaseSpace:
    groups = subprocess_groups(definition)
    return build_phase_space(groups, MODEL, cuts or CutsCard(), PROTONS, hadronic=True)


def uniform_r(n: int, phase_space: TreePhaseSpace) -> Tensor:
    rng = torch.Generator().manual_seed(8)
    n_columns = phase_space.n_dim + phase_space.n_flat
    return torch.rand(n, n_columns, generator=rng, dtype=torch.float64)


def all_channels(n: int, phase_space: TreePhaseSpace) -> Tensor:
    return torch.arange(n) % len(phase_space.channels)


@pytest.mark.parametrize("name", card_names())
def test_each_channel_of_each_card_is_a_map(name: str) -> None:
    card = read_card(find_card(name))
    groups, phase_space = wire(card)
    sqrt_s = 2 * math.sqrt(math.prod(card.beams.energies_gev))
    assert [channel.group for channel in phase_space.channels] == list(range(len(groups)))
    for index, group in enumerate(groups):
        masses = [MODEL.mass_gev(pdg_id) for pdg_id in group.pdg_ids[0][2:]]
        check_phase_space(phase_space, index, sqrt_s, masses, min_share=0.5)


@pytest.mark.parametrize("name", card_names())
def test_a_good_share_of_uniform_points_passes_the_cuts_of_each_card(name: str) -> None:
    card = read_card(find_card(name))
    groups, phase_space = wire(card)
    cuts = CardCuts(card.cuts, groups)
    r = uniform_r(2000, phase_space)
    for index in range(len(groups)):
        points = phase_space.forward(r, torch.full((len(r),), index))
        passes = cuts(points.momenta, index) & (points.log_jac > -math.inf)
        assert float(passes.double().mean()) > 0.4


@pytest.mark.parametrize("name", card_names())
def test_the_flat_number_turns_and_mirrors_events_and_changes_nothing_else(name: str) -> None:
    phase_space = wire(read_card(find_card(name)))[1]
    r = uniform_r(500, phase_space)
    channel = all_channels(500, phase_space)
    first = phase_space.forward(r, channel)
    r[:, -1] = (r[:, -1] + 0.377) % 1
    second = phase_space.forward(r, channel)
    assert torch.equal(first.log_jac, second.log_jac)
    assert torch.equal(first.x, second.x)
    torch.testing.assert_close(pt(first.momenta[:, 2:]), pt(second.momenta[:, 2:]))
    mirrored = first.momenta[:, 0, 3].sign() * second.momenta[:, 0, 3].sign()
    y_first, y_second = (rapidity(p.momenta[:, 2:]) for p in (first, second))
    torch.testing.assert_close(y_first, mirrored[:, None] * y_second, rtol=1e-9, atol=1e-9)
    pairs = [p.momenta[:, 2:, None] + p.momenta[:, None, 2:] for p in (first, second)]
    torch.testing.assert_close(mass_squared(pairs[0]), mass_squared(pairs[1]), rtol=1e-9, atol=1e-4)
    # A negative control: the other numbers do change the event.
    r[:, 0] = (r[:, 0] + 0.377) % 1
    third = phase_space.forward(r, channel)
    assert not torch.allclose(pt(first.momenta[:, 2:]), pt(third.momenta[:, 2:]))


def test_alike_beams_send_half_of_the_first_legs_backwards() -> None:
    phase_space = at_protons("p p > e+ e- j", read_card(find_card("pp_to_eej")).cuts)
    points = phase_space.forward(uniform_r(4000, phase_space), all_channels(4000, phase_space))
    assert abs(float((points.momenta[:, 0, 3] < 0).double().mean()) - 0.5) < 0.05
    identical = at_protons("g g > t t~")
    points = identical.forward(uniform_r(1000, identical), all_channels(1000, identical))
    assert bool((points.momenta[:, 0, 3] > 0).all())


def test_a_lepton_pair_is_built_as_a_z_and_the_rest_joins_it() -> None:
    phase_space = at_protons("p p > e+ e- j", read_card(find_card("pp_to_eej")).cuts)
    z = Resonance(pdg_id=23, legs=(2, 3), mass_gev=91.188, width_gev=2.441404)
    for channel in phase_space.channels:
        assert channel.topology.startswith("(e+ e-) ")
        assert channel.resonances == (z,)
    assert [c.topology for c in at_protons("p p > t t~ j").channels] == [
        "(t t~) g",
        "(t t~) u",
        "(t t~) u~",
        "(t t~) g",
    ]
    assert at_protons("p p > t t~ j").channels[0].resonances == ()
    assert at_protons("p p > ve ve~").channels[0].resonances[0].pdg_id == 23
    assert at_protons("p p > j e+ e- ").channels[0].resonances == (replace(z, legs=(3, 4)),)


def test_half_of_the_lepton_pairs_lie_within_the_width_of_the_z() -> None:
    for definition, cuts in (
        ("p p > e+ e- j", read_card(find_card("pp_to_eej")).cuts),
        ("p p > e+ e-", CutsCard()),
        ("p p > e+ e-", CutsCard(leptons=ParticleCutsCard(pt_min_gev=10.0, abs_eta_max=2.5))),
    ):
        phase_space = at_protons(definition, cuts)
        points = phase_space.forward(uniform_r(2000, phase_space), all_channels(2000, phase_space))
        mass = mass_squared(points.momenta[:, 2:4].sum(1)).sqrt()
        near = (mass - 91.188).abs() < 2.441404 / 2
        assert 0.4 < float(near.double().mean()) < 0.6


def test_the_points_keep_to_what_cuts_bound() -> None:
    cuts = CutsCard(
        jets=ParticleCutsCard(pt_min_gev=30.0, abs_eta_max=3.0),
        lepton_lepton=PairCutsCard(mass_min_gev=60.0),
    )
    phase_space = at_protons("p p > e+ e- j", cuts)
    points = phase_space.forward(uniform_r(2000, phase_space), all_channels(2000, phase_space))
    assert float(pt(points.momenta[:, 4]).min()) >= 30 * (1 - 1e-9)
    assert float(rapidity(points.momenta[:, 4]).abs().max()) <= 3 * (1 + 1e-9)
    assert float(mass_squared(points.momenta[:, 2:4].sum(1)).min()) >= 60**2 * (1 - 1e-6)


@pytest.mark.parametrize(
    "definition", ["p p > e+ ve", "p p > ve ve~", "p p > j j", "p p > e+ ve j"]
)
def test_massless_legs_without_cuts_are_no_nonsense(definition: str) -> None:
    phase_space = at_protons(definition)
    points = phase_space.forward(uniform_r(500, phase_space), all_channels(500, phase_space))
    assert bool(points.log_jac.isfinite().all())
    assert bool(points.momenta.isfinite().all())


def test_channels_of_different_trees_mix_in_one_batch() -> None:
    groups = [
        SubprocessGroup(name="first", pdg_ids=((21, 2, -11, 11, 2),), n_orientations=2),
        SubprocessGroup(name="second", pdg_ids=((2, -2, 21, -11, 11),), n_orientations=2),
        SubprocessGroup(name="third", pdg_ids=((21, 21, 6, -6, 21),)),
    ]
    cuts = read_card(find_card("pp_to_eej")).cuts
    together = build_phase_space(groups, MODEL, cuts, PROTONS, hadronic=True)
    assert [c.topology for c in together.channels] == ["(e+ e-) u", "(e+ e-) g", "(t t~) g"]
    r = uniform_r(600, together)
    channel = all_channels(600, together)
    points = together.forward(r, channel)
    r_back, log_jac = together.inverse(points)
    for index, group in enumerate(groups):
        at = (channel == index).nonzero()[:, 0]
        alone = build_phase_space([group], MODEL, cuts, PROTONS, hadronic=True)
        expected = alone.forward(r[at], torch.zeros_like(at))
        for name in ("momenta", "x", "log_jac"):
            torch.testing.assert_close(
                getattr(points, name)[at], getattr(expected, name), rtol=1e-14, atol=1e-11
            )
        exists = expected.log_jac > -math.inf
        torch.testing.assert_close(r_back[at][exists], r[at][exists], rtol=0, atol=1e-6)
        torch.testing.assert_close(
            log_jac[at][exists], -expected.log_jac[exists], rtol=0, atol=1e-6
        )


def test_a_channel_without_points_is_no_trouble() -> None:
    groups = [
        SubprocessGroup(name="first", pdg_ids=((21, 2, -11, 11, 2),), n_orientations=2),
        SubprocessGroup(name="second", pdg_ids=((2, -2, 21, -11, 11),), n_orientations=2),
    ]
    phase_space = build_phase_space(groups, MODEL, CutsCard(), PROTONS, hadronic=True)
    r = uniform_r(5, phase_space)
    for n, channel in ((5, 1), (0, 0)):
        points = phase_space.forward(r[:n], torch.full((n,), channel))
        assert len(points) == n
        assert phase_space.inverse(points)[0].shape == (n, 7)


def test_maps_of_unlike_dimensions_are_refused() -> None:
    production = LeptonProduction(s=500.0**2)
    pair = Decay(Leaf(2, 0.0), Leaf(3, 0.0), Uniform())
    two = TreeMap(production=production, first=Leaf(2, 0.0), second=Leaf(3, 0.0))
    three = TreeMap(production=production, first=pair, second=Leaf(4, 0.0))
    channels = [Channel(group=0, topology="two"), Channel(group=1, topology="three")]
    with pytest.raises(ValueError, match="same number of dimensions"):
        TreePhaseSpace(channels, [two, three], [1, 1])


@pytest.mark.parametrize(
    ("definition", "cuts", "energy"),
    [
        ("p p > t t~ j", CutsCard(), 170.0),
        ("p p > t t~ j", CutsCard(jets=ParticleCutsCard(pt_min_gev=20.0)), 180.0),
        ("p p > e+ e-", CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=50.0)), 24.0),
        ("p p > e+ e-", CutsCard(leptons=ParticleCutsCard(pt_min_gev=50.0)), 49.0),
        ("p p > j j", CutsCard(jets=ParticleCutsCard(pt_min_gev=50.0)), 49.0),
    ],
)
def test_too_little_energy_is_an_error_of_the_card(
    definition: str, cuts: CutsCard, energy: float
) -> None:
    groups = subprocess_groups(definition)
    with pytest.raises(CardError) as error:
        build_phase_space(groups, MODEL, cuts, (energy, energy), hadronic=True)
    assert str(error.value) == (
        f"beams.energies_gev = {[energy, energy]}: expected enough energy in GeV for "
        f"{groups[0].name} inside the cuts"
    )
    build_phase_space(groups, MODEL, cuts, (4 * energy, 4 * energy), hadronic=True)


def test_too_little_energy_of_lepton_beams_is_an_error_too() -> None:
    for definition, cuts in (
        ("e+ e- > t t~", CutsCard()),
        ("e+ e- > mu+ mu-", CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=301.0))),
    ):
        groups = subprocess_groups(definition, ("e+", "e-"))
        with pytest.raises(CardError, match="expected enough energy in GeV"):
            build_phase_space(groups, MODEL, cuts, (150.0, 150.0), hadronic=False)


def test_lepton_beams_of_unlike_energies_move_the_event() -> None:
    groups = subprocess_groups("e+ e- > mu+ mu- a", ("e+", "e-"))
    phase_space = build_phase_space(groups, MODEL, CutsCard(), (9.0, 3.1), hadronic=False)
    points: PhaseSpacePoints = phase_space.forward(
        uniform_r(10, phase_space), torch.zeros(10, dtype=torch.int64)
    )
    expected = torch.tensor([[9.0, 0, 0, 9.0], [3.1, 0, 0, -3.1]], dtype=torch.float64)
    torch.testing.assert_close(points.momenta[:, :2], expected.expand(10, 2, 4))
    assert torch.equal(points.x, torch.ones(10, 2, dtype=torch.float64))
