from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import pytest
import torch

from mlgen.diagnostics.surrogate_plots import (
    coverage_plot,
    delta_plot,
    error_plot,
    gain_plot,
    learning_plot,
    pull_plot,
    validation_plot,
)
from mlgen.surrogates.accuracy import RegionAccuracy, region_accuracy
from mlgen.surrogates.group_surrogate import LogPrediction
from mlgen.surrogates.learning_curve import LearningPoint
from mlgen.surrogates.record import TwoStageRecord
from tests.surrogates.records import TRAINING, known_region, known_regions


def exact_region(n: int) -> RegionAccuracy:
    """Without any error."""
    zero = torch.zeros(n, dtype=torch.float64)
    return region_accuracy(LogPrediction(zero, zero + 1e-12, zero, zero == 0), zero)


def useless_region(n: int) -> RegionAccuracy:
    """Errors of many powers of ten, that were not foreseen."""
    error = torch.linspace(-500, 500, n, dtype=torch.float64)
    std = torch.full_like(error, 1e-3)
    return region_accuracy(LogPrediction(error, std, std, std < 0), torch.zeros_like(error))


def region_plots(regions: dict[str, RegionAccuracy]) -> list[str]:
    return [
        delta_plot(regions, "delta"),
        coverage_plot(regions, "coverage"),
        error_plot(regions, "errors"),
        *(pull_plot(region.pulls, f"pulls{k}") for k, region in enumerate(regions.values())),
    ]


def is_drawn(svg: str) -> bool:
    assert "nan" not in svg
    assert "http" not in svg
    assert "var(--ink)" in svg
    return ET.fromstring(svg).tag == "svg"


@pytest.mark.parametrize("n", [1, 2, 10, 60, 5000])
def test_regions_of_any_size_can_be_plotted(n: int) -> None:
    for svg in region_plots({"all": known_region(n, 1e-3), "near the cuts": known_region(3, 1e-2)}):
        assert is_drawn(svg)


@pytest.mark.parametrize("region", [exact_region(50), useless_region(50)])
def test_surrogates_of_any_quality_can_be_plotted(region: RegionAccuracy) -> None:
    for svg in region_plots({"all": region, "near the cuts": known_region(100, 1e-3)}):
        assert is_drawn(svg)


@pytest.mark.parametrize("losses", [(1.0,), (3.0, -2.0, -2.5), (0.0, 0.0)])
def test_any_training_can_be_plotted(losses: tuple[float, ...]) -> None:
    assert is_drawn(validation_plot(replace(TRAINING, validation_losses=losses), "loss"))


def test_a_curve_of_any_length_can_be_plotted() -> None:
    for sizes in ((1000,), (1000, 4000), (1000, 4000, 16_000)):
        points = [
            LearningPoint(n=n, training=TRAINING, regions=known_regions(5000, 10 / n))
            for n in sizes
        ]
        assert is_drawn(learning_plot(points, "top 1 %", "learning"))


@pytest.mark.parametrize("eps_full", [0.003, 0.45, 0.999])
@pytest.mark.parametrize("f_eff", [0.01, 1.0, 60.0])
def test_any_gain_can_be_plotted(eps_full: float, f_eff: float) -> None:
    record = TwoStageRecord(
        sampler="flow", eps_full=eps_full, eps_1=0.5, eps_2=0.8, alpha=1.0, f_eff=f_eff
    )
    assert record.bound == pytest.approx(0.8 / eps_full)
    assert is_drawn(gain_plot([record, replace(record, sampler="vegas")], "gain"))


def test_a_plot_changes_no_global_style() -> None:
    before = dict(mpl.rcParams)
    regions = {"all": known_region(1000, 1e-3)}
    assert region_plots(regions) == region_plots(regions)
    assert dict(mpl.rcParams) == before
