"""What samplers cost: events per CPU-second drawn with their density, CPU-ms a training step.

    python benchmarks/samplers.py [--json FILE] [--seconds S]

One torch thread, CPU time, all samplers in one run. On a machine that others use too, CPU times
vary by a factor of two: each number is the best of many short repeats, taken in turns, and the
ratios are what to compare between machines. madnis is timed where it is installed. `flow` has the
size of its default network, two hidden layers of 32, `flow64` twice that width; `flow torch` is the
former without what numba compiles, and `flow 90 channels` has a bias for each of them. All are
trained with the same optimizer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from mlgen.cards import FlowCard
from mlgen.core import Sampler
from mlgen.samplers.compiled_splines import only_torch
from mlgen.samplers.flow import CouplingFlow
from mlgen.samplers.vegas import VegasGrid

try:
    from madnis.nn import Flow as MadnisFlow
except ImportError:
    MadnisFlow = None

SAMPLERS = ("vegas", "flow", "flow64", "flow 90 channels", "flow torch", "madnis")
N_DIMS = (4, 6, 10)
N_EVENTS = 16_384
BATCH_SIZES = (1024, 2048, 4096)
N_VEGAS_BINS = 128

Work = Callable[[], object]


def drawing(sampler: Sampler) -> Work:
    channel = torch.arange(N_EVENTS) % sampler.n_channels
    rng = torch.Generator().manual_seed(1)

    @torch.no_grad()
    def draw() -> None:
        sampler.sample(channel, rng)

    return draw


def without_kernels(work: Work) -> Work:
    def in_torch() -> None:
        with only_torch():
            work()

    return in_torch


def training(
    model: torch.nn.Module, log_prob: Callable[[torch.Tensor], torch.Tensor], r: torch.Tensor
) -> Work:
    """An optimizer step on the variance of weights, on points that are there already."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    value = torch.rand(len(r), generator=torch.Generator().manual_seed(2), dtype=r.dtype)

    def step() -> None:
        optimizer.zero_grad()
        loss = (value.square() * (-log_prob(r)).exp()).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()

    return step


def flow_of(n_dim: int, n_hidden: int, n_channels: int = 1) -> CouplingFlow:
    """A flow that is neither uniform nor the identity, as after training."""
    rng = torch.Generator().manual_seed(1)
    grid = VegasGrid.uniform(n_channels, n_dim, N_VEGAS_BINS)
    flow = CouplingFlow(grid, FlowCard(n_hidden=n_hidden), rng)
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
            parameter.add_(noise, alpha=0.05)
    return flow


def works(n_dim: int) -> dict[tuple[str, str], Work]:
    """What is timed, by sampler and quantity."""
    grid = VegasGrid.uniform(1, n_dim, N_VEGAS_BINS)
    flows = {
        "flow": flow_of(n_dim, 32),
        "flow64": flow_of(n_dim, 64),
        "flow 90 channels": flow_of(n_dim, 32, n_channels=90),
    }
    timed = {(name, "draw"): drawing(flow) for name, flow in flows.items()}
    timed["vegas", "draw"] = drawing(grid)
    rng = torch.Generator().manual_seed(3)
    for n in BATCH_SIZES:
        r = torch.rand(n, n_dim, dtype=torch.float64, generator=rng)
        for name, flow in flows.items():
            channel = torch.arange(n) % flow.n_channels
            log_prob = partial(flow.log_prob, channel=channel)
            timed[name, f"step{n}"] = training(flow, log_prob, r)
    for quantity in ("draw", *(f"step{n}" for n in BATCH_SIZES)):
        timed["flow torch", quantity] = without_kernels(timed["flow", quantity])
    if MadnisFlow is not None:
        theirs = MadnisFlow(n_dim)
        timed["madnis", "draw"] = torch.no_grad()(
            lambda: theirs.sample(N_EVENTS, return_log_prob=True)
        )
        for n in BATCH_SIZES:
            r = torch.rand(n, n_dim, generator=rng)
            timed["madnis", f"step{n}"] = training(theirs, theirs.log_prob, r)
    return timed


def best_cpu_seconds(timed: dict[tuple[str, str], Work], seconds: float) -> dict[str, float]:
    """The least CPU time of each, the repeats of all taken in turns."""
    best = {key: float("inf") for key in timed}
    spent = dict.fromkeys(timed, 0.0)
    for work in timed.values():
        work()
    while waiting := [key for key in timed if spent[key] < seconds]:
        for key in waiting:
            start = time.process_time()
            timed[key]()
            took = time.process_time() - start
            best[key] = min(best[key], took)
            spent[key] += took
    return {f"{sampler}.{quantity}": took for (sampler, quantity), took in best.items()}


def main(json_path: Path | None, seconds: float) -> None:
    torch.set_num_threads(1)
    columns = ["draw", *(f"step{n}" for n in BATCH_SIZES)]
    print(f"{'':19}{'events/s':>10}" + "".join(f"{c + ' ms':>13}" for c in columns[1:]))
    results: dict[str, dict[str, float]] = {}
    for n_dim in N_DIMS:
        took = best_cpu_seconds(works(n_dim), seconds)
        results[str(n_dim)] = took
        print(f"{n_dim} dimensions")
        for sampler in SAMPLERS:
            if f"{sampler}.draw" not in took:
                continue
            line = f"  {sampler:17}{N_EVENTS / took[f'{sampler}.draw']:10.3g}"
            for column in columns[1:]:
                if (one := took.get(f"{sampler}.{column}")) is not None:
                    line += f"{1e3 * one:13.1f}"
            print(line)
    if json_path is not None:
        machine = {"torch": torch.__version__, "n_events": N_EVENTS}
        json_path.write_text(json.dumps({**machine, "cpu_seconds": results}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU time for each number")
    arguments = parser.parse_args()
    main(arguments.json, arguments.seconds)
