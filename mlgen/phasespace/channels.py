"""The channels of a process: maps made from the structures of its Feynman diagrams."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal

from mlgen.core import Channel, Resonance, SubprocessGroup
from mlgen.errors import CardError
from mlgen.phasespace.angles import AngleMap, Collinear, Isotropic, Spacelike
from mlgen.phasespace.invariants import BreitWigner, PowerLaw, RangeMap, Uniform
from mlgen.phasespace.multichannel import MultiChannel
from mlgen.phasespace.priors import (
    DensityPrior,
    Member,
    Peak,
    Prior,
    PropagatorPrior,
    leg_places,
)
from mlgen.phasespace.production import LeptonProduction, PartonicProduction, Production
from mlgen.phasespace.topologies import (
    Cluster,
    Node,
    Reach,
    Structure,
    clusters,
    legs_of,
    orbits,
    read_topology,
    structures,
)
from mlgen.phasespace.transverse import EXPONENT, TransverseProduction, TransverseSystem
from mlgen.phasespace.tree import Decay, Leaf, Part, TreeMap
from mlgen.physics.bounds import CutBounds
from mlgen.physics.diagrams import group_diagrams
from mlgen.physics.model import Model

SOFT_GEV = 10.0
"""Where neither a cut nor a mass keeps a massless system away from pt = 0: a scale for its map."""
FLOOR_GEV = 1.0
"""The same for the mass of a massless cluster."""
TYPICAL_RANGE = 4.0
"""In rapidity, for the priors from propagators."""
MAX_DENSITIES = 10
"""Up to this many maps in a group, `auto` computes all their densities."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the maps of a process need to know beside its diagrams."""

    model: Model
    cuts: CutBounds
    energies_gev: tuple[float, float]
    hadronic: bool
    prior: Literal["auto", "densities", "propagators"] = "auto"

    @cached_property
    def s(self) -> float:
        """Squared energy of the massless beams, head on, GeV²."""
        return 4 * self.energies_gev[0] * self.energies_gev[1]

    @cached_property
    def rapidity(self) -> float:
        """Of the beams' rest frame in the laboratory."""
        return 0.5 * math.log(self.energies_gev[0] / self.energies_gev[1])


def build_phase_space(groups: Sequence[SubprocessGroup], setting: Setting) -> MultiChannel:
    """All channels of the groups.

    Raises:
        CardError: the beams have too little energy for a final state inside the cuts.
    """
    built = []
    for group in groups:
        try:
            built.append(_GroupChannels(group, setting))
        except ValueError as error:
            raise CardError(
                f"beams.energies_gev = {list(setting.energies_gev)}: expected enough energy in GeV "
                f"for {group.name} inside the cuts"
            ) from error
    return MultiChannel(
        channels=[channel for index, mine in enumerate(built) for channel in mine.channels(index)],
        maps=[tree_map for mine in built for tree_map in mine.maps],
        n_orientations=[mine.group.n_orientations for mine in built for _ in mine.maps],
        priors=_priors(built, setting.prior),
    )


def _priors(
    built: Sequence[_GroupChannels], choice: Literal["auto", "densities", "propagators"]
) -> list[Prior]:
    """What shares the integrand of each group among its channels."""
    by_density = [
        choice == "densities" or (choice == "auto" and len(mine.members) <= MAX_DENSITIES)
        for mine in built
    ]
    maps = [mine.maps for mine in built]
    orientations = [mine.group.n_orientations for mine in built]
    of_densities, of_propagators = (
        [mine.members if by == wanted else [] for mine, by in zip(built, by_density, strict=True)]
        for wanted in (True, False)
    )
    found: list[Prior] = []
    if any(len(members) > 1 for members in of_densities):
        found.append(DensityPrior(maps, of_densities, orientations))
    if any(len(members) > 1 for members in of_propagators):
        peaks = [mine.peaks() for mine in built]
        constants = [mine.log_constants() for mine in built]
        found.append(PropagatorPrior(peaks, constants, of_propagators))
    return found


class _GroupChannels:
    """The channels of one group."""

    def __init__(self, group: SubprocessGroup, setting: Setting) -> None:
        self.group = group
        self._pdg_ids = group.pdg_ids[0]
        self._setting = setting
        self._least_masses: dict[frozenset[int], float] = {}
        model = setting.model
        if self._least_mass(frozenset(range(2, group.n_ext))) ** 2 >= setting.s:
            raise ValueError("the cuts need more energy than the beams have")
        reach = Reach(
            mass_gev=model.mass_gev,
            width_gev=model.width_gev,
            least_mass=self._least_mass,
            least_pt=self._least_pt,
            sqrt_s_gev=math.sqrt(setting.s),
        )
        diagrams = group_diagrams(group, model.ufo_folder)
        topologies = dict.fromkeys(read_topology(d, group.n_ext) for d in diagrams)
        found = structures(topologies, reach, setting.hadronic)
        final = sorted(range(2, group.n_ext), key=lambda leg: self._pdg_ids[leg])
        alike = [list(legs) for _, legs in groupby(final, key=lambda leg: self._pdg_ids[leg])]
        self._orbits = orbits(found, [legs for legs in alike if len(legs) > 1])
        self._structures = [orbit[0][0] for orbit in self._orbits]
        self.maps = [self._map(structure) for structure in self._structures]

    def channels(self, group: int) -> list[Channel]:
        """What other rooms see of them."""
        members = Counter(member.channel for member in self.members)
        return [
            Channel(
                group=group,
                topology=self._describe(structure),
                n_members=members[number],
                resonances=tuple(self._resonances(structure)),
            )
            for number, structure in enumerate(self._structures)
        ]

    @property
    def members(self) -> list[Member]:
        """All maps that its channels stand for."""
        n_ext = self.group.n_ext
        pairs = {frozenset(s.systems) for orbit in self._orbits for s, _ in orbit}
        if len(pairs) == 1 and len(self._structures[0].systems) == 2:
            # One channel, whose share is 1 whichever of two identical systems comes first.
            return [Member(channel=0, legs=leg_places(n_ext, {}))]
        return [
            Member(channel=number, legs=leg_places(n_ext, exchanged))
            for number, orbit in enumerate(self._orbits)
            for _, exchanged in orbit
        ]

    def peaks(self) -> list[list[Peak]]:
        """The shape of each member."""
        return [self._peaks(structure) for orbit in self._orbits for structure, _ in orbit]

    def log_constants(self) -> list[float]:
        """ln of what the density of each member has beside its peaks.

        Two parts of a decay fill 1 / (16 pi²), a system of its own that times its range in y.
        """
        structures = (structure for orbit in self._orbits for structure, _ in orbit)
        return [math.log(TYPICAL_RANGE) * len(clusters(structure)) for structure in structures]

    # --- maps --------------------------------------------------------------------------------

    def _map(self, structure: Structure) -> TreeMap:
        systems = tuple(self._part(node) for node in structure.systems)
        return TreeMap(production=self._production(structure), systems=systems)

    def _production(self, structure: Structure) -> Production:
        setting = self._setting
        if not setting.hadronic:
            return LeptonProduction(s=setting.s, rapidity=setting.rapidity)
        if len(structure.systems) == 1:
            reach = [setting.cuts.max_rapidity(pdg) for pdg in self._pdg_ids[2:]]
            return PartonicProduction(s=setting.s, max_rapidity=max(reach))
        systems = tuple(self._transverse(node) for node in structure.systems)
        return TransverseProduction(s=setting.s, systems=systems)

    def _transverse(self, node: Node) -> TransverseSystem:
        cuts = self._setting.cuts
        pdg_ids = [self._pdg_ids[leg] for leg in legs_of(node)]
        transverse = self._least_transverse_mass(legs_of(node))
        return TransverseSystem(
            min_transverse_mass_gev=transverse,
            soft_gev=0.0 if max(transverse, self._pole(node)) > 0 else SOFT_GEV,
            max_rapidity=max(map(cuts.max_rapidity, pdg_ids)),
        )

    def _least_pt(self, legs: frozenset[int]) -> float:
        return sum(self._setting.cuts.min_pt(self._pdg_ids[leg]) for leg in legs)

    def _least_transverse_mass(self, legs: frozenset[int]) -> float:
        """At least the sum of those of the legs."""
        pdg_ids = [self._pdg_ids[leg] for leg in sorted(legs)]
        masses = map(self._setting.model.mass_gev, pdg_ids)
        return sum(map(math.hypot, map(self._setting.cuts.min_pt, pdg_ids), masses))

    def _is_soft(self, node: Node) -> bool:
        """Whether its emission has a soft pole: massless vector bosons."""
        if not isinstance(node, int):
            return False
        particle = self._setting.model.particles[self._pdg_ids[node]]
        return particle.spin == 3 and self._pole(node) == 0

    def _pole(self, node: Node) -> float:
        """The mass of a leg or of a resonance; the least one of a heavy pair."""
        if isinstance(node, int):
            return self._setting.model.mass_gev(self._pdg_ids[node])
        is_heavy = node.kind in ("heavy", "bounded")
        return self._least_mass(node.legs) if is_heavy else node.mass_gev

    def _part(self, node: Node) -> Part:
        if isinstance(node, int):
            return Leaf(node, self._pole(node))
        first, second, *others = (self._part(part) for part in node.parts)
        for inner in others:  # a resonance with three or more products that no line joins
            first, second = Decay(first, second, Uniform()), inner
        return Decay(
            first,
            second,
            self._invariant(node),
            min_mass_gev=self._least_mass(node.legs),
            max_mass_gev=self._most_mass(node.legs),
            angle=self._angle(node),
        )

    def _invariant(self, node: Cluster) -> RangeMap:
        if node.kind == "resonance":
            return BreitWigner(node.mass_gev, node.width_gev)
        if node.kind == "chain":
            return Uniform()
        least = self._least_mass(node.legs) ** 2
        distance = max(least - node.mass_gev**2, FLOOR_GEV**2)
        # Between hadrons, the densities fall as well.
        return PowerLaw(1.5 if self._setting.hadronic else 1.0, shift=distance - least)

    def _angle(self, node: Cluster) -> AngleMap:
        if node.spacelike_gev is not None:
            return Spacelike(node.spacelike_gev)
        if node.kind == "light" and self._setting.hadronic:
            first, second = node.parts
            return Collinear(
                least_first_gev=self._least_transverse_mass(legs_of(first)),
                least_second_gev=self._least_transverse_mass(legs_of(second)),
                soft_first=self._is_soft(first),
                soft_second=self._is_soft(second),
            )
        pdg_ids = [self._pdg_ids[leg] for leg in node.legs]
        is_pair = all(isinstance(part, int) for part in node.parts) and len(pdg_ids) == 2
        if is_pair and all(self._setting.model.mass_gev(pdg) == 0 for pdg in pdg_ids):
            return Isotropic(max(map(self._setting.cuts.max_rapidity, pdg_ids)))
        return Isotropic()

    def _least_mass(self, legs: frozenset[int]) -> float:
        if legs not in self._least_masses:
            pdg_ids = [self._pdg_ids[leg] for leg in sorted(legs)]
            masses = [self._setting.model.mass_gev(pdg_id) for pdg_id in pdg_ids]
            bounds = self._setting.cuts
            is_all = len(legs) == len(self._pdg_ids) - 2
            bound = bounds.min_event_mass if is_all and self._setting.hadronic else bounds.min_mass
            self._least_masses[legs] = bound(pdg_ids, masses)
        return self._least_masses[legs]

    def _most_mass(self, legs: frozenset[int]) -> float:
        if len(legs) != 2:
            return math.inf
        a, b = (self._pdg_ids[leg] for leg in legs)
        return self._setting.cuts.max_pair_mass(a, b)

    # --- peaks -------------------------------------------------------------------------------

    def _peaks(self, structure: Structure) -> list[Peak]:
        """The shapes of a structure's variables, over ranges that do not depend on the event."""
        s = self._setting.s
        found = []
        for cluster in clusters(structure):
            low = max(self._least_mass(cluster.legs), 1e-3) ** 2
            found.append(Peak(cluster.legs, self._invariant(cluster), low, s))
        if self._setting.hadronic and len(structure.systems) > 1:
            found += [self._transverse_peak(node) for node in structure.systems[1:]]
        return found

    def _transverse_peak(self, node: Node) -> Peak:
        system, s = self._transverse(node), self._setting.s
        legs = legs_of(node)
        offset = system.soft_gev**2
        least = max(system.min_transverse_mass_gev, self._pole(node), self._least_mass(legs))
        return Peak(legs, PowerLaw(EXPONENT), least**2 + offset, s, True, offset)

    # --- people ------------------------------------------------------------------------------

    def _resonances(self, structure: Structure) -> list[Resonance]:
        particles = self._setting.model.particles
        return [
            Resonance(
                pdg_id=cluster.pdg_id,
                legs=tuple(sorted(cluster.legs)),
                mass_gev=cluster.mass_gev,
                width_gev=cluster.width_gev,
                colour=particles[cluster.pdg_id].colour,
            )
            for cluster in clusters(structure)
            if cluster.kind == "resonance"
        ]

    def _describe(self, structure: Structure) -> str:
        names = [self._name(node) for node in structure.systems]
        if len(names) > 2:
            names[0] += "*"
        return " ".join(names)

    def _name(self, node: Node) -> str:
        particles = self._setting.model.particles
        if isinstance(node, int):
            return particles[self._pdg_ids[node]].name
        inside = " ".join(self._name(part) for part in node.parts)
        return f"({inside})" + (particles[node.pdg_id].name if node.kind == "resonance" else "")
