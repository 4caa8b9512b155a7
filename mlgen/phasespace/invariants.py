"""One-dimensional maps of [0, 1] to a range [low, high] that flatten a known shape.

Each map is exact in both directions. Ranges are tensors (n,), since the range of an invariant
depends on those that were drawn before it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class RangeMap(ABC):
    """r in [0, 1] to a value in [low, high]."""

    @abstractmethod
    def forward(self, r: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The value (n,) at r (n,), and ln |dvalue / dr| (n,)."""

    @abstractmethod
    def inverse(self, value: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """r (n,) at a value (n,), and ln |dr / dvalue| (n,)."""


@dataclass(frozen=True, slots=True)
class Uniform(RangeMap):
    """value = low + r (high - low)."""

    def forward(self, r: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        return torch.lerp(low, high, r), (high - low).log()

    def inverse(self, value: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        return (value - low) / (high - low), -(high - low).log()


@dataclass(frozen=True, slots=True)
class BreitWigner(RangeMap):
    """Flattens 1 / [(s - m²)² + m²Γ²] by s = m² + mΓ tan φ, eqs. (C.6)-(C.7) of hep-ph/0008033."""

    mass: float
    """GeV, positive."""
    width: float
    """GeV, positive."""

    def forward(self, r: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        m_gamma, above = self.mass * self.width, low - self.mass**2
        range_ = self._angle(low, high)
        sin, cos = (r * range_).sin(), (r * range_).cos()
        s = low + (above.square() + m_gamma**2) * sin / (m_gamma * cos - above * sin)
        # Rounding may leave the range.
        s = torch.minimum(torch.maximum(s, low), high)
        return s, self._log_derivative(s, range_)

    def inverse(self, value: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        range_ = self._angle(low, high)
        return self._angle(low, value) / range_, -self._log_derivative(value, range_)

    def _angle(self, low: Tensor, s: Tensor) -> Tensor:
        """φ(s) - φ(low), without the loss of digits where both are far off the peak."""
        m_gamma = self.mass * self.width
        product = (s - self.mass**2) * (low - self.mass**2)
        return torch.atan2(m_gamma * (s - low), m_gamma**2 + product)

    def _log_derivative(self, s: Tensor, range_: Tensor) -> Tensor:
        m_gamma = self.mass * self.width
        return (range_ * ((s - self.mass**2).square() + m_gamma**2) / m_gamma).log()


@dataclass(frozen=True, slots=True)
class PowerLaw(RangeMap):
    """Flattens (s + shift)^(-exponent), eqs. (C.8)-(C.11) of hep-ph/0008033 for a propagator.

    low + shift is to be positive.
    """

    exponent: float
    shift: float | Tensor = 0.0
    """Minus the pole, or a scale below which the shape is flat; one number or (n,)."""

    def forward(self, r: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        start = low + self.shift
        log_ratio = torch.log1p((high - low) / start)
        if self.exponent == 1:
            log_value = r * log_ratio
        else:
            power = 1 - self.exponent
            log_value = torch.log1p(r * torch.expm1(power * log_ratio)) / power
            log_value = torch.minimum(log_value, log_ratio)  # rounding may leave the range
        # s - low, not s: a value near the lower end keeps its digits.
        s = low + start * torch.expm1(log_value)
        s = torch.minimum(torch.maximum(s, low), high)
        return s, self._log_derivative(log_value, start, log_ratio)

    def inverse(self, value: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        start = low + self.shift
        log_ratio = torch.log1p((high - low) / start)
        log_value = torch.log1p((value - low) / start)
        if self.exponent == 1:
            r = log_value / log_ratio
        else:
            power = 1 - self.exponent
            r = torch.expm1(power * log_value) / torch.expm1(power * log_ratio)
        return r, -self._log_derivative(log_value, start, log_ratio)

    def _log_derivative(self, log_value: Tensor, start: Tensor, log_ratio: Tensor) -> Tensor:
        if self.exponent == 1:
            return (start * log_ratio).log() + log_value
        power = 1 - self.exponent
        norm = torch.expm1(power * log_ratio) / power
        return (norm * start).log() + self.exponent * log_value


@dataclass(frozen=True, slots=True)
class HyperbolicSecant(RangeMap):
    """Flattens 1 / cosh(v / width) by v / width = ln tan φ: the difference of two rapidities."""

    width: float = 1.0

    def forward(self, r: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        start, end = self._angle(low), self._angle(high)
        v = self.width * torch.lerp(start, end, r).tan().log()
        v = torch.minimum(torch.maximum(v, low), high)
        return v, self._log_derivative(v, end - start)

    def inverse(self, value: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        start, end = self._angle(low), self._angle(high)
        r = (self._angle(value) - start) / (end - start)
        return r, -self._log_derivative(value, end - start)

    def _angle(self, v: Tensor) -> Tensor:
        return (v / self.width).exp().atan()

    def _log_derivative(self, v: Tensor, range_: Tensor) -> Tensor:
        return (2 * self.width * range_ * (v / self.width).cosh()).log()
