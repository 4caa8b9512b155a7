"""The networks behind all methods: from what is seen of a point to hidden outputs."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.surrogate_cards import SurrogateCard


class Inputs(NamedTuple):
    """What networks are given of each point."""

    n_columns: int
    kinds: tuple[int, ...] = ()
    """Of each leg, where the columns are those of `MomentumColumns`; alike for identical legs."""


class Network(nn.Module, ABC):
    """`n_members` networks of one shape, each with its own weights."""

    n_members: int

    @abstractmethod
    def forward(self, columns: Tensor) -> Tensor:
        """The outputs (n_members, n, n_out) at points (n, n_columns), float32, the same for each member."""


def start_network(
    inputs: Inputs,
    settings: SurrogateCard,
    n_out: int,
    rng: torch.Generator,
    n_members: int = 1,
    is_hidden: bool = False,
) -> Network:
    """The networks that settings name, at random.

    Args:
        is_hidden: outputs are those of the last hidden layer, before its activation; others start small.

    Raises:
        MissingExtra: lgatr is not installed.
    """
    last_scale = 1.0 if is_hidden else 0.1
    if settings.network == "lgatr":
        from mlgen.surrogates.lgatr_network import LgatrNetwork

        return LgatrNetwork(inputs, settings, n_out, rng, n_members, last_scale)
    widths = [inputs.n_columns, *[settings.n_hidden] * (settings.n_layers - is_hidden), n_out]
    return ParallelMlp(widths, n_members, rng, last_scale)


class ParallelMlp(Network):
    """Perceptrons with SiLU, as one batched matrix product.

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

    def forward(self, columns: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._all_at_once(columns)
        # Points along memory in both cases.
        if self.n_members == 1:
            return self._member(columns, 0)[None].mT
        return torch.stack([self._member(columns, k) for k in range(self.n_members)]).mT

    def _all_at_once(self, columns: Tensor) -> Tensor:
        hidden = columns.expand(self.n_members, -1, -1)
        for index, layer in enumerate(self.layers):
            if index > 0:
                hidden = silu(hidden)
            hidden = torch.baddbmm(layer[:, -1:], hidden, layer[:, :-1])
        return hidden

    def _member(self, columns: Tensor, member: int) -> Tensor:
        """The outputs (n_out, n) of one member.

        One after the other, in place and with points along memory, members stay in a processor's
        cache: four of width 128 take half the time, in tiles of 4096 points.
        """
        hidden = columns.T
        for index, layer in enumerate(self.layers):
            if index > 0:
                hidden = silu(hidden)
            hidden = affine(layer[member], hidden)
        return hidden


def affine(layer: Tensor, hidden: Tensor) -> Tensor:
    """(n_out, n) from a layer (n_in + 1, n_out), its biases in the last row, and (n_in, n)."""
    return torch.addmm(layer[-1:].T, layer[:-1].T, hidden)


def silu(numbers: Tensor) -> Tensor:
    """x / (1 + exp(-x)), in place of the numbers where no gradient asks for them."""
    return F.silu(numbers, inplace=not torch.is_grad_enabled())
