"""CPU time of unweighted events with a surrogate and without, all of it counted.

    python benchmarks/surrogate_gain.py [--cards gg_to_ttgg ...] [--events 1000000 100000]
        [--made 100000] [--seed 1] [--set SECTION.KEY=VALUE ...] [--json FILE]

For each number of events and each variant: `mlgen train` for so many, then `mlgen generate` of `--made` of
them, each a process of its own with one thread, its matrix element prepared before. What the events
cost beyond a sample of a tenth of that is taken for all of them, so that no run takes hours. CPU seconds of
whole processes: imports, adaptation, training, estimates, surrogate, events, file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlgen.build import build
from mlgen.card_files import find_card, read_card
from mlgen.diagnostics.progress import SilentProgress

VARIANTS = {
    "vegas": ("run.sampler=vegas",),
    "auto": (),
    "vegas, surrogate": ("run.sampler=vegas", "run.surrogate=always"),
    "auto, surrogate auto": ("run.surrogate=auto",),
}


def cpu_s(arguments: Sequence[str]) -> float:
    """Of mlgen as a process of its own."""
    before = _cpu_s_of_children()
    command = [sys.executable, "-c", "from mlgen.cli import main; main()", *arguments]
    subprocess.run(
        command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return _cpu_s_of_children() - before


def _cpu_s_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(card: str, n_events: int, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """One variant: what learning takes, and what so many events take then."""
    changes = [*options.set, *VARIANTS[variant]]
    overrides = [part for change in changes for part in ("--set", change)]
    with tempfile.TemporaryDirectory() as scratch:
        pack = str(Path(scratch) / "a.mlgen.zip")
        wanted = ["train", card, "-n", str(n_events), "--seed", str(options.seed), "-o", pack]
        learning_s = cpu_s([*wanted, *overrides])
        cache = [
            x.partition("=")[2] for x in changes if x.startswith("matrix_element.cache_folder")
        ]
        made_s = []
        for n_made in (options.made // 10, options.made):
            folder = str(Path(scratch) / str(n_made))
            making = ["generate", pack, "-n", str(n_made), "-o", folder]
            made_s.append(cpu_s([*making, *(part for c in cache for part in ("--cache", c))]))
        record = json.loads((Path(scratch) / str(options.made) / "run.json").read_text("utf-8"))
    per_event = (made_s[1] - made_s[0]) / (options.made - options.made // 10)
    return {
        "card": card,
        "n_events": n_events,
        "variant": variant,
        "sampler": record["sampler"],
        "learning_s": learning_s,
        "us_per_event": 1e6 * per_event,
        "total_s": learning_s + made_s[1] + per_event * (n_events - options.made),
        "cross_section_pb": record["cross_section_pb"],
        "cross_section_error_pb": record["cross_section_error_pb"],
        "kish_effective_size": record["kish_effective_size"],
        "calls_per_event": record["n_matrix_element_calls"] / record["n_events"],
        "overweight_fraction": record["overweight_fraction"],
    }


def show(row: dict[str, Any], first: dict[str, Any]) -> str:
    return (
        f"{row['card']:12}{row['n_events']:9} {row['variant']:22}{row['sampler']:8}"
        f"{row['learning_s']:10.1f}{row['us_per_event']:10.1f}{row['total_s']:10.1f}"
        f"{first['total_s'] / row['total_s']:8.2f}{row['calls_per_event']:9.2f}"
        f"{row['overweight_fraction']:11.5f}"
        f"   {row['cross_section_pb']:.5g} ± {row['cross_section_error_pb']:.2g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cards", nargs="+", default=["gg_to_ttgg", "uux_to_zggg"])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 100_000])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--made", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="overrides a key of every card")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(
        f"{'card':12}{'events':>9} {'variant':22}{'sampler':8}{'learning s':>10}{'us/event':>10}"
        f"{'total s':>10}{'gain':>8}{'calls':>9}{'overweight':>11}   cross section [pb]"
    )
    rows: list[dict[str, Any]] = []
    for card in options.cards:
        build(read_card(find_card(card), options.set), SilentProgress())
        for n_events in options.events:
            here = len(rows)
            for variant in options.variants:
                rows.append(measure(card, n_events, variant, options))
                print(show(rows[-1], rows[here]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
