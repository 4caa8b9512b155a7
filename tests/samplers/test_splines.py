from __future__ import annotations

import math

import pytest
import torch
from normflows.utils.splines import rational_quadratic_spline
from torch import Tensor

from mlgen.samplers.splines import MIN_SIZE, MIN_SLOPE, spline, spline_inverse


def random_splines(n: int, n_bins: int = 7, seed: int = 1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3 * n_bins + 1, n, generator=rng, dtype=torch.float64)
    return torch.rand(n, generator=rng, dtype=torch.float64), logits


def slow_spline(x: float, logits: list[float]) -> tuple[float, float]:
    """Eqs. (4) and (5) of arXiv:1906.04032, for one point, step by step."""
    n_bins = len(logits) // 3

    def knots(of: list[float]) -> list[float]:
        total = sum(math.exp(logit) for logit in of)
        sizes = [(1 - MIN_SIZE) * math.exp(logit) / total + MIN_SIZE / n_bins for logit in of]
        return [sum(sizes[:k]) for k in range(n_bins + 1)]

    xs, ys = knots(logits[:n_bins]), knots(logits[n_bins : 2 * n_bins])
    unit = math.log(2) + MIN_SLOPE
    slopes = [(math.log1p(math.exp(v)) + MIN_SLOPE) / unit for v in logits[2 * n_bins :]]
    k = 0
    while k < n_bins - 1 and x >= xs[k + 1]:
        k += 1
    width, height = xs[k + 1] - xs[k], ys[k + 1] - ys[k]
    s, xi = height / width, (x - xs[k]) / width
    beta = s + (slopes[k + 1] + slopes[k] - 2 * s) * xi * (1 - xi)
    y = ys[k] + height * (s * xi**2 + slopes[k] * xi * (1 - xi)) / beta
    numerator = slopes[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + slopes[k] * (1 - xi) ** 2
    return y, math.log(s**2 * numerator / beta**2)


def test_a_spline_is_that_of_the_slow_formula() -> None:
    x, logits = random_splines(200)
    y, log_slope = spline(x, logits)
    for i in range(len(x)):
        slow_y, slow_log_slope = slow_spline(float(x[i]), logits[:, i].tolist())
        assert float(y[i]) == pytest.approx(slow_y, abs=1e-13)
        assert float(log_slope[i]) == pytest.approx(slow_log_slope, abs=1e-11)


def test_the_inverse_is_where_bisection_of_the_slow_formula_ends() -> None:
    y, logits = random_splines(50)
    x, _ = spline_inverse(y, logits)
    for i in range(len(y)):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            if slow_spline(middle, logits[:, i].tolist())[0] < float(y[i]):
                low = middle
            else:
                high = middle
        assert float(x[i]) == pytest.approx(low, abs=1e-10)


def test_a_spline_is_that_of_normflows() -> None:
    n_bins = 7
    x, logits = random_splines(500, n_bins)
    # normflows does not scale its slopes; these are the ones that mlgen's come to.
    slope = (torch.nn.functional.softplus(logits[2 * n_bins :]) + MIN_SLOPE) / (
        math.log(2) + MIN_SLOPE
    )
    theirs = {
        "unnormalized_widths": logits[:n_bins].T,
        "unnormalized_heights": logits[n_bins : 2 * n_bins].T,
        "unnormalized_derivatives": (slope - MIN_SLOPE).expm1().log().T,
        "min_bin_width": MIN_SIZE / n_bins,
        "min_bin_height": MIN_SIZE / n_bins,
        "min_derivative": MIN_SLOPE,
    }
    kept = slope.amin(dim=0) > 2 * MIN_SLOPE  # below that theirs cannot be set
    for ours, inverse in ((spline, False), (spline_inverse, True)):
        y, log_slope = ours(x, logits)
        y_theirs, log_theirs = rational_quadratic_spline(x, inverse=inverse, **theirs)
        torch.testing.assert_close(y[kept], y_theirs[kept], rtol=0, atol=1e-9)
        torch.testing.assert_close(log_slope[kept], log_theirs[kept], rtol=0, atol=1e-8)
    assert int(kept.sum()) > 400


@pytest.mark.parametrize("direction", [spline, spline_inverse])
def test_gradients_are_those_of_finite_differences(direction) -> None:  # type: ignore[no-untyped-def]  # either of two functions
    x, logits = random_splines(6, n_bins=3)
    assert torch.autograd.gradcheck(direction, (x.requires_grad_(), logits.requires_grad_()))


def test_logits_of_zero_are_the_identity() -> None:
    x, logits = random_splines(100)
    y, log_slope = spline(x, torch.zeros_like(logits))
    torch.testing.assert_close(y, x, rtol=0, atol=1e-14)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-13)


def test_a_float32_network_still_gives_a_float64_map() -> None:
    x, logits = random_splines(5000, n_bins=10)
    single = logits.to(torch.float32)
    y, log_slope = spline(x, single)
    assert y.dtype == log_slope.dtype == torch.float64
    x_back, log_slope_back = spline_inverse(y, single)
    torch.testing.assert_close(x_back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_slope_back, -log_slope, rtol=0, atol=1e-9)
    # All in float32, the same is good to five digits.
    x_single, _ = spline_inverse(spline(x.to(torch.float32), single)[0], single)
    assert 1e-7 < float((x_single - x).abs().max()) < 1e-2


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("direction", [spline, spline_inverse])
def test_the_ends_stay_where_they_are(direction, scale: float) -> None:  # type: ignore[no-untyped-def]  # either of two functions
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(500)
    _, logits = random_splines(1000)
    moved, log_slope = direction(ends, (scale * logits).to(torch.float32))
    torch.testing.assert_close(moved, ends, rtol=0, atol=1e-8)
    assert bool(log_slope.isfinite().all())


def test_knots_themselves_are_points_like_others() -> None:
    _, logits = random_splines(1)
    n_bins = len(logits) // 3
    sizes = torch.softmax(logits[:n_bins, 0], dim=0) * (1 - MIN_SIZE) + MIN_SIZE / n_bins
    knots = torch.cat([sizes.new_zeros(1), sizes.cumsum(dim=0)]).clamp(max=1)
    y, log_slope = spline(knots, logits.expand(-1, n_bins + 1))
    y_near, log_near = spline((knots - 1e-9).clamp(min=0), logits.expand(-1, n_bins + 1))
    torch.testing.assert_close(y, y_near, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_slope, log_near, rtol=0, atol=1e-4)
