"""The camel and the ridge: samplers side by side on two functions that no grid can follow.

    python benchmarks/toys.py [--calls N] [--points N] [--seed S] [--samplers NAME,...] [--json FILE] [-o FOLDER]

Camel: 4 dimensions, the sum over c = 1/3, 2/3 of exp(-|x - c|² / 0.2²). Ridge: 6 dimensions,
exp(-|x - mean(x)|² / (2 * 0.1²)), a tube round the main diagonal. Both have the integral 1. The
same comparison as `mlgen compare`, with one torch thread, in CPU time; see docs/compare.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlgen.card_files import find_card, read_card
from mlgen.core import Evaluation
from mlgen.diagnostics.comparison import ComparisonSettings, compare_samplers, to_table
from mlgen.diagnostics.comparison_plots import write_plots
from mlgen.diagnostics.comparison_text import comparison_text
from mlgen.diagnostics.progress import SilentProgress

CAMEL_WIDTH = 0.2
RIDGE_WIDTH = 0.1
N_NODES = 1024
"""Of Gauss and Legendre: the norm of the ridge, to twelve digits."""


@dataclass(frozen=True)
class Toy:
    """A function of the unit cube, as an `Integrand` of one channel."""

    function: Callable[[Tensor], Tensor]
    n_dim: int
    n_flat: int = 0
    n_channels: int = 1

    def __call__(self, r: Tensor, channel: Tensor) -> Evaluation:
        return Evaluation(value=self.function(r), n_calls=len(r))


def camel() -> Toy:
    n_dim, width = 4, CAMEL_WIDTH
    # Both humps are alike: 1/3 is as far from 0 as 2/3 is from 1.
    one = math.sqrt(math.pi) / 2 * width * (math.erf(2 / (3 * width)) + math.erf(1 / (3 * width)))
    norm = 2 * one**n_dim

    def function(x: Tensor) -> Tensor:
        humps = [torch.exp(-(x - c).square().sum(1) / width**2) for c in (1 / 3, 2 / 3)]
        return (humps[0] + humps[1]) / norm

    return Toy(function=function, n_dim=n_dim)


def ridge() -> Toy:
    n_dim = 6
    norm = ridge_integral(n_dim, RIDGE_WIDTH)

    def function(x: Tensor) -> Tensor:
        distance = (x - x.mean(1, keepdim=True)).square().sum(1)
        return torch.exp(-distance / (2 * RIDGE_WIDTH**2)) / norm

    return Toy(function=function, n_dim=n_dim)


def ridge_integral(n_dim: int, width: float) -> float:
    """The integral of exp(-|x - mean(x)|² / (2 width²)) over the unit cube.

    |x - mean|² is the minimum over m of sum (x_i - m)², and so
    exp(-|x - mean|² / 2w²) = sqrt(d / 2 pi w²) times the integral over all m of prod_i
    exp(-(x_i - m)² / 2w²): one dimension, with error functions in it, is left.
    """
    reach = 12 * width
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    low, high = -reach, 1 + reach
    m = torch.from_numpy(low + (high - low) * (nodes + 1) / 2)
    scale = width * math.sqrt(2)
    inner = scale * math.sqrt(math.pi) / 2 * (torch.erf((1 - m) / scale) + torch.erf(m / scale))
    integral = float((torch.from_numpy(weights) * inner**n_dim).sum()) * (high - low) / 2
    return integral * math.sqrt(n_dim / (2 * math.pi)) / width


TOYS = {"camel": camel, "ridge": ridge}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--toys", nargs="+", choices=TOYS, default=list(TOYS))
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samplers", default="", help="separated by commas; all by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="a folder for plots")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = ComparisonSettings(
        n_calls=options.calls,
        n_points=options.points,
        seed=options.seed,
        samplers=tuple(name for name in options.samplers.split(",") if name),
    )
    card = read_card(find_card("pp_to_eej"))  # for its settings of grid and flow
    found = {}
    for name in options.toys:
        result = compare_samplers(TOYS[name](), card, settings, SilentProgress(), name, "")
        print(comparison_text(result), end="\n\n", flush=True)
        found[name] = to_table(result)
        if options.output:
            (options.output / name).mkdir(parents=True, exist_ok=True)
            write_plots(result, options.output / name)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
