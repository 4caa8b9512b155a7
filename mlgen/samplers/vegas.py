"""The VEGAS grid: in each channel, a density that is a step function of each coordinate.

G. P. Lepage, J. Comput. Phys. 27 (1978) 192, with the smoothing and damping of arXiv:2009.05112
(section 2). The i-th of n_bins uniform bins in u is mapped linearly to the i-th bin in r, so that
narrow bins are where the points are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mlgen.cards import SamplingCard
from mlgen.core import TrainingBatch
from mlgen.errors import MlgenError, NonFiniteWeight
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.splines import find_knot

MIN_WIDTH = 1e-10
"""No bin becomes narrower: float64 still tells its points apart, and none of r is cut out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GridStatistics:
    """What points say about a grid; those of several batches add up."""

    squares: Tensor
    """(n_channels, n_dim, n_bins), the sum over the points in each bin of f² / (q q_grid)."""

    def __add__(self, other: Self) -> Self:
        return type(self)(squares=self.squares + other.squares)


class VegasGrid(SamplerModule):
    """One grid for each channel.

    >>> grid = VegasGrid.uniform(n_channels=1, n_dim=2, n_bins=4)
    >>> r, log_jac = grid.forward(torch.tensor([[0.25, 0.75]]), torch.tensor([0]))
    >>> r.tolist(), log_jac.tolist()
    ([[0.25, 0.75]], [0.0])
    """

    edges: Tensor

    def __init__(self, edges: Tensor) -> None:
        """Take the edges of the bins, (n_channels, n_dim, n_bins + 1), float64, from 0 to 1.

        Raises:
            MlgenError: the edges do not increase from 0 to 1.
        """
        n_channels, n_dim, n_edges = edges.shape
        super().__init__(n_dim=n_dim, n_channels=n_channels)
        # Written so that NaN fails too.
        increasing = bool((edges.diff(dim=-1) > 0).all())
        if not (increasing and bool((edges[..., 0] == 0).all() & (edges[..., -1] == 1).all())):
            raise MlgenError("edges of a VEGAS grid: expected to increase from 0 to 1")
        self.n_bins = n_edges - 1
        self.register_buffer("edges", edges.to(torch.float64).contiguous())

    @classmethod
    def uniform(cls, n_channels: int, n_dim: int, n_bins: int) -> Self:
        """The grid that maps u to itself."""
        edges = torch.linspace(0, 1, n_bins + 1, dtype=torch.float64)
        return cls(edges.repeat(n_channels, n_dim, 1))

    def forward(self, u: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        scaled = u.to(torch.float64) * self.n_bins
        index = scaled.detach().to(torch.int64).clamp(0, self.n_bins - 1)
        lower, upper, log_jac = self._bins(index, channel)
        r = torch.minimum(lower + (scaled - index) * (upper - lower), upper)
        return r, log_jac

    def inverse(self, r: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        r = r.to(torch.float64)
        first = self._first_edge(channel)
        index = find_knot(self.edges.flatten(), first, 1, self.n_bins, r) - first
        lower, upper, log_jac = self._bins(index, channel)
        u = (index + (r - lower) / (upper - lower)) / self.n_bins
        return u, -log_jac

    def _first_edge(self, channel: Tensor) -> Tensor:
        """Where in the flattened edges those of each point and dimension begin: (n, n_dim)."""
        dim = torch.arange(self.n_dim, device=channel.device)
        return (channel[:, None] * self.n_dim + dim) * (self.n_bins + 1)

    def _bins(self, index: Tensor, channel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Lower and upper edges of bins (n, n_dim), and ln |dr/du| (n,) of points in them."""
        edges, first = self.edges.flatten(), self._first_edge(channel) + index
        lower, upper = edges[first], edges[first + 1]
        return lower, upper, ((upper - lower) * self.n_bins).log().sum(dim=1)

    def statistics(self, batch: TrainingBatch) -> GridStatistics:
        """Histogram f² / (q q_grid) in the bins of this grid.

        For points that the grid itself drew this is (f / q)², as in section 2 of
        arXiv:2009.05112; for points from any density q it has the same expectation.
        """
        u, log_q_grid = self.inverse(batch.r, batch.channel)
        index = (u * self.n_bins).to(torch.int64).clamp(0, self.n_bins - 1)
        square = batch.value.to(torch.float64).square() * (-batch.log_q - log_q_grid).exp()
        dim = torch.arange(self.n_dim, device=index.device)
        cell = (batch.channel[:, None] * self.n_dim + dim) * self.n_bins + index
        squares = square.new_zeros(self.n_channels * self.n_dim * self.n_bins)
        squares.index_add_(0, cell.flatten(), square[:, None].expand_as(cell).flatten())
        return GridStatistics(squares=squares.view(self.n_channels, self.n_dim, self.n_bins))

    def refined(self, statistics: GridStatistics, damping: float) -> Self:
        """A grid whose bins share the statistics more evenly, section 2 of arXiv:2009.05112.

        Args:
            statistics: of points in this grid; a channel without any keeps its grid.
            damping: alpha; 0 leaves the grid as it is, 0.5 to 1.5 is usual.

        Raises:
            NonFiniteWeight: the statistics hold a NaN or an infinity.
        """
        if not bool(statistics.squares.isfinite().all()):
            raise NonFiniteWeight("statistics of a VEGAS grid: expected finite values of f² / q²")
        importance = _damped(_smoothed(statistics.squares), damping)
        cumulative = torch.nn.functional.pad(importance.cumsum(dim=-1), (1, 0))
        total = cumulative[..., -1:]
        targets = torch.linspace(0, 1, self.n_bins + 1, dtype=torch.float64, device=total.device)
        share = (targets * total).contiguous()
        index = torch.searchsorted(cumulative[..., 1:-1].contiguous(), share, right=True)
        below, inside = cumulative.gather(-1, index), importance.gather(-1, index)
        lower, upper = self.edges.gather(-1, index), self.edges.gather(-1, index + 1)
        # A bin of no importance is entered only at its very end, by rounding.
        fraction = ((share - below) / inside).nan_to_num(1.0, 1.0, 1.0).clamp(0, 1)
        edges = lower + fraction * (upper - lower)
        edges[..., 0], edges[..., -1] = 0, 1
        narrowest = self.n_bins * MIN_WIDTH
        edges = (1 - narrowest) * edges.cummax(dim=-1).values + narrowest * targets
        edges[..., -1] = 1
        # The total is NaN where there are no points.
        return type(self)(torch.where(total > 0, edges, self.edges))


def _smoothed(histogram: Tensor) -> Tensor:
    """Average each bin with its neighbours, weights 1 : 6 : 1, and 7 : 1 at the ends."""
    padded = torch.cat([histogram[..., :1], histogram, histogram[..., -1:]], dim=-1)
    return (padded[..., :-2] + 6 * histogram + padded[..., 2:]) / 8


def _damped(histogram: Tensor, damping: float) -> Tensor:
    """Compress the shares d of the bins to [(1 - d) / ln(1 / d)]^damping; NaN if all are empty."""
    share = histogram / histogram.sum(dim=-1, keepdim=True)
    compressed = ((share - 1) / share.log()).pow(damping)
    # All in one bin: 0/0, and its limit is 1.
    return torch.where(share == 1, torch.ones_like(share), compressed)


def start(grid: VegasGrid, card: SamplingCard, rng: torch.Generator) -> VegasGrid:
    """The sampler `vegas`: the adapted grid itself."""
    return grid
