"""Which bins of spectra are within 10 % of the truth, which are not, and of which statistics cannot tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mlgen.radiation.spectra import MIN_ENTRIES, Spectrum

CLOSE = 0.10
"""Relative deviation."""
PRECISE = 0.05
"""Relative error, statistical and predicted, below which a bin can tell."""
SURE = 2.0
"""A bin is off where it is beyond 10 % by more than so many errors."""
KINDS: tuple[Kind, ...] = ("pt", "delta_r", "other")

Kind = Literal["pt", "delta_r", "other"]
"""Of spectra; masses and directions are `other`."""
State = Literal["within", "open", "off"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OffBin:
    """A bin that is off."""

    observable: str
    low: float
    high: float
    deviation: float
    """Generated over true, less 1."""
    error: float
    """Statistical of both, and predicted; relative."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Closeness:
    """All bins of the spectra of one kind, at one multiplicity."""

    n_jets: int
    and_more: bool
    kind: Kind
    n_within: int
    """Within 10 %, known to 5 %."""
    n_open: int
    """Statistics and the predicted error leave it open, or there are too few entries."""
    n_off: int
    """Beyond 10 % by more than two errors."""
    n_chance: float
    """So many would be off by chance, were the model the truth."""
    off: tuple[OffBin, ...]


def kind_of(observable: str) -> Kind:
    """Of its name: `pt of jet 1`."""
    if observable.startswith("delta_r"):
        return "delta_r"
    return "pt" if "pt" in observable.split() else "other"


def closeness(found: Sequence[Spectrum]) -> Iterator[Closeness]:
    """Of each kind that the spectra of one multiplicity have."""
    for kind in KINDS:
        spectra = [spectrum for spectrum in found if kind_of(spectrum.observable) == kind]
        if not spectra:
            continue
        bins = [(spectrum, of) for spectrum in spectra for of in _bins(spectrum)]
        counts = Counter(of.state for _, of in bins)
        yield Closeness(
            n_jets=spectra[0].n_jets,
            and_more=spectra[0].and_more,
            kind=kind,
            n_within=counts["within"],
            n_open=counts["open"],
            n_off=counts["off"],
            n_chance=sum(of.chance for _, of in bins),
            off=tuple(
                OffBin(
                    observable=spectrum.observable,
                    low=spectrum.edges[of.number],
                    high=spectrum.edges[of.number + 1],
                    deviation=of.deviation,
                    error=of.error,
                )
                for spectrum, of in bins
                if of.state == "off"
            ),
        )


class _Bin(NamedTuple):
    number: int
    state: State
    deviation: float
    error: float
    chance: float
    """That a right model is off here."""


def _bins(spectrum: Spectrum) -> Iterator[_Bin]:
    truth, made = spectrum.truth, spectrum.generated
    band = made.band or (0.0,) * len(made.value)
    for k, value in enumerate(truth.value):
        if spectrum.entries[k] < MIN_ENTRIES or value <= 0:
            yield _Bin(k, "open", math.nan, math.inf, 0.0)
            continue
        deviation = made.value[k] / value - 1
        error = math.hypot(truth.error[k], made.error[k], band[k]) / value
        chance = math.erfc((CLOSE / error + SURE) / math.sqrt(2))
        yield _Bin(k, _state(deviation, error), deviation, error, chance)


def _state(deviation: float, error: float) -> State:
    if abs(deviation) > CLOSE + SURE * error:
        return "off"
    return "within" if abs(deviation) <= CLOSE and error <= PRECISE else "open"
