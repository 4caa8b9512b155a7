"""The polar angles that a cut on rapidity leaves to the products of a decay.

In the frame where the parent has no rapidity, let the first of two massless products have the
polar angle c = cos θ in the parent's rest frame. Its rapidity is y + atanh(c / [γ (1 + b s)]) with
s = sin θ, y the rapidity of the parent and b = β · (direction of the product across the beam);
that of the second follows from c -> -c, b -> -b. |rapidity| < Y then bounds c from both sides.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlgen.phasespace.vectors import transverse_mass


def cos_theta_range(
    parent: Tensor, parent_mass: Tensor, cos_phi: Tensor, sin_phi: Tensor, max_rapidity: float
) -> tuple[Tensor, Tensor]:
    """The smallest interval of cos θ that holds all decays with both products inside the cut.

    Args:
        parent: (4, n), GeV, laboratory.
        parent_mass: (n,), GeV.
        cos_phi, sin_phi: (n,), of the azimuth of the first product in the parent's rest frame.
        max_rapidity: Y, on both products, massless.

    Returns:
        low, high: (n,), in [-1, 1]; equal where no angle is left.
    """
    m_t = transverse_mass(parent, parent_mass.square())
    gamma = m_t / parent_mass
    b = (parent[1] * cos_phi + parent[2] * sin_phi) / m_t
    # tanh(Y ± y) from tanh y = pz / E.
    tanh, tanh_y = math.tanh(max_rapidity), parent[3] / parent[0]
    forward, backward = (tanh - tanh_y) / (1 - tanh * tanh_y), (tanh + tanh_y) / (1 + tanh * tanh_y)
    high = torch.minimum(_upper_bound(forward * gamma, b), _upper_bound(backward * gamma, -b))
    low = -torch.minimum(_upper_bound(backward * gamma, b), _upper_bound(forward * gamma, -b))
    return low, torch.maximum(low, high)


def _upper_bound(k: Tensor, b: Tensor) -> Tensor:
    """The largest c with c <= k (1 + b s).

    With c = sin α and tan δ = k b this reads sin(α - δ) <= k cos δ.
    """
    delta = torch.atan(k * b)
    limit = k * delta.cos()
    reach = torch.asin(limit.clamp(-1, 1))
    # Near α = pi/2 the inequality may hold again, or hold throughout.
    open_ended = (limit >= 1) | (delta <= reach - math.pi / 2)
    bound = torch.sin((delta + reach).clamp(-math.pi / 2, math.pi / 2))
    return torch.where(open_ended, torch.ones_like(bound), bound)
