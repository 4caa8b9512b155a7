"""What the main job costs and reaches: eps_uw of VEGAS and of the flow, over several seeds.

    python benchmarks/main_job.py [--card pp_to_eej] [--seeds 1 2 3] [--json FILE]

One torch thread; times are CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlgen
from mlgen.card_files import find_card, read_card
from mlgen.diagnostics.progress import SilentProgress


def measure(card_name: str, seed: int) -> list[dict[str, Any]]:
    """Both samplers of one run, each on its own fresh points."""
    card = read_card(find_card(card_name))
    card = replace(card, run=replace(card.run, sampler="flow", seed=seed))
    started = time.process_time()
    integration = mlgen.integrate(card, progress=SilentProgress())
    cpu_s = time.process_time() - started
    return [
        {
            "card": card_name,
            "seed": seed,
            "sampler": candidate.name,
            "cross_section_pb": candidate.measured.sums.mean,
            "cross_section_error_pb": candidate.measured.sums.error,
            "eps_uw": asdict(candidate.measured.eps_uw),
            "ess": candidate.measured.ess,
            "overweight_on_fresh_points": candidate.measured.overweight_on_fresh_points,
            "us_per_point": candidate.measured.us_per_point,
            "cpu_s_of_the_run": cpu_s,
        }
        for candidate in integration.candidates
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--card", default="pp_to_eej")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(
        f"{'seed':>4}  {'sampler':8}  {'cross section [pb]':>20}  {'eps_uw':>16}  {'ESS':>6}  us/point"
    )
    rows = []
    for seed in options.seeds:
        for row in measure(options.card, seed):
            rows.append(row)
            sigma = f"{row['cross_section_pb']:.3f} ± {row['cross_section_error_pb']:.3f}"
            eps_uw = f"{row['eps_uw']['value']:.4f} ± {row['eps_uw']['error']:.4f}"
            print(
                f"{seed:4}  {row['sampler']:8}  {sigma:>20}  {eps_uw:>16}  {row['ess']:6.3f}  "
                f"{row['us_per_point']:.2f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
