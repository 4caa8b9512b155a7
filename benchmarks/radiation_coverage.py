"""Does the predicted uncertainty of learned radiation cover? Against the analytic shower, whose density is known.

    python benchmarks/radiation_coverage.py [--members 4] [--bayesian none] [--seeds 1 2] [--channels 48] [--blocks 2]
        [--events 100000] [--epochs 4] [--n-max 3] [--test 10000] [--json FILE]

For each seed other events are drawn and learned from, of each the first n_max jets. Then events of the truth of each
multiplicity are weighted by what each member says over the true density: the shares of bins of equal content
of all observables, true and learned, differ by d, which is compared with the predicted error, `shared_spread`, and the
statistical one, which is small since both are of the same events. `rms` and `68 %` are the width of d over
the error, by its square and by where 68 % lie; 1 is right. `band` is the predicted relative error of a bin,
in the median, `P(n)` what is learned of the probability of n jets over the exact one, with its predicted error.
One torch thread, CPU time.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.learned import LearnedRadiation, learn
from mlgen.radiation.observables import jet_observables
from mlgen.radiation.oracle import AnalyticShower
from mlgen.radiation.settings import NetworkSettings, TrainingSettings
from mlgen.radiation.spectra import ONE_SIGMA, shared_spread, spread

SHOWER = AnalyticShower()
BEYOND = 3
"""Multiplicities after the last one that was seen."""
N_BINS = 10
POOL = 400_000
"""Events of all multiplicities, of which those to test with are taken."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One multiplicity of one seed."""

    seed: int
    n_jets: int
    n_events: int
    pulls: tuple[float, ...]
    """Of all bins of all observables."""
    statistical: float
    """The median part of the error that is statistical."""
    band: float
    """The median relative predicted error."""
    probability: float
    """Learned over exact, of so many jets."""
    probability_error: float
    """Predicted."""
    probability_statistical: float

    @property
    def rms(self) -> float:
        return math.sqrt(sum(pull**2 for pull in self.pulls) / len(self.pulls))

    @property
    def inner(self) -> float:
        """68 % of the pulls are not larger."""
        return float(torch.tensor(self.pulls).abs().quantile(ONE_SIGMA))


def cover(radiation: LearnedRadiation, seed: int, options: argparse.Namespace) -> Iterator[Row]:
    """Compare each multiplicity."""
    pool = SHOWER.sample(POOL, random_stream(0, "cover", 0))
    for n_jets in range(options.n_max + BEYOND + 1):
        index = (pool.n_jets == n_jets).nonzero()[: options.test, 0]
        yield cover_one(radiation, pool.select(index), seed, n_jets)


def cover_one(radiation: LearnedRadiation, events: JetEvents, seed: int, n_jets: int) -> Row:
    truth = SHOWER.log_likelihood(events) - SHOWER.log_kinematics(events)[:, 0]
    found = radiation.density(events)
    members = (found.log_prob - truth).exp() * found.weights
    pulls, parts, bands = [], [], []
    for observable in jet_observables(n_jets):
        values = observable.of(events)
        levels = torch.arange(1, N_BINS, dtype=torch.float64) / N_BINS
        bins = torch.bucketize(values, values.quantile(levels))
        is_in = torch.nn.functional.one_hot(bins, N_BINS).double()
        off, error, statistical = compare(members, is_in)
        pulls += (off / torch.hypot(error, statistical)).tolist()
        parts += (statistical / torch.hypot(error, statistical)).tolist()
        bands += (N_BINS * error).tolist()
    each = members.mean(1)
    return Row(
        seed=seed,
        n_jets=n_jets,
        n_events=len(events),
        pulls=tuple(pulls),
        statistical=float(torch.tensor(parts).median()),
        band=float(torch.tensor(bands).median()),
        probability=float(each.mean()),
        probability_error=float(spread(each[:, None])[0]),
        probability_statistical=float(members.mean(0).std()) / math.sqrt(len(events)),
    )


def compare(members: Tensor, is_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Learned less true shares of bins, their predicted errors and their statistical ones: (n_bins,) each.

    Args:
        members: (n_members, n), weights over the truth.
        is_in: (n, n_bins), 1 for the bin of an event.
    """
    each = members @ is_in / members.sum(1, keepdim=True)
    weight = members.mean(0)
    learned, true = weight @ is_in / weight.sum(), is_in.mean(0)
    # What one event adds to the difference of the two ratios.
    moved = weight[:, None] * (is_in - learned) / weight.sum() - (is_in - true) / len(is_in)
    return learned - true, shared_spread(each), moved.square().sum(0).sqrt()


def learn_seed(seed: int, options: argparse.Namespace) -> tuple[LearnedRadiation, float]:
    """What is learned of events of a seed, and CPU seconds."""
    network = NetworkSettings(
        n_channels=options.channels, n_blocks=options.blocks, variational=options.bayesian
    )
    n_members = 1 if options.bayesian != "none" else options.members
    settings = TrainingSettings(n_max=options.n_max, n_epochs=options.epochs, n_members=n_members)
    events = SHOWER.sample(options.events, random_stream(seed, "learn", 0))
    found = learn(events, SHOWER.pt_min, network, settings, 1000 * seed, SilentProgress())
    return found.radiation, sum(record.cpu_s for record in found.records)


def print_rows(rows: Sequence[Row]) -> None:
    """All seeds of a multiplicity together."""
    by_multiplicity: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_multiplicity[row.n_jets].append(row)
    print("jets | bins |  rms | 68 % | statistical part | band | P(n), each seed")
    for n_jets, found in by_multiplicity.items():
        pulls = torch.tensor([pull for row in found for pull in row.pulls])
        probabilities = ", ".join(
            f"{row.probability:.3f} ± {row.probability_error:.3f}" for row in found
        )
        print(
            f"{n_jets:4} | {len(pulls):4} | {float(pulls.square().mean().sqrt()):4.2f} | "
            f"{float(pulls.abs().quantile(ONE_SIGMA)):4.2f} | "
            f"{sum(row.statistical for row in found) / len(found):16.2f} | "
            f"{100 * sum(row.band for row in found) / len(found):3.1f}% | {probabilities}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--bayesian", default="none", choices=["none", "last", "all"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--channels", type=int, default=48)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--n-max", type=int, default=3)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for seed in options.seeds:
        radiation, cpu_s = learn_seed(seed, options)
        rows += cover(radiation, seed, options)
        print(f"seed {seed}: {cpu_s:.0f} CPU seconds", flush=True)
    print_rows(rows)
    if options.json:
        table = {"options": {k: str(v) for k, v in vars(options).items()}, "rows": rows}
        table["rows"] = [{**asdict(row), "rms": row.rms, "inner": row.inner} for row in rows]
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
