"""What the particles before a jet say of where it goes: directions that it may follow, and jets near it.

Jets are often close to others, which they were radiated by (and not closer than the radius that they were
clustered with), or balance the transverse momentum of all others. Networks learn such differences and
sums of azimuths slowly from azimuths; here they are computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.radiation.conditionals import UNBOUNDED, Gaps
from mlgen.radiation.representation import ETA, LOG_M2, LOG_PT, PHI, Scales

N_SIZES = 3
N_DIRECTIONS = 5
N_CENTRES = 4
N_BALANCE = 3
N_NEIGHBOUR = 6
NEAR = 8.0
"""exp[8 (cos phi - 1)] is a peak of width 0.35, about the radius of a jet."""
MAX_EXPONENT = 15.0
"""Of transverse momenta in ln GeV; only untrained networks draw larger ones."""
LEAST_ABOVE = 0.05
"""Of pt_min: how far above it a transverse momentum counts as at least."""


class Past(NamedTuple):
    """The particles before a jet."""

    columns: Tensor
    """(n, n_rows, 4), of `Representation`."""
    n_seen: Tensor
    """(n,): so many rows, the hard object the first of them, come before the jet; others do not count."""

    @classmethod
    def all_of(cls, columns: Tensor) -> Past:
        """All rows of columns (n, n_rows, 4)."""
        return cls(columns, torch.full(columns.shape[:1], columns.shape[1], device=columns.device))

    @property
    def is_jet(self) -> Tensor:
        """Which rows are jets before the jet: bool (n, n_rows)."""
        row = torch.arange(self.columns.shape[1], device=self.columns.device)
        return (row > 0) & (row < self.n_seen[:, None])

    def jet(self, number: Tensor, column: int) -> Tensor:
        """A column of jet `number` (n,), counted from 1; where there is no such jet, that of one that is or of the hard object."""
        row = torch.minimum(number.clamp(min=0), self.n_seen - 1)
        return self.columns[..., column].gather(1, row[:, None])[:, 0]


def transverse_sums(columns: Tensor, scales: Tensor) -> Tensor:
    """Sums of transverse momenta up to each particle, along the hard object and across, GeV: (n, n_rows, 2).

    Args:
        columns: (n, n_rows, 4).
        scales: (9,), `Representation.scales`.
    """
    of = Scales(*scales)
    log_pt = columns[..., LOG_PT]
    hard = _hard_pt(columns, scales)[:, None]
    jets = of.pt_min + (of.mean + of.std * log_pt[:, 1:]).clamp(max=MAX_EXPONENT).exp()
    pt, azimuth = torch.cat([hard, jets], dim=1), columns[..., PHI]
    return torch.stack([pt * azimuth.cos(), pt * azimuth.sin()], dim=-1).cumsum(1)


def balance(sums: Tensor) -> Tensor:
    """Numbers of order 1 for `transverse_sums` (..., 2): (..., N_BALANCE)."""
    size = 1 + sums.norm(dim=-1, keepdim=True)
    return torch.cat([size.log() - 3, sums / size], dim=-1)


def sizes(past: Past, scales: Tensor) -> Tensor:
    """Columns LOG_PT that jets are near to, or end at: (n, N_SIZES).

    0, that of a jet which balances all, and that of the transverse mass of the hard object, where showers begin.
    """
    of = Scales(*scales)
    log_m2 = (of.mass_mean + of.mass_std * past.columns[:, 0, LOG_M2]).clamp(max=2 * MAX_EXPONENT)
    transverse_mass = torch.hypot(_hard_pt(past.columns, scales), (0.5 * log_m2).exp())
    found = torch.stack([_imbalance(past, scales).norm(dim=-1), transverse_mass], dim=-1)
    columns = ((found - of.pt_min).clamp(min=LEAST_ABOVE * of.pt_min).log() - of.mean) / of.std
    return torch.cat([torch.zeros_like(columns[:, :1]), columns], dim=-1)


def upper_ends(past: Past, sizes: Tensor) -> Tensor:
    """What densities of column LOG_PT stay below, of components near each of sizes (n, N_SIZES): (n, N_SIZES).

    That of the jet before, since jets come in falling pt; the last ones, too, that of the hard object's
    transverse mass, where showers may begin abruptly.
    """
    before = torch.where(past.n_seen > 1, past.jet(past.n_seen - 1, LOG_PT), UNBOUNDED)[:, None]
    return torch.cat([before, before, torch.minimum(before, sizes[:, 2:].to(before.dtype))], dim=-1)


def directions(past: Past, scales: Tensor) -> Tensor:
    """Azimuths that jets follow: (n, N_DIRECTIONS).

    Of the hard object, the jet before, what balances all, the first jet, and the jet before the one before.
    """
    x, y = _imbalance(past, scales).unbind(-1)
    last = past.n_seen - 1
    jets = [past.jet(number, PHI) for number in (last, torch.ones_like(last), last - 1)]
    return torch.stack([torch.zeros_like(x), jets[0], torch.atan2(-y, -x), *jets[1:]], dim=-1)


def centres(past: Past, azimuth: Tensor) -> Tensor:
    """Columns ETA that jets at azimuths (n,) are near to: (n, N_CENTRES).

    0, and those of the two jets nearest in azimuth, the first of them twice; 0 where there are none.
    """
    order, is_jet = _nearest(past, azimuth)
    found = past.columns[..., ETA].gather(1, order)
    found = torch.where(is_jet, found, 0.0)
    # With one jet the second nearest is none.
    first, second = found[:, 0], found[:, -1]
    return torch.stack([torch.zeros_like(first), first, second, first], dim=-1)


def gaps(past: Past, azimuth: Tensor, scales: Tensor, log_kept: Tensor) -> Gaps:
    """Columns ETA at which a jet at azimuths (n,) would be within the radius of the two jets nearest in azimuth.

    Args:
        log_kept: (), see `Gaps`.
    """
    of = Scales(*scales)
    order, is_jet = _nearest(past, azimuth)
    middle = past.columns[..., ETA].gather(1, order)
    apart = past.columns[..., PHI].gather(1, order) - azimuth[:, None]
    apart = torch.remainder(apart + math.pi, 2 * math.pi) - math.pi
    half = (of.radius**2 - apart.square()).clamp(min=0).sqrt().masked_fill(
        ~is_jet, 0.0
    ) / of.eta_std
    return Gaps(middle - half, middle + half, log_kept)


def neighbours(past: Past, before: Sequence[Tensor]) -> Tensor:
    """Each earlier particle as a jet sees it, of which its first two or three columns are known.

    Args:
        before: columns of the jet, each (n,).
    Returns:
        (n, n_rows, N_NEIGHBOUR): both ln pt, the difference of azimuths three times, and of ETA, or, where
        that is not known yet, the other's own.
    """
    columns = past.columns
    difference = columns[..., PHI] - before[PHI][:, None]
    log_pt, other_eta = columns[..., LOG_PT], columns[..., ETA]
    eta = other_eta - before[ETA][:, None] if len(before) > ETA else other_eta
    near = (NEAR * (difference.cos() - 1)).exp()
    own = before[LOG_PT][:, None].expand_as(log_pt)
    return torch.stack([log_pt, own, difference.cos(), difference.sin(), near, eta], dim=-1)


def _imbalance(past: Past, scales: Tensor) -> Tensor:
    """The sum of transverse momenta of all particles so far, GeV: (n, 2)."""
    sums = transverse_sums(past.columns, scales)
    return sums[torch.arange(len(sums), device=sums.device), past.n_seen - 1]


def _nearest(past: Past, azimuth: Tensor) -> tuple[Tensor, Tensor]:
    """The two rows nearest to azimuths (n,), (n, 2) or (n, 1), and which of them are jets."""
    difference = past.columns[..., PHI] - azimuth[:, None]
    closeness = difference.cos().masked_fill(~past.is_jet, -math.inf)
    order = closeness.argsort(1, descending=True)[:, :2]
    return order, past.is_jet.gather(1, order)


def _hard_pt(columns: Tensor, scales: Tensor) -> Tensor:
    """Of the hard object, GeV: (n,)."""
    of = Scales(*scales)
    return (of.hard_mean + of.hard_std * columns[:, 0, LOG_PT]).clamp(max=MAX_EXPONENT).exp()
