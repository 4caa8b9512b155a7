"""Grids and integrands that several tests of samplers share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlgen.core import Sampler, TrainingBatch
from mlgen.samplers.vegas import VegasGrid


def random_grid(n_channels: int, n_dim: int, seed: int, n_bins: int = 64) -> VegasGrid:
    """Bins whose widths differ by up to a factor of 2, in a sequence without pattern."""
    rng = torch.Generator().manual_seed(seed)
    width = 1 + torch.rand(n_channels, n_dim, n_bins, generator=rng, dtype=torch.float64)
    edges = torch.nn.functional.pad(width.cumsum(dim=-1), (1, 0))
    return VegasGrid(edges / edges[..., -1:])


def gaussians(r: Tensor, centre: float = 0.4, width: float = 0.1) -> Tensor:
    """A product of Gaussians, one for each dimension: what a grid is made for."""
    return torch.exp(-(r - centre).square().sum(dim=1) / (2 * width**2))


def gaussians_integral(n_dim: int, centre: float = 0.4, width: float = 0.1) -> float:
    scale = width * math.sqrt(2)
    erfs = math.erf((1 - centre) / scale) + math.erf(centre / scale)
    return (scale * math.sqrt(math.pi) / 2 * erfs) ** n_dim


def ridge(r: Tensor) -> Tensor:
    """A tube round the main diagonal, which no product of densities describes."""
    return torch.exp(-(r - r.mean(dim=1, keepdim=True)).square().sum(dim=1) / (2 * 0.1**2))


def batch_of(r: Tensor, channel: Tensor, value: Tensor, log_q: Tensor) -> TrainingBatch:
    fraction = torch.ones_like(value)
    return TrainingBatch(r=r, channel=channel, value=value, log_q=log_q, fraction=fraction)


def effective_sample_size(weight: Tensor) -> float:
    """ESS of weights as a part of their number: 1 where all are the same."""
    return float(weight.mean().square() / weight.square().mean())


@torch.no_grad()
def drawn(sampler: Sampler, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points r, an equal number in each channel, their channels and their log_q."""
    channel = torch.arange(n) % sampler.n_channels
    r, log_q = sampler.sample(channel, torch.Generator().manual_seed(seed))
    return r, channel, log_q
