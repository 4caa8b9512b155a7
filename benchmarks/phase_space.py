"""What a phase-space point costs before its matrix element: microseconds a point, part by part.

    python benchmarks/phase_space.py [--card pp_to_eejj] [--json FILE]

One torch thread, batches of 16384, CPU time: the median of repeats, the fastest in brackets. The
maps are those of the card's first group without identical legs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mlgen.build import phase_space_of
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.core import PhaseSpace
from mlgen.physics.alpha_s import AlphaS
from mlgen.physics.cuts import CardCuts
from mlgen.physics.pdf import find_set, read_grid
from mlgen.physics.process import read_process
from mlgen.physics.scales import CardScales
from mlgen.physics.ufo import read_model

BATCH = 16_384
REPEATS = 25
PARTONS = (21, 1, 2, 3, 4, -1, -2, -3, -4)


def microseconds(work: Callable[[], object]) -> dict[str, float]:
    """CPU time a point of the batch."""
    work()
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        times.append(1e6 * (time.process_time() - started) / BATCH)
    return {"median_us": statistics.median(times), "least_us": min(times)}


def measure(card: Card) -> list[dict[str, Any]]:
    """A row for each part."""
    model = read_model(card.model)
    groups = read_process(card.process, card.beams.particles, model)
    rng = torch.Generator().manual_seed(1)
    rows = []

    def row(part: str, of: str, work: Callable[[], object], n_channels: int = 1) -> None:
        times = {key: value / n_channels for key, value in microseconds(work).items()}
        rows.append({"part": part, "of": of, **times})

    def draw(phase_space: PhaseSpace, channel: int) -> tuple[torch.Tensor, torch.Tensor]:
        n_columns = phase_space.n_dim + phase_space.n_flat
        r = torch.rand((BATCH, n_columns), generator=rng, dtype=torch.float64)
        return r, torch.full((BATCH,), channel)

    by_prior = {}
    for prior in ("densities", "propagators"):
        chosen = replace(card, phase_space=replace(card.phase_space, prior=prior))
        by_prior[prior] = phase_space_of(chosen, groups, model)
    phase_space = by_prior["densities"]
    # Without identical legs, each channel is one map.
    group = next(i for i, g in enumerate(groups) if len(set(g.pdg_ids[0][2:])) == g.n_ext - 2)
    own = [i for i, channel in enumerate(phase_space.channels) if channel.group == group]
    for index in own:
        r, channel = draw(phase_space, index)
        points = phase_space.forward(r, channel)
        topology = phase_space.channels[index].topology
        row("forward map", topology, partial(phase_space.forward, r, channel))
        row("inverse map, with its density", topology, partial(phase_space.inverse, points))
    first = phase_space.forward(*draw(phase_space, own[0]))
    name = groups[group].name
    for prior, space in by_prior.items():
        row(f"prior from {prior}, a channel", name, partial(space.log_prior, first), len(own))
    cut, scales = CardCuts(card.cuts, groups), CardScales(card.scales, groups)
    row("cuts", name, lambda: cut(first.momenta, group))
    row("scales", card.scales.choice, lambda: scales(first.momenta, group))
    density, coupling = read_grid(find_set(card.pdf.set, card.pdf.member)), AlphaS(card.alpha_s)
    q2 = first.momenta[:, 2, 1:3].square().sum(1) + 100.0
    x = [column.contiguous() for column in first.x.T]

    def luminosity() -> None:
        coupling(q2)
        for fraction in x:
            density.xfx(PARTONS, fraction, q2)

    row("alpha_s and 9 flavours of both beams", card.pdf.set, luminosity)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--card", default="pp_to_eejj")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(read_card(find_card(options.card)))
    for row in rows:
        print(f"{row['part']:38} {row['of']:28} {row['median_us']:6.3f} ({row['least_us']:.3f})")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
