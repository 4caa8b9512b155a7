"""Phase space as a tree of two-body decays: r -> invariants and angles -> momenta, and back.

The invariants of intermediate systems are drawn first, from the leaves to the root, each in the
largest range that its energy allows; the partonic s_hat comes last, above the threshold that
they set. So a resonance keeps its place in the unit cube whatever the rest does, and no point
is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlgen.core import PhaseSpacePoints
from mlgen.phasespace.invariants import RangeMap, Uniform
from mlgen.physics.kinematics import boost, boost_back, kallen, mass_squared


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
    def min_mass_gev(self) -> float:
        return self.mass_gev


@dataclass(frozen=True, slots=True)
class Decay:
    """A system of two or more legs, made of two parts."""

    first: Leaf | Decay
    second: Leaf | Decay
    invariant: RangeMap
    """Draws its mass squared, GeV²."""
    min_mass_gev: float = 0.0
    """A lower bound from cuts; the sum of the parts' bounds holds in any case."""
    min_pt_gev: float = 0.0
    """A lower bound on the transverse momentum of its parts in their rest frame; for the root only."""
    angle: RangeMap = field(default_factory=Uniform)
    """Draws cos θ of the first part, along the beam."""

    @property
    def legs(self) -> tuple[int, ...]:
        return self.first.legs + self.second.legs


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeMap:
    """The map of one topology, for beams of given energies.

    Columns of r: the invariants of the decays below the root, from the leaves up; s_hat and
    the rapidity of the partonic system where `hadronic`; cos θ of the root; cos θ and the
    azimuth of each decay below it; last the one flat column, the azimuth of the root and the
    orientation together.
    """

    root: Decay
    s: float
    """Squared energy of the beams, GeV²."""
    rapidity: float
    """Rapidity of the beams' rest frame in the laboratory."""
    hadronic: bool

    def __post_init__(self) -> None:
        if _min_s_hat(self.root) >= self.s:
            raise ValueError("the tree needs more energy than the beams have")

    @property
    def n_dim(self) -> int:
        n_inner = len(list(_inner(self.root)))
        return 3 * n_inner + 1 + 2 * self.hadronic

    def forward(self, r: Tensor, channel: Tensor, n_orientations: Tensor) -> PhaseSpacePoints:
        """Map r (n, n_dim + 1) to points; `n_orientations` (n,) is 1 or 2."""
        columns = iter(r.unbind(-1))
        invariants: dict[tuple[int, ...], Tensor] = {}
        # The 2 pi of each inner azimuth cancels the 1 / (2 pi) of each inner invariant.
        log_jac = (2 * math.pi * n_orientations.to(r)).log()
        for node in _inner(self.root):
            low, high = self._range(node, invariants, r)
            invariants[node.legs], step = node.invariant.forward(next(columns), low, high)
            log_jac = log_jac + step
        low, high = self._s_hat_range(invariants, r)
        if self.hadronic:
            s_hat, step = self.root.invariant.forward(next(columns), low, high)
            y_max = 0.5 * (self.s / s_hat).log()
            y = (2 * next(columns) - 1) * y_max
            log_jac = log_jac + step + (2 * y_max / self.s).log()
        else:
            s_hat, y = torch.full_like(log_jac, self.s), torch.zeros_like(log_jac)
        invariants[self.root.legs] = s_hat
        momenta = r.new_zeros((len(r), 2 + len(self.root.legs), 4))
        at_rest = torch.zeros_like(momenta[:, 0])
        at_rest[:, 0] = s_hat.sqrt()
        systems: list[tuple[Decay, Tensor]] = [(self.root, at_rest)]
        while systems:
            node, total = systems.pop()
            s1, s2 = (self._invariant(part, invariants, r) for part in (node.first, node.second))
            s_node = invariants[node.legs]
            bound = self._cos_theta_bound(node, s_node, s1, s2)
            cos_theta, step = node.angle.forward(next(columns), -bound, bound)
            phi = torch.zeros_like(y) if node is self.root else 2 * math.pi * next(columns)
            log_jac = log_jac + step + _log_two_body(s_node, s1, s2)
            first = _two_body(s_node, s1, s2, cos_theta, phi)
            if node is not self.root:
                first = boost(first, total)
            second = total - first
            for part, momentum in ((node.second, second), (node.first, first)):
                if isinstance(part, Leaf):
                    momenta[:, part.leg] = momentum
                else:
                    systems.append((part, momentum))
        momenta[:, 0, 0] = momenta[:, 1, 0] = momenta[:, 0, 3] = s_hat.sqrt() / 2
        momenta[:, 1, 3] = -momenta[:, 0, 3]
        turn = next(columns) * n_orientations
        mirrored = (turn.floor() >= 1) & (n_orientations == 2)
        azimuth = 2 * math.pi * (turn - mirrored.to(turn))
        tau_root = (s_hat / self.s).sqrt()
        x = torch.stack([tau_root * y.exp(), tau_root * (-y).exp()], dim=-1)
        momenta = _to_laboratory(momenta, azimuth, y, mirrored, self.rapidity)
        # Differences and boosts leave E² - p² off by rounding; matrix elements want it exact.
        masses = momenta.new_tensor([0.0, 0.0, *self._masses()])
        momenta[..., 0] = (momenta[..., 1:].square().sum(-1) + masses.square()).sqrt()
        return PhaseSpacePoints(momenta=momenta, x=x, channel=channel, log_jac=log_jac)

    def inverse(self, points: PhaseSpacePoints, n_orientations: Tensor) -> tuple[Tensor, Tensor]:
        """Map points back to r (n, n_dim + 1), and ln |dr / dx1 dx2 dPhi_n|."""
        y = 0.5 * (points.x[:, 0] / points.x[:, 1]).log()
        momenta, azimuth, mirrored = _from_laboratory(
            points.momenta, self.root.first.legs, y, self.rapidity
        )
        turn = (azimuth / (2 * math.pi) + mirrored.to(y)) / n_orientations
        log_jac = -(2 * math.pi * n_orientations.to(y)).log()
        invariants = {
            node.legs: mass_squared(momenta[:, node.legs].sum(1)) for node in _inner(self.root)
        }
        drawn: dict[tuple[int, ...], Tensor] = {}
        columns = []
        for node in _inner(self.root):
            low, high = self._range(node, drawn, momenta)
            drawn[node.legs] = invariants[node.legs]
            r, step = node.invariant.inverse(drawn[node.legs], low, high)
            columns.append(r)
            log_jac = log_jac + step
        low, high = self._s_hat_range(invariants, momenta)
        s_hat = self.s * points.x.prod(-1)
        if self.hadronic:
            r, step = self.root.invariant.inverse(s_hat, low, high)
            y_max = 0.5 * (self.s / s_hat).log()
            columns += [r, (y / y_max + 1) / 2]
            log_jac = log_jac + step - (2 * y_max / self.s).log()
        invariants[self.root.legs] = s_hat
        nodes: list[Decay] = [self.root]
        while nodes:
            node = nodes.pop()
            s1, s2 = (
                self._invariant(part, invariants, momenta) for part in (node.first, node.second)
            )
            s_node = invariants[node.legs]
            first = momenta[:, node.first.legs].sum(1)
            if node is not self.root:
                first = boost_back(first, momenta[:, node.legs].sum(1))
            cos_theta = first[:, 3] / first[:, 1:].norm(dim=-1)
            bound = self._cos_theta_bound(node, s_node, s1, s2)
            r, step = node.angle.inverse(cos_theta, -bound, bound)
            columns.append(r)
            if node is not self.root:
                phi = torch.atan2(first[:, 2], first[:, 1])
                columns.append(torch.remainder(phi / (2 * math.pi), 1))
            log_jac = log_jac + step - _log_two_body(s_node, s1, s2)
            nodes += [part for part in (node.second, node.first) if isinstance(part, Decay)]
        return torch.stack([*columns, turn], dim=-1), log_jac

    def _masses(self) -> list[float]:
        """The masses of the final legs, in their order."""
        return [leaf.mass_gev for leaf in sorted(_leaves(self.root), key=lambda leaf: leaf.leg)]

    def _invariant(
        self, part: Leaf | Decay, invariants: dict[tuple[int, ...], Tensor], like: Tensor
    ) -> Tensor:
        if isinstance(part, Leaf):
            return like.new_full((len(like),), part.mass_gev**2)
        return invariants[part.legs]

    def _least_mass(
        self, part: Leaf | Decay, invariants: dict[tuple[int, ...], Tensor], like: Tensor
    ) -> Tensor:
        """The smallest mass that a part may have, given the invariants drawn so far."""
        if isinstance(part, Decay) and part.legs not in invariants:
            parts = (part.first, part.second)
            least = sum(self._least_mass(p, invariants, like) for p in parts)
            return torch.as_tensor(least).clamp(min=part.min_mass_gev)
        return self._invariant(part, invariants, like).sqrt()

    def _range(
        self, node: Decay, invariants: dict[tuple[int, ...], Tensor], like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The bounds on the mass squared of a system below the root."""
        low = self._least_mass(node, invariants, like)
        # With this system massless, the root still needs the energy of all the others.
        rest = self._others(self.root, node, invariants, like)
        pt = self.root.min_pt_gev
        root_s = math.sqrt(self.s)
        if pt > 0:
            # sqrt(s) = sqrt(m1² + pt²) + sqrt(m2² + pt²) solved for the node's side.
            high_squared = (root_s - (rest.square() + pt**2).sqrt()).square() - pt**2
        else:
            high_squared = (root_s - rest).square()
        return low.square(), high_squared

    def _others(
        self, top: Decay, node: Decay, invariants: dict[tuple[int, ...], Tensor], like: Tensor
    ) -> Tensor:
        """The least mass of everything under `top` that is not in `node`."""
        total = like.new_zeros((len(like),))
        for part in (top.first, top.second):
            if part is node:
                continue
            if isinstance(part, Decay) and set(node.legs) < set(part.legs):
                total = total + self._others(part, node, invariants, like)
            else:
                total = total + self._least_mass(part, invariants, like)
        return total

    def _s_hat_range(
        self, invariants: dict[tuple[int, ...], Tensor], like: Tensor
    ) -> tuple[Tensor, Tensor]:
        pt2 = self.root.min_pt_gev**2
        parts = (self.root.first, self.root.second)
        squares = (self._invariant(part, invariants, like) for part in parts)
        low = sum((square + pt2).sqrt() for square in squares)
        low = torch.as_tensor(low).clamp(min=self.root.min_mass_gev).square()
        return low, torch.full_like(low, self.s)

    def _cos_theta_bound(self, node: Decay, s: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
        """The largest |cos θ| that leaves the parts their least transverse momentum."""
        if node.min_pt_gev == 0:
            return torch.ones_like(s)
        p2 = kallen(s, s1, s2) / (4 * s)
        return (1 - node.min_pt_gev**2 / p2).clamp(min=0).sqrt()


def _inner(node: Decay) -> Iterator[Decay]:
    """The decays below a node, leaves first."""
    for part in (node.first, node.second):
        if isinstance(part, Decay):
            yield from _inner(part)
            yield part


def _leaves(part: Leaf | Decay) -> list[Leaf]:
    if isinstance(part, Leaf):
        return [part]
    return _leaves(part.first) + _leaves(part.second)


def _min_s_hat(root: Decay) -> float:
    def least(part: Leaf | Decay) -> float:
        if isinstance(part, Leaf):
            return part.mass_gev
        return max(part.min_mass_gev, least(part.first) + least(part.second))

    masses = (math.hypot(least(part), root.min_pt_gev) for part in (root.first, root.second))
    return max(root.min_mass_gev, sum(masses)) ** 2


def _log_two_body(s: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
    """ln of dPhi_2 / (dcos θ dφ) = lambda^(1/2)(s, s1, s2) / (32 pi² s)."""
    return 0.5 * kallen(s, s1, s2).log() - (32 * math.pi**2 * s).log()


def _two_body(s: Tensor, s1: Tensor, s2: Tensor, cos_theta: Tensor, phi: Tensor) -> Tensor:
    """The first momentum of a two-body decay at rest."""
    root_s = s.sqrt()
    energy = (s + s1 - s2) / (2 * root_s)
    p = kallen(s, s1, s2).clamp(min=0).sqrt() / (2 * root_s)
    p_t = p * ((1 - cos_theta) * (1 + cos_theta)).clamp(min=0).sqrt()
    return torch.stack([energy, p_t * phi.cos(), p_t * phi.sin(), p * cos_theta], dim=-1)


def _boost_along_beam(momenta: Tensor, y: Tensor) -> Tensor:
    """Add y (n,) to the rapidity of momenta (n, k, 4)."""
    cosh, sinh = y.cosh()[:, None], y.sinh()[:, None]
    energy = cosh * momenta[..., 0] + sinh * momenta[..., 3]
    pz = sinh * momenta[..., 0] + cosh * momenta[..., 3]
    return torch.stack([energy, momenta[..., 1], momenta[..., 2], pz], dim=-1)


def _rotate(momenta: Tensor, azimuth: Tensor) -> Tensor:
    """Turn momenta (n, k, 4) by an azimuth (n,) around the beam."""
    cos, sin = azimuth.cos()[:, None], azimuth.sin()[:, None]
    px = cos * momenta[..., 1] - sin * momenta[..., 2]
    py = sin * momenta[..., 1] + cos * momenta[..., 2]
    return torch.stack([momenta[..., 0], px, py, momenta[..., 3]], dim=-1)


def _mirror(momenta: Tensor, mirrored: Tensor) -> Tensor:
    """Turn by pi about the x axis where `mirrored` (n,)."""
    sign = torch.where(mirrored, -1.0, 1.0).to(momenta)[:, None]
    parts = (momenta[..., 0], momenta[..., 1], sign * momenta[..., 2], sign * momenta[..., 3])
    return torch.stack(parts, dim=-1)


def _to_laboratory(
    momenta: Tensor, azimuth: Tensor, y: Tensor, mirrored: Tensor, rapidity: float
) -> Tensor:
    """From the partonic rest frame, root decay in the x-z plane, to the laboratory."""
    momenta = _mirror(_boost_along_beam(_rotate(momenta, azimuth), y), mirrored)
    return _boost_along_beam(momenta, torch.full_like(y, rapidity)) if rapidity else momenta


def _from_laboratory(
    momenta: Tensor, first: tuple[int, ...], y: Tensor, rapidity: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Undo `_to_laboratory`; also the azimuth in [0, 2 pi) and which points were mirrored."""
    if rapidity:
        momenta = _boost_along_beam(momenta, torch.full_like(y, -rapidity))
    mirrored = momenta[:, 0, 3] < 0
    momenta = _boost_along_beam(_mirror(momenta, mirrored), -y)
    leading = momenta[:, first].sum(1)
    azimuth = torch.remainder(torch.atan2(leading[:, 2], leading[:, 1]), 2 * math.pi)
    return _rotate(momenta, -azimuth), azimuth, mirrored
