from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mlgen.physics.kinematics import (
    boost,
    boost_back,
    delta_phi,
    delta_r,
    eta,
    kallen,
    mass,
    mass_squared,
    minkowski_product,
    phi,
    pt,
    rapidity,
    transverse_mass,
)
from tests.laws import boost_and_rotate


def vector(*components: float) -> Tensor:
    return torch.tensor(components, dtype=torch.float64)


def momenta_of_mass(m: float, n: int = 500) -> Tensor:
    rng = torch.Generator().manual_seed(6)
    spatial = 100 * torch.randn(n, 3, generator=rng, dtype=torch.float64)
    return torch.cat([(spatial.square().sum(1) + m**2).sqrt()[:, None], spatial], dim=1)


P = vector(13.0, 3.0, 4.0, 0.0)
"""Mass 12, pt 5."""
Q = vector(15.0, 0.0, -6.0, 8.0)
"""Mass sqrt(125), pt 6, pz 8."""


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (minkowski_product(P, Q), 13 * 15 + 24),
        (mass_squared(P), 144),
        (mass(P), 12),
        (pt(Q), 6),
        (transverse_mass(Q), math.sqrt(161)),
        (phi(P), math.atan(4 / 3)),
        (phi(Q), -math.pi / 2),
        (eta(Q), math.asinh(8 / 6)),
        (eta(Q), -math.log(math.tan(math.acos(8 / 10) / 2))),
        (rapidity(Q), 0.5 * math.log(23 / 7)),
        (delta_phi(P, Q), math.atan(4 / 3) + math.pi / 2),
        (delta_r(P, Q), math.hypot(math.asinh(8 / 6), math.atan(4 / 3) + math.pi / 2)),
        (kallen(vector(10.0), vector(2.0), vector(3.0)), 100 + 4 + 9 - 40 - 12 - 60),
    ],
)
def test_the_value_is_that_of_a_calculation_by_hand(got: Tensor, expected: float) -> None:
    assert float(got) == pytest.approx(expected, rel=1e-14)


def test_rounding_never_makes_a_mass_imaginary() -> None:
    light = vector(1.0, 1.0, 1e-9, 0.0)
    assert float(mass_squared(light)) < 0
    assert float(mass(light)) == 0
    assert float(transverse_mass(vector(1.0, 0.0, 0.0, 1.0 + 1e-15))) == 0


def test_along_the_beam_pseudorapidity_is_infinite() -> None:
    assert float(eta(vector(5.0, 0.0, 0.0, -5.0))) == -math.inf
    assert float(eta(vector(5.0, 0.0, 0.0, 5.0))) == math.inf


def test_rapidity_is_pseudorapidity_for_a_massless_particle_and_smaller_for_others() -> None:
    light, heavy = momenta_of_mass(0.0), momenta_of_mass(50.0)
    torch.testing.assert_close(rapidity(light), eta(light), rtol=1e-10, atol=1e-12)
    assert bool((rapidity(heavy).abs() < eta(heavy).abs()).all())


def test_azimuths_differ_by_at_most_pi_and_the_difference_is_odd() -> None:
    p, q = momenta_of_mass(0.0).chunk(2)
    difference = delta_phi(p, q)
    assert float(difference.abs().max()) <= math.pi
    torch.testing.assert_close(difference, -delta_phi(q, p))
    torch.testing.assert_close(difference.cos(), (phi(p) - phi(q)).cos())
    # Across the cut of atan2.
    assert float(delta_phi(vector(1, -1, 0.01, 0), vector(1, -1, -0.01, 0))) == pytest.approx(
        -2 * math.atan(0.01)
    )


def test_distances_do_not_change_under_turns_and_boosts_along_the_beam_if_massless() -> None:
    p, q = momenta_of_mass(0.0).chunk(2)
    boosted = []
    for momentum in (p, q):
        y = rapidity(momentum) + 0.7
        boosted.append(
            torch.stack(
                [pt(momentum) * y.cosh(), -momentum[:, 2], momentum[:, 1], pt(momentum) * y.sinh()],
                dim=1,
            )
        )
    torch.testing.assert_close(delta_r(*boosted), delta_r(p, q))


def test_products_are_lorentz_invariant() -> None:
    pair = momenta_of_mass(80.0).reshape(250, 2, 4)
    there = boost_and_rotate(pair, seed=9)
    torch.testing.assert_close(
        minkowski_product(there[:, 0], there[:, 1]), minkowski_product(pair[:, 0], pair[:, 1])
    )


def test_a_boost_takes_a_particle_at_rest_to_the_momentum_of_its_frame() -> None:
    frame = momenta_of_mass(80.0)
    resting = torch.zeros_like(frame)
    resting[:, 0] = 80.0
    torch.testing.assert_close(boost(resting, frame), frame, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(boost_back(frame, frame), resting, rtol=1e-11, atol=1e-9)


def test_boosts_invert_and_keep_products() -> None:
    momenta, frame = momenta_of_mass(5.0), momenta_of_mass(80.0).flip(0)
    there = boost(momenta, frame)
    torch.testing.assert_close(boost_back(there, frame), momenta, rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(mass_squared(there), mass_squared(momenta), rtol=0, atol=1e-6)
    other = momenta.flip(0)
    torch.testing.assert_close(
        minkowski_product(there, boost(other, frame)),
        minkowski_product(momenta, other),
        rtol=1e-9,
        atol=1e-6,
    )


def test_a_boost_along_z_is_that_of_the_textbook() -> None:
    beta = 0.6
    gamma = 1.25
    got = boost(vector(5.0, 1.0, 2.0, 3.0), vector(gamma, 0.0, 0.0, gamma * beta))
    expected = vector(gamma * (5 + beta * 3), 1.0, 2.0, gamma * (3 + beta * 5))
    torch.testing.assert_close(got, expected, rtol=1e-14, atol=0)


def test_all_leading_axes_are_batched() -> None:
    momenta = momenta_of_mass(3.0).reshape(25, 4, 5, 4)
    flat = momenta.reshape(-1, 4)
    for function in (mass, pt, eta, phi, rapidity, transverse_mass):
        assert torch.equal(function(momenta).flatten(), function(flat))
    frame = momenta_of_mass(80.0, 25)[:, None, None]
    torch.testing.assert_close(
        boost(momenta, frame)[7, 2, 1], boost(momenta[7, 2, 1], frame[7, 0, 0])
    )


def test_the_triangle_function_is_symmetric_and_keeps_its_digits_near_threshold() -> None:
    a, b, c = (vector(x) for x in (1e4, 30.0, 170.0))
    for order in ((a, c, b), (b, c, a), (c, b, a)):
        torch.testing.assert_close(kallen(*order), kallen(a, b, c), rtol=1e-12, atol=0)
    assert float(kallen(vector(4.0), vector(1.0), vector(1.0))) == 0
    # lambda = [s - (m1 + m2)²] [s - (m1 - m2)²], exact for these numbers.
    above = 2.0**-30
    got = float(kallen(vector(4.0 + above), vector(1.0), vector(1.0)))
    assert got == pytest.approx(above * (4 + above), rel=1e-9)
