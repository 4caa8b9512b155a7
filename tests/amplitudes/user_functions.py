"""Matrix elements as a user would write them."""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

ALPHA = 1 / 132.507
NOT_A_FUNCTION = 3


def photon_exchange(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    """e+ e- > mu+ mu- by a photon alone: 2 e⁴ (t² + u²) / s², averaged over spins."""
    assert pdg_ids.tolist() == [-11, 11, -13, 13]
    s, t, u = invariants(momenta)
    return 2 * (4 * math.pi * ALPHA) ** 2 * (t**2 + u**2) / s**2


def quark_exchange(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    """u u~ > c c~: 4/9 g_s⁴ (t² + u²) / s², eq. (7.3) of Ellis, Stirling and Webber."""
    s, t, u = invariants(momenta)
    return 4 / 9 * (4 * math.pi * alpha_s) ** 2 * (t**2 + u**2) / s**2


def invariants(momenta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b, c, d = momenta.unbind(1)
    return squared(a + b), squared(a - c), squared(a - d)


def squared(p: Tensor) -> Tensor:
    return p[:, 0] ** 2 - p[:, 1:].square().sum(1)


def of_the_wrong_shape(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    return torch.ones(len(momenta), 2)


def of_integers(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    return torch.ones(len(momenta), dtype=torch.int64)


def nan_at_the_second_point(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    value = torch.ones(len(momenta), dtype=torch.float64)
    value[1] = torch.nan
    return value


def no_tensor(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> list[float]:
    return [1.0] * len(momenta)


def failing(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    raise ZeroDivisionError("of the user's")


def exiting(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    sys.exit(0)
