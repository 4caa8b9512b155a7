"""Phase-space points to try a matrix element at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def probe_points(masses_gev: Sequence[float], n_points: int, momentum_gev: float = 500.0) -> Tensor:
    """Points (n_points, n_ext, 4), GeV, nowhere special, always the same; centre-of-mass frame.

    Args:
        masses_gev: of each leg, the two incoming ones first.
        momentum_gev: the standard deviation of each component of the final momenta.
    """
    rng = torch.Generator().manual_seed(1)
    masses = torch.tensor(masses_gev, dtype=torch.float64)
    shape = (n_points, len(masses) - 2, 3)
    spatial = momentum_gev * torch.randn(shape, generator=rng, dtype=torch.float64)
    spatial -= spatial.mean(dim=1, keepdim=True)
    energies = (spatial.square().sum(dim=2) + masses[2:].square()).sqrt()
    final = torch.cat([energies[..., None], spatial], dim=2)
    s = energies.sum(dim=1).square()
    a, b = masses[:2].square().tolist()
    p = (((s - a - b).square() - 4 * a * b) / (4 * s)).sqrt()
    none = torch.zeros_like(p)
    first = torch.stack([(p.square() + a).sqrt(), none, none, p], dim=1)
    second = torch.stack([(p.square() + b).sqrt(), none, none, -p], dim=1)
    return torch.cat([torch.stack([first, second], dim=1), final], dim=1)


def measured_power(values: Sequence[float], factor: float) -> float | None:
    """n of value ~ coupling^n, from values at couplings that rise by a factor; None if there is none.

    >>> measured_power([1.0, 8.0, 64.0], factor=2)
    3.0
    """
    powers = [math.log(b / a, factor) for a, b in itertools.pairwise(values)]
    power = round(powers[0])
    return float(power) if max(abs(p - power) for p in powers) < 1e-6 else None
