from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.flow_matching import ContinuousFlow, PaidPoints, Settings, Velocity, match
from mlgen.core import TrainingBatch
from mlgen.events.unweighting import effective_sample_size
from mlgen.samplers.vegas import VegasGrid
from tests.laws import check_density_is_normalised, check_sampler_is_a_map

N_DIM, N_CHANNELS = 3, 2


def _grid() -> VegasGrid:
    rng = torch.Generator().manual_seed(1)
    widths = 0.5 + torch.rand(N_CHANNELS, N_DIM, 8, generator=rng, dtype=torch.float64)
    edges = torch.nn.functional.pad((widths / widths.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
    edges[..., -1] = 1
    return VegasGrid(edges)


def _velocity(size: float) -> Velocity:
    rng = torch.Generator().manual_seed(2)
    velocity = Velocity(N_DIM, N_CHANNELS, width=16, rng=rng).double().requires_grad_(False)
    for parameter in (velocity.out, *velocity.of_channel):
        parameter.normal_(std=size, generator=rng)
    return velocity


def _tube(r: Tensor) -> Tensor:
    return torch.exp(-(r - r.mean(1, keepdim=True)).square().sum(1) / (2 * 0.2**2))


def test_a_continuous_flow_is_a_sampler() -> None:
    flow = ContinuousFlow(_velocity(0.3), _grid(), n_steps=16)
    check_sampler_is_a_map(flow, seed=3, tolerance=1e-5)
    check_density_is_normalised(
        ContinuousFlow(_velocity(0.3), _grid(), n_steps=2), channel_index=1, seed=4
    )


def test_before_it_learns_it_is_the_grid() -> None:
    flow = ContinuousFlow(_velocity(0.0), _grid())
    u = torch.rand(100, N_DIM, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    channel = torch.arange(100) % N_CHANNELS
    for got, expected in zip(flow.forward(u, channel), _grid().forward(u, channel), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)


def test_it_learns_from_weighted_points() -> None:
    rng = torch.Generator().manual_seed(6)
    r = torch.rand(20_000, N_DIM, generator=rng, dtype=torch.float64)
    channel = torch.zeros(len(r), dtype=torch.int64)
    ones = torch.ones(len(r), dtype=torch.float64)
    points = TrainingBatch(
        r=r, channel=channel, value=_tube(r), log_q=torch.zeros_like(ones), fraction=ones
    )
    grid = VegasGrid.uniform(1, N_DIM, 8)
    settings = Settings(width=32, matching_steps=300, student_steps=0)
    flow = match(PaidPoints([points]), grid, settings, seed=7)
    with torch.no_grad():
        drawn, log_q = flow.sample(channel[:4000], rng)
    weight = _tube(drawn) * (-log_q).exp()
    before = effective_sample_size(points.value)
    assert effective_sample_size(weight) > 1 - (1 - before) / 2
    error = float(weight.std()) / len(weight) ** 0.5
    assert abs(float(weight.mean() - points.value.mean())) < 5 * error
