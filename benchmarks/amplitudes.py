"""Microseconds a point of each matrix-element provider, one torch thread.

    python benchmarks/amplitudes.py [--cache FOLDER] [--json FILE]

`call` is the whole adapter; `helicities` and `flows` are asked for accepted events only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mlgen.amplitudes.provider import AUTO_ORDER, AmplitudeRequest, provide
from mlgen.core import ResolvedAmplitude, SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import MissingExtra, UnsupportedProcess
from mlgen.physics.model import StandardModel
from mlgen.physics.process import process_name

POINTS = Path(__file__).parents[1] / "tests/reference/amplitudes"
TAGS = ("uux_epem", "uux_epemg", "gu_epemu", "gg_ttxg", "uux_epemgg")
N_POINTS = 20_000
N_REPEATS = 5


def main() -> None:
    """Print a row for each process and provider, and write all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, help="where made matrix elements are kept")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        rows = measure(options.cache or Path(folder))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def measure(cache_folder: Path) -> list[dict[str, Any]]:
    """Every process with every provider that serves it; microseconds a point."""
    rows = []
    print(
        f"{'process':24} {'provider':12} {'prepare s':>9} {'call':>8} {'helicities':>10} {'flows':>8}"
    )
    for tag in TAGS:
        reference = json.loads((POINTS / f"{tag}.json").read_text())
        pdg_ids = tuple(reference["pdg"])
        qed_order = sum(abs(pdg) == 11 for pdg in pdg_ids)
        group = SubprocessGroup(
            name=process_name(pdg_ids),
            pdg_ids=(pdg_ids,),
            qcd_order=len(pdg_ids) - 2 - qed_order,
            qed_order=qed_order,
        )
        request = AmplitudeRequest(
            groups=(group,), model=StandardModel(), cache_folder=cache_folder
        )
        found = torch.tensor([point["p"] for point in reference["points"]], dtype=torch.float64)
        momenta = found.repeat(N_POINTS // len(found), 1, 1)
        for provider in AUTO_ORDER:
            start = time.perf_counter()
            try:
                _, amplitude = provide(provider, request, SilentProgress())
            except (UnsupportedProcess, MissingExtra):
                print(f"{group.name:24} {provider:12} {'not served':>9}")
                continue
            prepared = time.perf_counter() - start
            found_us = timings(amplitude, momenta)
            columns = " ".join(f"{us:9.2f}" for us in found_us.values())
            print(f"{group.name:24} {provider:12} {prepared:9.1f} {columns}")
            row = {"process": group.name, "provider": provider, "prepare_s": prepared}
            rows.append(row | {f"{part}_us": us for part, us in found_us.items()})
    return rows


def timings(amplitude: ResolvedAmplitude, momenta: torch.Tensor) -> dict[str, float]:
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    helicity = torch.arange(len(momenta)) % len(amplitude.helicities(0))
    parts: dict[str, Callable[[], object]] = {
        "call": lambda: amplitude(momenta, alpha_s, 0),
        "helicities": lambda: amplitude.helicity_values(momenta, alpha_s, 0),
        "flows": lambda: amplitude.colour_flow_values(momenta, alpha_s, helicity, 0),
    }
    return {name: microseconds_a_point(part, len(momenta)) for name, part in parts.items()}


def microseconds_a_point(compute: Callable[[], object], n_points: int) -> float:
    """The fastest of several repeats, so that a busy machine disturbs it least."""
    seconds = []
    for _ in range(N_REPEATS):
        start = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - start)
    return 1e6 * min(seconds) / n_points


if __name__ == "__main__":
    main()
