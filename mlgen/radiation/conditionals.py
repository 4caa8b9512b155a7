"""One-dimensional densities that a network gives the parameters of: what each number of a jet is drawn from.

Mixtures of normal densities, and of von Mises densities for azimuths, as in section 2 of
arXiv:2412.12074. Jets come in falling pt, so that the mixture for pt ends, exactly, at the jet before.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_STD = 1e-3
"""Of a normal density, in units of the spread of all jets."""
FIRST_STD = 0.7
NARROW_SIDE, NARROW_STD = 0.25, 0.2
"""Of components beside other jets: with eta in units of its spread, jets are about 0.4 apart."""
NEIGHBOURS_APART = math.sqrt(2) * math.pi / 3
"""Standard deviations between neighbouring components of a first density of azimuths. Nearer ones become all
alike in training, and stay so for long: a mixture that has the shape of one component."""
UNBOUNDED = 50.0
"""An upper end that no standardised number reaches; an infinite one has no gradient."""
NOWHERE = -1e30
"""ln of the density of a component beyond its end."""
DEEP = -30.0
"""Standard deviations, below which a normal density is an exponential in single steps of rounding."""


class Gaps(NamedTuple):
    """Intervals in which a density is lower than it would be, by the same factor wherever they overlap."""

    low: Tensor
    """(n, n_gaps), one or two of them."""
    high: Tensor
    """(n, n_gaps), not less than low."""
    log_kept: Tensor
    """(), ln of the factor, of 0 or less."""

    def has(self, value: Tensor) -> Tensor:
        """Which of value (n,) are in one: bool (n,)."""
        return ((value[:, None] > self.low) & (value[:, None] < self.high)).any(-1)

    @property
    def is_any(self) -> Tensor:
        """Which rows have a gap: bool (n,)."""
        return (self.high > self.low).any(-1)

    def select(self, index: Tensor) -> Gaps:
        """The rows at an index or mask."""
        return Gaps(self.low[index], self.high[index], self.log_kept)

    def with_overlap(self) -> Iterator[tuple[float, Tensor, Tensor]]:
        """Intervals (n,) to add up to their union, with 1, and to take away, with -1."""
        yield from ((1.0, *ends) for ends in zip(self.low.mT, self.high.mT, strict=True))
        low, high = self.low.amax(-1), self.high.amin(-1)
        if self.low.shape[1] > 1:
            yield -1.0, low, torch.maximum(low, high)


class Conditional(ABC):
    """A mixture; of each component the network gives three numbers."""

    def __init__(self, n_components: int) -> None:
        self.n_components = n_components

    @property
    def n_parameters(self) -> int:
        return 3 * self.n_components

    @abstractmethod
    def first_parameters(self) -> Tensor:
        """Those of a broad density whose components differ: (n_parameters,)."""

    @abstractmethod
    def moved(self, parameters: Tensor, by: Tensor) -> Tensor:
        """The parameters (n, n_parameters) with components moved, in turn, by each of (n, k)."""

    @abstractmethod
    def log_prob(
        self,
        parameters: Tensor,
        value: Tensor,
        upper: Tensor | None = None,
        gaps: Gaps | None = None,
    ) -> Tensor:
        """ln of the density at value (n,), for parameters (n, n_parameters): (n,).

        Args:
            upper: where components end, (n, n_components), or (n, 1) of all; None: they have no end.
            gaps: where the density is lower; None: nowhere.
        """

    @abstractmethod
    def sample(
        self,
        parameters: Tensor,
        rng: torch.Generator,
        upper: Tensor | None = None,
        gaps: Gaps | None = None,
    ) -> Tensor:
        """A value for each of the parameters (n, n_parameters), the rest as for `log_prob`: float64 (n,)."""


class Gaussians(Conditional):
    """A mixture of normal densities up to their ends, lower in gaps, divided by its integral."""

    def __init__(self, n_components: int, n_kinds: int = 1) -> None:
        """Component k is of kind k modulo n_kinds.

        Those of other kinds than 0 begin narrow, to either side, where there are enough to leave broad ones.
        """
        super().__init__(n_components)
        self.n_kinds = n_kinds

    def first_parameters(self) -> Tensor:
        number = torch.arange(self.n_components)
        is_narrow = (number % self.n_kinds > 0) & (self.n_components >= 2 * self.n_kinds)
        side = NARROW_SIDE * (1 - 2 * (number // 2 % 2))
        means = torch.where(is_narrow, side, torch.linspace(-1.5, 1.5, self.n_components))
        std = torch.where(is_narrow, NARROW_STD, torch.full_like(means, FIRST_STD))
        return torch.cat([torch.zeros_like(means), means, std.expm1().log()])

    def moved(self, parameters: Tensor, by: Tensor) -> Tensor:
        logits, mean, width = parameters.chunk(3, dim=-1)
        return torch.cat([logits, mean + in_turn(by, self.n_components), width], dim=-1)

    def log_prob(
        self,
        parameters: Tensor,
        value: Tensor,
        upper: Tensor | None = None,
        gaps: Gaps | None = None,
    ) -> Tensor:
        log_share, mean, std = self._components(parameters)
        z = (value[:, None] - mean) / std
        each = log_share - 0.5 * z.square() - std.log()
        if upper is not None:
            # An infinite one has no gradient.
            each = torch.where(value[:, None] <= upper, each, NOWHERE)
        log_prob: Tensor = each.logsumexp(-1) - 0.5 * math.log(2 * math.pi)
        if upper is not None:
            log_reach = self._log_reach(log_share, mean, std, upper).logsumexp(-1)
            is_possible = value <= upper.amax(-1)
            log_prob = torch.where(is_possible, log_prob - log_reach.to(log_prob.dtype), -math.inf)
        return log_prob if gaps is None else log_prob + self._log_gaps(parameters, value, gaps)

    def sample(
        self,
        parameters: Tensor,
        rng: torch.Generator,
        upper: Tensor | None = None,
        gaps: Gaps | None = None,
    ) -> Tensor:
        drawn = self._sample_all(parameters, rng, upper)
        if gaps is None:
            return drawn
        at = gaps.is_any.nonzero()[:, 0]
        while len(at) > 0:
            of_these = gaps.select(at)
            is_refused = of_these.has(drawn[at]) & (_uniform(len(at), rng).log() > gaps.log_kept)
            at = at[is_refused]
            drawn[at] = self._sample_all(parameters[at], rng, None if upper is None else upper[at])
        return drawn

    def _sample_all(self, parameters: Tensor, rng: torch.Generator, upper: Tensor | None) -> Tensor:
        """As if there were no gaps."""
        log_share, mean, std = self._components(parameters.double())
        if upper is None:
            upper = torch.full_like(mean, UNBOUNDED)
        component = _pick(self._log_reach(log_share, mean, std, upper), rng)
        of_each = mean, std, upper.double().expand_as(mean)
        mean, std, upper = (of.gather(1, component)[:, 0] for of in of_each)
        end = (upper - mean) / std
        log_u = _uniform(len(mean), rng).log()
        # Far below the mean, ndtr is 0; there, ln ndtr(z) is -z²/2 to the accuracy of a step.
        z = torch.special.ndtri((log_u + torch.special.log_ndtr(end)).exp())
        deep = -(end.clamp(max=0).square() - 2 * log_u).sqrt()
        return torch.minimum(mean + std * torch.where(end < DEEP, deep, z), upper)

    def _log_gaps(self, parameters: Tensor, value: Tensor, gaps: Gaps) -> Tensor:
        """ln of what gaps change, (n,), where components have no ends: less in them, more elsewhere."""
        at = gaps.is_any
        log_share, mean, std = (of.double() for of in self._components(parameters[at]))
        inside = torch.zeros_like(mean[:, 0])
        of_these = gaps.select(at)
        for sign, low, high in of_these.with_overlap():
            below = [torch.special.ndtr((end[:, None] - mean) / std) for end in (low, high)]
            inside = inside + sign * (log_share.exp() * (below[1] - below[0])).sum(-1)
        lost = (-torch.expm1(gaps.log_kept.double())) * inside.clamp(max=1)
        change = torch.where(of_these.has(value[at]), gaps.log_kept.double(), 0.0) - (-lost).log1p()
        return torch.zeros_like(value).masked_scatter(at, change.to(value.dtype))

    def _components(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln of the shares, means and standard deviations, (n, n_components)."""
        logits, mean, width = parameters.chunk(3, dim=-1)
        return logits.log_softmax(-1), mean, F.softplus(width) + MIN_STD

    @staticmethod
    def _log_reach(log_share: Tensor, mean: Tensor, std: Tensor, upper: Tensor) -> Tensor:
        """ln of what each component has below the upper end: float64 (n, n_components)."""
        # In single precision the gradient of log_ndtr (torch 2.13) is wrong below -3000.
        end = (upper.double() - mean.double()) / std.double()
        found: Tensor = log_share.double() + torch.special.log_ndtr(end)
        return found


class VonMises(Conditional):
    """A mixture of exp(a cos phi + b sin phi) / (2 pi I_0(kappa)), kappa² = a² + b²; there are neither ends nor gaps."""

    def first_parameters(self) -> Tensor:
        angle = 2 * math.pi * torch.arange(self.n_components) / self.n_components
        kappa = max(1.0, (NEIGHBOURS_APART * self.n_components / (2 * math.pi)) ** 2)
        return torch.cat([torch.zeros_like(angle), kappa * angle.cos(), kappa * angle.sin()])

    def moved(self, parameters: Tensor, by: Tensor) -> Tensor:
        logits, a, b = parameters.chunk(3, dim=-1)
        angle = in_turn(by, self.n_components)
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([logits, a * cos - b * sin, a * sin + b * cos], dim=-1)

    def log_prob(
        self,
        parameters: Tensor,
        value: Tensor,
        upper: Tensor | None = None,
        gaps: Gaps | None = None,
    ) -> Tensor:
        log_share, a, b, kappa = self._components(parameters)
        exponent = a * value.cos()[:, None] + b * value.sin()[:, None] - kappa
        log_density: Tensor = log_share + exponent - torch.special.i0e(kappa).log()
        return log_density.logsumexp(-1) - math.log(2 * math.pi)

    def sample(
        self,
        parameters: Tensor,
        rng: torch.Generator,
        upper: Tensor | None = None,
        gaps: Gaps | None = None,
    ) -> Tensor:
        log_share, a, b, kappa = self._components(parameters.double())
        component = _pick(log_share, rng)
        a, b, kappa = (of.gather(1, component)[:, 0] for of in (a, b, kappa))
        angle = torch.atan2(b, a) + von_mises(kappa, rng)
        return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi

    def _components(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ln of the shares, a, b and kappa, (n, n_components)."""
        logits, a, b = parameters.chunk(3, dim=-1)
        # At 0 the slope of a root is infinite.
        return logits.log_softmax(-1), a, b, (a.square() + b.square() + 1e-12).sqrt()


def von_mises(kappa: Tensor, rng: torch.Generator) -> Tensor:
    """Angles in [-pi, pi] with densities proportional to exp(kappa cos), for kappa > 0 (n,), float64.

    By rejection from a wrapped Cauchy density: D. J. Best, N. I. Fisher, Appl. Stat. 28 (1979) 152.
    """
    tau = 1 + (1 + 4 * kappa.square()).sqrt()
    rho = (tau - (2 * tau).sqrt()) / (2 * kappa)
    # The difference above has nothing left at small kappa; a series does.
    r = torch.where(kappa < 1e-4, 1 / kappa + kappa, (1 + rho.square()) / (2 * rho))
    angle = torch.empty_like(kappa)
    open_ = torch.arange(len(kappa))
    while len(open_) > 0:
        u_1, u_2, u_3 = (_uniform(len(open_), rng) for _ in range(3))
        z = (math.pi * u_1).cos()
        f = (1 + r[open_] * z) / (r[open_] + z)
        c = kappa[open_] * (r[open_] - f)
        accepted = (c * (2 - c) > u_2) | ((c / u_2).log() + 1 - c >= 0)
        sign = torch.where(u_3 > 0.5, 1.0, -1.0)
        angle[open_[accepted]] = (sign * f.clamp(-1, 1).acos())[accepted]
        open_ = open_[~accepted]
    return angle


def in_turn(by: Tensor, n_components: int) -> Tensor:
    """(n, n_components) of (n, k): each of the k for every k-th component."""
    return by[:, torch.arange(n_components, device=by.device) % by.shape[1]]


def _pick(log_shares: Tensor, rng: torch.Generator) -> Tensor:
    """An index for each row of log_shares (n, k), in proportion to their exponentials: (n, 1)."""
    shares = log_shares.softmax(-1).cumsum(-1)
    u = _uniform(len(shares), rng)[:, None]
    return (shares[:, :-1] < u * shares[:, -1:]).sum(-1, keepdim=True)


def _uniform(n: int, rng: torch.Generator) -> Tensor:
    """Uniform in (0, 1), float64."""
    return torch.rand(n, generator=rng, dtype=torch.float64).clamp(min=2.0**-54)
