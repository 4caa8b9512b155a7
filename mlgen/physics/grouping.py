"""Which flavour assignments have one |M|², by the values of all that enters their diagrams.

Two amplitudes are equal when they have the same diagrams, line by line, with the same masses,
widths, spins and colours, and the same couplings at each vertex. The values are compared at the
given parameters and at random ones, so that a coincidence is not taken for a law.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlgen.physics.diagrams import Diagram
from mlgen.physics.model import Model, Vertex

N_VARIED = 2
"""How many random parameter points are compared beside the given one."""
N_DIGITS = 10
"""To how many significant digits values are compared."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The flavours of a subprocess, and what its |M|² is made of."""

    pdg_ids: tuple[int, ...]
    key: Hashable
    """Equal for equal |M|², once the legs are brought to the order of `legs`."""
    legs: tuple[int, ...]
    """The order of legs in which the key was taken."""

    def aligned_with(self, other: Assignment) -> tuple[int, ...]:
        """The PDG ids, with each leg where the other assignment, of the same key, has its like."""
        like = dict(zip(other.legs, self.legs, strict=True))
        return tuple(self.pdg_ids[like[leg]] for leg in range(len(self.legs)))


class AmplitudeComparison:
    """Keys of amplitudes of one model, comparable with one another."""

    def __init__(self, model: Model) -> None:
        rng = random.Random(1)
        self._points = [model, *(model.varied(rng) for _ in range(N_VARIED))]
        self._rules = _rules(self._points)
        self._numbers: dict[Hashable, int] = {}
        self._lines: dict[int, int] = {}

    def nonvanishing(self, diagrams: Iterable[Diagram]) -> tuple[Diagram, ...]:
        """The diagrams without those that have a vertex that the model's parameters switch off."""
        return tuple(d for d in diagrams if all(vertex in self._rules for vertex in d.vertices))

    def assignment(
        self,
        pdg_ids: tuple[int, ...],
        diagrams: Sequence[Diagram],
        names: Sequence[str],
        mirrored: bool,
    ) -> Assignment:
        """What the |M|² of a subprocess is made of.

        Args:
            pdg_ids: two incoming legs first.
            diagrams: those that make the amplitude.
            names: of the outgoing legs; those with the same name may be exchanged.
            mirrored: whether the incoming legs may be exchanged, too.
        """
        lines = [self._line(p) for p in pdg_ids]
        incoming = [(0, 1), (1, 0)] if mirrored and lines[0] == lines[1] else [(0, 1)]
        written = [self._write(diagram) for diagram in diagrams]
        amplitude, legs = min(
            (_reordered(written, (*first, *legs)), (*first, *legs))
            for first in incoming
            for legs in _leg_orders(pdg_ids, lines, names)
        )
        outside = tuple(lines[leg] for leg in legs)
        # |M|² holds a factor for identical outgoing particles.
        final = [pdg_ids[leg] for leg in legs[2:]]
        identical = tuple(final.index(p) for p in final)
        return Assignment(pdg_ids=pdg_ids, key=(outside, identical, amplitude), legs=legs)

    def _number(self, value: Hashable) -> int:
        """Equal values have one number, different ones have different numbers."""
        return self._numbers.setdefault(value, len(self._numbers))

    def _line(self, pdg_id: int) -> int:
        """What a particle is, as an external leg or inside."""
        if pdg_id not in self._lines:
            particle = self._points[0].particles[pdg_id]
            flow = 0 if particle.is_self_conjugate else 1 if pdg_id > 0 else -1
            inertia = [
                (_rounded(point.mass_gev(pdg_id)), _rounded(point.width_gev(pdg_id)))
                for point in self._points
            ]
            what = (particle.spin, particle.colour, flow, tuple(inertia))
            self._lines[pdg_id] = self._number(what)
        return self._lines[pdg_id]

    def _write(self, diagram: Diagram) -> _Written:
        conjugate = self._points[0].conjugate
        propagators = [
            (_mask(p.legs), self._line(p.pdg_id), self._line(conjugate(p.pdg_id)))
            for p in diagram.propagators
        ]
        vertices = []
        for particles, lines in zip(diagram.vertices, diagram.lines, strict=True):
            rule = self._rules[particles]
            places = [
                (rule.order.index(p), _mask(legs)) for p, legs in zip(particles, lines, strict=True)
            ]
            vertices.append((self._number(rule.values), places))
        return _Written(propagators=propagators, vertices=vertices)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    """A diagram in numbers; a line is named by the legs on its far side, as a bit mask."""

    propagators: list[tuple[int, int, int]]
    """The line, what flows to its far side, and what flows back."""
    vertices: list[tuple[int, list[tuple[int, int]]]]
    """The rule, and for each line its place in the rule."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """All that a model says of the vertices of some particles."""

    order: tuple[int, ...]
    """The particles, in the order of the rule."""
    values: Hashable
    """Couplings, their structures and which lines they treat alike."""


def _rules(points: Sequence[Model]) -> dict[tuple[int, ...], _Rule]:
    """The rule for each sorted tuple of particles that flow into a vertex."""
    tables: list[dict[tuple[int, ...], list[Vertex]]] = []
    for point in points:
        table: dict[tuple[int, ...], list[Vertex]] = defaultdict(list)
        for vertex in point.vertices():
            table[tuple(sorted(vertex.particles))].append(vertex)
        tables.append(table)
    rules = {}
    for particles, vertices in tables[0].items():
        order = vertices[0].particles
        values = [
            [
                (tuple(map(order.index, vertex.particles)), vertex.orders, _values(vertex))
                for vertex in table[particles]
            ]
            for table in tables
        ]
        rules[particles] = _Rule(order=order, values=tuple(map(tuple, values)))
    return rules


def _values(vertex: Vertex) -> Hashable:
    return tuple(
        (structure, _rounded(coupling.real, abs(coupling)), _rounded(coupling.imag, abs(coupling)))
        for structure, coupling in vertex.couplings
    )


def _rounded(value: float, size: float | None = None) -> float:
    """A value to the digits that are compared, counted from its own size or the given one."""
    size = abs(value) if size is None else size
    if size == 0:
        return 0.0
    # Adding 0.0 makes -0.0 an ordinary zero.
    return round(value, N_DIGITS - 1 - math.floor(math.log10(size))) + 0.0


def _mask(legs: Iterable[int]) -> int:
    return sum(1 << leg for leg in legs)


def _leg_orders(
    pdg_ids: Sequence[int], lines: Sequence[int], names: Sequence[str]
) -> Iterator[tuple[int, ...]]:
    """The orders of outgoing legs in which two amplitudes are to be compared.

    Legs of one name are sorted by what they are; those that are alike are tried in all orders,
    identical particles in one.
    """
    alike: dict[tuple[str, int], list[int]] = defaultdict(list)
    for leg, name in enumerate(names, start=2):
        alike[name, lines[leg]].append(leg)
    choices = []
    for legs in alike.values():
        orders = {tuple(pdg_ids[leg] for leg in o): o for o in itertools.permutations(legs)}
        choices.append(list(orders.values()))
    for chosen in itertools.product(*choices):
        queues: dict[str, list[int]] = defaultdict(list)
        for (name, _), ordered in sorted(zip(alike, chosen, strict=True)):
            queues[name] += ordered
        yield tuple(queues[name].pop(0) for name in names)


def _reordered(diagrams: Iterable[_Written], legs: Sequence[int]) -> Hashable:
    """The diagrams with their legs in another order, sorted."""
    masks = {0: 0}
    for place, leg in enumerate(legs):
        masks |= {mask | 1 << leg: new | 1 << place for mask, new in masks.items()}
    everything = (1 << len(legs)) - 1
    # The far side of a line is the one without the first leg.
    masks = {mask: everything ^ new if new & 1 else new for mask, new in masks.items()}
    turned = legs[0] != 0
    amplitude = []
    for diagram in diagrams:
        propagators = []
        for mask, forth, back in diagram.propagators:
            # Leg 1 comes first now: lines that had it on their far side are named by the other.
            propagators.append((masks[mask], back if turned and mask & 2 else forth))
        vertices = [
            (number, tuple(sorted((place, masks[mask]) for place, mask in places)))
            for number, places in diagram.vertices
        ]
        amplitude.append((tuple(sorted(propagators)), tuple(sorted(vertices))))
    return tuple(sorted(amplitude))
