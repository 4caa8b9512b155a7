"""Every card in full: cross sections to a wanted precision, beside the references where there are.

    python benchmarks/processes.py [--cards NAME ...] [--sampler vegas] [--precision 0.001] [--json FILE]

Agreement means 3 standard deviations plus 0.3 % against MadEvent runs, plus 0.1 % against
independent integrations (tests/reference/xsec.json). One torch thread, CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import mlgen
from mlgen.build import build
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import card_names, find_card, read_card
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.aids import Aids
from mlgen.integration.integrator import integrate
from mlgen.integration.measure import estimate

REFERENCE = Path(mlgen.__file__).parent.parent / "tests" / "reference" / "xsec.json"
RUNS = {
    "ee_to_mumu": "ee_mumu_500",
    "ee_to_uug": "ee_uuxg_500",
    "gg_to_gg": "gg_gg",
    "gg_to_tt": "gg_ttx",
    "gg_to_ttg": "gg_ttxg",
    "pp_to_ee": "pp_epem",
    "pp_to_eej": "pp_epemj",
    "pp_to_tt": "pp_ttx",
    "pp_to_ttj": "pp_ttxj",
    "uux_to_eeg": "uux_epemg",
}
"""The reference run of each card; gg_to_gg is pp_to_jj with its gluons alone."""
OVERRIDES = {"gg_to_gg": ("pp_to_jj", ("process.definition=g g > g g",))}


def measure(name: str, sampler: str, precision: float, max_points: int) -> dict[str, Any]:
    """The cross section of a card, from as many fresh points as the precision takes."""
    card_name, overrides = OVERRIDES.get(name, (name, ()))
    card = read_card(find_card(card_name), (*overrides, f"run.sampler={sampler}"))
    started = time.process_time()
    process = build(card, SilentProgress())
    prepared = time.process_time()
    integration = integrate(
        process.integrand, card, Aids(progress=SilentProgress(), clock=StepClock())
    )
    chosen = integration.chosen
    measured = chosen.measured
    relative = measured.sums.error / abs(measured.sums.mean)
    wanted = math.ceil(len(measured.weights) * (relative / precision) ** 2 * 1.1)
    run = replace(card.run, n_estimate=min(max(wanted, card.run.n_estimate), max_points))
    final = estimate(process.integrand, chosen.proposal, run, "precision", SilentProgress())
    done = time.process_time()
    return {
        "card": name,
        "sampler": chosen.name,
        "n_groups": len(process.integrand.groups),
        "n_channels": process.integrand.n_channels,
        "cross_section_pb": final.sums.mean,
        "cross_section_error_pb": final.sums.error,
        "n_points": run.n_estimate,
        "eps_uw": asdict(measured.eps_uw),
        "ess": measured.ess,
        "overweight_on_fresh_points": measured.overweight_on_fresh_points,
        "us_per_point": final.us_per_point,
        "prepare_cpu_s": prepared - started,
        "integrate_cpu_s": done - prepared,
        "references": compare(name, final.sums.mean, final.sums.error),
    }


def compare(name: str, value: float, error: float) -> list[dict[str, Any]]:
    """Each reference number of a card, and whether it agrees."""
    table = json.loads(REFERENCE.read_text(encoding="utf-8"))
    run_name = RUNS.get(name)
    found = [
        (f"MadEvent {run['run']}", run["sigma_pb"], run["sigma_err_pb"], 0.003)
        for run in table["runs"]
        if run["name"] == run_name
    ]
    if run_name in table["independent_integrations"]:
        reference, reference_error = table["independent_integrations"][run_name]
        found.append(("independent", reference, reference_error, 0.001))
    rows = []
    for source, reference, reference_error, slack in found:
        combined = math.hypot(error, reference_error)
        rows.append(
            {
                "source": source,
                "value_pb": reference,
                "error_pb": reference_error,
                "pull": (value - reference) / combined,
                "agrees": abs(value - reference) < 3 * combined + slack * reference,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cards", nargs="+", default=[*card_names(), *OVERRIDES])
    parser.add_argument("--sampler", default="vegas")
    parser.add_argument("--precision", type=float, default=0.001)
    parser.add_argument("--max-points", type=int, default=5_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # A process for each card: pyamplicol 1.0.1 never gives its memory back.
    workers = ProcessPoolExecutor(
        1, get_context("spawn"), torch.set_num_threads, (1,), max_tasks_per_child=1
    )
    rows = []
    for name in options.cards:
        settings = options.sampler, options.precision, options.max_points
        row = workers.submit(measure, name, *settings).result()
        rows.append(row)
        sigma, error = row["cross_section_pb"], row["cross_section_error_pb"]
        print(
            f"{name:12} {row['n_groups']:3} groups {row['n_channels']:3} channels  "
            f"{sigma:.6g} ± {error:.2g} pb ({100 * error / sigma:.2f} %)  eps_uw "
            f"{row['eps_uw']['value']:.4f} ± {row['eps_uw']['error']:.4f}  ESS {row['ess']:.3f}  "
            f"{row['us_per_point']:.1f} us  {row['prepare_cpu_s']:.0f} + "
            f"{row['integrate_cpu_s']:.0f} s",
            flush=True,
        )
        for reference in row["references"]:
            verdict = "agrees" if reference["agrees"] else "DIFFERS"
            print(
                f"{'':12} {reference['source']:16} {reference['value_pb']:.6g} ± "
                f"{reference['error_pb']:.2g} pb  pull {reference['pull']:+.1f}  {verdict}",
                flush=True,
            )
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
