from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mlgen.core import TrainingBatch
from mlgen.integration.quality import efficiency_of, ess_of


def batch(value: list[float], channel: list[int], fractions: tuple[float, ...]) -> TrainingBatch:
    """Points of a uniform density."""
    values, channels = torch.tensor(value, dtype=torch.float64), torch.tensor(channel)
    return TrainingBatch(
        r=values[:, None].abs(),
        channel=channels,
        value=values,
        log_q=torch.zeros_like(values),
        fraction=torch.tensor(fractions, dtype=torch.float64)[channels],
    )


def test_equal_weights_are_all_kept_whatever_the_sizes_of_the_channels() -> None:
    even = batch([2.0, 2.0, 5.0], [0, 0, 1], (2 / 3, 1 / 3))
    assert efficiency_of(even, 2, 0.0) == pytest.approx(1)
    assert ess_of(even) < 1, "the fractions do not suit the sizes"
    # In proportion to the sizes of the channels, all points count alike.
    fair = batch([2.0, 2.0, 4.0, 4.0, 4.0, 4.0], [0, 0, 1, 1, 1, 1], (1 / 3, 2 / 3))
    assert ess_of(fair) == pytest.approx(1)


def test_the_largest_weight_of_each_channel_sets_what_is_kept() -> None:
    found = efficiency_of(batch([1.0, 3.0, 0.0, 8.0, 4.0], [0, 0, 1, 1, 1], (0.4, 0.6)), 2, 0.0)
    assert found == pytest.approx((2 + 4) / (3 + 8))


def test_signs_do_not_matter() -> None:
    mixed = batch([1.0, -1.0, 1.0, -1.0], [0] * 4, (1.0,))
    assert efficiency_of(mixed, 1, 0.0) == 1
    assert ess_of(mixed) == 1


def test_the_density_of_the_points_is_divided_out() -> None:
    points = batch([1.0, 2.0, 4.0], [0] * 3, (1.0,))
    assert efficiency_of(points, 1, 0.0) < 1
    drawn = replace(points, log_q=points.value.log())
    assert efficiency_of(drawn, 1, 0.0) == pytest.approx(1)
    assert ess_of(drawn) == pytest.approx(1)


def test_weights_of_0_keep_nothing() -> None:
    assert efficiency_of(batch([0.0, 0.0], [0, 0], (1.0,)), 1, 0.001) == 0
    assert ess_of(batch([0.0, 0.0], [0, 0], (1.0,))) == 0
