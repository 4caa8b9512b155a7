"""What an event file says of all its events together, against the events."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlgen.events.check_findings import Fault, Findings
from mlgen.events.check_head import UNWEIGHTED, WEIGHT_TOLERANCE, Head, InitBlock
from mlgen.events.check_view import View
from mlgen.events.writing import WEIGHTS_IN_PB

PRINTED_TOLERANCE = 2e-5
"""What a note of six digits may miss."""
KISH_TOLERANCE = 1e-7
"""The same for one of nine digits."""
MASS_TOLERANCE = 1e-9
N_KINDS = 64
"""Particles with |IDUP| below this have their masses compared."""
SIGMAS = 5
"""How many standard deviations of the mean of their weights the files of others may miss XSECUP by."""


@dataclass(slots=True)
class Tally:
    """What is carried from one piece of a file to the next: sums, extremes, masses."""

    n_events: int = 0
    """Whole events, those with faults included."""
    n_weights: int = 0
    """Events whose numbers are finite: those that the rest is of."""
    sum_of_weights: float = 0.0
    sum_of_sizes: float = 0.0
    sum_of_squares: float = 0.0
    first: float = math.nan
    smallest: float = math.inf
    """The smallest |XWGTUP|: that of an ordinary event, where events are unweighted."""
    n_smallest: int = 0
    largest: float = 0.0
    n_negative: int = 0
    masses: NDArray[np.float64] = field(default_factory=lambda: np.full(N_KINDS + 1, np.nan))
    """By |IDUP|: that of the first outgoing particle of this kind, GeV."""

    def add(self, weight: NDArray[np.float64]) -> None:
        """Count the weights (n,) of further events, n > 0."""
        size = np.abs(weight)
        if self.n_weights == 0:
            self.first = float(weight[0])
        self.n_weights += len(weight)
        smallest, largest = float(size.min()), float(size.max())
        if smallest < self.smallest:
            self.smallest, self.n_smallest = smallest, 0
        self.n_smallest += int((size == self.smallest).sum())
        self.largest = max(self.largest, largest)
        self.n_negative += int((weight < 0).sum())
        with np.errstate(over="ignore"):
            self.sum_of_weights += float(weight.sum())
            self.sum_of_sizes += float(size.sum())
            self.sum_of_squares += float(np.square(weight).sum())

    @property
    def is_complete(self) -> bool:
        """Whether there are events, and the weight of each is known: else sums mean nothing."""
        return self.n_weights == self.n_events > 0

    @property
    def mean(self) -> float:
        return self.sum_of_weights / self.n_weights if self.n_weights else math.nan

    @property
    def mean_error(self) -> float:
        if not self.n_weights:
            return math.nan
        variance = self.sum_of_squares / self.n_weights - self.mean**2
        return math.sqrt(max(variance, 0.0) / self.n_weights)

    @property
    def kish_effective_size(self) -> float:
        """(sum w)² / sum w²."""
        if not self.sum_of_squares > 0:
            return math.nan
        return self.sum_of_weights * (self.sum_of_weights / self.sum_of_squares)

    @property
    def is_unweighted(self) -> bool:
        """Whether most weights are of the smallest size: then the others are overweight."""
        return 2 * self.n_smallest > self.n_weights

    @property
    def overweight_fraction(self) -> float:
        """What the weights of an unweighted sample have above the ordinary one, over all they have."""
        return 1 - self.n_weights * self.smallest / self.sum_of_sizes if self.sum_of_sizes else 0.0


def check_totals(head: Head, header: Mapping[str, str], tally: Tally, findings: Findings) -> None:
    """The numbers of a whole file.

    Args:
        head: of the file.
        header: the text of each element of a Les Houches header, by tag.
        tally: of its events.
        findings: where the faults are noted.
    """
    if tally.n_events == 0:
        findings.of_file("error", "n_events", "no events: expected at least one")
    if head.is_ours:
        _check_notes(head, tally, findings)
    _check_madgraph(header.get("MGGenerationInfo", ""), head, tally, findings)
    if head.init is not None and tally.is_complete:
        _check_weights(head, head.init, tally, findings)


def _check_notes(head: Head, tally: Tally, findings: Findings) -> None:
    """The notes in the header of a file of ours."""
    if head.notes["n_events"] != str(tally.n_events):
        noted = head.notes["n_events"]
        what = f"{tally.n_events} events: expected {noted}, as the header notes"
        findings.of_file("error", "n_events", what)
    if not tally.is_complete:
        return
    if "kish_effective_size" in head.notes:
        kish = _noted("kish_effective_size", head, findings)
        found = tally.kish_effective_size
        if not math.isclose(kish, found, rel_tol=KISH_TOLERANCE):
            what = f"kish_effective_size = {kish:.6g}: expected {found:.6g}, that of the weights"
            findings.of_file("error", "kish_effective_size", what)
    if "overweight_fraction" in head.notes:
        _check_overweight(_noted("overweight_fraction", head, findings), tally, findings)


def _noted(key: str, head: Head, findings: Findings) -> float:
    try:
        return float(head.notes[key].split()[0])
    except (ValueError, IndexError):
        findings.of_file("error", key, f"{key} = {head.notes[key]!r}: expected a number")
        return math.nan


def _check_overweight(noted: float, tally: Tally, findings: Findings) -> None:
    """The noted overweight fraction, which is of all the points that the events were picked from."""
    found = tally.overweight_fraction
    if not tally.is_unweighted or math.isnan(noted):
        return
    if noted == 0 and found > PRINTED_TOLERANCE:
        what = f"overweight_fraction = 0: expected {found:.6g}, that of the weights"
        findings.of_file("error", "overweight_fraction", what)
        return
    # In units of the ordinary weight; an excess that is rare is taken to come in such units.
    excess, expected = found * tally.sum_of_sizes, noted * tally.sum_of_sizes
    squares = tally.sum_of_squares - 2 * tally.smallest * tally.sum_of_sizes
    squares += tally.n_weights * tally.smallest**2
    spread = math.sqrt(max(squares, tally.smallest * max(excess, expected), 0.0))
    if abs(excess - expected) > SIGMAS * spread:
        what = f"overweight_fraction = {noted:.6g}: expected about {found:.6g}, that of the weights"
        findings.of_file("warning", "overweight_fraction", what)


def _check_madgraph(text: str, head: Head, tally: Tally, findings: Findings) -> None:
    """What MadGraph notes of its events: `#  Number of Events : 10000`."""
    for line in text.splitlines():
        key, _, value = line.strip(" #").partition(":")
        key, value = key.strip(), value.strip()
        if key == "Number of Events" and value.isdecimal() and int(value) != tally.n_events:
            what = f"{tally.n_events} events: expected {value}, as <MGGenerationInfo> says"
            findings.of_file("warning", "n_events", what)
        is_number = re.fullmatch(r"[0-9.eE+-]+", value) is not None
        if key.startswith("Integrated weight") and is_number and head.init is not None:
            sigma = head.init.cross_section_pb
            if not math.isclose(float(value), sigma, rel_tol=1e-3):
                what = f"XSECUP = {sigma:.9g}: expected {value} pb, as <MGGenerationInfo> says"
                findings.of_file("warning", "cross_section", what)


def _check_weights(head: Head, init: InitBlock, tally: Tally, findings: Findings) -> None:
    """The weights together, against the init block."""
    sigma, mean = init.cross_section_pb, tally.mean
    if abs(init.strategy) == abs(WEIGHTS_IN_PB):
        allowed = max(
            WEIGHT_TOLERANCE * abs(sigma), 0.0 if head.is_ours else SIGMAS * tally.mean_error
        )
        if not (head.counts_trials or abs(mean - sigma) <= allowed):
            what = f"mean of XWGTUP = {mean:.9g} pb: expected XSECUP, {sigma:.9g} pb"
            findings.of_file("error", "cross_section", what)
    elif abs(init.strategy) == UNWEIGHTED:
        if init.strategy > 0 and sigma < 0:
            what = f"XSECUP = {sigma:.9g} with IDWTUP = {init.strategy}: expected a positive one"
            findings.of_file("error", "cross_section", what)
        if tally.smallest != tally.largest:
            sizes = f"{tally.smallest!r} to {tally.largest!r}"
            what = f"weights from {sizes} with IDWTUP = {init.strategy}: expected one size"
            findings.of_file("error", "unit_weight", what)
    if not head.is_ours:
        return
    largest = sum(process.largest for process in init.processes)
    if not math.isclose(largest, tally.largest, rel_tol=WEIGHT_TOLERANCE):
        what = f"XMAXUP = {largest:.9g}: expected {tally.largest:.9g}, the largest weight"
        findings.of_file("error", "largest_weight", what)
    all_are_equal = tally.n_smallest == tally.n_weights > 1 and tally.n_negative == 0
    if init.strategy == WEIGHTS_IN_PB and all_are_equal:
        what = f"IDWTUP = {init.strategy}, and all weights are equal: expected 3, with weights of 1"
        findings.of_file("warning", "weighting_strategy", what)


def mass_faults(view: View, tally: Tally) -> Iterator[Fault]:
    """Outgoing particles of one kind whose mass is not that of the first of them in the file.

    Args:
        view: n events.
        tally: holds the masses of earlier events, and is given those of new particles.
    """
    kind = np.where(view.is_outgoing, np.minimum(np.abs(view.pdg_id), N_KINDS), 0)
    is_there = np.bincount(kind.reshape(-1), minlength=N_KINDS + 1) > 0
    for new in np.flatnonzero(is_there & np.isnan(tally.masses)).tolist():
        tally.masses[new] = view.mass.reshape(-1)[int((kind == new).argmax())]
    expected = tally.masses[kind]
    differs = np.abs(view.mass - expected) > MASS_TOLERANCE * np.maximum(expected, 1.0)
    yield view.row_fault(
        "mass_spectrum",
        "warning",
        "the mass that this particle has in the first event with it",
        differs & (kind > 0) & (kind < N_KINDS),
        "mass",
    )
