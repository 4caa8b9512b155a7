from __future__ import annotations

import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest
import torch

from mlgen.diagnostics.observables import compare, observables
from mlgen.diagnostics.plots import (
    WeightSample,
    comparison_plot,
    efficiency_plot,
    loss_plot,
    training_plot,
    weight_plot,
    zero_share,
)
from mlgen.events.unweighting import find_w_max_by_channel
from tests.diagnostics.samples import eej


def a_sample(spread: float, zeros: float = 0.2, n: int = 20_000) -> WeightSample:
    rng = torch.Generator().manual_seed(1)
    channel = torch.arange(n) % 3
    normal = torch.randn(n, generator=rng, dtype=torch.float64)
    weight = (1.0 + channel) * (spread * normal).exp()
    weight[torch.rand(n, generator=rng) < zeros] = 0
    return WeightSample(
        weight=weight, channel=channel, w_max=find_w_max_by_channel(weight, channel, 3, 0.001)
    )


@pytest.fixture(scope="module")
def plots() -> list[str]:
    return all_plots()


def all_plots() -> list[str]:
    samples = {"vegas": a_sample(1.0), "flow": a_sample(0.3)}
    events, reference = eej(2000, seed=1), eej(2000, seed=2, weighted=True)
    comparisons = [compare(o, events, reference, 212.0) for o in observables(events)[:2]]
    return [
        weight_plot(samples),
        efficiency_plot(samples, {"flow": (0.001, 0.4, 0.01)}),
        loss_plot([1 + 1 / (i + 1) for i in range(500)], "loss"),
        training_plot([0.0, 8.0, 24.0], [0.1, 0.2, 0.3], {"vegas": (32, 0.1, 0.01)}),
        *(comparison_plot(c, i) for i, c in enumerate(comparisons) if c is not None),
    ]


def test_every_plot_is_a_well_formed_svg_that_loads_nothing(plots: list[str]) -> None:
    for svg in plots:
        assert ET.fromstring(svg).tag == "svg"
        assert "http" not in svg
        assert "<script" not in svg


def test_the_page_decides_every_colour(plots: list[str]) -> None:
    for svg in plots:
        assert "var(--ink)" in svg
        assert "#0" not in svg.replace('href="#', "").replace("url(#", "")


def test_no_name_inside_one_plot_clashes_with_another(plots: list[str]) -> None:
    seen: set[str] = set()
    for svg in plots:
        names = {e.attrib["id"] for e in ET.fromstring(svg).iter() if "id" in e.attrib}
        links = {e.attrib["href"].removeprefix("#") for e in ET.fromstring(svg).iter("use")}
        assert links <= names
        assert not names & seen
        seen |= names


def test_a_plot_is_the_same_each_time_and_changes_no_global_style(plots: list[str]) -> None:
    before = dict(mpl.rcParams)
    assert all_plots() == plots
    assert dict(mpl.rcParams) == before


def test_zeros_count_as_events_would_draw_them() -> None:
    sample = WeightSample(
        weight=torch.tensor([0.0, 1.0, 3.0, 3.0], dtype=torch.float64),
        channel=torch.tensor([0, 0, 1, 1]),
        w_max=torch.tensor([1.0, 3.0], dtype=torch.float64),
    )
    assert zero_share(sample) == pytest.approx(0.5 * 1 / 4)


@pytest.mark.parametrize("loss", [[2.0, 1.0], [-1.0, -2.0, -1.5] * 40, [1.0] * 50])
def test_any_loss_can_be_plotted(loss: list[float]) -> None:
    assert ET.fromstring(loss_plot(loss, "loss")).tag == "svg"


def test_a_sample_with_a_channel_that_is_never_drawn_can_be_plotted() -> None:
    sample = WeightSample(
        weight=torch.tensor([0.0, 0.0, 3.0, 2.0], dtype=torch.float64),
        channel=torch.tensor([0, 0, 1, 1]),
        w_max=torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64),
    )
    for svg in (weight_plot({"flow": sample}), efficiency_plot({"flow": sample}, {})):
        assert "nan" not in svg
        assert ET.fromstring(svg).tag == "svg"


@pytest.mark.parametrize(
    "marks", [{}, {"vegas": (16, 0.2, 0.01)}, {"vegas": (16, 0.2, 0.01), "flow": (16, 0.5, 0.01)}]
)
@pytest.mark.parametrize(("steps", "eps_uw"), [([0.0], [0.3]), ([0.0, 8.0], [0.3, 0.0])])
def test_any_training_can_be_plotted(
    steps: list[float], eps_uw: list[float], marks: dict[str, tuple[float, float, float]]
) -> None:
    assert ET.fromstring(training_plot(steps, eps_uw, marks)).tag == "svg"
