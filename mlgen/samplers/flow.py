"""A rational-quadratic spline coupling flow on the unit cube, started from a VEGAS grid.

Coupling flows for phase-space sampling: i-flow (arXiv:2001.05486), MadNIS (arXiv:2212.06172,
2311.01548); the spline: arXiv:1906.04032. The layers keep to normflows' interface, channels being
their `context`.

    u -> coupling block -> ... -> coupling block -> marginal spline -> r

The coupling blocks start as the identity, and the marginal spline as the adapted grid made smooth,
so that the flow starts where VEGAS ends. The blocks compute in the precision of their networks,
float32 as a rule; the marginal spline in float64, as bins of a grid may be too narrow for less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from normflows.flows import Flow
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.cards import Card, FlowCard
from mlgen.samplers.compiled_splines import Block, couple, is_compiled, move_by_tables
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.splines import (
    partition,
    spline,
    spline_inverse,
    table_spline,
    table_spline_inverse,
)
from mlgen.samplers.vegas import VegasGrid

TILE = 4096
"""Points at a time where no gradient is asked for: fewer would cost more calls, more would leave the cache."""

ContextMap = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Points (n, n_dim) and their channels (n,) to points and log-dets (n,)."""


def coupling_masks(n_dim: int, n_blocks: int = 0) -> Tensor:
    """Which dimensions each block moves, given the others: bool (n_blocks, n_dim).

    Dimensions carry different binary codes, and for each bit one block moves those that have it
    and one those that do not: any two dimensions differ in a bit, so each is moved given each
    other one within 2 ceil(log2 n_dim) blocks (i-flow, arXiv:2001.05486, section 3.2). Codes come in
    complementary pairs, so that each block moves half of the dimensions.

    Args:
        n_blocks: 0 for as many as that takes; more blocks begin again from the first.

    >>> coupling_masks(3).int().tolist()
    [[0, 1, 1], [1, 0, 0], [0, 1, 0], [1, 0, 1]]
    """
    n_bits = max(1, math.ceil(math.log2(n_dim)))
    codes = [dim // 2 if dim % 2 == 0 else ~(dim // 2) for dim in range(n_dim)]
    half = torch.tensor([[bool(code >> bit & 1) for code in codes] for bit in range(n_bits)])
    masks = torch.stack([half, ~half], dim=1).flatten(0, 1)
    masks = masks[masks.any(dim=1)]  # a single dimension: the block that would move none
    return masks[torch.arange(n_blocks or len(masks)) % len(masks)]


class ColumnLinear(nn.Module):
    """A linear layer on columns, (n_in, n) to (n_out, n), as the splines want them."""

    def __init__(self, n_in: int, n_out: int, rng: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.bias = nn.Parameter(torch.zeros(n_out, 1))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu", generator=rng)

    def forward(self, columns: Tensor) -> Tensor:
        return torch.addmm(self.bias, self.weight, columns)


class ChannelLinear(nn.Module):
    """A `ColumnLinear` with a bias for each channel: one that is also given the channel, one-hot."""

    def __init__(self, n_in: int, n_out: int, n_channels: int, rng: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.bias = nn.Parameter(torch.empty(n_channels, n_out))
        # As Kaiming: of a one-hot input a single number is not zero.
        bound = math.sqrt(6 / (n_in + 1))
        nn.init.uniform_(self.weight, -bound, bound, generator=rng)
        nn.init.uniform_(self.bias, -bound, bound, generator=rng)

    def forward(self, columns: Tensor, channel: Tensor) -> Tensor:
        one = self.bias.shape[0] == 1
        bias = self.bias if one else F.embedding(channel, self.bias)
        return torch.addmm(bias.T, self.weight, columns)


class ConditionNetwork(nn.Module):
    """A perceptron on columns and channels, whose output starts as zero."""

    def __init__(
        self, n_in: int, n_out: int, n_channels: int, settings: FlowCard, rng: torch.Generator
    ) -> None:
        super().__init__()
        sizes = [settings.n_hidden] * settings.n_layers
        self.first = ChannelLinear(n_in, settings.n_hidden, n_channels, rng)
        self.others = nn.ModuleList(
            ColumnLinear(size_in, size_out, rng) for size_in, size_out in pairwise([*sizes, n_out])
        )
        nn.init.zeros_(self.others[-1].get_parameter("weight"))

    def forward(self, columns: Tensor, channel: Tensor) -> Tensor:
        """(n_in, n) in [0, 1] and (n,) to (n_out, n)."""
        columns = self.first(2 * columns - 1, channel)
        for layer in self.others:
            columns = layer(columns.relu_())
        return columns


class SplineCoupling(Flow):  # type: ignore[misc]  # normflows has no types
    """Moves some dimensions by splines that depend on the others and on the channel."""

    moved: Tensor
    kept: Tensor

    def __init__(
        self, mask: Tensor, n_channels: int, settings: FlowCard, rng: torch.Generator
    ) -> None:
        """Build the block that moves the dimensions in the mask, bool (n_dim,)."""
        super().__init__()
        self.register_buffer("moved", mask.nonzero()[:, 0], persistent=False)
        self.register_buffer("kept", (~mask).nonzero()[:, 0], persistent=False)
        self.n_logits = 3 * settings.n_bins + 1
        n_in, n_out = len(self.kept), self.n_logits * len(self.moved)
        self.network = ConditionNetwork(n_in, n_out, n_channels, settings, rng)
        kept, moved = self.kept.numpy(), self.moved.numpy()
        sizes = n_channels, settings.n_hidden, settings.n_layers, self.n_logits
        self.block = Block(kept, moved, *sizes)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Towards r: map z (n, n_dim), given the channels (n,); also ln |dz'/dz| (n,)."""
        return self._move(z, context, inverse=True)

    def inverse(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Towards u, the direction of training: it takes no square root; see `forward`."""
        return self._move(z, context, inverse=False)

    def _move(self, z: Tensor, channel: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """Through the splines, or through their inverses."""
        dtype = self.network.first.weight.dtype
        columns = z.T.to(dtype)
        if is_compiled(columns, torch.float32, inverse):
            parameters = list(self.network.parameters())
            columns, log_det = couple(columns, channel, self.block, parameters, inverse)
            return columns.T, log_det
        logits = self.network(columns.index_select(0, self.kept), channel)
        before = columns.index_select(0, self.moved)
        map_points = spline_inverse if inverse else spline
        after, log_det = map_points(before.flatten(), logits.view(self.n_logits, -1))
        columns = columns.index_copy(0, self.moved, after.view_as(before))
        return columns.T, log_det.view_as(before).sum(dim=0)


class MarginalSpline(Flow):  # type: ignore[misc]  # normflows has no types
    """One spline for each channel and dimension, whose knots are those of a VEGAS grid."""

    r_knots: Tensor

    def __init__(self, grid: VegasGrid) -> None:
        super().__init__()
        self.n_dim = grid.n_dim
        edges = grid.edges.flatten(0, 1)  # (n_splines, n_bins + 1), those of a channel together
        self.register_buffer("r_knots", edges.clone())
        density = 1 / (grid.n_bins * edges.diff())
        # The geometric mean of both sides, of all means the one that keeps nearest to the grid's
        # density from above and below.
        inner = (density[:, 1:] * density[:, :-1]).sqrt()
        self.log_slopes = nn.Parameter(torch.cat([density[:, :1], inner, density[:, -1:]], 1).log())
        self.size_logits = nn.Parameter(torch.zeros_like(density))

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Towards r: map z (n, n_dim) in the channels (n,); also ln |dz'/dz| (n,); float64."""
        return self._move(z, context, inverse=True)

    def inverse(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Towards u; see `forward`."""
        return self._move(z, context, inverse=False)

    def _move(self, z: Tensor, channel: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        columns = z.T.to(self.r_knots.dtype)
        tables = self.r_knots, partition(self.size_logits.T).T, self.log_slopes.exp()
        if is_compiled(columns, torch.float64, inverse):
            columns, log_det = move_by_tables(columns, channel, tables, inverse)
            return columns.T, log_det
        which = channel * self.n_dim + torch.arange(self.n_dim, device=z.device)[:, None]
        map_points = table_spline_inverse if inverse else table_spline
        moved, log_slope = map_points(columns.flatten(), which.flatten(), *tables)
        return moved.view_as(columns).T, log_slope.view_as(columns).sum(dim=0)


class CouplingFlow(SamplerModule):
    """Coupling blocks on the unit cube, and the marginal splines that they start from."""

    def __init__(self, grid: VegasGrid, settings: FlowCard, rng: torch.Generator) -> None:
        super().__init__(n_dim=grid.n_dim, n_channels=grid.n_channels)
        masks = coupling_masks(grid.n_dim, settings.n_blocks)
        blocks = [SplineCoupling(mask, grid.n_channels, settings, rng) for mask in masks]
        self.layers = nn.ModuleList([*blocks, MarginalSpline(grid)])

    def forward(self, u: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        *blocks, marginal = [layer.forward for layer in self._flows()]
        z, log_det = _in_tiles(blocks, self._columns(u), channel)
        r, log_step = marginal(z, channel)
        return r.to(u.dtype), log_step.add(log_det).to(u.dtype)

    def inverse(self, r: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        marginal, *blocks = [layer.inverse for layer in reversed(self._flows())]
        z, log_det = marginal(r, channel)
        u, log_step = _in_tiles(blocks, self._columns(z), channel)
        return u.to(r.dtype), log_step.add(log_det).to(r.dtype)

    def _flows(self) -> list[Flow]:
        return list(self.layers)

    def _columns(self, points: Tensor) -> Tensor:
        """Points as the blocks work: in their precision, and dimension by dimension in memory."""
        return points.T.to(self._flows()[0].network.first.weight.dtype).contiguous().T


def _in_tiles(
    steps: Sequence[ContextMap], points: Tensor, channel: Tensor
) -> tuple[Tensor, Tensor]:
    """Points (n, n_dim) after all the steps, and the sum of their log-dets (n,)."""
    if (
        torch.is_grad_enabled()
        or points.device.type != "cpu"
        or points.shape[0] <= TILE
        or is_compiled(points, torch.float32, inverse=True)  # has tiles of its own
    ):
        return _chain(steps, points, channel)
    tiles = zip(torch.split(points, TILE), torch.split(channel, TILE), strict=True)
    moved, log_dets = zip(*(_chain(steps, *tile) for tile in tiles), strict=True)
    return torch.cat(moved), torch.cat(log_dets)


def _chain(steps: Sequence[ContextMap], z: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
    # normflows 1.7.3 sums log-dets in the default dtype; sum them here instead.
    first, *others = steps
    z, log_det = first(z, channel)
    for step in others:
        z, log_step = step(z, channel)
        log_det = log_det + log_step
    return z, log_det


def start(grid: VegasGrid, card: Card, rng: torch.Generator) -> CouplingFlow:
    """The sampler `flow`: a coupling flow that starts from the adapted grid."""
    return CouplingFlow(grid, card.flow, rng)
