"""Renormalisation and factorisation scales."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.cards import ScalesCard
from mlgen.physics.kinematics import transverse_mass


class CardScales:
    """The scales of a card: a `Scales`.

    H_T is the sum of the transverse masses sqrt(m² + pt²) of the final particles.
    """

    def __init__(self, card: ScalesCard) -> None:
        self._card = card

    def __call__(self, momenta: Tensor, group: int) -> tuple[Tensor, Tensor]:
        card = self._card
        if card.choice == "fixed":
            mu_r = torch.full_like(momenta[:, 0, 0], card.factor * card.mu_r_gev)
            mu_f = torch.full_like(momenta[:, 0, 0], card.factor * card.mu_f_gev)
            return mu_r, mu_f
        h_t = transverse_mass(momenta[:, 2:]).sum(-1)
        mu = card.factor * (h_t / 2 if card.choice == "half_ht" else h_t)
        return mu, mu
