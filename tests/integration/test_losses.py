from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlgen.cards import FlowCard
from mlgen.core import TrainingBatch
from mlgen.integration.losses import (
    MAX_ORDER,
    best_fractions,
    objective,
    renyi_divergence,
    visible_order,
)
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


def in_closed_form(power: float, order: float) -> float:
    """ln of the integral of p^a q^(1 - a), over a - 1; its limit at a = 1 is that of p ln(p / q)."""
    if order == 1:
        # The integral of p ln r is -1 / (1 + POWER).
        return math.log((1 + POWER) / (1 + power)) - (POWER - power) / (1 + POWER)
    norm = order * math.log(1 + POWER) + (1 - order) * math.log(1 + power)
    return (norm - math.log(order * POWER + (1 - order) * power + 1)) / (order - 1)


ORDERS = (1.0, 1.5, 2.0, 4.0)


@pytest.mark.parametrize("power", [0.0, 0.3, POWER, 0.9])
@pytest.mark.parametrize("order", ORDERS)
def test_the_loss_is_the_integral_that_it_stands_for(order: float, power: float) -> None:
    batch = quadrature()
    loss = float(renyi_divergence(batch, log_density(batch.r[:, 0], power), order))
    assert loss == pytest.approx(in_closed_form(power, order), abs=2e-5)


@pytest.mark.parametrize("order", [*ORDERS, 50.0])
def test_a_perfect_density_has_no_divergence_of_any_order(order: float) -> None:
    batch = drawn(POWER, 1000, seed=1)
    log_q = log_density(batch.r[:, 0], POWER)
    assert float(renyi_divergence(batch, log_q, order)) == pytest.approx(0, abs=1e-12)


def test_the_second_order_is_the_variance_of_the_weights() -> None:
    batch = drawn(0.3, 10_000, seed=1)
    weight = batch.value * (-batch.log_q).exp()
    variance = float(weight.var(correction=0) / weight.mean().square())
    loss = float(renyi_divergence(batch, batch.log_q, 2.0))
    assert loss == pytest.approx(math.log1p(variance), rel=1e-12)


def test_large_orders_tend_to_the_largest_weight() -> None:
    batch = drawn(0.3, 10_000, seed=1)
    weight = batch.value * (-batch.log_q).exp()
    largest = math.log(float(weight.max() / weight.mean()))
    assert float(renyi_divergence(batch, batch.log_q, 1e4)) == pytest.approx(largest, rel=1e-2)


def test_weights_that_span_hundreds_of_decades_do_not_overflow() -> None:
    batch = quadrature(1000)
    log_prob = -400 * batch.r[:, 0]
    assert math.isfinite(float(renyi_divergence(batch, log_prob, 8.0)))


@pytest.mark.parametrize("order", ORDERS)
def test_the_gradient_vanishes_at_the_integrand_and_nowhere_near(order: float) -> None:
    batch = quadrature()
    gradients = []
    for power in (POWER - 0.2, POWER, POWER + 0.2):
        parameter = torch.tensor(power, dtype=torch.float64, requires_grad=True)
        loss = renyi_divergence(batch, log_density(batch.r[:, 0], parameter), order)
        gradients.append(float(torch.autograd.grad(loss, parameter)[0]))
    assert gradients[0] < -0.03
    assert abs(gradients[1]) < 1e-4
    assert gradients[2] > 0.03


@pytest.mark.parametrize("drawn_with", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("order", [1.0, 1.5, 2.0])
def test_the_loss_does_not_depend_on_the_density_that_drew_the_points(
    order: float, drawn_with: float
) -> None:
    losses = []
    for seed in range(50):
        batch = drawn(drawn_with, 10_000, seed)
        losses.append(float(renyi_divergence(batch, log_density(batch.r[:, 0], 0.4), order)))
    values = torch.tensor(losses, dtype=torch.float64)
    mean, error = float(values.mean()), float(values.std()) / 50**0.5
    # On the scale of the loss's change from a uniform density to the best one.
    scale = in_closed_form(0.0, order)
    assert error < 0.03 * scale
    assert abs(mean - in_closed_form(0.4, order)) < 5 * error + 1e-4


def test_the_test_above_would_notice_points_taken_for_uniform_ones() -> None:
    batch = drawn(1.0, 500_000, seed=1)
    mistaken = batch_of(batch.r[:, 0], torch.zeros(len(batch), dtype=torch.float64))
    loss = float(renyi_divergence(mistaken, log_density(batch.r[:, 0], 0.4), 1.0))
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(loss, 0.0005, in_closed_form(0.4, 1.0), max_relative_error=0.05)


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


@pytest.mark.parametrize("shares", [(0.25, 0.75), (0.5, 0.5), (0.9, 0.1)])
def test_channels_count_with_their_cross_sections_and_fractions_that_differ_from_them_cost(
    shares: tuple[float, float],
) -> None:
    batch = two_channels(shares)
    power = torch.where(batch.channel == 0, 0.2, 1.1)
    loss = float(renyi_divergence(batch, log_density(batch.r[:, 0], power), 1.0))
    expected = sum(
        sigma * (in_closed_form(power, 1.0) + math.log(sigma / share))
        for sigma, power, share in zip((0.25, 0.75), (0.2, 1.1), shares, strict=True)
    )
    assert loss == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_points_outside_the_cuts_count_whatever_density_they_are_given(order: float) -> None:
    full = quadrature(1000)
    inside = full.r[:, 0] > 0.4
    batch = replace(full, value=full.value * inside)
    losses, gradients = [], []
    for log_prob_outside in (0.0, 5.0):
        parameter = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        log_prob = log_density(batch.r[:, 0], parameter)
        log_prob = torch.where(inside, log_prob, torch.full_like(log_prob, log_prob_outside))
        loss = renyi_divergence(batch, log_prob, order)
        losses.append(float(loss.detach()))
        gradients.append(float(torch.autograd.grad(loss, parameter)[0]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-12)
    assert abs(gradients[0]) > 0.01
    without = renyi_divergence(full, log_density(full.r[:, 0], 0.5), order)
    assert losses[0] > float(without) + 0.1


def two_shapes(power: float, n: int = 50_000) -> tuple[TrainingBatch, Tensor]:
    """Two channels of different size and shape, with points drawn evenly, and the density of each."""
    first, second = quadrature(n), quadrature(n)
    value = torch.cat([first.value, 0.5 * second.value.square()])
    channel = torch.arange(2).repeat_interleave(n)
    r = torch.cat([first.r, second.r])
    batch = TrainingBatch(
        r=r,
        channel=channel,
        value=value,
        log_q=torch.zeros_like(value),
        fraction=torch.full_like(value, 0.5),
    )
    return batch, log_density(r[:, 0], power)


@pytest.mark.parametrize("order", [2.0, 4.0, 12.0])
def test_the_best_fractions_give_the_least_divergence(order: float) -> None:
    batch, log_prob = two_shapes(0.3)
    weight = batch.value * (-log_prob).exp()
    # The moments of the density, from points of a uniform one.
    drawn = replace(batch, log_q=torch.zeros_like(batch.log_q))
    moments = torch.stack(
        [(weight.pow(order) * log_prob.exp())[batch.channel == c].mean() for c in (0, 1)]
    ).pow(1 / order)
    best = moments / moments.sum()

    def divergence(fractions: Tensor) -> float:
        return float(renyi_divergence(drawn, log_prob, order, fractions[batch.channel]))

    least = divergence(best)
    sigma = sum(float(batch.value[batch.channel == c].mean()) for c in (0, 1))
    expected = order / (order - 1) * math.log(float(moments.sum()) / sigma)
    assert least == pytest.approx(expected, rel=1e-6)
    for shift in (-0.05, 0.05):
        other = best + torch.tensor([shift, -shift], dtype=torch.float64)
        assert divergence(other) > least + 1e-4


def test_the_best_fractions_are_found_from_the_weights_of_points() -> None:
    rng = torch.Generator().manual_seed(1)
    channel = (torch.rand(100_000, generator=rng) < 0.2).long()
    weight = torch.rand(100_000, generator=rng, dtype=torch.float64)
    weight[channel == 1] *= 3
    # <(3 u)^a>^(1/a) is three times <u^a>^(1/a), however many points there are of each.
    for order in (1.0, 2.0, 8.0):
        found = best_fractions(weight, channel, 3, order)
        assert found.tolist() == pytest.approx([0.25, 0.75, 0.0], abs=0.005)


def test_an_order_is_visible_as_long_as_many_points_carry_its_moment() -> None:
    rng = torch.Generator().manual_seed(1)
    n, sigma = 200_000, 0.3
    weight = (sigma * torch.randn(n, generator=rng, dtype=torch.float64)).exp()
    weight[:1000] = 0
    # Of a log-normal weight the effective number is n exp(-a² sigma²).
    for share in (0.5, 0.1, 0.02):
        expected = math.sqrt(-math.log(share)) / sigma
        assert visible_order(weight, share) == pytest.approx(max(2.0, expected), rel=0.05)
    assert visible_order(torch.ones(100, dtype=torch.float64), 0.02) == pytest.approx(
        MAX_ORDER, rel=0.01
    )
    few = torch.full((1000,), 1e-3, dtype=torch.float64)
    few[0] = 1
    assert visible_order(few, 0.02) == 2


@pytest.mark.parametrize(
    ("loss", "orders", "stratified"),
    [
        ("kullback_leibler", (1, 1), False),
        ("variance", (2, 2), False),
        ("stratified_variance", (2, 2), True),
        ("renyi", (2, 12), True),
    ],
)
def test_each_loss_has_its_orders(loss: Any, orders: tuple[float, float], stratified: bool) -> None:
    found = objective(FlowCard(loss=loss))
    assert (found.order(0), found.order(1)) == orders
    assert found.order(0.5) == sum(orders) / 2
    assert found.stratified == stratified
