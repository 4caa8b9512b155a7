"""Phase space as a tree: r -> invariants, production, decays -> momenta, and back.

The invariants of intermediate systems are drawn first, from the leaves to the root, each in the
largest range that the beams' energy leaves it; the production of the two systems at the root comes
next. So a resonance keeps its place in the unit cube whatever the rest does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.core import PhaseSpacePoints
from mlgen.phasespace.acceptance import cos_theta_range
from mlgen.phasespace.invariants import RangeMap, Uniform
from mlgen.phasespace.production import Production, boost_along_beam
from mlgen.physics.kinematics import boost, boost_back, kallen, mass_squared, rapidity


@dataclass(frozen=True, slots=True)
class Leaf:
    """A final leg."""

    leg: int
    """Its index among the external legs, incoming first."""
    mass_gev: float

    @property
    def legs(self) -> tuple[int, ...]:
        return (self.leg,)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return (self,)


@dataclass(frozen=True, slots=True)
class Decay:
    """A system of two or more legs, made of two parts."""

    first: Leaf | Decay
    second: Leaf | Decay
    invariant: RangeMap
    """Draws its mass squared, GeV²."""
    min_mass_gev: float = 0.0
    """A lower bound on its mass from cuts; the masses of the parts hold in any case."""
    max_rapidity: float = math.inf
    """The largest |y| that cuts leave to both parts, where they are massless legs."""

    @property
    def legs(self) -> tuple[int, ...]:
        return self.first.legs + self.second.legs

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return self.first.leaves + self.second.leaves


Part = Leaf | Decay
_Invariants = dict[tuple[int, ...], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeMap:
    """The map of one topology.

    Columns of r: the invariants of the decays, from the leaves up; those of the production;
    azimuth and cos θ of each decay, the first azimuth in half a turn; last the one flat column,
    which holds the azimuth of the event, its orientation, and whether it is reflected in the plane
    of the beams and the production. A tree-level |M|² without complex phases does not depend on
    that reflection, so samplers need not learn it; what Z widths leave of it is still integrated.
    """

    production: Production
    first: Part
    second: Part

    def __post_init__(self) -> None:
        masses = [
            torch.tensor([_least_mass(part)], dtype=torch.float64)
            for part in (self.first, self.second)
        ]
        if not bool(self.production.max_invariant(masses[1]) > masses[0].square()):
            raise ValueError("the final state needs more energy than the beams have")

    @property
    def n_dim(self) -> int:
        return 3 * len(list(self._decays())) + self.production.n_dim

    @property
    def n_ext(self) -> int:
        return 2 + len(self.first.legs) + len(self.second.legs)

    def forward(self, r: Tensor, channel: Tensor, n_orientations: Tensor) -> PhaseSpacePoints:
        """Map r (n, n_dim + 1) to points; `n_orientations` (n,) is 1 or 2."""
        columns = iter(r.unbind(1))
        # The 2 pi of each decay's azimuth cancels the 1 / (2 pi) of its invariant.
        log_jac = n_orientations.to(r).log()
        invariants: _Invariants = {}
        for decay in self._decays():
            low, high = self._range(decay, invariants, r)
            invariants[decay.legs], step = decay.invariant.forward(next(columns), low, high)
            log_jac = log_jac + step
        s1, s2 = (_invariant(part, invariants, r) for part in (self.first, self.second))
        chosen = torch.stack([next(columns) for _ in range(self.production.n_dim)], dim=1)
        x, first, second, step = self.production.forward(chosen, s1, s2)
        log_jac = log_jac + step
        momenta = r.new_zeros((len(r), self.n_ext, 4))
        systems: list[tuple[Part, Tensor]] = [(self.second, second), (self.first, first)]
        incoming = first + second
        while systems:
            part, momentum = systems.pop()
            if isinstance(part, Leaf):
                momenta[:, part.leg] = momentum
                continue
            s = invariants[part.legs]
            s1, s2 = (_invariant(p, invariants, r) for p in (part.first, part.second))
            turns = 0.5 if part is self._leading else 1.0
            phi = 2 * math.pi * turns * next(columns)
            bounds = cos_theta_range(momentum, phi, part.max_rapidity)
            cos_theta, step = Uniform().forward(next(columns), *bounds)
            daughter = _from_rest(_isotropic(s, s1, s2, cos_theta, phi), momentum)
            log_jac = log_jac + step + _log_two_body(s, s1, s2)
            systems += [(part.second, momentum - daughter), (part.first, daughter)]
        momenta[:, 0, 0] = momenta[:, 0, 3] = 0.5 * (incoming[:, 0] + incoming[:, 3])
        momenta[:, 1, 0] = 0.5 * (incoming[:, 0] - incoming[:, 3])
        momenta[:, 1, 3] = -momenta[:, 1, 0]
        turn = next(columns) * n_orientations * self._n_reflections
        copy = torch.minimum(turn.floor(), n_orientations * self._n_reflections - 1)
        mirrored, reflected = copy >= self._n_reflections, copy % self._n_reflections == 1
        azimuth = 2 * math.pi * (turn - copy)
        _, *spatial = momenta.unbind(-1)
        spatial = _mirror(_rotate(_reflect(spatial, reflected), azimuth), mirrored)
        # Differences and boosts leave E² - p² off by rounding; matrix elements want it exact.
        px, py, pz = spatial
        energy = (px * px + py * py + pz * pz + self._masses_squared(r)).sqrt()
        momenta = torch.stack([energy, px, py, pz], dim=-1)
        return PhaseSpacePoints(momenta=momenta, x=x, channel=channel, log_jac=log_jac)

    def inverse(self, points: PhaseSpacePoints, n_orientations: Tensor) -> tuple[Tensor, Tensor]:
        """Map points back to r (n, n_dim + 1), and ln |dr / dx1 dx2 dPhi_n|."""
        mirrored = points.momenta[:, 0, 3] < 0
        energy, *spatial = points.momenta.unbind(-1)
        spatial = _mirror(spatial, mirrored)
        px, py = (p[:, self.first.legs].sum(1) for p in spatial[:2])
        azimuth = torch.remainder(torch.atan2(py, px), 2 * math.pi)
        spatial = _rotate(spatial, -azimuth)
        reflected = torch.zeros_like(mirrored)
        if self._leading is not None:
            reflected = spatial[1][:, self._leading.first.legs].sum(1) < 0
            spatial = _reflect(spatial, reflected)
        momenta = torch.stack([energy, *spatial], dim=-1)
        copy = mirrored.to(azimuth) * self._n_reflections + reflected.to(azimuth)
        turn = (azimuth / (2 * math.pi) + copy) / (n_orientations * self._n_reflections)
        log_jac = -n_orientations.to(turn).log()
        columns = []
        invariants: _Invariants = {}
        for decay in self._decays():
            low, high = self._range(decay, invariants, momenta)
            s = mass_squared(momenta[:, decay.legs].sum(1))
            r, step = decay.invariant.inverse(s, low, high)
            invariants[decay.legs] = s
            columns.append(r)
            log_jac = log_jac + step
        s1, s2 = (_invariant(part, invariants, momenta) for part in (self.first, self.second))
        first, second = (momenta[:, part.legs].sum(1) for part in (self.first, self.second))
        r, step = self.production.inverse(points.x, first, second, s1, s2)
        columns += r.unbind(1)
        log_jac = log_jac + step
        systems: list[Part] = [self.second, self.first]
        while systems:
            part = systems.pop()
            if isinstance(part, Leaf):
                continue
            s1, s2 = (_invariant(p, invariants, momenta) for p in (part.first, part.second))
            total = momenta[:, part.legs].sum(1)
            daughter = _to_rest(momenta[:, part.first.legs].sum(1), total)
            phi = torch.atan2(daughter[:, 2], daughter[:, 1])
            cos_theta = daughter[:, 3] / daughter[:, 1:].norm(dim=1)
            turns = 0.5 if part is self._leading else 1.0
            bounds = cos_theta_range(total, phi, part.max_rapidity)
            r, step = Uniform().inverse(cos_theta, *bounds)
            columns += [torch.remainder(phi / (2 * math.pi), 1) / turns, r]
            log_jac = log_jac + step - _log_two_body(invariants[part.legs], s1, s2)
            systems += [part.second, part.first]
        return torch.stack([*columns, turn], dim=1), log_jac

    @property
    def _leading(self) -> Decay | None:
        """The decay whose azimuth takes half a turn; None where there are none."""
        return next((part for part in (self.first, self.second) if isinstance(part, Decay)), None)

    @property
    def _n_reflections(self) -> int:
        return 1 if self._leading is None else 2

    def _decays(self) -> Iterator[Decay]:
        yield from _decays(self.first)
        yield from _decays(self.second)

    def _masses_squared(self, like: Tensor) -> Tensor:
        leaves = sorted(self.first.leaves + self.second.leaves, key=lambda leaf: leaf.leg)
        return like.new_tensor([0.0, 0.0, *(leaf.mass_gev**2 for leaf in leaves)])

    def _range(self, node: Decay, drawn: _Invariants, like: Tensor) -> tuple[Tensor, Tensor]:
        """The bounds on the mass squared of a decaying system, given those drawn before it."""
        low = _least_mass_given(node, drawn, like)
        side, other = self.first, self.second
        if not set(node.legs) <= set(side.legs):
            side, other = other, side
        # The other side of the production first, then what shares this side with the node.
        high = self.production.max_invariant(_least_mass_given(other, drawn, like)).sqrt()
        while isinstance(side, Decay) and side is not node:
            inner, sibling = side.first, side.second
            if not set(node.legs) <= set(inner.legs):
                inner, sibling = sibling, inner
            high = high - _least_mass_given(sibling, drawn, like)
            side = inner
        # Rounding may put the ends of an empty range the wrong way round.
        return low.square(), torch.maximum(low, high).square()


def _decays(part: Part) -> Iterator[Decay]:
    """The decays of a part and below it, leaves first."""
    if isinstance(part, Decay):
        yield from _decays(part.first)
        yield from _decays(part.second)
        yield part


def _least_mass(part: Part) -> float:
    if isinstance(part, Leaf):
        return part.mass_gev
    return max(part.min_mass_gev, _least_mass(part.first) + _least_mass(part.second))


def _least_mass_given(part: Part, drawn: _Invariants, like: Tensor) -> Tensor:
    """The least mass of a part, (n,), where some invariants have been drawn."""
    if isinstance(part, Decay) and part.legs not in drawn:
        first, second = (_least_mass_given(p, drawn, like) for p in (part.first, part.second))
        return (first + second).clamp(min=part.min_mass_gev)
    return _invariant(part, drawn, like).sqrt()


def _invariant(part: Part, drawn: _Invariants, like: Tensor) -> Tensor:
    if isinstance(part, Leaf):
        return like.new_full((len(like),), part.mass_gev**2)
    return drawn[part.legs]


def _log_two_body(s: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
    """ln of dPhi_2 / (dcos θ dφ / 2 pi) over 2 pi: lambda^(1/2)(s, s1, s2) / (32 pi² s)."""
    return 0.5 * kallen(s, s1, s2).log() - (32 * math.pi**2 * s).log()


def _isotropic(s: Tensor, s1: Tensor, s2: Tensor, cos_theta: Tensor, phi: Tensor) -> Tensor:
    """The first momentum of a two-body decay at rest, (n, 4)."""
    root_s = s.sqrt()
    energy = (s + s1 - s2) / (2 * root_s)
    p = kallen(s, s1, s2).clamp(min=0).sqrt() / (2 * root_s)
    p_t = p * ((1 - cos_theta) * (1 + cos_theta)).clamp(min=0).sqrt()
    return torch.stack([energy, p_t * phi.cos(), p_t * phi.sin(), p * cos_theta], dim=1)


def _from_rest(momentum: Tensor, parent: Tensor) -> Tensor:
    """From the rest frame of a parent, reached transversely after a boost along the beam.

    In that frame, of Collins and Soper, PR D16 (1977) 2219, the beams lie at equal angles to
    the z axis; a cut on rapidity bounds the same angles whatever the parent's rapidity.
    """
    y = rapidity(parent)
    return boost_along_beam(boost(momentum, boost_along_beam(parent, -y)), y)


def _to_rest(momentum: Tensor, parent: Tensor) -> Tensor:
    """The inverse of `_from_rest`."""
    y = rapidity(parent)
    return boost_back(boost_along_beam(momentum, -y), boost_along_beam(parent, -y))


def _rotate(spatial: list[Tensor], azimuth: Tensor) -> list[Tensor]:
    """Turn (px, py, pz), each (n, k), by an azimuth (n,) around the beam."""
    px, py, pz = spatial
    cos, sin = azimuth.cos()[:, None], azimuth.sin()[:, None]
    return [cos * px - sin * py, sin * px + cos * py, pz]


def _reflect(spatial: list[Tensor], reflected: Tensor) -> list[Tensor]:
    """Turn py around where `reflected` (n,)."""
    px, py, pz = spatial
    return [px, _sign(reflected, py) * py, pz]


def _mirror(spatial: list[Tensor], mirrored: Tensor) -> list[Tensor]:
    """Turn by pi about the x axis where `mirrored` (n,)."""
    px, py, pz = spatial
    sign = _sign(mirrored, py)
    return [px, sign * py, sign * pz]


def _sign(negative: Tensor, like: Tensor) -> Tensor:
    return torch.where(negative, -1.0, 1.0).to(like)[:, None]
