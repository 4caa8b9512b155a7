"""Event files without a fault, of ours and of others, for faults to be planted in."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import torch

from mlgen.core import BeamInfo, EventBatch, SampleInfo
from mlgen.events.formats import read_events, write_events
from tests.events.samples import EEJ, REFERENCE, TTJ, eej, with_weights
from tests.events.varied import varied

PYTHIA_EEJ = REFERENCE / "pythia_eej_20.lhe.gz"
PYTHIA_TT = REFERENCE / "pythia_tt_20.lhe.gz"

MADGRAPH_NOTES = """<header>
<MGGenerationInfo>
#  Number of Events        :       200
#  Integrated weight (pb)  :       211.4505
</MGGenerationInfo>
"""


def sample(
    u: list[float] | None = None, weighted: bool = False, n: int = 20
) -> tuple[SampleInfo, EventBatch]:
    """Events of MadGraph, of weight 1 but for the first ones."""
    info, events = eej()
    weight = torch.ones(n, dtype=torch.float64)
    weight[: len(u or [])] = torch.tensor(u or [], dtype=torch.float64)
    events = with_weights(events.select(slice(0, n)), weight)
    excess = (weight.abs() - 1).sum() / weight.abs().sum()
    notes = (("overweight_fraction", f"{excess:.6g}"),) if not weighted else ()
    return replace(info, weighted=weighted, notes=info.notes + notes), events


def collider() -> tuple[SampleInfo, EventBatch]:
    """Three events e- e+ > mu- mu+ at 500 GeV, in one direction each."""
    info, _ = eej()
    beams = tuple(BeamInfo(pdg_id=pdg_id, energy_gev=250.0, pdf_id=0) for pdg_id in (11, -11))
    n = 3
    direction = torch.tensor([[1.0, 2.0, 3.0], [-3.0, 1.0, -2.0], [1, 5, 4]], dtype=torch.float64)
    direction /= direction.norm(dim=1, keepdim=True)
    momenta = torch.zeros(n, 4, 4, dtype=torch.float64)
    momenta[..., 0] = 250
    momenta[:, 0, 3], momenta[:, 1, 3] = 250, -250
    momenta[:, 2, 1:], momenta[:, 3, 1:] = 250 * direction, -250 * direction
    ones = torch.ones(n, dtype=torch.float64)
    events = EventBatch(
        pdg_id=torch.tensor([[11, -11, 13, -13]]).expand(n, -1),
        status=torch.tensor([[-1, -1, 1, 1]]).expand(n, -1),
        mothers=torch.tensor([[[0, 0], [0, 0], [1, 2], [1, 2]]]).expand(n, -1, -1),
        colour=torch.zeros(n, 4, 2, dtype=torch.int64),
        momenta=momenta,
        mass=torch.zeros(n, 4, dtype=torch.float64),
        spin=torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64).expand(n, -1),
        weight=ones,
        scale=91.188 * ones,
        alpha_em=0.0075 * ones,
        alpha_s=0.118 * ones,
    )
    return replace(info, beams=(beams[0], beams[1]), cross_section_pb=0.4), events


def _write(path: Path, made: tuple[SampleInfo, EventBatch]) -> None:
    write_events(path, [made[1]], made[0])


def _tops() -> tuple[SampleInfo, EventBatch]:
    """g g > t t~ g, as a file of ours: 50 events of weight 1."""
    info, events = read_events(TTJ)
    ones = torch.ones(len(events), dtype=torch.float64)
    return replace(info, weighted=False), with_weights(events, ones)


def write_good_file(name: str, path: Path) -> None:
    """Write the good file of this name, one of GOOD_FILES, as plain text or, if it ends in .gz, not."""
    if name in THEIRS:
        text = gzip.decompress(THEIRS[name].read_bytes()).decode()
        if name == "madgraph":
            text = text.replace("<header>\n", MADGRAPH_NOTES)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    else:
        _write(path, OURS[name]())


OURS = {
    "unit": sample,
    "overweight": lambda: sample([3.0, 1.5]),
    "many": lambda: sample([3.0, 1.5], n=200),
    "negative": lambda: sample([-1.0, -1.0]),
    "weighted": lambda: sample([0.2, 7.0, *(0.1 * i for i in range(1, 19))], weighted=True),
    "varied": lambda: varied(20),
    "varied, overweight": lambda: varied(20, [3.0, 1.5]),
    "varied, negative": lambda: varied(20, [-1.0, -1.0]),
    "varied, weighted": lambda: varied(20, [0.2, 7.0], weighted=True),
    "collider": collider,
    "tops": _tops,
}
THEIRS = {
    "madgraph": EEJ,
    "madgraph tops": TTJ,
    "pythia": PYTHIA_EEJ,
    "pythia tops": PYTHIA_TT,
}
GOOD_FILES = (*OURS, *THEIRS)
