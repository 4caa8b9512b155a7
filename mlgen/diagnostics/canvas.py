"""What all plots share: SVG that takes its colours from the page around it.

Colours are drawn as the placeholders of `PALETTE` and replaced by CSS variables, so that one
plot serves a light and a dark page. Figures are built without pyplot: nothing global changes
but the style, inside a context.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from mlgen.diagnostics.ticks import draw_ticks

INK = "#010203"
SERIES = ("#0a0b0c", "#0d0e0f", "#101112", "#131415")
PALETTE = {
    INK: "--ink",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES)},
}
"""Placeholder colours and the CSS variables that they stand for."""

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "path",
    "svg.hashsalt": "mlgen",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.formatter.limits": (-3, 6),
    "figure.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "xaxis.labellocation": "right",
    "yaxis.labellocation": "top",
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.4,
    "lines.linewidth": 1.6,
}
# Fixed margins: matplotlib's constrained layout draws each figure three times.
_MARGINS = {"left": 0.155, "right": 0.965}
_X_LABEL_DISTANCE = 17.5
"""Points between the lower edge and the label of the x axis, that of the ticks in between."""


@contextmanager
def panel() -> Iterator[tuple[Figure, Axes]]:
    """A figure of one plot, in the style of all."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.7))
        figure.subplots_adjust(**_MARGINS, bottom=0.135, top=0.905)
        yield figure, figure.subplots()


@contextmanager
def ratio_panels(
    height_ratios: tuple[float, float] = (2.6, 1),
) -> Iterator[tuple[Figure, Axes, Axes]]:
    """A figure of a plot and another one below it, with the x axis in common."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.3))
        figure.subplots_adjust(**_MARGINS, bottom=0.12, top=0.92, hspace=0.09)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=height_ratios)
        yield figure, top, bottom


def mark_beyond(
    axes: Axes,
    centres: NDArray[np.float64],
    ratio: NDArray[np.float64],
    reach: float,
    colour: str = INK,
) -> None:
    """A triangle at the edge for each point outside the panel around 1: none vanishes unseen."""
    for outside, height, marker in (
        (ratio > 1 + reach, 0.95, "^"),
        (ratio < 1 - reach, 0.05, "v"),
    ):
        axes.plot(
            centres[outside],
            np.full(int(outside.sum()), height),
            linestyle="none",
            marker=marker,
            color=colour,
            markersize=4,
            transform=axes.get_xaxis_transform(),
        )


def band(
    axes: Axes,
    edges: NDArray[np.float64],
    middle: NDArray[np.float64],
    error: NDArray[np.float64],
    colour: str = SERIES[1],
) -> None:
    """The error of a histogram with the given edges, as a shade."""
    axes.stairs(
        middle + error, edges, baseline=middle - error, fill=True, color=colour, alpha=0.25,
        linewidth=0,
    )  # fmt: skip


def legend_above(axes: Axes, **spacing: float) -> None:
    """A legend in the space above the plot, with the style's spacing but for what is given."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, **spacing)


def _place_labels(figure: Figure, axes: Axes) -> None:
    """The labels of both axes where those of the ticks leave room."""
    below = ScaledTranslation(0, -_X_LABEL_DISTANCE / 72, figure.dpi_scale_trans)
    axes.xaxis.set_label_coords(1, 0, transform=axes.transAxes + below)
    axes.yaxis.set_label_coords(-0.135, axes.yaxis.label.get_position()[1])


def svg_of(figure: Figure, prefix: str) -> str:
    """The figure as an SVG element to be put into a page, coloured by the page."""
    for axes in figure.axes:
        _place_labels(figure, axes)
    draw_ticks(figure)
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:xmlns|xmlns:xlink|width|height|version)="[^"]*"', "", svg, count=5)
    # In a page, names are shared by all SVGs, and links need no namespace.
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    for placeholder, variable in PALETTE.items():
        svg = svg.replace(placeholder, f"var({variable})")
    return svg
