"""A sample whose events have further weights."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch

from mlgen.core import EventBatch, SampleInfo, Variation
from tests.events.samples import eej, with_weights

SCALES = tuple(
    Variation(
        name=f"MUR={k_r:g}__MUF={k_f:g}__LHAPDF=247000",
        group="scale_variations",
        mu_r_factor=k_r,
        mu_f_factor=k_f,
        pdf_id=247000,
    )
    for k_r, k_f in product((1.0, 0.5, 2.0), repeat=2)
    if k_r * k_f != 1 or k_r == 1
)
MEMBERS = tuple(
    Variation(
        name=f"MUR=1__MUF=1__LHAPDF={pdf_id}", group="pdf_members", mu_r_factor=1.0, pdf_id=pdf_id
    )
    for pdf_id in (247001, 247002)
)
VARIATIONS = SCALES + MEMBERS


def varied(
    n: int, u: list[float] | None = None, weighted: bool = False
) -> tuple[SampleInfo, EventBatch]:
    """n events of weight 1, but for the first ones, with nine further weights between 0 and 2 times
    as large; the first of these is the event's own."""
    info, events = eej()
    rng = torch.Generator().manual_seed(9)
    weight = torch.ones(n, dtype=torch.float64)
    weight[: len(u or [])] = torch.tensor(u or [], dtype=torch.float64)
    ratios = 2 * torch.rand(n, len(VARIATIONS), generator=rng, dtype=torch.float64)
    ratios[:, 0] = 1
    events = with_weights(events.select(slice(0, n)), weight)
    info = replace(info, weighted=weighted, variations=VARIATIONS)
    return info, replace(events, variations=weight[:, None] * ratios)
