"""The causal transformer: what a row can see, and one row at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.radiation.transformer import Transformer

N_ROWS = 6


def transformer() -> Transformer:
    return Transformer(24, n_blocks=3, n_heads=4, rng=torch.Generator().manual_seed(1))


def rows(n: int = 10) -> Tensor:
    return torch.randn(n, N_ROWS, 24, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_a_row_changes_nothing_before_it() -> None:
    network, given = transformer(), rows()
    found = network(given)
    for changed in range(N_ROWS):
        other = given.clone()
        # More of the same in all channels would be normalised away.
        other[:, changed, 0] += 1
        differs = (network(other) - found).abs().amax((0, 2)) > 1e-6
        assert differs.tolist() == [row >= changed for row in range(N_ROWS)]


@torch.no_grad()
def test_row_by_row_is_all_at_once() -> None:
    network, given = transformer(), rows()
    memory = network.memory()
    steps = torch.stack([network.step(row, memory) for row in given.unbind(1)], dim=1)
    torch.testing.assert_close(steps, network(given), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_memory_goes_on_with_the_sequences_that_are_left() -> None:
    network, given = transformer(), rows()
    memory = network.memory()
    for row in given[:, :3].unbind(1):
        network.step(row, memory)
    left = torch.tensor([7, 2])
    memory.select(left)
    found = network.step(given[left, 3], memory)
    torch.testing.assert_close(found, network(given)[left, 3], rtol=1e-5, atol=1e-5)
