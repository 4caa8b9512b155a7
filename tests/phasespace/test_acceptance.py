from __future__ import annotations

import math

import torch
from torch import Tensor

from mlgen.phasespace.acceptance import cos_theta_range
from mlgen.physics.kinematics import boost, rapidity
from tests.phasespace.wired import boost_along_beam

MAX_RAPIDITY = 2.5


def parents(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Systems (4, n) of many masses (n,), transverse momenta and rapidities; azimuths of a product."""
    rng = torch.Generator().manual_seed(2)
    u = torch.rand(n, 5, generator=rng, dtype=torch.float64)
    mass, transverse = 10 * 100 ** u[:, 0], 1000 ** u[:, 1] - 1
    y, azimuth = 8 * u[:, 2] - 4, 2 * math.pi * u[:, 3]
    m_t = torch.hypot(mass, transverse)
    parent = [
        m_t * y.cosh(),
        transverse * azimuth.cos(),
        transverse * azimuth.sin(),
        m_t * y.sinh(),
    ]
    return torch.stack(parent), mass, 2 * math.pi * u[:, 4]


def range_of(
    parent: Tensor, mass: Tensor, phi: Tensor, max_rapidity: float = MAX_RAPIDITY
) -> tuple[Tensor, Tensor]:
    return cos_theta_range(parent, mass, phi.cos(), phi.sin(), max_rapidity)


def inside(parent: Tensor, phi: Tensor, cos_theta: Tensor) -> Tensor:
    """Which of the angles (n, k) leave both massless products inside, by boosting them: (n, k)."""
    y = rapidity(parent.T)
    resting = boost_along_beam(parent, -y).T[:, None]
    sin_theta, phi = (1 - cos_theta**2).sqrt(), phi[:, None]
    direction = [
        torch.ones_like(sin_theta),
        sin_theta * phi.cos(),
        sin_theta * phi.sin(),
        cos_theta,
    ]
    product = torch.stack(direction, dim=-1)
    other = product * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    products = [rapidity(boost(p, resting)) + y[:, None] for p in (product, other)]
    return (products[0].abs() < MAX_RAPIDITY) & (products[1].abs() < MAX_RAPIDITY)


def test_the_range_is_the_smallest_interval_that_holds_all_angles_inside_the_cut() -> None:
    n = 2000
    parent, mass, phi = parents(n)
    low, high = range_of(parent, mass, phi)
    cos_theta = torch.linspace(-1 + 1e-9, 1 - 1e-9, 2001, dtype=torch.float64).expand(n, -1)
    passes = inside(parent, phi, cos_theta)
    beyond = (cos_theta < low[:, None] - 1e-9) | (cos_theta > high[:, None] + 1e-9)
    assert not bool((passes & beyond).any())
    some = passes.any(1)
    assert 0.3 < float(some.double().mean()) < 0.99
    least = torch.where(passes, cos_theta, 1.0).amin(1)
    most = torch.where(passes, cos_theta, -1.0).amax(1)
    slack = torch.maximum(least - low, high - most)[some]
    assert float((slack > 2e-3).double().mean()) < 0.05, "the interval is too large too often"


def test_no_bound_leaves_all_angles() -> None:
    parent, mass, phi = parents(10)
    low, high = range_of(parent, mass, phi, math.inf)
    assert torch.equal(low, torch.full_like(phi, -1))
    assert torch.equal(high, torch.full_like(phi, 1))


def test_a_parent_beyond_the_cut_may_have_no_angles() -> None:
    parent, mass, phi = parents(2000)
    slow = (rapidity(parent.T).abs() > 3.5) & (parent[1:3].norm(dim=0) < 5)
    parent, mass, phi = parent[:, slow], mass[slow], phi[slow]
    low, high = range_of(parent, mass, phi)
    assert bool((high >= low).all())
    none = low == high
    cos_theta = torch.linspace(-1 + 1e-9, 1 - 1e-9, 2001, dtype=torch.float64)
    passes = inside(parent, phi, cos_theta.expand(len(phi), -1)).any(1)
    assert not bool((passes & none).any())
    assert bool(none.any())
