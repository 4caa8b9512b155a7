"""Lorentz invariants of a point, small ones with all their digits."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

_TINY = 1e-150
"""Keeps the direction of a momentum at rest, and the logarithm of an exact zero, finite; GeV, GeV²."""


def pairs_of(n_ext: int) -> list[tuple[int, int]]:
    """The pairs of legs, in the order of the columns of `pair_products`; the incoming pair first."""
    return list(itertools.combinations(range(n_ext), 2))


def pair_products(momenta: Tensor, masses: Tensor) -> Tensor:
    """2 p_i · p_j of all pairs of legs, GeV²: (n, n_pairs).

    E_i E_j - p_i · p_j cancels where legs are collinear, and where they are soft. With unit vectors
    n_i it is a sum of terms that are not negative,

        2 p_i·p_j = |p_i| |p_j| (n_i - n_j)² + 2 (m_i² E_j² + m_j² |p_i|²) / (E_i E_j + |p_i| |p_j|).

    Args:
        momenta: (n, n_ext, 4), GeV.
        masses: (n_ext,), GeV; those of the model, as p² of a light leg is rounding.
    """
    first, second = torch.tensor(pairs_of(len(masses)), device=momenta.device).T
    # Components first: arithmetic on strided columns is several times slower.
    columns = momenta.permute(2, 1, 0).contiguous()
    energy, spatial = columns[0], columns[1:]
    size = spatial.square().sum(0).sqrt().clamp(min=_TINY)
    direction = spatial / size
    sizes = size[first] * size[second]
    products = sizes * (direction[:, first] - direction[:, second]).square().sum(0)
    squared = masses.square()[:, None]
    inertia = squared[first] * energy[second].square() + squared[second] * size[first].square()
    products = products + 2 * inertia / (energy[first] * energy[second] + sizes)
    return products.clamp(min=_TINY).T


def propagator_legs(masses: Tensor) -> list[tuple[int, ...]]:
    """Sets of legs whose squared momentum may make a pole that `pair_products` does not show.

    Pairs with a massive leg, and three legs or more; of a set and its complement one.
    """
    n_ext = len(masses)
    heavy = [pair for pair in pairs_of(n_ext)[1:] if bool(masses[list(pair)].any())]
    larger = [
        legs
        for size in range(3, n_ext // 2 + 1)
        for legs in itertools.combinations(range(n_ext), size)
        if 2 * size < n_ext or legs[0] == 0
    ]
    return heavy + larger


def virtualities(momenta: Tensor, signs: Tensor) -> Tensor:
    """|P²|, GeV², of sums of legs: (n, n_sets).

    Args:
        momenta: (n, n_ext, 4), GeV.
        signs: (n_sets, n_ext): 1 for an outgoing leg of the set, -1 for an incoming one, else 0.
    """
    energy, px, py, pz = (signs @ column.T for column in momenta.unbind(2))
    squared = (energy - pz) * (energy + pz) - px.square() - py.square()
    return squared.abs().clamp(min=_TINY).T
