from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import MlgenError, TrainingFailed
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.accuracy import NEAR_CUTS, STATISTICAL, TOTAL, accuracy
from mlgen.surrogates.group_surrogate import train_group
from mlgen.surrogates.learning_curve import curve_sizes, learning_curve, learning_point
from tests.surrogates.toys import MODEL, ZGG, toy_sample

SETTINGS = SurrogateCard(n_hidden=32, n_layers=2, n_steps=300, learning_rate=5e-3)


def test_a_curve_has_one_training_for_each_size_on_the_first_points() -> None:
    sample, test = toy_sample(8000, seed=1), toy_sample(5000, seed=2)
    near = torch.arange(5000) < 100
    curve = learning_curve(
        sample, test, ZGG, MODEL, SETTINGS, 1, SilentProgress(), (2000, 8000), near
    )
    assert [point.n for point in curve] == [2000, 8000]
    assert [point.training.n_training for point in curve] == [1560, 6240]
    assert [point.regions[NEAR_CUTS].n for point in curve] == [100, 100]
    learned, record = train_group(
        sample.select(slice(2000)), ZGG, MODEL, SETTINGS, 1, SilentProgress()
    )
    again = learning_point(2000, learned, record, test, near)
    assert again.regions == curve[0].regions != curve[1].regions
    assert again.regions == accuracy(learned, test, near)


def test_repeated_trainings_give_statistical_pulls() -> None:
    sample, test = toy_sample(4000, seed=1), toy_sample(2000, seed=2)
    settings = replace(SETTINGS, method="repulsive", n_steps=20)
    few, many = learning_curve(
        sample, test, ZGG, MODEL, settings, 1, SilentProgress(), (1500, 4000), n_repeats=3
    )
    # The sample has points for two trainings of 1500, and for one of 4000.
    assert few.regions["all"].pulls[STATISTICAL].n == 2 * 2000
    assert STATISTICAL not in many.regions["all"].pulls
    (alone,) = learning_curve(
        sample, test, ZGG, MODEL, settings, 1, SilentProgress(), (1500,), n_repeats=1
    )
    assert alone.regions["all"].pulls[TOTAL] == few.regions["all"].pulls[TOTAL]
    assert STATISTICAL not in alone.regions["all"].pulls


def test_sizes_shrink_by_powers_of_four_as_long_as_they_can_be_learned_from() -> None:
    assert curve_sizes(160_000, SETTINGS) == (10_000, 40_000, 160_000)
    assert curve_sizes(10_000, SETTINGS) == (2500, 10_000)
    assert curve_sizes(1500, SETTINGS) == (1500,)
    assert curve_sizes(1000, SETTINGS) == ()


def test_sizes_that_cannot_be_trained_on_are_errors() -> None:
    sample = toy_sample(2000, seed=1)
    for size, error, message in (
        (3000, MlgenError, "size = 3000: expected 1 to 2000 points"),
        (0, MlgenError, "size = 0: expected 1 to 2000 points"),
        (500, TrainingFailed, "500 points of d d~ > z g g: expected at least"),
    ):
        with pytest.raises(error, match=message):
            learning_curve(sample, sample, ZGG, MODEL, SETTINGS, 1, SilentProgress(), (size,))
