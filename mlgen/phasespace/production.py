"""How the systems of an event are produced: momentum fractions and their momenta.

A production takes the masses squared of the systems and gives their momenta (4, n) in the
laboratory, turned so that its leading system has py = 0 and px >= 0; the azimuth comes later, for
the whole event. That of hadron beams in the variables that cuts bound is in `transverse.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Produced(NamedTuple):
    """Systems and the partons that made them."""

    x: Tensor
    """(2, n), momentum fractions."""
    systems: list[Tensor]
    """(4, n) each, GeV."""
    log_jac: Tensor
    """(n,), ln |dx1 dx2 dPhi / dr| of the systems, the event's azimuth included; see `Production.forward`."""


class Production(ABC):
    """r in the unit cube to systems of given masses."""

    s: float
    """Squared energy of the beams, GeV²."""

    @property
    @abstractmethod
    def n_dim(self) -> int: ...

    @property
    def n_systems(self) -> int:
        return 1

    @property
    def leading(self) -> int:
        """The system whose azimuth is that of the event."""
        return 0

    @property
    def across(self) -> int | None:
        """The system whose azimuth is drawn in half a turn from the leading one; None where all are in its plane."""
        return None

    @abstractmethod
    def forward(self, r: Sequence[Tensor], s: Sequence[Tensor]) -> Produced:
        """Produce systems of squared masses s, (n,) each, GeV², from n_dim columns r.

        Where there is one system, `log_jac` is ln |dx1 dx2 2 pi / (dr ds)|: the two-body phase
        space of its parts comes on top, over 2 pi, as for any decay.
        """

    @abstractmethod
    def inverse(
        self, x: Tensor, systems: Sequence[Tensor], s: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """The columns of r, and -log_jac (n,), of given systems with the leading one at py = 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeptonProduction(Production):
    """Beams without structure make one system, whose mass is theirs."""

    s: float
    rapidity: float = 0.0
    """Of the beams' rest frame in the laboratory."""

    @property
    def n_dim(self) -> int:
        return 0

    def forward(self, r: Sequence[Tensor], s: Sequence[Tensor]) -> Produced:
        root_s, zero = s[0].sqrt(), torch.zeros_like(s[0])
        total = [math.cosh(self.rapidity) * root_s, zero, zero, math.sinh(self.rapidity) * root_s]
        log_jac = torch.full_like(s[0], math.log(2 * math.pi))
        return Produced(
            x=s[0].new_ones((2, len(s[0]))), systems=[torch.stack(total)], log_jac=log_jac
        )

    def inverse(
        self, x: Tensor, systems: Sequence[Tensor], s: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        return [], torch.full_like(s[0], -math.log(2 * math.pi))


@dataclass(frozen=True, kw_only=True, slots=True)
class PartonicProduction(Production):
    """Partons make one system, whose rapidity is drawn uniformly in its range."""

    s: float
    max_rapidity: float = math.inf
    """The largest |y| that cuts on all it decays to leave."""

    @property
    def n_dim(self) -> int:
        return 1

    def forward(self, r: Sequence[Tensor], s: Sequence[Tensor]) -> Produced:
        (s_hat,) = s
        y_max = self._y_max(s_hat)
        exp_y = ((2 * r[0] - 1) * y_max).exp()
        root_tau = (s_hat / self.s).sqrt()
        x = torch.stack([root_tau * exp_y, root_tau / exp_y])
        half, zero = 0.5 * math.sqrt(self.s), torch.zeros_like(s_hat)
        total = torch.stack([half * (x[0] + x[1]), zero, zero, half * (x[0] - x[1])])
        return Produced(x=x, systems=[total], log_jac=self._log_jac(y_max))

    def inverse(
        self, x: Tensor, systems: Sequence[Tensor], s: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        y, y_max = 0.5 * (x[0] / x[1]).log(), self._y_max(s[0])
        return [(y / y_max + 1) / 2], -self._log_jac(y_max)

    def _y_max(self, s_hat: Tensor) -> Tensor:
        return (0.5 * (self.s / s_hat).log()).clamp(max=self.max_rapidity)

    def _log_jac(self, y_max: Tensor) -> Tensor:
        """dx1 dx2 = dy ds_hat / s."""
        return (4 * math.pi * y_max / self.s).log()
