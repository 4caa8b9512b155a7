"""Small samples of real events for the tests of this folder."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mlgen.core import EventBatch, SampleInfo
from mlgen.events.formats import read_events

REFERENCE = Path(__file__).parents[1] / "reference" / "lhe"
EEJ = REFERENCE / "pp_epemj_200.lhe.gz"
TTJ = REFERENCE / "gg_ttxg_50.lhe.gz"

CARD = '# <&> "quotes" and é\n[process]\nstring = "p p > e+ e- j"\n'


@cache
def eej() -> tuple[SampleInfo, EventBatch]:
    """200 events of p p > e+ e- j, each of weight 1, and what a file of ours would say of them."""
    info, events = read_events(EEJ)
    info = replace(
        info,
        weighted=False,
        process="p p > e+ e- j",
        card=CARD,
        notes=(("seed", "1"), ("w_max", "3 < 4 & so on")),
    )
    return info, with_weights(events, torch.ones(len(events), dtype=torch.float64))


def with_weights(events: EventBatch, weight: Tensor) -> EventBatch:
    return replace(events, weight=weight)


def same_bits(one: EventBatch, other: EventBatch) -> list[str]:
    """The names of the columns that differ in any bit."""
    return [
        field.name
        for field in fields(one)
        if getattr(one, field.name).numpy().tobytes()
        != getattr(other, field.name).numpy().tobytes()
    ]
