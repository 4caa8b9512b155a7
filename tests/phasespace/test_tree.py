from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from mlgen.core import Channel, PhaseSpacePoints
from mlgen.phasespace.channels import TreePhaseSpace
from mlgen.phasespace.invariants import BreitWigner, PowerLaw, Uniform
from mlgen.phasespace.production import (
    LeptonProduction,
    PartonicProduction,
    Production,
    TransverseProduction,
)
from mlgen.phasespace.tree import Decay, Leaf, Part, TreeMap
from mlgen.physics.kinematics import eta, mass_squared, pt
from tests.laws import check_estimate, check_integral, check_phase_space, massless_volume

LEPTON_ENERGY, HADRON_ENERGY = 500.0, 13000.0
Z = BreitWigner(91.188, 2.441404)
TOP = BreitWigner(173.0, 1.4915)
LEPTON = LeptonProduction(s=LEPTON_ENERGY**2)
PARTONIC = PartonicProduction(s=HADRON_ENERGY**2, invariant=PowerLaw(1.5), min_mass_gev=100.0)
TRANSVERSE = TransverseProduction(s=HADRON_ENERGY**2, min_pt_gev=20.0)
CENTRAL = TransverseProduction(s=HADRON_ENERGY**2, min_pt_gev=20.0, max_rapidities=(2.5, 5.0))


def massless(leg: int) -> Leaf:
    return Leaf(leg, 0.0)


def pair(a: int, b: int) -> Decay:
    return Decay(massless(a), massless(b), Uniform())


ONE_DECAY = Decay(massless(2), massless(3), Z, min_mass_gev=50.0)
CENTRAL_DECAY = replace(ONE_DECAY, max_rapidity=2.5)
TOP_DECAY = Decay(Decay(massless(2), massless(3), BreitWigner(80.4, 2.05)), Leaf(4, 4.7), TOP)

TREES: dict[str, tuple[Part, Part, dict[int, float]]] = {
    "two legs": (massless(2), massless(3), {}),
    "two massive legs": (Leaf(2, 173.0), Leaf(3, 4.7), {2: 173.0, 3: 4.7}),
    "legs out of order": (massless(3), massless(2), {}),
    "a resonance": (ONE_DECAY, massless(4), {}),
    "a central resonance": (CENTRAL_DECAY, massless(4), {}),
    "a resonance second": (massless(4), ONE_DECAY, {}),
    "a massive pair": (
        Decay(Leaf(2, 173.0), Leaf(3, 173.0), PowerLaw(1.5)),
        massless(4),
        {2: 173.0, 3: 173.0},
    ),
    "a decay on each side": (ONE_DECAY, Decay(massless(4), massless(5), Z, min_mass_gev=20.0), {}),
    "a decay inside a decay": (TOP_DECAY, massless(5), {4: 4.7}),
    "decays inside decays on both sides": (
        TOP_DECAY,
        Decay(Leaf(5, 4.7), Decay(massless(6), massless(7), BreitWigner(80.4, 2.05)), TOP),
        {4: 4.7, 5: 4.7},
    ),
}


def phase_space_of(production: Production, first: Part, second: Part, n: int = 1) -> TreePhaseSpace:
    tree_map = TreeMap(production=production, first=first, second=second)
    return TreePhaseSpace([Channel(group=0, topology="a tree")], [tree_map], [n])


def uniform_r(n: int, phase_space: TreePhaseSpace) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    n_columns = phase_space.n_dim + phase_space.n_flat
    return torch.rand(n, n_columns, generator=rng, dtype=torch.float64)


def points_of(phase_space: TreePhaseSpace, r: Tensor) -> PhaseSpacePoints:
    return phase_space.forward(r, torch.zeros(len(r), dtype=torch.int64))


def masses_of(name: str) -> list[float]:
    first, second, masses = TREES[name]
    return [masses.get(leg, 0.0) for leg in sorted(first.legs + second.legs)]


@pytest.mark.parametrize("name", TREES)
def test_a_tree_at_a_lepton_collider_is_a_map(name: str) -> None:
    phase_space = phase_space_of(LEPTON, *TREES[name][:2])
    check_phase_space(phase_space, 0, LEPTON_ENERGY, masses_of(name), min_share=0.9)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("production", [TRANSVERSE, CENTRAL], ids=["transverse", "central"])
def test_a_tree_at_a_hadron_collider_is_a_map(name: str, production: Production) -> None:
    phase_space = phase_space_of(production, *TREES[name][:2], n=2)
    check_phase_space(phase_space, 0, HADRON_ENERGY, masses_of(name), min_share=0.5)


def test_a_tree_from_s_hat_is_a_map() -> None:
    for name in ("two massive legs", "a massive pair", "decays inside decays on both sides"):
        phase_space = phase_space_of(PARTONIC, *TREES[name][:2], n=2)
        check_phase_space(phase_space, 0, HADRON_ENERGY, masses_of(name))


class Wrong(TreePhaseSpace):
    """Right momenta, and log-Jacobians that are opposite and wrong, as a forgotten factor makes them."""

    def forward(self, r: Tensor, channel: Tensor) -> PhaseSpacePoints:
        points = super().forward(r, channel)
        return replace(points, log_jac=points.log_jac + 1e-3)

    def inverse(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        r, log_jac = super().inverse(points)
        return r, log_jac - 1e-3


@pytest.mark.parametrize(
    ("production", "sqrt_s"), [(LEPTON, LEPTON_ENERGY), (TRANSVERSE, HADRON_ENERGY)]
)
def test_the_law_finds_a_wrong_jacobian(production: Production, sqrt_s: float) -> None:
    right = phase_space_of(production, ONE_DECAY, massless(4))
    tree_map = TreeMap(production=production, first=ONE_DECAY, second=massless(4))
    wrong = Wrong(right.channels, [tree_map], [1])
    with pytest.raises(AssertionError, match=r"1\.0e-03 at 99 %"):
        check_phase_space(wrong, 0, sqrt_s, [0.0, 0.0, 0.0])


def one(points: PhaseSpacePoints) -> Tensor:
    return torch.ones_like(points.log_jac)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (massless(2), massless(3)),
        (pair(2, 3), massless(4)),
        (pair(2, 3), pair(4, 5)),
        (Decay(pair(2, 3), massless(4), Uniform()), massless(5)),
        (Decay(pair(2, 3), massless(4), Uniform()), pair(5, 6)),
    ],
)
def test_massless_phase_space_has_the_volume_of_the_closed_form(first: Part, second: Part) -> None:
    n_final = len(first.legs + second.legs)
    expected = massless_volume(LEPTON_ENERGY**2, n_final)
    if n_final == 2:
        points = points_of(phase_space_of(LEPTON, first, second), torch.rand(4, 2).double())
        assert float(points.log_jac.exp()[0]) == pytest.approx(expected, rel=1e-12)
        return
    phase_space = phase_space_of(LEPTON, first, second)
    n_points = 50_000 if n_final < 5 else 200_000
    check_integral(phase_space, one, expected, n_points)
    with pytest.raises(AssertionError, match="pull"):
        check_integral(phase_space, one, 1.1 * expected, n_points)


def two_body_volume(s: float, m1: float, m2: float) -> float:
    return math.sqrt((s - (m1 + m2) ** 2) * (s - (m1 - m2) ** 2)) / (8 * math.pi * s)


def three_body_volume(s: float, m1: float, m2: float, m3: float) -> float:
    """The integral of Phi_2(s; s12, m3²) Phi_2(s12; m1², m2²) ds12 / 2 pi, by quadrature."""

    def of_s12(s12: float) -> float:
        volumes = two_body_volume(s, math.sqrt(s12), m3) * two_body_volume(s12, m1, m2)
        return volumes / (2 * math.pi)

    return float(quad(of_s12, (m1 + m2) ** 2, (math.sqrt(s) - m3) ** 2)[0])


@pytest.mark.parametrize("masses", [(173.0, 173.0, 0.0), (80.0, 4.7, 125.0), (0.0, 0.0, 173.0)])
def test_massive_phase_space_has_the_volume_of_a_quadrature(
    masses: tuple[float, float, float],
) -> None:
    expected = three_body_volume(LEPTON_ENERGY**2, *masses)
    one_leaf, two, three = (Leaf(i + 2, m) for i, m in enumerate(masses))
    for first, second in ((one_leaf, two), (two, one_leaf)):
        tree = Decay(first, second, Uniform())
        check_integral(phase_space_of(LEPTON, tree, three), one, expected, n_points=20_000)
    other = Decay(two, three, Uniform())
    check_integral(phase_space_of(LEPTON, one_leaf, other), one, expected, n_points=20_000)


def in_peak(points: PhaseSpacePoints) -> Tensor:
    """Something as a Z resonance makes it."""
    s = mass_squared(points.momenta[:, 2] + points.momenta[:, 3])
    return 1 / ((s - 91.188**2).square() + (91.188 * 2.441404) ** 2)


def test_a_resonant_map_integrates_what_a_quadrature_does() -> None:
    def of_s12(s12: float) -> float:
        volumes = two_body_volume(LEPTON_ENERGY**2, math.sqrt(s12), 0) / (8 * math.pi)
        density = 1 / ((s12 - 91.188**2) ** 2 + (91.188 * 2.441404) ** 2)
        return volumes * density / (2 * math.pi)

    expected = float(quad(of_s12, 50.0**2, LEPTON_ENERGY**2, points=[91.188**2])[0])
    check_integral(phase_space_of(LEPTON, ONE_DECAY, massless(4)), in_peak, expected, 20_000)


def within_cuts(points: PhaseSpacePoints) -> Tensor:
    """A resonance that falls with s_hat, inside cuts on all legs."""
    final = points.momenta[:, 2:]
    inside = (pt(final) > points.momenta.new_tensor([5.0, 5.0, 20.0])).all(1)
    inside &= (eta(final).abs() < points.momenta.new_tensor([2.5, 2.5, 5.0])).all(1)
    inside &= mass_squared(final[:, 0] + final[:, 1]) > 50.0**2
    s_hat = points.x.prod(1) * HADRON_ENERGY**2
    return torch.where(inside, in_peak(points) * (-s_hat / 400.0**2).exp(), 0.0)


def estimate(
    phase_space: TreePhaseSpace, function: Callable[[PhaseSpacePoints], Tensor], n: int
) -> tuple[float, float]:
    points = points_of(phase_space, uniform_r(n, phase_space))
    value = function(points) * points.log_jac.exp()
    return float(value.mean()), float(value.std()) / n**0.5


def test_maps_that_know_the_cuts_and_maps_that_do_not_give_one_integral() -> None:
    """Nothing that passes the cuts is lost by keeping to them in production and decay."""
    plain = PartonicProduction(s=HADRON_ENERGY**2, invariant=PowerLaw(1.5))
    n = 100_000
    expected, error = estimate(phase_space_of(plain, ONE_DECAY, massless(4)), within_cuts, n)
    bounded = replace(CENTRAL, transverse=PowerLaw(1.2))
    for production, decay in ((bounded, CENTRAL_DECAY), (bounded, ONE_DECAY)):
        phase_space = phase_space_of(production, decay, massless(4))
        value, other_error = estimate(phase_space, within_cuts, n)
        check_estimate(value, math.hypot(error, other_error), expected, 0.02)
    losing = phase_space_of(bounded, replace(ONE_DECAY, max_rapidity=1.5), massless(4))
    value, other_error = estimate(losing, within_cuts, n)
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(value, math.hypot(error, other_error), expected, 0.02)


def test_a_bound_on_rapidity_leaves_fewer_points_outside_it() -> None:
    def inside(points: PhaseSpacePoints) -> Tensor:
        return (eta(points.momenta[:, 2:4]).abs() < 2.5).all(1) & (points.log_jac > -math.inf)

    shares = []
    for decay in (ONE_DECAY, CENTRAL_DECAY):
        phase_space = phase_space_of(CENTRAL, decay, massless(4))
        points = points_of(phase_space, uniform_r(5000, phase_space))
        shares.append(float(inside(points).double().mean()))
    assert shares[1] > 0.9 > shares[0]


def test_beams_of_unlike_energies_see_the_same_invariants() -> None:
    y = 0.5 * math.log(9.0 / 3.1)
    for first, second, _ in TREES.values():
        moving = phase_space_of(LeptonProduction(s=LEPTON_ENERGY**2, rapidity=y), first, second)
        resting = phase_space_of(LEPTON, first, second)
        r = uniform_r(200, resting)
        there, here = points_of(moving, r), points_of(resting, r)
        exists = (here.log_jac > -math.inf) & (there.log_jac > -math.inf)
        there, here = there.select(exists), here.select(exists)
        energies = there.momenta[:, :2, 0] / (LEPTON_ENERGY / 2)
        expected = torch.tensor([math.exp(y), math.exp(-y)], dtype=torch.float64)
        torch.testing.assert_close(energies, expected.expand_as(energies))
        if first is not CENTRAL_DECAY:  # A bound on rapidity holds in the laboratory.
            products = [
                p.momenta @ torch.diag(torch.tensor([1.0, -1, -1, -1]).double()) @ p.momenta.mT
                for p in (there, here)
            ]
            torch.testing.assert_close(*products, rtol=1e-9, atol=1e-6)
            torch.testing.assert_close(there.log_jac, here.log_jac, rtol=0, atol=1e-9)
        back = moving.inverse(there)[0]
        torch.testing.assert_close(back, r[exists], rtol=0, atol=1e-7)


def two_orientations() -> tuple[PhaseSpacePoints, PhaseSpacePoints, Tensor]:
    """The points of a map with both orientations, and of one with the first alone, at the same r."""
    r = uniform_r(4000, phase_space_of(CENTRAL, CENTRAL_DECAY, massless(4)))
    both = points_of(phase_space_of(CENTRAL, CENTRAL_DECAY, massless(4), n=2), r)
    folded = r.clone()
    folded[:, -1] = (2 * r[:, -1]) % 1
    return both, points_of(phase_space_of(CENTRAL, CENTRAL_DECAY, massless(4)), folded), r


def test_two_orientations_double_the_volume_and_mirror_half_of_the_points() -> None:
    both, alone, r = two_orientations()
    assert torch.equal(both.log_jac > -math.inf, alone.log_jac > -math.inf)
    torch.testing.assert_close(both.log_jac.exp(), 2 * alone.log_jac.exp())
    mirrored = both.momenta[:, 0, 3] < 0
    assert torch.equal(mirrored, r[:, -1] >= 0.5)
    assert torch.equal(both.momenta[~mirrored], alone.momenta[~mirrored])
    assert torch.equal(both.x, alone.x)


def test_a_mirrored_point_is_the_other_one_turned_by_pi_about_the_x_axis() -> None:
    both, alone, r = two_orientations()
    mirrored = r[:, -1] >= 0.5
    turned = alone.momenta[mirrored] * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    assert torch.equal(both.momenta[mirrored], turned)


def test_a_reflection_is_flat_and_changes_nothing_but_one_component() -> None:
    phase_space = phase_space_of(CENTRAL, CENTRAL_DECAY, massless(4))
    r = uniform_r(100, phase_space)
    r[:, -1] = 0.0
    here = points_of(phase_space, r)
    r[:, -1] = 0.5
    there = points_of(phase_space, r)
    reflection = torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(there.momenta, here.momenta * reflection)
    assert torch.equal(there.log_jac, here.log_jac)
    assert float(here.momenta[:, 2, 2].min()) >= 0  # the leading azimuth takes half a turn


@pytest.mark.parametrize("edge", [0.0, 1.0])
@pytest.mark.parametrize(
    "name", ["two massive legs", "a central resonance", "a massive pair", "a decay on each side"]
)
def test_the_faces_of_the_cube_have_points_or_none_but_never_nonsense(
    name: str, edge: float
) -> None:
    phase_space = phase_space_of(CENTRAL, *TREES[name][:2], n=2)
    for column in range(phase_space.n_dim + phase_space.n_flat):
        r = uniform_r(50, phase_space)
        r[:, column] = edge
        points = points_of(phase_space, r)
        assert not bool(points.log_jac.isnan().any())
        assert not bool((points.log_jac == math.inf).any())
        assert bool(points.momenta.isfinite().all())


@pytest.mark.parametrize(
    "production",
    [
        LeptonProduction(s=100.0**2),
        PartonicProduction(s=100.0**2, invariant=PowerLaw(1.5)),
        TransverseProduction(s=100.0**2, min_pt_gev=20.0),
    ],
)
def test_too_little_energy_is_an_error(production: Production) -> None:
    TreeMap(production=production, first=Leaf(2, 0.0), second=Leaf(3, 60.0))
    heavy = Decay(massless(2), massless(3), Uniform(), min_mass_gev=101.0)
    for first, second in (
        (Leaf(2, 0.0), Leaf(3, 173.0)),  # (100 - 173)² is no energy
        (Leaf(2, 50.0), Leaf(3, 50.0)),
        (heavy, Leaf(4, 0.0)),
        (Leaf(4, 0.0), heavy),
    ):
        with pytest.raises(ValueError, match="more energy than the beams have"):
            TreeMap(production=production, first=first, second=second)


def test_a_cut_on_pt_takes_energy_too() -> None:
    for min_pt, fits in ((49.0, True), (51.0, False)):
        production = TransverseProduction(s=100.0**2, min_pt_gev=min_pt)
        if fits:
            TreeMap(production=production, first=massless(2), second=massless(3))
            continue
        with pytest.raises(ValueError, match="more energy"):
            TreeMap(production=production, first=massless(2), second=massless(3))
