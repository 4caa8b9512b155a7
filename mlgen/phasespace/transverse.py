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
    """The transverse momenta of all systems but one, which recoils, and all rapidities.

    dx1 dx2 dPhi_m = (2/s) (2 pi)^(4-3m) 2^(-m) prod_(i not recoiling) d²pt_i prod_i dy_i, with
    x1,2 = sum of m_iT exp(±y_i) / sqrt(s): eq. (7.22) of Ellis, Stirling, Webber, QCD and Collider
    Physics, for two massless systems.

    Columns of r: pt² of each system that does not recoil, then their azimuths but for the first's,
    the second one's in half a turn, then all rapidities.
    """

    s: float
    systems: tuple[TransverseSystem, ...]
    recoiler: int
    """The system that balances the others."""

    @property
    def n_systems(self) -> int:
        return len(self.systems)

    @property
    def leading(self) -> int:
        return self._drawn[0]

    @property
    def across(self) -> int | None:
        return self._drawn[1] if len(self.systems) > 2 else None

    @property
    def n_dim(self) -> int:
        return 3 * len(self.systems) - 3

    def forward(self, r: Sequence[Tensor], s: Sequence[Tensor]) -> Produced:
        columns = iter(r)
        log_jac = torch.full_like(s[0], self._log_constant)
        pt = []
        for i in self._drawn:
            pt2, step = self._draw_pt2(i, next(columns), s)
            pt.append(pt2.sqrt())
            log_jac = log_jac + step
        px, py = self._transverse(pt, [next(columns) for _ in self._drawn[1:]])
        m_t = [(s_i + x * x + y * y).sqrt() for s_i, x, y in zip(s, px, py, strict=True)]
        momenta = []
        forward, backward = torch.zeros_like(m_t[0]), torch.zeros_like(m_t[0])
        y_first = torch.zeros_like(m_t[0])
        for i, mass in enumerate(m_t):
            if i == 0:
                y, step = Uniform().forward(next(columns), *self._first_range(m_t))
                y_first = y
            else:
                bounds = self._next_range(i, mass, y_first, forward, backward)
                difference, step = HyperbolicSecant().forward(next(columns), *bounds)
                y = y_first + difference
            exp_y = y.exp()
            plus, minus = mass * exp_y, mass / exp_y
            forward, backward = forward + plus, backward + minus
            log_jac = log_jac + step
            momenta.append(torch.stack([0.5 * (plus + minus), px[i], py[i], 0.5 * (plus - minus)]))
        x = torch.stack([forward, backward]) / math.sqrt(self.s)
        # Rounding at the very edge of phase space; earlier systems may have left no room, too.
        log_jac = torch.where((x <= 1).all(0), log_jac, -math.inf)
        return Produced(x=x, systems=momenta, log_jac=log_jac)

    def inverse(
        self, x: Tensor, systems: Sequence[Tensor], s: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        log_jac = torch.full_like(s[0], -self._log_constant)
        columns = []
        for i in self._drawn:
            pt2 = systems[i][1].square() + systems[i][2].square()
            r, step = self._find_pt2(i, pt2, s)
            columns.append(r)
            log_jac = log_jac + step
        for number, i in enumerate(self._drawn[1:]):
            turn = torch.atan2(systems[i][2], systems[i][1]) / (2 * math.pi)
            columns.append(torch.remainder(turn, 1) * (2 if number == 0 else 1))
        m_t = [transverse_mass(p, s_i) for p, s_i in zip(systems, s, strict=True)]
        rapidities = [rapidity(p, m) for p, m in zip(systems, m_t, strict=True)]
        forward, backward = torch.zeros_like(m_t[0]), torch.zeros_like(m_t[0])
        for i, (mass, y) in enumerate(zip(m_t, rapidities, strict=True)):
            if i == 0:
                r, step = Uniform().inverse(y, *self._first_range(m_t))
            else:
                bounds = self._next_range(i, mass, rapidities[0], forward, backward)
                r, step = HyperbolicSecant().inverse(y - rapidities[0], *bounds)
            exp_y = y.exp()
            forward, backward = forward + mass * exp_y, backward + mass / exp_y
            columns.append(r)
            log_jac = log_jac + step
        return columns, log_jac

    @property
    def _drawn(self) -> list[int]:
        return [i for i in range(len(self.systems)) if i != self.recoiler]

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

    def _draw_pt2(self, i: int, r: Tensor, s: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        offset, low, high = self._pt2_range(i, s)
        return PowerLaw(EXPONENT, offset).forward(r, low, high)

    def _find_pt2(self, i: int, pt2: Tensor, s: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        offset, low, high = self._pt2_range(i, s)
        return PowerLaw(EXPONENT, offset).inverse(pt2, low, high)

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
        # Rounding may put the ends of an empty range the wrong way round.
        return offset, low, torch.maximum(low, high)

    def _transverse(
        self, pt: Sequence[Tensor], turns: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """px and py of all systems: the first drawn along x, the recoiling one against the sum."""
        px, py = [pt[0]], [torch.zeros_like(pt[0])]
        for number, (size, turn) in enumerate(zip(pt[1:], turns, strict=True)):
            phi = (math.pi if number == 0 else 2 * math.pi) * turn
            px.append(size * phi.cos())
            py.append(size * phi.sin())
        for components in (px, py):
            components.insert(self.recoiler, -torch.stack(components).sum(0))
        return px, py

    def _first_range(self, m_t: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """|y| of the first system that leaves room for the others, which weigh their transverse masses."""
        rest = torch.stack(list(m_t[1:])).sum(0)
        cosh = (self.s + m_t[0].square() - rest.square()) / (2 * math.sqrt(self.s) * m_t[0])
        high = torch.acosh(cosh.clamp(min=1)).clamp(max=self.systems[0].max_rapidity)
        return -high, high

    def _next_range(
        self, i: int, m_t: Tensor, y_first: Tensor, forward: Tensor, backward: Tensor
    ) -> tuple[Tensor, Tensor]:
        """y - y_first for which neither x exceeds 1, given what earlier systems took of each.

        Empty, with both ends alike, where they left nothing.
        """
        root_s, bound = math.sqrt(self.s), self.systems[i].max_rapidity
        high = ((root_s - forward).clamp(min=0) / m_t).log().clamp(-bound, bound)
        low = -((root_s - backward).clamp(min=0) / m_t).log().clamp(-bound, bound)
        return low - y_first, torch.maximum(low, high) - y_first
