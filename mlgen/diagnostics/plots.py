"""The plots of the report of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from mlgen.diagnostics.canvas import (
    INK,
    SERIES,
    band,
    legend_above,
    mark_beyond,
    panel,
    ratio_panels,
    svg_of,
)
from mlgen.diagnostics.observables import Comparison
from mlgen.diagnostics.ticks import label_log_axis
from mlgen.events.unweighting import unweighting_curve


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightSample:
    """The weights of one sampler's fresh points."""

    weight: Tensor
    """(n,), pb, zeros included: the mean over a channel's points is the channel's cross section."""
    channel: Tensor
    """(n,), int64."""
    w_max: Tensor
    """(n_channels,), pb, what the sampler's points are unweighted with."""


def weight_plot(samples: Mapping[str, WeightSample]) -> str:
    """How the weights of each sampler are distributed, when channels are drawn as for events.

    Events take channel c with probability w_max,c / sum w_max, and so a weight there is
    w sum w_max / w_max,c; over its mean, w_max lies at 1 / eps_uw for every channel.
    """
    scaled = {name: _generation_weights(sample) for name, sample in samples.items()}
    lowest = min((float(x[x > 0].min()) for x, _, _ in scaled.values() if (x > 0).any()), default=1)
    highest = max(max(float(x.max()), mark) for x, _, mark in scaled.values())
    edges = np.geomspace(min(max(lowest, 1e-5), 0.1), max(1.3 * highest, 10), 70)
    with panel() as (figure, axes):
        for (name, (x, share, mark)), colour in zip(scaled.items(), _colours(scaled), strict=True):
            heights, _ = np.histogram(x, edges, weights=share)
            per_decade = heights / np.diff(np.log10(edges))
            axes.stairs(per_decade, edges, color=colour, linewidth=1.5, label=name)
            axes.axvline(mark, color=colour, linestyle=(0, (4, 2)), linewidth=1.3)
        axes.plot([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.3, label=r"$w_{\max}$")
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(edges[0], edges[-1]),
            xlabel=r"$|w|\,/\,\langle w\rangle$",
            ylabel="share of points per decade",
        )
        lowest_share, highest_share = axes.get_ylim()
        axes.set_ylim(bottom=min(lowest_share, 1e-3 * highest_share))
        label_log_axis(axes.xaxis)
        legend_above(axes)
        return svg_of(figure, "weights")


def zero_share(sample: WeightSample) -> float:
    """The share of zeros among the points that are drawn for events."""
    weight, share, _ = _generation_weights(sample)
    return float(share[weight == 0].sum())


def efficiency_plot(
    samples: Mapping[str, WeightSample], marks: Mapping[str, tuple[float, float, float]]
) -> str:
    """eps_uw against the overweight budget t, for each sampler.

    Args:
        samples: the weights behind the curves.
        marks: (t, eps_uw, its error) that a run quotes, by sampler.
    """
    budgets = np.geomspace(1e-5, 1e-1, 17)
    with panel() as (figure, axes):
        curves = {
            name: 100
            * unweighting_curve(sample.weight, sample.channel, budgets.tolist()).cpu().numpy()
            for name, sample in samples.items()
        }
        for (name, curve), colour in zip(curves.items(), _colours(curves), strict=True):
            axes.plot(budgets, curve, color=colour, label=name)
            if name in marks:
                t, value, error = marks[name]
                axes.errorbar(
                    t, 100 * value, 100 * error, fmt="o", color=colour, markersize=5, capsize=3
                )
        axes.set(
            xscale="log",
            xlim=(budgets[0], budgets[-1]),
            xlabel="overweight budget $t$",
            ylabel=r"$\varepsilon_{uw}$ [%]",
        )
        every = np.concatenate(list(curves.values()))
        if every.max() > 2 * every.min() > 0:
            axes.set_yscale("log")
            label_log_axis(axes.yaxis)
        legend_above(axes)
        return svg_of(figure, "efficiency")


def loss_plot(loss: Sequence[float], name: str) -> str:
    """The training loss of each step, and its running median."""
    values = np.asarray(loss, dtype=np.float64)
    width = max(len(values) // 40, 1) | 1
    padded = np.pad(values, width // 2, mode="edge")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    steps = np.arange(1, len(values) + 1)
    with panel() as (figure, axes):
        if width > 1:
            axes.plot(steps, values, color=SERIES[1], linewidth=0.6, alpha=0.45, label="each step")
            axes.plot(steps, median, color=SERIES[1], label=f"median of {width} steps")
        else:
            axes.plot(steps, values, color=SERIES[1], label="each step")
        positive = bool((values > 0).all())
        if positive and values.max() > 8 * values.min():
            axes.set_yscale("log")
            label_log_axis(axes.yaxis)
        else:
            # One bad batch is not to flatten the curve.
            low, high = np.quantile(values, [0.002, 0.995])
            margin = 0.08 * (high - low) or 1.0
            axes.set_ylim(low - margin, high + margin)
        axes.set(xlabel="step", ylabel=name, xlim=(0, len(values) + 1))
        legend_above(axes)
        return svg_of(figure, "loss")


def training_plot(
    steps: Sequence[float],
    eps_uw: Sequence[float],
    marks: Mapping[str, tuple[float, float, float]],
) -> str:
    """eps_uw of points that were not yet trained on, against the steps before they were drawn.

    Args:
        steps, eps_uw: of each entry of the curve.
        marks: the step, eps_uw and its error of each sampler that was measured; VEGAS is a line.
    """
    with panel() as (figure, axes):
        axes.plot(steps, 100 * np.asarray(eps_uw), color=SERIES[1], label="while training")
        for name, (step, value, error) in marks.items():
            if name == "vegas":
                axes.axhline(100 * value, color=SERIES[0], label=name)
                axes.axhspan(
                    100 * (value - error), 100 * (value + error), color=SERIES[0], alpha=0.25, lw=0
                )
            else:
                axes.errorbar(
                    step, 100 * value, 100 * error, fmt="o", color=SERIES[1], markersize=5,
                    capsize=3, label=name,
                )  # fmt: skip
        last = max([*steps, *(step for step, _, _ in marks.values())])
        axes.set(
            xlabel="optimizer steps",
            ylabel=r"$\varepsilon_{uw}$ [%]",
            xlim=(0, 1.04 * last or 1),
        )
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        legend_above(axes)
        return svg_of(figure, "training")


def comparison_plot(comparison: Comparison, index: int) -> str:
    """The spectrum of the events over that of the weighted sample, and their ratio.

    Args:
        comparison: from `observables.compare`.
        index: keeps the names inside this SVG apart from those of its neighbours.
    """
    edges, observable = comparison.edges, comparison.observable
    centres = np.sqrt(edges[1:] * edges[:-1]) if comparison.log_bins else _middle(edges)
    unit = f" [{observable.unit}]" if observable.unit else ""
    prefix, scale = _prefix(float(np.abs(comparison.reference).max()))
    per_unit = f" [{prefix}/{observable.unit}]" if observable.unit else f" [{prefix}]"
    events, events_error = scale * comparison.events, scale * comparison.events_error
    reference, reference_error = scale * comparison.reference, scale * comparison.reference_error
    seen = events != 0
    with ratio_panels() as (figure, top, bottom):
        band(top, edges, reference, reference_error)
        top.stairs(reference, edges, color=SERIES[1], label="weighted sample")
        top.errorbar(
            centres[seen],
            events[seen],
            events_error[seen],
            fmt="o",
            color=INK,
            markersize=3,
            linewidth=1,
            label="events",
        )
        top.set_ylabel(rf"$d\sigma/d{observable.symbol}$" + per_unit)
        if observable.unit and (events[seen] > 0).all():
            top.set_yscale("log")
            floor = events[seen].min()
            top.set_ylim(0.4 * floor, 2.5 * max(events.max(), reference.max()))
            label_log_axis(top.yaxis, span=30)
        else:
            top.set_ylim(bottom=min(0.0, 1.1 * events.min()))
        _ratio(bottom, comparison, centres)
        bottom.set_xlabel(f"${observable.symbol}${unit}")
        bottom.set_xlim(edges[0], edges[-1])
        if comparison.log_bins:
            bottom.set_xscale("log")
            label_log_axis(bottom.xaxis)
        legend_above(top)
        return svg_of(figure, f"observable{index}")


def _prefix(largest_pb: float) -> tuple[str, float]:
    """A unit in which cross sections up to this one read well, and its number in a pb."""
    for unit, scale in (("nb", 1e-3), ("pb", 1.0), ("fb", 1e3), ("ab", 1e6)):
        if scale * largest_pb >= (10 if unit == "nb" else 0.1):
            return unit, scale
    return "ab", 1e6


def _ratio(axes: Axes, comparison: Comparison, centres: NDArray[np.float64]) -> None:
    reference = np.where(comparison.reference != 0, comparison.reference, np.nan)
    ratio = comparison.events / reference
    error = comparison.events_error / np.abs(reference)
    band(axes, comparison.edges, np.ones_like(ratio), comparison.reference_error / reference)
    axes.axhline(1, color=SERIES[1], linewidth=1)
    seen = np.isfinite(ratio) & (comparison.events != 0)
    axes.errorbar(
        centres[seen], ratio[seen], error[seen], fmt="o", color=INK, markersize=3, linewidth=1
    )
    precise = seen & (error < 0.3)
    spread = np.abs(ratio[precise] - 1) + error[precise]
    reach = float(np.clip(1.1 * spread.max(), 0.06, 1.0)) if precise.any() else 1.0
    axes.set_ylim(1 - reach, 1 + reach)
    axes.set_ylabel("ratio", loc="center")
    axes.locator_params(axis="y", nbins=4)
    mark_beyond(axes, centres[seen], ratio[seen], reach)


def _colours(names: Iterable[str]) -> list[str]:
    """The first colour is that of VEGAS, whatever else there is."""
    others = itertools.cycle(SERIES[1:])
    return [SERIES[0] if name == "vegas" else next(others) for name in names]


def _middle(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return (edges[1:] + edges[:-1]) / 2


def _generation_weights(
    sample: WeightSample,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """|w| over the mean, each point's share of the points drawn, and where w_max lies."""
    n_channels = len(sample.w_max)
    n_points = sample.channel.bincount(minlength=n_channels).clamp(min=1)
    chance = sample.w_max / sample.w_max.sum()
    share = (chance / n_points)[sample.channel]
    drawn = chance[sample.channel] > 0
    weight = torch.where(drawn, sample.weight.abs() / chance[sample.channel], 0.0)
    mean = float((weight * share).sum())
    mark = float(sample.w_max.sum()) / mean
    return (weight / mean).cpu().numpy(), (share / share.sum()).cpu().numpy(), mark
