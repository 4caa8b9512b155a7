"""A process string becomes subprocess groups: which flavours collide, and which share one |M|²."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlgen.cards import ProcessCard
from mlgen.core import SubprocessGroup
from mlgen.errors import CardError, ProcessError
from mlgen.physics.diagrams import Diagram, generate_diagrams
from mlgen.physics.grouping import AmplitudeComparison, Assignment
from mlgen.physics.model import STANDARD_PARTICLES, Model

GLUON = 21
LIGHT_QUARKS = (1, 2, 3, 4)
"""Massless in the Standard Model here; b is massive, and no part of p or j."""
LEPTONS = (11, 13, 15)
NEUTRINOS = (12, 14, 16)

MAX_OUTGOING = 6

_BEAMS = {"p": 2212, "e-": 11, "e+": -11, "mu-": 13, "mu+": -13}
_FIXED_MULTIPARTICLES = {
    "l-": (11, 13),
    "l+": (-11, -13),
    "vl": (12, 14, 16),
    "vl~": (-12, -14, -16),
}
_BOUND = re.compile(r"(?<!\S)([A-Za-z]\w*)\s*(<=|=)\s*(\d+)\s*$")


def particle_name(pdg_id: int, model: Model | None = None) -> str:
    """The name of a particle in process strings; its number where the model lacks it."""
    particles = STANDARD_PARTICLES if model is None else model.particles
    return particles[pdg_id].name if pdg_id in particles else str(pdg_id)


def process_name(pdg_ids: Sequence[int], model: Model | None = None) -> str:
    """`u u~ > e+ e- g` for (2, -2, -11, 11, 21)."""
    names = [particle_name(p, model) for p in pdg_ids]
    return " ".join(names[:2]) + " > " + " ".join(names[2:])


def beam_pdg_id(name: str) -> int:
    """The PDG id of a beam particle.

    Raises:
        ProcessError: no such beam.
    """
    if name not in _BEAMS:
        hint = "; antiprotons are not supported" if name == "p~" else ""
        raise ProcessError(f"beams.particles = {name!r}: expected one of {', '.join(_BEAMS)}{hint}")
    return _BEAMS[name]


def particle_names(model: Model) -> dict[str, tuple[int, ...]]:
    """What each name in a process string stands for: p, j, l+, l-, vl, vl~ and all particles.

    p and j are the gluon and the massless ones of d u s c b, and their antiparticles.
    """
    partons = sorted(
        (
            p
            for p in model.particles
            if (p == GLUON or abs(p) <= 5) and model.mass_gev(p) == 0 and model.width_gev(p) == 0
        ),
        key=_rank,
    )
    names = {"p": tuple(partons), "j": tuple(partons)}
    names |= {
        name: pdg_ids
        for name, pdg_ids in _FIXED_MULTIPARTICLES.items()
        if set(pdg_ids) <= set(model.particles)
    }
    return names | {particle.name: (p,) for p, particle in model.particles.items()}


def read_process(
    card: ProcessCard, beams: tuple[str, str], model: Model
) -> tuple[SubprocessGroup, ...]:
    """All subprocesses of a definition such as `p p > e+ e- j`, grouped by their |M|².

    Without `QED=..` or `QCD=..` at its end, a definition stands for the lowest coupling orders
    that it allows as a whole, as in MadGraph: orders are weighted by the model's hierarchy. With
    them, it stands for all that they leave, each order bounded from above.

    Args:
        card: the definition, and names for several particles.
        beams: the beam particles. Where they are alike and the definition allows a subprocess
            from both beam assignments, its group stands for both; `u u~ > e+ e- g` from two
            protons names the first parton, which comes from the first beam only.
        model: particles and couplings.

    Raises:
        CardError: a multiparticle is none.
        ProcessError: the string cannot be read, does not fit the beams, nothing is left, or a
            subprocess is left with several powers of the strong coupling.
    """
    definition = _read_definition(card, model)
    _check_beams(definition, beams, model)
    comparison = AmplitudeComparison(model)
    found = []
    for ids, n_orientations in _collisions(definition, beams, model):
        diagrams = comparison.nonvanishing(generate_diagrams(ids, model.ufo_folder))
        if diagrams:
            found.append((ids, n_orientations, diagrams))
    if not found:
        raise ProcessError(f"{definition.where}: no tree diagrams")
    groups: dict[object, list[Assignment]] = defaultdict(list)
    shared: dict[object, tuple[int, Diagram]] = {}
    for ids, n_orientations, diagrams in _select_orders(definition, found, model):
        assignment = comparison.assignment(
            ids, diagrams, definition.names, mirrored=n_orientations == 2
        )
        key = (n_orientations, assignment.key)
        groups[key].append(assignment)
        shared[key] = (n_orientations, diagrams[0])
    return tuple(_group(members, *shared[key], model) for key, members in groups.items())


_Subprocess = tuple[tuple[int, ...], int, tuple[Diagram, ...]]
"""Its PDG ids, how many beam assignments it stands for, and its diagrams."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Definition:
    where: str
    """For messages."""
    incoming: tuple[tuple[int, ...], ...]
    outgoing: tuple[tuple[int, ...], ...]
    """What may be on each leg."""
    names: tuple[str, ...]
    """What the definition calls each outgoing leg."""
    bounds: Mapping[str, int]


def _read_definition(card: ProcessCard, model: Model) -> _Definition:
    where = f"process.definition = {card.definition!r}"
    text, bounds = card.definition, {}
    while match := _BOUND.search(text):
        order, text = match[1], text[: match.start()]
        if order not in model.hierarchy or order in bounds:
            raise ProcessError(
                f"{where}: {match[0].strip()!r}: expected each coupling order once, of "
                + ", ".join(model.hierarchy)
            )
        bounds[order] = int(match[3])
    known = _with_multiparticles(card, model)
    left, _, right = text.partition(">")
    sides = []
    for side, expected in ((left.split(), "two"), (right.split(), "two to six")):
        if not (len(side) == 2 if expected == "two" else 2 <= len(side) <= MAX_OUTGOING):
            raise ProcessError(
                f"{where}: expected `a b > c d ...` with {expected} "
                f"particles on that side, got {len(side)}"
            )
        for name in side:
            if name not in known:
                raise ProcessError(f"{where}: no particle {name!r}; known: {', '.join(known)}")
        sides.append(tuple(known[name] for name in side))
    return _Definition(
        where=where,
        incoming=sides[0],
        outgoing=sides[1],
        names=tuple(right.split()),
        bounds=bounds,
    )


def _with_multiparticles(card: ProcessCard, model: Model) -> dict[str, tuple[int, ...]]:
    """The names of a model and those of a card."""
    known = particle_names(model)
    built_in = set(known)
    for name, members in card.multiparticles.items():
        where = f"process.multiparticles.{name} = {list(members)}"
        if name in built_in:
            raise CardError(f"{where}: expected a name that is not taken; {name} is built in")
        if not members or not re.fullmatch(r"[^\s<>=]+", name):
            raise CardError(f"{where}: expected a name without blanks and at least one particle")
        for member in members:
            if member not in known:
                raise CardError(f"{where}: no particle {member!r}; known: {', '.join(known)}")
        # A particle that is named twice counts once.
        known[name] = tuple(dict.fromkeys(p for member in members for p in known[member]))
    return known


def _check_beams(definition: _Definition, beams: tuple[str, str], model: Model) -> None:
    partons = set(particle_names(model)["p"])
    for slot, beam in zip(definition.incoming, beams, strict=True):
        beam_id = beam_pdg_id(beam)
        if not (set(slot) <= partons if beam == "p" else slot == (beam_id,)):
            raise ProcessError(
                f"{definition.where}: its incoming particles do not come from "
                f"beams.particles = {list(beams)}"
            )


def _collisions(
    definition: _Definition, beams: tuple[str, str], model: Model
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Each assignment of flavours, and for how many beam assignments it stands."""
    pairs = set(itertools.product(*definition.incoming)) if beams[0] == beams[1] else set()
    for ids in _assignments(definition, model):
        mirrored = ids[0] != ids[1] and (ids[1], ids[0]) in pairs
        if not mirrored or _rank(ids[0]) <= _rank(ids[1]):
            yield ids, 2 if mirrored else 1


def _assignments(definition: _Definition, model: Model) -> Iterator[tuple[int, ...]]:
    """Each assignment of flavours that no conservation law forbids, once.

    Final states that differ in order are one.
    """
    charges = conserved_charges(model)
    seen = set()
    for final in _final_states(definition.outgoing):
        # What flows out.
        total = sum(charges[p] for p in final)
        for initial in itertools.product(*definition.incoming):
            if np.abs(charges[initial[0]] + charges[initial[1]] - total).max(initial=0) > 1e-9:
                continue
            key = (*initial, *sorted(final))
            if key not in seen:
                seen.add(key)
                yield (*initial, *final)


def _final_states(slots: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """What the legs may be; among legs with the same choice, each set of flavours once."""
    positions: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, slot in enumerate(slots):
        positions[slot].append(position)
    choices = [
        itertools.combinations_with_replacement(slot, len(where))
        for slot, where in positions.items()
    ]
    order = [position for where in positions.values() for position in where]
    for choice in itertools.product(*choices):
        placed = dict(zip(order, itertools.chain(*choice), strict=True))
        yield tuple(placed[position] for position in range(len(slots)))


def conserved_charges(model: Model) -> dict[int, npt.NDArray[np.float64]]:
    """The additive charges of each particle that all vertices of a model conserve.

    They span the space of solutions of sum_i q_i = 0, one equation for each vertex, over the
    particles i that flow into it: electric charge, baryon and lepton numbers and the like.
    """
    kinds = [
        p for p, particle in model.particles.items() if p > 0 and not particle.is_self_conjugate
    ]
    column = {p: index for index, p in enumerate(kinds)}
    equations = np.zeros((len(model.vertices()) + 1, len(kinds)))
    for row, vertex in zip(equations, model.vertices(), strict=False):
        for p in vertex.particles:
            if abs(p) in column:
                row[column[abs(p)]] += 1 if p > 0 else -1
    _, singular, basis = np.linalg.svd(equations)
    solutions = basis[(singular > 1e-9 * singular.max(initial=1.0)).sum() :].T
    charges = {p: np.zeros(solutions.shape[1]) for p in model.particles}
    for p, index in column.items():
        charges[p], charges[-p] = solutions[index], -solutions[index]
    return charges


def _select_orders(
    definition: _Definition, subprocesses: Iterable[_Subprocess], model: Model
) -> list[_Subprocess]:
    """What the coupling orders leave: each subprocess with one power of each coupling."""

    def weight(diagram: Diagram) -> int:
        return sum(model.hierarchy.get(name, 1) * power for name, power in diagram.orders)

    def within(diagram: Diagram) -> bool:
        if not definition.bounds:
            return weight(diagram) == lowest
        return all(diagram.order(name) <= bound for name, bound in definition.bounds.items())

    subprocesses = list(subprocesses)
    lowest = min(weight(diagram) for _, _, diagrams in subprocesses for diagram in diagrams)
    kept = []
    for ids, n_orientations, diagrams in subprocesses:
        selected = tuple(filter(within, diagrams))
        if not selected:
            continue
        orders = {_strong_and_weak(diagram) for diagram in selected}
        alike = [d for d in diagrams if _strong_and_weak(d) in orders]
        if len(orders) > 1 or len(alike) > len(selected):
            raise ProcessError(_mixture(definition, ids, alike, model))
        kept.append((ids, n_orientations, selected))
    if not kept:
        every = {d.orders for _, _, diagrams in subprocesses for d in diagrams}
        raise ProcessError(
            f"{definition.where}: no tree diagrams of these coupling orders; there are "
            + "; ".join(_orders_text(orders) for orders in sorted(every))
        )
    return kept


def _strong_and_weak(diagram: Diagram) -> tuple[int, int]:
    return diagram.order("QCD"), diagram.order("QED")


def _mixture(
    definition: _Definition, ids: tuple[int, ...], diagrams: Iterable[Diagram], model: Model
) -> str:
    """Why several coupling orders are refused, and what selects one of them."""
    every = sorted({diagram.orders for diagram in diagrams})
    powers = {name: {dict(orders).get(name, 0) for orders in every} for name in model.hierarchy}
    choices = " or ".join(f"{name}={min(p)}" for name, p in powers.items() if len(p) > 1)
    return (
        f"{definition.where}: {process_name(ids, model)} has diagrams of several coupling orders "
        f"({'; '.join(map(_orders_text, every))}), which interfere and are not kept apart here: "
        f"expected bounds that leave one of them; set {choices} at its end"
    )


def _orders_text(orders: tuple[tuple[str, int], ...]) -> str:
    return " ".join(f"{name}={power}" for name, power in orders) or "none"


def _group(
    members: Iterable[Assignment], n_orientations: int, diagram: Diagram, model: Model
) -> SubprocessGroup:
    assignments = sorted(members, key=lambda a: [_rank(p) for p in a.pdg_ids])
    first = assignments[0]
    return SubprocessGroup(
        name=process_name(first.pdg_ids, model),
        pdg_ids=tuple(assignment.aligned_with(first) for assignment in assignments),
        n_orientations=n_orientations,
        qcd_order=diagram.order("QCD"),
        qed_order=diagram.order("QED"),
    )


def _rank(pdg_id: int) -> tuple[bool, bool, bool, int]:
    """The gluon, then particles, then antiparticles; up-type quarks before down-type ones."""
    return pdg_id != GLUON, pdg_id < 0, pdg_id % 2 != 0, abs(pdg_id)
