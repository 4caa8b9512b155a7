"""What the flow reaches with at most a million matrix elements, beside VEGAS and MadEvent.

    python benchmarks/efficiency.py [--cards gg_to_ttg ...] [--seed 1] [--set SECTION.KEY=VALUE ...]
        [--json FILE]

One call is one |M|² at one point; those of the grid's adaptation and of the flow's training count, those
of the fresh points that measure both do not. MadEvent's number is its own count of events over points, at
its truncation of 1 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mlgen.build import build
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.events.unweighting import unweighting_efficiency
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Candidate
from mlgen.integration.integrator import integrate

N_POINTS = 100_000
"""N of eps_uw(N, t)."""
N_SAMPLES = 4
"""Disjoint samples of as many points, over which efficiencies are averaged."""

GOALS = {
    "gg_to_ttg": (0.45, 0.073),
    "gg_to_ttgg": (0.15, 0.022),
    "uux_to_eegg": (0.30, 0.035),
    "uux_to_zggg": (0.15, 0.016),
    "pp_to_eej": (0.40, 0.12),
    "pp_to_ttj": (0.40, 0.072),
}
"""What the flow is to reach at t = 0.1 %, and MadEvent's count at 1 %."""

SETTINGS = (
    "run.sampler=flow",
    f"run.n_estimate={N_POINTS * N_SAMPLES}",
    "vegas.n_iterations=6",
    "vegas.n_points=25000",
)


def efficiency(candidate: Candidate, budget: float) -> float:
    """The mean of eps_uw(N, t) over the samples."""
    measured = candidate.measured
    columns = (torch.split(column, N_POINTS) for column in (measured.weights, measured.channel))
    parts = zip(*columns, strict=True)
    rng = random_stream(1, "bootstrap", 0)
    found = [unweighting_efficiency(w, c, budget, rng, n_replicas=2).value for w, c in parts]
    return sum(found) / len(found)


def measure(name: str, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Adapt, train and measure one card."""
    card = read_card(find_card(name), (*SETTINGS, f"run.seed={seed}", *overrides))
    process = build(card, SilentProgress())
    clock = StepClock()
    started = time.process_time()
    found = integrate(process.integrand, card, Aids(progress=SilentProgress(), clock=clock))
    cpu_s = time.process_time() - started
    vegas, flow = found.candidates
    n_fresh = sum(candidate.measured.n_calls for candidate in found.candidates)
    sums = flow.measured.sums
    return {
        "n_calls": found.n_calls - n_fresh,
        "n_steps": len(flow.losses),
        "cpu_s": clock.cpu_s | {"all": cpu_s},
        "cross_section_pb": sums.mean,
        "cross_section_error_pb": sums.error,
        "us_per_point": {c.name: c.measured.us_per_point for c in found.candidates},
        "ess": {c.name: c.measured.ess for c in found.candidates},
        "eps_uw_0.1%": {c.name: efficiency(c, 0.001) for c in (vegas, flow)},
        "eps_uw_1%": {c.name: efficiency(c, 0.01) for c in (vegas, flow)},
        "overweight_on_fresh_points": flow.measured.overweight_on_fresh_points,
        "goal": GOALS[name][0],
        "madevent_1%": GOALS[name][1],
    }


def show(name: str, row: dict[str, Any]) -> str:
    """A line of the table."""
    small, large = row["eps_uw_0.1%"], row["eps_uw_1%"]
    cpu = row["cpu_s"]
    return (
        f"{name:12} {row['n_calls'] / 1e6:5.2f}M {cpu['adapt']:6.1f} {cpu['train']:6.1f}   "
        f"{small['vegas']:.3f} {small['flow']:.3f} (goal {row['goal']:.2f})   "
        f"{large['vegas']:.3f} {large['flow']:.3f} (MadEvent {row['madevent_1%']:.3f})   "
        f"{row['ess']['vegas']:.3f} {row['ess']['flow']:.3f}   "
        f"{row['cross_section_pb']:.5g} ± {row['cross_section_error_pb']:.2g}"
    )


def main(names: Sequence[str], seed: int, overrides: Sequence[str], json_path: Path | None) -> None:
    """Measure the cards, print a table, write JSON."""
    torch.set_num_threads(1)
    print(
        f"{'card':12} {'calls':>6} {'adapt':>6} {'train':>6}   eps_uw(1e5, 0.1 %) VEGAS, flow   "
        "eps_uw(1e5, 1 %) VEGAS, flow   ESS VEGAS, flow   cross section [pb]"
    )
    rows = {}
    for name in names:
        rows[name] = measure(name, seed, overrides)
        print(show(name, rows[name]), flush=True)
    if json_path is not None:
        table = {"n_points": N_POINTS, "n_samples": N_SAMPLES, "seed": seed, "set": list(overrides)}
        json_path.write_text(json.dumps(table | {"cards": rows}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cards", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    arguments = parser.parse_args()
    main(arguments.cards, arguments.seed, arguments.set, arguments.json)
