"""Lepton pairs with jets from Pythia (arXiv:2203.11601): what radiation models learn from.

Pythia makes p p > Z/gamma* > mu+ mu-, or showers an event file. The hard object is the pair of leptons
of the hard process. Leptons radiate no photons, so that the pair keeps its mass, and a model that
radiates from an event without such photons learns from its like. Jets are made of all other final
particles but muons and neutrinos; one that is near a lepton is kept: it contains nothing of it, and
a model that sees the pair alone could not learn which jets are missing.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mlgen.core import random_stream
from mlgen.errors import CardError, EventFileError, GenerationError, MissingExtra
from mlgen.radiation.cluster import CompactEvents, JetDefinition, cluster

PB_PER_MB = 1e9
N_SEEDS = 900_000_000
"""Pythia takes seeds from 1 to this."""
ELECTRON, MUON, NEUTRINOS = 11, 13, (12, 14, 16)
FROM_HADRONS = 80
"""Status codes above are of hadrons and their decay products."""

Level = Literal["partons", "hadrons", "full"]

_LEVELS: dict[Level, tuple[str, ...]] = {
    "partons": ("PartonLevel:MPI = off", "HadronLevel:all = off"),
    "hadrons": ("PartonLevel:MPI = off",),
    "full": (),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PythiaSettings:
    """What Pythia is to make."""

    level: Level = "partons"
    """Showered partons; hadrons, too; or with the underlying event."""
    energy_gev: float = 13_000.0
    """Of both protons together; an event file has its own."""
    mass_range_gev: tuple[float, float] = (81.0, 101.0)
    """Of the pair; an event file has its own."""
    extra: tuple[str, ...] = ()
    """Further settings, as Pythia reads them: `SpaceShower:alphaSvalue = 0.12`. They come last."""
    jets: JetDefinition = field(default_factory=JetDefinition)

    def __post_init__(self) -> None:
        if self.level not in _LEVELS:
            raise CardError(f"--level {self.level}: expected one of {', '.join(_LEVELS)}")
        if not (math.isfinite(self.energy_gev) and self.energy_gev > 0):
            raise CardError(f"--energy {self.energy_gev:g}: expected a positive energy in GeV")
        low, high = self.mass_range_gev
        if not 0 < low < high < math.inf:
            raise CardError(f"--mass {low:g} {high:g}: expected two rising masses in GeV")

    @property
    def events_per_chunk(self) -> int:
        """Fixed for a level, so that the events do not depend on who makes them."""
        return {"partons": 5000, "hadrons": 2500, "full": 500}[self.level]

    def lines(self, from_file: bool) -> tuple[str, ...]:
        """What Pythia is told, but for seeds and files."""
        low, high = self.mass_range_gev
        own = (
            f"Beams:eCM = {self.energy_gev!r}",
            "WeakSingleBoson:ffbar2gmZ = on",
            f"23:mMin = {low!r}",
            f"23:mMax = {high!r}",
        )
        return (
            *(() if from_file else own),
            "23:onMode = off",
            "23:onIfMatch = 13 -13",
            "TimeShower:QEDshowerByL = off",
            # Photons that split would add leptons.
            "TimeShower:QEDshowerByGamma = off",
            *_LEVELS[self.level],
            *self.extra,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowerChunk:
    """The events of a chunk, and what Pythia says of them."""

    events: CompactEvents
    n_failed: int
    """Events that Pythia began and gave up on."""
    n_tried: int
    """Points of phase space that Pythia looked at; those of an event file: its events."""
    cross_section_pb: float
    cross_section_error_pb: float


def make_chunk(
    settings: PythiaSettings, seed: int, chunk: int, n: int, events: Path | None = None
) -> ShowerChunk:
    """Make the events of a chunk.

    Args:
        seed: of all chunks.
        n: how many events.
        events: an event file of so many events, which is showered; None: Pythia makes the process.

    Raises:
        MissingExtra: pythia8mc or fastjet is not installed.
        CardError: a setting is none of Pythia's, or they do not go together.
        EventFileError: Pythia cannot begin with the file, or does not read n events.
        GenerationError: Pythia fails at one event in two, or an event has no pair of leptons.
    """
    pythia = _start(settings, _pythia_seed(seed, chunk), events)
    parts: list[Any] = []
    n_made = n_failed = 0
    while n_made < n:
        asked = n - n_made
        parts.append(pythia.nextBatch(asked, "skip"))
        n_made += len(parts[-1])
        n_failed += asked - len(parts[-1])
        if events is not None:
            break
        if n_failed > n:
            raise GenerationError(f"Pythia failed at {n_failed} of {n_failed + n_made} events")
    # pythia8mc 8.317: an Info object that is kept goes stale, so it is asked for afresh.
    info = pythia.infoPython()
    if events is not None and info.nTried() != n:
        raise EventFileError(f"{events}: Pythia read {info.nTried()} events: expected {n}")
    rng = random_stream(seed, "masses of jets of one particle", chunk)
    return ShowerChunk(
        events=_compact(parts, settings.jets, rng),
        n_failed=n_failed,
        n_tried=info.nTried(),
        cross_section_pb=info.sigmaGen() * PB_PER_MB,
        cross_section_error_pb=info.sigmaErr() * PB_PER_MB,
    )


def _start(settings: PythiaSettings, seed: int, events: Path | None) -> Any:
    """Pythia, ready for the first event."""
    if importlib.util.find_spec("pythia8mc") is None:
        raise MissingExtra("pythia8mc is not installed: pip install 'mlgen-hep[radiation]'")
    import pythia8mc

    pythia = pythia8mc.Pythia("", False)
    lines = ["Print:quiet = on", "Random:setSeed = on", f"Random:seed = {seed}"]
    if events is not None:
        lines += ["Beams:frameType = 4", f"Beams:LHEF = {events}"]
    for line in (*lines, *settings.lines(events is not None)):
        if not pythia.readString(line, False):
            raise CardError(f"--pythia {line!r}: expected a setting that Pythia knows")
    if not pythia.init():
        if events is not None:
            raise EventFileError(f"{events}: Pythia cannot begin with it")
        raise CardError(f"Pythia cannot begin with {'; '.join(settings.lines(False))}")
    return pythia


def _pythia_seed(seed: int, chunk: int) -> int:
    """Of a chunk: one after the other from a random start, so that no two chunks share one."""
    rng = random_stream(seed, "Pythia", 0)
    start = int(torch.randint(N_SEEDS, (), generator=rng))
    return 1 + (start + chunk) % N_SEEDS


def _compact(
    batches: Sequence[Any], definition: JetDefinition, rng: torch.Generator
) -> CompactEvents:
    """The pairs of leptons and the jets of Pythia's events."""
    import awkward as ak

    # Each column for itself: the whole record of an event is several times as large.
    names = ("id", "status", "px", "py", "pz", "e")
    columns = {
        name: ak.concatenate(
            [batch.prt.p[name] if name in names[2:] else batch.prt[name] for batch in batches]
        )
        for name in names
    }
    kind, status = np.abs(columns["id"]), columns["status"]
    is_lepton = (status > 0) & (status < FROM_HADRONS) & ((kind == ELECTRON) | (kind == MUON))
    is_clustered = (status > 0) & ~is_lepton & (kind != MUON)
    for neutrino in NEUTRINOS:
        is_clustered = is_clustered & (kind != neutrino)
    _check_pairs(columns["id"][is_lepton])
    hard = np.stack(
        [ak.to_numpy(ak.sum(columns[name][is_lepton], axis=1)) for name in ("e", "px", "py", "pz")],
        -1,
    )
    particles = ak.zip(
        {
            field: columns[name][is_clustered]
            for field, name in zip(("px", "py", "pz", "E"), names[2:], strict=True)
        },
        with_name="Momentum4D",
    )
    return cluster(hard, particles, definition, rng)


def _check_pairs(leptons: Any) -> None:
    """Refuse events whose leptons are no pair."""
    import awkward as ak

    is_pair = (ak.num(leptons) == 2) & (ak.sum(leptons, axis=1) == 0)
    if not ak.all(is_pair):
        index = int(np.argmin(ak.to_numpy(is_pair)))
        found = leptons[index].to_list()
        raise GenerationError(
            f"an event has electrons and muons with the PDG ids {found}: expected one pair, e+ e- or mu+ mu-"
        )
