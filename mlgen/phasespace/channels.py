"""The channels of a process: one map per group here, chosen from its final state.

A pair of a particle and its antiparticle is built first, as the Z that it may come from; the
other legs join one by one. Channels with the same tree share one batched pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mlgen.cards import CutsCard
from mlgen.core import Channel, PhaseSpace, PhaseSpacePoints, Resonance, SubprocessGroup
from mlgen.errors import CardError
from mlgen.phasespace.invariants import BreitWigner, PowerLaw, Pseudorapidity, RangeMap, Uniform
from mlgen.phasespace.tree import Decay, Leaf, TreeMap
from mlgen.physics.cuts import is_jet, is_lepton
from mlgen.physics.model import StandardModel
from mlgen.physics.process import particle_name

Z = 23


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
        n_ext = 2 + len(self._distinct[0].root.legs)
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
    s = 4 * energies_gev[0] * energies_gev[1]
    rapidity = 0.5 * math.log(energies_gev[0] / energies_gev[1])
    channels, maps = [], []
    for index, group in enumerate(groups):
        root, resonances = _choose_tree(group.pdg_ids[0], model, cuts)
        try:
            maps.append(TreeMap(root=root, s=s, rapidity=rapidity, hadronic=hadronic))
        except ValueError as error:
            raise CardError(
                f"beams.energies_gev = {list(energies_gev)}: expected enough energy in GeV for "
                f"{group.name} inside the cuts"
            ) from error
        topology = _describe(root, group.pdg_ids[0])
        channels.append(Channel(group=index, topology=topology, resonances=resonances))
    return TreePhaseSpace(channels, maps, [group.n_orientations for group in groups])


def _choose_tree(
    pdg_ids: tuple[int, ...], model: StandardModel, cuts: CutsCard
) -> tuple[Decay, tuple[Resonance, ...]]:
    leaves = [Leaf(leg, model.mass_gev(pdg_ids[leg])) for leg in range(2, len(pdg_ids))]
    pairs = [
        (a, b)
        for i, a in enumerate(leaves)
        for b in leaves[i + 1 :]
        if pdg_ids[a.leg] == -pdg_ids[b.leg]
    ]
    first, second = pairs[0] if pairs else (leaves[0], leaves[1])
    parts: list[Leaf | Decay] = [leaf for leaf in leaves if leaf not in (first, second)]
    resonances: tuple[Resonance, ...] = ()
    invariant: RangeMap = PowerLaw(1.5)
    min_mass = first.mass_gev + second.mass_gev
    if pairs and is_lepton(pdg_ids[first.leg]):
        invariant = BreitWigner(model.mass_gev(Z), model.width_gev(Z))
        min_mass = max(min_mass, cuts.lepton_lepton.mass_min_gev)
        resonances = (
            Resonance(
                pdg_id=Z,
                legs=(first.leg, second.leg),
                mass_gev=model.mass_gev(Z),
                width_gev=model.width_gev(Z),
            ),
        )
    elif min_mass == 0:
        invariant = Uniform()
    tree: Decay = Decay(first, second, invariant, min_mass_gev=min_mass)
    for part in parts[:-1]:
        tree = Decay(tree, part, Uniform())
    if parts:
        tree = Decay(tree, parts[-1], PowerLaw(1.5))
    return _bounded_root(tree, pdg_ids, cuts), resonances


def _bounded_root(root: Decay, pdg_ids: tuple[int, ...], cuts: CutsCard) -> Decay:
    """The root with the least transverse momentum that the cuts leave to its parts."""
    bounds = [0.0]
    for part in (root.first, root.second):
        if isinstance(part, Leaf) and is_jet(pdg_ids[part.leg]):
            bounds.append(cuts.jets.pt_min_gev)
        elif isinstance(part, Leaf) and is_lepton(pdg_ids[part.leg]):
            bounds.append(cuts.leptons.pt_min_gev)
    min_pt = max(bounds)
    return Decay(
        root.first,
        root.second,
        root.invariant,
        min_mass_gev=root.min_mass_gev,
        min_pt_gev=min_pt,
        angle=Pseudorapidity() if min_pt > 0 else Uniform(),
    )


def _describe(part: Leaf | Decay, pdg_ids: tuple[int, ...]) -> str:
    if isinstance(part, Leaf):
        return particle_name(pdg_ids[part.leg])
    inside = f"{_describe(part.first, pdg_ids)} {_describe(part.second, pdg_ids)}"
    return f"({inside})"
