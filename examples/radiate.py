"""Z production, and jets for it from the model that comes with mlgen: how many, and how hard.

python examples/radiate.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlgen
from mlgen.diagnostics.progress import RichProgress
from mlgen.events.formats import read_events
from mlgen.physics.kinematics import pt

MODEL = Path(__file__).with_name("zjets.radiation.zip")
JET = 93


def main() -> None:
    """Make events, add jets, and print what there is."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "z")
    progress = RichProgress()
    result = mlgen.run("pp_to_z", folder, n_events=10_000, progress=progress)
    output = folder / "zjets.lhe.gz"
    found = mlgen.radiate(result.events_path, MODEL, output, progress=progress)
    _, events = read_events(output)
    is_jet = (events.pdg_id == JET) & (events.status == 1)
    for n_jets, count in enumerate(found.n_jets):
        rows = is_jet & (is_jet.sum(1) == n_jets)[:, None]
        mean = f", mean pt {float(pt(events.momenta[rows]).mean()):.1f} GeV" if n_jets else ""
        seen = "" if n_jets <= found.n_max else " (more than the model has seen)"
        print(f"{n_jets} jets: {count} events{mean}{seen}")


if __name__ == "__main__":
    main()
