"""Renormalisation and factorisation scales."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mlgen.cards import ScalesCard
from mlgen.core import SubprocessGroup
from mlgen.physics.kinematics import transverse_mass
from mlgen.physics.leg_cuts import STANDARD_KINDS, ParticleKinds

DynamicalScale = Callable[[Tensor, Sequence[int]], Tensor]
"""Momenta (n, n_ext, 4), GeV, and the final legs without colour -> a scale, GeV, (n,)."""


class CardScales:
    """The scales of a card, for the groups of a process: a `Scales`."""

    def __init__(
        self,
        card: ScalesCard,
        groups: Sequence[SubprocessGroup],
        kinds: ParticleKinds = STANDARD_KINDS,
    ) -> None:
        self._card = card
        self._colourless = [
            [leg for leg, p in enumerate(group.pdg_ids[0]) if leg > 1 and p not in kinds.coloured]
            for group in groups
        ]

    def __call__(self, momenta: Tensor, group: int) -> tuple[Tensor, Tensor]:
        card = self._card
        if card.choice == "fixed":
            mu_r = torch.full_like(momenta[:, 0, 0], card.factor * card.mu_r_gev)
            mu_f = torch.full_like(momenta[:, 0, 0], card.factor * card.mu_f_gev)
            return mu_r, mu_f
        mu = card.factor * DYNAMICAL_SCALES[card.choice](momenta, self._colourless[group])
        return mu, mu


def h_t(momenta: Tensor, colourless: Sequence[int] = ()) -> Tensor:
    """The sum of the transverse masses of the final particles; MadGraph's choice 2."""
    return _sum(transverse_mass(p) for p in momenta.unbind(1)[2:])


def half_h_t(momenta: Tensor, colourless: Sequence[int] = ()) -> Tensor:
    """Half the sum of the transverse masses; MadGraph's choice 3."""
    return h_t(momenta) / 2


def system_transverse_mass(momenta: Tensor, colourless: Sequence[int]) -> Tensor:
    """sqrt(E² - pz²) of all colourless final particles together.

    Where there are none: the geometric mean of the transverse masses of the final particles.
    """
    if colourless:
        return transverse_mass(_sum(momenta[:, leg] for leg in colourless))
    logs = [transverse_mass(p).log() for p in momenta.unbind(1)[2:]]
    return (_sum(logs) / len(logs)).exp()


def transverse_energy(momenta: Tensor, colourless: Sequence[int] = ()) -> Tensor:
    """The sum of E sin(theta) over the final particles, 0 at rest; MadGraph's choice 1."""
    parts = []
    for energy, px, py, pz in (p.unbind(-1) for p in momenta.unbind(1)[2:]):
        across = px * px + py * py
        squared = across + pz * pz
        parts.append(torch.where(squared > 0, energy * (across / squared).sqrt(), 0.0))
    return _sum(parts)


def sqrt_s_hat(momenta: Tensor, colourless: Sequence[int] = ()) -> Tensor:
    """The invariant mass of the incoming particles, along the beams; MadGraph's choice 4."""
    return transverse_mass(momenta[:, 0] + momenta[:, 1])


DYNAMICAL_SCALES: dict[str, DynamicalScale] = {
    "ht": h_t,
    "half_ht": half_h_t,
    "transverse_mass": system_transverse_mass,
    "transverse_energy": transverse_energy,
    "sqrt_s_hat": sqrt_s_hat,
}
"""By the name that cards have for it."""


def _sum(parts: Iterable[Tensor]) -> Tensor:
    # torch 2.13 sums over a short last axis many times slower than it adds columns.
    first, *others = parts
    return sum(others, start=first)
