from __future__ import annotations

import math

import torch
from torch import Tensor

from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.radiation.hard_object import HardObject, learn_hard_object
from mlgen.radiation.representation import ETA, LOG_M2, LOG_PT, PHI

WIDTH = 0.5


def mean_alone(hard: Tensor) -> Tensor:
    return 0.5 - 0.3 * hard[:, ETA].square() + 0.2 * hard[:, LOG_M2]


def events(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Columns whose hard objects follow known means, and first jets about opposite to them."""
    rng = torch.Generator().manual_seed(seed)
    columns = torch.randn(n, 3, 4, generator=rng, dtype=torch.float64)
    noise = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    hard, jet = columns[:, 0], columns[:, 1]
    n_jets = torch.arange(n) % 2
    with_jet = mean_alone(hard) + 0.7 * jet[:, LOG_PT]
    centre = torch.where(n_jets > 0, with_jet, mean_alone(hard))
    hard[:, LOG_PT] = centre + WIDTH * noise[:, 0]
    hard[:, PHI] = 0
    angle = math.pi + 0.3 * noise[:, 1]
    jet[:, PHI] = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
    return columns, n_jets


def learned() -> HardObject:
    return learn_hard_object(*events(20_000, 1), 1, SilentProgress())


def test_what_is_drawn_has_the_means_and_widths_that_were_learned_from() -> None:
    network, (columns, n_jets) = learned(), events(20_000, 2)
    inside = (columns[:, 0, ETA].abs() < 2) & (columns[:, 1, LOG_PT].abs() < 2)
    rng = random_stream(1, "draw", 0)
    beside = columns[inside & (n_jets > 0)]
    hard, jet = network.sample_beside(beside[:, 0], beside[:, 1], rng)
    residual = hard[:, LOG_PT] - mean_alone(hard) - 0.7 * jet[:, LOG_PT]
    assert abs(float(residual.mean())) < 0.04
    assert abs(float(residual.std()) - WIDTH) < 0.04
    away = torch.remainder(jet[:, PHI], 2 * math.pi) - math.pi
    assert abs(float(away.mean())) < 0.03
    assert abs(float(away.std()) - 0.3) < 0.03
    assert torch.equal(hard[:, ETA], beside[:, 0, ETA])
    assert torch.equal(jet[:, LOG_PT], beside[:, 1, LOG_PT])
    # Alone, the mean is that of all events, whether they have jets or not.
    every = columns[inside, 0]
    alone = network.sample_alone(every, rng)
    assert abs(float((alone - every)[:, LOG_PT].mean())) < 0.04


def test_the_densities_integrate_to_one() -> None:
    network = HardObject(random_stream(3, "start", 0))
    grid = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    hard = torch.zeros(len(grid), 4, dtype=torch.float64)
    hard[:, LOG_PT] = grid
    jet = torch.zeros(len(grid), 4, dtype=torch.float64)
    with torch.no_grad():
        alone = network.log_prob_alone(hard).double().exp()
        assert abs(float(torch.trapezoid(alone, grid)) - 1) < 1e-4
        angles = torch.linspace(-math.pi, math.pi, 61, dtype=torch.float64)
        both = []
        for angle in angles:
            jet[:, PHI] = angle
            both.append(torch.trapezoid(network.log_prob_beside(hard, jet).double().exp(), grid))
        assert abs(float(torch.trapezoid(torch.stack(both), angles)) - 1) < 1e-3


def test_learning_is_reproducible_and_a_state_comes_back() -> None:
    columns, network = events(2000, 1)[0], learned()
    again = HardObject.restore(learned().state())
    with torch.no_grad():
        one, other = (net.log_prob_alone(columns[:, 0]) for net in (network, again))
    assert torch.equal(one, other)
