"""Cuts on jets and leptons, and on their pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, product

import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.cut_cards import CutsCard, PairCutsCard, ParticleCutsCard
from mlgen.physics.kinematics import eta, phi
from mlgen.physics.process import GLUON, LEPTONS, LIGHT_QUARKS


def is_jet(pdg_id: int) -> bool:
    """Whether cuts take a particle for a jet: massless partons."""
    return pdg_id == GLUON or abs(pdg_id) in LIGHT_QUARKS


def is_lepton(pdg_id: int) -> bool:
    """Whether cuts take a particle for a charged lepton."""
    return abs(pdg_id) in LEPTONS


class CardCuts:
    """The cuts of a card, for the groups of a process: a `Cut`."""

    def __init__(self, card: CutsCard, groups: Sequence[SubprocessGroup]) -> None:
        self._card = card
        self._legs = [_Legs(group.pdg_ids[0]) for group in groups]

    def __call__(self, momenta: Tensor, group: int) -> Tensor:
        card, legs = self._card, self._legs[group]
        passed = torch.ones(len(momenta), dtype=torch.bool, device=momenta.device)
        # A contiguous row for each component: arithmetic on strided columns is several times slower.
        rows = momenta.permute(1, 2, 0).contiguous()
        for particle_legs, particle in ((legs.jets, card.jets), (legs.leptons, card.leptons)):
            for leg in particle_legs:
                passed &= _particle_passes(rows[leg], particle)
        directions: dict[int, tuple[Tensor, Tensor]] = {}
        for pairs, pair in (
            (legs.jet_jet, card.jet_jet),
            (legs.jet_lepton, card.jet_lepton),
            (legs.lepton_lepton, card.lepton_lepton),
        ):
            for a, b in pairs:
                passed &= _mass_passes(rows[a] + rows[b], pair)
                if pair.delta_r_min > 0:
                    for leg in {a, b} - directions.keys():
                        directions[leg] = (eta(rows[leg].T), phi(rows[leg].T))
                    passed &= _delta_r(directions[a], directions[b]) >= pair.delta_r_min
        return passed


class _Legs:
    """Which external legs, and pairs of them, the cuts of each kind look at."""

    def __init__(self, pdg_ids: tuple[int, ...]) -> None:
        final = range(2, len(pdg_ids))
        self.jets = [leg for leg in final if is_jet(pdg_ids[leg])]
        self.leptons = [leg for leg in final if is_lepton(pdg_ids[leg])]
        self.jet_jet = list(combinations(self.jets, 2))
        self.jet_lepton = list(product(self.jets, self.leptons))
        self.lepton_lepton = [
            (a, b) for a, b in combinations(self.leptons, 2) if pdg_ids[a] == -pdg_ids[b]
        ]


def _particle_passes(row: Tensor, card: ParticleCutsCard) -> Tensor:
    """Whether a particle passes, (n,), given its components (4, n)."""
    passed = torch.ones(row.shape[1], dtype=torch.bool, device=row.device)
    if card == ParticleCutsCard():
        return passed
    _, px, py, pz = row.unbind()
    transverse = (px * px + py * py).sqrt()
    if card.pt_min_gev > 0:
        passed &= transverse >= card.pt_min_gev
    if card.pt_max_gev < math.inf:
        passed &= transverse <= card.pt_max_gev
    if card.abs_eta_max < math.inf:
        # |eta| <= eta_max without eta itself; sinh overflows beyond 710.
        passed &= pz.abs() <= transverse * math.sinh(min(card.abs_eta_max, 700.0))
    return passed


def _mass_passes(row: Tensor, card: PairCutsCard) -> Tensor:
    """Whether the mass of a pair passes, (n,), given the components (4, n) of its sum."""
    passed = torch.ones(row.shape[1], dtype=torch.bool, device=row.device)
    if card.mass_min_gev > 0 or card.mass_max_gev < math.inf:
        energy, px, py, pz = row.unbind()
        s = energy * energy - px * px - py * py - pz * pz
        passed &= (s >= card.mass_min_gev**2) & (s <= card.mass_max_gev**2)
    return passed


def _delta_r(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """sqrt(Delta eta² + Delta phi²) of two directions (eta, phi)."""
    delta_phi = (a[1] - b[1]).abs()
    delta_phi = torch.minimum(delta_phi, 2 * math.pi - delta_phi)
    return torch.hypot(a[0] - b[0], delta_phi)
