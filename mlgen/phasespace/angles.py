"""How the direction of a decay is drawn: azimuth and cos θ in the parent's rest frame.

The frame is that of `vectors.from_rest`. A decay may be isotropic, up to what cuts on rapidity
leave, or follow a spacelike propagator.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.phasespace.acceptance import cos_theta_range
from mlgen.phasespace.invariants import PowerLaw, Uniform
from mlgen.phasespace.vectors import to_rest


class Parent(NamedTuple):
    """A system that decays."""

    momentum: Tensor
    """(4, n), GeV, laboratory."""
    mass: Tensor
    """(n,), GeV."""
    energy: Tensor
    """(n,), of its first part, at rest."""
    p: Tensor
    """(n,), momentum of its parts, at rest."""
    second_beam: Tensor
    """(n,), GeV: the energy of the incoming leg that moves along -z."""


class AngleMap(ABC):
    """r and an azimuth to the direction of the first part."""

    @abstractmethod
    def forward(self, r: Tensor, phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        """A unit vector (3, n), and ln |dcosθ / dr| (n,), from r (n,) and the azimuth phi (n,)."""

    @abstractmethod
    def inverse(self, direction: Tensor, parent: Parent) -> tuple[Tensor, Tensor, Tensor]:
        """r (n,), phi (n,) and ln |dr / dcosθ| (n,) of a unit vector (3, n)."""


@dataclass(frozen=True, slots=True)
class Isotropic(AngleMap):
    """cos θ uniform in what a cut on the rapidity of both parts, massless, leaves."""

    max_rapidity: float = math.inf

    def forward(self, r: Tensor, phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        cos_phi, sin_phi = phi.cos(), phi.sin()
        cos_theta, log_jac = Uniform().forward(r, *self._range(cos_phi, sin_phi, parent))
        return _direction(cos_theta, cos_phi, sin_phi), log_jac

    def inverse(self, direction: Tensor, parent: Parent) -> tuple[Tensor, Tensor, Tensor]:
        x, y, cos_theta = direction
        across = torch.hypot(x, y).clamp(min=1e-300)
        r, log_jac = Uniform().inverse(cos_theta, *self._range(x / across, y / across, parent))
        return r, torch.atan2(y, x), log_jac

    def _range(self, cos_phi: Tensor, sin_phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        if math.isinf(self.max_rapidity):
            one = torch.ones_like(cos_phi)
            return -one, one
        return cos_theta_range(parent.momentum, parent.mass, cos_phi, sin_phi, self.max_rapidity)


@dataclass(frozen=True, slots=True)
class Spacelike(AngleMap):
    """Flattens 1 / (m² - t) of the line between the first part and what remains.

    The remains, of mass squared s_R, follow the second beam: t = s_R - 2 E_b (E_R - p cos θ), with θ
    between the two in the parent's rest frame. So m² - t is proportional to a - cos θ.
    """

    mass_gev: float
    """Of the propagator."""
    regulator: float = 1e-3
    """a is at least 1 plus this: massless lines need cuts, and those keep away from the pole."""

    def forward(self, r: Tensor, phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        axis, a = self._pole(parent)
        distance, log_jac = PowerLaw(1.0).forward(r, a - 1, a + 1)
        # About the z axis the half turn takes x and y to -x and -y; phi keeps its sense.
        return _half_turn(_direction(a - distance, -phi.cos(), -phi.sin()), axis), log_jac

    def inverse(self, direction: Tensor, parent: Parent) -> tuple[Tensor, Tensor, Tensor]:
        axis, a = self._pole(parent)
        x, y, cos_theta = _half_turn(direction, axis)
        r, log_jac = PowerLaw(1.0).inverse(a - cos_theta, a - 1, a + 1)
        return r, torch.atan2(-y, -x), log_jac

    def _pole(self, parent: Parent) -> tuple[Tensor, Tensor]:
        """Where the second beam comes from (3, n), in the parent's rest frame, and a (n,)."""
        energy, zero = parent.second_beam, torch.zeros_like(parent.mass)
        beam = torch.stack([energy, zero, zero, -energy])
        energy, *spatial = to_rest(beam, parent.momentum, parent.mass)
        rest_energy = parent.mass - parent.energy
        s_rest = (rest_energy.square() - parent.p.square()).clamp(min=0)
        a = (rest_energy + (self.mass_gev**2 - s_rest) / (2 * energy)) / parent.p
        return -torch.stack(spatial) / energy, a.clamp(min=1 + self.regulator)


def _direction(cos_theta: Tensor, cos_phi: Tensor, sin_phi: Tensor) -> Tensor:
    sin_theta = ((1 - cos_theta) * (1 + cos_theta)).clamp(min=0).sqrt()
    return torch.stack([sin_theta * cos_phi, sin_theta * sin_phi, cos_theta])


def _half_turn(vector: Tensor, axis: Tensor) -> Tensor:
    """Turn a vector (3, n) by the half turn that exchanges the z axis and a unit vector (3, n)."""
    x, y, z = axis
    bisector = torch.stack([x, y, z + 1])
    along: Tensor = (vector * bisector).sum(0) / (1 + z)
    return along * bisector - vector
