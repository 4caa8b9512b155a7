"""Pictures of a comparison: how weights are distributed, and what they are worth for unweighting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlgen.core import random_stream
from mlgen.diagnostics.comparison import ComparisonResult, Result
from mlgen.diagnostics.contenders import FreshPoints
from mlgen.events.unweighting import find_w_max_by_channel, unweighting_efficiency

COLOURS = {
    "vegas-classic": "#8c8c8c",
    "vegas-stratified": "#5b3c11",
    "grid": "#d5690a",
    "flow": "#1f6fd0",
    "madnis": "#238551",
}
BUDGET = 0.001
"""Where w_max is marked."""
N_REPLICAS = 30
"""Of the bootstrap behind a band."""

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.linewidth": 0.8,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def write_plots(comparison: ComparisonResult, folder: Path) -> tuple[Path, ...]:
    """Draw both pictures into a folder, as PNG; their paths."""
    paths = folder / "weights.png", folder / "efficiency.png"
    with _axes() as (figure, axes):
        draw_weights(axes, comparison.results)
        axes.set_title(comparison.title, fontsize=10)
        figure.savefig(paths[0], dpi=150)
    with _axes() as (figure, axes):
        draw_efficiency(axes, comparison.results, comparison.settings.seed)
        axes.set_title(comparison.title, fontsize=10)
        figure.savefig(paths[1], dpi=150)
    return paths


def draw_weights(axes: Axes, results: Sequence[Result]) -> None:
    """The distribution of |w| over its mean, channels in the shares that events take them in.

    Events take channel c with probability w_max,c / sum w_max: a weight there is
    w sum w_max / w_max,c, and over the mean w_max lies at 1 / eps_uw for every channel.
    """
    scaled = {result.name: _event_weights(result.points) for result in results}
    highest = max(max(float(x.max()), mark) for x, _, mark in scaled.values())
    edges = np.geomspace(1e-3, max(1.3 * highest, 10), 90)
    for result in results:
        x, share, mark = scaled[result.name]
        heights, _ = np.histogram(x.clip(min=edges[0]), edges, weights=share)
        colour = COLOURS[result.name]
        per_decade = heights / np.diff(np.log10(edges))
        below = float(share[x < edges[1]].sum())
        label = f"{result.title} ({100 * below:.2g} % below)" if below > 5e-4 else result.title
        # What lies below the frame, zeros from cuts too, is told and not drawn.
        axes.stairs(per_decade[1:], edges[1:], color=colour, linewidth=1.4, label=label)
        axes.axvline(mark, color=colour, linestyle=(0, (4, 2)), linewidth=1.1)
    axes.plot(
        [], [], color="grey", linestyle=(0, (4, 2)), linewidth=1.1,
        label=rf"$w_{{\max}}$, t = {100 * BUDGET:g} %",
    )  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(edges[1], edges[-1]),
        xlabel=r"$|w|\,/\,\langle w\rangle$",
        ylabel="share of points per decade",
    )
    top = 30 * axes.get_ylim()[1]
    axes.set_ylim(1e-7 * top, top)
    axes.legend(loc="upper left", fontsize=8)


def draw_efficiency(axes: Axes, results: Sequence[Result], seed: int) -> None:
    """eps_uw against the overweight budget t, with bands of one standard deviation."""
    budgets = np.geomspace(1e-4, 1e-1, 13)
    for result in results:
        rng = random_stream(seed, f"compare plot {result.name}", 0)
        found = [
            unweighting_efficiency(
                result.points.weight, result.points.channel, float(t), rng, N_REPLICAS
            )
            for t in budgets
        ]
        value = np.array([efficiency.value for efficiency in found])
        error = np.array([efficiency.error for efficiency in found])
        colour = COLOURS[result.name]
        axes.fill_between(
            budgets, value - error, value + error, color=colour, alpha=0.25, linewidth=0
        )
        axes.plot(budgets, value, color=colour, label=result.title)
    axes.set(
        xscale="log",
        xlim=(budgets[0], budgets[-1]),
        ylim=(0, 1),
        xlabel="overweight budget $t$",
        ylabel=r"$\varepsilon_{uw}$",
    )
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", fontsize=8)


def _event_weights(
    points: FreshPoints,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """|w| over the mean, each point's share of the points drawn, and where w_max lies."""
    n_channels = int(points.channel.max()) + 1
    w_max = find_w_max_by_channel(points.weight, points.channel, n_channels, BUDGET)
    chance = w_max / w_max.sum()
    n_drawn = points.channel.bincount(minlength=n_channels).clamp(min=1)
    share = (chance / n_drawn)[points.channel]
    drawn = chance[points.channel] > 0
    weight = torch.where(drawn, points.weight.abs() / chance[points.channel], 0.0)
    mean = float((weight * share).sum())
    return (weight / mean).numpy(), share.numpy(), float(w_max.sum()) / mean


@contextmanager
def _axes() -> Iterator[tuple[Figure, Axes]]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        yield figure, figure.subplots()
