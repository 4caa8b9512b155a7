from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mlgen.phasespace.invariants import (
    BreitWigner,
    HyperbolicSecant,
    PowerLaw,
    RangeMap,
    Uniform,
)
from tests.laws import check_range_map

Z = BreitWigner(91.188, 2.441404)
HIGGS = BreitWigner(125.0, 0.006382339)


@pytest.mark.parametrize("high", [1e-9, 1.0, 1e8])
def test_a_uniform_map_is_a_map(high: float) -> None:
    check_range_map(Uniform(), 0.0, high)
    check_range_map(Uniform(), -high, high)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.0, 1.69e8),
        (50.0**2, 1.69e8),
        (91.0**2, 91.3**2),  # within the peak
        (0.0, 60.0**2),  # below it
        (1e6, 1.69e8),  # above it
        (1e6, 1.001e6),
    ],
)
def test_a_breit_wigner_is_a_map(low: float, high: float) -> None:
    check_range_map(Z, low, high)


def test_a_peak_six_orders_narrower_than_its_range_is_a_map() -> None:
    check_range_map(HIGGS, 0.0, 1.69e8)


def test_a_breit_wigner_far_off_its_peak_keeps_its_digits() -> None:
    check_range_map(HIGGS, 1e8, 1.01e8)
    check_range_map(HIGGS, 1.0, 2.0)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize(("low", "high"), [(400.0, 4.2e7), (1e-3, 1.69e8), (1.0, 1.0001)])
def test_a_power_law_is_a_map(exponent: float, low: float, high: float) -> None:
    check_range_map(PowerLaw(exponent), low, high)


@pytest.mark.parametrize(("low", "high"), [(-9.0, 9.0), (-12.0, 1.0), (3.0, 12.0), (-0.1, 0.1)])
@pytest.mark.parametrize("width", [1.0, 2.5, 10.0])
def test_a_hyperbolic_secant_is_a_map(width: float, low: float, high: float) -> None:
    check_range_map(HyperbolicSecant(width), low, high)


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0])
@pytest.mark.parametrize(("low", "high", "shift"), [(0.0, 4.2e7, 100.0), (400.0, 1.69e8, -399.0)])
def test_a_shifted_power_law_is_a_map(
    exponent: float, low: float, high: float, shift: float
) -> None:
    check_range_map(PowerLaw(exponent, shift), low, high)


@dataclass(frozen=True)
class WrongJacobian(RangeMap):
    """Exact in both directions, with log-Jacobians that are opposite, and wrong."""

    def forward(self, r: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        value, log_jac = Z.forward(r, low, high)
        return value, log_jac + 1e-4

    def inverse(self, value: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        r, log_jac = Z.inverse(value, low, high)
        return r, log_jac - 1e-4


def test_the_law_finds_a_wrong_jacobian() -> None:
    with pytest.raises(AssertionError):
        check_range_map(WrongJacobian(), 0.0, 1e6)


def uniform_r(n: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("range_map", "low", "high", "shape"),
    [
        (Z, 50.0**2, 1e6, lambda s: 1 / ((s - 91.188**2) ** 2 + (91.188 * 2.441404) ** 2)),
        (PowerLaw(1.5), 400.0, 1e6, lambda s: s**-1.5),
        (PowerLaw(1.0), 400.0, 1e6, lambda s: 1 / s),
        (PowerLaw(1.5, -300.0), 400.0, 1e6, lambda s: (s - 300.0) ** -1.5),
        (PowerLaw(1.0, 100.0), 0.0, 1e6, lambda s: 1 / (s + 100.0)),
        (HyperbolicSecant(), -3.0, 5.0, lambda v: 1 / v.cosh()),
        (HyperbolicSecant(2.5), -3.0, 9.0, lambda v: 1 / (v / 2.5).cosh()),
    ],
)
def test_the_shape_that_a_map_is_for_becomes_flat(
    range_map: RangeMap, low: float, high: float, shape: object
) -> None:
    assert callable(shape)
    r = uniform_r(1000)
    value, log_jac = range_map.forward(r, torch.full_like(r, low), torch.full_like(r, high))
    flat = shape(value) * log_jac.exp()
    torch.testing.assert_close(flat, flat[:1].expand(1000), rtol=1e-9, atol=0)


def test_each_point_has_its_own_range() -> None:
    r = uniform_r(50)
    low, high = 100 * (1 + r), 1e4 * (2 - r)
    for range_map in (Uniform(), Z, PowerLaw(1.5), HyperbolicSecant(3000.0)):
        value, log_jac = range_map.forward(r, low, high)
        for i in (0, 49):
            at = slice(i, i + 1)
            alone, log_jac_alone = range_map.forward(r[at], low[at], high[at])
            torch.testing.assert_close((alone[0], log_jac_alone[0]), (value[i], log_jac[i]))


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_each_point_may_have_its_own_shift(exponent: float) -> None:
    r = uniform_r(50)
    low, high, shift = torch.zeros_like(r), torch.full_like(r, 1e6), 1 + 1e4 * r.flip(0)
    value, log_jac = PowerLaw(exponent, shift).forward(r, low, high)
    r_back, log_jac_back = PowerLaw(exponent, shift).inverse(value, low, high)
    torch.testing.assert_close(r_back, r, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_jac_back, -log_jac, rtol=0, atol=1e-9)
    for i in (0, 49):
        at = slice(i, i + 1)
        alone = PowerLaw(exponent, float(shift[i])).forward(r[at], low[at], high[at])
        torch.testing.assert_close((alone[0][0], alone[1][0]), (value[i], log_jac[i]))


def test_a_range_without_width_has_no_volume() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    for range_map in (Uniform(), HyperbolicSecant()):
        value, log_jac = range_map.forward(zero + 0.3, zero, zero)
        assert float(value) == 0
        assert float(log_jac) == -math.inf
