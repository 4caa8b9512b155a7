"""Kinematics of four-momenta (E, px, py, pz), batched over all leading axes; GeV and radians."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def minkowski_product(a: Tensor, b: Tensor) -> Tensor:
    """a·b with the metric (+, -, -, -), GeV²: (..., 4) x (..., 4) -> (...)."""
    # torch 2.13 sums over a short last axis many times slower than it adds columns.
    energy, x, y, z = (a * b).unbind(-1)
    return energy - x - y - z


def mass_squared(momenta: Tensor) -> Tensor:
    """p², GeV²; slightly negative values from rounding are kept."""
    return minkowski_product(momenta, momenta)


def mass(momenta: Tensor) -> Tensor:
    """The invariant mass, GeV; 0 where rounding makes p² negative."""
    return mass_squared(momenta).clamp(min=0).sqrt()


def pt(momenta: Tensor) -> Tensor:
    """The momentum transverse to the beam, GeV."""
    return torch.hypot(momenta[..., 1], momenta[..., 2])


def transverse_mass(momenta: Tensor) -> Tensor:
    """sqrt(m² + pt²) = sqrt(E² - pz²), GeV."""
    energy, pz = momenta[..., 0], momenta[..., 3]
    return ((energy - pz) * (energy + pz)).clamp(min=0).sqrt()


def phi(momenta: Tensor) -> Tensor:
    """The azimuth around the beam, in (-pi, pi]."""
    return torch.atan2(momenta[..., 2], momenta[..., 1])


def eta(momenta: Tensor) -> Tensor:
    """Pseudorapidity, asinh(pz / pt); infinite along the beam."""
    return torch.asinh(momenta[..., 3] / pt(momenta))


def rapidity(momenta: Tensor) -> Tensor:
    """Rapidity along the beam, atanh(pz / E)."""
    return torch.atanh(momenta[..., 3] / momenta[..., 0])


def delta_phi(a: Tensor, b: Tensor) -> Tensor:
    """The difference in azimuth, in [-pi, pi)."""
    return torch.remainder(phi(a) - phi(b) + math.pi, 2 * math.pi) - math.pi


def delta_r(a: Tensor, b: Tensor) -> Tensor:
    """sqrt(Delta eta² + Delta phi²)."""
    return torch.hypot(eta(a) - eta(b), delta_phi(a, b))


def boost(momenta: Tensor, frame: Tensor) -> Tensor:
    """Take momenta from the rest frame of `frame` to where `frame` has the momentum given.

    Args:
        momenta: (..., 4), GeV.
        frame: (..., 4), GeV, timelike; broadcast against `momenta`.
    """
    m = mass(frame)
    spatial = frame[..., 1:]
    along = (spatial * momenta[..., 1:]).sum(-1)
    energy = (frame[..., 0] * momenta[..., 0] + along) / m
    factor = (energy + momenta[..., 0]) / (frame[..., 0] + m)
    return torch.cat([energy[..., None], momenta[..., 1:] + factor[..., None] * spatial], dim=-1)


def boost_back(momenta: Tensor, frame: Tensor) -> Tensor:
    """Take momenta into the rest frame of `frame`: the inverse of `boost`."""
    reflected = torch.cat([frame[..., :1], -frame[..., 1:]], dim=-1)
    return boost(momenta, reflected)


def kallen(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The triangle function a² + b² + c² - 2ab - 2bc - 2ca, in its stable form."""
    return (a - b - c).square() - 4 * b * c
