"""Bins within 10 %, off, and those of which statistics cannot tell."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mlgen.radiation.closeness import closeness, kind_of
from mlgen.radiation.oracle import AnalyticShower
from mlgen.radiation.spectra import Estimates, GeneratedEvents, Spectrum, spectra

SHOWER = AnalyticShower()


def spectrum_of(
    made: tuple[float, ...], error: float, band: tuple[float, ...] = (), name: str = "pt of jet 1"
) -> Spectrum:
    """Bins of a share of 0.1, whose errors are relative and of generated events alone."""
    n = len(made)
    return Spectrum(
        observable=name,
        symbol="",
        unit="",
        n_jets=1,
        and_more=False,
        edges=tuple(map(float, range(n + 1))),
        log_bins=False,
        truth=Estimates(value=(0.1,) * n, error=(0.0,) * n),
        generated=Estimates(
            value=tuple(0.1 * x for x in made),
            error=(0.1 * error,) * n,
            band=tuple(0.1 * x for x in band),
        ),
        entries=(100.0,) * n,
    )


@pytest.mark.parametrize(
    ("made", "error", "band", "expected"),
    [
        # Within, open and off.
        ((1.0, 1.09, 0.91, 1.12, 1.15), 0.02, (), (3, 1, 1)),
        ((1.0, 1.09, 1.2), 0.06, (), (0, 3, 0)),
        # What the model says of its own error counts.
        ((1.0, 1.15), 0.02, (0.03, 0.03), (1, 1, 0)),
        ((1.0, 1.15), 0.02, (0.06, 0.01), (0, 1, 1)),
    ],
)
def test_bins_are_within_open_or_off(
    made: tuple[float, ...], error: float, band: tuple[float, ...], expected: tuple[int, int, int]
) -> None:
    (found,) = closeness([spectrum_of(made, error, band)])
    assert (found.n_within, found.n_open, found.n_off) == expected
    assert len(found.off) == found.n_off


def test_a_bin_that_is_off_is_named() -> None:
    (found,) = closeness([spectrum_of((1.0, 0.7), 0.02)])
    (off,) = found.off
    assert (off.observable, off.low, off.high) == ("pt of jet 1", 1.0, 2.0)
    assert off.deviation == pytest.approx(-0.3)
    assert off.error == pytest.approx(0.02)


def test_few_entries_leave_a_bin_open() -> None:
    few = replace(spectrum_of((1.0, 3.0), 0.01), entries=(2.0, 2.0))
    (found,) = closeness([few])
    assert (found.n_within, found.n_open, found.n_off) == (0, 2, 0)


def test_chance_is_that_of_a_normal_number() -> None:
    (found,) = closeness([spectrum_of((1.0,) * 50, 0.1)])
    assert found.n_chance == pytest.approx(50 * math.erfc(3 / math.sqrt(2)))


def test_pt_and_delta_r_are_told_from_others() -> None:
    names = ("pt of jet 2", "sum of pt of jets", "delta_r of jets 1 and 2", "mass of jet 1")
    assert [kind_of(name) for name in names] == ["pt", "pt", "delta_r", "other"]
    both = [spectrum_of((1.0,), 0.02), spectrum_of((1.0,), 0.02, name="delta_r of jets 1 and 2")]
    assert [of.kind for of in closeness(both)] == ["pt", "delta_r"]


def test_one_shower_is_off_by_chance_alone_and_another_is_not() -> None:
    truth = SHOWER.sample(60_000, torch.Generator().manual_seed(1))
    same = SHOWER.sample(60_000, torch.Generator().manual_seed(2))
    other = replace(SHOWER, slope=1.5).sample(60_000, torch.Generator().manual_seed(3))
    for events, is_right in ((same, True), (other, False)):
        found = list(closeness(list(spectra(truth, GeneratedEvents.of(events), 1, and_more=False))))
        n_off, chance = sum(of.n_off for of in found), sum(of.n_chance for of in found)
        assert (n_off <= chance + 3 * math.sqrt(chance + 0.1)) == is_right
        assert sum(of.n_within for of in found) > 50 or not is_right
