"""Several small networks of one shape, evaluated together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ParallelMlp(nn.Module):
    """`n_members` perceptrons with SiLU, each with its own weights, as one batched matrix product.

    A layer is one tensor (n_members, n_in + 1, n_out), its biases the last row, so that an optimizer
    which knows matrices sees all of it.
    """

    def __init__(
        self, widths: Sequence[int], n_members: int, rng: torch.Generator, last_scale: float = 0.1
    ) -> None:
        """Start at random, without biases.

        Args:
            widths: of the input, of the hidden layers and of the output.
            last_scale: what the last layer is multiplied with, so that outputs start small.
        """
        super().__init__()
        self.n_members = n_members
        self.layers = nn.ParameterList()
        for n_in, n_out in itertools.pairwise(widths):
            layer = torch.zeros(n_members, n_in + 1, n_out)
            bound = math.sqrt(3 / n_in)
            layer[:, :-1].uniform_(-bound, bound, generator=rng)
            self.layers.append(nn.Parameter(layer))
        with torch.no_grad():
            self.layers[-1].mul_(last_scale)

    def forward(self, features: Tensor) -> Tensor:
        """The outputs (n_members, n, n_out) at features (n, n_in), the same for each member."""
        if torch.is_grad_enabled():
            return self._all_at_once(features)
        return torch.stack([self._member(features, k) for k in range(self.n_members)])

    def _all_at_once(self, features: Tensor) -> Tensor:
        hidden = features.expand(self.n_members, -1, -1)
        *inner, last = self.layers
        for layer in inner:
            hidden = F.silu(affine(hidden, layer))
        return affine(hidden, last)

    def _member(self, features: Tensor, member: int) -> Tensor:
        """The outputs (n, n_out) of one member.

        One after the other, in place and with points along memory, members stay in a processor's
        cache: four of width 128 take half the time, in tiles of 4096 points.
        """
        hidden = features.T
        *inner, last = (layer[member] for layer in self.layers)
        for layer in inner:
            hidden = F.silu(torch.addmm(layer[-1:].T, layer[:-1].T, hidden), inplace=True)
        return torch.addmm(last[-1:].T, last[:-1].T, hidden).T


def affine(hidden: Tensor, layer: Tensor) -> Tensor:
    """(n_members, n, n_out) from (n_members, n, n_in) and a layer, its biases in the last row."""
    return torch.baddbmm(layer[:, -1:], hidden, layer[:, :-1])
