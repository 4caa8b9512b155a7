from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mlgen.core import TrainingBatch
from mlgen.integration.losses import LOSSES, kl_divergence, variance
from tests.laws import check_estimate

POWER, SIGMA = 0.7, 3.0
"""The integrand is SIGMA (1 + POWER) r^POWER on [0, 1]."""


def log_density(r: Tensor, power: float | Tensor) -> Tensor:
    """ln of (1 + a) r^a: the densities to be trained."""
    return torch.as_tensor(1 + power).log() + power * r.log()


def batch_of(r: Tensor, log_q: Tensor) -> TrainingBatch:
    value = SIGMA * log_density(r, POWER).exp()
    return TrainingBatch(
        r=r[:, None],
        channel=torch.zeros(len(r), dtype=torch.int64),
        value=value,
        log_q=log_q,
        fraction=torch.ones_like(r),
    )


def quadrature(n: int = 100_000) -> TrainingBatch:
    """Midpoints of [0, 1]: sums over them are integrals."""
    r = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return batch_of(r, torch.zeros_like(r))


def drawn(power: float, n: int, seed: int) -> TrainingBatch:
    """Points of the density (1 + power) r^power."""
    u = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    r = u ** (1 / (1 + power))
    return batch_of(r, log_density(r, power))


def kl_in_closed_form(power: float) -> float:
    """- integral of p ln q; the integral of p ln r is -1 / (1 + POWER)."""
    return -math.log(1 + power) + power / (1 + POWER)


def variance_in_closed_form(power: float) -> float:
    """ln of the integral of p² / q."""
    return math.log((1 + POWER) ** 2 / (1 + power) / (2 * POWER - power + 1))


CLOSED_FORM = {"kl": kl_in_closed_form, "variance": variance_in_closed_form}


@pytest.mark.parametrize("power", [0.0, 0.3, POWER, 1.2])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_loss_is_the_integral_that_it_stands_for(name: str, power: float) -> None:
    batch = quadrature()
    loss = float(LOSSES[name](batch, log_density(batch.r[:, 0], power)))
    assert loss == pytest.approx(CLOSED_FORM[name](power), abs=2e-5)


def test_the_variance_of_a_perfect_density_is_zero_and_its_divergence_is_the_entropy() -> None:
    batch = drawn(POWER, 1000, seed=1)
    log_q = log_density(batch.r[:, 0], POWER)
    assert float(variance(batch, log_q)) == pytest.approx(0, abs=1e-12)
    assert float(kl_divergence(batch, log_q)) == pytest.approx(-float(log_q.mean()), rel=1e-12)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_gradient_vanishes_at_the_integrand_and_nowhere_near(name: str) -> None:
    batch = quadrature()
    gradients = []
    for power in (POWER - 0.2, POWER, POWER + 0.2):
        parameter = torch.tensor(power, dtype=torch.float64, requires_grad=True)
        loss = LOSSES[name](batch, log_density(batch.r[:, 0], parameter))
        gradients.append(float(torch.autograd.grad(loss, parameter)[0]))
    assert gradients[0] < -0.03
    assert abs(gradients[1]) < 1e-4
    assert gradients[2] > 0.03


@pytest.mark.parametrize("drawn_with", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_loss_does_not_depend_on_the_density_that_drew_the_points(
    name: str, drawn_with: float
) -> None:
    losses = []
    for seed in range(50):
        batch = drawn(drawn_with, 10_000, seed)
        losses.append(float(LOSSES[name](batch, log_density(batch.r[:, 0], 0.4))))
    values = torch.tensor(losses, dtype=torch.float64)
    mean, error = float(values.mean()), float(values.std()) / 50**0.5
    # On the scale of the loss's change from a uniform density to the best one.
    scale = abs(CLOSED_FORM[name](0.0) - CLOSED_FORM[name](POWER))
    assert error < 0.03 * scale
    assert abs(mean - CLOSED_FORM[name](0.4)) < 5 * error + 1e-4


def test_the_test_above_would_notice_points_taken_for_uniform_ones() -> None:
    batch = drawn(1.0, 500_000, seed=1)
    mistaken = batch_of(batch.r[:, 0], torch.zeros(len(batch), dtype=torch.float64))
    loss = float(kl_divergence(mistaken, log_density(batch.r[:, 0], 0.4)))
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(loss, 0.002, kl_in_closed_form(0.4), max_relative_error=0.05)


def two_channels(shares: tuple[float, float]) -> TrainingBatch:
    """Two channels with cross sections 1 : 3, whose quadrature points come in the given shares."""
    parts = [quadrature(round(100_000 * share)) for share in shares]
    channel = [torch.full((len(part),), c) for c, part in enumerate(parts)]
    fraction = [torch.full_like(p.value, s) for p, s in zip(parts, shares, strict=True)]
    return TrainingBatch(
        r=torch.cat([part.r for part in parts]),
        channel=torch.cat(channel),
        value=torch.cat([parts[0].value, 3 * parts[1].value]),
        log_q=torch.cat([part.log_q for part in parts]),
        fraction=torch.cat(fraction),
    )


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.2, 0.8), (0.9, 0.1)])
def test_channels_count_with_their_cross_sections_however_many_points_they_got(
    shares: tuple[float, float],
) -> None:
    batch = two_channels(shares)
    power = torch.where(batch.channel == 0, 0.2, 1.1)
    loss = float(kl_divergence(batch, log_density(batch.r[:, 0], power)))
    expected = 0.25 * kl_in_closed_form(0.2) + 0.75 * kl_in_closed_form(1.1)
    assert loss == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_points_outside_the_cuts_may_be_left_out_without_a_change_of_the_gradient(
    name: str,
) -> None:
    full = quadrature(1000)
    inside = full.r[:, 0] > 0.4
    zeroed = TrainingBatch(
        r=full.r,
        channel=full.channel,
        value=full.value * inside,
        log_q=full.log_q,
        fraction=full.fraction,
    )
    gradients = []
    for batch in (zeroed, zeroed.select(inside)):
        parameter = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        loss = LOSSES[name](batch, log_density(batch.r[:, 0], parameter))
        gradients.append(float(torch.autograd.grad(loss, parameter)[0]))
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-12)
    assert abs(gradients[0]) > 0.01
