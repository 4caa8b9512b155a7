"""How well radiation is learned from an analytic shower, beyond the jets that were seen too, and how quickly it is drawn.

    python benchmarks/radiation.py [--variants plain truncated bootstrap override] [--channels 48] [--blocks 3]
        [--events 200000] [--epochs 6] [--n-max 3] [--seed 1] [--draws 300000] [--json FILE]
    python benchmarks/radiation.py --speed [--json FILE]

The truth is `AnalyticShower`. Of each event the first n_max jets are learned from. Then, for fresh hard
objects, the ratios of multiplicities P(n) / P(n - 1) are compared with the exact ones, and on fresh events the
learned likelihood with the true one, in nats a jet. `plain` is the negative control. With --speed, untrained
networks of both sizes draw 0.9 jets an event. One torch thread, CPU time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlgen.core import random_stream
from mlgen.diagnostics.progress import RichProgress
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.learned import LearnedRadiation, learn
from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.oracle import AnalyticShower
from mlgen.radiation.representation import PHI, Particles
from mlgen.radiation.sampling import CachedReader, ReaderFactory, RecomputingReader, sample
from mlgen.radiation.settings import NetworkSettings, TrainingSettings
from mlgen.radiation.variants import VARIANTS

SHOWER = AnalyticShower()
BEYOND = 2
"""Multiplicities after the last one that was seen."""
N_TEST = 100_000
"""Events whose likelihood is compared."""
SIZES = {"published": 128, "pack": 48}
"""Channels; three blocks each."""
SPLIT_LOGIT = -0.1
"""Untrained networks split so often: 0.9 jets an event."""
TILE = 4096
REPEATS = 5
READERS: dict[str, ReaderFactory] = {"cache": CachedReader, "recomputation": RecomputingReader}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one variant does."""

    variant: str
    channels: int
    blocks: int
    epochs: float
    seed: int
    cpu_s: float
    """Of the training."""
    ratios: tuple[float, ...]
    """P(n) / P(n - 1) over the exact one, for n = 1, 2, ..."""
    ratio_errors: tuple[float, ...]
    nats_per_jet: tuple[float, ...]
    """ln of true over learned density, over n, for events with n = 1, 2, ... jets."""
    nats_errors: tuple[float, ...]


def learn_variant(variant: str, options: argparse.Namespace) -> Row:
    """Train one, and compare it."""
    events = SHOWER.sample(options.events, random_stream(options.seed, "learn", 0))
    found = learn(
        events,
        SHOWER.pt_min,
        NetworkSettings(n_channels=options.channels, n_blocks=options.blocks),
        TrainingSettings(variant=variant, n_max=options.n_max, n_epochs=options.epochs),
        options.seed,
        RichProgress(),
    )
    n_compared = options.n_max + BEYOND
    ratios, ratio_errors = compare_multiplicities(found.radiation, options.draws, n_compared)
    nats, nats_errors = compare_likelihoods(found.radiation, options.n_max)
    return Row(
        variant=variant,
        channels=options.channels,
        blocks=options.blocks,
        epochs=options.epochs,
        seed=options.seed,
        cpu_s=sum(record.cpu_s for record in found.records),
        ratios=tuple(ratios.tolist()),
        ratio_errors=tuple(ratio_errors.tolist()),
        nats_per_jet=tuple(nats),
        nats_errors=tuple(nats_errors),
    )


def compare_multiplicities(
    radiation: LearnedRadiation, n_draws: int, n_compared: int
) -> tuple[Tensor, Tensor]:
    """Ratios of multiplicities 1 to n_compared over the exact ones, and their errors: (n_compared,)."""
    hard = SHOWER.sample(n_draws, random_stream(0, "compare", 0)).hard
    drawn = radiation.sample(hard, random_stream(0, "draw", 0))
    counts = torch.bincount(drawn.n_jets, minlength=1 + n_compared)[: 1 + n_compared].double()
    exact = SHOWER.multiplicities(n_compared)
    ratios = (counts[1:] / counts[:-1]) / (exact[1:] / exact[:-1])
    return ratios, ratios * (1 / counts[1:] + 1 / counts[:-1]).sqrt()


def compare_likelihoods(radiation: LearnedRadiation, n_max: int) -> tuple[list[float], list[float]]:
    """Nats a jet for 1 to n_max jets, and their errors."""
    events = SHOWER.sample(N_TEST, random_stream(0, "test", 0))
    nats, errors = [], []
    for n in range(1, n_max + 1):
        some: JetEvents = events.select(events.n_jets == n)
        truth = SHOWER.log_likelihood(some) - SHOWER.log_kinematics(some)[:, 0]
        difference = (truth - radiation.density(some).log_prob) / n
        nats.append(float(difference.mean()))
        errors.append(float(difference.std()) / len(some) ** 0.5)
    return nats, errors


def print_row(row: Row) -> None:
    def numbers(values: Sequence[float], errors: Sequence[float]) -> str:
        return " ".join(f"{v:7.3f}±{e:5.3f}" for v, e in zip(values, errors, strict=True))

    print(
        f"{row.variant:10} {row.cpu_s:6.0f} | {numbers(row.ratios, row.ratio_errors)} | "
        f"{numbers(row.nats_per_jet, row.nats_errors)}",
        flush=True,
    )


def events_a_second(n_channels: int, reader: ReaderFactory) -> float:
    """The most of several repeats."""
    rng = torch.Generator().manual_seed(1)
    network = RadiationNetwork(NetworkSettings(n_channels=n_channels, n_blocks=3), rng).eval()
    with torch.no_grad():
        network.split.weight.zero_()
        network.split.bias.fill_(SPLIT_LOGIT)
    columns = torch.randn(TILE, 1, 4, generator=rng, dtype=torch.float64)
    columns[..., PHI] = 0
    no_jets = torch.zeros(TILE, dtype=torch.int64)
    hard = Particles(columns=columns, n_jets=no_jets, azimuth=columns[:, 0, PHI])
    times = []
    for repeat in range(REPEATS):
        started = time.process_time()
        sample(network, hard, torch.Generator().manual_seed(repeat), reader=reader)
        times.append(time.process_time() - started)
    return TILE / min(times)


def measure_speed() -> dict[str, dict[str, float]]:
    """Events a second by size and reader."""
    found: dict[str, dict[str, float]] = {}
    for size, n_channels in SIZES.items():
        found[size] = {
            name: events_a_second(n_channels, reader) for name, reader in READERS.items()
        }
        speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in found[size].items())
        print(f"{size} ({n_channels} channels), events a second: {speeds}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--channels", type=int, default=48)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--n-max", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=300_000)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any]
    if options.speed:
        results = {"events_a_second": measure_speed()}
    else:
        n_compared = options.n_max + BEYOND
        print(f"variant     CPU s | P(n) / P(n - 1) over exact, n = 1 to {n_compared} | nats a jet")
        results = {"rows": []}
        for variant in options.variants:
            row = learn_variant(variant, options)
            print_row(row)
            results["rows"].append(asdict(row))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
