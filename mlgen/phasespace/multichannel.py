"""The phase space of a process: the maps of all its channels in one."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from mlgen.core import Channel, PhaseSpace, PhaseSpacePoints
from mlgen.phasespace.priors import Prior
from mlgen.phasespace.tree import TreeMap


class MultiChannel(PhaseSpace):
    """Channels with a map each, and for each group what shares the integrand among them.

    Channels with the same map, as those of groups that differ in flavour only, share one batched
    pass.
    """

    n_flat = 1

    def __init__(
        self,
        channels: Sequence[Channel],
        maps: Sequence[TreeMap],
        n_orientations: Sequence[int],
        priors: Sequence[Prior],
    ) -> None:
        """Join the maps of channels, (n_channels,) each, and what shares the integrand among them.

        Args:
            channels: those of a group next to each other.
            n_orientations: of each channel.
            priors: each for some of the groups.

        Raises:
            ValueError: the maps differ in their number of dimensions.
        """
        if len({tree_map.n_dim for tree_map in maps}) != 1:
            raise ValueError("the maps of a process need the same number of dimensions")
        self.channels = tuple(channels)
        self.n_dim = maps[0].n_dim
        self._distinct = list(dict.fromkeys(maps))
        self._map_of_channel = torch.tensor([self._distinct.index(m) for m in maps])
        self._n_orientations = torch.tensor(n_orientations)
        self._priors = tuple(priors)
        group = torch.tensor([channel.group for channel in channels])
        self._group_of_channel = group
        first = torch.searchsorted(group, torch.arange(int(group.max()) + 1))
        self._number_in_group = torch.arange(len(group)) - first[group]

    def forward(self, r: Tensor, channel: Tensor) -> PhaseSpacePoints:
        orientations = self._n_orientations.to(channel.device)[channel]
        if len(self._distinct) == 1:
            return self._distinct[0].forward(r, channel, orientations)
        points = PhaseSpacePoints(
            momenta=r.new_empty((len(r), self._distinct[0].n_ext, 4)),
            x=r.new_empty((len(r), 2)),
            channel=channel,
            log_jac=r.new_empty(len(r)),
        )
        for index, at in parts(self._map_of_channel, channel):
            made = self._distinct[index].forward(r[at], channel[at], orientations[at])
            points.momenta[at], points.x[at], points.log_jac[at] = (
                made.momenta,
                made.x,
                made.log_jac,
            )
        return points

    def inverse(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        orientations = self._n_orientations.to(points.channel.device)[points.channel]
        r = points.log_jac.new_empty((len(points), self.n_dim + self.n_flat))
        log_jac = torch.empty_like(points.log_jac)
        for index, at in parts(self._map_of_channel, points.channel):
            r[at], log_jac[at] = self._distinct[index].inverse(points.select(at), orientations[at])
        return r, log_jac

    def log_prior(self, points: PhaseSpacePoints) -> Tensor:
        channel = points.channel
        group = self._group_of_channel.to(channel.device)[channel]
        number = self._number_in_group.to(channel.device)[channel]
        result = torch.zeros_like(points.log_jac)
        for prior in self._priors:
            result = result + prior(points, group, number)
        return result

    @property
    def n_shares(self) -> int:
        return int(self._number_in_group.max()) + 1

    def log_shares(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        channel = points.channel
        group = self._group_of_channel.to(channel.device)[channel]
        number = self._number_in_group.to(channel.device)[channel]
        own = torch.zeros_like(points.log_jac)
        every = own.new_full((len(own), self.n_shares), -torch.inf)
        every[:, 0] = 0  # for a channel that is alone
        for prior in self._priors:
            at = prior.applies_to(group)
            mine = prior.of_all(points.select(at), group[at], number[at])
            own[at], every[at, : prior.n_channels] = mine
        return own, every

    def without(self, channels: Sequence[int]) -> MultiChannel:
        group, number = self._group_of_channel, self._number_in_group
        absent = torch.ones((int(group.max()) + 1, self.n_shares), dtype=torch.bool)
        absent[group, number] = False
        index = torch.tensor(channels, dtype=torch.int64)
        absent[group[index], number[index]] = True
        if bool(absent.all(1).any()):
            raise ValueError(
                f"without {list(channels)}: expected a channel that stays in each group"
            )
        fewer = copy.copy(self)
        fewer._priors = tuple(prior.without(absent) for prior in self._priors)
        return fewer


def parts(kind_of_channel: Tensor, channel: Tensor) -> list[tuple[int, Tensor]]:
    """Each kind of channel that occurs among channels (n,), with the indices of its points."""
    kind = kind_of_channel.to(channel.device)[channel]
    counts = kind.bincount().tolist()
    split = torch.split(kind.argsort(stable=True), counts)
    return [(index, at) for index, at in enumerate(split) if len(at)]
