"""The phase space of each card, without its matrix elements."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Literal

import torch
from torch import Tensor

from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.core import PhaseSpacePoints, SubprocessGroup
from mlgen.cut_cards import CutsCard
from mlgen.phasespace.channels import Setting, build_phase_space
from mlgen.phasespace.multichannel import MultiChannel
from mlgen.phasespace.rambo import RamboPhaseSpace, build_rambo
from mlgen.physics.bounds import CutBounds
from mlgen.physics.cuts import CardCuts
from mlgen.physics.leg_cuts import split_by_cuts
from mlgen.physics.model import StandardModel
from mlgen.physics.process import read_process
from tests.subprocess_groups import subprocess_groups

MODEL = StandardModel()
NEARLY = 1 - 1e-6
"""The fraction of a parton that has nearly all of its beam's energy."""


LIGHT_GEV = 80.0
"""Flat points with less energy than this are too few inside of any card's cuts to be of use."""


@dataclass(frozen=True)
class Wired:
    """Groups and their channels."""

    groups: tuple[SubprocessGroup, ...]
    setting: Setting
    phase_space: MultiChannel

    @property
    def sqrt_s(self) -> float:
        """Energy of the beams, GeV."""
        return math.sqrt(self.setting.s)

    @cached_property
    def cuts(self) -> CardCuts:
        return CardCuts(self.setting.cuts.card, self.groups)

    def masses(self, channel: int) -> list[float]:
        """Of the final legs of a channel, GeV."""
        group = self.groups[self.phase_space.channels[channel].group]
        return [MODEL.mass_gev(pdg_id) for pdg_id in group.pdg_ids[0][2:]]

    def channels_of(self, group: int) -> list[int]:
        """The channels of a group."""
        channels = enumerate(self.phase_space.channels)
        return [index for index, channel in channels if channel.group == group]

    def topologies(self, group: int = 0) -> list[str]:
        """The names of the channels of a group."""
        return [self.phase_space.channels[index].topology for index in self.channels_of(group)]

    @cached_property
    def unlike_channels(self) -> list[int]:
        """One channel for each map: those that give the same momenta at the same r share one."""
        n_channels = len(self.phase_space.channels)
        r = uniform_r(3, self.phase_space).repeat_interleave(n_channels, 0)
        channel = torch.arange(n_channels).repeat(3)
        momenta = self.phase_space.forward(r, channel).momenta.reshape(3, n_channels, -1)
        found: dict[tuple[float, ...], int] = {}
        for index in range(n_channels):
            found.setdefault(tuple(momenta[:, index].flatten().tolist()), index)
        return list(found.values())

    def passing(self, points: PhaseSpacePoints, group: int = 0) -> PhaseSpacePoints:
        """The points that exist and pass the cuts."""
        return points.select(self.cuts(points.momenta, group) & (points.log_jac > -math.inf))

    def inside(self, group: int = 0, n: int = 100) -> PhaseSpacePoints:
        """Points of a group that pass the cuts: of all of its maps, and from two that know none of them.

        n of each map, 10 n of flat phase space, and 2 n near the largest fractions before cuts.
        """
        sources = [points_of(self.phase_space, n, channel) for channel in self.channels_of(group)]
        # Flat points are mostly heavy: of a window of masses they have to begin below its upper end.
        ids = self.groups[group].pdg_ids[0][2:]
        least = self.setting.cuts.min_event_mass(ids, [MODEL.mass_gev(p) for p in ids])
        flat = self.flat(min_mass_gev=min(150.0, max(least, LIGHT_GEV)))
        sources.append(points_of(flat, 10 * n, group))
        if self.setting.hadronic:
            sources += [self.of_fractions(x, n, group) for x in ((NEARLY, 0.5), (0.5, NEARLY))]
        passing = [self.passing(points, group) for points in sources]
        columns = {
            name: torch.cat([getattr(points, name) for points in passing])
            for name in ("momenta", "x", "channel", "log_jac")
        }
        return PhaseSpacePoints(**columns)

    def of_fractions(self, x: tuple[float, float], n: int, group: int) -> PhaseSpacePoints:
        """Flat points of partons with fixed fractions, which is what lepton beams are."""
        first, second = (x_i * e for x_i, e in zip(x, self.setting.energies_gev, strict=True))
        alone = [replace(group, n_orientations=1) for group in self.groups]
        points = points_of(build_rambo(alone, MODEL, (first, second), hadronic=False), n, group)
        return replace(points, x=points.x.new_tensor(x).expand_as(points.x))

    def flat(self, min_mass_gev: float = 0.0) -> RamboPhaseSpace:
        """RAMBO for the same groups: a map that knows neither diagrams nor, but for s_hat, cuts."""
        setting = self.setting
        energies, hadronic = setting.energies_gev, setting.hadronic
        return build_rambo(self.groups, MODEL, energies, hadronic, min_mass_gev)

    def with_prior(self, prior: Literal["densities", "propagators"]) -> Wired:
        """The same with another kind of prior."""
        return wire(self.groups, replace(self.setting, prior=prior))


def wire(groups: tuple[SubprocessGroup, ...], setting: Setting) -> Wired:
    return Wired(groups, setting, build_phase_space(groups, setting))


@cache
def wire_card(name: str) -> Wired:
    """The channels of a card that comes with mlgen."""
    card: Card = read_card(find_card(name))
    found = read_process(card.process, card.beams.particles, MODEL)
    groups = split_by_cuts(found, card.cuts, MODEL)
    hadronic = card.beams.particles == ("p", "p")
    return wire(
        groups,
        Setting(
            model=MODEL,
            cuts=CutBounds(card.cuts),
            energies_gev=card.beams.energies_gev,
            hadronic=hadronic,
        ),
    )


def wire_process(
    definition: str, cuts: CutsCard | None = None, energy_gev: float = 6500.0, beam: str = "p"
) -> Wired:
    """The channels of a process between protons, or between e+ and e-."""
    hadronic = beam == "p"
    groups = subprocess_groups(definition, ("p", "p") if hadronic else ("e+", "e-"))
    return wire(
        groups,
        Setting(
            model=MODEL,
            cuts=CutBounds(cuts or CutsCard()),
            energies_gev=(energy_gev, energy_gev),
            hadronic=hadronic,
        ),
    )


def uniform_r(n: int, phase_space: MultiChannel | RamboPhaseSpace, seed: int = 8) -> Tensor:
    """Uniform r (n, n_dim + n_flat)."""
    rng = torch.Generator().manual_seed(seed)
    n_columns = phase_space.n_dim + phase_space.n_flat
    return torch.rand(n, n_columns, generator=rng, dtype=torch.float64)


def points_of(
    phase_space: MultiChannel | RamboPhaseSpace, n: int, channel: int, seed: int = 8
) -> PhaseSpacePoints:
    """n points of a channel, uniform in r."""
    r = uniform_r(n, phase_space, seed)
    return phase_space.forward(r, torch.full((n,), channel))


def boost_along_beam(momentum: Tensor, y: Tensor) -> Tensor:
    """Add y (n,) to the rapidity of a momentum (4, n)."""
    cosh, sinh = y.cosh(), y.sinh()
    energy, px, py, pz = momentum
    return torch.stack([cosh * energy + sinh * pz, px, py, cosh * pz + sinh * energy])
