"""Reading an event file with Pythia 8, as an independent reader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pythia8mc

PB_PER_MB = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class PythiaReading:
    """What Pythia made of a file."""

    n_ok: int
    """Events that were read, showered and hadronised."""
    n_failed: int
    """Events that Pythia read and gave up on."""
    cross_section_pb: float
    """`sigmaGen`: XSECUP under strategy 3; under -4 the mean weight of the events that were read."""
    sum_of_weights: float
    """`weightSum`: the number of events under strategy 3, pb under -4."""
    resonances: tuple[int, ...]
    """PDG ids of the resonances of the hard processes, in the order of the events."""


def weights_of_file(path: Path) -> dict[str, list[float]]:
    """All weights of each event of a file, by Pythia's names for them; nothing is showered."""
    pythia = _start(
        path, ["ProcessLevel:all = on", "PartonLevel:all = off", "HadronLevel:all = off"]
    )
    found: dict[str, list[float]] = {}
    while pythia.next():
        info = pythia.infoPython()
        for index in range(info.numberOfWeights()):
            name = info.weightNameByIndex(index)
            found.setdefault(name, []).append(info.weightValueByIndex(index))
    return found


def shower_file(path: Path, n_max: int, seed: int = 1) -> PythiaReading:
    """Shower and hadronise the events of a file, at most n_max of them.

    Pythia 8.317 reads what there is of a truncated file without an error: compare `n_ok` with the
    number of events that were expected. Multiparton interactions are off, for speed: they do not
    depend on what the file says.
    """
    pythia = _start(path, [f"Random:seed = {seed}", "PartonLevel:MPI = off"])
    n_ok = n_failed = 0
    resonances: list[int] = []
    while n_ok + n_failed < n_max:
        if pythia.next():
            n_ok += 1
            resonances += [p.id() for p in pythia.process if p.status() == -22]
        # pythia8mc 8.317: an Info object that is kept goes stale, so it is asked for afresh.
        elif pythia.infoPython().atEndOfFile():
            break
        else:
            n_failed += 1
    info = pythia.infoPython()
    return PythiaReading(
        n_ok=n_ok,
        n_failed=n_failed,
        cross_section_pb=info.sigmaGen() * PB_PER_MB,
        sum_of_weights=info.weightSum(),
        resonances=tuple(resonances),
    )


def _start(path: Path, settings: list[str]) -> pythia8mc.Pythia:
    pythia = pythia8mc.Pythia("", False)
    common = ["Print:quiet = on", "Beams:frameType = 4", f"Beams:LHEF = {path}"]
    for setting in [*common, "Random:setSeed = on", *settings]:
        if not pythia.readString(setting):
            raise ValueError(f"Pythia setting {setting!r}: expected one that Pythia knows")
    if not pythia.init():
        raise ValueError(f"{path}: Pythia cannot start from it")
    return pythia
