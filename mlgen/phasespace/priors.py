"""How the channels of a group share the integrand: f = sum over channels of prior_c f.

Any shares that add up to 1 are exact; good ones leave each channel what its own map describes.
With the densities g_c of the maps, prior_c = g_c / sum of g is the multi-channel method of Kleiss
and Pittau (hep-ph/9405257). Where there are many channels, the product of each one's propagators
takes the place of its density, as in the single-diagram enhancement of hep-ph/0208156.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.core import PhaseSpacePoints
from mlgen.phasespace.invariants import RangeMap
from mlgen.phasespace.tree import TreeMap


@dataclass(frozen=True, slots=True)
class Member:
    """One of the maps that a channel stands for: its own, or one with identical legs exchanged."""

    channel: int
    """The number of the channel within its group."""
    legs: tuple[int, ...]
    """Which external leg takes the place of each leg of the channel's own map."""


class Prior(ABC):
    """The shares of a group's channels."""

    @abstractmethod
    def __call__(self, points: PhaseSpacePoints, channel: Tensor) -> Tensor:
        """ln of the share of each point's own channel, a number within the group (n,): (n,).

        That of a channel with several members is multiplied by their number.
        """

    @property
    @abstractmethod
    def is_trivial(self) -> bool:
        """Whether there is one channel with one member: its share is 1 everywhere."""


class DensityPrior(Prior):
    """Shares in proportion to the densities of the maps."""

    def __init__(
        self, maps: Sequence[TreeMap], members: Sequence[Member], n_orientations: int
    ) -> None:
        """Take one map for each channel of the group, and all members."""
        self._maps, self._members, self._n_orientations = (
            tuple(maps),
            tuple(members),
            n_orientations,
        )

    @property
    def is_trivial(self) -> bool:
        return len(self._members) == 1

    def __call__(self, points: PhaseSpacePoints, channel: Tensor) -> Tensor:
        columns = []
        orientations = torch.full_like(channel, self._n_orientations)
        for member in self._members:
            momenta = points.momenta[:, list(member.legs)]
            seen = PhaseSpacePoints(
                momenta=momenta, x=points.x, channel=points.channel, log_jac=points.log_jac
            )
            columns.append(self._maps[member.channel].log_density(seen, orientations))
        densities = torch.stack(columns, dim=1)
        return _own_share(densities, channel, self._members)


@dataclass(frozen=True, slots=True)
class Peak:
    """One factor of a channel's shape."""

    legs: frozenset[int]
    """The final legs whose mass squared, or transverse mass squared, has the peak."""
    shape: RangeMap
    low: float
    high: float
    transverse: bool = False
    """Whether it is one in m² + pt² + offset, not in m²."""
    offset: float = 0.0
    """GeV²."""


class PropagatorPrior(Prior):
    """Shares in proportion to the product of the normalised shapes of each map's variables."""

    def __init__(
        self,
        peaks: Sequence[Sequence[Peak]],
        log_constants: Sequence[float],
        members: Sequence[Member],
    ) -> None:
        """Take, for each member, its peaks and ln of what its density has beside them."""
        distinct: dict[Peak, int] = {}
        for mine in peaks:
            for peak in mine:
                distinct.setdefault(peak, len(distinct))
        self._peaks = tuple(distinct)
        self._factors = torch.zeros(len(distinct), len(members), dtype=torch.float64)
        for member, mine in enumerate(peaks):
            for peak in mine:
                self._factors[distinct[peak], member] += 1
        self._constants = torch.tensor(log_constants, dtype=torch.float64)
        self._members = tuple(members)

    @property
    def is_trivial(self) -> bool:
        return len(self._members) == 1

    def __call__(self, points: PhaseSpacePoints, channel: Tensor) -> Tensor:
        momenta = points.momenta.permute(2, 1, 0).contiguous()
        sums: dict[frozenset[int], tuple[Tensor, Tensor]] = {}
        rows = [_log_peak(peak, momenta, sums) for peak in self._peaks]
        shapes = torch.stack(rows, dim=1) @ self._factors.to(momenta.device)
        return _own_share(shapes + self._constants.to(momenta.device), channel, self._members)


def _log_peak(
    peak: Peak, momenta: Tensor, sums: dict[frozenset[int], tuple[Tensor, Tensor]]
) -> Tensor:
    """ln of the normalised shape of a peak at the momenta (4, n_ext, n): (n,)."""
    if peak.legs not in sums:
        energy, px, py, pz = momenta[:, sorted(peak.legs)].sum(1)
        pt2 = px * px + py * py
        sums[peak.legs] = energy * energy - pz * pz - pt2, pt2
    s, pt2 = sums[peak.legs]
    value = s + pt2 + peak.offset if peak.transverse else s
    low = torch.full_like(value, peak.low)
    high = torch.full_like(value, peak.high)
    return peak.shape.inverse(value.clamp(peak.low, peak.high), low, high)[1]


def _own_share(log_shapes: Tensor, channel: Tensor, members: Sequence[Member]) -> Tensor:
    """ln of (n_members g / sum of g) of each point's channel, from ln g (n, n_members).

    The first member of a channel is its own map.
    """
    of_channel = [member.channel for member in members]
    n_channels = max(of_channel) + 1
    first = torch.tensor([of_channel.index(c) for c in range(n_channels)], device=channel.device)
    count = [math.log(of_channel.count(c)) for c in range(n_channels)]
    own = log_shapes.gather(1, first[channel][:, None])[:, 0]
    return own - log_shapes.logsumexp(1) + log_shapes.new_tensor(count)[channel]


def leg_places(n_ext: int, exchanged: Mapping[int, int]) -> tuple[int, ...]:
    """Which leg stands in the place of each one, for all external legs."""
    return tuple(exchanged.get(leg, leg) for leg in range(n_ext))
