"""Diagrams become the structures that phase-space maps are built from.

A structure says which systems an event is made of and how each decays. Lines that can make a
peak are kept: resonances that are within reach, and light lines, whose collinear pole is near. So
are lines whose mass a cut bounds from below, and pairs of heavy particles: radiation then balances
the pair, not one of the two. Other lines are dissolved into their parts. Many diagrams share one
structure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mlgen.physics.diagrams import Diagram

LIGHT_GEV = 20.0
"""A line is light where its own mass is below this, and that of what comes from it too, or below the
transverse momenta that cuts ask of that; heavy parts are above."""
BOUNDED = 1.5
"""A cut bounds a line where its least mass is this many times the masses and those momenta."""


Kind = Literal["resonance", "light", "heavy", "bounded", "chain"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A system of two or more legs that comes from one line of a diagram."""

    kind: Kind
    """Heavy: of parts that are all heavy, as a pair of tops is; bounded: by a cut on its mass; chain: what remains along a t-channel."""
    parts: tuple[Node, ...]
    """By their first leg; along a chain, what is emitted and what remains."""
    mass_gev: float = 0.0
    """The pole of the line."""
    width_gev: float = 0.0
    pdg_id: int = 0
    """Of a resonance."""
    spacelike_gev: float | None = None
    """Of a chain: the mass of the t-channel line between its two parts; None where there is none."""

    @property
    def legs(self) -> frozenset[int]:
        return frozenset().union(*map(legs_of, self.parts))


Node = int | Cluster
"""A final leg or a cluster."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The systems of an event: first the one that balances the others, which have no order."""

    systems: tuple[Node, ...]

    def relabelled(self, leg: Mapping[int, int]) -> Structure:
        """The same with other legs in the places of its legs."""
        first, *others = (_relabelled(node, leg) for node in self.systems)
        return Structure((first, *sorted(others, key=_rank)))


@dataclass(frozen=True, slots=True)
class Line:
    """A timelike line of a diagram and what comes from it."""

    pdg_id: int
    parts: tuple[Line | int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """A diagram as seen along its way from one beam to the other."""

    systems: tuple[Line | int, ...]
    """What hangs on that way, from the first beam to the second."""
    spacelike: tuple[int, ...]
    """The t-channel line after each system but the last; 0 where two meet in one vertex."""


def read_topology(diagram: Diagram, n_ext: int) -> Topology:
    """Hang the final legs of a diagram on its way from leg 0 to leg 1."""
    timelike = [p for p in diagram.propagators if not p.is_spacelike]
    way = sorted((p for p in diagram.propagators if p.is_spacelike), key=lambda p: -len(p.legs))
    lines: dict[frozenset[int], Line | int] = {frozenset({leg}): leg for leg in range(2, n_ext)}

    def hanging(inside: frozenset[int]) -> list[Line | int]:
        below = [legs for legs in lines if legs <= inside]
        tops = [legs for legs in below if not any(legs < other for other in below)]
        return [lines[legs] for legs in sorted(tops, key=min)]

    for line in timelike:  # smaller sets of legs first
        parts = hanging(line.legs)
        lines[line.legs] = Line(pdg_id=line.pdg_id, parts=tuple(parts))
    remaining = frozenset(range(2, n_ext))
    systems: list[Line | int] = []
    spacelike: list[int] = []
    for pdg_id, after in [*((p.pdg_id, p.legs - {1}) for p in way), (0, frozenset[int]())]:
        found = hanging(remaining - after)
        systems += found
        spacelike += [0] * (len(found) - 1) + [pdg_id]
        remaining = after
    return Topology(systems=tuple(systems), spacelike=tuple(spacelike[:-1]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """What is known of lines before any momentum is: their poles, and which can be reached."""

    mass_gev: Callable[[int], float]
    """Of a particle, by PDG id."""
    width_gev: Callable[[int], float]
    least_mass: Callable[[frozenset[int]], float]
    """Of a set of final legs, from their masses and from cuts, GeV."""
    least_pt: Callable[[frozenset[int]], float]
    """The sum of the transverse momenta of a set of final legs, each at its least, GeV."""
    sqrt_s_gev: float

    def is_resonant(self, line: Line) -> bool:
        """Whether the line can be on its mass shell."""
        mass, width = self.mass_gev(line.pdg_id), self.width_gev(line.pdg_id)
        return width > 0 and self.least_mass(_legs(line)) < mass < self.sqrt_s_gev

    def resonance(self, pdg_id: int, parts: Sequence[Node]) -> Cluster:
        """What decays from a particle on its mass shell."""
        return Cluster(
            kind="resonance",
            parts=tuple(parts),
            mass_gev=self.mass_gev(pdg_id),
            width_gev=self.width_gev(pdg_id),
            pdg_id=pdg_id,
        )

    def typical_mass(self, node: Line | int) -> float:
        """What a node weighs at least, resonances on their mass shells."""
        if isinstance(node, int):
            return self.least_mass(frozenset({node}))
        if self.is_resonant(node):
            return self.mass_gev(node.pdg_id)
        parts = sum(self.typical_mass(part) for part in node.parts)
        return max(parts, self.least_mass(_legs(node)))

    def is_light(self, line: Line) -> bool:
        """Whether its pole is near: a collinear splitting."""
        hardness = max(LIGHT_GEV, self.least_pt(_legs(line)))
        return self.mass_gev(line.pdg_id) < LIGHT_GEV and self.typical_mass(line) < hardness

    def is_heavy(self, line: Line) -> bool:
        """Whether all its parts are."""
        return all(self.typical_mass(part) >= LIGHT_GEV for part in line.parts)

    def is_bounded(self, line: Line) -> bool:
        """Whether a cut on its mass, more than its parts and cuts on its legs, keeps it heavy."""
        legs = _legs(line)
        masses = sum(map(self.typical_mass, line.parts))
        return self.least_mass(legs) > BOUNDED * (masses + self.least_pt(legs))


def structures(
    topologies: Iterable[Topology], reach: Reach, hadronic: bool
) -> tuple[Structure, ...]:
    """The distinct structures of a process's diagrams, in a fixed order.

    Between hadrons, systems are drawn in transverse momentum and rapidity, whatever their order
    along the t-channel; each of three or more may be the one that balances the others, of two the
    heavier one does. Between leptons the t-channel chain itself is followed.
    """
    topologies = list(topologies)
    resonances = _resonances(topologies, reach)
    found: dict[Structure, None] = {}
    for topology in topologies:
        if hadronic:
            for structure in _hadronic(topology, reach, resonances):
                found[structure] = None
        else:
            whole = _chain(topology, reach)
            if isinstance(whole, Cluster):  # its mass is that of the beams, whatever its pole
                whole = replace(whole, kind="chain", mass_gev=0.0, width_gev=0.0, pdg_id=0)
            found[Structure((whole,))] = None
    # What meets in a contact vertex is covered by the structures that resolve it.
    resolved = [s for s in found if not any(map(_has_contact, s.systems))] or list(found)
    return tuple(s for s in resolved if not any(_covers(other, s) for other in resolved))


def orbits(
    found: Sequence[Structure], identical: Sequence[Sequence[int]]
) -> list[list[tuple[Structure, dict[int, int]]]]:
    """Structures that the exchange of identical legs relates, together.

    Args:
        found: structures.
        identical: sets of identical final legs.

    Returns:
        For each orbit its members, each with the legs that take the places of the first one's.
    """
    exchanges = []
    for orders in itertools.product(*map(itertools.permutations, identical)):
        pairs = zip(itertools.chain(*identical), itertools.chain(*orders), strict=True)
        exchanges.append(dict(pairs))
    seen: set[Structure] = set()
    result = []
    for structure in found:
        if structure in seen:
            continue
        members: dict[Structure, dict[int, int]] = {}
        for leg in exchanges or [{}]:
            members.setdefault(structure.relabelled(leg), leg)
        seen |= members.keys()
        result.append(list(members.items()))
    return result


def _covers(other: Structure, structure: Structure) -> bool:
    """Whether another structure has all clusters of this one, and more, resonances and heavy pairs."""
    mine, theirs = (frozenset(clusters(s)) for s in (structure, other))
    return mine < theirs and all(c.kind in ("resonance", "heavy") for c in theirs - mine)


def clusters(structure: Structure) -> list[Cluster]:
    """All clusters of a structure, those inside others included."""
    found: list[Cluster] = []
    nodes: list[Node] = list(structure.systems)
    while nodes:
        node = nodes.pop()
        if isinstance(node, Cluster):
            found.append(node)
            nodes += node.parts
    return found


def _has_contact(node: Node) -> bool:
    """Whether three or more parts meet in one point that no resonance explains."""
    if isinstance(node, int):
        return False
    is_contact = len(node.parts) > 2 and node.kind != "resonance"
    return is_contact or any(map(_has_contact, node.parts))


def legs_of(node: Node) -> frozenset[int]:
    """The final legs of a node."""
    return frozenset({node}) if isinstance(node, int) else node.legs


def _legs(node: Line | int) -> frozenset[int]:
    if isinstance(node, int):
        return frozenset({node})
    return frozenset().union(*map(_legs, node.parts))


def _lines(node: Line | int) -> Iterable[Line]:
    if isinstance(node, Line):
        yield node
        for part in node.parts:
            yield from _lines(part)


def _resonances(topologies: Iterable[Topology], reach: Reach) -> dict[frozenset[int], int]:
    """The resonance that each set of legs may come from; the widest where there are several."""
    found: dict[frozenset[int], int] = {}
    for topology in topologies:
        for line in itertools.chain(*map(_lines, topology.systems)):
            if reach.is_resonant(line):
                other = found.setdefault(_legs(line), line.pdg_id)
                if reach.width_gev(line.pdg_id) > reach.width_gev(other):
                    found[_legs(line)] = line.pdg_id
    return found


def _hadronic(
    topology: Topology, reach: Reach, resonances: Mapping[frozenset[int], int]
) -> Iterable[Structure]:
    systems: list[Node] = []
    for node in topology.systems:
        systems += _dissolved(node, reach, resonances)
    (first, *others) = systems
    has_peak = isinstance(first, Cluster) and first.kind in ("resonance", "bounded")
    if isinstance(first, Cluster) and not others and not has_peak:
        systems = list(first.parts)  # nothing happens at some s_hat
    systems.sort(key=_rank)
    for balancing in systems if len(systems) > 2 else systems[:1]:
        yield Structure((balancing, *(node for node in systems if node != balancing)))


def _dissolved(
    node: Line | int, reach: Reach, resonances: Mapping[frozenset[int], int]
) -> list[Node]:
    if isinstance(node, int):
        return [node]
    parts = [part for below in node.parts for part in _dissolved(below, reach, resonances)]
    parts.sort(key=_rank)
    if reach.is_resonant(node):
        return [reach.resonance(node.pdg_id, parts)]
    if reach.is_light(node):
        return [Cluster("light", tuple(parts))]
    # A photon beside a Z, say: the peak of the one serves the tail of the other.
    partner = resonances.get(_legs(node))
    if partner is not None:
        return [reach.resonance(partner, parts)]
    if reach.is_bounded(node):
        return [Cluster("bounded", tuple(parts))]
    return [Cluster("heavy", tuple(parts))] if reach.is_heavy(node) else parts


def _chain(topology: Topology, reach: Reach) -> Node:
    """A t-channel chain as nested clusters: the first system, and what remains."""
    first, *rest = (_kept(node, reach) for node in topology.systems)
    if not rest:
        return first
    remaining = Topology(systems=topology.systems[1:], spacelike=topology.spacelike[1:])
    mass = reach.mass_gev(topology.spacelike[0]) if topology.spacelike[0] else None
    return Cluster("chain", (first, _chain(remaining, reach)), spacelike_gev=mass)


def _kept(node: Line | int, reach: Reach) -> Node:
    if isinstance(node, int):
        return node
    parts = sorted((_kept(part, reach) for part in node.parts), key=_rank)
    if reach.is_resonant(node):
        return reach.resonance(node.pdg_id, parts)
    kind: Kind = "light" if reach.is_light(node) else "heavy"
    return Cluster(kind, tuple(parts), mass_gev=reach.mass_gev(node.pdg_id))


def _rank(node: Node) -> tuple[int, int]:
    """Heavy clusters, then light ones, then legs; by their first leg."""
    if isinstance(node, int):
        return 2, node
    return int(node.kind == "light"), min(node.legs)


def _relabelled(node: Node, leg: Mapping[int, int]) -> Node:
    if isinstance(node, int):
        return leg.get(node, node)
    parts = [_relabelled(part, leg) for part in node.parts]
    if node.spacelike_gev is None:
        parts.sort(key=_rank)
    return replace(node, parts=tuple(parts))
