from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mlgen.samplers import compiled_splines, splines

pytest.importorskip("numba")

SplineMap = Callable[..., tuple[Tensor, Tensor]]
LOGIT_MAPS = [
    pytest.param(compiled_splines.spline, splines.spline, id="spline"),
    pytest.param(compiled_splines.spline_inverse, splines.spline_inverse, id="inverse"),
]
TABLE_MAPS = [
    pytest.param(compiled_splines.table_spline, splines.table_spline, id="spline"),
    pytest.param(compiled_splines.table_spline_inverse, splines.table_spline_inverse, id="inverse"),
]


def points_and_logits(n: int, n_bins: int = 10, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(n)
    return torch.rand(n, generator=rng), scale * torch.randn(3 * n_bins + 1, n, generator=rng)


def tables(n: int, n_splines: int = 5, n_bins: int = 12) -> tuple[Tensor, ...]:
    """Points, the spline of each, and xs, ys and slopes of the splines; some bins are tiny."""
    rng = torch.Generator().manual_seed(n)
    x = torch.rand(n, generator=rng, dtype=torch.float64)
    which = torch.randint(n_splines, (n,), generator=rng)
    logits = 4 * torch.randn(3, n_splines, n_bins, generator=rng, dtype=torch.float64)
    xs, ys = torch.nn.functional.pad(logits[:2].softmax(dim=-1).cumsum(dim=-1), (1, 0))
    slopes = torch.nn.functional.pad(0.1 * logits[2], (1, 0)).exp()
    return x, which, xs / xs[:, -1:], ys / ys[:, -1:], slopes


def gradients(
    spline_map: SplineMap, inputs: tuple[Tensor, ...], of: tuple[int, ...]
) -> tuple[Tensor, ...]:
    """Of a sum of both results, towards some of the inputs."""
    inputs = tuple(
        tensor.clone().requires_grad_() if i in of else tensor for i, tensor in enumerate(inputs)
    )
    y, log_slope = spline_map(*inputs)
    rng = torch.Generator().manual_seed(1)
    weights = torch.randn(2, *y.shape, generator=rng).to(y.dtype)
    return torch.autograd.grad(
        (weights[0] * y + weights[1] * log_slope).sum(), [inputs[i] for i in of]
    )


def check_close(got: Tensor, exact: Tensor, rtol: float) -> None:
    """In the mean square over the points, relative to the largest numbers."""
    assert float((got - exact).norm()) <= rtol * float(exact.norm())


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 5000])
@pytest.mark.parametrize("n_bins", [1, 2, 7, 10, 16])
@pytest.mark.parametrize(("fast", "exact"), LOGIT_MAPS)
def test_compiled_splines_of_logits_are_those_of_float64(
    fast: SplineMap, exact: SplineMap, n_bins: int, n: int
) -> None:
    x, logits = points_and_logits(n, n_bins)
    y, log_slope = fast(x, logits)
    assert y.dtype == log_slope.dtype == torch.float32
    y_exact, log_slope_exact = exact(x.double(), logits.double())
    torch.testing.assert_close(y.double(), y_exact, rtol=0, atol=5e-5)
    torch.testing.assert_close(log_slope.double(), log_slope_exact, rtol=0, atol=1e-3)
    if n == 5000:
        assert float((y - y_exact).square().mean().sqrt()) < 1e-6
        assert float((log_slope - log_slope_exact).square().mean().sqrt()) < 2e-5


@pytest.mark.parametrize("n", [1, 257, 5000])
@pytest.mark.parametrize("n_bins", [2, 10])
@pytest.mark.parametrize(("fast", "exact"), LOGIT_MAPS)
def test_their_gradients_are_those_of_float64(
    fast: SplineMap, exact: SplineMap, n_bins: int, n: int
) -> None:
    x, logits = points_and_logits(n, n_bins)
    of_x, of_logits = gradients(fast, (x, logits), of=(0, 1))
    exact_x, exact_logits = gradients(exact, (x.double(), logits.double()), of=(0, 1))
    check_close(of_x, exact_x, rtol=5e-4)
    for got, expected in zip(
        of_logits.tensor_split([n_bins, 2 * n_bins]),
        exact_logits.tensor_split([n_bins, 2 * n_bins]),
        strict=True,
    ):
        check_close(got, expected, rtol=5e-4)


@pytest.mark.parametrize("n", [0, 1, 255, 5000])
@pytest.mark.parametrize("n_bins", [1, 2, 7, 128])
@pytest.mark.parametrize(("fast", "exact"), TABLE_MAPS)
def test_compiled_splines_of_tables_are_those_of_torch(
    fast: SplineMap, exact: SplineMap, n_bins: int, n: int
) -> None:
    inputs = tables(n, n_bins=n_bins)
    y, log_slope = fast(*inputs)
    y_exact, log_slope_exact = exact(*inputs)
    torch.testing.assert_close(y, y_exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_slope, log_slope_exact, rtol=0, atol=1e-6)
    for got, expected in zip(
        gradients(fast, inputs, of=(0, 3, 4)), gradients(exact, inputs, of=(0, 3, 4)), strict=True
    ):
        check_close(got, expected, rtol=1e-6)


@pytest.mark.parametrize(("fast", "exact"), LOGIT_MAPS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_the_ends_of_the_interval_are_points_like_others(
    fast: SplineMap, exact: SplineMap, scale: float
) -> None:
    _, logits = points_and_logits(1001, scale=scale)
    tiny = torch.finfo(torch.float32).tiny
    ends = torch.tensor([0.0, tiny, 1e-20, 1e-8, 1 - 2**-24, 1 - 2**-23, 1.0]).repeat(143)
    y, log_slope = fast(ends, logits)
    y_exact, log_slope_exact = exact(ends.double(), logits.double())
    assert bool(((y >= 0) & (y < 1)).all())
    assert bool((y[ends > 1e-30] > 0).all())
    assert bool(log_slope.isfinite().all())
    if scale <= 1:  # beyond, a float32 next to 1 is another point
        torch.testing.assert_close(y.double(), y_exact, rtol=0, atol=1e-5)
        torch.testing.assert_close(log_slope.double(), log_slope_exact, rtol=0, atol=2e-3)
    of_x, of_logits = gradients(fast, (ends, logits), of=(0, 1))
    assert bool(of_x.isfinite().all())
    assert bool(of_logits.isfinite().all())


@pytest.mark.parametrize(("fast", "exact"), LOGIT_MAPS)
def test_what_is_not_a_number_never_comes_out_as_one(fast: SplineMap, exact: SplineMap) -> None:
    n_bins = 10
    for bad in (torch.nan, torch.inf):
        x, logits = points_and_logits(31 * 20, n_bins)
        which = torch.arange(31 * 20) % 31
        logits[which, torch.arange(31 * 20)] = bad
        _, log_slope = fast(x, logits)
        sizes = which < 2 * n_bins
        assert bool(log_slope[sizes].isnan().all())
        # The slopes of other bins do not matter, here as in torch.
        unknown = ~exact(x.double(), logits.double())[1].isfinite()
        assert int(unknown[~sizes].sum()) > 10
        assert not bool(log_slope[unknown].isfinite().any())
    x, logits = points_and_logits(100)
    assert bool(fast(torch.full_like(x, torch.nan), logits)[1].isnan().all())


@pytest.mark.parametrize(("fast", "exact"), TABLE_MAPS)
def test_nor_does_it_from_a_table(fast: SplineMap, exact: SplineMap) -> None:
    x, which, xs, ys, slopes = tables(100)
    for bad in (
        (torch.full_like(x, torch.nan), which, xs, ys, slopes),
        (x, which, xs, torch.full_like(ys, torch.nan), slopes),
        (x, which, xs, ys, torch.full_like(slopes, torch.nan)),
    ):
        assert bool(fast(*bad)[1].isnan().all())


def test_inputs_may_lie_in_memory_as_they_like() -> None:
    x, logits = points_and_logits(1000)
    expected = compiled_splines.spline(x, logits)
    scattered = compiled_splines.spline(x.repeat_interleave(2)[::2], logits.T.contiguous().T)
    for got, same in zip(scattered, expected, strict=True):
        assert torch.equal(got, same)


def test_gradients_need_not_lie_in_order_either() -> None:
    x, logits = points_and_logits(100)
    logits.requires_grad_()
    y, log_slope = compiled_splines.spline(x, logits)
    (expected,) = torch.autograd.grad((y + log_slope).sum(), logits)  # expanded, stride 0
    y, log_slope = compiled_splines.spline(x, logits)
    (got,) = torch.autograd.grad((y + log_slope) @ torch.ones(100), logits)
    torch.testing.assert_close(got, expected)


def test_other_precisions_and_the_switch_lead_to_torch() -> None:
    x, logits = points_and_logits(500)
    double = x.double(), logits.double()
    for got, same in zip(compiled_splines.spline(*double), splines.spline(*double), strict=True):
        assert torch.equal(got, same)
    with compiled_splines.only_torch():
        through_torch = compiled_splines.spline(x, logits)
    for got, same in zip(through_torch, splines.spline(x, logits), strict=True):
        assert torch.equal(got, same)
    assert not torch.equal(compiled_splines.spline(x, logits)[1], through_torch[1])


def test_exp_log_and_their_relatives_are_good_to_float32() -> None:
    from mlgen.samplers import kernels

    x = -torch.logspace(-30, 1.93, 4000, dtype=torch.float64).float()
    np_x = x.numpy()
    for kernel, exact, points in (
        (kernels.exp, torch.exp, np_x),
        (kernels.log, torch.log, (-x).exp().reciprocal().numpy()[::-1]),
        (kernels.softplus, torch.nn.functional.softplus, np_x),
        (kernels.softplus, torch.nn.functional.softplus, -np_x),
        (kernels.sigmoid, torch.sigmoid, np_x),
        (kernels.sigmoid, torch.sigmoid, -np_x),
    ):
        got = torch.tensor([float(kernel(point)) for point in points], dtype=torch.float64)
        torch.testing.assert_close(
            got, exact(torch.tensor(points.copy(), dtype=torch.float64)), rtol=1e-6, atol=1e-37
        )


def test_importing_samplers_does_not_import_numba() -> None:
    code = "import sys, mlgen.samplers.flow; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
