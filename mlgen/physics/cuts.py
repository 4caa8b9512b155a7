"""Cuts on jets and leptons, and on their pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, product

import torch
from torch import Tensor

from mlgen.cards import CutsCard, PairCutsCard, ParticleCutsCard
from mlgen.core import SubprocessGroup
from mlgen.physics.kinematics import delta_r, eta, mass_squared, pt
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
        for indices, particle in ((legs.jets, card.jets), (legs.leptons, card.leptons)):
            if indices and particle != ParticleCutsCard():
                passed &= _particles_pass(momenta[:, indices], particle)
        for pairs, pair in (
            (legs.jet_jet, card.jet_jet),
            (legs.jet_lepton, card.jet_lepton),
            (legs.lepton_lepton, card.lepton_lepton),
        ):
            if pairs and pair != PairCutsCard():
                first, second = zip(*pairs, strict=True)
                passed &= _pairs_pass(momenta[:, list(first)], momenta[:, list(second)], pair)
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


def _particles_pass(momenta: Tensor, card: ParticleCutsCard) -> Tensor:
    """Whether all particles (n, k, 4) of each event pass: (n,)."""
    passed = torch.ones(momenta.shape[:2], dtype=torch.bool, device=momenta.device)
    if card.pt_min_gev > 0 or card.pt_max_gev < math.inf:
        transverse = pt(momenta)
        passed &= (transverse >= card.pt_min_gev) & (transverse <= card.pt_max_gev)
    if card.abs_eta_max < math.inf:
        passed &= eta(momenta).abs() <= card.abs_eta_max
    return passed.all(-1)


def _pairs_pass(first: Tensor, second: Tensor, card: PairCutsCard) -> Tensor:
    """Whether all pairs (n, k, 4) of each event pass: (n,)."""
    passed = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
    if card.delta_r_min > 0:
        passed &= delta_r(first, second) >= card.delta_r_min
    if card.mass_min_gev > 0 or card.mass_max_gev < math.inf:
        s = mass_squared(first + second)
        passed &= (s >= card.mass_min_gev**2) & (s <= card.mass_max_gev**2)
    return passed.all(-1)
