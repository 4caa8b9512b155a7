"""CPU time from nothing to a file of unweighted events, as a user pays it, beside MadEvent's.

    python benchmarks/time_to_events.py [--cards pp_to_eej ...] [--events 10000 ...]
        [--sampler NAME] [--seed 1] [--set SECTION.KEY=VALUE ...] [--json FILE]

Each run is `mlgen run` in a fresh interpreter, with one thread, its matrix element prepared before.
The CPU seconds are those of the whole process, imports and report included.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlgen.build import build
from mlgen.card_files import find_card, read_card
from mlgen.diagnostics.progress import SilentProgress

STEPS = ("prepare", "adapt", "train", "estimate", "generate", "write")


@dataclass(frozen=True, slots=True)
class MadEvent:
    """CPU seconds of MadEvent for 10,000 unweighted events, from its own log."""

    survey_and_refine_s: float
    refine_s: float | None
    """Where its log was kept."""
    eps_uw: float
    """Events over points of the last refine, at its truncation of 1 %."""

    def goal_s(self, n_events: int) -> float | None:
        """Half of survey and refine for 10,000 events, a fifth of ten times refine for 100,000."""
        if n_events == 10_000:
            return self.survey_and_refine_s / 2
        if n_events == 100_000 and self.refine_s is not None:
            return 10 * self.refine_s / 5
        return None


# MadGraph5_aMC@NLO 3.1.1, LO, with the cards' physics (tests/reference/xsec.json has the settings),
# one core of a machine like that of benchmarks/README.md.
MADEVENT = {
    "gg_to_ttg": MadEvent(17, 13, 0.073),
    "gg_to_ttgg": MadEvent(217, None, 0.022),
    "uux_to_eegg": MadEvent(49, None, 0.035),
    "uux_to_zggg": MadEvent(102, None, 0.016),
    "pp_to_eej": MadEvent(15, 11, 0.12),
    "pp_to_ttj": MadEvent(23, 16, 0.072),
}


def measure(card: str, n_events: int, options: Sequence[str]) -> dict[str, Any]:
    """One run as a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        command = [sys.executable, "-c", "from mlgen.cli import main; main()", "run", card]
        command += ["-n", str(n_events), "-o", str(folder), *options]
        before = _cpu_s_of_children()
        subprocess.run(
            command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        cpu_s = _cpu_s_of_children() - before
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    madevent = MADEVENT.get(card)
    return {
        "card": card,
        "n_events": record["n_events"],
        "seed": record["seed"],
        "sampler": record["sampler"],
        "cpu_s": cpu_s,
        "cpu_s_by_step": record["cpu_s"],
        "goal_cpu_s": madevent and madevent.goal_s(n_events),
        "madevent_cpu_s": madevent and madevent.survey_and_refine_s,
        "eps_uw": record["eps_uw"],
        "n_matrix_element_calls": record["n_matrix_element_calls"],
        "cross_section_pb": record["cross_section_pb"],
        "cross_section_error_pb": record["cross_section_error_pb"],
    }


def _cpu_s_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def show(row: dict[str, Any]) -> str:
    steps = row["cpu_s_by_step"]
    rest = row["cpu_s"] - sum(steps.values())
    times = "".join(f"{steps[step]:9.2f}" for step in STEPS)
    goal = "" if row["goal_cpu_s"] is None else f"{row['goal_cpu_s']:.1f}"
    madevent = row["madevent_cpu_s"] or ""
    return (
        f"{row['card']:12} {row['n_events']:7} {row['sampler']:8}{row['cpu_s']:8.1f}{goal:>7}"
        f"{madevent:>9}{rest:9.2f}{times}{row['eps_uw']['value']:9.4f}"
        f"{row['n_matrix_element_calls']:10}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cards", nargs="+", default=list(MADEVENT))
    parser.add_argument("--events", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--sampler", help="instead of the card's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="overrides a key of every card")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    options = ["--seed", str(chosen.seed)]
    options += ["--sampler", chosen.sampler] if chosen.sampler else []
    options += [part for override in chosen.set for part in ("--set", override)]
    print(
        f"{'card':12} {'events':>7} {'sampler':8}{'CPU-s':>8}{'goal':>7}{'MadEvent':>9}"
        f"{'imports':>9}" + "".join(f"{step:>9}" for step in STEPS) + f"{'eps_uw':>9}{'calls':>10}"
    )
    rows = []
    for card in chosen.cards:
        build(read_card(find_card(card), chosen.set), SilentProgress())
        for n_events in chosen.events:
            rows.append(measure(card, n_events, options))
            print(show(rows[-1]), flush=True)
            if chosen.json:
                chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
