from __future__ import annotations

import math

import torch

from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.radiation.hard_pt import HardPt, learn_hard_pt
from mlgen.radiation.representation import ETA, LOG_M2, LOG_PT


def hard_objects(n: int, seed: int) -> torch.Tensor:
    """Columns whose first is normal, with a mean that falls with the rapidity squared."""
    rng = torch.Generator().manual_seed(seed)
    columns = torch.randn(n, 4, generator=rng, dtype=torch.float64)
    columns[:, 1] = 0
    noise = torch.randn(n, generator=rng, dtype=torch.float64)
    columns[:, LOG_PT] = (
        0.5 - 0.3 * columns[:, ETA].square() + 0.2 * columns[:, LOG_M2] + 0.5 * noise
    )
    return columns


def test_what_is_drawn_has_the_mean_and_width_that_was_learned_from() -> None:
    network = learn_hard_pt(hard_objects(20_000, 1), 1, SilentProgress())
    fresh = hard_objects(20_000, 2)
    drawn = network.sample(fresh, random_stream(1, "draw", 0))
    mean = 0.5 - 0.3 * fresh[:, ETA].square() + 0.2 * fresh[:, LOG_M2]
    inside = fresh[:, ETA].abs() < 2
    residual = (drawn[:, LOG_PT] - mean)[inside]
    assert abs(float(residual.mean())) < 0.03
    assert abs(float(residual.std()) - 0.5) < 0.03
    assert torch.equal(drawn[:, 1:], fresh[:, 1:])
    # The likelihood comes close to the best there is; a network that learned nothing does not.
    z = (fresh[:, LOG_PT] - mean) / 0.5
    best = float((-0.5 * z.square() - math.log(0.5 * math.sqrt(2 * math.pi))).mean())
    untrained = HardPt(random_stream(1, "start hard pt", 0))
    with torch.no_grad():
        assert best - float(network.log_prob(fresh).double().mean()) < 0.02
        assert best - float(untrained.log_prob(fresh).double().mean()) > 0.2


def test_the_density_integrates_to_one() -> None:
    network = HardPt(random_stream(3, "start", 0))
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    columns = torch.zeros(len(grid), 4, dtype=torch.float64)
    columns[:, LOG_PT] = grid
    with torch.no_grad():
        density = network.log_prob(columns).double().exp()
    assert abs(float(torch.trapezoid(density, grid)) - 1) < 1e-4


def test_learning_is_reproducible() -> None:
    columns = hard_objects(2000, 1)
    one, other = (learn_hard_pt(columns, 1, SilentProgress()) for _ in range(2))
    with torch.no_grad():
        assert torch.equal(one.log_prob(columns), other.log_prob(columns))
