"""A causal transformer: all rows at once, or one after the other with what was seen kept."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.radiation.linear import linear

WIDENING = 4
"""Hidden channels of a perceptron, over those of the transformer."""


class Memory:
    """Keys and values of the rows that a transformer has seen, of each block."""

    def __init__(self, n_blocks: int) -> None:
        self.rows: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(n_blocks)]
        """Of each block and row: keys and values, (n, n_heads, n_channels / n_heads)."""

    def select(self, index: Tensor) -> None:
        """Keep the sequences at an index alone."""
        self.rows = [[(k[index], v[index]) for k, v in block] for block in self.rows]


class Block(nn.Module):
    """Attention to this row and those before, then a perceptron; normalised before each (arXiv:2002.04745)."""

    def __init__(
        self, n_channels: int, n_heads: int, n_blocks: int, rng: torch.Generator, variational: bool
    ) -> None:
        super().__init__()
        self._n_heads = n_heads
        # What 2 n_blocks layers add to the rows has the size of the rows.
        added = 1 / math.sqrt(2 * n_blocks)
        wide = WIDENING * n_channels
        self.norm_attention = nn.LayerNorm(n_channels)
        self.query_key_value = linear(n_channels, 3 * n_channels, rng, variational=variational)
        self.attended = linear(n_channels, n_channels, rng, added, variational)
        self.norm_perceptron = nn.LayerNorm(n_channels)
        self.widen = linear(n_channels, wide, rng, variational=variational)
        self.narrow = linear(wide, n_channels, rng, added, variational)

    def forward(self, rows: Tensor) -> Tensor:
        """(n, n_rows, n_channels) to the same."""
        split = self.query_key_value(self.norm_attention(rows)).unflatten(
            -1, (3, self._n_heads, -1)
        )
        if rows.shape[1] == 1:
            return self._finish(rows, split[:, :, 2].flatten(-2))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._finish(rows, attended.transpose(1, 2).flatten(-2))

    def step(self, row: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The next row (n, n_channels) alone; its key and value are added to those that were seen."""
        split = self.query_key_value(self.norm_attention(row)).unflatten(-1, (3, self._n_heads, -1))
        query, key, value = split.unbind(1)
        seen.append((key, value))
        # Over so few rows, sums are quicker than batched products of matrices.
        scores = torch.stack([(query * key).sum(-1) for key, _ in seen], dim=-1)
        shares = (scores / math.sqrt(query.shape[-1])).softmax(-1)
        attended = torch.zeros_like(value)
        for share, (_, value) in zip(shares.unbind(-1), seen, strict=True):
            attended.addcmul_(share[..., None], value)
        return self._finish(row, attended.flatten(-2))

    def _finish(self, rows: Tensor, attended: Tensor) -> Tensor:
        rows = rows + self.attended(attended)
        hidden: Tensor = self.narrow(F.silu(self.widen(self.norm_perceptron(rows))))
        return rows + hidden


class Transformer(nn.Module):
    """Blocks one after the other. Where a row stands is known from what it can see alone."""

    def __init__(
        self,
        n_channels: int,
        n_blocks: int,
        n_heads: int,
        rng: torch.Generator,
        variational: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(n_channels, n_heads, n_blocks, rng, variational) for _ in range(n_blocks)
        )
        self.norm = nn.LayerNorm(n_channels)

    def forward(self, rows: Tensor) -> Tensor:
        """(n, n_rows, n_channels) to the same; a row depends on itself and those before."""
        for block in self.blocks:
            rows = block(rows)
        found: Tensor = self.norm(rows)
        return found

    def memory(self) -> Memory:
        """That of no row yet."""
        return Memory(len(self.blocks))

    def step(self, row: Tensor, memory: Memory) -> Tensor:
        """The next row (n, n_channels), as `forward` would have it, with what it needs of those before."""
        for block, seen in zip(self.blocks, memory.rows, strict=True):
            assert isinstance(block, Block)
            row = block.step(row, seen)
        found: Tensor = self.norm(row)
        return found
