from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mlgen.phasespace.vectors import (
    back_to_back,
    from_rest,
    pair_mass_squared,
    to_rest,
    transverse_mass,
)
from mlgen.physics.kinematics import boost, mass_squared, rapidity
from tests.phasespace.wired import boost_along_beam


def normal(*shape: int, seed: int = 1) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def momenta(n: int, mass_gev: float, seed: int) -> Tensor:
    """Momenta (4, n) of many sizes."""
    spatial = normal(3, n, seed=seed) * 10 ** normal(n, seed=seed + 1)
    return torch.cat([(spatial.square().sum(0) + mass_gev**2).sqrt()[None], spatial])


def full(mass_gev: float, n: int) -> Tensor:
    return torch.full((n,), mass_gev, dtype=torch.float64)


PARENT, MASS, NOTHING = momenta(500, 91.0, seed=3), full(91.0, 500), full(0.0, 500)
FIRST, SECOND = momenta(500, 5.0, seed=5), momenta(500, 0.0, seed=7)


def products(*vectors: Tensor) -> Tensor:
    """All Minkowski products of momenta (4, n) each."""
    stacked = torch.stack(vectors, dim=-1)
    metric = stacked.new_tensor([1.0, -1, -1, -1])[:, None, None]
    return torch.einsum("mni,mnj->nij", metric * stacked, stacked)


def test_a_system_in_its_own_rest_frame_is_at_rest() -> None:
    resting = to_rest(PARENT, MASS.square(), PARENT, MASS)
    expected = torch.zeros_like(resting)
    expected[0] = MASS
    torch.testing.assert_close(resting, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(from_rest(expected, PARENT, MASS), PARENT, rtol=1e-12, atol=1e-10)


def test_the_way_to_the_rest_frame_and_back_is_a_lorentz_transformation_and_its_inverse() -> None:
    there = [to_rest(p, s, PARENT, MASS) for p, s in ((FIRST, full(25.0, 500)), (SECOND, NOTHING))]
    before, after = products(FIRST, SECOND), products(*there)
    scale = (there[0][0] * there[1][0]).amax()
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-12 * float(scale))
    for p, q in zip((FIRST, SECOND), there, strict=True):
        back = from_rest(q, PARENT, MASS)
        assert float(((back - p).abs().amax(0) / (q[0] + p[0])).max()) < 1e-11


def test_without_rapidity_it_is_the_boost_without_rotation() -> None:
    y = torch.asinh(PARENT[3] / transverse_mass(PARENT, MASS.square()))
    slow = boost_along_beam(PARENT, -y)
    assert float(slow[3].abs().max()) < 1e-10
    expected = boost(FIRST.T, slow.T).T
    torch.testing.assert_close(from_rest(FIRST, slow, MASS), expected, rtol=1e-10, atol=1e-9)


def test_the_beams_lie_at_equal_angles_to_the_z_axis_of_the_rest_frame() -> None:
    forward = torch.zeros_like(PARENT)
    forward[0] = forward[3] = 1.0
    backward = forward * forward.new_tensor([[1.0], [0], [0], [-1]])
    directions = [to_rest(beam, NOTHING, PARENT, MASS) for beam in (forward, backward)]
    cos = [direction[3] / direction[0] for direction in directions]
    torch.testing.assert_close(cos[0], -cos[1], rtol=1e-6, atol=1e-9)
    # A negative control: after a boost without rotation they do not.
    away = PARENT * PARENT.new_tensor([[1.0], [-1], [-1], [-1]])
    cos = [b[:, 3] / b[:, 0] for b in (boost(d.T, away.T) for d in (forward, backward))]
    assert not torch.allclose(cos[0], -cos[1], rtol=1e-3)


@pytest.mark.parametrize("y", [-1.2, 0.7])
def test_a_boost_along_the_beam_adds_rapidity(y: float) -> None:
    boosted = boost_along_beam(FIRST, full(y, 500))
    torch.testing.assert_close(rapidity(boosted.T), rapidity(FIRST.T) + y)
    torch.testing.assert_close(boosted[1:3], FIRST[1:3])


def test_parts_that_fly_back_to_back_have_the_energy_of_the_system() -> None:
    s, s1, s2 = full(200.0**2, 1), full(80.0**2, 1), full(5.0**2, 1)
    energy, p = back_to_back(s, s1, s2)
    assert float((p.square() + s1).sqrt()) == pytest.approx(float(energy))
    assert float(energy + (p.square() + s2).sqrt()) == pytest.approx(200.0)
    # Below the threshold, as rounding may have it, nothing moves.
    assert float(back_to_back(full(84.0**2, 1), s1, s2)[1]) == 0


@pytest.mark.parametrize(
    ("m1", "m2", "angle"), [(0.0, 0.0, 1e-6), (0.0, 0.1, 1e-5), (0.1, 0.2, 1e-6), (5.0, 0.0, 1.0)]
)
def test_the_mass_of_a_pair_keeps_its_digits_where_both_are_nearly_parallel(
    m1: float, m2: float, angle: float
) -> None:
    p2 = momenta(500, m2, seed=11)
    spatial = p2[1:] * 2.5 + angle * normal(3, 500, seed=13) * p2[0]
    p1 = torch.cat([(spatial.square().sum(0) + m1**2).sqrt()[None], spatial])
    expected = extended_pair_mass_squared(p1, m1, p2, m2)
    got = pair_mass_squared(p1, full(m1**2, 500), p2, full(m2**2, 500))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    if angle < 1:  # A negative control: the plain formula has lost them.
        plain = mass_squared((p1 + p2).T)
        assert not torch.allclose(plain, expected, rtol=1e-9, atol=1e-12)


def extended_pair_mass_squared(p1: Tensor, m1: float, p2: Tensor, m2: float) -> Tensor:
    """In extended precision, energies from the spatial momenta: it is theirs that lose the digits."""
    wide = [p[1:].numpy().astype(np.longdouble) for p in (p1, p2)]
    e1, e2 = (np.sqrt((p * p).sum(0) + m * m) for p, m in zip(wide, (m1, m2), strict=True))
    product = e1 * e2 - (wide[0] * wide[1]).sum(0)
    return torch.from_numpy((m1 * m1 + m2 * m2 + 2 * product).astype(np.float64))
