from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlgen.diagnostics.ticks import draw_ticks, label_log_axis


def axes_with(limits: tuple[float, float], scale: str) -> tuple[Figure, Axes]:
    figure = Figure()
    axes = figure.subplots()
    axes.set(xlim=limits, xscale=scale)
    if scale == "log":
        label_log_axis(axes.xaxis)
    return figure, axes


def labels_below(axes: Axes) -> dict[float, str]:
    """The labels of the lower edge, by their position."""
    found = [text for text in axes.texts if text.get_verticalalignment() == "top"]
    return {float(text.get_position()[0]): text.get_text() for text in found}


@pytest.mark.parametrize(
    ("limits", "scale", "expected"),
    [
        ((-3.2, 2), "linear", {-3: "−3", -2: "−2", -1: "−1", 0: "0", 1: "1", 2: "2"}),
        ((15, 120), "log", {20: "20", 30: "30", 40: "40", 60: "60", 100: "100"}),
        ((15, 350), "log", {20: "20", 50: "50", 100: "100", 200: "200"}),
        ((5e-3, 2e2), "log", {1e-2: "10⁻²", 0.1: "10⁻¹", 1: "10⁰", 10: "10¹", 100: "10²"}),
    ],
)
def test_labels_are_round_numbers_inside_the_limits(
    limits: tuple[float, float], scale: str, expected: dict[float, str]
) -> None:
    figure, axes = axes_with(limits, scale)
    draw_ticks(figure)
    found = labels_below(axes)
    assert list(found.values()) == list(expected.values())
    assert list(found) == pytest.approx(list(expected))


def test_ticks_are_where_matplotlib_has_them_on_both_edges() -> None:
    figure, axes = axes_with((15, 350), "log")
    low, high = axes.get_xlim()
    major, minor = axes.xaxis.get_majorticklocs(), axes.xaxis.get_minorticklocs()
    expected = sorted(x for x in (*major, *minor) if low <= x <= high)
    draw_ticks(figure)
    for edge in (0.0, 1.0):
        lines = [line for line in axes.lines if np.all(np.asarray(line.get_ydata()) == edge)]
        # The y axis has a line on each edge too, with few of its ticks at 0 or 1.
        along_x = [line for line in lines if len(np.unique(np.asarray(line.get_xdata()))) > 1]
        assert sorted(x for line in along_x for x in np.asarray(line.get_xdata())) == expected


def test_a_panel_above_another_has_ticks_and_no_labels() -> None:
    figure = Figure()
    top, bottom = figure.subplots(2, 1, sharex=True)
    bottom.set_xlim(0, 3)
    draw_ticks(figure)
    assert labels_below(bottom)
    assert not labels_below(top)
    assert len(top.lines) == len(bottom.lines) == 8


def test_nothing_is_left_for_matplotlib_to_draw() -> None:
    figure, axes = axes_with((0, 1), "linear")
    draw_ticks(figure)
    figure.savefig(io.BytesIO(), format="svg")
    assert axes.get_xlim() == (0, 1), "ticks leave the limits alone"
    for axis in (axes.xaxis, axes.yaxis):
        assert len(axis.get_majorticklocs()) == len(axis.get_minorticklocs()) == 0
