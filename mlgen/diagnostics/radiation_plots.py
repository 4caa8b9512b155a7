"""The plots of the report on a model of radiation: true events, generated ones, and their ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

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
from mlgen.diagnostics.ticks import label_log_axis
from mlgen.radiation.classifier_weights import ClassifierRecord, weight_edges
from mlgen.radiation.closeness import PRECISE
from mlgen.radiation.control import ControlRecord
from mlgen.radiation.multiplicities import Compared, Scaling
from mlgen.radiation.spectra import MIN_ENTRIES, Agreement, Estimates, Spectrum

TRUTH, GENERATED = INK, SERIES[1]
_POINTS: dict[str, Any] = {"fmt": "o", "markersize": 3, "linewidth": 1}
_GUIDE: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 2))}
_THIN: dict[str, Any] = {"color": INK, "linewidth": 0.8, "linestyle": (0, (1, 2))}
GOAL = 0.10
"""The deviation whose lines are drawn in ratios."""
AUC_GOAL = 0.56

Array = NDArray[np.float64]


def share_plot(record: ControlRecord, prefix: str) -> str:
    """The share of events with n jets, and the ratio of generated over true."""
    of = record.multiplicities.share
    with ratio_panels() as (figure, top, bottom):
        _by_multiplicity(top, bottom, of, record.settings.n_trained)
        top.set(yscale="log", ylabel="share of events")
        label_log_axis(top.yaxis, span=30)
        bottom.set_xlabel("number of jets $n$")
        n = np.arange(len(of.truth.value), dtype=np.float64)
        _text_ticks(bottom, n, [f"{k:g}" for k in n])
        legend_above(top)
        return svg_of(figure, prefix)


def ratio_plot(record: ControlRecord, is_inclusive: bool, prefix: str) -> str:
    """R_(n+1)/n of true and generated events, with the patterns of scaling beside exclusive ones."""
    found = record.multiplicities
    of = found.inclusive if is_inclusive else found.exclusive
    with ratio_panels() as (figure, top, bottom):
        # Entry n is of n + 1 jets, too.
        _by_multiplicity(top, bottom, of, record.settings.n_trained - 1)
        high = 1.2 * max(*of.truth.value, *of.generated.value)
        if not is_inclusive and found.truth_scaling is not None:
            _draw_scaling(top, found.truth_scaling)
        top.set(ylim=(0, high), ylabel=r"$R_{(n+1)/n}$")
        bottom.set_xlabel("numbers of jets" + (" at least" if is_inclusive else ""))
        n = np.arange(len(of.truth.value), dtype=np.float64)
        _text_ticks(bottom, n, [f"{k + 1:g} / {k:g}" for k in n])
        legend_above(top, columnspacing=0.9, handletextpad=0.5, handlelength=1.3)
        return svg_of(figure, prefix)


def spectrum_plot(spectrum: Spectrum, prefix: str) -> str:
    """One observable: d share / d observable, and the ratio of generated over true."""
    edges = np.asarray(spectrum.edges)
    widths = np.diff(edges)
    centres = np.sqrt(edges[1:] * edges[:-1]) if spectrum.log_bins else (edges[1:] + edges[:-1]) / 2
    truth, truth_error, _ = _arrays(spectrum.truth)
    made, _, spread = _arrays(spectrum.generated)
    with ratio_panels() as (figure, top, bottom):
        if spectrum.generated.band:
            band(top, edges, made / widths, spread / widths)
        top.stairs(made / widths, edges, color=GENERATED, label="generated")
        seen = truth > 0
        top.errorbar(
            centres[seen], (truth / widths)[seen], (truth_error / widths)[seen], color=TRUTH,
            label="true", **_POINTS,
        )  # fmt: skip
        # The ratio is to the truth, whose error stands at 1.
        enough = np.asarray(spectrum.entries) >= MIN_ENTRIES
        _draw_ratio(
            bottom,
            centres[enough],
            _Ratio.of(spectrum.truth, spectrum.generated).select(enough),
            edges,
        )
        unit = f" [{spectrum.unit}]" if spectrum.unit else ""
        bottom.set(xlabel=f"${spectrum.symbol}${unit}", xlim=(edges[0], edges[-1]))
        top.set_ylabel("share of events" + (f" / {spectrum.unit}" if spectrum.unit else " / unit"))
        if spectrum.log_bins:
            both = np.concatenate([truth, made]) / np.tile(widths, 2)
            top.set(yscale="log", ylim=(0.4 * both[both > 0].min(), 2 * both.max()))
            label_log_axis(top.yaxis, span=30)
            bottom.set_xscale("log")
            label_log_axis(bottom.xaxis)
        else:
            top.set_ylim(bottom=0)
        legend_above(top)
        return svg_of(figure, prefix)


def weight_plot(record: ClassifierRecord, prefix: str) -> str:
    """How the weights of a classifier are distributed over generated and over true events."""
    edges = weight_edges().numpy()
    per_decade = np.diff(np.log10(edges))
    made, truth = np.asarray(record.counts), np.asarray(record.truth_counts)
    filled = np.flatnonzero(made + truth > 0)
    low, high = max(filled[0] - 2, 0), min(filled[-1] + 3, len(edges) - 1)
    reach = max(edges[high], 1 / edges[low], 1.3)
    with panel() as (figure, axes):
        axes.stairs(made / per_decade, edges, color=GENERATED, label="generated")
        axes.stairs(truth / per_decade, edges, color=SERIES[0], label="true")
        axes.axvline(1, **_GUIDE)
        axes.set(
            xscale="linear" if reach < 2 else "log",
            yscale="log",
            xlim=(1 / reach, reach),
            ylim=(0.3 / max(record.n_generated, record.n_truth) / per_decade[0], 60),
            xlabel="$w = D / (1 - D)$",
            ylabel="share of events per decade",
        )
        if reach >= 2:
            label_log_axis(axes.xaxis)
        label_log_axis(axes.yaxis, span=10)
        legend_above(axes)
        return svg_of(figure, prefix)


def auc_plot(classifiers: Sequence[ClassifierRecord], n_trained: int, prefix: str) -> str:
    """The AUC of each multiplicity, with the goal for those that were trained on."""
    n = np.asarray([of.n_jets for of in classifiers], dtype=np.float64)
    value = np.asarray([of.auc for of in classifiers])
    error = np.asarray([of.auc_error for of in classifiers])
    with panel() as (figure, axes):
        _shade_untrained(axes, n_trained + 0.5)
        axes.axhline(0.5, **_GUIDE)
        axes.plot([-0.5, n_trained + 0.5], [AUC_GOAL, AUC_GOAL], color=SERIES[0], label="goal")
        axes.errorbar(n, value, error, color=GENERATED, label="classifier", **_POINTS)
        axes.set(
            xlabel="number of jets",
            ylabel="AUC",
            xlim=(-0.5, n.max() + 0.5),
            ylim=(min(0.48, float((value - error).min()) - 0.01), max(0.6, float((value + error).max()) + 0.02)),
        )  # fmt: skip
        labels = [f"≥ {of.n_jets}" if of.and_more else f"{of.n_jets}" for of in classifiers]
        _text_ticks(axes, n, labels)
        legend_above(axes)
        return svg_of(figure, prefix)


def agreement_plot(agreements: Sequence[Agreement], n_trained: int, prefix: str) -> str:
    """The width of the pulls of all bins of each multiplicity, and the ensemble's part of the error."""
    n = np.asarray([of.n_jets for of in agreements], dtype=np.float64)
    width = np.asarray([of.pull_width for of in agreements])
    error = np.asarray([of.pull_width_error for of in agreements])
    share = 100 * np.asarray([of.band_share for of in agreements])
    with ratio_panels((1.6, 1)) as (figure, top, bottom):
        for axes in (top, bottom):
            _shade_untrained(axes, n_trained + 0.5)
        top.axhspan(0.7, 1.3, color=SERIES[0], alpha=0.15, linewidth=0, label="goal")
        top.axhline(1, **_GUIDE)
        top.errorbar(n, width, error, color=GENERATED, label="all bins", **_POINTS)
        top.set(ylim=(0, max(2.0, 1.1 * float(np.nanmax(width + error)))), ylabel="width of pulls")
        bottom.plot(n, share, "o", color=GENERATED, markersize=4)
        bottom.set(ylim=(0, 105), xlim=(-0.5, n.max() + 0.5), xlabel="number of jets")
        bottom.set_ylabel("of variance [%]", loc="center")
        labels = [f"≥ {of.n_jets}" if of.and_more else f"{of.n_jets}" for of in agreements]
        _text_ticks(bottom, n, labels)
        legend_above(top)
        return svg_of(figure, prefix)


def pull_plot(groups: Mapping[str, Array], prefix: str) -> str:
    """The pulls of all bins beside the normal distribution that they are to follow.

    Args:
        groups: finite pulls, by what they are of; two at most are drawn.
    """
    edges = np.linspace(-5, 5, 21)
    fine = np.linspace(-5, 5, 201)
    with panel() as (figure, axes):
        axes.plot(fine, np.exp(-0.5 * fine**2) / np.sqrt(2 * np.pi), **_GUIDE)
        for (name, pulls), colour in zip(groups.items(), SERIES[1::-1], strict=False):
            counts, _ = np.histogram(np.clip(pulls, -4.99, 4.99), edges)
            heights = counts / max(len(pulls), 1) / np.diff(edges)
            axes.stairs(heights, edges, color=colour, label=name)
        axes.set(xlabel="pull", ylabel="density", xlim=(-5, 5))
        axes.set_ylim(bottom=0)
        legend_above(axes)
        return svg_of(figure, prefix)


class _Ratio:
    """Generated over true: value, statistical error of either, and the ensemble's spread."""

    def __init__(self, value: Array, truth_error: Array, made_error: Array, spread: Array) -> None:
        self.value, self.truth_error = value, truth_error
        self.made_error, self.spread = made_error, spread

    @classmethod
    def of(cls, truth: Estimates, made: Estimates) -> _Ratio:
        value, error, _ = _arrays(truth)
        theirs, their_error, spread = _arrays(made)
        norm = np.where(value > 0, value, np.nan)
        return cls(theirs / norm, error / norm, their_error / norm, spread / norm)

    def select(self, index: NDArray[np.bool_]) -> _Ratio:
        return _Ratio(
            self.value[index], self.truth_error[index], self.made_error[index], self.spread[index]
        )


def _by_multiplicity(top: Axes, bottom: Axes, of: Compared, last_trained: int) -> None:
    """True and generated numbers of each multiplicity, and their ratio."""
    n = np.arange(len(of.truth.value), dtype=np.float64)
    truth, truth_error, _ = _arrays(of.truth)
    made, _, spread = _arrays(of.generated)
    for axes in (top, bottom):
        _shade_untrained(axes, last_trained + 0.5)
    edges: Array = np.arange(len(n) + 1, dtype=np.float64) - 0.5
    if of.generated.band:
        band(top, edges, made, spread)
    top.stairs(made, edges, color=GENERATED, label="generated")
    top.errorbar(n, truth, truth_error, color=TRUTH, label="true", **_POINTS)
    _draw_ratio(bottom, n, _Ratio.of(of.truth, of.generated), edges)
    bottom.set_xlim(-0.5, len(n) - 0.5)


def _draw_ratio(axes: Axes, centres: Array, ratio: _Ratio, edges: Array) -> None:
    """Points with statistical errors of both, the ensemble's spread as a band around them."""
    axes.axhline(1, color=TRUTH, linewidth=0.8)
    for line in (1 - GOAL, 1 + GOAL):
        axes.axhline(line, **_THIN)
    error = np.hypot(ratio.truth_error, ratio.made_error)
    axes.errorbar(centres, ratio.value, error, color=GENERATED, **_POINTS)
    known = np.isfinite(ratio.value)
    if bool((ratio.spread[known] > 0).any()):
        axes.errorbar(
            centres[known], ratio.value[known], ratio.spread[known], fmt="none", ecolor=GENERATED,
            elinewidth=5, alpha=0.3,
        )  # fmt: skip
    precise = known & (error < 3 * PRECISE)
    off = np.abs(ratio.value[precise] - 1) + error[precise] + ratio.spread[precise]
    reach = float(np.clip(1.15 * off.max(), 0.13, 0.6)) if len(off) else 0.6
    axes.set_ylim(1 - reach, 1 + reach)
    axes.locator_params(axis="y", nbins=4)
    axes.set_ylabel("ratio", loc="center")
    mark_beyond(axes, centres[known], ratio.value[known], reach, GENERATED)


def _draw_scaling(axes: Axes, scaling: Scaling) -> None:
    n = np.arange(scaling.n_ratios)
    axes.plot(
        n, np.full(len(n), scaling.staircase), color=SERIES[2], linestyle="--", label="staircase"
    )
    axes.plot(n, scaling.poisson / (n + 1), color=SERIES[3], linestyle=":", label="Poisson")


def _shade_untrained(axes: Axes, start: float) -> None:
    """What lies beyond the trained multiplicities."""
    axes.axvspan(start, start + 100, color=INK, alpha=0.07, linewidth=0)


def _text_ticks(axes: Axes, positions: Array, labels: Sequence[str]) -> None:
    axes.set_xticks(positions, labels)
    axes.set_xticks([], minor=True)


def _arrays(of: Estimates) -> tuple[Array, Array, Array]:
    """Values, errors and spreads, 0 without an ensemble."""
    value, error = np.asarray(of.value), np.asarray(of.error)
    return value, error, np.asarray(of.band) if of.band else np.zeros_like(value)
