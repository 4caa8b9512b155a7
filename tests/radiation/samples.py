"""Events of a hard object and jets, made of random numbers without any physics."""

from __future__ import annotations

import math

import torch

from mlgen.radiation.jets import JetEvents, from_cylindrical, from_rapidity

PT_MIN = 20.0


def random_events(n: int, seed: int, n_max: int = 4) -> JetEvents:
    """All multiplicities alike; jets are anywhere."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    def azimuth(*shape: int) -> torch.Tensor:
        return math.pi * (1 - 2 * torch.rand(*shape, generator=rng, dtype=torch.float64))

    hard = from_rapidity(
        (3 + normal(n)).exp(), azimuth(n), 1.5 * normal(n), 91 * (0.05 * normal(n)).exp()
    )
    pt = PT_MIN + (3 + normal(n, n_max)).exp().sort(dim=1, descending=True).values
    mass = 0.1 * pt * (0.5 * normal(n, n_max)).exp()
    jets = from_cylindrical(pt, azimuth(n, n_max), 1.5 * normal(n, n_max), mass)
    n_jets = torch.randint(n_max + 1, (n,), generator=rng)
    is_jet = torch.arange(n_max) < n_jets[:, None]
    return JetEvents(hard=hard, jets=jets * is_jet[..., None], n_jets=n_jets)
