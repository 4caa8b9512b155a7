from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mlgen.errors import MlgenError, NonFiniteWeight
from mlgen.samplers.vegas import MIN_WIDTH, VegasGrid
from tests.laws import check_density_is_normalised, check_sampler_is_a_map
from tests.samplers.targets import (
    batch_of,
    drawn,
    effective_sample_size,
    gaussians,
    gaussians_integral,
    random_grid,
)


def adapted(n_dim: int, n_channels: int = 1, n_iterations: int = 8) -> VegasGrid:
    grid = VegasGrid.uniform(n_channels, n_dim, n_bins=64)
    for iteration in range(n_iterations):
        r, channel, log_q = drawn(grid, 20_000, seed=iteration)
        batch = batch_of(r, channel, gaussians(r), log_q)
        grid = grid.refined(grid.statistics(batch), damping=0.7)
    return grid


@pytest.mark.parametrize("n_dim", [1, 2, 5, 7])
def test_a_grid_is_a_map(n_dim: int) -> None:
    check_sampler_is_a_map(VegasGrid.uniform(2, n_dim, n_bins=10), seed=1)
    check_sampler_is_a_map(random_grid(3, n_dim, seed=2), seed=3)
    check_sampler_is_a_map(adapted(n_dim), seed=4)


@pytest.mark.parametrize("n_dim", [1, 2, 5])
def test_the_density_of_a_grid_is_normalised(n_dim: int) -> None:
    check_density_is_normalised(random_grid(3, n_dim, seed=2), channel_index=1, seed=3)
    check_density_is_normalised(adapted(min(n_dim, 2)), channel_index=0, seed=4)


def test_a_uniform_grid_leaves_points_where_they_are() -> None:
    u = torch.rand(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    r, log_jac = VegasGrid.uniform(1, 3, n_bins=64).forward(u, torch.zeros(100, dtype=torch.int64))
    torch.testing.assert_close(r, u, rtol=0, atol=1e-15)
    torch.testing.assert_close(log_jac, torch.zeros_like(log_jac), rtol=0, atol=1e-12)


def test_the_corners_of_the_cube_stay_and_their_densities_are_finite() -> None:
    grid = random_grid(2, 3, seed=1)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    channel = torch.arange(8) % 2
    r, log_jac = grid.forward(corners, channel)
    u, log_q = grid.inverse(corners, channel)
    assert torch.equal(r, corners)
    assert torch.equal(u, corners)
    assert bool(log_jac.isfinite().all() & log_q.isfinite().all())


def test_channels_mixed_in_one_call_are_the_channels_one_by_one() -> None:
    grid = random_grid(5, 4, seed=1)
    rng = torch.Generator().manual_seed(2)
    u = torch.rand(500, 4, generator=rng, dtype=torch.float64)
    channel = torch.randint(0, 5, (500,), generator=rng)
    r, log_jac = grid.forward(u, channel)
    for index in range(5):
        alone = VegasGrid(grid.edges[index : index + 1])
        there = channel == index
        r_alone, log_jac_alone = alone.forward(u[there], torch.zeros_like(channel[there]))
        assert torch.equal(r[there], r_alone)
        assert torch.equal(log_jac[there], log_jac_alone)


@pytest.mark.parametrize("n_bins", [2, 3, 10, 64, 100])
def test_the_bin_of_a_point_is_the_one_that_a_search_finds(n_bins: int) -> None:
    grid = random_grid(1, 1, seed=1, n_bins=n_bins)
    edges = grid.edges[0, 0]
    r = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    r = torch.cat([r, edges])
    u, _ = grid.inverse(r[:, None], torch.zeros(len(r), dtype=torch.int64))
    expected = torch.searchsorted(edges[1:-1].contiguous(), r, right=True)
    inside = (r - edges[expected]) / (edges[expected + 1] - edges[expected])
    torch.testing.assert_close(u[:, 0], (expected + inside) / n_bins, rtol=0, atol=1e-14)


def test_no_points_are_no_trouble() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    r, log_q = VegasGrid.uniform(1, 3, n_bins=4).sample(none, torch.Generator())
    assert r.shape == (0, 3)
    assert log_q.shape == (0,)


@pytest.mark.parametrize("n_dim", [1, 4])
def test_an_adapted_grid_integrates_a_product_of_gaussians(n_dim: int) -> None:
    grid = adapted(n_dim)
    exact = gaussians_integral(n_dim)
    r, _, log_q = drawn(grid, 100_000, seed=99)
    weight = gaussians(r) * (-log_q).exp()
    mean, error = float(weight.mean()), float(weight.std()) / len(weight) ** 0.5
    assert error < 2e-3 * exact
    assert abs(mean - exact) < 5 * error, f"pull {(mean - exact) / error:.1f}"
    # The same test notices when 1 % is missing.
    assert abs(0.99 * mean - exact) > 5 * error
    uniform = gaussians(torch.rand(100_000, n_dim, dtype=torch.float64, generator=_rng()))
    assert float(weight.var()) < 0.05 * float(uniform.var())


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(17)


def test_refinement_is_that_of_the_vegas_package() -> None:
    vegas = pytest.importorskip("vegas", reason="an extra: pip install 'mlgen-hep[compare]'")
    n_bins, n_dim, n = 16, 2, 3200
    grid = random_grid(1, n_dim, seed=1, n_bins=n_bins)
    # Equal numbers in all bins: vegas divides by the number, mlgen by its expectation.
    rows = torch.stack([torch.randperm(n, generator=_rng()) for _ in range(n_dim)], dim=1)
    u = (rows + torch.rand(n, n_dim, generator=_rng(), dtype=torch.float64)) / n
    channel = torch.zeros(n, dtype=torch.int64)
    r, log_jac = grid.forward(u, channel)
    value = gaussians(r)
    ours = grid.refined(grid.statistics(batch_of(r, channel, value, -log_jac)), damping=0.7)

    theirs = vegas.AdaptiveMap(grid.edges[0].tolist())
    x, jacobian = np.empty((n, n_dim)), np.empty(n)
    theirs.map(u.numpy(), x, jacobian)
    np.testing.assert_allclose(r.numpy(), x, rtol=0, atol=1e-14)
    np.testing.assert_allclose(log_jac.numpy(), np.log(jacobian), rtol=0, atol=1e-12)
    theirs.add_training_data(u.numpy(), (jacobian * value.numpy()) ** 2)
    theirs.adapt(alpha=0.7)
    np.testing.assert_allclose(ours.edges[0].numpy(), np.array(theirs.grid), rtol=0, atol=2e-9)


def test_points_of_another_density_refine_the_grid_as_well() -> None:
    grid = random_grid(1, 2, seed=1, n_bins=16)
    refined = []
    for source in (grid, VegasGrid.uniform(1, 2, n_bins=16)):
        r, channel, log_q = drawn(source, 400_000, seed=5)
        statistics = grid.statistics(batch_of(r, channel, gaussians(r), log_q))
        refined.append(grid.refined(statistics, damping=0.7).edges)
    torch.testing.assert_close(refined[0], refined[1], rtol=0, atol=2e-3)
    # As if they were points of the grid, which they are not.
    wrong = grid.statistics(batch_of(r, channel, gaussians(r), grid.log_prob(r, channel)))
    assert float((grid.refined(wrong, damping=0.7).edges - refined[0]).abs().max()) > 2e-3


def test_statistics_of_parts_add_up_to_those_of_the_whole() -> None:
    grid = random_grid(2, 3, seed=1)
    r, channel, log_q = drawn(grid, 1000, seed=2)
    batch = batch_of(r, channel, gaussians(r), log_q)
    first, rest = torch.arange(300), torch.arange(300, 1000)
    parts = grid.statistics(batch.select(first)) + grid.statistics(batch.select(rest))
    torch.testing.assert_close(parts.squares, grid.statistics(batch).squares)


def test_a_channel_without_points_keeps_its_grid() -> None:
    grid = random_grid(3, 2, seed=1)
    r, log_q = grid.sample(torch.full((1000,), 1), torch.Generator().manual_seed(2))
    batch = batch_of(r, torch.full((1000,), 1), gaussians(r), log_q)
    refined = grid.refined(grid.statistics(batch), damping=0.7)
    assert torch.equal(refined.edges[[0, 2]], grid.edges[[0, 2]])
    assert not torch.equal(refined.edges[1], grid.edges[1])


def test_without_damping_power_a_grid_stays_as_it_is() -> None:
    grid = random_grid(1, 2, seed=1)
    r, channel, log_q = drawn(grid, 1000, seed=2)
    refined = grid.refined(grid.statistics(batch_of(r, channel, gaussians(r), log_q)), damping=0)
    torch.testing.assert_close(refined.edges, grid.edges, rtol=0, atol=2e-8)


def test_signs_of_the_integrand_do_not_matter() -> None:
    grid = random_grid(1, 2, seed=1)
    r, channel, log_q = drawn(grid, 1000, seed=2)
    plus = grid.statistics(batch_of(r, channel, gaussians(r), log_q))
    minus = grid.statistics(batch_of(r, channel, -gaussians(r), log_q))
    assert torch.equal(plus.squares, minus.squares)


def test_a_spike_never_closes_a_bin() -> None:
    grid = VegasGrid.uniform(1, 1, n_bins=8)
    for iteration in range(60):
        r, channel, log_q = drawn(grid, 2000, seed=iteration)
        spike = ((r[:, 0] - 0.3).abs() < 1e-12).to(torch.float64) + gaussians(r, 0.3, 1e-11)
        spike = torch.where(spike.sum() > 0, spike, gaussians(r, 0.3, 0.01))
        grid = grid.refined(grid.statistics(batch_of(r, channel, spike, log_q)), damping=2.0)
    assert float(grid.edges.diff().min()) >= 0.9 * MIN_WIDTH
    check_sampler_is_a_map(grid, seed=1, tolerance=1e-5)


def test_more_refinement_brings_a_larger_effective_sample_size() -> None:
    sizes = []
    for n_iterations in (0, 2, 8):
        r, _, log_q = drawn(adapted(3, n_iterations=n_iterations), 50_000, seed=7)
        sizes.append(effective_sample_size(gaussians(r) * (-log_q).exp()))
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] > 0.9


@pytest.mark.parametrize(
    "edges",
    [
        [0.0, 0.5, 0.5, 1.0],
        [0.0, 0.6, 0.5, 1.0],
        [0.1, 0.5, 1.0],
        [0.0, 0.5, 0.9],
        [0.0, float("nan"), 1.0],
    ],
)
def test_edges_that_make_no_map_are_refused(edges: list[float]) -> None:
    with pytest.raises(MlgenError, match="edges of a VEGAS grid: expected to increase from 0 to 1"):
        VegasGrid(torch.tensor(edges, dtype=torch.float64)[None, None])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_does_not_enter_the_grid(wrong: float) -> None:
    grid = VegasGrid.uniform(1, 2, n_bins=4)
    r, channel, log_q = drawn(grid, 10, seed=1)
    value: Tensor = gaussians(r)
    value[3] = wrong
    with pytest.raises(NonFiniteWeight, match="statistics of a VEGAS grid"):
        grid.refined(grid.statistics(batch_of(r, channel, value, log_q)), damping=0.7)
