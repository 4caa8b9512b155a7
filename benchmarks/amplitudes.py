"""Microseconds a point of each matrix-element provider, one torch thread.

    python benchmarks/amplitudes.py [CACHE_FOLDER]

`call` is the whole adapter; `helicities` and `flows` are asked for accepted events only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

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


def main(cache_folder: Path) -> None:
    torch.set_num_threads(1)
    print(
        f"{'process':24} {'provider':12} {'prepare s':>9} {'call':>8} {'helicities':>10} {'flows':>8}"
    )
    for tag in TAGS:
        reference = json.loads((POINTS / f"{tag}.json").read_text())
        group = SubprocessGroup(
            name=process_name(reference["pdg"]), pdg_ids=(tuple(reference["pdg"]),)
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
            except (UnsupportedProcess, MissingExtra) as error:
                print(f"{group.name:24} {provider:12} {error}")
                continue
            prepared = time.perf_counter() - start
            columns = " ".join(f"{us:9.2f}" for us in timings(amplitude, momenta))
            print(f"{group.name:24} {provider:12} {prepared:9.1f} {columns}")


def timings(amplitude: ResolvedAmplitude, momenta: torch.Tensor) -> list[float]:
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    helicity = torch.arange(len(momenta)) % len(amplitude.helicities(0))
    return [
        microseconds_a_point(lambda: amplitude(momenta, alpha_s, 0), len(momenta)),
        microseconds_a_point(lambda: amplitude.helicity_values(momenta, alpha_s, 0), len(momenta)),
        microseconds_a_point(
            lambda: amplitude.colour_flow_values(momenta, alpha_s, helicity, 0), len(momenta)
        ),
    ]


def microseconds_a_point(compute: Callable[[], object], n_points: int) -> float:
    """The fastest of several repeats, so that a busy machine disturbs it least."""
    seconds = []
    for _ in range(N_REPEATS):
        start = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - start)
    return 1e6 * min(seconds) / n_points


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as folder:
            main(Path(folder))
