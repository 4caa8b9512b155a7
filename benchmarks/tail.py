"""The tail of the weights: which part of the training earns its place, by leaving it out.

    python -m benchmarks.tail [--of NAME ...] [--steps N] [--seeds K] [--set KEY=VALUE ...] [--json FILE]

`ridge` is that of benchmarks/toys.py, other names are cards. Every variant begins from the same
adapted grid, and makes as many steps on as many points. A defensive mixture (T. Hesterberg,
Technometrics 37 (1995) 185) draws the part b of the points from the grid instead of the trained
flow; in each channel their density is (1 - b) q_flow + b q_vegas. One torch thread, CPU seconds.
docs/experiments.md has the findings.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.toys import TOYS
from mlgen.build import build
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.core import Evaluation, Integrand, Sampler, TrainingBatch, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.events.unweighting import effective_sample_size, unweighting_curve
from mlgen.integration import training
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.learner import teach
from mlgen.integration.losses import objective
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.integration.replay import joined
from mlgen.samplers.registry import start_sampler
from mlgen.samplers.vegas import VegasGrid

N_SUBSAMPLE = 100_000
"""N of eps_uw(N, t)."""
N_SUBSAMPLES = 2
N_CHUNK = 20_000
BUDGETS = (0.001, 0.01)
MIXTURES = (0.01, 0.05, 0.2)
NO_LIMIT = 1e-9

Row = dict[str, float]


@dataclass(frozen=True)
class Variant:
    """How training differs from what the card says."""

    loss: Literal["renyi", "stratified_variance", "variance", "kullback_leibler"] = "renyi"
    renyi_order: float = 12.0
    visible: float = training.VISIBLE
    stratified: bool | None = None
    """None: as the loss has it."""

    def card(self, card: Card) -> Card:
        flow = replace(card.flow, loss=self.loss, renyi_order=self.renyi_order)
        return replace(card, flow=flow)


VARIANTS = {
    "variance": Variant(loss="variance"),
    "stratified variance": Variant(loss="stratified_variance"),
    "Kullback-Leibler": Variant(loss="kullback_leibler"),
    "Rényi to 12": Variant(),
    "Rényi to 6": Variant(renyi_order=6.0),
    "Rényi to 12, no limit": Variant(visible=NO_LIMIT),
    "Rényi to 12, not stratified": Variant(stratified=False),
}
MULTI_CHANNEL = {"stratified variance", "Rényi to 12, not stratified"}
"""With one channel they are the same as their neighbours."""
MIXED = "Rényi to 12"


def load(name: str, overrides: Sequence[str]) -> tuple[Integrand[Evaluation], Card]:
    """A toy or a card."""
    card = read_card(find_card("gg_to_ttg" if name in TOYS else name), tuple(overrides))
    if name in TOYS:
        return TOYS[name](), card
    return build(card, SilentProgress()).integrand, card


def train(
    integrand: Integrand[Evaluation], card: Card, grid: VegasGrid, fractions: Tensor, how: Variant
) -> tuple[Proposal, Row]:
    """A trained flow, and what it took."""
    started = time.process_time()
    card, seed = how.card(card), card.run.seed
    flow = start_sampler("flow", grid, card, random_stream(seed, "initialise", 0))
    wanted = objective(card.flow)
    if how.stratified is not None:
        wanted = replace(wanted, stratified=how.stratified)
    with (
        patch.object(training, "VISIBLE", how.visible),
        patch.object(training, "objective", lambda _: wanted),
    ):
        learner = training.SamplerLearner(
            flow, fractions, card.flow, seed, card.run.overweight_budget
        )
        teach(learner, integrand, seed, SilentProgress())
        trained = learner.finish()
    took = time.process_time() - started
    return Proposal(sampler=flow, fractions=trained.fractions), {
        "train_cpu_s": took,
        "n_calls": learner.n_calls,
        "last_order": trained.orders[-1],
    }


def fresh(integrand: Integrand[Evaluation], proposal: Proposal, n: int, seed: int) -> TrainingBatch:
    """n points that nothing was learned from."""
    return joined(
        [
            draw(integrand, proposal, N_CHUNK, random_stream(seed, "fresh", index))[0]
            for index in range(n // N_CHUNK)
        ]
    )


def figures(weight: Tensor, batch: TrainingBatch) -> Row:
    """What the weights (n,) of points within their channels say of the density they come from."""
    parts = zip(
        torch.split(weight, N_SUBSAMPLE), torch.split(batch.channel, N_SUBSAMPLE), strict=True
    )
    eps = torch.stack([unweighting_curve(*part, BUDGETS) for part in parts])
    return {
        "eps_uw": float(eps[:, 0].mean()),
        "eps_uw_1_percent": float(eps[:, 1].mean()),
        "ess": effective_sample_size(weight / batch.fraction),
    }


def mixed(flow: Sampler, grid: Sampler, share: float, points: tuple[TrainingBatch, ...]) -> Row:
    """The figures of a mixture.

    Args:
        share: b, of the points that come from the grid.
        points: from the flow, from the grid; of both the first ones are used.
    """
    n = len(points[0])
    n_grid = round(share * n)
    parts = [points[0].select(torch.arange(n - n_grid)), points[1].select(torch.arange(n_grid))]
    batch = joined(parts)
    batch = batch.select(torch.randperm(n, generator=random_stream(0, "mixture", 0)))
    with torch.no_grad():
        log_q = [sampler.log_prob(batch.r, batch.channel) for sampler in (flow, grid)]
    both = torch.logaddexp(log_q[0] + math.log1p(-share), log_q[1] + math.log(share))
    return figures(batch.value * (-both).exp(), batch)


def measure(integrand: Integrand[Evaluation], card: Card) -> dict[str, Row]:
    """Every variant, from the seed of the card."""
    seed, n = card.run.seed, N_SUBSAMPLES * N_SUBSAMPLE
    grid, fractions, n_calls = adapt_grid(integrand, card.vegas, seed, SilentProgress())
    points = fresh(integrand, Proposal(sampler=grid, fractions=fractions), n, seed)
    rows = {"VEGAS": {**figures(channel_weight(points), points), "n_calls": n_calls}}
    for title, how in VARIANTS.items():
        if integrand.n_channels == 1 and title in MULTI_CHANNEL:
            continue
        proposal, cost = train(integrand, card, grid, fractions, how)
        points = fresh(integrand, proposal, n, seed)
        rows[title] = {**figures(channel_weight(points), points), **cost}
        if title == MIXED:
            from_grid = replace(proposal, sampler=grid)
            safe = fresh(integrand, from_grid, round(max(MIXTURES) * n), seed + 1000)
            for share in MIXTURES:
                rows[f"{title}, {share:.0%} VEGAS"] = mixed(
                    proposal.sampler, grid, share, (points, safe)
                )
    return rows


def table(name: str, by_seed: Sequence[dict[str, Row]]) -> str:
    """Means over the seeds, with half the spread of two of them as the error of theirs."""
    columns = ("eps_uw", "eps_uw_1_percent", "ess", "train_cpu_s")
    lines = [f"{name:32}" + "".join(f"{column:>18}" for column in columns)]
    for title in by_seed[0]:
        line = f"  {title:30}"
        for column in columns:
            values = [rows[title][column] for rows in by_seed if column in rows[title]]
            if values:
                error = statistics.stdev(values) / math.sqrt(len(values)) if values[1:] else 0.0
                line += f"{statistics.mean(values):10.3f} ±{error:6.3f}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--of", nargs="+", default=["ridge", "gg_to_ttg", "uux_to_eegg"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the card")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Row]]] = {}
    for name in options.of:
        overrides = [f"flow.n_steps={options.steps}", "vegas.n_points=25000", *options.set]
        integrand, card = load(name, overrides)
        found[name] = []
        for seed in range(1, options.seeds + 1):
            seeded = replace(card, run=replace(card.run, seed=seed))
            found[name].append(measure(integrand, seeded))
            if options.json:
                options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(table(name, found[name]), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
