from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from mlgen.core import Channel, PhaseSpacePoints
from mlgen.phasespace.angles import Isotropic, Spacelike
from mlgen.phasespace.invariants import BreitWigner, PowerLaw, Uniform
from mlgen.phasespace.multichannel import MultiChannel
from mlgen.phasespace.production import LeptonProduction, PartonicProduction, Production
from mlgen.phasespace.transverse import TransverseProduction, TransverseSystem
from mlgen.phasespace.tree import Decay, Leaf, Part, TreeMap
from mlgen.physics.kinematics import eta, mass_squared, pt
from tests.laws import (
    check_estimate,
    check_integral,
    check_phase_space,
    check_phase_space_volume,
    massless_volume,
)
from tests.phase_space_volumes import massive_volume

LEPTON_ENERGY, HADRON_ENERGY = 500.0, 13000.0
Z = BreitWigner(91.188, 2.441404)
W = BreitWigner(80.4, 2.05)
TOP = BreitWigner(173.0, 1.4915)
LEPTON = LeptonProduction(s=LEPTON_ENERGY**2)
PARTONIC = PartonicProduction(s=HADRON_ENERGY**2)


def transverse(n_systems: int, max_rapidity: float = math.inf) -> Production:
    system = TransverseSystem(min_transverse_mass_gev=20.0, max_rapidity=max_rapidity)
    return TransverseProduction(s=HADRON_ENERGY**2, systems=(system,) * n_systems)


def massless(leg: int) -> Leaf:
    return Leaf(leg, 0.0)


def pair(a: int, b: int) -> Decay:
    return Decay(massless(a), massless(b), Uniform())


ONE_DECAY = Decay(massless(2), massless(3), Z, min_mass_gev=50.0)
CENTRAL_DECAY = replace(ONE_DECAY, angle=Isotropic(2.5))
TOP_DECAY = Decay(Decay(massless(2), massless(3), W), Leaf(4, 4.7), TOP)
OTHER_TOP = Decay(Leaf(5, 4.7), Decay(massless(6), massless(7), W), TOP)
TOP_PAIR = Decay(Leaf(2, 173.0), Leaf(3, 173.0), PowerLaw(1.5))

TREES: dict[str, tuple[Part, ...]] = {
    "two legs": (massless(2), massless(3)),
    "two massive legs": (Leaf(2, 173.0), Leaf(3, 4.7)),
    "legs out of order": (massless(3), massless(2)),
    "three legs": (Leaf(3, 173.0), massless(4), massless(2)),
    "a resonance": (ONE_DECAY, massless(4)),
    "a central resonance": (CENTRAL_DECAY, massless(4)),
    "a resonance second": (massless(4), ONE_DECAY),
    "a resonance among three": (massless(4), ONE_DECAY, massless(5)),
    "a massive pair": (TOP_PAIR, massless(4)),
    "a decay on each side": (ONE_DECAY, Decay(massless(4), massless(5), Z, min_mass_gev=20.0)),
    "a decay inside a decay": (TOP_DECAY, massless(5)),
    "decays inside decays on both sides": (TOP_DECAY, OTHER_TOP),
}
ONE_SYSTEM: dict[str, Decay] = {
    "two legs": pair(2, 3),
    "two legs and a spacelike line": replace(pair(3, 2), angle=Spacelike(80.4)),
    "a decay": Decay(ONE_DECAY, massless(4), PowerLaw(1.5, shift=1.0)),
    "a decay second": Decay(massless(4), ONE_DECAY, PowerLaw(1.5, shift=1.0)),
    "a chain": Decay(
        massless(2),
        Decay(massless(4), Leaf(3, 4.7), Uniform(), angle=Spacelike(0.0)),
        Uniform(),
        angle=Spacelike(80.4),
    ),
    "a massive pair": Decay(TOP_PAIR, massless(4), PowerLaw(1.5)),
    "two tops": Decay(TOP_DECAY, OTHER_TOP, PowerLaw(1.5)),
}


def phase_space_of(production: Production, systems: tuple[Part, ...], n: int = 1) -> MultiChannel:
    tree_map = TreeMap(production=production, systems=systems)
    return MultiChannel([Channel(group=0, topology="a tree")], [tree_map], [n], [])


def uniform_r(n: int, phase_space: MultiChannel) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    n_columns = phase_space.n_dim + phase_space.n_flat
    return torch.rand(n, n_columns, generator=rng, dtype=torch.float64)


def points_of(phase_space: MultiChannel, r: Tensor) -> PhaseSpacePoints:
    return phase_space.forward(r, torch.zeros(len(r), dtype=torch.int64))


def masses_of(systems: tuple[Part, ...]) -> list[float]:
    leaves = [leaf for system in systems for leaf in system.leaves]
    return [leaf.mass_gev for leaf in sorted(leaves, key=lambda leaf: leaf.leg)]


# --- maps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_SYSTEM)
def test_a_system_is_a_map_at_any_collider(name: str) -> None:
    systems = (ONE_SYSTEM[name],)
    phase_space = phase_space_of(LEPTON, systems)
    assert phase_space.n_dim + phase_space.n_flat == 3 * len(masses_of(systems)) - 4
    check_phase_space(phase_space, 0, LEPTON_ENERGY, masses_of(systems), min_share=0.9)
    if min(masses_of(systems)) > 0 or name in ("a massive pair", "two tops"):
        phase_space = phase_space_of(PARTONIC, systems, n=2)
        assert phase_space.n_dim + phase_space.n_flat == 3 * len(masses_of(systems)) - 2
        check_phase_space(phase_space, 0, HADRON_ENERGY, masses_of(systems), min_share=0.9)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("max_rapidity", [math.inf, 4.0], ids=["all", "central"])
def test_systems_in_transverse_momenta_are_a_map(name: str, max_rapidity: float) -> None:
    """Whichever of them balances the others."""
    for i, balancing in enumerate(TREES[name]):
        systems = (balancing, *TREES[name][:i], *TREES[name][i + 1 :])
        phase_space = phase_space_of(transverse(len(systems), max_rapidity), systems, n=2)
        check_phase_space(phase_space, 0, HADRON_ENERGY, masses_of(systems), min_share=0.5)


class Wrong(MultiChannel):
    """Right momenta, and log-Jacobians that are opposite and wrong, as a forgotten factor makes them."""

    def forward(self, r: Tensor, channel: Tensor) -> PhaseSpacePoints:
        points = super().forward(r, channel)
        return replace(points, log_jac=points.log_jac + 1e-3)

    def inverse(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        r, log_jac = super().inverse(points)
        return r, log_jac - 1e-3


@pytest.mark.parametrize(
    ("production", "systems", "sqrt_s"),
    [
        (LEPTON, (ONE_SYSTEM["a decay"],), LEPTON_ENERGY),
        (transverse(2), TREES["a resonance"], HADRON_ENERGY),
    ],
)
def test_the_law_finds_a_wrong_jacobian(
    production: Production, systems: tuple[Part, ...], sqrt_s: float
) -> None:
    tree_map = TreeMap(production=production, systems=systems)
    wrong = Wrong([Channel(group=0, topology="a tree")], [tree_map], [1], [])
    with pytest.raises(AssertionError, match=r"1\.0e-03 at 99 %"):
        check_phase_space(wrong, 0, sqrt_s, [0.0, 0.0, 0.0])


# --- volumes and integrals -------------------------------------------------------------------


@pytest.mark.parametrize(
    "system",
    [
        pair(2, 3),
        Decay(pair(2, 3), massless(4), Uniform()),
        Decay(pair(2, 3), pair(4, 5), Uniform()),
        Decay(Decay(pair(2, 3), massless(4), Uniform()), massless(5), Uniform()),
        Decay(Decay(pair(2, 3), massless(4), Uniform()), pair(5, 6), Uniform()),
        Decay(Decay(pair(2, 3), pair(4, 5), Uniform()), pair(6, 7), Uniform()),
        Decay(
            massless(2), replace(pair(3, 4), angle=Spacelike(80.4)), Uniform(), angle=Spacelike(0.0)
        ),
    ],
    ids=lambda system: f"{len(system.leaves)} legs",
)
def test_massless_phase_space_has_the_volume_of_the_closed_form(system: Decay) -> None:
    n_final = len(system.leaves)
    expected = massless_volume(LEPTON_ENERGY**2, n_final)
    phase_space = phase_space_of(LEPTON, (system,))
    n_points = 50_000 if n_final < 5 else 200_000
    check_phase_space_volume(phase_space, 0, expected, n_points, max_relative_error=0.03)
    with pytest.raises(AssertionError, match=r"pull|constant weight"):
        check_phase_space_volume(phase_space, 0, 1.2 * expected, n_points, max_relative_error=0.03)


@pytest.mark.parametrize("masses", [(173.0, 173.0, 0.0), (80.0, 4.7, 125.0), (0.0, 0.0, 173.0)])
def test_massive_phase_space_has_the_volume_of_a_quadrature(
    masses: tuple[float, float, float],
) -> None:
    expected = massive_volume(LEPTON_ENERGY, masses)
    one, two, three = (Leaf(i + 2, m) for i, m in enumerate(masses))
    for first, second in ((one, two), (two, one)):
        tree = Decay(Decay(first, second, Uniform()), three, Uniform())
        check_phase_space_volume(phase_space_of(LEPTON, (tree,)), 0, expected, 100_000, 0.01)
    other = Decay(one, Decay(two, three, Uniform()), Uniform(), angle=Spacelike(80.4))
    check_phase_space_volume(phase_space_of(LEPTON, (other,)), 0, expected, 100_000, 0.01)


def in_peak(points: PhaseSpacePoints) -> Tensor:
    """Something as a Z resonance makes it."""
    s = mass_squared(points.momenta[:, 2] + points.momenta[:, 3])
    return 1 / ((s - 91.188**2).square() + (91.188 * 2.441404) ** 2)


def test_a_resonant_map_integrates_what_a_quadrature_does() -> None:
    def of_s12(s12: float) -> float:
        two_body = (1 - s12 / LEPTON_ENERGY**2) / (8 * math.pi)
        density = 1 / ((s12 - 91.188**2) ** 2 + (91.188 * 2.441404) ** 2)
        return two_body / (8 * math.pi) * density / (2 * math.pi)

    expected = float(quad(of_s12, 50.0**2, LEPTON_ENERGY**2, points=[91.188**2])[0])
    for angle in (Isotropic(), Spacelike(80.4)):
        tree = Decay(ONE_DECAY, massless(4), Uniform(), angle=angle)
        check_integral(phase_space_of(LEPTON, (tree,)), in_peak, expected, 50_000)


def within_cuts(points: PhaseSpacePoints) -> Tensor:
    """A resonance that falls with s_hat, inside cuts on all legs."""
    final = points.momenta[:, 2:]
    inside = (pt(final) > points.momenta.new_tensor([5.0, 5.0, 20.0])).all(1)
    inside &= (eta(final).abs() < points.momenta.new_tensor([2.5, 2.5, 5.0])).all(1)
    inside &= mass_squared(final[:, 0] + final[:, 1]) > 50.0**2
    s_hat = points.x.prod(1) * HADRON_ENERGY**2
    return torch.where(inside, in_peak(points) * (-s_hat / 400.0**2).exp(), 0.0)


def estimate(
    phase_space: MultiChannel, function: Callable[[PhaseSpacePoints], Tensor], n: int
) -> tuple[float, float]:
    points = points_of(phase_space, uniform_r(n, phase_space))
    points = points.select(points.log_jac > -math.inf)
    value = function(points) * points.log_jac.exp()
    mean = float(value.sum()) / n
    return mean, math.sqrt(float(value.square().sum()) / n - mean**2) / n**0.5


def test_maps_that_know_the_cuts_and_maps_that_do_not_give_one_integral() -> None:
    """Nothing that passes the cuts is lost by keeping to them in production and decay."""
    n = 200_000
    whole = Decay(ONE_DECAY, massless(4), PowerLaw(1.5), min_mass_gev=60.0)
    expected, error = estimate(phase_space_of(PARTONIC, (whole,)), within_cuts, n)
    bounded = TransverseProduction(
        s=HADRON_ENERGY**2,
        systems=(
            TransverseSystem(max_rapidity=2.5),
            TransverseSystem(min_transverse_mass_gev=20.0, max_rapidity=5.0),
        ),
    )
    for production, systems in (
        (bounded, (CENTRAL_DECAY, massless(4))),
        (bounded, (ONE_DECAY, massless(4))),
        (transverse(2), (CENTRAL_DECAY, massless(4))),
        (transverse(2), (massless(4), ONE_DECAY)),
    ):
        value, other_error = estimate(phase_space_of(production, systems), within_cuts, n)
        check_estimate(value, math.hypot(error, other_error), expected, 0.02)
    losing = phase_space_of(bounded, (replace(ONE_DECAY, angle=Isotropic(1.5)), massless(4)))
    value, other_error = estimate(losing, within_cuts, n)
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(value, math.hypot(error, other_error), expected, 0.02)


# --- the event as a whole --------------------------------------------------------------------


def test_beams_of_unlike_energies_see_the_same_invariants() -> None:
    y = 0.5 * math.log(9.0 / 3.1)
    for system in ONE_SYSTEM.values():
        moving = phase_space_of(LeptonProduction(s=LEPTON_ENERGY**2, rapidity=y), (system,))
        resting = phase_space_of(LEPTON, (system,))
        r = uniform_r(200, resting)
        there, here = points_of(moving, r), points_of(resting, r)
        energies = there.momenta[:, :2, 0] / (LEPTON_ENERGY / 2)
        expected = torch.tensor([math.exp(y), math.exp(-y)], dtype=torch.float64)
        torch.testing.assert_close(energies, expected.expand_as(energies))
        metric = torch.diag(torch.tensor([1.0, -1, -1, -1]).double())
        products = [p.momenta @ metric @ p.momenta.mT for p in (there, here)]
        torch.testing.assert_close(*products, rtol=1e-9, atol=1e-6)
        torch.testing.assert_close(there.log_jac, here.log_jac, rtol=0, atol=1e-8)
        torch.testing.assert_close(moving.inverse(there)[0], r, rtol=0, atol=1e-7)


SYSTEMS, PRODUCTION = (CENTRAL_DECAY, massless(4)), transverse(2)


def two_orientations() -> tuple[PhaseSpacePoints, PhaseSpacePoints, Tensor]:
    """The points of a map with both orientations, and of one with the first alone, at the same r."""
    both, alone = (phase_space_of(PRODUCTION, SYSTEMS, n) for n in (2, 1))
    r = uniform_r(4000, both)
    folded = r.clone()
    folded[:, -1] = (2 * r[:, -1]) % 1
    return points_of(both, r), points_of(alone, folded), r


def test_two_orientations_double_the_volume_and_mirror_half_of_the_points() -> None:
    both, alone, r = two_orientations()
    assert torch.equal(both.log_jac > -math.inf, alone.log_jac > -math.inf)
    torch.testing.assert_close(both.log_jac.exp(), 2 * alone.log_jac.exp())
    mirrored = both.momenta[:, 0, 3] < 0
    assert torch.equal(mirrored, r[:, -1] >= 0.5)
    torch.testing.assert_close(both.momenta[~mirrored], alone.momenta[~mirrored])
    assert torch.equal(both.x, alone.x)


def test_a_mirrored_point_is_the_other_one_turned_by_pi_about_the_x_axis() -> None:
    both, alone, r = two_orientations()
    mirrored = r[:, -1] >= 0.5
    turned = alone.momenta[mirrored] * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(both.momenta[mirrored], turned)


@pytest.mark.parametrize("name", ["a resonance", "three legs", "a resonance among three"])
def test_a_reflection_is_flat_and_changes_nothing_but_one_component(name: str) -> None:
    phase_space = phase_space_of(transverse(len(TREES[name])), TREES[name])
    r = uniform_r(100, phase_space)
    r[:, -1] = 0.0
    here = points_of(phase_space, r)
    r[:, -1] = 0.5
    there = points_of(phase_space, r)
    reflection = torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(there.momenta, here.momenta * reflection)
    assert torch.equal(there.log_jac, here.log_jac)
    # All of the other half is there: nothing else reflects an event.
    assert float(here.momenta[:, 2:, 2].abs().max()) > 1


def test_both_reflections_are_equally_frequent() -> None:
    """What is out of the plane of the beams and the leading system lies on either side."""
    phase_space = phase_space_of(transverse(3), TREES["three legs"])
    final = points_of(phase_space, uniform_r(20_000, phase_space)).momenta[:, 2:]
    side = final[:, 2, 1] * final[:, 0, 2] - final[:, 2, 2] * final[:, 0, 1]
    assert abs(float((side > 0).double().mean()) - 0.5) < 5 * 0.5 / 20_000**0.5


@pytest.mark.parametrize("edge", [0.0, 1.0])
@pytest.mark.parametrize(
    "name", ["two massive legs", "a central resonance", "a massive pair", "a decay on each side"]
)
def test_the_faces_of_the_cube_have_points_or_none_but_never_nonsense(
    name: str, edge: float
) -> None:
    phase_space = phase_space_of(transverse(2, max_rapidity=4.0), TREES[name], n=2)
    for column in range(phase_space.n_dim + phase_space.n_flat):
        r = uniform_r(50, phase_space)
        r[:, column] = edge
        points = points_of(phase_space, r)
        assert not bool(points.log_jac.isnan().any())
        assert not bool((points.log_jac == math.inf).any())
        assert bool(points.momenta.isfinite().all())


def test_a_production_of_another_number_of_systems_is_refused() -> None:
    with pytest.raises(ValueError, match="another number of systems"):
        TreeMap(production=LEPTON, systems=(massless(2), massless(3)))


@pytest.mark.parametrize("production", [LEPTON, PARTONIC])
def test_too_little_energy_is_an_error(production: Production) -> None:
    production = replace(production, s=100.0**2)  # type: ignore[type-var]  # both are dataclasses, their base is not
    TreeMap(production=production, systems=(Decay(massless(2), Leaf(3, 60.0), Uniform()),))
    for heavy in (
        Decay(massless(2), Leaf(3, 173.0), Uniform()),  # (100 - 173)² is no energy
        Decay(Leaf(2, 50.0), Leaf(3, 50.0), Uniform()),
        Decay(massless(2), massless(3), Uniform(), min_mass_gev=101.0),
        Decay(massless(4), replace(ONE_DECAY, min_mass_gev=101.0), Uniform()),
    ):
        with pytest.raises(ValueError, match="more energy than the beams have"):
            TreeMap(production=production, systems=(heavy,))
