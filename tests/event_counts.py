"""Counts of p p > e+ e- j events, to compare samples of different generators with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from scipy import stats
from torch import Tensor

from mlgen.core import EventBatch
from mlgen.physics.kinematics import eta, mass, pt, rapidity

N_BINS = 12
RANGES = {
    "pt_jet": (20.0, 140.0),
    "eta_jet": (-5.0, 5.0),
    "pt_electron": (10.0, 100.0),
    "eta_positron": (-2.5, 2.5),
    "mass": (60.0, 120.0),
    "rapidity": (-2.5, 2.5),
}


def count(events: EventBatch) -> dict[str, dict[str, int]]:
    """How many events there are of each kind: incoming flavours, helicities, colours, kinematics."""
    positron, electron, jet = (_final(events, ids) for ids in ((-11,), (11,), None))
    pair = positron + electron
    values = {
        "pt_jet": pt(jet),
        "eta_jet": eta(jet),
        "pt_electron": pt(electron),
        "eta_positron": eta(positron),
        "mass": mass(pair),
        "rapidity": rapidity(pair),
    }
    counts = {name: _histogram(value, *RANGES[name]) for name, value in values.items()}
    for name in ("flavours", "helicities", "colours"):
        counts[name] = {}
    labels = [_labels(events, i) for i in range(len(events))]
    for name, column in zip(
        ("flavours", "helicities", "colours"), zip(*labels, strict=True), strict=True
    ):
        counts[name] = dict(Counter(column))
    return counts


def p_value(mine: Mapping[str, int], theirs: Mapping[str, int]) -> float:
    """The chance of a chi-squared this large between two samples of one distribution.

    Kinds that hold fewer than 10 events of both samples together are left out.
    """
    n, m = sum(mine.values()), sum(theirs.values())
    chi2, n_kinds = 0.0, 0
    for kind in mine.keys() | theirs.keys():
        a, b = mine.get(kind, 0), theirs.get(kind, 0)
        if a + b >= 10:
            chi2 += (a / n - b / m) ** 2 / ((a + b) / (n + m) * (1 / n + 1 / m))
            n_kinds += 1
    return float(stats.chi2.sf(chi2, n_kinds - 1))


def _final(events: EventBatch, ids: tuple[int, ...] | None) -> Tensor:
    """The momenta of one final particle of each event; None: neither lepton."""
    is_lepton = events.pdg_id.abs() == 11
    wanted = ~is_lepton if ids is None else events.pdg_id == ids[0]
    wanted &= events.status == 1
    assert bool((wanted.sum(1) == 1).all())
    return events.momenta[wanted]


def _histogram(values: Tensor, low: float, high: float) -> dict[str, int]:
    edges = torch.linspace(low, high, N_BINS + 1, dtype=torch.float64)
    index = torch.bucketize(values, edges)
    return {str(i): int(n) for i, n in enumerate(index.bincount(minlength=N_BINS + 2)) if n}


def _labels(events: EventBatch, i: int) -> tuple[str, str, str]:
    """Flavours, helicities and colours of one event, whichever beam a parton came from."""
    external = events.status[i].abs() == 1
    columns = (events.status[i], events.pdg_id[i], events.spin[i], events.colour[i])
    rows = sorted(zip(*(column[external].tolist() for column in columns), strict=True))
    flavours = " ".join(str(row[1]) for row in rows)
    helicities = " ".join(f"{row[1]}:{row[2]:+.0f}" for row in rows)
    # Numbers of colour lines are arbitrary: they count in the order in which they come.
    lines = {0: 0}
    for row in rows:
        for tag in row[3]:
            lines.setdefault(tag, len(lines))
    colours = " ".join(f"{row[1]}:{lines[row[3][0]]},{lines[row[3][1]]}" for row in rows)
    return flavours, helicities, colours
