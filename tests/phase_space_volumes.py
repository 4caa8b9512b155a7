"""Volumes of phase space by quadrature, with their (2 pi)^(4-3n): neither maps nor random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad

Array = NDArray[np.float64]


def massive_volume(sqrt_s: float, masses: Sequence[float], n_nodes: int = 24) -> float:
    """The volume of phase space for legs of the given masses, GeV and GeV^(2n-4), to 1e-9.

    dPhi_n(M) = dPhi_2(M; M', m_1) dPhi_(n-1)(M') dM'² / (2 pi), the recursion of F. James, CERN
    68-15, one Gauss-Legendre quadrature inside the other. The kinetic energies K'
    and K - K' of the two parts are K sin² θ and K cos² θ: near both ends the integrand goes with
    half-integer powers of them, so that it is smooth in θ.
    """
    kinetic = np.asarray(sqrt_s - sum(masses))
    return float(_volume(kinetic, masses, *_nodes(n_nodes)))


def _nodes(n_nodes: int) -> tuple[Array, Array]:
    """Nodes and weights of Gauss and Legendre on [0, pi/2]."""
    x, weight = np.polynomial.legendre.leggauss(n_nodes)
    return (x + 1) * math.pi / 4, weight * math.pi / 4


def _volume(kinetic: Array, masses: Sequence[float], theta: Array, weight: Array) -> Array:
    if len(masses) == 2:
        return two_body_volume(kinetic, *masses)
    outer = kinetic[..., None]
    inner = outer * np.sin(theta) ** 2
    mass = inner + sum(masses[1:])
    first = two_body_volume(outer * np.cos(theta) ** 2, masses[0], mass)
    other = _volume(inner, masses[1:], theta, weight)
    value: Array = (first * other * mass / math.pi * outer * np.sin(2 * theta)) @ weight
    return value


def two_body_volume(kinetic: Array, m1: float, m2: Array | float) -> Array:
    """lambda^(1/2)(M², m1², m2²) / (8 pi M²) with M = kinetic + m1 + m2."""
    product = kinetic * (kinetic + 2 * m1) * (kinetic + 2 * m2) * (kinetic + 2 * (m1 + m2))
    root: Array = np.sqrt(product) / (8 * math.pi * (kinetic + m1 + m2) ** 2)
    return root


def hadronic_volume(
    sqrt_s: float,
    volume: Callable[[float], float],
    mass_window: tuple[float, float],
    max_rapidity: float = math.inf,
) -> float:
    """The integral of dx1 dx2 dPhi_n over a window in sqrt(s_hat), GeV, and the rapidity of the system.

    dx1 dx2 = dtau dy with |y| < ln(1/tau) / 2; `volume` is that of phase space at sqrt(s_hat).
    """

    def of_log_mass(log_mass: float) -> float:
        tau = math.exp(2 * log_mass) / sqrt_s**2
        width = min(2 * max_rapidity, -math.log(tau))
        return 2 * tau * width * volume(math.exp(log_mass))

    low, high = (math.log(mass) for mass in mass_window)
    edge = math.log(sqrt_s) - max_rapidity
    points = [edge] if low < edge < high else None
    return float(quad(of_log_mass, low, high, epsabs=0, epsrel=1e-9, points=points)[0])
