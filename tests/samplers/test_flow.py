from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import normflows
import pytest
import torch
from torch import Tensor

from mlgen.cards import FlowCard
from mlgen.samplers.compiled_splines import only_torch
from mlgen.samplers.flow import TILE, CouplingFlow, SplineCoupling, coupling_masks
from mlgen.samplers.vegas import VegasGrid
from tests.laws import check_density_is_normalised, check_sampler_is_a_map
from tests.samplers.targets import (
    batch_of,
    drawn,
    effective_sample_size,
    gaussians,
    random_grid,
    ridge,
)

SMALL = FlowCard(n_bins=6, n_hidden=16)


def fresh(grid: VegasGrid, settings: FlowCard = SMALL, seed: int = 1) -> CouplingFlow:
    return CouplingFlow(grid, settings, torch.Generator().manual_seed(seed))


def randomised(n_dim: int, n_channels: int = 3, seed: int = 1) -> CouplingFlow:
    """A flow with all its weights away from where they start."""
    flow = fresh(random_grid(n_channels, n_dim, seed), seed=seed)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
            parameter.add_(noise, alpha=0.1)
    return flow


@pytest.mark.parametrize("n_dim", [1, 2, 5, 7])
def test_a_flow_is_a_map(n_dim: int) -> None:
    check_sampler_is_a_map(fresh(random_grid(2, n_dim, seed=1)).double(), seed=2)
    check_sampler_is_a_map(randomised(n_dim).double(), seed=3)


@pytest.fixture(params=["torch", "compiled"])
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test with the splines of torch, and with the compiled ones."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        yield
    else:
        with only_torch():
            yield


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("n_dim", [1, 2, 5, 7])
def test_a_flow_of_float32_networks_is_the_float64_one_up_to_rounding(n_dim: int) -> None:
    flow = randomised(n_dim)
    exact = deepcopy(flow).double()
    u = torch.rand(2000, n_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    channel = torch.arange(2000) % 3
    with torch.no_grad():
        r, log_jac = flow.forward(u, channel)
        u_back, log_q = flow.inverse(r, channel)
        r_exact, _ = exact.forward(u, channel)
        log_q_exact = exact.log_prob(r, channel)
    torch.testing.assert_close(r, r_exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(u_back, u, rtol=0, atol=1e-5)
    for computed in (log_q, -log_jac):
        error = computed - log_q_exact
        assert float(error.abs().max()) < 5e-4
        assert float(error.square().mean().sqrt()) < 2e-5
    # Each of the two precisions really was at work.
    assert float((r - r_exact).abs().max()) > 1e-9


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("n", [0, 1, 255, 257, 600])
def test_whole_blocks_are_their_networks_and_splines_one_by_one(
    n: int, n_channels: int, n_layers: int
) -> None:
    pytest.importorskip("numba")
    settings = FlowCard(n_bins=7, n_hidden=20, n_layers=n_layers)
    flow = fresh(random_grid(n_channels, 5, seed=1), settings)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(n))
    u = torch.rand(n, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    channel = torch.arange(n) % n_channels
    for direction in (flow.forward, flow.inverse):
        with torch.no_grad():
            at_once, log_at_once = direction(u, channel)
        stepwise, log_stepwise = direction(u, channel)
        torch.testing.assert_close(at_once, stepwise.detach(), rtol=0, atol=1e-5)
        torch.testing.assert_close(log_at_once, log_stepwise.detach(), rtol=0, atol=1e-3)


def test_a_network_that_is_not_a_number_makes_no_points() -> None:
    flow = randomised(4)
    with torch.no_grad():
        next(flow.parameters()).fill_(torch.nan)
        u = torch.rand(300, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        for direction in (flow.forward, flow.inverse):
            _, log_det = direction(u, torch.arange(300) % 3)
            assert bool(log_det.isnan().all())


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("n_dim", [1, 3, 6])
def test_a_flow_of_float32_networks_is_a_map(n_dim: int) -> None:
    check_sampler_is_a_map(randomised(n_dim), seed=2, tolerance=1e-5)


def test_the_law_notices_a_log_det_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    inverse = SplineCoupling.inverse

    def wrong(self: SplineCoupling, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        moved, log_det = inverse(self, z, context)
        return moved, log_det + 1e-2 * z[:, 0]

    monkeypatch.setattr(SplineCoupling, "inverse", wrong)
    with pytest.raises(AssertionError):
        check_sampler_is_a_map(randomised(2), seed=1, tolerance=1e-5)


@pytest.mark.parametrize("n_dim", [1, 2, 5, 7])
def test_the_density_of_a_flow_is_normalised(n_dim: int) -> None:
    check_density_is_normalised(randomised(n_dim), channel_index=1, seed=2)


@pytest.mark.usefixtures("path")
def test_the_corners_of_the_cube_stay_and_their_densities_are_finite() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    channel = torch.arange(8) % 2
    for flow, tolerance in ((randomised(3), 1e-6), (randomised(3).double(), 1e-12)):
        r, log_jac = flow.forward(corners, channel)
        u, log_q = flow.inverse(corners, channel)
        torch.testing.assert_close(r, corners, rtol=0, atol=tolerance)
        torch.testing.assert_close(u, corners, rtol=0, atol=tolerance)
        assert bool(((r >= 0) & (r < 1)).all())
        assert bool(log_jac.isfinite().all() & log_q.isfinite().all())


@pytest.mark.usefixtures("path")
def test_points_next_to_the_faces_of_the_cube_keep_to_its_inside() -> None:
    flow = randomised(4)
    tiny = torch.finfo(torch.float64).eps / 2
    near = torch.tensor([tiny, 1e-12, 1e-7, 0.5, 1 - 1e-7, 1 - 1e-12, 1 - tiny])
    u = torch.cartesian_prod(*[near.to(torch.float64)] * 4)
    channel = torch.arange(len(u)) % 3
    with torch.no_grad():
        r, log_jac = flow.forward(u, channel)
        r_exact, log_jac_exact = deepcopy(flow).double().forward(u, channel)
    assert bool(((r > 0) & (r < 1)).all())
    torch.testing.assert_close(r, r_exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_jac, log_jac_exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("n_dim", range(2, 18))
def test_each_dimension_sees_each_other_one_in_the_fewest_blocks(n_dim: int) -> None:
    masks = coupling_masks(n_dim)
    assert len(masks) == 2 * math.ceil(math.log2(n_dim))
    sees = torch.eye(n_dim, dtype=torch.bool)
    for moved in masks:
        sees |= moved[:, None] & ~moved
        assert n_dim // 2 <= int(moved.sum()) <= (n_dim + 1) // 2
    assert bool(sees.all())


def test_a_card_may_ask_for_more_or_fewer_blocks() -> None:
    assert torch.equal(coupling_masks(4, n_blocks=2), coupling_masks(4)[:2])
    assert torch.equal(coupling_masks(4, n_blocks=6)[4:], coupling_masks(4)[:2])
    assert len(fresh(random_grid(1, 4, seed=1), FlowCard(n_blocks=3)).layers) == 3 + 1


def test_a_single_dimension_has_one_block_that_moves_it() -> None:
    assert coupling_masks(1).tolist() == [[True]]


def test_channels_mixed_in_one_call_are_the_channels_one_by_one() -> None:
    flow = randomised(4)
    u = torch.rand(300, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    channel = torch.arange(300) % 3
    with torch.no_grad():
        r, log_jac = flow.forward(u, channel)
        for index in range(3):
            there = channel == index
            r_alone, log_jac_alone = flow.forward(u[there], channel[there])
            torch.testing.assert_close(r[there], r_alone, rtol=0, atol=1e-6)
            torch.testing.assert_close(log_jac[there], log_jac_alone, rtol=0, atol=1e-5)
    assert float((r[:-1] - r[1:]).abs().max()) > 0.1  # the channels do differ


def test_points_come_out_alike_in_tiles_and_at_once() -> None:
    flow = randomised(3)
    n = 2 * TILE + 5
    u = torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    channel = torch.arange(n) % 3
    r, log_jac = flow.forward(u, channel)
    with torch.no_grad():
        r_tiled, log_jac_tiled = flow.forward(u, channel)
    # The networks round differently in batches of another size.
    torch.testing.assert_close(r_tiled, r, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_jac_tiled, log_jac, rtol=0, atol=1e-4)


def test_no_points_are_no_trouble() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    r, log_q = randomised(3).sample(none, torch.Generator())
    assert r.shape == (0, 3)
    assert log_q.shape == (0,)


def test_a_flow_starts_with_the_density_of_its_grid() -> None:
    grid = VegasGrid.uniform(2, 3, n_bins=64)
    for iteration in range(8):
        r, channel, log_q = drawn(grid, 20_000, seed=iteration)
        value = gaussians(r, centre=0.4, width=0.1) + 0.01 / (r[:, 0] + 0.01)
        statistics = grid.statistics(batch_of(r, channel, value, log_q))
        grid = grid.refined(statistics, damping=0.7)
    r, channel, log_q = drawn(grid, 50_000, seed=99)
    log_q_flow = fresh(grid).log_prob(r, channel).detach()
    ratio = (log_q_flow - log_q).exp()
    assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / len(ratio) ** 0.5
    assert effective_sample_size(ratio) > 0.98
    # The density is smooth where the grid's is a step function, so they do differ.
    assert effective_sample_size(ratio) < 0.9999
    uniform = (-log_q).exp()
    assert effective_sample_size(uniform) < 0.5


def test_a_flow_from_a_uniform_grid_starts_as_the_identity() -> None:
    r, _, log_q = drawn(fresh(VegasGrid.uniform(1, 4, n_bins=32)), 1000, seed=1)
    u = torch.rand(1000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(r, u, rtol=0, atol=1e-6)
    torch.testing.assert_close(log_q, torch.zeros_like(log_q), rtol=0, atol=1e-4)


def trained_on_ridge(n_dim: int, n_steps: int) -> CouplingFlow:
    flow = fresh(VegasGrid.uniform(1, n_dim, n_bins=64), FlowCard(n_hidden=32))
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for step in range(n_steps):
        r, channel, log_q = drawn(flow, 1024, seed=step)
        weight = ridge(r) * (-log_q).exp()
        loss = -(weight * flow.log_prob(r, channel)).mean() / weight.mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return flow


def test_training_makes_a_flow_better_than_any_grid_where_dimensions_correlate() -> None:
    flow = trained_on_ridge(n_dim=3, n_steps=150)
    r, _, log_q = drawn(flow, 50_000, seed=999)
    weight = ridge(r) * (-log_q).exp()
    # The ridge is nearly uniform in each dimension alone: a grid can do no better than that.
    uniform = torch.rand(50_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert effective_sample_size(ridge(uniform)) < 0.2
    assert effective_sample_size(weight) > 0.85
    # What it learned did not cost it its norm: both integrals agree.
    mean, error = float(weight.mean()), float(weight.std()) / 50_000**0.5
    mean_uniform = float(ridge(uniform).mean())
    error_uniform = float(ridge(uniform).std()) / 50_000**0.5
    assert error < 0.2 * error_uniform
    assert error_uniform < 0.02 * mean_uniform
    assert abs(mean - mean_uniform) < 5 * math.hypot(error, error_uniform)


def test_each_channel_learns_its_own_density() -> None:
    flow = fresh(VegasGrid.uniform(2, 2, n_bins=32), FlowCard(n_hidden=32))
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)

    def value(r: Tensor, channel: Tensor) -> Tensor:
        second = torch.where(channel == 0, r[:, 1], 1 - r[:, 1])
        return torch.exp(-(r[:, 0] - second).square() / 0.02)

    for step in range(150):
        r, channel, log_q = drawn(flow, 1024, seed=step)
        weight = value(r, channel) * (-log_q).exp()
        loss = -(weight * flow.log_prob(r, channel)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    r, channel, log_q = drawn(flow, 50_000, seed=999)
    weight = value(r, channel) * (-log_q).exp()
    for index in range(2):
        assert effective_sample_size(weight[channel == index]) > 0.9
    # The other channel's density would be a poor one.
    swapped = value(r, 1 - channel) * (-log_q).exp()
    assert effective_sample_size(swapped) < 0.5


def test_all_parameters_receive_a_gradient() -> None:
    flow = randomised(3)
    r, channel, _ = drawn(flow, 200, seed=1)
    flow.log_prob(r, channel).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 0, name


def test_points_in_float32_are_computed_in_float32() -> None:
    flow = randomised(3)
    r, channel, log_q = drawn(flow, 1000, seed=1)
    single = flow.log_prob(r.to(torch.float32), channel)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.to(torch.float64), log_q, rtol=0, atol=1e-3)


def test_first_weights_follow_from_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    grid = random_grid(1, 3, seed=1)
    one, same, other = (fresh(grid, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


class UnitCube(normflows.distributions.BaseDistribution):  # type: ignore[misc]  # normflows has no types
    # normflows 1.7.3: its own Uniform takes the NumPy logarithm of a tensor, and NumPy 2 warns.
    def log_prob(self, z: Tensor, context: Tensor) -> Tensor:
        return z.new_zeros(len(z))


def test_the_layers_are_flows_of_normflows() -> None:
    flow = randomised(3)
    theirs = normflows.ConditionalNormalizingFlow(UnitCube(), list(flow.layers))
    r, channel, log_q = drawn(flow, 500, seed=1)
    with torch.no_grad():
        log_prob_theirs = theirs.log_prob(r, channel)
    torch.testing.assert_close(log_prob_theirs, log_q, rtol=0, atol=1e-4)


class Exported(torch.nn.Module):
    """What a plugin exports: one direction of a flow."""

    def __init__(self, flow: CouplingFlow, inverse: bool) -> None:
        super().__init__()
        self.flow, self.inverse = flow, inverse

    def forward(self, points: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        return (self.flow.inverse if self.inverse else self.flow.forward)(points, channel)


@pytest.mark.filterwarnings("ignore")  # of the exporter's own, which change with its versions
@pytest.mark.parametrize("inverse", [False, True])
def test_a_flow_becomes_an_onnx_model_for_any_number_of_points(
    inverse: bool, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    exported = Exported(randomised(3).requires_grad_(False), inverse)
    channel = torch.arange(50) % 3
    points = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    n = torch.export.Dim("n")
    program = torch.onnx.export(
        exported, (points[:20], channel[:20]), dynamo=True, dynamic_shapes=({0: n}, {0: n})
    )
    assert program is not None
    program.save(tmp_path / "flow.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "flow.onnx")
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, dict(zip(names, (points.numpy(), channel.numpy()), strict=True)))
    with only_torch():
        moved, log_det = exported(points, channel)
    torch.testing.assert_close(torch.from_numpy(found[0]), moved, rtol=0, atol=2e-6)
    torch.testing.assert_close(torch.from_numpy(found[1]), log_det, rtol=0, atol=1e-4)


@pytest.mark.parametrize("inverse", [False, True])
def test_a_flow_can_be_exported_for_any_number_of_points(inverse: bool) -> None:
    exported = Exported(randomised(3).requires_grad_(False), inverse)
    channel = torch.arange(50) % 3
    points = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    n = torch.export.Dim("n", min=2, max=TILE)
    program = torch.export.export(
        exported, (points[:20], channel[:20]), dynamic_shapes=({0: n}, {0: n})
    )
    moved, log_det = program.module()(points, channel)
    with only_torch():
        expected, expected_log_det = exported(points, channel)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(log_det, expected_log_det, rtol=0, atol=1e-5)
    compiled, compiled_log_det = exported(points, channel)  # as a run had it
    torch.testing.assert_close(moved, compiled, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_det, compiled_log_det, rtol=0, atol=1e-3)
