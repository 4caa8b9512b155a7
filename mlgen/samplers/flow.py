"""A rational-quadratic spline coupling flow on the unit cube, started from a VEGAS grid.

Coupling flows for phase-space sampling: i-flow (arXiv:2001.05486), MadNIS (arXiv:2212.06172,
2311.01548); the spline: arXiv:1906.04032. The layers keep to normflows' interface, channels being
their `context`.

    u -> coupling block -> ... -> coupling block -> marginal spline -> r

The coupling blocks start as the identity, and the marginal spline as the adapted grid made smooth,
so that the flow starts where VEGAS ends.
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
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.splines import Segment, find_knot, partition, spline, spline_inverse
from mlgen.samplers.vegas import VegasGrid

TILE = 4096
"""Points at a time where no gradient is asked for: fewer would cost more calls, more would leave the cache."""

ContextMap = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Points (n, n_dim) and context (n, n_context) to points and log-dets (n,)."""


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


def perceptron(n_in: int, n_out: int, settings: FlowCard, rng: torch.Generator) -> nn.Sequential:
    """A network on columns, whose output starts as zero."""
    sizes = [n_in, *[settings.n_hidden] * settings.n_layers]
    hidden = [ColumnLinear(size, size_out, rng) for size, size_out in pairwise(sizes)]
    last = ColumnLinear(sizes[-1], n_out, rng)
    nn.init.zeros_(last.weight)
    return nn.Sequential(*(step for layer in hidden for step in (layer, nn.ReLU())), last)


class SplineCoupling(Flow):  # type: ignore[misc]  # normflows has no types
    """Moves some dimensions by splines that depend on the others and on the context."""

    moved: Tensor
    kept: Tensor

    def __init__(
        self, mask: Tensor, n_context: int, settings: FlowCard, rng: torch.Generator
    ) -> None:
        """Build the block that moves the dimensions in the mask, bool (n_dim,)."""
        super().__init__()
        self.register_buffer("moved", mask.nonzero()[:, 0], persistent=False)
        self.register_buffer("kept", (~mask).nonzero()[:, 0], persistent=False)
        self.n_logits = 3 * settings.n_bins + 1
        n_in, n_out = len(self.kept) + n_context, self.n_logits * len(self.moved)
        self.network = perceptron(n_in, n_out, settings, rng)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Towards r: map z (n, n_dim), given the context (n, n_context); also ln |dz'/dz| (n,)."""
        return self._move(z, context, spline_inverse)

    def inverse(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Towards u, the direction of training: it takes no square root; see `forward`."""
        return self._move(z, context, spline)

    def _move(
        self,
        z: Tensor,
        context: Tensor,
        map_points: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        columns = z.T
        condition = 2 * columns.index_select(0, self.kept).to(context.dtype) - 1
        logits = self.network(torch.cat([condition, context.T]))
        before = columns.index_select(0, self.moved)
        after, log_det = map_points(before.flatten(), logits.view(self.n_logits, -1))
        columns = columns.index_copy(0, self.moved, after.view_as(before))
        return columns.T, log_det.view_as(before).sum(dim=0)


class MarginalSpline(Flow):  # type: ignore[misc]  # normflows has no types
    """One spline for each channel and dimension, whose knots are those of a VEGAS grid."""

    r_knots: Tensor

    def __init__(self, grid: VegasGrid) -> None:
        super().__init__()
        self.n_bins, self.n_dim = grid.n_bins, grid.n_dim
        self.n_splines = grid.n_channels * grid.n_dim
        # (n_bins + 1, n_splines), as in splines.py: the splines along the last axis.
        edges = grid.edges.flatten(0, 1).T.contiguous()
        self.register_buffer("r_knots", edges)
        density = 1 / (self.n_bins * edges.diff(dim=0))
        # The geometric mean of both sides, of all means the one that keeps nearest to the grid's
        # density from above and below.
        slopes = torch.cat([density[:1], (density[1:] * density[:-1]).sqrt(), density[-1:]])
        self.log_slopes = nn.Parameter(slopes.log())
        self.size_logits = nn.Parameter(torch.zeros_like(density))

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Towards r: map z (n, n_dim) in the channels given as one-hot context; also ln |dz'/dz|."""
        return self._move(z, context, inverse=False)

    def inverse(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Towards u; see `forward`."""
        return self._move(z, context, inverse=True)

    def _move(self, z: Tensor, context: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        # In the precision of the grid: its bins may be too narrow for float32.
        columns = z.T.to(self.r_knots.dtype)
        u_knots = partition(self.size_logits)
        knots = self.r_knots if inverse else u_knots
        dim = torch.arange(self.n_dim, device=z.device)[:, None]
        first = context.argmax(dim=1) * self.n_dim + dim
        at = find_knot(knots.flatten(), first, self.n_splines, self.n_bins, columns)
        at = torch.stack([at, at + self.n_splines])
        tables = (self.r_knots, u_knots, self.log_slopes.exp())
        picked = (table.flatten().index_select(0, at.flatten()).view_as(at) for table in tables)
        segment = Segment(*(part for pair in picked for part in pair))
        moved, log_det = segment.evaluate(columns) if inverse else segment.solve(columns)
        return moved.clamp(0, 1).to(z.dtype).T, log_det.sum(dim=0).to(z.dtype)


class CouplingFlow(SamplerModule):
    """Coupling blocks on the unit cube, and the marginal splines that they start from."""

    def __init__(self, grid: VegasGrid, settings: FlowCard, rng: torch.Generator) -> None:
        super().__init__(n_dim=grid.n_dim, n_channels=grid.n_channels)
        masks = coupling_masks(grid.n_dim, settings.n_blocks)
        blocks = [SplineCoupling(mask, grid.n_channels, settings, rng) for mask in masks]
        self.layers = nn.ModuleList([*blocks, MarginalSpline(grid)])

    def forward(self, u: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        return self._compose([layer.forward for layer in self.layers], u, channel)

    def inverse(self, r: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        layers: list[Flow] = list(reversed(self.layers))
        return self._compose([layer.inverse for layer in layers], r, channel)

    def _compose(
        self, steps: Sequence[ContextMap], points: Tensor, channel: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Points (n, n_dim) after all the steps, and the sum of their log-dets (n,)."""
        context = F.one_hot(channel, self.n_channels).to(next(self.parameters()).dtype)
        if torch.is_grad_enabled() or points.device.type != "cpu" or points.shape[0] <= TILE:
            return _chain(steps, points, context)
        tiles = zip(torch.split(points, TILE), torch.split(context, TILE), strict=True)
        moved, log_dets = zip(*(_chain(steps, *tile) for tile in tiles), strict=True)
        return torch.cat(moved), torch.cat(log_dets)


def _chain(steps: Sequence[ContextMap], z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    # normflows 1.7.3 sums log-dets in the default dtype: float64 in, float32 out, a 1e-7 error
    # in every weight. Sum them here instead. (`len` of a tensor would fix its size in an export.)
    log_det = z.new_zeros(z.shape[0])
    z = z.T.contiguous().T  # dimension by dimension in memory, as the layers work
    for step in steps:
        z, log_step = step(z, context)
        log_det = log_det + log_step
    return z, log_det


def start(grid: VegasGrid, card: Card, rng: torch.Generator) -> CouplingFlow:
    """The sampler `flow`: a coupling flow that starts from the adapted grid."""
    return CouplingFlow(grid, card.flow, rng)
