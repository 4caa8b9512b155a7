"""The section `[cuts]` of a card, and the check that all sections make their values with."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from mlgen.errors import CardError


def require(holds: bool, key: str, got: object, expected: str) -> None:
    """Raise the `CardError` that a key's value asks for, unless the condition holds."""
    if not holds:
        raise CardError(f"{key} = {got!r}: expected {expected}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParticleCutsCard:
    """Cuts on each particle of a kind; `inf` is no bound."""

    pt_min_gev: float = 0.0
    """Transverse momentum."""
    pt_max_gev: float = math.inf
    abs_eta_min: float = 0.0
    """Absolute pseudorapidity: that of the direction of flight."""
    abs_eta_max: float = math.inf
    abs_y_min: float = 0.0
    """Absolute rapidity: that of the velocity along the beams; the same where there is no mass."""
    abs_y_max: float = math.inf
    energy_min_gev: float = 0.0
    """In the laboratory."""
    energy_max_gev: float = math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class PairCutsCard:
    """Cuts on each pair of different particles, one of either kind; `inf` is no bound."""

    delta_r_min: float = 0.0
    """Distance in pseudorapidity and azimuth."""
    delta_r_max: float = math.inf
    mass_min_gev: float = 0.0
    """Invariant mass of the pair."""
    mass_max_gev: float = math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class EventCutsCard:
    """Cuts on the event as a whole."""

    missing_pt_min_gev: float = 0.0
    """Transverse momentum of the sum of all neutrinos; 0 where there are none."""
    missing_pt_max_gev: float = math.inf
    ht_min_gev: float = 0.0
    """Sum of the transverse momenta of the jets, b included."""
    ht_max_gev: float = math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedParticleCutsCard(ParticleCutsCard):
    """`[[cuts.particles]]`: cuts on each final particle of a list, beside those of its kind."""

    pdg_ids: tuple[int, ...]
    """Which particles: `[6, -6]` for top and antitop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedPairCutsCard(PairCutsCard):
    """`[[cuts.pairs]]`: cuts on each pair of different final particles, one from either list."""

    first: tuple[int, ...]
    """PDG ids of one particle of the pair."""
    second: tuple[int, ...]
    """PDG ids of the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CutsCard:
    """`[cuts]`: jets are massless quarks and gluons; leptons are e, mu, tau.

    Cuts are in the laboratory, and hold for final particles; an event passes all of them or is left out.
    """

    jets: ParticleCutsCard = field(default_factory=ParticleCutsCard)
    leptons: ParticleCutsCard = field(default_factory=ParticleCutsCard)
    photons: ParticleCutsCard = field(default_factory=ParticleCutsCard)
    bottoms: ParticleCutsCard = field(default_factory=ParticleCutsCard)
    """b and b~, which are massive and so no jets here."""
    jet_jet: PairCutsCard = field(default_factory=PairCutsCard)
    jet_lepton: PairCutsCard = field(default_factory=PairCutsCard)
    jet_photon: PairCutsCard = field(default_factory=PairCutsCard)
    jet_bottom: PairCutsCard = field(default_factory=PairCutsCard)
    lepton_lepton: PairCutsCard = field(default_factory=PairCutsCard)
    """The mass window is for pairs of the same flavour and opposite charge, that of delta_r for any pair."""
    lepton_photon: PairCutsCard = field(default_factory=PairCutsCard)
    lepton_bottom: PairCutsCard = field(default_factory=PairCutsCard)
    photon_photon: PairCutsCard = field(default_factory=PairCutsCard)
    photon_bottom: PairCutsCard = field(default_factory=PairCutsCard)
    bottom_bottom: PairCutsCard = field(default_factory=PairCutsCard)
    event: EventCutsCard = field(default_factory=EventCutsCard)
    particles: tuple[ListedParticleCutsCard, ...] = ()
    pairs: tuple[ListedPairCutsCard, ...] = ()
    function: str = ""
    """A registered cut of your own: a function `(momenta, pdg_ids) -> mask`, an entry point of the group `mlgen.cuts`."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if dataclasses.is_dataclass(value):
                _check_windows(value, f"cuts.{item.name}")
            elif isinstance(value, tuple):
                for number, cuts in enumerate(value):
                    _check_windows(cuts, f"cuts.{item.name}[{number}]")
                    _check_lists(cuts, f"cuts.{item.name}[{number}]")


def _check_lists(cuts: ListedParticleCutsCard | ListedPairCutsCard, where: str) -> None:
    """Each list of particles names some, and only some that may be there."""
    for item in dataclasses.fields(cuts):
        value = getattr(cuts, item.name)
        if isinstance(value, tuple):
            expected = "at least one PDG id, none of them 0"
            require(len(value) > 0 and 0 not in value, f"{where}.{item.name}", value, expected)


def _check_windows(cuts: object, where: str) -> None:
    """Every bound is zero or more, and each upper one above its lower one."""
    numbers = {
        item.name: getattr(cuts, item.name)
        for item in dataclasses.fields(cuts)  # type: ignore[arg-type]  # a dataclass, as all cuts are
        if isinstance(getattr(cuts, item.name), int | float)
    }
    for name, value in numbers.items():
        unit = " in GeV" if name.endswith("_gev") else ""
        require(value >= 0, f"{where}.{name}", value, f"zero or a positive number{unit}")
    for low, least in numbers.items():
        high = low.replace("_min", "_max")
        if high != low:
            unit = " GeV" if low.endswith("_gev") else ""
            expected = f"more than {low} = {least}{unit}"
            require(numbers[high] > least, f"{where}.{high}", numbers[high], expected)
