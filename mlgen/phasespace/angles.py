"""How the direction of a decay is drawn: azimuth and cos θ in the parent's rest frame.

The frame is that of `vectors.from_rest`. A decay may be isotropic, up to what cuts on rapidity
leave, share the transverse mass of its parent as a collinear splitting does, or follow a spacelike
propagator.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.phasespace.acceptance import cos_theta_range
from mlgen.phasespace.invariants import PowerLaw, RangeMap, Uniform
from mlgen.phasespace.vectors import to_rest, transverse_mass, without_rapidity

SHARE_FLOOR = 1e-6
"""The least share of its parent's transverse mass that a soft part is given."""


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
    s_first: Tensor
    """(n,), GeV², the mass squared of its first part."""
    second_beam: Tensor
    """(n,), GeV: the energy of the incoming leg that moves along -z."""

    def direction(self, first: Tensor) -> Tensor:
        """The unit vector (3, n), at rest, of the first part's momentum (4, n), laboratory."""
        spatial = to_rest(first, self.s_first, self.momentum, self.mass)[1:]
        return spatial / spatial.square().sum(0).sqrt()


class AngleMap(ABC):
    """r and an azimuth to the direction of the first part."""

    @abstractmethod
    def forward(self, r: Tensor, phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        """A unit vector (3, n), and ln |dcosθ / dr| (n,), from r (n,) and the azimuth phi (n,)."""

    @abstractmethod
    def inverse(self, first: Tensor, parent: Parent) -> tuple[Tensor, Tensor, Tensor]:
        """r (n,), phi (n,) and ln |dr / dcosθ| (n,) of the first part's momentum (4, n), laboratory."""


@dataclass(frozen=True, slots=True)
class Isotropic(AngleMap):
    """cos θ uniform in what a cut on the rapidity of both parts, massless, leaves."""

    max_rapidity: float = math.inf

    def forward(self, r: Tensor, phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        cos_phi, sin_phi = phi.cos(), phi.sin()
        cos_theta, log_jac = Uniform().forward(r, *self._range(cos_phi, sin_phi, parent))
        return _direction(cos_theta, cos_phi, sin_phi), log_jac

    def inverse(self, first: Tensor, parent: Parent) -> tuple[Tensor, Tensor, Tensor]:
        x, y, cos_theta = parent.direction(first)
        across = torch.hypot(x, y).clamp(min=1e-300)
        r, log_jac = Uniform().inverse(cos_theta, *self._range(x / across, y / across, parent))
        return r, torch.atan2(y, x), log_jac

    def _range(self, cos_phi: Tensor, sin_phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        if math.isinf(self.max_rapidity):
            one = torch.ones_like(cos_phi)
            return -one, one
        return cos_theta_range(parent.momentum, parent.mass, cos_phi, sin_phi, self.max_rapidity)


@dataclass(frozen=True, slots=True)
class Collinear(AngleMap):
    """Draws the share z of the parent's transverse mass that the first part takes.

    Seen from where the parent has no rapidity, the first part has the energy
    z m_T = (E m_T + p p_T cos θ) / m, with E, p and m of the parent's rest frame and θ from the
    parent's transverse direction. Cuts bound both energies from below. The splittings of QCD go as
    1/z where the first part is a gluon, and as 1/(1 - z) where the second is.
    """

    least_first_gev: float = 0.0
    """The least transverse mass of the first part."""
    least_second_gev: float = 0.0
    soft_first: bool = False
    """Whether the first part is a gluon or photon."""
    soft_second: bool = False

    def forward(self, r: Tensor, phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        frame = _TransverseFrame.of(parent)
        z, log_jac = self._shape().forward(r, *self._range(frame, parent))
        if self._is_logistic:
            z, log_jac = z.sigmoid(), log_jac + (z.sigmoid() * (-z).sigmoid()).log()
        elif self.soft_second:
            z = 1 - z
        cos_theta = ((z * parent.mass - parent.energy) / frame.reach).clamp(-1, 1)
        along, beam, across = _direction(cos_theta, phi.cos(), phi.sin()).roll(1, 0)
        direction = torch.stack(
            [
                frame.x * along - frame.sense * frame.y * across,
                frame.y * along + frame.sense * frame.x * across,
                beam,
            ]
        )
        return direction, log_jac + (parent.mass / frame.reach).log()

    def inverse(self, first: Tensor, parent: Parent) -> tuple[Tensor, Tensor, Tensor]:
        frame = _TransverseFrame.of(parent)
        energy, beam = without_rapidity(first, parent.s_first, parent.momentum, parent.mass)
        across = frame.sense * (frame.x * first[2] - frame.y * first[1])
        z = energy / frame.transverse_mass
        step = torch.zeros_like(z)
        if self._is_logistic:
            step, z = -(z * (1 - z)).log(), torch.logit(z)
        elif self.soft_second:
            z = 1 - z
        r, log_jac = self._shape().inverse(z, *self._range(frame, parent))
        log_jac = log_jac + step - (parent.mass / frame.reach).log()
        return r, torch.atan2(across, beam), log_jac

    @property
    def _is_logistic(self) -> bool:
        """1/z + 1/(1 - z) is flat in ln z/(1 - z)."""
        return self.soft_first and self.soft_second

    def _shape(self) -> RangeMap:
        one_side = self.soft_first != self.soft_second
        return PowerLaw(1.0) if one_side else Uniform()

    def _range(self, frame: _TransverseFrame, parent: Parent) -> tuple[Tensor, Tensor]:
        """Of z, of 1 - z where the second part alone is soft, of ln z/(1 - z) where both are."""
        first, second = parent.energy, parent.mass - parent.energy
        least = self.least_first_gev / frame.transverse_mass
        least_rest = self.least_second_gev / frame.transverse_mass
        low = torch.maximum((first - frame.reach) / parent.mass, least)
        low_rest = torch.maximum((second - frame.reach) / parent.mass, least_rest)
        # A massless part may come to rest in theory; logarithms need an end, and so where cuts
        # leave no range, which is the case where the two add up to more than 1.
        low = low.clamp(SHARE_FLOOR, 1 - SHARE_FLOOR)
        low_rest = low_rest.clamp(SHARE_FLOOR, 1 - SHARE_FLOOR)
        if self._is_logistic:
            low, high = torch.logit(low), -torch.logit(low_rest)
        elif self.soft_second:
            low, high = low_rest, 1 - low
        else:
            high = 1 - low_rest
        return low, torch.maximum(low, high)


class _TransverseFrame(NamedTuple):
    """The transverse direction of a parent, and what its parts take of its transverse mass."""

    x: Tensor
    y: Tensor
    sense: Tensor
    """(n,), 1 or -1: so that the azimuth has the same sense for parents along x and -x."""
    transverse_mass: Tensor
    reach: Tensor
    """p p_T / m_T (n,), GeV."""

    @classmethod
    def of(cls, parent: Parent) -> _TransverseFrame:
        _, px, py, _ = parent.momentum
        pt = torch.hypot(px, py).clamp(min=1e-12 * parent.mass)
        m_t = transverse_mass(parent.momentum, parent.mass.square())
        x, y = px / pt, py / pt
        sense = 1 - 2 * (x < 0).to(x)
        return cls(x=x, y=y, sense=sense, transverse_mass=m_t, reach=parent.p * pt / m_t)


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

    def inverse(self, first: Tensor, parent: Parent) -> tuple[Tensor, Tensor, Tensor]:
        axis, a = self._pole(parent)
        x, y, cos_theta = _half_turn(parent.direction(first), axis)
        r, log_jac = PowerLaw(1.0).inverse(a - cos_theta, a - 1, a + 1)
        return r, torch.atan2(-y, -x), log_jac

    def _pole(self, parent: Parent) -> tuple[Tensor, Tensor]:
        """Where the second beam comes from (3, n), in the parent's rest frame, and a (n,)."""
        energy, zero = parent.second_beam, torch.zeros_like(parent.mass)
        beam = torch.stack([energy, zero, zero, -energy])
        energy, *spatial = to_rest(beam, zero, parent.momentum, parent.mass)
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
