"""Ticks and their labels at a fraction of what matplotlib takes for them.

matplotlib 3.11 makes five objects of each tick, lays each label out twice, and as mathematics:
three quarters of the time of a plot. Here all ticks of an edge are one line of markers, and each
label is one text.
"""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT, TICKRIGHT, TICKUP
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

LABEL_DISTANCE = 3.5
"""Points between an edge and the labels of its ticks, as matplotlib has it."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def label_log_axis(axis: Axis, span: float = 300) -> None:
    """Label 10, 20, 50 where the ratio of the ends is below `span`, else powers of ten."""
    low, high = axis.get_view_interval()
    axis.set_minor_formatter(NullFormatter())
    if high < span * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 6) if high < 12 * low else (1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axis.set_major_formatter(FuncFormatter(_power_of_ten))


def _power_of_ten(value: float, _: int | None) -> str:
    return "10" + str(round(math.log10(value))).translate(_SUPERSCRIPTS)


def draw_ticks(figure: Figure) -> None:
    """Draw the ticks of a figure whose limits are final, on all four edges, and their labels.

    Ticks point inwards and have the style's colour. What matplotlib would have drawn is removed;
    as it no longer knows how wide labels are, the labels of the axes must have a fixed place.
    """
    for axes in figure.axes:
        for along, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            major = _inside(axis.get_majorticklocs(), axis)
            _mark(axes, along, major, length=5, width=0.8)
            _mark(axes, along, _inside(axis.get_minorticklocs(), axis), length=2.5, width=0.6)
            if axis.get_tick_params()["labelbottom" if along == "x" else "labelleft"]:
                _label(figure, axes, along, major)
    # Axes that share an axis share its locators: all have been asked before any is removed.
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(NullLocator())
            axis.set_minor_locator(NullLocator())


def _inside(positions: NDArray[np.float64], axis: Axis) -> NDArray[np.float64]:
    low, high = sorted(axis.get_view_interval())
    margin = 1e-9 * (high - low)
    return positions[(positions >= low - margin) & (positions <= high + margin)]


def _mark(
    axes: Axes, along: str, positions: NDArray[np.float64], length: float, width: float
) -> None:
    """Ticks on the two edges along x or y, of a length and width in points."""
    is_x = along == "x"
    for edge, marker in enumerate((TICKUP, TICKDOWN) if is_x else (TICKRIGHT, TICKLEFT)):
        across = np.full(len(positions), float(edge))
        line = Line2D(
            positions if is_x else across,
            across if is_x else positions,
            linestyle="none",
            marker=marker,  # type: ignore[arg-type]  # the stubs leave out the integer ones
            color=mpl.rcParams["xtick.color"],
            markersize=length,
            markeredgewidth=width,
            transform=axes.get_xaxis_transform() if is_x else axes.get_yaxis_transform(),
        )
        axes.add_artist(line)


def _label(figure: Figure, axes: Axes, along: str, positions: NDArray[np.float64]) -> None:
    """Labels below the lower edge, or left of the left one."""
    distance, inches = LABEL_DISTANCE / 72, figure.dpi_scale_trans
    axis = axes.xaxis if along == "x" else axes.yaxis
    texts = axis.get_major_formatter().format_ticks(positions.tolist())
    for position, text in zip(positions, texts, strict=True):
        if along == "x":
            place = axes.get_xaxis_transform() + ScaledTranslation(0, -distance, inches)
            axes.text(position, 0, text, ha="center", va="top", transform=place)
        else:
            place = axes.get_yaxis_transform() + ScaledTranslation(-distance, 0, inches)
            axes.text(0, position, text, ha="right", va="center_baseline", transform=place)
