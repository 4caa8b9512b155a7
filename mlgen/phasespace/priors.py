"""How the channels of a group share the integrand: f = sum over channels of prior_c f.

Any shares that add up to 1 are exact; good ones leave each channel what its own map describes.
With the densities g_c of the maps, prior_c = g_c / sum of g is the multi-channel method of Kleiss
and Pittau (hep-ph/9405257). Where there are many channels, the product of each one's propagators
takes the place of its density, as in the single-diagram enhancement of hep-ph/0208156.
"""

from __future__ import annotations

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

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
    """The shares of the channels of some groups; 1 in all other groups, and where there is one member."""

    def __init__(self, members: Sequence[Sequence[Member]]) -> None:
        """Take the members of each group, none for those of others."""
        self._members = [mine if len(mine) > 1 else () for mine in members]
        n_columns = max(map(len, self._members))
        self.n_channels = max((m.channel + 1 for mine in self._members for m in mine), default=1)
        """Of the group that has most."""
        self._first = torch.zeros(len(members), self.n_channels, dtype=torch.int64)
        self._log_count = torch.zeros(len(members), self.n_channels, dtype=torch.float64)
        self._channel_of_column = torch.zeros(len(members), n_columns, dtype=torch.int64)
        self._absent = torch.ones(len(members), n_columns, dtype=torch.bool)
        for group, mine in enumerate(self._members):
            self._absent[group, : len(mine)] = False
            of_channel = [member.channel for member in mine]
            self._channel_of_column[group, : len(mine)] = torch.tensor(of_channel).long()
            for channel in set(of_channel):
                self._first[group, channel] = of_channel.index(channel)
                self._log_count[group, channel] = math.log(of_channel.count(channel))

    def __call__(self, points: PhaseSpacePoints, group: Tensor, channel: Tensor) -> Tensor:
        """ln of (n_members g / sum of g) of each point's own channel: (n,).

        Args:
            group: (n,), of each point.
            channel: (n,), its number within the group.
        """
        result = torch.zeros_like(points.log_jac)
        at = self.applies_to(group)
        if len(at):
            log_shares = self._log_shares(points.select(at), group[at])
            result[at] = self._own(log_shares, group[at], channel[at])
        return result

    def of_all(
        self, points: PhaseSpacePoints, group: Tensor, channel: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same, and ln of what all members of each channel of the group have together.

        Args:
            points: n that the prior applies to.

        Returns:
            own: (n,).
            together: (n, n_channels), whose exponentials add up to 1; -inf where a group has fewer channels.
        """
        log_shares = self._log_shares(points, group)
        together = log_shares.new_zeros((len(points), self.n_channels))
        column = self._channel_of_column.to(group.device)[group]
        together = together.scatter_add(1, column, log_shares.exp())
        return self._own(log_shares, group, channel), together.log()

    def without(self, absent: Tensor) -> Self:
        """The same, with shares of 0 for channels that are absent: bool (n_groups, at least n_channels)."""
        fewer = copy.copy(self)
        fewer._absent = self._absent | absent.gather(1, self._channel_of_column)
        return fewer

    def applies_to(self, group: Tensor) -> Tensor:
        """Which of the points, whose groups are given (n,), are of its groups: an index."""
        return (~self._absent.to(group.device)[group]).any(1).nonzero()[:, 0]

    def _log_shares(self, points: PhaseSpacePoints, group: Tensor) -> Tensor:
        """ln of (g / sum of g) of each member: (n, n_columns)."""
        log_shapes = self._log_shapes(points, group)
        log_shapes = log_shapes.masked_fill(self._absent.to(group.device)[group], -math.inf)
        return log_shapes - log_shapes.logsumexp(1, keepdim=True)

    def _own(self, log_shares: Tensor, group: Tensor, channel: Tensor) -> Tensor:
        # The first member of a channel is its own map.
        first = self._first.to(group.device)[group, channel]
        own = log_shares.gather(1, first[:, None])[:, 0]
        return own + self._log_count.to(group.device)[group, channel]

    @abstractmethod
    def _log_shapes(self, points: PhaseSpacePoints, group: Tensor) -> Tensor:
        """ln g of each member of each point's group, up to a number for each point: (n, n_columns)."""

    def _columns(self, kinds: Sequence[tuple[int, int]]) -> Tensor:
        """Of (group, column) pairs: the column for each group, -1 for groups without."""
        columns = torch.full((len(self._members),), -1)
        for group, column in kinds:
            columns[group] = column
        return columns


class DensityPrior(Prior):
    """Shares in proportion to the densities of the maps."""

    def __init__(
        self,
        maps: Sequence[Sequence[TreeMap]],
        members: Sequence[Sequence[Member]],
        n_orientations: Sequence[int],
    ) -> None:
        """Take, for each group, one map for each of its channels, and all members."""
        super().__init__(members)
        self._n_orientations = torch.tensor(n_orientations)
        places: dict[tuple[TreeMap, tuple[int, ...]], list[tuple[int, int]]] = {}
        for group, mine in enumerate(self._members):
            for column, member in enumerate(mine):
                kind = maps[group][member.channel], member.legs
                places.setdefault(kind, []).append((group, column))
        self._kinds = [(kind, self._columns(where)) for kind, where in places.items()]

    def without(self, absent: Tensor) -> Self:
        fewer = super().without(absent)
        kinds = []
        for kind, columns in self._kinds:
            is_absent = fewer._absent.gather(1, columns.clamp(min=0)[:, None])[:, 0]
            kinds.append((kind, columns.masked_fill(is_absent, -1)))
        # What is not asked for is not computed.
        fewer._kinds = kinds
        return fewer

    def _log_shapes(self, points: PhaseSpacePoints, group: Tensor) -> Tensor:
        shape = (len(group), self._absent.shape[1])
        result = points.log_jac.new_full(shape, -math.inf)
        orientations = self._n_orientations.to(group.device)[group]
        for (tree_map, legs), columns in self._kinds:
            column = columns.to(group.device)[group]
            at = (column >= 0).nonzero()[:, 0]
            if len(at) == 0:
                continue
            mine = points if len(at) == len(group) else points.select(at)
            if legs != tuple(range(len(legs))):
                mine = replace(mine, momenta=mine.momenta[:, list(legs)])
            result[at, column[at]] = tree_map.log_density(mine, orientations[at])
        return result


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
        peaks: Sequence[Sequence[Sequence[Peak]]],
        log_constants: Sequence[Sequence[float]],
        members: Sequence[Sequence[Member]],
    ) -> None:
        """Take, for each group and member, its peaks and ln of what its density has beside them."""
        super().__init__(members)
        distinct: dict[Peak, int] = {}
        for peak in itertools.chain(*itertools.chain(*peaks)):
            distinct.setdefault(peak, len(distinct))
        self._peaks = tuple(distinct)
        n_columns = self._absent.shape[1]
        self._factors = torch.zeros(len(members), n_columns, len(distinct), dtype=torch.float64)
        self._constants = torch.zeros(len(members), n_columns, dtype=torch.float64)
        for group, mine in enumerate(self._members):
            for column in range(len(mine)):
                self._constants[group, column] = log_constants[group][column]
                for peak in peaks[group][column]:
                    self._factors[group, column, distinct[peak]] += 1

    def _log_shapes(self, points: PhaseSpacePoints, group: Tensor) -> Tensor:
        momenta = points.momenta.permute(2, 1, 0).contiguous()
        sums: dict[frozenset[int], tuple[Tensor, Tensor]] = {}
        rows = torch.stack([_log_peak(peak, momenta, sums) for peak in self._peaks], dim=1)
        result = self._constants.to(rows.device)[group]
        found = torch.unique(group).tolist()
        for index in found:
            at = (group == index).nonzero()[:, 0] if len(found) > 1 else slice(None)
            result[at] += rows[at] @ self._factors[index].T.to(rows.device)
        return result


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
    low, high = value.new_tensor(peak.low), value.new_tensor(peak.high)
    log_jac = peak.shape.inverse(value.clamp(peak.low, peak.high), low, high)[1]
    return log_jac.expand_as(value)  # that of a uniform shape is one number


def leg_places(n_ext: int, exchanged: Mapping[int, int]) -> tuple[int, ...]:
    """Which leg stands in the place of each one, for all external legs."""
    return tuple(exchanged.get(leg, leg) for leg in range(n_ext))
