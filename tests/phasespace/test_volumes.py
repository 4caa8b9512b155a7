"""The quadrature of phase-space volumes, against closed forms and another quadrature."""

from __future__ import annotations

import math

import pytest
from scipy.integrate import quad

from tests.laws import massless_volume
from tests.phase_space_volumes import massive_volume

ENERGY = 500.0


@pytest.mark.parametrize("n_final", range(2, 7))
def test_the_quadrature_has_the_closed_form_without_masses(n_final: int) -> None:
    expected = massless_volume(ENERGY**2, n_final)
    assert massive_volume(ENERGY, [0.0] * n_final) == pytest.approx(expected, rel=1e-12)


def test_the_quadrature_has_the_closed_form_of_one_massive_leg_among_three() -> None:
    """s / (128 pi³) times the integral of (1 - x) (1 - a / x) over x from a = m² / s to 1."""
    a = (173.0 / ENERGY) ** 2
    expected = ENERGY**2 / (256 * math.pi**3) * (1 - a**2 + 2 * a * math.log(a))
    for masses in ((173.0, 0.0, 0.0), (0.0, 0.0, 173.0)):
        assert massive_volume(ENERGY, masses) == pytest.approx(expected, rel=1e-10)


def test_the_quadrature_of_three_legs_is_that_over_the_border_of_the_dalitz_plot() -> None:
    """dPhi_3 = dm12² dm23² / (128 pi³ s), with m23² between its bounds at given m12²."""
    m1, m2, m3 = 173.0, 4.7, 80.4

    def width(m12: float) -> float:
        e2 = (m12**2 - m1**2 + m2**2) / (2 * m12)
        e3 = (ENERGY**2 - m12**2 - m3**2) / (2 * m12)
        return 4 * math.sqrt(e2**2 - m2**2) * math.sqrt(e3**2 - m3**2) * 2 * m12

    area = quad(width, m1 + m2 + 1e-9, ENERGY - m3 - 1e-9, epsrel=1e-9)[0]
    expected = area / (128 * math.pi**3 * ENERGY**2)
    assert massive_volume(ENERGY, (m1, m2, m3)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    "masses",
    [(80.4, 4.7, 125.0, 0.0), (173.0, 80.0, 4.7, 0.0, 0.0), (173.0, 20.0, 20.0, 0.1, 0, 0)],
)
def test_the_quadrature_is_precise_and_knows_no_order_of_the_legs(
    masses: tuple[float, ...],
) -> None:
    volume = massive_volume(ENERGY, masses)
    assert massive_volume(ENERGY, masses[::-1]) == pytest.approx(volume, rel=1e-8)
    assert massive_volume(ENERGY, masses, n_nodes=30) == pytest.approx(volume, rel=1e-8)
