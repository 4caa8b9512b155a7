"""Production of two or more systems in transverse momenta and rapidities.

These are the variables that hadron-collider cuts bound, and in which emissions from the incoming
partons are flat: a chain of t-channel lines gives d²pt / pt² dy for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.phasespace.invariants import HyperbolicSecant, PowerLaw, Uniform
from mlgen.phasespace.production import Produced, Production
from mlgen.phasespace.vectors import rapidity, transverse_mass
from mlgen.physics.kinematics import kallen

WIDTH = 2.5
"""Rapidities y and y' follow 1 / cosh[(y - y') / WIDTH]."""
EXPONENT = 2.0
"""Transverse momenta squared follow (pt² + ...)^(-EXPONENT): emission, times falling densities."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransverseSystem:
    """What the map of one system knows."""

    min_transverse_mass_gev: float = 0.0
    """The least sqrt(m² + pt²): that of a pair is at least the sum of those of its parts."""
    soft_gev: float = 0.0
    """Below this the spectrum is flat in pt²; for massless systems without a cut."""
    max_rapidity: float = math.inf
    """The largest |y| that cuts leave."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransverseProduction(Production):
    """The transverse momenta of all systems but the first, which balances them, and all rapidities.

    dx1 dx2 dPhi_m = (2/s) (2 pi)^(4-3m) 2^(-m) prod_(i > 1) d²pt_i prod_i dy_i, with
    x1,2 = sum of m_iT exp(±y_i) / sqrt(s): eq. (7.22) of Ellis, Stirling, Webber, QCD and Collider
    Physics, for two massless systems. The density does not depend on the order of the others.

    Columns of r: pt² of each system but the first, then their azimuths but for the second's, the
    third one's in half a turn, then all rapidities.
    """

    s: float
    systems: tuple[TransverseSystem, ...]

    @property
    def n_systems(self) -> int:
        return len(self.systems)

    @property
    def leading(self) -> int:
        return 1

    @property
    def across(self) -> int | None:
        return 2 if len(self.systems) > 2 else None

    @property
    def n_dim(self) -> int:
        return 3 * len(self.systems) - 3

    def forward(self, r: Sequence[Tensor], s: Sequence[Tensor]) -> Produced:
        columns = iter(r)
        log_jac = torch.full_like(s[0], self._log_constant)
        pt = []
        for i in range(1, len(s)):
            offset, low, high = self._pt2_range(i, s)
            pt2, step = PowerLaw(EXPONENT, offset).forward(next(columns), low, high)
            pt.append(pt2.sqrt())
            log_jac = log_jac + step
        px, py = _balanced(pt, [next(columns) for _ in pt[1:]])
        m_t = [(s_i + x * x + y * y).sqrt() for s_i, x, y in zip(s, px, py, strict=True)]
        y, step = Uniform().forward(next(columns), *self._first_range(m_t))
        log_jac = log_jac + step
        exp_y = [y.exp()]
        for i in range(1, len(s)):
            bounds = self._next_range(i, m_t, y)
            difference, step = HyperbolicSecant(WIDTH).forward(next(columns), *bounds)
            exp_y.append((y + difference).exp())
            log_jac = log_jac + step
        plus = [m * e for m, e in zip(m_t, exp_y, strict=True)]
        minus = [m / e for m, e in zip(m_t, exp_y, strict=True)]
        x = torch.stack([torch.stack(plus).sum(0), torch.stack(minus).sum(0)]) / math.sqrt(self.s)
        momenta = [
            torch.stack([0.5 * (p + m), *across, 0.5 * (p - m)])
            for p, m, *across in zip(plus, minus, px, py, strict=True)
        ]
        # The others may have left no room for each other.
        log_jac = torch.where((x <= 1).all(0), log_jac, -math.inf)
        return Produced(x=x, systems=momenta, log_jac=log_jac)

    def inverse(
        self, x: Tensor, systems: Sequence[Tensor], s: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        log_jac = torch.full_like(s[0], -self._log_constant)
        columns = []
        for i in range(1, len(s)):
            offset, low, high = self._pt2_range(i, s)
            pt2 = systems[i][1].square() + systems[i][2].square()
            r, step = PowerLaw(EXPONENT, offset).inverse(pt2, low, high)
            columns.append(r)
            log_jac = log_jac + step
        for number, momentum in enumerate(systems[2:]):
            turn = torch.remainder(torch.atan2(momentum[2], momentum[1]) / (2 * math.pi), 1)
            columns.append(turn * 2 if number == 0 else turn)
        m_t = [transverse_mass(p, s_i) for p, s_i in zip(systems, s, strict=True)]
        y, *others = (rapidity(p, m) for p, m in zip(systems, m_t, strict=True))
        r, step = Uniform().inverse(y, *self._first_range(m_t))
        columns.append(r)
        log_jac = log_jac + step
        for i, other in enumerate(others, start=1):
            bounds = self._next_range(i, m_t, y)
            r, step = HyperbolicSecant(WIDTH).inverse(other - y, *bounds)
            columns.append(r)
            log_jac = log_jac + step
        return columns, log_jac

    @property
    def _log_constant(self) -> float:
        """d²pt = pi dpt² for a uniform azimuth."""
        m = len(self.systems)
        return (
            math.log(2 / self.s)
            + (4 - 3 * m) * math.log(2 * math.pi)
            - m * math.log(2)
            + (m - 1) * math.log(math.pi)
        )

    def _pt2_range(self, i: int, s: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What flattens the spectrum, and pt² from what cuts leave to where all others are at rest."""
        system = self.systems[i]
        offset = s[i] + system.soft_gev**2
        rest = torch.zeros_like(s[i])
        for j, s_j in enumerate(s):
            if j != i:
                rest = rest + s_j.sqrt()
        high = kallen(torch.full_like(rest, self.s), s[i], rest.square()) / (4 * self.s)
        low = (system.min_transverse_mass_gev**2 - s[i]).clamp(min=0)
        if len(s) == 2:  # the first system has the same transverse momentum
            least = self.systems[0].min_transverse_mass_gev ** 2 - s[0]
            low = torch.maximum(low, least)
        # Rounding may put the ends of an empty range the wrong way round.
        return offset, low, torch.maximum(low, high)

    def _first_range(self, m_t: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """|y| of the first system that leaves room for the others, which weigh their transverse masses."""
        rest = torch.stack(list(m_t[1:])).sum(0)
        cosh = (self.s + m_t[0].square() - rest.square()) / (2 * math.sqrt(self.s) * m_t[0])
        high = torch.acosh(cosh.clamp(min=1)).clamp(max=self.systems[0].max_rapidity)
        return -high, high

    def _next_range(self, i: int, m_t: Sequence[Tensor], y_first: Tensor) -> tuple[Tensor, Tensor]:
        """y - y_first for which neither x exceeds 1, for what the first system and this one take.

        Empty, with both ends alike, where the first left nothing.
        """
        root_s, bound = math.sqrt(self.s), self.systems[i].max_rapidity
        exp_y = y_first.exp()
        high = ((root_s - m_t[0] * exp_y).clamp(min=0) / m_t[i]).log().clamp(-bound, bound)
        low = -((root_s - m_t[0] / exp_y).clamp(min=0) / m_t[i]).log().clamp(-bound, bound)
        return low - y_first, torch.maximum(low, high) - y_first


def _balanced(pt: Sequence[Tensor], turns: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """px and py of all systems: the second along x, the first against the sum of the others."""
    px, py = [pt[0]], [torch.zeros_like(pt[0])]
    for number, (size, turn) in enumerate(zip(pt[1:], turns, strict=True)):
        phi = (math.pi if number == 0 else 2 * math.pi) * turn
        px.append(size * phi.cos())
        py.append(size * phi.sin())
    return [-torch.stack(px).sum(0), *px], [-torch.stack(py).sum(0), *py]
