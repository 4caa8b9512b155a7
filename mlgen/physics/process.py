"""A process string becomes subprocess groups: which flavours collide, and which share one |M|²."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from mlgen.core import SubprocessGroup
from mlgen.errors import ProcessError
from mlgen.physics.diagrams import generate_diagrams

GLUON = 21
LIGHT_QUARKS = (1, 2, 3, 4)
"""Massless in this model; b is massive, and no part of p or j."""
LEPTONS = (11, 13, 15)
NEUTRINOS = (12, 14, 16)

NAMES = {
    "d": 1, "u": 2, "s": 3, "c": 4, "b": 5, "t": 6,
    "d~": -1, "u~": -2, "s~": -3, "c~": -4, "b~": -5, "t~": -6,
    "e-": 11, "e+": -11, "mu-": 13, "mu+": -13, "ta-": 15, "ta+": -15,
    "ve": 12, "ve~": -12, "vm": 14, "vm~": -14, "vt": 16, "vt~": -16,
    "g": 21, "a": 22, "z": 23, "w+": 24, "w-": -24, "h": 25,
}  # fmt: skip
"""Particles as MadGraph writes them, and their PDG ids."""

_PARTONS = (GLUON, *LIGHT_QUARKS, *(-q for q in LIGHT_QUARKS))
MULTIPARTICLES = {"p": _PARTONS, "j": _PARTONS, "l-": (11, 13), "l+": (-11, -13)}

_PDG_NAMES = {pdg_id: name for name, pdg_id in NAMES.items()}
_BEAMS = {"p": 2212, **{name: NAMES[name] for name in ("e-", "e+", "mu-", "mu+")}}


def particle_name(pdg_id: int) -> str:
    """The name of a particle in process strings."""
    return _PDG_NAMES[pdg_id]


def process_name(pdg_ids: Sequence[int]) -> str:
    """`u u~ > e+ e- g` for (2, -2, -11, 11, 21)."""
    names = [particle_name(p) for p in pdg_ids]
    return " ".join(names[:2]) + " > " + " ".join(names[2:])


def beam_pdg_id(name: str) -> int:
    """The PDG id of a beam particle.

    Raises:
        ProcessError: no such beam.
    """
    if name not in _BEAMS:
        raise ProcessError(f"beams.particles = {name!r}: expected one of {', '.join(_BEAMS)}")
    return _BEAMS[name]


def read_process(definition: str, beams: tuple[str, str]) -> tuple[SubprocessGroup, ...]:
    """All subprocesses of a definition such as `p p > e+ e- j`, grouped by their |M|².

    A subprocess belongs where it has tree diagrams of the lowest QED order that the definition
    as a whole allows, as in MadGraph. Two subprocesses share a group where an exact symmetry
    of the model relates them: the exchange of the two massless generations, and, where no
    electroweak coupling takes part, any exchange of massless quarks.

    Args:
        definition: particles as in `NAMES`, and p, j, l+, l-.
        beams: the beam particles. Where they are alike and the definition allows a subprocess
            from both beam assignments, its group stands for both; `u u~ > e+ e- g` from two
            protons names the first parton, which comes from the first beam only.

    Raises:
        ProcessError: the string cannot be read, does not fit the beams, or nothing is left.
    """
    incoming, outgoing = _read_definition(definition)
    for slot, beam in zip(incoming, beams, strict=True):
        beam_id = beam_pdg_id(beam)
        fits = set(slot) <= set(_PARTONS) if beam == "p" else slot == (beam_id,)
        if not fits:
            raise ProcessError(
                f"process.definition = {definition!r}: its incoming particles do not come from "
                f"beams.particles = {list(beams)}"
            )
    collisions = set(itertools.product(*incoming)) if beams[0] == beams[1] else set()
    diagrams = {}
    for ids in _assignments(incoming, outgoing):
        mirrored = ids[0] != ids[1] and (ids[1], ids[0]) in collisions
        if mirrored and not _is_canonical_order(ids):
            continue
        orders = {(d.order("QED"), d.order("QCD")) for d in generate_diagrams(ids)}
        if orders:
            diagrams[ids] = (orders, 2 if mirrored else 1)
    if not diagrams:
        raise ProcessError(f"process.definition = {definition!r}: no tree diagrams")
    lowest = min(min(orders) for orders, _ in diagrams.values())
    members: dict[tuple[tuple[int, ...], int], list[tuple[int, ...]]] = {}
    for ids, (orders, n_orientations) in diagrams.items():
        if lowest in orders:
            key = (_representative(ids, lowest[0]), n_orientations)
            members.setdefault(key, []).append(ids)
    return tuple(
        _group(representative, ids, n_orientations, lowest)
        for (representative, n_orientations), ids in members.items()
    )


def _group(
    representative: tuple[int, ...],
    members: list[tuple[int, ...]],
    n_orientations: int,
    orders: tuple[int, int],
) -> SubprocessGroup:
    ordered = sorted(members, key=lambda ids: (ids != representative, ids))
    qed_order, qcd_order = orders
    return SubprocessGroup(
        name=process_name(ordered[0]),
        pdg_ids=tuple(ordered),
        n_orientations=n_orientations,
        qcd_order=qcd_order,
        qed_order=qed_order,
    )


def _read_definition(definition: str) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    left, _, right = definition.partition(">")
    sides = []
    for side, expected in ((left.split(), "two"), (right.split(), "two to six")):
        if not (len(side) == 2 if expected == "two" else 2 <= len(side) <= 6):
            raise ProcessError(
                f"process.definition = {definition!r}: expected `a b > c d ...` with {expected} "
                f"particles on that side, got {len(side)}"
            )
        slots = []
        for name in side:
            if name in MULTIPARTICLES:
                slots.append(MULTIPARTICLES[name])
            elif name in NAMES:
                slots.append((NAMES[name],))
            else:
                known = ", ".join((*MULTIPARTICLES, *NAMES))
                raise ProcessError(
                    f"process.definition = {definition!r}: no particle {name!r}; known: {known}"
                )
        sides.append(slots)
    return sides[0], sides[1]


def _assignments(
    incoming: Iterable[tuple[int, ...]], outgoing: Iterable[tuple[int, ...]]
) -> Iterable[tuple[int, ...]]:
    """Each assignment of flavours to the slots once; final states that differ in order are one."""
    seen = set()
    for ids in itertools.product(*incoming, *outgoing):
        if sum(map(_charge, ids[:2])) != sum(map(_charge, ids[2:])):
            continue
        key = (*ids[:2], *sorted(ids[2:]))
        if key not in seen:
            seen.add(key)
            yield ids


def _charge(pdg_id: int) -> int:
    """The electric charge in units of e/3."""
    kind = abs(pdg_id)
    charge = {11: -3, 13: -3, 15: -3, 24: 3}.get(kind, 0)
    if kind <= 6:
        charge = -1 if kind % 2 else 2
    return charge if pdg_id > 0 else -charge


def _is_canonical_order(ids: tuple[int, ...]) -> bool:
    """Of the two beam assignments, the one with the gluon, then the particle, first."""
    return _parton_rank(ids[0]) <= _parton_rank(ids[1])


def _parton_rank(pdg_id: int) -> tuple[bool, bool, int]:
    return pdg_id != GLUON, pdg_id < 0, abs(pdg_id)


def _representative(ids: tuple[int, ...], qed_order: int) -> tuple[int, ...]:
    """The same flavours up to the exact symmetries of the model: equal for equal |M|²."""
    if qed_order == 0:
        relabelled: dict[int, int] = {}
        for p in ids:
            if abs(p) in LIGHT_QUARKS:
                relabelled.setdefault(abs(p), (2, 1, 4, 3)[len(relabelled)])
        return tuple(relabelled.get(abs(p), abs(p)) * (1 if p > 0 else -1) for p in ids)
    exchanged = {1: 3, 3: 1, 2: 4, 4: 2}
    other = tuple(exchanged.get(abs(p), abs(p)) * (1 if p > 0 else -1) for p in ids)
    return min(ids, other, key=lambda i: [abs(p) for p in i])
