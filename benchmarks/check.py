"""How long checking event files takes, by format.

    python benchmarks/check.py [--events N] [--repeats K] [--json FILE]

Records of six particles (p p > e+ e- j with its Z) in files of mlgen's own, without and with nine
further weights. CPU time of this process, the best of K passes in which all files take turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mlgen.core import EventBatch, SampleInfo, Variation
from mlgen.events.check import check_file
from mlgen.events.formats import read_events, write_events

REFERENCE = Path(__file__).parents[1] / "tests" / "reference" / "lhe" / "pp_epemj_200.lhe.gz"
SUFFIXES = ("lhe", "lhe.gz", "lheh5")
N_WEIGHTS = (0, 9)
N_PARTICLES = 6


@dataclass(frozen=True)
class Repeated:
    """Some events again and again, until there are n."""

    events: EventBatch
    n: int

    def __iter__(self) -> Iterator[EventBatch]:
        for first in range(0, self.n, len(self.events)):
            yield self.events.select(slice(0, self.n - first))


def sample(n_weights: int) -> tuple[SampleInfo, EventBatch]:
    """Events of six particles, each of weight 1, with further weights."""
    info, events = read_events(REFERENCE)
    events = events.select((events.pdg_id != 0).sum(1) == N_PARTICLES)
    names = [f"MUR={2**i}__MUF=1__LHAPDF=247000" for i in range(1, n_weights + 1)]
    variations = tuple(Variation(name=name, group="scale_variations") for name in names)
    rng = torch.Generator().manual_seed(1)
    weights = torch.rand(len(events), n_weights, generator=rng, dtype=torch.float64)
    events = replace(events, weight=torch.ones_like(events.weight), variations=weights)
    return replace(info, weighted=False, variations=variations), events


def measure(folder: Path, n_events: int, n_repeats: int) -> list[dict[str, str | float]]:
    """CPU seconds and bytes of each file."""
    paths = {}
    for n_weights in N_WEIGHTS:
        info, events = sample(n_weights)
        for suffix in SUFFIXES:
            paths[suffix, n_weights] = folder / f"events-{n_weights}.{suffix}"
            write_events(paths[suffix, n_weights], Repeated(events, n_events), info)
    best = dict.fromkeys(paths, float("inf"))
    for _ in range(n_repeats):
        for name, path in paths.items():
            start = time.process_time()
            report = check_file(path)
            best[name] = min(best[name], time.process_time() - start)
            if report.findings or report.n_events != n_events:
                raise ValueError(f"{path.name}: {report.findings}: expected a good file")
    return [
        {
            "format": suffix,
            "n_weights": n_weights,
            "n_bytes": path.stat().st_size,
            "cpu_s": best[suffix, n_weights],
        }
        for (suffix, n_weights), path in paths.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="How long checking event files takes.")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options.events, options.repeats)
    print(f"{options.events} events of {N_PARTICLES} particles, best of {options.repeats}")
    print(f"{'format':8} {'weights':>8} {'MB':>8} {'CPU s':>8} {'events/s':>10}")
    for row in rows:
        megabytes, seconds = float(row["n_bytes"]) / 1e6, float(row["cpu_s"])
        rate = options.events / seconds
        print(
            f"{row['format']:8} {row['n_weights']:8} {megabytes:8.1f} {seconds:8.2f} {rate:10.3g}"
        )
    if options.json:
        table = {"n_events": options.events, "n_repeats": options.repeats, "files": rows}
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
