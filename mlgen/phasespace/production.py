"""How the first two systems of an event are produced: momentum fractions, and their momenta.

Each production takes the masses squared of the two systems and gives their momenta in the
laboratory, back to back in the x-z plane; the azimuth comes later, for the whole event.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.phasespace.invariants import HyperbolicSecant, PowerLaw, RangeMap, Uniform
from mlgen.physics.kinematics import kallen, pt


class Produced(NamedTuple):
    """Two systems and the partons that made them."""

    x: Tensor
    """(n, 2)."""
    first: Tensor
    """(n, 4), GeV, with py = 0 and px >= 0."""
    second: Tensor
    """(n, 4), GeV."""
    log_jac: Tensor
    """(n,), ln |dx1 dx2 dPhi_2 / dr|, with the azimuth's 2 pi."""


class Production(ABC):
    """r in the unit cube to two systems of given masses."""

    n_dim: int

    @abstractmethod
    def forward(self, r: Tensor, s1: Tensor, s2: Tensor) -> Produced:
        """Produce systems of squared masses s1 and s2 (n,), GeV², from r (n, n_dim)."""

    @abstractmethod
    def inverse(
        self, x: Tensor, first: Tensor, second: Tensor, s1: Tensor, s2: Tensor
    ) -> tuple[Tensor, Tensor]:
        """r (n, n_dim) of given systems, py = 0, and ln |dr / dx1 dx2 dPhi_2| (n,)."""

    @abstractmethod
    def max_invariant(self, rest: Tensor) -> Tensor:
        """The largest mass squared of one system where the other has at least the mass `rest` (n,).

        Not positive where the other one leaves no energy.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class LeptonProduction(Production):
    """Beams without structure: only the angle is free."""

    s: float
    """Squared energy of the beams, GeV²."""
    rapidity: float = 0.0
    """Of the beams' rest frame in the laboratory."""
    n_dim: int = field(default=1, init=False)

    def forward(self, r: Tensor, s1: Tensor, s2: Tensor) -> Produced:
        s_hat = torch.full_like(s1, self.s)
        cos_theta = 2 * r[:, 0] - 1
        first, second = _two_body(s_hat, s1, s2, cos_theta)
        rapidity = torch.full_like(s1, self.rapidity)
        log_jac = math.log(2) + _log_two_body(s_hat, s1, s2)
        return Produced(
            x=torch.ones((len(s1), 2), dtype=s1.dtype, device=s1.device),
            first=boost_along_beam(first, rapidity),
            second=boost_along_beam(second, rapidity),
            log_jac=log_jac,
        )

    def inverse(
        self, x: Tensor, first: Tensor, second: Tensor, s1: Tensor, s2: Tensor
    ) -> tuple[Tensor, Tensor]:
        cos_theta = _cos_theta(boost_along_beam(first, torch.full_like(s1, -self.rapidity)))
        s_hat = torch.full_like(s1, self.s)
        return (cos_theta[:, None] + 1) / 2, -math.log(2) - _log_two_body(s_hat, s1, s2)

    def max_invariant(self, rest: Tensor) -> Tensor:
        return (math.sqrt(self.s) - rest).clamp(min=0).square()


@dataclass(frozen=True, kw_only=True, slots=True)
class PartonicProduction(Production):
    """s_hat, the rapidity of the partonic system, and the angle in its rest frame.

    For systems without a least transverse momentum, and for resonances in s_hat.
    """

    s: float
    """Squared energy of the beams, GeV²."""
    invariant: RangeMap
    """Draws s_hat, GeV²."""
    min_mass_gev: float = 0.0
    """A lower bound on sqrt(s_hat) from cuts."""
    n_dim: int = field(default=3, init=False)

    def __post_init__(self) -> None:
        if self.min_mass_gev**2 >= self.s:
            raise ValueError("the bound on sqrt(s_hat) leaves no energy of the beams")

    def forward(self, r: Tensor, s1: Tensor, s2: Tensor) -> Produced:
        low, high = self._range(s1, s2)
        s_hat, log_jac = self.invariant.forward(r[:, 0], low, high)
        y_max = 0.5 * (self.s / s_hat).log()
        y = (2 * r[:, 1] - 1) * y_max
        first, second = _two_body(s_hat, s1, s2, 2 * r[:, 2] - 1)
        root_tau = (s_hat / self.s).sqrt()
        log_jac = log_jac + (4 * y_max / self.s).log() + _log_two_body(s_hat, s1, s2)
        return Produced(
            x=torch.stack([root_tau * y.exp(), root_tau * (-y).exp()], dim=1),
            first=boost_along_beam(first, y),
            second=boost_along_beam(second, y),
            log_jac=log_jac,
        )

    def inverse(
        self, x: Tensor, first: Tensor, second: Tensor, s1: Tensor, s2: Tensor
    ) -> tuple[Tensor, Tensor]:
        s_hat = self.s * x.prod(1)
        y = 0.5 * (x[:, 0] / x[:, 1]).log()
        low, high = self._range(s1, s2)
        r_s, log_jac = self.invariant.inverse(s_hat, low, high)
        y_max = 0.5 * (self.s / s_hat).log()
        cos_theta = _cos_theta(boost_along_beam(first, -y))
        r = torch.stack([r_s, (y / y_max + 1) / 2, (cos_theta + 1) / 2], dim=1)
        return r, log_jac - (4 * y_max / self.s).log() - _log_two_body(s_hat, s1, s2)

    def max_invariant(self, rest: Tensor) -> Tensor:
        return (math.sqrt(self.s) - rest).clamp(min=0).square()

    def _range(self, s1: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
        low = (s1.sqrt() + s2.sqrt()).clamp(min=self.min_mass_gev).square()
        return low, torch.full_like(low, self.s)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransverseProduction(Production):
    """The transverse momentum and the two rapidities, the variables that hadron-collider cuts bound.

    dx1 dx2 dPhi_2 = x1 x2 / (8 pi s_hat) dpt² dy1 dy2 dphi / (2 pi), with
    x1,2 = [m1T exp(±y1) + m2T exp(±y2)] / sqrt(s), eq. (7.22) of Ellis, Stirling, Webber,
    QCD and Collider Physics, for massive systems.
    """

    s: float
    """Squared energy of the beams, GeV²."""
    min_pt_gev: float
    """The least transverse momentum, positive."""
    max_rapidities: tuple[float, float] = (math.inf, math.inf)
    """The largest |y| of either system that cuts leave."""
    transverse: RangeMap = field(default_factory=lambda: PowerLaw(2.0))
    """Draws pt², GeV²."""
    n_dim: int = field(default=3, init=False)

    def forward(self, r: Tensor, s1: Tensor, s2: Tensor) -> Produced:
        pt2, log_jac = self.transverse.forward(r[:, 0], *self._pt2_range(s1, s2))
        m1, m2 = (s1 + pt2).sqrt(), (s2 + pt2).sqrt()
        y1, step_1 = Uniform().forward(r[:, 1], *self._first_range(m1, m2))
        difference, step_2 = HyperbolicSecant().forward(r[:, 2], *self._second_range(m1, m2, y1))
        y2 = y1 + difference
        pt_ = pt2.sqrt()
        return Produced(
            x=self._fractions(m1, m2, y1, y2),
            first=_from_rapidity(m1, pt_, y1),
            second=_from_rapidity(m2, -pt_, y2),
            log_jac=log_jac + step_1 + step_2 - math.log(8 * math.pi * self.s),
        )

    def inverse(
        self, x: Tensor, first: Tensor, second: Tensor, s1: Tensor, s2: Tensor
    ) -> tuple[Tensor, Tensor]:
        pt2 = pt(first).square()
        r_pt, log_jac = self.transverse.inverse(pt2, *self._pt2_range(s1, s2))
        m1, m2 = (s1 + pt2).sqrt(), (s2 + pt2).sqrt()
        y1, y2 = torch.asinh(first[:, 3] / m1), torch.asinh(second[:, 3] / m2)
        r_1, step_1 = Uniform().inverse(y1, *self._first_range(m1, m2))
        r_2, step_2 = HyperbolicSecant().inverse(y2 - y1, *self._second_range(m1, m2, y1))
        r = torch.stack([r_pt, r_1, r_2], dim=1)
        return r, log_jac + step_1 + step_2 + math.log(8 * math.pi * self.s)

    def max_invariant(self, rest: Tensor) -> Tensor:
        rest_t = (rest.square() + self.min_pt_gev**2).sqrt()
        return (math.sqrt(self.s) - rest_t).clamp(min=0).square() - self.min_pt_gev**2

    def _pt2_range(self, s1: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
        """From the cut to where both systems at rest in y use up all energy."""
        high = kallen(torch.full_like(s1, self.s), s1, s2) / (4 * self.s)
        low = torch.full_like(high, self.min_pt_gev**2)
        # Rounding may put the ends of an empty range the wrong way round.
        return low, torch.maximum(low, high)

    def _first_range(self, m1: Tensor, m2: Tensor) -> tuple[Tensor, Tensor]:
        """|y1| that leaves some y2: cosh y1 <= (s + m1T² - m2T²) / (2 sqrt(s) m1T)."""
        cosh = (self.s + m1.square() - m2.square()) / (2 * math.sqrt(self.s) * m1)
        high = torch.acosh(cosh.clamp(min=1)).clamp(max=self.max_rapidities[0])
        return -high, high

    def _second_range(self, m1: Tensor, m2: Tensor, y1: Tensor) -> tuple[Tensor, Tensor]:
        """The y2 - y1 for which neither x exceeds 1; empty, with both ends alike, where cuts leave none."""
        root_s, bound = math.sqrt(self.s), self.max_rapidities[1]
        high = ((root_s - m1 * y1.exp()).clamp(min=0) / m2).log()
        low = -((root_s - m1 * (-y1).exp()).clamp(min=0) / m2).log()
        low, high = low.clamp(-bound, bound), high.clamp(-bound, bound)
        return low - y1, torch.maximum(low, high) - y1

    def _fractions(self, m1: Tensor, m2: Tensor, y1: Tensor, y2: Tensor) -> Tensor:
        forward, backward = m1 * y1.exp() + m2 * y2.exp(), m1 * (-y1).exp() + m2 * (-y2).exp()
        return torch.stack([forward, backward], dim=1) / math.sqrt(self.s)


def boost_along_beam(momenta: Tensor, y: Tensor) -> Tensor:
    """Add y (n,) to the rapidity of momenta (n, ..., 4)."""
    y = y.reshape(-1, *[1] * (momenta.dim() - 2))
    cosh, sinh = y.cosh(), y.sinh()
    energy = cosh * momenta[..., 0] + sinh * momenta[..., 3]
    pz = sinh * momenta[..., 0] + cosh * momenta[..., 3]
    return torch.stack([energy, momenta[..., 1], momenta[..., 2], pz], dim=-1)


def _from_rapidity(m_t: Tensor, px: Tensor, y: Tensor) -> Tensor:
    return torch.stack([m_t * y.cosh(), px, torch.zeros_like(px), m_t * y.sinh()], dim=1)


def _log_two_body(s: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
    """ln of dPhi_2 / dcos θ = lambda^(1/2)(s, s1, s2) / (16 pi s), the azimuth included."""
    return 0.5 * kallen(s, s1, s2).log() - (16 * math.pi * s).log()


def _two_body(s: Tensor, s1: Tensor, s2: Tensor, cos_theta: Tensor) -> tuple[Tensor, Tensor]:
    """Two systems back to back in their rest frame, the first with py = 0 and px >= 0."""
    root_s = s.sqrt()
    energy = (s + s1 - s2) / (2 * root_s)
    p = kallen(s, s1, s2).clamp(min=0).sqrt() / (2 * root_s)
    px = p * ((1 - cos_theta) * (1 + cos_theta)).clamp(min=0).sqrt()
    zero, pz = torch.zeros_like(px), p * cos_theta
    first = torch.stack([energy, px, zero, pz], dim=1)
    second = torch.stack([root_s - energy, -px, zero, -pz], dim=1)
    return first, second


def _cos_theta(momentum: Tensor) -> Tensor:
    return momentum[:, 3] / momentum[:, 1:].square().sum(1).sqrt()
