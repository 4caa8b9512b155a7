from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mlgen.card_files import card_names
from mlgen.core import PhaseSpacePoints, Resonance
from mlgen.cut_cards import CutsCard, PairCutsCard, ParticleCutsCard
from mlgen.errors import CardError
from mlgen.phasespace.multichannel import MultiChannel
from mlgen.physics.kinematics import mass_squared, pt, rapidity
from tests.laws import (
    check_hadronic_volume,
    check_inverts,
    check_phase_space,
    check_phase_space_volume,
    massless_volume,
)
from tests.phase_space_volumes import hadronic_volume, massive_volume
from tests.phasespace.wired import Wired, points_of, uniform_r, wire, wire_card, wire_process

Z = Resonance(pdg_id=23, legs=(2, 3), mass_gev=91.188, width_gev=2.441404)


def test_channels_that_identical_particles_relate_are_one_and_are_counted() -> None:
    """Three gluons: a line that one of them, or two of them, come from stands for three."""
    channels = wire_card("uux_to_zggg").phase_space.channels
    found = {channel.topology: channel.n_members for channel in channels}
    assert found == {
        "((g g) g) z": 3,
        "(g g)* z g": 3,
        "z* (g g) g": 3,
        "g* (g g) z": 3,
        "z* g g g": 1,
        "g* z g g": 3,
    }


# --- every map of every card -----------------------------------------------------------------


@pytest.mark.parametrize("name", card_names())
def test_each_map_of_each_card_is_one(name: str) -> None:
    wired = wire_card(name)
    for channel in wired.unlike_channels:
        masses = wired.masses(channel)
        check_phase_space(wired.phase_space, channel, wired.sqrt_s, masses, min_share=0.5)


@pytest.mark.parametrize("name", card_names())
def test_all_but_one_point_in_100000_inverts_to_nine_digits(name: str) -> None:
    """What is left: nearly all of the beams' energy is used, and rapidities have no range to tell r by."""
    wired = wire_card(name)
    maps = wired.unlike_channels
    check_inverts(wired.phase_space, max(100_000, 20_000 * len(maps)), channels=maps)


@pytest.mark.parametrize("name", card_names())
def test_every_point_that_passes_the_cuts_is_within_reach_of_every_channel(name: str) -> None:
    """Bounds lose nothing: points come from maps that know none, and from the other channels."""
    wired = wire_card(name)
    groups = {wired.phase_space.channels[c].group for c in wired.unlike_channels}
    for group in groups:
        points = wired.inside(group, n=500)
        assert len(points) > 500
        for channel in wired.channels_of(group):
            check_reach(wired.phase_space, points, channel)


def check_reach(phase_space: MultiChannel, points: PhaseSpacePoints, channel: int) -> None:
    seen = replace(points, channel=torch.full_like(points.channel, channel))
    r, log_jac = phase_space.inverse(seen)
    assert bool(log_jac.isfinite().all())
    assert bool(((r > -1e-6) & (r < 1 + 1e-6)).all())


def test_the_check_finds_points_out_of_reach() -> None:
    tight = wire_process(
        "p p > j j", CutsCard(jets=ParticleCutsCard(pt_min_gev=60.0, abs_eta_max=3.0))
    )
    loose = wire_process(
        "p p > j j", CutsCard(jets=ParticleCutsCard(pt_min_gev=50.0, abs_eta_max=3.0))
    )
    points = loose.passing(points_of(loose.phase_space, 1000, 0))
    check_reach(loose.phase_space, points, 0)
    with pytest.raises(AssertionError):
        check_reach(tight.phase_space, points, 0)


@pytest.mark.parametrize("name", card_names())
def test_a_good_share_of_uniform_points_passes_the_cuts_of_each_card(name: str) -> None:
    """Where the cuts bound the variables of a map."""
    wired = wire_card(name)
    for channel in wired.unlike_channels:
        group = wired.phase_space.channels[channel].group
        points = points_of(wired.phase_space, 2000, channel)
        assert len(wired.passing(points, group)) > 0.1 * len(points)


@pytest.mark.parametrize("name", card_names())
def test_the_flat_number_turns_and_mirrors_events_and_changes_nothing_else(name: str) -> None:
    phase_space = wire_card(name).phase_space
    r, channel = uniform_r(500, phase_space), torch.arange(500) % len(phase_space.channels)
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
    assert not torch.allclose(rapidity(first.momenta[:, 2:]), rapidity(third.momenta[:, 2:]))


# --- volumes ---------------------------------------------------------------------------------


def unlike(wired: Wired, n: int = 6) -> list[int]:
    """At most n unlike channels, spread over all."""
    maps = wired.unlike_channels
    return maps[:: -(-len(maps) // n)]


@pytest.mark.parametrize(
    ("definition", "energy"),
    [
        ("e+ e- > mu+ mu-", 250.0),
        ("e+ e- > ve ve~", 250.0),
        ("e+ e- > u u~ g", 250.0),
        ("e+ e- > e+ e- a", 40.0),
        ("e+ e- > u u~ d d~", 40.0),
        ("e+ e- > u u~ g g", 250.0),
        ("e+ e- > u u~ g g g", 250.0),
    ],
)
def test_channels_of_lepton_beams_fill_massless_phase_space(definition: str, energy: float) -> None:
    """Where no resonance is within reach: a narrow one leaves too few points for the rest."""
    wired = wire_process(definition, energy_gev=energy, beam="e")
    for channel in unlike(wired):
        expected = massless_volume(wired.sqrt_s**2, len(wired.masses(channel)))
        check_phase_space_volume(
            wired.phase_space, channel, expected, 30_000, max_relative_error=0.03
        )


@pytest.mark.parametrize(
    ("definition", "energy"),
    [
        ("e+ e- > t t~", 250.0),
        ("e+ e- > w+ w-", 250.0),
        ("e+ e- > t t~ z", 250.0),
        ("e+ e- > w+ w- z", 250.0),
        ("e+ e- > w+ w- z h", 500.0),
    ],
)
def test_channels_of_lepton_beams_fill_massive_phase_space(definition: str, energy: float) -> None:
    wired = wire_process(definition, energy_gev=energy, beam="e")
    for channel in unlike(wired):
        expected = massive_volume(wired.sqrt_s, wired.masses(channel))
        check_phase_space_volume(
            wired.phase_space, channel, expected, 30_000, max_relative_error=0.03
        )


WINDOW, MAX_RAPIDITY = (600.0, 900.0), 2.0
"""Of sqrt(s_hat), GeV, and of the partonic system."""


def volume_in_the_window(wired: Wired) -> float:
    volume = hadronic_volume(
        wired.sqrt_s, lambda mass: massive_volume(mass, wired.masses(0)), WINDOW, MAX_RAPIDITY
    )
    return wired.groups[0].n_orientations * volume


@pytest.mark.parametrize(
    "definition",
    [
        "g g > t t~",
        "u u~ > w+ w-",
        "u u~ > z z z",
        "g g > t t~ z",
        "u u~ > w+ w- z",
        "g g > t t~ h h",
        "u u~ > w+ w- z z",
    ],
)
def test_channels_of_proton_beams_fill_phase_space(definition: str) -> None:
    wired = wire_process(definition)
    expected = volume_in_the_window(wired)
    n_points = 100_000 if len(wired.masses(0)) < 4 else 300_000
    for channel in unlike(wired, 3):
        check_hadronic_volume(
            wired.phase_space, channel, expected, WINDOW, MAX_RAPIDITY, n_points, 0.03
        )


def test_the_volumes_find_a_jacobian_that_is_ten_per_cent_too_large() -> None:
    wired = wire_process("e+ e- > w+ w- z", energy_gev=250.0, beam="e")
    expected = massive_volume(wired.sqrt_s, wired.masses(0)) / 1.1
    with pytest.raises(AssertionError, match="pull"):
        check_phase_space_volume(wired.phase_space, 0, expected, max_relative_error=0.02)
    wired = wire_process("g g > t t~")
    expected = volume_in_the_window(wired) / 1.1
    with pytest.raises(AssertionError, match="pull"):
        check_hadronic_volume(wired.phase_space, 0, expected, WINDOW, MAX_RAPIDITY, 400_000, 0.02)


# --- what cuts and beams make of them --------------------------------------------------------


def all_channels(wired: Wired, n: int) -> PhaseSpacePoints:
    channel = torch.arange(n) % len(wired.phase_space.channels)
    return wired.phase_space.forward(uniform_r(n, wired.phase_space), channel)


def test_alike_beams_send_half_of_the_first_legs_backwards() -> None:
    points = all_channels(wire_card("pp_to_eej"), 4000)
    assert abs(float((points.momenta[:, 0, 3] < 0).double().mean()) - 0.5) < 0.05
    points = all_channels(wire_process("g g > t t~"), 1000)
    assert bool((points.momenta[:, 0, 3] > 0).all())


def test_half_of_the_lepton_pairs_lie_within_the_width_of_the_z() -> None:
    leptons = CutsCard(leptons=ParticleCutsCard(pt_min_gev=10.0, abs_eta_max=2.5))
    for wired in (
        wire_card("pp_to_eej"),
        wire_card("pp_to_ee"),
        wire_process("p p > e+ e-", leptons),
    ):
        assert all(channel.resonances == (Z,) for channel in wired.phase_space.channels)
        mass = mass_squared(all_channels(wired, 2000).momenta[:, 2:4].sum(1)).sqrt()
        near = (mass - Z.mass_gev).abs() < Z.width_gev / 2
        assert 0.4 < float(near.double().mean()) < 0.6


def test_the_points_keep_to_what_cuts_bound() -> None:
    cuts = CutsCard(
        jets=ParticleCutsCard(pt_min_gev=30.0, abs_eta_max=3.0),
        lepton_lepton=PairCutsCard(mass_min_gev=60.0, mass_max_gev=120.0),
    )
    momenta = all_channels(wire_process("p p > e+ e- j", cuts), 2000).momenta
    assert float(pt(momenta[:, 4]).min()) >= 30 * (1 - 1e-9)
    assert float(rapidity(momenta[:, 4]).abs().max()) <= 3 * (1 + 1e-9)
    mass = mass_squared(momenta[:, 2:4].sum(1)).sqrt()
    assert float(mass.min()) >= 60 * (1 - 1e-6)
    assert float(mass.max()) <= 120 * (1 + 1e-6)


@pytest.mark.parametrize(
    "definition",
    [
        "p p > e+ ve",
        "p p > ve ve~",
        "p p > j j",
        "p p > e+ ve j",
        "p p > a a",
        "p p > j j j",
        "p p > e+ e- mu+ mu-",
        "p p > e+ e- a",
    ],
)
def test_massless_legs_without_cuts_are_no_nonsense(definition: str) -> None:
    wired = wire_process(definition)
    points = all_channels(wired, 2000)
    exists = points.log_jac > -math.inf
    assert float(exists.double().mean()) > 0.5
    points = points.select(exists)
    assert bool(points.log_jac.isfinite().all())
    assert bool(points.momenta.isfinite().all())
    log_prior = wired.phase_space.log_prior(points)
    assert not bool(log_prior.isnan().any())


@pytest.mark.parametrize(
    ("definition", "cuts", "energy"),
    [
        ("p p > t t~ j", CutsCard(), 170.0),
        ("p p > t t~ j", CutsCard(jets=ParticleCutsCard(pt_min_gev=20.0)), 180.0),
        ("p p > e+ e-", CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=50.0)), 24.0),
        ("p p > e+ e-", CutsCard(leptons=ParticleCutsCard(pt_min_gev=50.0)), 49.0),
        ("p p > j j", CutsCard(jets=ParticleCutsCard(pt_min_gev=50.0)), 49.0),
        ("e+ e- > t t~", CutsCard(), 150.0),
        ("e+ e- > mu+ mu-", CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=301.0)), 150.0),
    ],
)
def test_too_little_energy_is_an_error_of_the_card(
    definition: str, cuts: CutsCard, energy: float
) -> None:
    beam = definition[0]
    with pytest.raises(CardError) as error:
        wire_process(definition, cuts, energy, beam)
    name = wire_process(definition, cuts, 4 * energy, beam).groups[0].name
    assert str(error.value) == (
        f"beams.energies_gev = {[energy, energy]}: expected enough energy in GeV for {name} "
        "inside the cuts"
    )


def test_lepton_beams_of_unlike_energies_move_the_event() -> None:
    wired = wire_process("e+ e- > mu+ mu- a", energy_gev=5.0, beam="e")
    wired = wire(wired.groups, replace(wired.setting, energies_gev=(9.0, 3.1)))
    points = all_channels(wired, 20)
    expected = torch.tensor([[9.0, 0, 0, 9.0], [3.1, 0, 0, -3.1]], dtype=torch.float64)
    torch.testing.assert_close(points.momenta[:, :2], expected.expand(20, 2, 4))
    assert torch.equal(points.x, torch.ones(20, 2, dtype=torch.float64))
    for channel in wired.unlike_channels:
        check_phase_space(wired.phase_space, channel, wired.sqrt_s, [0.0, 0.0, 0.0])
