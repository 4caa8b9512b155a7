"""What the tests ask of pyamplicol, and reference points to compare with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.pyamplicol_artifacts import MatrixElement
from mlgen.core import SubprocessGroup
from mlgen.physics.model import StandardModel
from mlgen.physics.process import process_name

REFERENCE = Path(__file__).parents[1] / "reference"
PORTAL = Path(__file__).parents[1] / "models/vector_portal"

UUX, GU, GUX, GG, EE = range(5)
# The u-type groups as p p > e+ e- j has them, and the gluonic one of p p > t t~ j: a run of
# those cards in the same session finds these artifacts made.
GROUPS = tuple(
    SubprocessGroup(
        name=process_name(pdg_ids), pdg_ids=(pdg_ids,), qcd_order=qcd_order, qed_order=qed_order
    )
    for pdg_ids, qcd_order, qed_order in (
        ((2, -2, -11, 11, 21), 1, 2),
        ((21, 2, -11, 11, 2), 1, 2),
        ((21, -2, -11, 11, -2), 1, 2),
        ((21, 21, 6, -6, 21), 3, 0),
        ((-11, 11, 2, -2, 21), 1, 2),
    )
)
TAGS = {UUX: "uux_epemg", GU: "gu_epemu", GG: "gg_ttxg", EE: "ee_uuxg"}
OTHER_ELEMENTS = {
    tag: MatrixElement(
        process=process_name(pdg_ids),
        pdg_ids=pdg_ids,
        colour="full",
        qcd_order=2,
        qed_order=len(pdg_ids) - 4,
    )
    for tag, pdg_ids in (
        ("uux_ttx", (2, -2, 6, -6)),
        ("gg_gg", (21, 21, 21, 21)),
        ("gg_ttx", (21, 21, 6, -6)),
        ("gg_bbx", (21, 21, 5, -5)),
        ("uux_epemgg", (2, -2, -11, 11, 21, 21)),
    )
}


class RecordedProgress:
    """Progress that remembers its steps and notes."""

    def __init__(self) -> None:
        self.done: dict[str, float] = {}
        self.totals: dict[str, float] = {}
        self.notes: list[str] = []

    @contextmanager
    def step(self, title: str, total: float) -> Iterator[Callable[[float, str], None]]:
        self.done[title] = 0
        self.totals[title] = total

        def advance(more: float, note: str = "") -> None:
            self.done[title] += more
            self.notes.append(note)

        yield advance


def request(
    cache: Path,
    groups: tuple[SubprocessGroup, ...] = GROUPS,
    model: StandardModel | None = None,
) -> AmplitudeRequest:
    return AmplitudeRequest(groups=groups, model=model or StandardModel(), cache_folder=cache)


def reference(tag: str) -> Any:
    return json.loads((REFERENCE / f"amplitudes/{tag}.json").read_text())


def points(tag: str) -> tuple[Tensor, Tensor]:
    found = reference(tag)["points"]
    momenta = torch.tensor([point["p"] for point in found], dtype=torch.float64)
    return momenta, torch.tensor([point["m2"] for point in found], dtype=torch.float64)


def group_points(group: int) -> Tensor:
    return points(TAGS[GU] if group == GUX else TAGS[group])[0]


def alpha_s(momenta: Tensor, value: float = 0.118) -> Tensor:
    return torch.full((len(momenta),), value, dtype=torch.float64)
