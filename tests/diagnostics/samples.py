"""Event samples with known distributions, for what looks at events rather than makes them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlgen.core import EventBatch


def events_of(
    momenta: Tensor,
    pdg_id: list[int],
    weight: Tensor | None = None,
    status: list[int] | None = None,
) -> EventBatch:
    """Events with the given momenta (n, n_particles, 4), all of one content."""
    n, n_particles, _ = momenta.shape
    zeros = torch.zeros(n, n_particles, dtype=torch.float64)
    pairs = torch.zeros(n, n_particles, 2, dtype=torch.int64)
    ones = torch.ones(n, dtype=torch.float64)
    return EventBatch(
        pdg_id=torch.tensor(pdg_id).expand(n, -1),
        status=torch.tensor(status or [1] * n_particles).expand(n, -1),
        mothers=pairs,
        colour=pairs,
        momenta=momenta,
        mass=zeros,
        spin=zeros + 9,
        weight=ones if weight is None else weight,
        scale=ones,
        alpha_em=ones,
        alpha_s=ones,
    )


def massless(pt: Tensor, eta: Tensor, phi: Tensor) -> Tensor:
    """Momenta (..., 4) of massless particles."""
    return torch.stack([pt * eta.cosh(), pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()], dim=-1)


def random_momenta(n: int, n_particles: int, seed: int, mean_pt: float = 30.0) -> Tensor:
    """Exponential pt above 10 GeV, normal eta, flat phi, all independent."""
    rng = torch.Generator().manual_seed(seed)
    shape = (n, n_particles)
    uniform = torch.rand(shape, generator=rng, dtype=torch.float64)
    pt = 10 - mean_pt * uniform.clamp(min=1e-12).log()
    eta = torch.randn(shape, generator=rng, dtype=torch.float64)
    phi = 2 * math.pi * torch.rand(shape, generator=rng, dtype=torch.float64)
    return massless(pt, eta, phi)


def eej(n: int, seed: int, weighted: bool = False, mean_pt: float = 30.0) -> EventBatch:
    """Independent e+, e- and a jet, unweighted or with weights around 200 pb."""
    momenta = random_momenta(n, 3, seed, mean_pt)
    if not weighted:
        return events_of(momenta, [-11, 11, 21])
    rng = torch.Generator().manual_seed(seed + 1_000_000)
    weight = 200 * (0.5 + torch.rand(n, generator=rng, dtype=torch.float64))
    return events_of(momenta, [-11, 11, 21], weight)
