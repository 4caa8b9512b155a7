"""Microseconds a point of each matrix-element provider, one torch thread, CPU time.

    python benchmarks/amplitudes.py [--cache FOLDER] [--json FILE]

`call` is the whole adapter. The others are asked for accepted events only: `table` is |M|² of every
helicity, `pick` one of them where |M|² is known, and `flows` |M|² of each colour flow given that one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from mlgen.amplitudes.probe_points import probe_points
from mlgen.amplitudes.provider import AUTO_ORDER, AmplitudeRequest, provide
from mlgen.core import PicksHelicity, ResolvedAmplitude, SubprocessGroup, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import MissingExtra, UnsupportedProcess
from mlgen.physics.model import StandardModel
from mlgen.physics.process import process_name

POINTS = Path(__file__).parents[1] / "tests/reference/amplitudes"
TAGS = ("uux_epem", "uux_epemg", "gu_epemu", "gg_ttxg", "uux_epemgg")
"""Processes at the points of their references."""
OTHERS = (((2, -2, 23, 21, 21, 21), 3, 1), ((21, 21, 6, -6, 21, 21), 4, 0))
"""Others, with their powers of g_s and e, at points of `OTHERS_MOMENTUM_GEV`."""
OTHERS_MOMENTUM_GEV = 100.0
N_POINTS = 8192
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
        f"{'process':24} {'provider':12} {'prepare s':>9} {'call':>9} {'table':>9} "
        f"{'pick':>9} {'flows':>9}"
    )
    for group, momenta in processes():
        request = AmplitudeRequest(
            groups=(group,), model=StandardModel(), cache_folder=cache_folder
        )
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


def processes() -> Iterator[tuple[SubprocessGroup, Tensor]]:
    """Groups, and momenta (N_POINTS, n_ext, 4), GeV."""
    for tag in TAGS:
        reference = json.loads((POINTS / f"{tag}.json").read_text())
        pdg_ids = tuple(reference["pdg"])
        qed_order = sum(abs(pdg) == 11 for pdg in pdg_ids)
        found = torch.tensor([point["p"] for point in reference["points"]], dtype=torch.float64)
        momenta = found.repeat(N_POINTS // len(found), 1, 1)
        yield group_of(pdg_ids, len(pdg_ids) - 2 - qed_order, qed_order), momenta
    model = StandardModel()
    for pdg_ids, qcd_order, qed_order in OTHERS:
        masses = [model.mass_gev(pdg) for pdg in pdg_ids]
        momenta = probe_points(masses, N_POINTS, OTHERS_MOMENTUM_GEV)
        yield group_of(pdg_ids, qcd_order, qed_order), momenta


def group_of(pdg_ids: tuple[int, ...], qcd_order: int, qed_order: int) -> SubprocessGroup:
    return SubprocessGroup(
        name=process_name(pdg_ids), pdg_ids=(pdg_ids,), qcd_order=qcd_order, qed_order=qed_order
    )


def timings(amplitude: ResolvedAmplitude, momenta: Tensor) -> dict[str, float]:
    n = len(momenta)
    alpha_s = torch.full((n,), 0.118, dtype=torch.float64)
    total = amplitude(momenta, alpha_s, 0).value
    rng = random_stream(1, "benchmark", 0)
    uniform = torch.rand(n, generator=rng, dtype=torch.float64)
    values = amplitude.helicity_values(momenta, alpha_s, 0)
    helicity = (values.cumsum(1) <= uniform[:, None] * values.sum(1, keepdim=True)).sum(1)
    parts: dict[str, Callable[[], object]] = {
        "call": lambda: amplitude(momenta, alpha_s, 0),
        "table": lambda: amplitude.helicity_values(momenta, alpha_s, 0),
        "pick": lambda: _pick(amplitude, momenta, alpha_s, total, uniform),
        "flows": lambda: amplitude.colour_flow_values(momenta, alpha_s, helicity, 0),
    }
    return {name: microseconds_a_point(part, n) for name, part in parts.items()}


def _pick(
    amplitude: ResolvedAmplitude, momenta: Tensor, alpha_s: Tensor, total: Tensor, uniform: Tensor
) -> Tensor:
    if isinstance(amplitude, PicksHelicity):
        return amplitude.pick_helicity(momenta, alpha_s, total, uniform, 0)
    return amplitude.helicity_values(momenta, alpha_s, 0)


def microseconds_a_point(compute: Callable[[], object], n_points: int) -> float:
    """The fastest of several repeats, so that a busy machine disturbs it least."""
    seconds = []
    for _ in range(N_REPEATS):
        start = time.process_time()
        compute()
        seconds.append(time.process_time() - start)
    return 1e6 * min(seconds) / n_points


if __name__ == "__main__":
    main()
