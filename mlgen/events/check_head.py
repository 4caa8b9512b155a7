"""What an event file says before its first event, and events that contradict it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mlgen.core import Variation
from mlgen.errors import EventFileError
from mlgen.events.check_findings import Fault, Findings, Mask, Severity
from mlgen.events.check_view import View
from mlgen.events.lhe_numbers import EventTable, exact_sum

WEIGHT_TOLERANCE = 1e-6
"""What a weight may miss of what it is compared with, for rounding in print."""

VERSIONS = ("1.0", "2.0", "3.0")
UNWEIGHTED = 3
"""|IDWTUP| of weights that are 1, but for their sign."""
CHARGED_LEPTONS = (11, 13)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessLine:
    """A line of the init block for one process."""

    cross_section_pb: float
    """XSECUP."""
    error_pb: float
    """XERRUP."""
    largest: float
    """XMAXUP."""
    number: int
    """LPRUP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InitBlock:
    """The init block, as the accord has it (hep-ph/0109068, section 3)."""

    beams: tuple[int, int]
    """IDBMUP."""
    energies_gev: tuple[float, float]
    """EBMUP."""
    pdf_ids: tuple[int, int]
    """PDFSUP."""
    strategy: int
    """IDWTUP."""
    processes: tuple[ProcessLine, ...]

    @classmethod
    def of(cls, lines: Sequence[str]) -> Self:
        """The block from its lines.

        Raises:
            EventFileError: a line has too few or too many numbers, or there are not NPRUP of them.
        """
        rows = [line.split() for line in lines if not line.lstrip().startswith("#")]
        if not rows or any(len(row) != (4 if i else 10) for i, row in enumerate(rows)):
            counts = [len(row) for row in rows]
            raise EventFileError(
                f"init block: lines of {counts} numbers: expected 10, then 4 for each process"
            )
        try:
            ids, energies = [int(word) for word in rows[0][:2] + rows[0][4:]], rows[0][2:4]
            block = cls(
                beams=(ids[0], ids[1]),
                energies_gev=(float(energies[0]), float(energies[1])),
                pdf_ids=(ids[4], ids[5]),
                strategy=ids[6],
                processes=tuple(
                    ProcessLine(
                        cross_section_pb=float(row[0]),
                        error_pb=float(row[1]),
                        largest=float(row[2]),
                        number=int(row[3]),
                    )
                    for row in rows[1:]
                ),
            )
        except ValueError as error:
            raise EventFileError(f"init block: {error}: expected its numbers") from None
        if ids[7] != len(block.processes) or not block.processes:
            raise EventFileError(
                f"NPRUP = {ids[7]}: expected {len(block.processes)}, the lines there are"
            )
        return block

    @property
    def cross_section_pb(self) -> float:
        """XSECUP, summed over processes."""
        return exact_sum(process.cross_section_pb for process in self.processes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What the rules need to know of a file, whatever its format."""

    init: InitBlock | None
    """None where it cannot be read."""
    variations: tuple[Variation, ...] = ()
    """What the columns of `EventTable.weights` are."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Of the files that mlgen wrote: the notes in their header."""
    counts_trials: bool = False
    """Whether the cross section is the sum of weights over that of trials, not over that of events."""

    @property
    def is_ours(self) -> bool:
        """Whether mlgen wrote it: then more is known of it than the accord demands."""
        return "n_events" in self.notes


def check_declared(names: Sequence[str], findings: Findings) -> None:
    """The names of the further weights that the header declares."""
    for name, count in Counter(names).items():
        if not name:
            what = "<initrwgt>: a weight without an id: expected one"
            findings.of_file("error", "declared_weights", what)
        elif count > 1:
            what = f"<weight id={name!r}> {count} times: expected once"
            findings.of_file("error", "declared_weights", what)


def check_init(init: InitBlock, findings: Findings) -> None:
    """The numbers of an init block."""

    def error(name: str, got: float, expected: str) -> None:
        findings.of_file("error", "init", f"{name} = {got}: expected {expected}")

    if abs(init.strategy) not in (1, 2, 3, 4):
        error("IDWTUP", init.strategy, "1 to 4, or the negative")
    for side, (pdg_id, energy) in enumerate(zip(init.beams, init.energies_gev, strict=True), 1):
        if pdg_id == 0:
            error(f"IDBMUP({side})", pdg_id, "the PDG id of a beam particle")
        if not (math.isfinite(energy) and energy > 0):
            error(f"EBMUP({side})", energy, "a positive energy in GeV")
    for process in init.processes:
        if not (math.isfinite(process.cross_section_pb) and process.cross_section_pb != 0):
            error("XSECUP", process.cross_section_pb, "a cross section in pb")
        if not (math.isfinite(process.error_pb) and process.error_pb >= 0):
            error("XERRUP", process.error_pb, "an error in pb")
        is_limit = abs(init.strategy) <= 2
        if not math.isfinite(process.largest) or (is_limit and process.largest == 0):
            error("XMAXUP", process.largest, "a largest weight")
    for number, count in Counter(process.number for process in init.processes).items():
        if count > 1:
            error("LPRUP", number, f"it once, not {count} times")


def init_faults(view: View, head: Head, tolerance: float) -> Iterator[Fault]:
    """Events that contradict the init block."""
    init = head.init
    if init is None:
        return
    known = [process.number for process in init.processes]
    yield Fault(
        "process_number",
        "error",
        f"one of LPRUP = {known}",
        ~np.isin(view.info[:, 1], known),
        lambda event: f"IDPRUP = {view.info[event, 1]:.0f}",
    )
    yield from _beam_faults(view, head, init, tolerance)
    yield from _weight_faults(view, init)


def _beam_faults(view: View, head: Head, init: InitBlock, tolerance: float) -> Iterator[Fault]:
    pz, energy = view.momenta[..., 2], view.momenta[..., 3]
    for beam, pdg_id, pdf_id, is_ahead in zip(
        init.energies_gev, init.beams, init.pdf_ids, (pz > 0, pz < 0), strict=True
    ):
        mine = view.is_incoming & is_ahead
        above = mine & (energy > beam * (1 + tolerance))
        yield view.row_fault(
            "beam_energy", "error", f"at most the beam's energy, {beam} GeV", above, "momenta"
        )
        if head.is_ours and pdf_id == 0 and abs(pdg_id) in CHARGED_LEPTONS:
            below = mine & (energy < beam * (1 - tolerance))
            yield view.row_fault(
                "beam_energy", "error", f"the beam's energy, {beam} GeV", below, "momenta"
            )
            other = mine & (view.pdg_id != pdg_id)
            yield view.row_fault(
                "beam_particle", "error", f"the beam's particle, {pdg_id}", other, "pdg_id"
            )
    if pz.shape[1] > 1:
        yield Fault(
            "incoming_order",
            "warning",
            "the first line along +z, the second along -z",
            ~((pz[:, 0] >= 0) & (pz[:, 1] <= 0)),
            lambda _: "incoming partons in another order",
        )


def _weight_faults(view: View, init: InitBlock) -> Iterator[Fault]:
    """Weights that IDWTUP does not allow."""
    weight, strategy = view.info[:, 2], init.strategy

    def got(event: int) -> str:
        return f"XWGTUP = {float(weight[event])!r} with IDWTUP = {strategy}"

    if strategy > 0:
        yield Fault("weight_sign", "error", "no negative weight", weight < 0, got)
    if abs(strategy) <= 2:
        for process in init.processes:
            limit = abs(process.largest)
            above = np.abs(weight) > limit * (1 + WEIGHT_TOLERANCE)
            above &= view.info[:, 1] == process.number
            yield Fault("largest_weight", "error", f"at most XMAXUP, {limit}", above, got)


def unit_faults(table: EventTable, head: Head, first: float) -> Iterator[Fault]:
    """Weights under |IDWTUP| = 3 that are not 1, but for their sign.

    Some generators write another number there, the same for all events; readers ignore it.

    Args:
        table: n events.
        head: of the file.
        first: the weight of the first event.
    """
    if head.init is None or abs(head.init.strategy) != UNWEIGHTED:
        return
    size, strategy = np.abs(table.info[:, 2]), head.init.strategy

    def got(event: int) -> str:
        return f"XWGTUP = {float(table.info[event, 2])!r} with IDWTUP = {strategy}"

    is_common: Mask = size == (1.0 if head.is_ours else abs(first))
    yield Fault("unit_weight", "error", "1, but for the sign", (size != 1) & ~is_common, got)
    yield Fault(
        "unit_weight", "warning", "1 by the accord, but for the sign", (size != 1) & is_common, got
    )


def variation_faults(table: EventTable, head: Head) -> Iterator[Fault]:
    """Further weights that are by their name the event's own, but differ from it."""
    if head.init is None:
        return
    own = table.info[:, 2]
    severity: Severity = "error" if head.is_ours else "warning"

    def shown(weight: NDArray[np.float64]) -> Callable[[int], str]:
        return lambda event: f"{float(weight[event])!r} with XWGTUP = {float(own[event])!r}"

    for weight, variation in zip(table.weights.T, head.variations, strict=True):
        is_nominal = variation.mu_r_factor == variation.mu_f_factor == 1
        if is_nominal and {variation.pdf_id} == set(head.init.pdf_ids):
            expected = f"XWGTUP in the weight {variation.name!r}, which is the event's own"
            differs = np.abs(weight - own) > WEIGHT_TOLERANCE * np.abs(own)
            yield Fault("nominal_weight", severity, expected, differs, shown(weight))
