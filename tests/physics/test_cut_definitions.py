"""Cuts against their definitions, computed the obvious slow way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from itertools import combinations, combinations_with_replacement, permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.cut_cards import (
    CutsCard,
    EventCutsCard,
    ListedPairCutsCard,
    ListedParticleCutsCard,
    PairCutsCard,
    ParticleCutsCard,
)
from mlgen.physics.cuts import CardCuts, separation_range
from mlgen.physics.kinematics import delta_r, eta, mass, pt, rapidity

KINDS = {
    "jet": {21, 1, 2, 3, 4, -1, -2, -3, -4},
    "lepton": {11, -11, 13, -13, 15, -15},
    "photon": {22},
    "bottom": {5, -5},
}
PAIRS = [
    (a, b)
    for a, b in combinations_with_replacement(KINDS, 2)
    if f"{a}_{b}" in {item.name for item in fields(CutsCard)}
]
PROCESSES = (
    (2, -2, 21, 1, -11, 11, 22, 5),
    (21, 21, 5, -5, 6, 12, 11, 22),
    (2, -2, 22, 22, -14, 11, -13, 14),
)
"""Between them, all kinds and all pairs of kinds."""


def pass_slowly(card: CutsCard, momenta: Tensor, pdg_ids: tuple[int, ...]) -> Tensor:
    """Cut by cut from the definitions: the oracle."""
    passed = torch.ones(len(momenta), dtype=torch.bool)
    legs = list(enumerate(pdg_ids))[2:]

    def within(value: Tensor, cuts: object, low: str, high: str) -> None:
        nonlocal passed
        passed &= (value >= getattr(cuts, low)) & (value <= getattr(cuts, high))

    def check_particle(leg: int, cuts: ParticleCutsCard) -> None:
        p = momenta[:, leg]
        within(pt(p), cuts, "pt_min_gev", "pt_max_gev")
        within(eta(p).abs(), cuts, "abs_eta_min", "abs_eta_max")
        within(rapidity(p).abs(), cuts, "abs_y_min", "abs_y_max")
        within(p[:, 0], cuts, "energy_min_gev", "energy_max_gev")

    def check_pair(a: int, b: int, cuts: PairCutsCard, mass_too: bool = True) -> None:
        p, q = momenta[:, a], momenta[:, b]
        within(delta_r(p, q), cuts, "delta_r_min", "delta_r_max")
        if mass_too:
            within(mass(p + q), cuts, "mass_min_gev", "mass_max_gev")

    for kind, members in KINDS.items():
        for leg, pdg_id in legs:
            if pdg_id in members:
                check_particle(leg, getattr(card, f"{kind}s"))
    for listed in card.particles:
        for leg, pdg_id in legs:
            if pdg_id in listed.pdg_ids:
                check_particle(leg, listed)
    for (a, id_a), (b, id_b) in combinations(legs, 2):
        for first, second in PAIRS:
            for i, j in ((id_a, id_b), (id_b, id_a)):
                if i in KINDS[first] and j in KINDS[second]:
                    mass_too = (first, second) != ("lepton", "lepton") or i == -j
                    check_pair(a, b, getattr(card, f"{first}_{second}"), mass_too)
        for pair in card.pairs:
            if any(i in pair.first and j in pair.second for i, j in permutations((id_a, id_b))):
                check_pair(a, b, pair)
    nothing = torch.zeros(len(momenta), 4, dtype=torch.float64)
    missing = [momenta[:, leg] for leg, pdg_id in legs if abs(pdg_id) in (12, 14, 16)]
    missing_pt = pt(sum(missing, start=nothing))
    within(missing_pt, card.event, "missing_pt_min_gev", "missing_pt_max_gev")
    jets = [pt(momenta[:, leg]) for leg, i in legs if i in KINDS["jet"] | KINDS["bottom"]]
    within(sum(jets, start=nothing[:, 0]), card.event, "ht_min_gev", "ht_max_gev")
    return passed


@cache
def random_momenta(pdg_ids: tuple[int, ...], n: int = 2_000) -> Tensor:
    """Momenta of no particular distribution, 4.7 GeV for b and 173 GeV for t."""
    rng = torch.Generator().manual_seed(4)
    spatial = 60 * torch.randn(n, len(pdg_ids), 3, generator=rng, dtype=torch.float64)
    masses = torch.tensor([{5: 4.7, 6: 173.0}.get(abs(i), 0.0) for i in pdg_ids])
    energy = (spatial.square().sum(-1) + masses.double() ** 2).sqrt()
    return torch.cat([energy[..., None], spatial], dim=-1)


def group_of(*pdg_ids: tuple[int, ...]) -> SubprocessGroup:
    return SubprocessGroup(name="a process", pdg_ids=pdg_ids)


PARTICLE_BOUNDS = {
    "pt_min_gev": 40.0,
    "pt_max_gev": 90.0,
    "abs_eta_min": 0.4,
    "abs_eta_max": 1.1,
    "abs_y_min": 0.3,
    "abs_y_max": 0.9,
    "energy_min_gev": 80.0,
    "energy_max_gev": 190.0,
}
PAIR_BOUNDS = {
    "delta_r_min": 1.2,
    "delta_r_max": 2.6,
    "mass_min_gev": 100.0,
    "mass_max_gev": 250.0,
}
EVENT_BOUNDS = {
    "missing_pt_min_gev": 60.0,
    "missing_pt_max_gev": 130.0,
    "ht_min_gev": 120.0,
    "ht_max_gev": 220.0,
}


def one_bound_each() -> Iterator[tuple[str, CutsCard]]:
    """Each bound that cards know, and a card with no other."""
    for name, section, bounds in (
        *((f"{kind}s", ParticleCutsCard, PARTICLE_BOUNDS) for kind in KINDS),
        *((f"{a}_{b}", PairCutsCard, PAIR_BOUNDS) for a, b in PAIRS),
        ("event", EventCutsCard, EVENT_BOUNDS),
    ):
        assert {item.name for item in fields(section)} == set(bounds)
        for key, value in bounds.items():
            of_section: Any = section(**{key: value})
            yield f"{name}.{key}", CutsCard(**{name: of_section})
    for key, value in PARTICLE_BOUNDS.items():
        one: dict[str, Any] = {key: value}
        listed = ListedParticleCutsCard(pdg_ids=(6, -11, -14), **one)
        yield f"particles.{key}", CutsCard(particles=(listed,))
    for key, value in PAIR_BOUNDS.items():
        one = {key: value}
        pair = ListedPairCutsCard(first=(22, 6), second=(12, 22, 11), **one)
        yield f"pairs.{key}", CutsCard(pairs=(pair,))


def all_bounds() -> CutsCard:
    """Many bounds at once, that some points pass."""
    particle = ParticleCutsCard(pt_min_gev=15.0, abs_eta_max=2.2)
    pair = PairCutsCard(delta_r_min=0.4, mass_max_gev=500.0)
    sections: dict[str, Any] = {
        **{f"{kind}s": particle for kind in KINDS},
        **{f"{a}_{b}": pair for a, b in PAIRS},
    }
    return CutsCard(
        **sections,
        event=EventCutsCard(missing_pt_max_gev=150.0, ht_max_gev=300.0),
        particles=(ListedParticleCutsCard(pdg_ids=(6, -11, -14), abs_y_max=1.5),),
    )


def check_definitions(card: CutsCard) -> list[float]:
    """The law of cuts: they are their definitions; returns the share that passes, by process."""
    cuts = CardCuts(card, [group_of(ids) for ids in PROCESSES])
    shares = []
    for group, ids in enumerate(PROCESSES):
        momenta = random_momenta(ids)
        got = cuts(momenta, group)
        assert torch.equal(got, pass_slowly(card, momenta, ids))
        shares.append(float(got.double().mean()))
    return shares


@pytest.mark.parametrize("bound", dict(one_bound_each()))
def test_each_bound_is_its_definition_and_some_points_fail_it(bound: str) -> None:
    card = dict(one_bound_each())[bound]
    shares = check_definitions(card)
    assert any(0.02 < share < 0.98 for share in shares)


def test_all_cuts_together_are_their_definitions() -> None:
    assert all(0.02 < share < 0.8 for share in check_definitions(all_bounds()))


def test_the_oracle_sees_one_cut_less() -> None:
    momenta, card, ids = random_momenta(PROCESSES[0]), all_bounds(), PROCESSES[0]
    for name, section in (("jets", ParticleCutsCard()), ("jet_lepton", PairCutsCard())):
        less: dict[str, Any] = {name: section}
        got = CardCuts(replace(card, **less), [group_of(ids), group_of(PROCESSES[2])])(momenta, 0)
        assert not torch.equal(got, pass_slowly(card, momenta, ids))


@pytest.mark.parametrize("radius", [0.01, 0.4, 1.0, 3.0, math.pi, 3.5, 6.0, 800.0])
def test_a_distance_at_its_bound_is_told_from_either_side(radius: float) -> None:
    n, rng = 1000, torch.Generator().manual_seed(8)
    angle, start = (torch.rand(2, n, generator=rng, dtype=torch.float64) - 0.5) * 2 * math.pi
    within = (radius * angle.sin()).abs() < math.pi
    for offset in (-1e-6, 1e-6):
        d_eta, d_phi = (radius * (1 + offset)) * torch.stack([angle.cos(), angle.sin()])
        legs = [
            (20 * torch.ones(n), start, start),
            (40 * torch.ones(n), start + d_eta, start + d_phi),
        ]
        momenta = torch.stack(
            [
                torch.stack([p * e.cosh(), p * f.cos(), p * f.sin(), p * e.sinh()], -1)
                for p, e, f in [*legs, *legs]
            ],
            dim=1,
        )[within & (d_eta.abs() < 12)]
        for card, expected in (
            (PairCutsCard(delta_r_min=radius), offset > 0),
            (PairCutsCard(delta_r_max=radius), offset < 0),
        ):
            cuts = CardCuts(CutsCard(jet_jet=card), [group_of((21, 21, 21, 21))])
            assert bool((cuts(momenta, 0) == expected).all())
        assert len(momenta) > 0 or radius > 100


def test_the_separation_of_a_distance_lies_in_its_range() -> None:
    angle = torch.linspace(0, math.pi / 2, 2001, dtype=torch.float64)
    for radius in (0.1, 0.4, 2.0, math.pi, 4.0, 7.0):
        d_eta, d_phi = radius * angle.cos(), radius * angle.sin()
        inside = d_phi <= math.pi
        separation = (d_eta.cosh() - d_phi.cos())[inside]
        least, largest = separation_range(radius)
        assert float(separation.max()) == pytest.approx(largest, rel=1e-9)
        assert float(separation.min()) == pytest.approx(least, rel=5e-3)
        assert float(separation.min()) > least * (1 - 1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuts_are_the_same_on_a_cuda_device() -> None:
    cuts = CardCuts(all_bounds(), [group_of(ids) for ids in PROCESSES])
    for group, ids in enumerate(PROCESSES):
        momenta = random_momenta(ids)
        there = cuts(momenta.cuda(), group)
        assert there.is_cuda
        assert torch.equal(there.cpu(), cuts(momenta, group))
