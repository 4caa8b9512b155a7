"""Flat phase space for any final state: RAMBO on diet, arXiv:1308.2922.

The legs leave one by one, Q_1 -> p_1 + Q_2, Q_2 -> p_2 + Q_3, ..., isotropically in the rest frame
of Q_i. With K_i the kinetic energy left in Q_i at rest, its mass less those of its legs,
w = (K_(i+1) / K_i)² is drawn from the beta distribution that makes massless phase space flat; for
massive legs the weight makes up for the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.core import Channel, PhaseSpace, PhaseSpacePoints, SubprocessGroup
from mlgen.errors import CardError
from mlgen.phasespace.invariants import PowerLaw, RangeMap, Uniform
from mlgen.physics.model import Model

_TINY = 1e-30
"""How far from 0 and 1 numbers are kept, and kinetic energies in GeV from 0: else 0 / 0 at the faces."""


class RamboPhaseSpace(PhaseSpace):
    """One channel for each group, all with the same map up to the masses of their legs.

    Columns of r: for hadron beams s_hat and the rapidity of the partonic system; the ratios of
    kinetic energies; cos θ and azimuth of each leg that leaves, the first without its azimuth; last
    the one flat column, which holds that azimuth and the orientation of the event.
    """

    n_flat = 1

    def __init__(
        self,
        channels: Sequence[Channel],
        masses_gev: Sequence[Sequence[float]],
        n_orientations: Sequence[int],
        *,
        energies_gev: tuple[float, float],
        hadronic: bool,
        min_mass_gev: float = 0.0,
    ) -> None:
        """The masses of the final legs and the number of orientations of each channel.

        Args:
            energies_gev: of the two beams, massless and head on.
            hadronic: whether momentum fractions are to be drawn.
            min_mass_gev: a lower bound on sqrt(s_hat), where they are.

        Raises:
            ValueError: the channels differ in their number of legs, or the beams have too little energy.
        """
        self.channels = tuple(channels)
        self._s = 4 * energies_gev[0] * energies_gev[1]
        self._rapidity = 0.5 * math.log(energies_gev[0] / energies_gev[1])
        self._hadronic = hadronic
        self._masses = torch.tensor(masses_gev, dtype=torch.float64).T.contiguous()
        self._n_orientations = torch.tensor(n_orientations)
        self._min_s = self._masses.sum(0).clamp(min=min_mass_gev if hadronic else 0.0).square()
        if bool((self._min_s >= self._s).any()):
            raise ValueError("the final state needs more energy than the beams have")
        # A power law needs a lower end above zero.
        has_threshold = bool((self._min_s > 0).all())
        self._invariant: RangeMap = PowerLaw(1.5) if has_threshold else Uniform()
        self._n_final = len(self._masses)
        self.n_dim = 3 * self._n_final - 5 + (2 if hadronic else 0)

    def forward(self, r: Tensor, channel: Tensor) -> PhaseSpacePoints:
        columns = list(r.T.contiguous().unbind(0))
        x, log_jac = self._draw_fractions(columns, channel)
        root_s = (self._s * x.prod(0)).sqrt()
        legs, jacobian = _from_unit_cube(columns[:-1], root_s, self._masses.to(r)[:, channel])
        n_orientations = self._n_orientations.to(r)[channel]
        turn = columns[-1] * n_orientations
        copy = torch.minimum(turn.floor(), n_orientations - 1)
        sign = 1 - 2 * copy
        px, py, pz = _rotate(legs, 2 * math.pi * (turn - copy)).unbind(1)
        # The mirrored event is the same one turned by pi about the x axis.
        y = self._rapidity + sign * 0.5 * (x[0] / x[1]).log()
        masses_squared = self._masses.to(r)[:, channel].square()
        legs = torch.stack([px, sign * py, _boosted_pz(px, py, sign * pz, masses_squared, y)])
        energy = (legs.square().sum(0) + masses_squared).sqrt()
        beams = 0.5 * root_s * torch.stack([(sign * y).exp(), (-sign * y).exp()])
        zero = torch.zeros_like(beams)
        incoming = torch.stack([beams, zero, zero, torch.stack([sign, -sign]) * beams])
        momenta = torch.cat([incoming, torch.cat([energy[None], legs])], dim=1)
        return PhaseSpacePoints(
            momenta=momenta.permute(2, 1, 0).contiguous(),
            x=x.T.contiguous(),
            channel=channel,
            log_jac=log_jac + (jacobian * n_orientations).log(),
        )

    def inverse(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        _, px, py, pz = points.momenta.permute(2, 1, 0).contiguous().unbind(0)
        x = points.x.T
        masses = self._masses.to(px)[:, points.channel]
        sign = torch.where(pz[0] < 0, -1.0, 1.0).to(pz)
        y = self._rapidity + sign * 0.5 * (x[0] / x[1]).log()
        px, py, pz = px[2:], py[2:], pz[2:]
        pz = _boosted_pz(px, py, pz, masses.square(), -y)
        legs = torch.stack([px, sign * py, sign * pz], dim=1)
        azimuth = torch.remainder(torch.atan2(legs[0, 1], legs[0, 0]), 2 * math.pi)
        n_orientations = self._n_orientations.to(px)[points.channel]
        turn = (azimuth / (2 * math.pi) + 0.5 * (1 - sign)) / n_orientations
        root_s = (self._s * x.prod(0)).sqrt()
        columns, jacobian = _to_unit_cube(_rotate(legs, -azimuth), root_s, masses)
        fractions, log_jac = self._find_fractions(x, points.channel)
        r = torch.stack([*fractions, *columns, turn], dim=1)
        return r, log_jac - (jacobian * n_orientations).log()

    def log_prior(self, points: PhaseSpacePoints) -> Tensor:
        return torch.zeros_like(points.log_jac)

    @property
    def n_shares(self) -> int:
        return 1

    def log_shares(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        own = torch.zeros_like(points.log_jac)
        return own, own[:, None]

    def without(self, channels: Sequence[int]) -> PhaseSpace:
        if channels:
            raise ValueError(
                f"without {list(channels)}: expected no channel, a group has one alone"
            )
        return self

    def _draw_fractions(self, columns: list[Tensor], channel: Tensor) -> tuple[Tensor, Tensor]:
        """x (2, n) from the first columns, which are taken off the list, and ln |dx1 dx2 / dr|."""
        if not self._hadronic:
            one = torch.ones_like(columns[0])
            return torch.stack([one, one]), torch.zeros_like(one)
        low = self._min_s.to(columns[0])[channel]
        high = torch.full_like(low, self._s)
        s_hat, log_jac = self._invariant.forward(columns.pop(0).clamp(min=_TINY), low, high)
        y_max = 0.5 * (self._s / s_hat).log()
        y = (2 * columns.pop(0) - 1) * y_max
        x = (s_hat / self._s).sqrt() * torch.stack([y.exp(), (-y).exp()])
        # Rounding may exceed 1.
        return x.clamp(max=1), log_jac + (2 * y_max / self._s).log()

    def _find_fractions(self, x: Tensor, channel: Tensor) -> tuple[list[Tensor], Tensor]:
        """The columns that x (2, n) stands for, and ln |dr / dx1 dx2|."""
        if not self._hadronic:
            return [], torch.zeros_like(x[0])
        s_hat = self._s * x.prod(0)
        low = self._min_s.to(x)[channel]
        r, log_jac = self._invariant.inverse(s_hat, low, torch.full_like(low, self._s))
        y_max = 0.5 * (self._s / s_hat).log()
        y = 0.5 * (x[0] / x[1]).log()
        return [r, (y / y_max + 1) / 2], log_jac - (2 * y_max / self._s).log()


def build_rambo(
    groups: Sequence[SubprocessGroup],
    model: Model,
    energies_gev: tuple[float, float],
    hadronic: bool,
    min_mass_gev: float = 0.0,
) -> RamboPhaseSpace:
    """One channel for each group.

    Args:
        energies_gev: of the two beams, massless and head on.
        hadronic: whether momentum fractions are to be drawn.
        min_mass_gev: a lower bound on sqrt(s_hat) from cuts, where they are.

    Raises:
        CardError: the beams have too little energy for a final state.
    """
    masses = [[model.mass_gev(pdg_id) for pdg_id in group.pdg_ids[0][2:]] for group in groups]
    try:
        return RamboPhaseSpace(
            [Channel(group=index, topology="flat") for index in range(len(groups))],
            masses,
            [group.n_orientations for group in groups],
            energies_gev=energies_gev,
            hadronic=hadronic,
            min_mass_gev=min_mass_gev,
        )
    except ValueError as error:
        heaviest = max(range(len(groups)), key=lambda index: sum(masses[index]))
        raise CardError(
            f"beams.energies_gev = {list(energies_gev)}: expected enough energy in GeV for "
            f"{groups[heaviest].name} inside the cuts"
        ) from error


class _Split(NamedTuple):
    """How the kinetic energy of Q_i, at rest, is shared: what stays in Q_(i+1), and what it costs."""

    kept: Tensor
    """u = K_(i+1) / K_i, (n,)."""
    lost: Tensor
    """1 - u, (n,), with all its digits."""
    jacobian: Tensor
    """du / dr, (n,)."""


def _from_unit_cube(
    columns: Sequence[Tensor], root_s: Tensor, masses: Tensor
) -> tuple[Tensor, Tensor]:
    """Momenta at rest, the first in the x-z plane, from the columns between s_hat's and the flat one.

    Args:
        columns: 3 n_final - 5 of them, (n,).
        root_s: (n,), GeV.
        masses: (n_final, n), GeV.

    Returns:
        legs: (n_final, 3, n), (px, py, pz) in GeV.
        jacobian: |dPhi_n / dr|, (n,), with the flat azimuth.
    """
    n_final = len(masses)
    ratios, angles = columns[: n_final - 2], columns[n_final - 2 :]
    rest = _sums_from(masses)
    mass, kinetic = root_s, (root_s - rest[0]).clamp(min=_TINY)
    frame = torch.zeros_like(root_s).expand(3, -1)
    jacobian = torch.ones_like(root_s)
    legs = []
    for i in range(n_final - 1):
        split = _draw_split(ratios[i], n_final - 2 - i) if i < n_final - 2 else None
        released = kinetic * split.lost if split else kinetic
        next_mass = rest[i + 1] + (kinetic * split.kept if split else 0)
        momentum = _two_body_momentum(mass, released, masses[i], next_mass)
        jacobian = jacobian * _step_jacobian(momentum, mass, kinetic, next_mass, split)
        azimuth = 2 * math.pi * angles[2 * i] if i else torch.zeros_like(momentum)
        leg = momentum * _direction(2 * angles[2 * i - 1 if i else 0] - 1, azimuth)
        if i:
            leg = _boost(leg, masses[i], frame, mass)
        legs.append(leg)
        frame = frame - leg
        if split:
            mass, kinetic = next_mass, kinetic * split.kept
    return torch.stack([*legs, frame]), jacobian


def _to_unit_cube(legs: Tensor, root_s: Tensor, masses: Tensor) -> tuple[list[Tensor], Tensor]:
    """The inverse of `_from_unit_cube`: its columns, and |dPhi_n / dr|."""
    n_final = len(masses)
    ratios: list[Tensor] = []
    angles: list[Tensor] = []
    rest, frames = _sums_from(masses), _sums_from(legs)
    mass, kinetic = root_s, root_s - rest[0]
    jacobian = torch.ones_like(root_s)
    for i in range(n_final - 1):
        leg = _boost(legs[i], masses[i], -frames[i], mass) if i else legs[i]
        momentum = leg.square().sum(0).sqrt()
        angles.append((leg[2] / momentum + 1) / 2)
        if i:
            azimuth = torch.atan2(leg[1], leg[0]) / (2 * math.pi)
            angles.append(torch.remainder(azimuth, 1))
        split, next_mass = None, rest[i + 1]
        if i < n_final - 2:
            released = _released(mass, momentum, masses[i], rest[i + 1])
            r, split = _find_split(released / kinetic, n_final - 2 - i)
            ratios.append(r)
            next_mass = rest[i + 1] + kinetic * split.kept
        jacobian = jacobian * _step_jacobian(momentum, mass, kinetic, next_mass, split)
        if split:
            mass, kinetic = next_mass, kinetic * split.kept
    return [*ratios, *angles], jacobian


def _step_jacobian(
    momentum: Tensor, mass: Tensor, kinetic: Tensor, next_mass: Tensor, split: _Split | None
) -> Tensor:
    """dPhi_2 of one step over its isotropic angles, with dM² / (2 pi) of the system that it leaves."""
    two_body = momentum / (4 * math.pi * mass)
    if split is None:
        return two_body
    return two_body * next_mass * kinetic * split.jacobian / math.pi


def _draw_split(r: Tensor, k: int) -> _Split:
    """u at r, where w = u² solves r = w^k (1 + k v) with v = 1 - w and k + 1 legs in Q_(i+1).

    That is solved for w where r < 1/2, and 1 - r = v² (1 + 2 w + ... + k w^(k-1)) for v elsewhere,
    so that neither loses digits. From a first guess that is right within a fifth, Halley's method
    leaves a relative error of 1e-3, then 1e-9, and a last step of Newton's, which also carries the
    derivative, 1e-15; up to k = 8.
    """
    low = r < 0.5
    target = torch.where(low, r, 1 - r).clamp(min=_TINY)
    with torch.no_grad():
        solution = _first_guess(target, low, k)
        for _ in range(2):
            value, slope, curvature = _cumulative(solution, low, k)
            step = (value - target) / slope
            solution = solution - step / (1 - 0.5 * step * curvature)
    value, slope, _ = _cumulative(solution, low, k)
    solution = solution - (value - target) / slope
    w = torch.where(low, solution, 1 - solution)
    v = torch.where(low, 1 - solution, solution)
    u = w.sqrt()
    return _Split(kept=u, lost=v / (1 + u), jacobian=_slope(u, v, k))


def _find_split(lost: Tensor, k: int) -> tuple[Tensor, _Split]:
    """r at 1 - u, the inverse of `_draw_split`, and the split itself."""
    # Rounding may leave the range.
    lost = lost.clamp(_TINY, 1 - _TINY**0.5)
    u = 1 - lost
    v = lost * (1 + u)
    low = v > 0.5
    value = _cumulative(torch.where(low, u.square(), v), low, k)[0]
    r = torch.where(low, value, 1 - value)
    return r, _Split(kept=u, lost=lost, jacobian=_slope(u, v, k))


def _slope(u: Tensor, v: Tensor, k: int) -> Tensor:
    """du / dr."""
    return 1 / (2 * k * (k + 1) * u ** (2 * k - 1) * v)


def _first_guess(target: Tensor, low: Tensor, k: int) -> Tensor:
    """w or v from the first terms of the series that solves its equation."""
    z = (target / (k + 1)) ** (1 / k)
    h = (2 * target / (k * (k + 1))).sqrt()
    from_below = z * (1 + z / (k + 1) + z.square() * (k + 3) / (2 * (k + 1) ** 2))
    return torch.where(low, from_below, h * (1 + h * (k - 1) / 3))


def _cumulative(solution: Tensor, low: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """r at w where `low`, else 1 - r at v; its derivative, and the second one over the first."""
    other = 1 - solution
    w, v = torch.where(low, solution, other), torch.where(low, other, solution)
    series = torch.full_like(w, k)
    for coefficient in range(k - 1, 0, -1):
        series = series * w + coefficient
    power = w ** (k - 1)
    value = torch.where(low, power * w * (1 + k * v), v.square() * series)
    slope = k * (k + 1) * power * v
    curvature = torch.where(low, (k - 1) / w - 1 / v, 1 / v - (k - 1) / w)
    return value, slope, curvature


def _two_body_momentum(mass: Tensor, released: Tensor, m1: Tensor, m2: Tensor) -> Tensor:
    """The momentum in a decay at rest that sets free `released` = mass - m1 - m2, without cancellations."""
    product = released * (released + 2 * m1) * (released + 2 * m2) * (released + 2 * (m1 + m2))
    return product.sqrt() / (2 * mass)


def _released(mass: Tensor, momentum: Tensor, m1: Tensor, min_m2: Tensor) -> Tensor:
    """mass - m1 - m2, the kinetic energies in a decay at rest to m1 and an m2 that follows."""
    e1 = (momentum.square() + m1.square()).sqrt()
    e2 = mass - e1
    m2 = torch.maximum((e2 - momentum) * (e2 + momentum), min_m2.square()).sqrt()
    return momentum * (momentum / (e1 + m1) + momentum / (e2 + m2))


def _sums_from(terms: Tensor) -> Tensor:
    """At each place of the first axis the sum of what stands there and after."""
    return terms.flip(0).cumsum(0).flip(0)


def _direction(cos_theta: Tensor, azimuth: Tensor) -> Tensor:
    """Unit vectors, (3, n)."""
    sin_theta = ((1 - cos_theta) * (1 + cos_theta)).clamp(min=0).sqrt()
    return torch.stack([sin_theta * azimuth.cos(), sin_theta * azimuth.sin(), cos_theta])


def _boost(leg: Tensor, leg_mass: Tensor, frame: Tensor, mass: Tensor) -> Tensor:
    """From the rest frame of a system to where it has the momentum `frame`; all momenta (3, n)."""
    energy = (leg.square().sum(0) + leg_mass.square()).sqrt()
    frame_energy = (frame.square().sum(0) + mass.square()).sqrt()
    along = (leg * frame).sum(0)
    return leg + (energy + along / (frame_energy + mass)) / mass * frame


def _rotate(legs: Tensor, azimuth: Tensor) -> Tensor:
    """Turn momenta (n_final, 3, n) by an azimuth (n,) around the beam."""
    px, py, pz = legs.unbind(1)
    cos, sin = azimuth.cos(), azimuth.sin()
    return torch.stack([cos * px - sin * py, sin * px + cos * py, pz], dim=1)


def _boosted_pz(px: Tensor, py: Tensor, pz: Tensor, mass_squared: Tensor, y: Tensor) -> Tensor:
    """pz after y is added to the rapidity; from E + pz and E - pz, each with all its digits."""
    m_t2 = px.square() + py.square() + mass_squared
    larger = (pz.square() + m_t2).sqrt() + pz.abs()
    smaller = m_t2 / larger.clamp(min=1e-300)
    forward = pz > 0
    plus = torch.where(forward, larger, smaller)
    minus = torch.where(forward, smaller, larger)
    return 0.5 * (plus * y.exp() - minus * (-y).exp())
