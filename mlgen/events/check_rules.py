"""What the Les Houches accord, and physics, demand of each event, colour and weights apart.

Each rule looks at a table of events at once and yields the faults it looks for, with a mask of the
events that have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray
from particle.pdgid import three_charge

from mlgen.events.check_findings import Fault, Mask
from mlgen.events.check_view import INCOMING, OUTGOING, RESONANCE, View
from mlgen.events.lhe_numbers import MAX_WHOLE, EventTable

STATUSES = (INCOMING, OUTGOING, RESONANCE, -2, 3, -9)
UNKNOWN = -1
"""SCALUP, AQEDUP or AQCDUP that the generator does not know."""
UNKNOWN_SPIN = 9
LARGEST_COUPLING = 10.0

FREE_NUMBERS = ((51, 60), (81, 100), (5_000_000, 8_999_999), (9_000_000, 9_000_999))
"""|IDUP| that models give to particles of their own: particle 1.1.0 reads a charge from the digits."""

N_COMMON = 64
"""|IDUP| below this is looked up at once."""


def number_faults(table: EventTable) -> tuple[Fault, ...]:
    """Numbers that are none, or not whole: what no other rule can look at."""
    particles = table.particles.reshape(len(table.info), -1)
    is_finite: Mask = np.all(np.isfinite(particles), axis=1)
    for numbers in (table.info, table.weights):
        is_finite = is_finite & np.all(np.isfinite(numbers), axis=1)
    counts = table.particles[..., :6]
    broken = (counts != np.floor(counts)) | (np.abs(counts) > MAX_WHOLE)
    return (
        Fault("finite", "error", "finite numbers", ~is_finite, lambda _: "NaN or infinity"),
        Fault(
            "whole",
            "error",
            "whole numbers for ids, statuses, mothers and colours",
            broken.any((1, 2)) & is_finite,
            lambda _: "a fraction",
        ),
    )


def particle_faults(view: View) -> Iterator[Fault]:
    """Ids, statuses, spins and lifetimes that cannot be."""
    status, is_row = view.status, view.is_row
    yield view.row_fault(
        "pdg_id", "error", "a particle's PDG id, not 0", is_row & (view.pdg_id == 0), "pdg_id"
    )
    is_common = view.is_incoming | view.is_outgoing | (status == RESONANCE)
    rare = is_row & ~is_common
    if rare.any():
        rare &= ~np.isin(status, STATUSES)
    yield view.row_fault("status", "error", f"one of {STATUSES}", rare, "status")
    n_incoming = view.is_incoming.sum(1)
    yield Fault(
        "incoming",
        "error",
        "two incoming particles",
        n_incoming != 2,
        lambda event: f"{n_incoming[event]} lines of status -1",
    )
    yield Fault(
        "outgoing",
        "error",
        "at least one outgoing particle",
        ~np.any(view.is_outgoing, axis=1),
        lambda _: "no line of status 1",
    )
    odd = ~((np.abs(view.spin) <= 1) | (view.spin == UNKNOWN_SPIN))
    yield view.row_fault(
        "spin", "warning", "a helicity within [-1, 1], or 9 for unknown", odd, "spin"
    )
    yield view.row_fault(
        "lifetime", "warning", "a lifetime in mm, not negative", view.lifetime < 0, "lifetime"
    )


def event_faults(view: View) -> Iterator[Fault]:
    """Scales and couplings that cannot be."""
    scale = view.info[:, 3]
    yield Fault(
        "scale",
        "warning",
        "a positive scale in GeV, or -1 for unknown",
        ~((scale > 0) | (scale == UNKNOWN)),
        lambda event: f"SCALUP = {scale[event]}",
    )
    couplings = view.info[:, 4:6]
    is_odd = (couplings < 0) & (couplings != UNKNOWN) | (couplings > LARGEST_COUPLING)
    yield Fault(
        "coupling",
        "warning",
        f"couplings of 0 to {LARGEST_COUPLING:g}, or -1 for unknown",
        is_odd.any(1),
        lambda event: f"AQEDUP, AQCDUP = {couplings[event].tolist()}",
    )


def mother_faults(view: View) -> Iterator[Fault]:
    """Mothers that cannot be, and resonances without decay products."""
    status, is_row, mothers = view.status, view.is_row, view.mothers
    first, last = mothers[..., 0], mothers[..., 1]
    number = np.arange(1, 1 + is_row.shape[1])
    n_rows = view.info[:, :1]
    impossible = (first < 0) | (last < 0) | (first > n_rows) | (last > n_rows)
    impossible |= (first == number) | (last == number)
    impossible &= is_row
    yield view.row_fault(
        "mothers", "error", "lines of this event, not its own", impossible, "mothers"
    )
    has_mother = first > 0
    is_first = view.is_incoming | (status == -9)
    yield view.row_fault(
        "mothers", "error", "none, as it is incoming", is_first & has_mother, "mothers"
    )
    yield view.row_fault(
        "mothers", "error", "a line that it comes from", is_row & ~is_first & ~has_mother, "mothers"
    )
    is_sound = ~impossible
    childless = np.zeros_like(is_row)
    for mother in (first, last):
        at = np.where(is_sound & (mother > 0), mother - 1, 0)
        of_mother = np.take_along_axis(view.is_outgoing, at, axis=1)
        childless |= is_sound & (mother > 0) & of_mother
    yield view.row_fault("mothers", "error", "mothers that are not outgoing", childless, "mothers")
    late = is_sound & (np.maximum(first, last) > number)
    if late.any():
        yield view.row_fault(
            "mothers", "error", "no line that is its own ancestor", _loops(view, late), "mothers"
        )
        yield view.row_fault("mother_order", "warning", "lines above its own", late, "mothers")
    is_resonance = status == RESONANCE
    yield view.row_fault(
        "decay_products",
        "error",
        "decay products, as it is a resonance",
        is_resonance & ~_is_mother(view),
        "pdg_id",
    )


def _is_mother(view: View) -> Mask:
    """Which rows (n, n_max) another one has as its mother."""
    n, n_max = view.status.shape
    is_mother = np.zeros((n, n_max + 1), dtype=np.bool_)
    for mother in (view.mothers[..., 0], view.mothers[..., 1]):
        at = np.where((mother > 0) & (mother <= n_max), mother, 0)
        np.put_along_axis(is_mother, at, True, axis=1)
    return is_mother[:, 1:]


def _loops(view: View, late: Mask) -> Mask:
    """Which rows (n, n_max) come from themselves, or from one that does.

    Args:
        view: n events.
        late: (n, n_max), rows that stand above a mother; in a loop there is at least one.
    """
    events = late.any(1)
    mothers = view.mothers[events]
    mothers = np.where((mothers > 0) & (mothers <= mothers.shape[1]), mothers, 0)
    # Column 0 stands for what has no mother.
    has_begin = np.zeros((len(mothers), mothers.shape[1] + 1), dtype=np.bool_)
    has_begin[:, 0] = True
    while True:
        begins = np.take_along_axis(has_begin, mothers[..., 0], axis=1)
        begins &= np.take_along_axis(has_begin, mothers[..., 1], axis=1)
        if not bool((begins & ~has_begin[:, 1:]).any()):
            break
        has_begin[:, 1:] |= begins
    loops = np.zeros_like(late)
    loops[events] = ~has_begin[:, 1:]
    return loops


def kinematic_faults(view: View, tolerance: float) -> Iterator[Fault]:
    """Charge and momentum that are not conserved, masses off shell, negative energies.

    Args:
        view: n events.
        tolerance: what a sum may miss, relative to the energies that enter it.
    """
    yield from _charge_faults(view)
    yield from _momentum_faults(view, tolerance)
    energy = view.momenta[..., 3]
    momentum_squared = np.square(view.momenta[..., 0])
    for axis in (1, 2):
        momentum_squared += np.square(view.momenta[..., axis])
    energy_squared = np.square(energy)
    # A spacelike line has its mass, by the accord, with a minus sign.
    off_shell = energy_squared - momentum_squared - view.mass * np.abs(view.mass)
    is_off = view.is_row & ~(np.abs(off_shell) <= 4 * tolerance * energy_squared)
    yield view.row_fault("mass", "error", "sqrt(E² - p²), GeV", is_off, "mass")
    is_external = view.is_incoming | view.is_outgoing
    yield view.row_fault(
        "energy", "error", "a positive energy", is_external & ~(energy > 0), "momenta"
    )


def _charge_faults(view: View) -> Iterator[Fault]:
    thirds, is_known = _charges(view.pdg_id)
    sign = view.is_outgoing.astype(np.int64) - view.is_incoming
    excess = (sign * thirds).sum(1)
    all_known = (is_known | (sign == 0)).all(1)
    yield Fault(
        "charge",
        "error",
        "charge: as much as comes in",
        all_known & (excess != 0),
        lambda event: f"charge out minus in = {excess[event]}/3",
    )
    if len(view.decays.mother):
        missing = view.decays.out_minus_in(thirds.astype(np.float64))
        # The unknown ones count as infinite: then the sum is no number other than 0.
        if not is_known.all():
            unknown = np.where(is_known, 0.0, 1.0)
            unknown += np.abs(view.decays.out_minus_in(unknown) + unknown)
            missing[unknown > 0] = 0.0
        yield view.row_fault(
            "decay_charge", "error", "charge: as much as the resonance has", missing != 0, "pdg_id"
        )


def _momentum_faults(view: View, tolerance: float) -> Iterator[Fault]:
    sign = view.is_outgoing.astype(np.float64) - view.is_incoming
    missing = np.stack([(sign * view.momenta[..., axis]).sum(1) for axis in range(4)], axis=-1)
    scale = (view.is_incoming * np.abs(view.momenta[..., 3])).sum(1)
    yield Fault(
        "momentum",
        "error",
        "momentum: as much as comes in",
        ~(np.abs(missing).max(1) <= tolerance * scale),
        lambda event: f"(px, py, pz, E) out minus in = {missing[event].tolist()} GeV",
    )
    if len(view.decays.mother):
        allowed = tolerance * np.abs(view.momenta[..., 3])
        is_off = np.zeros_like(view.is_row)
        for axis in range(4):
            lost = view.decays.out_minus_in(view.momenta[..., axis])
            is_off |= ~(np.abs(lost) <= allowed)
        is_off &= view.decays.has_daughters
        yield view.row_fault(
            "decay_momentum", "error", "momentum: as much as the resonance has", is_off, "momenta"
        )


def _charges(pdg_id: NDArray[np.int64]) -> tuple[NDArray[np.int64], Mask]:
    """Three times the charge of each particle, 0 where it is unknown, and whether it is known."""
    common_thirds, common_known = _common_charges()
    at = np.clip(pdg_id, -N_COMMON, N_COMMON) + N_COMMON
    thirds, is_known = common_thirds[at], common_known[at]
    is_rare = np.abs(pdg_id) >= N_COMMON
    if is_rare.any():
        ids, inverse = np.unique(pdg_id[is_rare], return_inverse=True)
        found = [_three_charge(i) for i in ids.tolist()]
        thirds[is_rare] = np.array([charge or 0 for charge in found])[inverse]
        is_known[is_rare] = np.array([charge is not None for charge in found])[inverse]
    return thirds, is_known


@cache
def _common_charges() -> tuple[NDArray[np.int64], Mask]:
    """What `_three_charge` gives for -N_COMMON to N_COMMON: (2 N_COMMON + 1,)."""
    found = [_three_charge(i) for i in range(-N_COMMON, N_COMMON + 1)]
    thirds = np.array([charge or 0 for charge in found], dtype=np.int64)
    return thirds, np.array([charge is not None for charge in found])


def _three_charge(pdg_id: int) -> int | None:
    """Three times the charge, None where the number does not tell."""
    if any(first <= abs(pdg_id) <= last for first, last in FREE_NUMBERS):
        return None
    charge: int | None = three_charge(pdg_id) if pdg_id else 0
    return charge
