"""The channels of a process: one map per group here, chosen from its final state.

A pair of a particle and its antiparticle is built first, for leptons as the Z that it may come
from; the other legs join one by one. Channels with the same tree share one batched pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from mlgen.core import Channel, PhaseSpace, PhaseSpacePoints, Resonance, SubprocessGroup
from mlgen.cut_cards import CutsCard, ParticleCutsCard
from mlgen.errors import CardError
from mlgen.phasespace.invariants import BreitWigner, PowerLaw, RangeMap, Uniform
from mlgen.phasespace.production import (
    LeptonProduction,
    PartonicProduction,
    Production,
    TransverseProduction,
)
from mlgen.phasespace.tree import Decay, Leaf, TreeMap
from mlgen.physics.cuts import is_jet, is_lepton
from mlgen.physics.model import StandardModel
from mlgen.physics.process import LEPTONS, NEUTRINOS, particle_name

Z = 23


@dataclass(frozen=True, kw_only=True, slots=True)
class _Beams:
    s: float
    """Squared energy, GeV²."""
    rapidity: float
    """Of their rest frame in the laboratory."""
    hadronic: bool


class TreePhaseSpace(PhaseSpace):
    """Channels that are trees of two-body decays."""

    n_flat = 1

    def __init__(
        self, channels: Sequence[Channel], maps: Sequence[TreeMap], n_orientations: Sequence[int]
    ) -> None:
        """One map and one number of orientations for each channel.

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

    def forward(self, r: Tensor, channel: Tensor) -> PhaseSpacePoints:
        orientations = self._n_orientations.to(channel.device)[channel]
        if len(self._distinct) == 1:
            return self._distinct[0].forward(r, channel, orientations)
        n_ext = self._distinct[0].n_ext
        points = PhaseSpacePoints(
            momenta=r.new_empty((len(r), n_ext, 4)),
            x=r.new_empty((len(r), 2)),
            channel=channel,
            log_jac=r.new_empty(len(r)),
        )
        which = self._map_of_channel.to(channel.device)[channel]
        for index, tree_map in enumerate(self._distinct):
            at = (which == index).nonzero()[:, 0]
            part = tree_map.forward(r[at], channel[at], orientations[at])
            points.momenta[at], points.x[at], points.log_jac[at] = (
                part.momenta,
                part.x,
                part.log_jac,
            )
        return points

    def inverse(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        orientations = self._n_orientations.to(points.channel.device)[points.channel]
        r = points.log_jac.new_empty((len(points), self.n_dim + self.n_flat))
        log_jac = torch.empty_like(points.log_jac)
        which = self._map_of_channel.to(points.channel.device)[points.channel]
        for index, tree_map in enumerate(self._distinct):
            at = (which == index).nonzero()[:, 0]
            r[at], log_jac[at] = tree_map.inverse(points.select(at), orientations[at])
        return r, log_jac

    def log_prior(self, points: PhaseSpacePoints) -> Tensor:
        return torch.zeros_like(points.log_jac)


def build_phase_space(
    groups: Sequence[SubprocessGroup],
    model: StandardModel,
    cuts: CutsCard,
    energies_gev: tuple[float, float],
    hadronic: bool,
) -> TreePhaseSpace:
    """One channel for each group.

    Args:
        energies_gev: of the two beams, massless and head on.
        hadronic: whether momentum fractions are to be drawn.

    Raises:
        CardError: the beams have too little energy for a final state.
    """
    beams = _Beams(
        s=4 * energies_gev[0] * energies_gev[1],
        rapidity=0.5 * math.log(energies_gev[0] / energies_gev[1]),
        hadronic=hadronic,
    )
    channels, maps = [], []
    for index, group in enumerate(groups):
        pdg_ids = group.pdg_ids[0]
        try:
            tree_map, resonances = _choose_map(pdg_ids, model, cuts, beams)
        except ValueError as error:
            raise CardError(
                f"beams.energies_gev = {list(energies_gev)}: expected enough energy in GeV for "
                f"{group.name} inside the cuts"
            ) from error
        topology = f"{_describe(tree_map.first, pdg_ids)} {_describe(tree_map.second, pdg_ids)}"
        maps.append(tree_map)
        channels.append(Channel(group=index, topology=topology, resonances=resonances))
    return TreePhaseSpace(channels, maps, [group.n_orientations for group in groups])


def _choose_map(
    pdg_ids: tuple[int, ...], model: StandardModel, cuts: CutsCard, beams: _Beams
) -> tuple[TreeMap, tuple[Resonance, ...]]:
    leaves = [Leaf(leg, model.mass_gev(pdg_ids[leg])) for leg in range(2, len(pdg_ids))]
    first, second = _closest(leaves, pdg_ids)
    rest: list[Leaf | Decay] = [leaf for leaf in leaves if leaf not in (first, second)]
    z = BreitWigner(model.mass_gev(Z), model.width_gev(Z))
    is_pair = pdg_ids[first.leg] == -pdg_ids[second.leg]
    from_z = is_pair and abs(pdg_ids[first.leg]) in (*LEPTONS, *NEUTRINOS)
    resonances: tuple[Resonance, ...] = ()
    min_mass = first.mass_gev + second.mass_gev
    if from_z:
        legs = (first.leg, second.leg)
        resonances = (Resonance(pdg_id=Z, legs=legs, mass_gev=z.mass, width_gev=z.width),)
        if is_lepton(pdg_ids[first.leg]):
            min_mass = max(min_mass, cuts.lepton_lepton.mass_min_gev)
    if min_mass**2 >= beams.s:
        raise ValueError("the final state needs more energy than the beams have")
    # A power law needs a lower end above zero.
    shape: RangeMap = z if from_z else PowerLaw(1.5) if min_mass > 0 else Uniform()
    if not rest:
        production = _production(beams, shape, min_mass, (first, second), pdg_ids, cuts)
        return TreeMap(production=production, first=first, second=second), resonances
    massless = first.mass_gev == second.mass_gev == 0
    bounds = [_max_rapidity(leaf, pdg_ids, cuts) for leaf in (first, second)]
    max_rapidity = max(bounds) if massless else math.inf
    tree = Decay(first, second, shape, min_mass_gev=min_mass, max_rapidity=max_rapidity)
    for part in rest[:-1]:
        tree = Decay(tree, part, Uniform())
    production = _production(beams, PowerLaw(1.5), 0.0, (tree, rest[-1]), pdg_ids, cuts)
    return TreeMap(production=production, first=tree, second=rest[-1]), resonances


def _closest(leaves: list[Leaf], pdg_ids: tuple[int, ...]) -> tuple[Leaf, Leaf]:
    """A particle and its antiparticle where there are such, else the first two legs."""
    for a, b in combinations(leaves, 2):
        if pdg_ids[a.leg] == -pdg_ids[b.leg]:
            return a, b
    return leaves[0], leaves[1]


def _production(
    beams: _Beams,
    invariant: RangeMap,
    min_mass_gev: float,
    parts: tuple[Leaf | Decay, Leaf | Decay],
    pdg_ids: tuple[int, ...],
    cuts: CutsCard,
) -> Production:
    """The production whose variables the cuts bound."""
    if not beams.hadronic:
        return LeptonProduction(s=beams.s, rapidity=beams.rapidity)
    min_pt = max(_min_pt(part, pdg_ids, cuts) for part in parts)
    if min_pt == 0 or isinstance(invariant, BreitWigner):
        # Back to back with at least this pt, and a narrow peak in s_hat is worth more than pt.
        min_mass_gev = max(min_mass_gev, 2 * min_pt)
        return PartonicProduction(s=beams.s, invariant=invariant, min_mass_gev=min_mass_gev)
    return TransverseProduction(
        s=beams.s,
        min_pt_gev=min_pt,
        max_rapidities=(
            _max_rapidity(parts[0], pdg_ids, cuts),
            _max_rapidity(parts[1], pdg_ids, cuts),
        ),
    )


def _min_pt(part: Leaf | Decay, pdg_ids: tuple[int, ...], cuts: CutsCard) -> float:
    """The least transverse momentum of a part; back to back with it, so has the other."""
    if isinstance(part, Decay):
        return 0.0
    card = _particle_cuts(pdg_ids[part.leg], cuts)
    return card.pt_min_gev if card else 0.0


def _max_rapidity(part: Leaf | Decay, pdg_ids: tuple[int, ...], cuts: CutsCard) -> float:
    """The largest |y| of a part: that of a system lies between those of its massless legs."""
    bounds = []
    for leaf in part.leaves:
        card = _particle_cuts(pdg_ids[leaf.leg], cuts)
        # |y| < |eta|, with equality for a massless particle.
        bounds.append(card.abs_eta_max if card else math.inf)
    return max(bounds)


def _particle_cuts(pdg_id: int, cuts: CutsCard) -> ParticleCutsCard | None:
    if is_jet(pdg_id):
        return cuts.jets
    return cuts.leptons if is_lepton(pdg_id) else None


def _describe(part: Leaf | Decay, pdg_ids: tuple[int, ...]) -> str:
    if isinstance(part, Leaf):
        return particle_name(pdg_ids[part.leg])
    return f"({_describe(part.first, pdg_ids)} {_describe(part.second, pdg_ids)})"
