from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mlgen.samplers import splines
from mlgen.samplers.compiled_splines import Block, couple, is_compiled, move_by_tables, only_torch

pytest.importorskip("numba")

N_DIM, N_KEPT = 3, 1


def block_of(n_bins: int, n_hidden: int, n_layers: int, n_channels: int) -> Block:
    kept, moved = np.arange(N_KEPT), np.arange(N_KEPT, N_DIM)
    return Block(kept, moved, n_channels, n_hidden, n_layers, 3 * n_bins + 1)


def parameters_of(block: Block, scale: float, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    rng = torch.Generator().manual_seed(1)
    sizes = [N_KEPT, *[block.n_hidden] * block.n_layers, block.n_outputs]
    parameters: list[Tensor] = []
    for n_in, n_out in pairwise(sizes):
        bias = (n_out, 1) if parameters else (block.n_channels, n_out)
        parameters.append(torch.randn(n_out, n_in, generator=rng) * scale / n_in**0.5)
        parameters.append(torch.randn(*bias, generator=rng) * scale)
    return [parameter.to(dtype).requires_grad_() for parameter in parameters]


def slow_block(
    columns: Tensor, channel: Tensor, block: Block, parameters: list[Tensor], inverse: bool
) -> tuple[Tensor, Tensor]:
    """A coupling block step by step, in the precision of its parameters."""
    rows = 2 * columns[:N_KEPT] - 1
    for layer, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        rows = weight @ (rows if layer == 0 else rows.relu()) + (bias if layer else bias[channel].T)
    spline = splines.spline_inverse if inverse else splines.spline
    before = columns[N_KEPT:]
    after, log_slope = spline(before.flatten(), rows.view(block.n_logits, -1))
    moved = torch.cat([columns[:N_KEPT], after.view_as(before)])
    return moved, log_slope.view_as(before).sum(dim=0)


def points(n: int, n_channels: int) -> tuple[Tensor, Tensor]:
    columns = torch.rand(N_DIM, n, generator=torch.Generator().manual_seed(n))
    return columns, torch.arange(n) % n_channels


def check_close(got: Tensor, exact: Tensor, rtol: float) -> None:
    """In the mean square over the numbers, relative to the largest ones."""
    assert got.shape == exact.shape
    assert float((got - exact).norm()) <= rtol * float(exact.norm())


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 3000])
@pytest.mark.parametrize(
    ("n_bins", "n_hidden", "n_layers", "n_channels"),
    [(10, 32, 2, 1), (10, 32, 2, 90), (1, 8, 1, 1), (2, 5, 3, 3), (7, 18, 2, 2), (16, 4, 1, 1)],
)
def test_compiled_blocks_are_those_of_float64(
    n_bins: int, n_hidden: int, n_layers: int, n_channels: int, n: int, inverse: bool
) -> None:
    block = block_of(n_bins, n_hidden, n_layers, n_channels)
    columns, channel = points(n, n_channels)
    with torch.no_grad():
        moved, log_det = couple(columns, channel, block, parameters_of(block, 0.5), inverse)
        exact, log_exact = slow_block(
            columns.double(), channel, block, parameters_of(block, 0.5, torch.float64), inverse
        )
    assert moved.dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(moved.double(), exact, rtol=0, atol=5e-5)
    torch.testing.assert_close(log_det.double(), log_exact, rtol=0, atol=1e-3)
    assert torch.equal(moved[:N_KEPT], columns[:N_KEPT])
    if n == 3000:
        assert float((moved - exact).square().mean().sqrt()) < 1e-6
        assert float((log_det - log_exact).square().mean().sqrt()) < 2e-5


@pytest.mark.parametrize("n", [1, 257, 3000])
@pytest.mark.parametrize(
    ("n_bins", "n_hidden", "n_layers", "n_channels"),
    [(10, 32, 2, 1), (10, 32, 2, 90), (2, 5, 3, 3), (7, 18, 1, 2)],
)
def test_their_gradients_are_those_of_float64(
    n_bins: int, n_hidden: int, n_layers: int, n_channels: int, n: int
) -> None:
    block = block_of(n_bins, n_hidden, n_layers, n_channels)
    columns, channel = points(n, n_channels)
    weights = torch.randn(N_DIM + 1, n, generator=torch.Generator().manual_seed(2))

    def gradients(dtype: torch.dtype) -> tuple[Tensor, ...]:
        given = columns.to(dtype).requires_grad_()
        parameters = parameters_of(block, 0.5, dtype)
        if dtype == torch.float32:
            moved, log_det = couple(given, channel, block, parameters, inverse=False)
        else:
            moved, log_det = slow_block(given, channel, block, parameters, inverse=False)
        loss = (weights[:-1] * moved).sum() + (weights[-1] * log_det).sum()
        return torch.autograd.grad(loss, [given, *parameters])

    for got, exact in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        check_close(got, exact, rtol=5e-4)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("scale", [0.0, 0.5, 10.0, 300.0])
def test_the_ends_of_the_interval_are_points_like_others(inverse: bool, scale: float) -> None:
    block = block_of(10, 16, 2, 1)
    tiny = torch.finfo(torch.float32).tiny
    ends = torch.tensor([0.0, tiny, 1e-20, 1e-8, 1 - 2**-24, 1 - 2**-23, 1.0])
    columns = torch.cartesian_prod(torch.linspace(0, 1, 40), ends, ends).T
    channel = torch.zeros(columns.shape[1], dtype=torch.int64)
    with torch.no_grad():
        moved, log_det = couple(columns, channel, block, parameters_of(block, scale), inverse)
        exact, log_exact = slow_block(
            columns.double(), channel, block, parameters_of(block, scale, torch.float64), inverse
        )
    inside = moved[N_KEPT:]
    assert bool(((inside >= 0) & (inside < 1)).all())
    assert bool((inside[columns[N_KEPT:] > 1e-30] > 0).all())
    assert bool(log_det.isfinite().all())
    if scale <= 0.5:  # beyond, a float32 next to 1 is another point
        torch.testing.assert_close(moved.double(), exact, rtol=0, atol=1e-5)
        torch.testing.assert_close(log_det.double(), log_exact, rtol=0, atol=2e-3)
    if not inverse:
        given = columns.clone().requires_grad_()
        parameters = parameters_of(block, scale)
        after, log_after = couple(given, channel, block, parameters, inverse=False)
        loss = after.sum() + log_after.sum()
        for gradient in torch.autograd.grad(loss, [given, *parameters]):
            assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_number_never_comes_out_as_one(bad: float, inverse: bool) -> None:
    block = block_of(10, 6, 2, 2)
    columns, channel = points(600, n_channels=2)
    with torch.no_grad():
        for index, parameter in enumerate(parameters := parameters_of(block, 0.5)):
            if index == 1:
                continue
            kept = parameter.clone()
            parameter.fill_(bad)
            assert not bool(
                couple(columns, channel, block, parameters, inverse)[1].isfinite().any()
            )
            parameter.copy_(kept)
        # One point, or one channel, does not spoil the others: not in its tile, nor in later ones.
        expected = couple(columns, channel, block, parameters, inverse)[1]
        spoilt = columns.clone()
        spoilt[:, 7] = bad
        log_det = couple(spoilt, channel, block, parameters, inverse)[1]
        assert not bool(log_det[7].isfinite())
        others = torch.arange(600) != 7
        assert torch.equal(log_det[others], expected[others])
        parameters[1][1].fill_(torch.nan)
        log_det = couple(columns, channel, block, parameters, inverse)[1]
        assert torch.equal(log_det[channel == 0], expected[channel == 0])
        assert bool(log_det[channel == 1].isnan().all())


def tables(n: int, n_channels: int = 3, n_bins: int = 12) -> tuple[Tensor, ...]:
    """Points and their channels, and xs, ys and slopes of the splines; some bins are tiny."""
    rng = torch.Generator().manual_seed(n)
    columns = torch.rand(N_DIM, n, generator=rng, dtype=torch.float64)
    channel = torch.randint(n_channels, (n,), generator=rng)
    logits = 4 * torch.randn(3, n_channels * N_DIM, n_bins, generator=rng, dtype=torch.float64)
    xs, ys = torch.nn.functional.pad(logits[:2].softmax(dim=-1).cumsum(dim=-1), (1, 0))
    slopes = torch.nn.functional.pad(0.1 * logits[2], (1, 0)).exp()
    return columns, channel, xs / xs[:, -1:], ys / ys[:, -1:], slopes


def slow_tables(
    columns: Tensor, channel: Tensor, of: tuple[Tensor, Tensor, Tensor], inverse: bool
) -> tuple[Tensor, Tensor]:
    which = channel * N_DIM + torch.arange(N_DIM)[:, None]
    spline = splines.table_spline_inverse if inverse else splines.table_spline
    moved, log_slope = spline(columns.flatten(), which.flatten(), *of)
    return moved.view_as(columns), log_slope.view_as(columns).sum(dim=0)


TableMap = Callable[[Tensor, Tensor, tuple[Tensor, Tensor, Tensor], bool], tuple[Tensor, Tensor]]


@pytest.mark.parametrize("n", [0, 1, 255, 3000])
@pytest.mark.parametrize("n_bins", [1, 2, 7, 128])
def test_compiled_tables_are_those_of_torch(n_bins: int, n: int) -> None:
    columns, channel, *of = tables(n, n_bins=n_bins)
    xs, ys, slopes = of
    with torch.no_grad():
        for inverse in (False, True):
            moved, log_det = move_by_tables(columns, channel, (xs, ys, slopes), inverse)
            exact, log_exact = slow_tables(columns, channel, (xs, ys, slopes), inverse)
            torch.testing.assert_close(moved, exact, rtol=0, atol=1e-9)
            torch.testing.assert_close(log_det, log_exact, rtol=0, atol=1e-6)

    def gradients(map_points: TableMap) -> tuple[Tensor, ...]:
        inputs = [tensor.clone().requires_grad_() for tensor in (columns, ys, slopes)]
        moved, log_det = map_points(inputs[0], channel, (xs, inputs[1], inputs[2]), False)
        numbers = torch.arange(n, dtype=torch.float64).cos()
        return torch.autograd.grad((numbers * (moved.sum(dim=0) + log_det)).sum(), inputs)

    for got, expected in zip(gradients(move_by_tables), gradients(slow_tables), strict=True):
        check_close(got, expected, rtol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_slopes_of_many_dimensions_neither_overflow_nor_underflow(inverse: bool) -> None:
    columns = torch.rand(20, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    knots = torch.tensor([[0.0, 1e-30, 1.0]], dtype=torch.float64).repeat(20, 1)
    even = torch.tensor([[0.0, 1.0 - 1e-10, 1.0]], dtype=torch.float64).repeat(20, 1)
    slopes = torch.full((20, 3), 1e-10, dtype=torch.float64)
    columns *= 1e-30 if not inverse else 1.0
    channel = torch.zeros(50, dtype=torch.int64)
    with torch.no_grad():
        _, log_det = move_by_tables(columns, channel, (knots, even, slopes), inverse)
    assert bool(log_det.isfinite().all())


@pytest.mark.parametrize("inverse", [False, True])
def test_nor_does_it_from_a_table(inverse: bool) -> None:
    columns, channel, xs, ys, slopes = tables(100)
    with torch.no_grad():
        for given, of in (
            (torch.full_like(columns, torch.nan), (xs, ys, slopes)),
            (columns, (xs, torch.full_like(ys, torch.nan), slopes)),
            (columns, (xs, ys, torch.full_like(slopes, torch.nan))),
        ):
            assert bool(move_by_tables(given, channel, of, inverse)[1].isnan().all())


def test_inputs_and_gradients_may_lie_in_memory_as_they_like() -> None:
    block = block_of(10, 16, 2, 1)
    parameters = parameters_of(block, 0.5)
    columns, channel = points(500, 1)
    scattered = columns.T.contiguous().T
    moved, log_det = couple(columns, channel, block, parameters, inverse=False)
    of = torch.autograd.grad(moved.sum() + log_det.sum(), parameters)  # expanded, stride 0
    moved_too, log_det_too = couple(scattered, channel, block, parameters, inverse=False)
    of_too = torch.autograd.grad(
        (moved_too.T @ torch.ones(N_DIM)).sum() + log_det_too @ torch.ones(500), parameters
    )
    assert torch.equal(moved, moved_too)
    assert torch.equal(log_det, log_det_too)
    for one, same in zip(of, of_too, strict=True):
        torch.testing.assert_close(one, same, rtol=1e-4, atol=1e-3)


def test_other_precisions_gradients_towards_r_and_the_switch_lead_to_torch() -> None:
    single, double = torch.rand(3, 5), torch.rand(3, 5, dtype=torch.float64)
    assert is_compiled(single, torch.float32, inverse=False)
    assert not is_compiled(single, torch.float32, inverse=True)
    with torch.no_grad():
        assert is_compiled(single, torch.float32, inverse=True)
        assert not is_compiled(double, torch.float32, inverse=True)
        assert not is_compiled(single.to("meta"), torch.float32, inverse=True)
        with only_torch():
            assert not is_compiled(single, torch.float32, inverse=True)


def test_exp_log_and_their_relatives_are_good_to_float32() -> None:
    from mlgen.samplers.kernels import elementary

    x = -torch.logspace(-30, 1.93, 4000, dtype=torch.float64).float()
    np_x = x.numpy()
    for kernel, exact, numbers in (
        (elementary.exp, torch.exp, np_x),
        (elementary.log, torch.log, (-x).exp().reciprocal().numpy()[::-1]),
        (elementary.softplus, torch.nn.functional.softplus, np_x),
        (elementary.softplus, torch.nn.functional.softplus, -np_x),
        (elementary.sigmoid, torch.sigmoid, np_x),
        (elementary.sigmoid, torch.sigmoid, -np_x),
    ):
        got = torch.tensor([float(kernel(number)) for number in numbers], dtype=torch.float64)
        torch.testing.assert_close(
            got, exact(torch.tensor(numbers.copy(), dtype=torch.float64)), rtol=1e-6, atol=1e-37
        )


def test_importing_samplers_does_not_import_numba() -> None:
    code = "import sys, mlgen.samplers.flow; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DRAW = """
import sys
{before}
import torch
from mlgen.cards import FlowCard
from mlgen.samplers.flow import CouplingFlow
from mlgen.samplers.vegas import VegasGrid
flow = CouplingFlow(VegasGrid.uniform(1, 3, 8), FlowCard(), torch.Generator().manual_seed(1))
with torch.no_grad():
    r, _ = flow.sample(torch.zeros(10, dtype=torch.int64), torch.Generator().manual_seed(1))
flow.log_prob(r, torch.zeros(10, dtype=torch.int64)).sum().backward()
{after}
"""


def run_python(code: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr


def test_without_numba_a_flow_draws_and_trains_as_well() -> None:
    blocked = "class Blocked:\n    def find_spec(self, name, *_):\n"
    blocked += "        if name == 'numba': raise ModuleNotFoundError(name)\n"
    blocked += "import importlib.util; find = importlib.util.find_spec\n"
    blocked += (
        "importlib.util.find_spec = lambda name, *_: None if name == 'numba' else find(name)\n"
    )
    blocked += "sys.meta_path.insert(0, Blocked())"
    run_python(DRAW.format(before=blocked, after="assert 'numba' not in sys.modules"))


KERNEL = """
import sys
from pathlib import Path
import mlgen.samplers.kernels.jit as jit
jit._stamp = lambda: sys.argv[1]
sys.path.insert(0, sys.argv[2])
from one import twice
assert twice(2.0) == 4.0
hits = sum(twice.stats.cache_hits.values())
assert hits == int(sys.argv[3]), hits
"""
ONE = "from mlgen.samplers.kernels.jit import kernel\n@kernel\ndef twice(x): return 2 * x\n"


def test_kernels_are_kept_on_disk_until_any_of_their_files_changes(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(ONE)
    for stamp, hits in (("first", "0"), ("first", "1"), ("second", "0")):
        command = [sys.executable, "-c", KERNEL, stamp, str(tmp_path), hits]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_where_no_folder_is_writable_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(ONE)
    nowhere = "from numba.core import caching\n"
    nowhere += "caching.FunctionCache._impl_class._locator_classes = []\n"
    command = [sys.executable, "-c", nowhere + KERNEL, "first", str(tmp_path), "0"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
