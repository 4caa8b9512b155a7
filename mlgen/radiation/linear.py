"""Linear layers, with fixed weights or with distributions of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRIOR_STD = 1.0
"""Of a weight, times 1 / sqrt(n_in): that which weights start with."""
FIRST_STD = 1e-2
"""Of a weight, likewise."""


class Linear(nn.Module):
    """y = W x + b, W at random with variance scale² / n_in, b = 0."""

    def __init__(self, n_in: int, n_out: int, rng: torch.Generator, scale: float = 1.0) -> None:
        super().__init__()
        weight = torch.randn(n_out, n_in, generator=rng) * (scale / math.sqrt(n_in))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class VariationalLinear(Linear):
    """Each weight is normal with its own standard deviation, which training learns.

    In training, the sums are drawn rather than weights (arXiv:1506.02557); else weights are their means.
    """

    def __init__(self, n_in: int, n_out: int, rng: torch.Generator, scale: float = 1.0) -> None:
        super().__init__(n_in, n_out, rng, scale)
        first = math.log(FIRST_STD / math.sqrt(n_in))
        self.log_std = nn.Parameter(torch.full_like(self.weight, first))
        self._noise = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=rng)))

    def forward(self, x: Tensor) -> Tensor:
        mean = super().forward(x)
        if not self.training:
            return mean
        std = F.linear(x.square(), (2 * self.log_std).exp()).clamp(min=1e-16).sqrt()
        return mean + std * torch.randn(mean.shape, generator=self._noise)

    def divergence(self) -> Tensor:
        """KL of the weights' distribution from its prior, a scalar."""
        prior = PRIOR_STD / math.sqrt(self.weight.shape[1])
        log_ratio = self.log_std - math.log(prior)
        squares = (2 * log_ratio).exp() + (self.weight / prior).square()
        return (0.5 * squares - log_ratio - 0.5).sum()


def linear(
    n_in: int, n_out: int, rng: torch.Generator, scale: float = 1.0, variational: bool = False
) -> Linear:
    """A layer of either kind."""
    kind = VariationalLinear if variational else Linear
    return kind(n_in, n_out, rng, scale)
