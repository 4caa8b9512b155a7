"""The plots of the report of a surrogate: how large its errors are, and whether it knows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlgen.diagnostics.canvas import (
    INK,
    SERIES,
    legend_above,
    mark_beyond,
    panel,
    ratio_panels,
    svg_of,
)
from mlgen.diagnostics.ticks import label_log_axis
from mlgen.fitting import TrainingRecord
from mlgen.surrogates.accuracy import PRECISE, RegionAccuracy
from mlgen.surrogates.distributions import (
    DELTA_QUANTILES,
    PullDistribution,
    delta_edges,
    pull_edges,
)
from mlgen.surrogates.learning_curve import LearningPoint
from mlgen.surrogates.record import TwoStageRecord

_COLOURS = (SERIES[1], SERIES[0], SERIES[2], SERIES[3])
"""Of what comes first, second, ...: four at most."""
_POINTS: dict[str, Any] = {"markersize": 3, "linewidth": 1, "linestyle": "none"}
_GUIDE: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 2))}

_NARROW = {"handlelength": 1.0, "handletextpad": 0.5, "columnspacing": 1.0}
"""The names of all regions in one line."""

Array = NDArray[np.float64]


def delta_plot(regions: Mapping[str, RegionAccuracy], prefix: str) -> str:
    """How |Delta| is distributed in each region, and which share of the points lies above.

    Args:
        prefix: keeps the names inside this SVG apart from those of others on the page.
    """
    edges = delta_edges().numpy()
    with ratio_panels((1.3, 1)) as (figure, top, bottom):
        seen = np.zeros(len(edges) - 1)
        for (name, region), colour in zip(regions.items(), _COLOURS, strict=False):
            counts = np.asarray(region.delta.counts, dtype=np.float64)
            seen += counts
            top.stairs(
                counts / region.n / np.diff(np.log10(edges)), edges, color=colour, label=name
            )
            above = 1 - (region.delta.n_below + np.concatenate([[0], counts.cumsum()])) / region.n
            # The last point is not to pull its line down to nothing.
            above[above < 0.5 / region.n] = np.nan
            bottom.plot(edges, above, color=colour)
        for axes in (top, bottom):
            axes.axvline(PRECISE, **_GUIDE)
        # Down to where next to nothing lies below; up to the last point.
        filled = np.flatnonzero(seen.cumsum() > 1e-3 * seen.sum())
        first, last = (filled[0], np.flatnonzero(seen)[-1]) if len(filled) else (0, len(seen) - 1)
        top.set(xscale="log", ylabel="share of points per decade")
        top.set_ylim(bottom=0)
        bottom.set(
            xscale="log",
            yscale="log",
            xlim=(edges[max(first - 1, 0)], edges[min(last + 2, len(edges) - 1)]),
            xlabel=r"$|\Delta| = |A_{\mathrm{learned}} / A_{\mathrm{true}} - 1|$",
            ylim=(0.5 / max(region.n for region in regions.values()), 2),
        )
        bottom.set_ylabel("share above", loc="center")
        label_log_axis(bottom.xaxis)
        label_log_axis(bottom.yaxis, span=10)
        legend_above(top, **_NARROW)
        return svg_of(figure, prefix)


def pull_plot(pulls: Mapping[str, PullDistribution], prefix: str) -> str:
    """Pulls beside the normal distribution that they are to follow, and their ratio to it.

    Args:
        pulls: by what they are of: a region, or a part of the uncertainty.
    """
    with ratio_panels() as (figure, top, bottom):
        fine = np.linspace(-5, 5, 201)
        top.plot(fine, _normal(fine), **_GUIDE)
        bottom.axhline(1, **_GUIDE)
        for (name, of), colour in zip(pulls.items(), _COLOURS, strict=False):
            edges, counts = _merged(of)
            centres, scale = (edges[1:] + edges[:-1]) / 2, of.n * np.diff(edges)
            seen = counts > 0
            height, error = counts[seen] / scale[seen], np.sqrt(counts[seen]) / scale[seen]
            top.errorbar(centres[seen], height, error, fmt="o", color=colour, label=name, **_POINTS)
            expected = _mean_normal(edges)[seen]
            ratio, reach = height / expected, 0.6
            precise = error < 0.5 * expected
            bottom.errorbar(
                centres[seen][precise], ratio[precise], (error / expected)[precise], fmt="o",
                color=colour, **_POINTS,
            )  # fmt: skip
            mark_beyond(bottom, centres[seen][precise], ratio[precise], reach, colour)
            bottom.set_ylim(1 - reach, 1 + reach)
        most = max(of.n for of in pulls.values())
        top.set(yscale="log", ylabel="density", ylim=(max(1 / most, 1e-6), 2))
        label_log_axis(top.yaxis, span=10)
        bottom.set(xlabel="pull", xlim=(-5, 5))
        bottom.set_ylabel("ratio", loc="center")
        legend_above(top, **_NARROW)
        return svg_of(figure, prefix)


def coverage_plot(regions: Mapping[str, RegionAccuracy], prefix: str) -> str:
    """The share of the points inside central intervals against what these are said to hold."""
    with ratio_panels((1.3, 1)) as (figure, top, bottom):
        top.plot([0, 100], [0, 100], **_GUIDE)
        bottom.axhline(0, **_GUIDE)
        largest = 1.0
        for (name, region), colour in zip(regions.items(), _COLOURS, strict=False):
            nominal, realised, error = 100 * _columns(
                (of.nominal, of.share, of.error) for of in region.coverage
            )
            top.plot(nominal, realised, "o-", color=colour, markersize=3, lw=1, label=name)
            bottom.errorbar(
                nominal, realised - nominal, error, fmt="o-", color=colour, markersize=3, lw=1
            )
            largest = max(largest, float((np.abs(realised - nominal) + error).max()))
        top.set(ylim=(0, 100), ylabel="points inside [%]")
        bottom.set(
            xlim=(0, 100.5), ylim=(-1.1 * largest, 1.1 * largest), xlabel="nominal coverage [%]"
        )
        bottom.set_ylabel("difference [%]", loc="center")
        legend_above(top, **_NARROW)
        return svg_of(figure, prefix)


def error_plot(regions: Mapping[str, RegionAccuracy], prefix: str) -> str:
    """How large errors are where the surrogate says that they are of a given size."""
    columns = {
        name: _columns((of.std, of.realised, of.realised_error) for of in region.errors)
        for name, region in regions.items()
    }
    every = np.concatenate(list(columns.values()), axis=1)
    # An error that is not known, of too few points, is not drawn, nor makes room.
    off = np.abs(every[1] / every[0] - 1) + np.where(np.isfinite(every[2]), every[2] / every[0], 0)
    reach = float(np.clip(1.1 * off.max(), 0.1, 0.95))
    ends = every[0].min() / 1.5, every[0].max() * 1.5
    with ratio_panels() as (figure, top, bottom):
        bottom.axhline(1, **_GUIDE)
        top.plot(ends, ends, **_GUIDE)
        for (name, (std, realised, error)), colour in zip(columns.items(), _COLOURS, strict=False):
            drawn = np.where(np.isfinite(error), error, 0)
            top.errorbar(std, realised, drawn, fmt="o", color=colour, label=name, **_POINTS)
            bottom.errorbar(std, realised / std, drawn / std, fmt="o", color=colour, **_POINTS)
            mark_beyond(bottom, std, realised / std, reach, colour)
        top.set(xscale="log", yscale="log", ylabel=r"68 % of $|\ln A$ error$|$ below")
        bottom.set(
            xscale="log",
            xlim=ends,
            ylim=(1 - reach, 1 + reach),
            xlabel=r"predicted standard deviation of $\ln A$",
        )
        bottom.set_ylabel("ratio", loc="center")
        label_log_axis(top.yaxis)
        label_log_axis(bottom.xaxis)
        legend_above(top, **_NARROW)
        return svg_of(figure, prefix)


def learning_plot(points: Sequence[LearningPoint], region: str, prefix: str) -> str:
    """Quantiles of |Delta|, and the share of precise points, against the size of the sample."""
    sizes = np.asarray([point.n for point in points], dtype=np.float64)
    regions = [point.regions[region] for point in points]
    with ratio_panels((1.6, 1)) as (figure, top, bottom):
        quantiles = np.asarray([of.delta_quantiles for of in regions]).T
        for level, values, colour in zip(DELTA_QUANTILES, quantiles, _COLOURS, strict=True):
            top.plot(sizes, values, "o-", color=colour, markersize=4, label=f"{100 * level:g} %")
        top.axhline(PRECISE, **_GUIDE)
        precise = 100 * np.asarray([of.precise_share for of in regions])
        bottom.plot(sizes, precise, "o-", color=INK, markersize=4)
        top.set(xscale="log", yscale="log", ylabel=r"$|\Delta|$")
        bottom.set(
            xscale="log",
            xlim=(sizes.min() / 1.6, sizes.max() * 1.3),
            ylim=(0, 105),
            xlabel="points learned from",
        )
        bottom.set_ylabel("precise [%]", loc="center")
        label_log_axis(top.yaxis)
        label_log_axis(bottom.xaxis)
        legend_above(top)
        return svg_of(figure, prefix)


def validation_plot(record: TrainingRecord, prefix: str) -> str:
    """The validation loss, and the step whose parameters were kept."""
    losses = np.asarray(record.validation_losses)
    steps = record.n_steps * np.arange(1, len(losses) + 1) / len(losses)
    with panel() as (figure, axes):
        axes.plot(steps, losses, color=SERIES[1], label="validation loss")
        axes.plot(record.best_step, losses.min(), "o", color=SERIES[0], markersize=6, label="kept")
        axes.set(xlabel="optimizer steps", ylabel="loss", xlim=(0, 1.02 * record.n_steps))
        legend_above(axes)
        return svg_of(figure, prefix)


def gain_plot(records: Sequence[TwoStageRecord], prefix: str) -> str:
    """The gain of two-stage unweighting against the efficiency that a sampler reached alone."""
    with panel() as (figure, axes):
        eps = np.asarray([of.eps_full for of in records])
        bounds = np.asarray([of.bound for of in records])
        gains = np.asarray([of.f_eff for of in records])
        low = min(0.1, 0.6 * float(eps.min()))
        reach = np.geomspace(low, 1, 100)
        axes.plot(reach, 1 / reach, label=r"$1 / \varepsilon$", **_GUIDE)
        axes.axhline(1, color=INK, linewidth=0.8)
        axes.plot(
            eps, bounds, "o", color=SERIES[0], fillstyle="none",
            label=r"bound $\varepsilon_2 / \varepsilon$",
        )  # fmt: skip
        axes.plot(eps, gains, "o", color=SERIES[1], label=r"$f_{\mathrm{eff}}$")
        for of in records:
            axes.annotate(
                of.sampler, (of.eps_full, of.f_eff), (6, -3), textcoords="offset points",
                color=INK, va="top",
            )  # fmt: skip
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(low, 1),
            ylim=(0.6 * min(1.0, float(gains.min())), 1.5 / low),
            xlabel=r"unweighting efficiency $\varepsilon$ in one stage",
            ylabel="gain",
        )
        label_log_axis(axes.xaxis)
        label_log_axis(axes.yaxis)
        legend_above(axes)
        return svg_of(figure, prefix)


def _merged(of: PullDistribution) -> tuple[Array, Array]:
    """Edges and counts, in fewer bins where there are few points."""
    together = 1 if of.n >= 20_000 else 2 if of.n >= 2000 else 5
    counts = np.asarray(of.counts, dtype=np.float64).reshape(-1, together).sum(1)
    return pull_edges().numpy()[::together], counts


def _normal(x: Array) -> Array:
    density: Array = np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
    return density


def _mean_normal(edges: Array) -> Array:
    """The mean density of a normal distribution in each bin."""
    below = np.asarray([0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges])
    mean: Array = np.diff(below) / np.diff(edges)
    return mean


def _columns(rows: Iterable[tuple[float, ...]]) -> Array:
    columns: Array = np.asarray(list(rows), dtype=np.float64).T
    return columns
