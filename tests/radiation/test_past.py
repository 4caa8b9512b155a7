"""What earlier particles say of a jet: sums, directions and neighbours, against numbers from momenta."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlgen.physics.kinematics import delta_phi, eta, phi, pt, transverse_mass
from mlgen.radiation.conditionals import UNBOUNDED, Gaussians, VonMises
from mlgen.radiation.past import (
    LEAST_ABOVE,
    Past,
    balance,
    centres,
    directions,
    gaps,
    neighbours,
    sizes,
    transverse_sums,
    upper_ends,
)
from mlgen.radiation.representation import ETA, LOG_PT, PHI, Representation
from tests.radiation.samples import PT_MIN, random_events

EVENTS = random_events(300, seed=71)
FULL = EVENTS.select(EVENTS.n_jets == 4)
MAP = Representation.of(EVENTS, PT_MIN, radius=1.2)
COLUMNS = MAP.encode(FULL).columns
SCALES = torch.tensor(MAP.scales, dtype=torch.float64)


def after(n_jets: int) -> Past:
    """The hard object and so many jets; what follows them does not count."""
    return Past(COLUMNS, torch.full((len(COLUMNS),), 1 + n_jets))


def test_transverse_momenta_are_added_as_vectors_are() -> None:
    found = transverse_sums(COLUMNS, SCALES)
    momenta = torch.cat([FULL.hard[:, None], FULL.jets], dim=1).cumsum(1)
    torch.testing.assert_close(found.norm(dim=-1), pt(momenta), rtol=1e-9, atol=1e-6)
    turn = torch.atan2(found[..., 1], found[..., 0])
    expected = delta_phi(momenta, FULL.hard[:, None])
    assert float(torch.remainder(turn - expected + 1, 2 * math.pi).sub(1).abs().max()) < 1e-6
    assert bool(balance(found).isfinite().all())


def test_sizes_are_those_of_what_balances_all_and_of_the_scale_of_the_hard_object() -> None:
    jets = MAP.jets
    for n_jets in range(5):
        found = sizes(after(n_jets), SCALES)
        total = FULL.hard + FULL.jets[:, :n_jets].sum(1)
        above = torch.stack([pt(total), transverse_mass(FULL.hard)], dim=-1) - PT_MIN
        column = (above.clamp(min=LEAST_ABOVE * PT_MIN).log() - jets.mean[0]) / jets.std[0]
        torch.testing.assert_close(found[:, 1:], column, rtol=1e-6, atol=1e-6)
        assert not bool(found[:, 0].any())
        ends = upper_ends(after(n_jets), found)
        before = COLUMNS[:, n_jets, LOG_PT] if n_jets else torch.full_like(ends[:, 0], UNBOUNDED)
        assert torch.equal(ends[:, 0], before)
        assert torch.equal(ends[:, 1], before)
        assert torch.equal(ends[:, 2], torch.minimum(before, found[:, 2]))


def check_angles(found: Tensor, expected: Tensor) -> None:
    assert float((torch.remainder(found - expected + 1, 2 * math.pi) - 1).abs().max()) < 1e-6


def test_directions_are_those_of_other_particles_and_of_what_balances_them() -> None:
    azimuth = phi(FULL.jets) - phi(FULL.hard)[:, None]
    for n_jets in range(5):
        found = directions(after(n_jets), SCALES)
        zero = torch.zeros(len(FULL), dtype=torch.float64)
        seen = [azimuth[:, k] for k in range(n_jets)]
        last, first = (seen[-1], seen[0]) if seen else (zero, zero)
        before = seen[-2] if n_jets > 1 else zero
        total = FULL.hard + FULL.jets[:, :n_jets].sum(1)
        opposite = phi(-total) - phi(FULL.hard)
        for column, expected in enumerate((zero, last, opposite, first, before)):
            check_angles(found[:, column], expected)


def test_jets_near_in_azimuth_are_found_whatever_the_hard_object_is() -> None:
    azimuth = COLUMNS[:, 4, PHI]
    assert not bool(centres(after(0), azimuth).any())
    one = centres(after(1), azimuth)
    assert torch.equal(one[:, 1], COLUMNS[:, 1, ETA])
    assert not bool(one[:, [0, 2]].any())
    three = centres(after(3), azimuth)
    distance = delta_phi(FULL.jets[:, :3], FULL.jets[:, 3:4]).abs()
    nearest = COLUMNS[:, 1:4, ETA].gather(1, distance.argsort(1)[:, :2])
    assert torch.equal(three[:, [1, 2, 3]], nearest[:, [0, 1, 0]])


def test_a_jet_within_the_radius_of_others_is_in_a_gap() -> None:
    jet, azimuth = FULL.jets[:, 3], COLUMNS[:, 4, PHI]
    log_kept = torch.tensor(-2.0)
    for n_jets in range(4):
        found = gaps(after(n_jets), azimuth, SCALES, log_kept).has(COLUMNS[:, 4, ETA])
        others = FULL.jets[:, :n_jets]
        turn = delta_phi(others, jet[:, None])
        # Of more than two jets, the two nearest in azimuth count.
        nearest = turn.abs().argsort(1)[:, :2]
        distance = torch.hypot(turn, eta(others) - eta(jet)[:, None]).gather(1, nearest)
        assert torch.equal(found, (distance < 1.2).any(1))
        assert n_jets == 0 or bool(found.any())


def test_neighbours_know_how_far_they_are() -> None:
    jet = COLUMNS[:, 4]
    found = neighbours(after(3), list(jet.unbind(-1)[:ETA]))
    known = neighbours(after(3), list(jet.unbind(-1)[: ETA + 1]))
    distance = delta_phi(FULL.jets[:, :3], FULL.jets[:, 3:4])
    torch.testing.assert_close(found[:, 1:4, 2], distance.cos(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found[:, 1:4, 3], distance.sin(), rtol=0, atol=1e-6)
    assert torch.equal(found[..., 1], jet[:, LOG_PT, None].expand(-1, 5))
    assert torch.equal(found[..., 5], COLUMNS[..., ETA])
    torch.testing.assert_close(known[..., 5], COLUMNS[..., ETA] - jet[:, ETA, None])


def test_only_jets_before_count() -> None:
    assert bool((after(2).is_jet.sum(1) == 2).all())
    assert not bool(after(2).is_jet[:, [0, 3, 4]].any())
    assert torch.equal(after(2).jet(torch.tensor(9), LOG_PT), COLUMNS[:, 2, LOG_PT])
    assert torch.equal(after(2).jet(torch.tensor(-1), LOG_PT), COLUMNS[:, 0, LOG_PT])


def test_moved_components_are_densities_elsewhere() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for conditional in (Gaussians(2), VonMises(2)):
        parameters = torch.randn(1, 6, generator=rng, dtype=torch.float64).expand(9, -1)
        by = torch.full((9, 1), 0.7, dtype=torch.float64)
        found = conditional.log_prob(conditional.moved(parameters, by), x + 0.7)
        torch.testing.assert_close(found, conditional.log_prob(parameters, x))
        # Of two directions the second moves the second component alone.
        one = conditional.moved(parameters, torch.cat([0 * by, by], dim=1))
        assert torch.equal(one[:, [0, 1, 2, 4]], parameters[:, [0, 1, 2, 4]])
        assert not torch.equal(one[:, 3], parameters[:, 3])
