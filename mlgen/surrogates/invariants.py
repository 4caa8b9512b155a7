"""Lorentz invariants of a point, small ones with all their digits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_TINY = 1e-150
"""Keeps the direction of a momentum at rest, and the logarithm of an exact zero, finite; GeV, GeV²."""


def pairs_of(n_ext: int) -> list[tuple[int, int]]:
    """The pairs of legs, in the order of the rows of `pair_products`; the incoming pair first."""
    return list(itertools.combinations(range(n_ext), 2))


def pair_products(components: Tensor, masses: Sequence[float]) -> Tensor:
    """2 p_i · p_j of all pairs of legs, GeV²: (n_pairs, n).

    E_i E_j - p_i · p_j cancels where legs are collinear, and where they are soft. With unit vectors
    n_i it is a sum of terms that are not negative,

        2 p_i·p_j = |p_i| |p_j| (n_i - n_j)² + 2 (m_i² E_j² + m_j² |p_i|²) / (E_i E_j + |p_i| |p_j|).

    Args:
        components: of the momenta, (4, n_ext, n), GeV.
        masses: of each leg, GeV; those of the model, as p² of a light leg is rounding.
    """
    energy, spatial = components[0], components[1:]
    size = spatial.square().sum(0).sqrt().clamp(min=_TINY)
    direction = spatial / size
    rows = []
    for first in range(len(masses) - 1):
        others = slice(first + 1, None)
        angle = (direction[:, others] - direction[:, first, None]).square().sum(0)
        row = (size[first] * size[others] * angle).unbind(0)
        for leg, product in enumerate(row, first + 1):
            if masses[first] > 0 or masses[leg] > 0:
                squares = masses[first] ** 2 * energy[leg].square()
                squares = squares + masses[leg] ** 2 * size[first].square()
                product = product + 2 * squares / (
                    energy[first] * energy[leg] + size[first] * size[leg]
                )
            rows.append(product)
    return torch.stack(rows).clamp(min=_TINY)


def propagator_legs(masses: Sequence[float]) -> list[tuple[int, ...]]:
    """Sets of legs whose squared momentum may make a pole that `pair_products` does not show.

    Pairs with a massive leg, and three legs or more; of a set and its complement one.
    """
    n_ext = len(masses)
    heavy = [pair for pair in pairs_of(n_ext)[1:] if any(masses[leg] > 0 for leg in pair)]
    larger = [
        legs
        for size in range(3, n_ext // 2 + 1)
        for legs in itertools.combinations(range(n_ext), size)
        if 2 * size < n_ext or legs[0] == 0
    ]
    return heavy + larger


class Virtualities(nn.Module):
    """|P²| of sums of legs, incoming ones with a minus sign.

    P² is the sum of the legs' m² and of ± 2 p_i·p_j over their pairs, minus where one of two is incoming.
    """

    signs: Tensor
    squared_masses: Tensor

    def __init__(self, sets: Sequence[tuple[int, ...]], masses: Sequence[float]) -> None:
        super().__init__()
        pairs = pairs_of(len(masses))
        signs = [
            [(-1.0 if (i < 2) != (j < 2) else 1.0) * (i in legs and j in legs) for i, j in pairs]
            for legs in sets
        ]
        squared = [sum(masses[leg] ** 2 for leg in legs) for legs in sets]
        shape = len(sets), len(pairs)
        self.register_buffer("signs", torch.tensor(signs, dtype=torch.float64).reshape(shape))
        self.register_buffer("squared_masses", torch.tensor(squared, dtype=torch.float64))

    def forward(self, products: Tensor) -> Tensor:
        """GeV², (n_sets, n), from the products of pairs (n_pairs, n)."""
        return (self.signs @ products + self.squared_masses[:, None]).abs().clamp(min=_TINY)
