"""Tree-level Feynman diagrams, as families of nested sets of legs.

Cutting a propagator of a tree splits the external legs in two. The set that does not hold leg 0,
the first incoming one, names the propagator; two sets of one diagram are nested or have nothing in
common, so that the sets alone give the tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import feyngraph

from mlgen.core import SubprocessGroup
from mlgen.physics.ufo import UfoDefinition, read_ufo

GOLDSTONES = (250, 251)
"""feyngraph 0.1.0b4 works in Feynman gauge: these repeat what the Z and W propagators do."""


@dataclass(frozen=True, slots=True)
class Propagator:
    """An internal line of a diagram."""

    legs: frozenset[int]
    """The external legs on its far side: all but leg 0 may be there."""
    pdg_id: int
    """What flows towards them."""

    @property
    def is_spacelike(self) -> bool:
        """Whether it is a t-channel line: the second incoming leg is on its far side."""
        return 1 in self.legs


@dataclass(frozen=True, slots=True)
class Diagram:
    """A tree: its propagators, its vertices, and the coupling orders of those together."""

    propagators: tuple[Propagator, ...]
    """Smaller sets of legs first."""
    vertices: tuple[tuple[int, ...], ...]
    """The particles that meet at each vertex, all flowing in, each tuple sorted: first the vertex of leg 0, then the far end of each propagator."""
    lines: tuple[tuple[frozenset[int], ...], ...]
    """The legs on the far side of each line at each vertex, as `vertices` has its particle; leg 0 for the line that it is."""
    orders: tuple[tuple[str, int], ...]
    """`(("QCD", 1), ("QED", 2))`: powers of the couplings in the amplitude."""

    def order(self, coupling: str) -> int:
        """The power of a coupling in the amplitude."""
        return dict(self.orders).get(coupling, 0)


@dataclass(frozen=True, slots=True)
class DiagramModel:
    """A model as feyngraph has it."""

    rules: Any
    """A `feyngraph.Model`."""
    names: Mapping[int, str]
    """Each particle's name there."""

    def conjugate(self, pdg_id: int) -> int:
        """The antiparticle."""
        return -pdg_id if -pdg_id in self.names else pdg_id


@cache
def diagram_model(ufo_folder: str = "") -> DiagramModel:
    """The diagrams' rules of a UFO model, or, without one, of the Standard Model.

    Raises:
        ModelError: the folder cannot be read, or feyngraph has no such particles.
    """
    if not ufo_folder:
        rules = feyngraph.Model()
        return DiagramModel(rules=rules, names={p.pdg(): p.name() for p in rules.particles()})
    return _ufo_rules(read_ufo(ufo_folder))


def _ufo_rules(definition: UfoDefinition) -> DiagramModel:
    """The particles and vertices of a UFO model, one vertex for each set of coupling orders.

    feyngraph 0.1.0b4 has a reader of its own, which finds nothing where files have loops, and
    stumbles over many a Lorentz structure, those of the Standard Model among them.
    """
    particles = definition.particles
    rules: Any = feyngraph.Model.empty()
    for pdg_id, particle in particles.items():
        if particle.is_self_conjugate or pdg_id > 0:
            anti = pdg_id if particle.is_self_conjugate else -pdg_id
            names = (str(pdg_id), str(anti))
            is_fermion = particle.spin % 2 == 0
            line = "straight" if is_fermion else "dashed"
            # feyngraph 0.1.0b4 takes these in another order than its argument names and stub say.
            numbers = (particle.colour, pdg_id, particle.spin)
            rules.add_particle(*names, *numbers, *names, line, is_fermion)
    for index, vertex in enumerate(definition.vertices):
        n_fermions = sum(particles[p].spin % 2 == 0 for p in vertex.particles)
        # Which fermions are joined decides signs alone: by convention neighbours, two by two.
        spin_map = [position ^ 1 for position in range(n_fermions)]
        for power, orders in enumerate(vertex.couplings):
            name = f"V_{index}_{power}"
            rules.add_vertex(name, [str(p) for p in vertex.particles], spin_map, dict(orders))
    return DiagramModel(rules=rules, names={p: str(p) for p in particles})


@lru_cache(maxsize=4096)
def generate_diagrams(pdg_ids: tuple[int, ...], ufo_folder: str = "") -> tuple[Diagram, ...]:
    """All tree diagrams of a subprocess, two incoming legs first, of whatever coupling orders."""
    model = diagram_model(ufo_folder)
    container = feyngraph.generate_diagrams(
        [model.names[p] for p in pdg_ids[:2]], [model.names[p] for p in pdg_ids[2:]], 0, model.rules
    )
    # feyngraph 0.1.0b4: a DiagramContainer has a length and an index, but cannot be iterated.
    found = [_read(pdg_ids, container[i], model) for i in range(len(container))]
    return tuple(d for d in found if not any(abs(p.pdg_id) in GOLDSTONES for p in d.propagators))


def group_diagrams(group: SubprocessGroup, ufo_folder: str = "") -> tuple[Diagram, ...]:
    """The diagrams of a group's first flavour assignment, of the group's coupling orders."""
    return tuple(
        diagram
        for diagram in generate_diagrams(group.pdg_ids[0], ufo_folder)
        if (diagram.order("QCD"), diagram.order("QED")) == (group.qcd_order, group.qed_order)
    )


def _read(pdg_ids: tuple[int, ...], diagram: Any, model: DiagramModel) -> Diagram:
    lines = [_read_propagator(len(pdg_ids), line, model) for line in diagram.propagators()]
    propagators = tuple(sorted(lines, key=lambda p: (len(p.legs), sorted(p.legs))))
    vertices = _vertices(pdg_ids, propagators, model)
    return Diagram(
        propagators=propagators,
        vertices=tuple(tuple(pdg_id for pdg_id, _ in vertex) for vertex in vertices),
        lines=tuple(tuple(frozenset(legs) for _, legs in vertex) for vertex in vertices),
        orders=tuple(sorted(diagram.orders().items())),
    )


def _vertices(
    pdg_ids: tuple[int, ...], propagators: tuple[Propagator, ...], model: DiagramModel
) -> list[list[tuple[int, list[int]]]]:
    """What flows into each vertex, and the legs on the far side of its line, sorted."""
    flowing_in = [pdg_ids[0], pdg_ids[1], *(model.conjugate(p) for p in pdg_ids[2:])]
    ends = [(frozenset({leg}), pdg_id) for leg, pdg_id in enumerate(flowing_in)]
    # From its near end a line flows out: as its antiparticle flowing in.
    ends += [(p.legs, model.conjugate(p.pdg_id)) for p in propagators]
    everything = frozenset(range(len(pdg_ids)))
    found = []
    for legs, pdg_id in [(everything, pdg_ids[0]), *((p.legs, p.pdg_id) for p in propagators)]:
        below = [end for end in ends[1:] if end[0] < legs]
        children = [end for end in below if not any(end[0] < other[0] for other in below)]
        near_line = [0] if legs == everything else sorted(legs)
        lines = [(pdg_id, near_line), *((child, sorted(inside)) for inside, child in children)]
        found.append(sorted(lines))
    return found


def _read_propagator(n_ext: int, line: Any, model: DiagramModel) -> Propagator:
    """From feyngraph's momentum, a sum of external ones with signs."""
    signs = dict(enumerate(line.momentum()))
    inside = frozenset(leg for leg, sign in signs.items() if sign)
    leg = next(iter(inside))
    # Momenta of incoming legs enter the diagram, those of outgoing ones leave it.
    towards_inside = (signs[leg] > 0) == (leg > 1)
    if 0 in inside:
        far, towards_far = frozenset(range(n_ext)) - inside, not towards_inside
    else:
        far, towards_far = inside, towards_inside
    pdg_id = line.particle().pdg()
    return Propagator(legs=far, pdg_id=pdg_id if towards_far else model.conjugate(pdg_id))
