"""What the Les Houches accord, and physics, demand of events: the rules that `check_file` applies.

Each rule looks at a table of events at once and yields the faults it looks for, with a mask of the
events that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pylhe
from numpy.typing import NDArray
from particle.pdgid import three_charge

from mlgen.core import Variation
from mlgen.events.lhe_scan import MAX_WHOLE, EventTable
from mlgen.events.writing import UNIT_WEIGHTS

Severity = Literal["error", "warning"]
Mask = NDArray[np.bool_]

WEIGHT_TOLERANCE = 1e-6
"""What a weight may miss of what it is compared with, for rounding in print."""

LARGEST_QUARK = 8
GLUON = 21
COLOURLESS = (*range(11, 19), *range(22, 26), *range(32, 38))
INCOMING, OUTGOING, RESONANCE = -1, 1, 2
STATUSES = (INCOMING, OUTGOING, RESONANCE, -2, 3, -9)


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, and which events of a table have it."""

    severity: Severity
    expected: str
    mask: Mask
    """(n,)."""
    got: Callable[[int], str]
    """What is found in an event that has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The columns of a table under their names; (n, n_max) but for `info`."""

    info: NDArray[np.float64]
    """(n, N_INFO)."""
    is_row: Mask
    pdg_id: NDArray[np.int64]
    status: NDArray[np.int64]
    mothers: NDArray[np.int64]
    """(n, n_max, 2)."""
    colour: NDArray[np.int64]
    """(n, n_max, 2)."""
    momenta: NDArray[np.float64]
    """(n, n_max, 4): px, py, pz, E in the order of the file."""
    mass: NDArray[np.float64]
    spin: NDArray[np.float64]

    @classmethod
    def of(cls, table: EventTable) -> View:
        whole = table.particles[..., :6].astype(np.int64)
        return cls(
            info=table.info,
            is_row=_is_row(table),
            pdg_id=whole[..., 0],
            status=whole[..., 1],
            mothers=whole[..., 2:4],
            colour=whole[..., 4:6],
            momenta=table.particles[..., 6:10],
            mass=table.particles[..., 10],
            spin=table.particles[..., 12],
        )

    def row_fault(self, severity: Severity, expected: str, mask: Mask, name: str) -> Fault:
        """A fault of single rows (n, n_max), whose column or columns `name` are shown."""

        def got(event: int) -> str:
            row = int(mask[event].argmax())
            return f"line {row + 1}: {name} = {getattr(self, name)[event, row].tolist()}"

        return Fault(severity, expected, np.any(mask, axis=1), got)


def _is_row(table: EventTable) -> Mask:
    """Which rows of the table belong to their event: (n, n_max)."""
    mask: Mask = np.arange(table.particles.shape[1]) < table.info[:, :1]
    return mask


def number_faults(table: EventTable) -> Iterator[Fault]:
    """Numbers that are none, or not whole."""
    particles = table.particles.reshape(len(table.info), -1)
    numbers = np.concatenate([table.info, particles, table.weights], axis=1)
    infinite = np.any(~np.isfinite(numbers), axis=1)
    yield Fault("error", "finite numbers", infinite, lambda _: "NaN or infinity")
    counts = table.particles[..., :6].reshape(len(table.info), -1)
    broken = np.any((counts != np.floor(counts)) | (np.abs(counts) > MAX_WHOLE), axis=1)
    yield Fault(
        "error",
        "whole numbers for ids, statuses, mothers and colours",
        broken & ~infinite,
        lambda _: "a fraction",
    )


def particle_faults(view: View) -> Iterator[Fault]:
    """Ids, statuses, mothers and spins that cannot be."""
    status, is_row = view.status, view.is_row
    yield view.row_fault(
        "error", "a particle's PDG id, not 0", is_row & (view.pdg_id == 0), "pdg_id"
    )
    yield view.row_fault(
        "error", f"one of {STATUSES}", is_row & ~np.isin(status, STATUSES), "status"
    )
    n_incoming = (status == INCOMING).sum(1)
    yield Fault(
        "error",
        "two incoming particles",
        n_incoming != 2,
        lambda event: f"{n_incoming[event]} lines of status -1",
    )
    n_outgoing = (status == OUTGOING).sum(1)
    yield Fault(
        "error", "at least one outgoing particle", n_outgoing < 1, lambda _: "no line of status 1"
    )

    number = np.arange(1, 1 + is_row.shape[1])[:, None]
    mothers = view.mothers
    impossible = (mothers < 0) | (mothers > view.info[:, 0, None, None]) | (mothers == number)
    yield view.row_fault(
        "error", "lines of this event, not its own", is_row & impossible.any(2), "mothers"
    )
    has_mother = mothers[..., 0] > 0
    is_first = np.isin(status, (INCOMING, -9))
    yield view.row_fault(
        "error", "none, as it is incoming", is_row & is_first & has_mother, "mothers"
    )
    yield view.row_fault(
        "error", "a line that it comes from", is_row & ~is_first & ~has_mother, "mothers"
    )
    within = np.where(impossible | (mothers == 0), 0, mothers - 1)
    of_mothers = np.take_along_axis(status[..., None], within, axis=1)
    childless = ((of_mothers == OUTGOING) & (mothers > 0) & ~impossible).any(2)
    yield view.row_fault("error", "mothers that are not outgoing", is_row & childless, "mothers")
    barren = np.zeros_like(is_row)
    for row, from_it in _decays(view):
        barren[:, row] = (status[:, row] == RESONANCE) & ~from_it.any(1)
    yield view.row_fault("error", "decay products, as it is a resonance", barren, "pdg_id")
    odd = is_row & ~((np.abs(view.spin) <= 1) | (view.spin == 9))
    yield view.row_fault("warning", "a helicity within [-1, 1], or 9 for unknown", odd, "spin")


def colour_faults(view: View) -> Iterator[Fault]:
    """Colour on the wrong particles, and lines that do not close."""
    lines, antilines = view.colour[..., 0], view.colour[..., 1]
    size = np.abs(view.pdg_id)
    is_quark = (size >= 1) & (size <= LARGEST_QUARK)
    # A particle carries its charge's line as colour, an antiparticle as anticolour.
    own = np.where(view.pdg_id > 0, lines, antilines)
    other = np.where(view.pdg_id > 0, antilines, lines)
    wrong = is_quark & ((own == 0) | (other != 0))
    wrong |= (view.pdg_id == GLUON) & ((lines == 0) | (antilines == 0) | (lines == antilines))
    wrong |= np.isin(size, COLOURLESS) & ((lines != 0) | (antilines != 0))
    yield view.row_fault(
        "error",
        "the colours of such a particle (quark, gluon or neither)",
        view.is_row & wrong,
        "colour",
    )

    into = view.status == INCOMING
    out = view.status == OUTGOING
    yield _lines_fault(view, into, out, "colour lines that each begin and end once")
    for row, from_it in _decays(view):
        at = np.zeros_like(into)
        at[:, row] = from_it.any(1)
        yield _lines_fault(view, at, from_it, "colour lines that close in a resonance's decay")


def _lines_fault(view: View, into: Mask, out: Mask, expected: str) -> Fault:
    """Whether each tag flows once out of a vertex as colour and once as anticolour."""
    lines, antilines = view.colour[..., 0], view.colour[..., 1]
    ends = np.sort(np.where(out, lines, 0) + np.where(into, antilines, 0), axis=1)
    begins = np.sort(np.where(out, antilines, 0) + np.where(into, lines, 0), axis=1)
    repeated = (ends[:, 1:] == ends[:, :-1]) & (ends[:, 1:] != 0)
    return Fault(
        "error",
        expected,
        (ends != begins).any(1) | repeated.any(1),
        lambda event: f"ICOLUP = {view.colour[event][(into | out)[event]].tolist()}",
    )


def kinematic_faults(view: View, tolerance: float) -> Iterator[Fault]:
    """Charge and momentum that are not conserved, masses off shell, negative energies."""
    into = view.status == INCOMING
    out = view.status == OUTGOING
    energies = np.abs(view.momenta[..., 3])
    yield from _conservation_faults(view, into, out, tolerance, "as much as comes in")
    for row, from_it in _decays(view):
        at = np.zeros_like(into)
        at[:, row] = from_it.any(1)
        yield from _conservation_faults(
            view, at, from_it, tolerance, "as much as the resonance has"
        )

    momentum_squared = np.square(view.momenta[..., :3]).sum(-1)
    # A spacelike line has its mass, by the accord, with a minus sign.
    mass_squared = view.mass * np.abs(view.mass)
    off_shell = np.square(energies) - momentum_squared - mass_squared
    allowed = 4 * tolerance * np.square(energies)
    yield view.row_fault(
        "error", "sqrt(E² - p²), GeV", view.is_row & ~(np.abs(off_shell) <= allowed), "mass"
    )
    yield view.row_fault(
        "error", "a positive energy", (into | out) & ~(view.momenta[..., 3] > 0), "momenta"
    )


def _conservation_faults(
    view: View, into: Mask, out: Mask, tolerance: float, expected: str
) -> Iterator[Fault]:
    sign = out.astype(np.int64) - into.astype(np.int64)
    thirds, is_known = _charges(view.pdg_id)
    excess = (sign * thirds).sum(1)
    all_known = (is_known | (sign == 0)).all(1)
    yield Fault(
        "error",
        f"charge: {expected}",
        all_known & (excess != 0),
        lambda event: f"charge out minus in = {excess[event]}/3",
    )
    missing = (sign[..., None] * view.momenta).sum(1)
    scale = np.where(into, np.abs(view.momenta[..., 3]), 0.0).sum(1)
    yield Fault(
        "error",
        f"momentum: {expected}",
        ~(np.abs(missing) <= tolerance * scale[:, None]).all(1),
        lambda event: f"(px, py, pz, E) out minus in = {missing[event].tolist()} GeV",
    )


def init_faults(view: View, init: pylhe.LHEInit, tolerance: float) -> Iterator[Fault]:
    """Events that contradict the init block."""
    first = init.initInfo
    known = [process.procId for process in init.procInfo]
    yield Fault(
        "error",
        f"one of LPRUP = {known}",
        ~np.isin(view.info[:, 1], known),
        lambda event: f"IDPRUP = {view.info[event, 1]:.0f}",
    )
    pz, energy = view.momenta[..., 2], view.momenta[..., 3]
    is_incoming = view.status == INCOMING
    for beam, mine in (
        (first.energyA, is_incoming & (pz > 0)),
        (first.energyB, is_incoming & (pz < 0)),
    ):
        above = mine & (energy > beam * (1 + tolerance))
        yield view.row_fault("error", f"at most the beam's energy, {beam} GeV", above, "momenta")
    yield Fault(
        "warning",
        "the first line along +z, the second along -z",
        ~((pz[:, 0] >= 0) & (pz[:, 1] <= 0)) if pz.shape[1] > 1 else np.zeros(len(pz), dtype=bool),
        lambda _: "incoming partons in another order",
    )
    weight, strategy = view.info[:, 2], first.weightingStrategy

    def got(event: int) -> str:
        return f"XWGTUP = {float(weight[event])!r} with IDWTUP = {strategy}"

    if abs(strategy) == UNIT_WEIGHTS:
        yield Fault("error", "1, but for the sign", np.abs(weight) != 1, got)
    if strategy > 0:
        yield Fault("error", "no negative weight", weight < 0, got)
    if abs(strategy) <= 2:
        largest = max(abs(process.unitWeight) for process in init.procInfo)
        above = np.abs(weight) > largest * (1 + WEIGHT_TOLERANCE)
        yield Fault("error", f"at most XMAXUP, {largest}", above, got)


def variation_faults(
    table: EventTable,
    declared: Sequence[Variation],
    init: pylhe.LHEInit,
    severity: Severity,
) -> Iterator[Fault]:
    """Further weights that are by their name the event's own, but differ from it."""
    pdf_ids = {init.initInfo.PDFsetA, init.initInfo.PDFsetB}
    own = table.info[:, 2]

    def shown(weight: NDArray[np.float64]) -> Callable[[int], str]:
        return lambda event: f"{float(weight[event])!r} with XWGTUP = {float(own[event])!r}"

    for weight, variation in zip(table.weights.T, declared, strict=True):
        is_nominal = variation.mu_r_factor == variation.mu_f_factor == 1
        if is_nominal and {variation.pdf_id} == pdf_ids:
            expected = f"XWGTUP in the weight {variation.name!r}, which is the event's own"
            differs = np.abs(weight - own) > WEIGHT_TOLERANCE * np.abs(own)
            yield Fault(severity, expected, differs, shown(weight))


def _decays(view: View) -> Iterator[tuple[int, Mask]]:
    """Each row that is a resonance in some event, and the rows (n, n_max) that come from it."""
    is_resonance = view.status == RESONANCE
    for row in np.flatnonzero(is_resonance.any(0)).tolist():
        only = np.isin(view.mothers[..., 1], (0, row + 1)) & (view.mothers[..., 0] == row + 1)
        yield row, only & view.is_row & is_resonance[:, row, None]


def _charges(pdg_id: NDArray[np.int64]) -> tuple[NDArray[np.int64], Mask]:
    """Three times the charge of each particle, and whether it is known."""
    ids, inverse = np.unique(pdg_id, return_inverse=True)
    found = [_three_charge(i) for i in ids.tolist()]
    thirds = np.array([0 if charge is None else charge for charge in found], dtype=np.int64)
    is_known = np.array([charge is not None for charge in found])
    return thirds[inverse].reshape(pdg_id.shape), is_known[inverse].reshape(pdg_id.shape)


@cache
def _three_charge(pdg_id: int) -> int | None:
    charge: int | None = three_charge(pdg_id) if pdg_id else 0
    return charge
