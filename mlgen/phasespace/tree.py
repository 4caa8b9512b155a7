"""Phase space as a tree: r -> invariants, production, decays -> momenta, and back.

The invariants of intermediate systems are drawn first, from the leaves to the root, each in the
largest range that the beams' energy leaves it; the production of the systems comes next, then their
decays. So a resonance keeps its place in the unit cube whatever the rest does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlgen.core import PhaseSpacePoints
from mlgen.phasespace.angles import AngleMap, Isotropic, Parent
from mlgen.phasespace.invariants import RangeMap
from mlgen.phasespace.production import LeptonProduction, Production
from mlgen.phasespace.vectors import back_to_back, from_rest, pair_mass_squared


@dataclass(frozen=True, slots=True)
class Leaf:
    """A final leg."""

    leg: int
    """Its index among the external legs, incoming first."""
    mass_gev: float

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
    max_mass_gev: float = math.inf
    """An upper one."""
    angle: AngleMap = field(default_factory=Isotropic)
    """Draws the direction of the first part."""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return self.first.leaves + self.second.leaves

    @property
    def parts(self) -> tuple[Part, Part]:
        return self.first, self.second


Part = Leaf | Decay
_Invariants = dict[Decay, Tensor]
_Momenta = dict[Part, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeMap:
    """The map of one topology.

    Columns of r: the invariants of the decays, from the leaves up; those of the production;
    azimuth and cos θ of each decay; last the one flat column, which holds the azimuth of the event,
    its orientation, and whether it is reflected in the plane of the beams and the leading system. A
    tree-level |M|² without complex phases does not depend on that reflection, so samplers need not
    learn it; what widths leave of it is still integrated. The first azimuth among the columns
    takes half a turn therefore, and the only system of an event has none.
    """

    production: Production
    systems: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.production.n_systems != len(self.systems):
            raise ValueError("the production makes another number of systems")
        if not sum(map(_least_mass, self.systems)) ** 2 < self.production.s:
            raise ValueError("the final state needs more energy than the beams have")

    @property
    def n_dim(self) -> int:
        return self.production.n_dim + 3 * len(self._decays) - self._n_fixed

    @property
    def n_ext(self) -> int:
        return 2 + len(self._leaves)

    def forward(self, r: Tensor, channel: Tensor, n_orientations: Tensor) -> PhaseSpacePoints:
        """Map r (n, n_dim + 1) to points; `n_orientations` (n,) is 1 or 2."""
        columns = iter(r.T.contiguous())
        # The 2 pi of each decay's azimuth cancels the 1 / (2 pi) of its invariant.
        log_jac = n_orientations.to(r).log()
        drawn: _Invariants = {}
        for decay in self._decays:
            if self._is_fixed(decay):
                drawn[decay] = r.new_full((len(r),), self.production.s)
                continue
            bounds = self._range(decay, drawn, r)
            drawn[decay], step = decay.invariant.forward(next(columns), *bounds)
            log_jac = log_jac + step
        s = [_invariant(part, drawn, r) for part in self.systems]
        produced = self.production.forward([next(columns) for _ in range(self.production.n_dim)], s)
        log_jac = log_jac + produced.log_jac
        momenta: _Momenta = dict(zip(self.systems, produced.systems, strict=True))
        second_beam = _second_beam(produced.systems)
        half_turn = self.production.across is None
        for decay in reversed(self._decays):
            if self._is_only(decay):
                phi = torch.zeros_like(log_jac)
            else:
                phi = (math.pi if half_turn else 2 * math.pi) * next(columns)
                half_turn = False
            parent, step = _parent(decay, drawn, momenta[decay], second_beam)
            direction, step_angle = decay.angle.forward(next(columns), phi, parent)
            at_rest = torch.cat([parent.energy[None], parent.p * direction])
            momenta[decay.first] = from_rest(at_rest, parent.momentum, parent.mass)
            momenta[decay.second] = momenta[decay] - momenta[decay.first]
            log_jac = log_jac + step + step_angle
        return self._points(momenta, produced.x, log_jac, channel, next(columns), n_orientations)

    def inverse(self, points: PhaseSpacePoints, n_orientations: Tensor) -> tuple[Tensor, Tensor]:
        """Map points back to r (n, n_dim + 1), and ln |dr / dx1 dx2 dPhi_n|."""
        columns, log_jac = self._columns(points, n_orientations)
        return torch.stack(columns, dim=1), log_jac

    def log_density(self, points: PhaseSpacePoints, n_orientations: Tensor) -> Tensor:
        """ln |dr / dx1 dx2 dPhi_n| (n,); -inf where the map does not reach."""
        return self._columns(points, n_orientations)[1].nan_to_num(nan=-math.inf)

    def _columns(
        self, points: PhaseSpacePoints, n_orientations: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """The columns of r at given points, and ln |dr / dx1 dx2 dPhi_n|."""
        momenta, turn = self._turned(points, n_orientations)
        log_jac = -n_orientations.to(turn).log()
        columns = []
        drawn: _Invariants = {}
        for decay in self._decays:
            if self._is_fixed(decay):
                drawn[decay] = torch.full_like(turn, self.production.s)
                continue
            bounds = self._range(decay, drawn, turn)
            s1, s2 = (_invariant(part, drawn, turn) for part in decay.parts)
            drawn[decay] = pair_mass_squared(momenta[decay.first], s1, momenta[decay.second], s2)
            r, step = decay.invariant.inverse(drawn[decay], *bounds)
            columns.append(r)
            log_jac = log_jac + step
        s = [_invariant(part, drawn, turn) for part in self.systems]
        found, step = self.production.inverse(points.x.T, [momenta[p] for p in self.systems], s)
        columns += found
        log_jac = log_jac + step
        second_beam = _second_beam([momenta[p] for p in self.systems])
        half_turn = self.production.across is None
        for decay in reversed(self._decays):
            parent, step = _parent(decay, drawn, momenta[decay], second_beam)
            r, phi, step_angle = decay.angle.inverse(momenta[decay.first], parent)
            if not self._is_only(decay):
                turns = torch.remainder(phi / (2 * math.pi), 1)
                columns.append(turns * 2 if half_turn else turns)
                half_turn = False
            columns.append(r)
            log_jac = log_jac - step + step_angle
        return [*columns, turn], log_jac

    @property
    def _decays(self) -> list[Decay]:
        """Those below a decay come before it."""
        return [decay for part in self.systems for decay in _decays(part)]

    @property
    def _leaves(self) -> list[Leaf]:
        leaves = [leaf for part in self.systems for leaf in part.leaves]
        return sorted(leaves, key=lambda leaf: leaf.leg)

    @property
    def _n_fixed(self) -> int:
        """Of the only system of an event: its azimuth, and where the beams fix it, its mass."""
        return sum(self._is_only(d) + self._is_fixed(d) for d in self._decays)

    def _is_only(self, decay: Decay) -> bool:
        return self.production.n_systems == 1 and decay is self.systems[0]

    def _is_fixed(self, decay: Decay) -> bool:
        return isinstance(self.production, LeptonProduction) and self._is_only(decay)

    @property
    def _across(self) -> Part | None:
        """What moves out of the plane of the beams and the leading system; None where nothing does."""
        if self.production.across is not None:
            return self.systems[self.production.across]
        return next((d.first for d in reversed(self._decays) if not self._is_only(d)), None)

    def _range(self, node: Decay, drawn: _Invariants, like: Tensor) -> tuple[Tensor, Tensor]:
        """The bounds on the mass squared of a decaying system, given those drawn before it."""
        low = _least_mass_given(node, drawn, like)
        others = torch.zeros_like(low)
        for part in _outside(node, self.systems):
            others = others + _least_mass_given(part, drawn, like)
        high = (math.sqrt(self.production.s) - others).clamp(max=node.max_mass_gev)
        # Rounding, or a window of cuts, may put the ends of an empty range the wrong way round.
        return low.square(), torch.maximum(low, high).square()

    def _points(
        self,
        momenta: _Momenta,
        x: Tensor,
        log_jac: Tensor,
        channel: Tensor,
        flat: Tensor,
        n_orientations: Tensor,
    ) -> PhaseSpacePoints:
        """Turn, reflect and mirror the event by the flat number, and put its legs in order."""
        leaves = self._leaves
        n_reflections = 1 if self._across is None else 2
        turn = flat * n_orientations * n_reflections
        copy = torch.minimum(turn.floor(), n_orientations * n_reflections - 1)
        mirrored, reflected = copy >= n_reflections, copy % n_reflections == 1
        azimuth = 2 * math.pi * (turn - copy)
        all_legs = torch.stack([momenta[leaf] for leaf in leaves], dim=1)
        sums = all_legs[0].sum(0), all_legs[3].sum(0)
        px, py, pz = _rotate(all_legs[1], _sign(reflected) * all_legs[2], all_legs[3], azimuth)
        py, pz = _sign(mirrored) * py, _sign(mirrored) * pz
        masses_squared = log_jac.new_tensor([[leaf.mass_gev**2] for leaf in leaves])
        # Differences and boosts leave E² - p² off by rounding; matrix elements want it exact.
        energy = (px * px + py * py + pz * pz + masses_squared).sqrt()
        result = log_jac.new_zeros((len(log_jac), self.n_ext, 4))
        result[:, 2:] = torch.stack([energy, px, py, pz]).permute(2, 1, 0)
        result[:, 0, 0] = 0.5 * (sums[0] + sums[1])
        result[:, 1, 0] = 0.5 * (sums[0] - sums[1])
        result[:, 0, 3] = _sign(mirrored) * result[:, 0, 0]
        result[:, 1, 3] = -_sign(mirrored) * result[:, 1, 0]
        return PhaseSpacePoints(momenta=result, x=x.T, channel=channel, log_jac=log_jac)

    def _turned(self, points: PhaseSpacePoints, n_orientations: Tensor) -> tuple[_Momenta, Tensor]:
        """The momenta of all parts with the event turned back, and the flat number that turned it."""
        energy, px, py, pz = points.momenta[:, 2:].permute(2, 1, 0).contiguous()
        mirrored = points.momenta[:, 0, 3] < 0
        py, pz = _sign(mirrored) * py, _sign(mirrored) * pz
        leading = self.systems[self.production.leading]
        if self.production.n_systems == 1 and isinstance(leading, Decay):
            leading = leading.first
        legs = [leaf.leg - 2 for leaf in leading.leaves]
        azimuth = torch.atan2(py[legs].sum(0), px[legs].sum(0))
        px, py, pz = _rotate(px, py, pz, -azimuth)
        reflected = torch.zeros_like(mirrored)
        if self._across is not None:
            reflected = py[[leaf.leg - 2 for leaf in self._across.leaves]].sum(0) < 0
            py = _sign(reflected) * py
        n_reflections = 1 if self._across is None else 2
        copy = mirrored.to(azimuth) * n_reflections + reflected.to(azimuth)
        turn = torch.remainder(azimuth / (2 * math.pi), 1) + copy
        by_leg = torch.stack([energy, px, py, pz]).unbind(1)
        momenta: _Momenta = {leaf: by_leg[leaf.leg - 2] for leaf in self._leaves}
        for decay in self._decays:
            momenta[decay] = momenta[decay.first] + momenta[decay.second]
        return momenta, turn / (n_orientations * n_reflections)


def _parent(
    decay: Decay, drawn: _Invariants, momentum: Tensor, second_beam: Tensor
) -> tuple[Parent, Tensor]:
    """A system about to decay, and ln of dPhi_2 / (dcos θ dφ / 2 pi) over 2 pi: p / (16 pi² m)."""
    s = drawn[decay]
    s1, s2 = (_invariant(part, drawn, s) for part in decay.parts)
    mass = s.sqrt()
    energy, p = back_to_back(s, s1, s2)
    parent = Parent(
        momentum=momentum, mass=mass, energy=energy, p=p, s_first=s1, second_beam=second_beam
    )
    return parent, (p / (16 * math.pi**2 * mass)).log()


def _second_beam(systems: Sequence[Tensor]) -> Tensor:
    """The energy (n,) of the incoming leg along -z, from all that comes out."""
    total = torch.stack([p[0] - p[3] for p in systems])
    return 0.5 * total.sum(0)


def _decays(part: Part) -> Iterator[Decay]:
    """The decays of a part and below it, leaves first."""
    if isinstance(part, Decay):
        yield from _decays(part.first)
        yield from _decays(part.second)
        yield part


def _outside(node: Decay, systems: tuple[Part, ...]) -> list[Part]:
    """The largest parts that have no leg in common with a node."""
    mine = set(node.leaves)
    found: list[Part] = []
    for part in systems:
        if mine.isdisjoint(part.leaves):
            found.append(part)
        elif isinstance(part, Decay) and part is not node:
            found += _outside(node, part.parts)
    return found


def _least_mass(part: Part) -> float:
    if isinstance(part, Leaf):
        return part.mass_gev
    return max(part.min_mass_gev, _least_mass(part.first) + _least_mass(part.second))


def _least_mass_given(part: Part, drawn: _Invariants, like: Tensor) -> Tensor:
    """The least mass of a part, (n,), where some invariants have been drawn."""
    if isinstance(part, Decay) and part not in drawn:
        first, second = (_least_mass_given(p, drawn, like) for p in part.parts)
        return (first + second).clamp(min=part.min_mass_gev)
    return _invariant(part, drawn, like).sqrt()


def _invariant(part: Part, drawn: _Invariants, like: Tensor) -> Tensor:
    if isinstance(part, Leaf):
        return like.new_full((len(like),), part.mass_gev**2)
    return drawn[part]


def _rotate(px: Tensor, py: Tensor, pz: Tensor, azimuth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turn momenta, each component (k, n), by an azimuth (n,) around the beam."""
    cos, sin = azimuth.cos(), azimuth.sin()
    return cos * px - sin * py, sin * px + cos * py, pz


def _sign(negative: Tensor) -> Tensor:
    """-1 where `negative`, else 1: float64 (n,)."""
    return 1 - 2 * negative.to(torch.float64)
