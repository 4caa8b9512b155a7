from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.amplitudes.closed_form import provide
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.cards import ModelCard
from mlgen.core import SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.physics.diagrams import generate_diagrams
from mlgen.physics.grouping import AmplitudeComparison
from mlgen.physics.model import StandardModel
from mlgen.physics.process import process_name
from mlgen.physics.ufo import UfoModel
from tests.subprocess_groups import subprocess_groups

PORTAL = str(Path(__file__).parents[1] / "models" / "vector_portal")
MODELS = [
    StandardModel(),
    StandardModel(ModelCard(z_mass_gev=110.0, inverse_alpha_em=150.0)),
    StandardModel().varied(random.Random(5)),
]


def quark_lines(ids: tuple[int, ...]) -> tuple[int, ...]:
    """Flavours flowing in."""
    return (*ids[:2], *(-p if p != 21 else p for p in ids[2:]))


def textbook_two_to_two(ids: tuple[int, ...], s: float, t: float, u: float) -> float:
    """|M|² / g_s⁴ of massless QCD: table 7.1 of Ellis, Stirling, Webber, "QCD and Collider Physics".

    s, t, u belong to legs (0 1), (0 2) and (0 3); identical outgoing particles count one half.
    """
    n_gluons = ids.count(21)
    if n_gluons == 4:
        return 9 / 2 * (3 - t * u / s**2 - s * u / t**2 - s * t / u**2) / 2
    if n_gluons == 2:
        # Crossed so that s belongs to the pair of gluons.
        pairs = {frozenset({0, 1}): s, frozenset({0, 2}): t, frozenset({0, 3}): u}
        gluons = frozenset(leg for leg, p in enumerate(ids) if p == 21)
        side = gluons if 0 in gluons else frozenset(range(4)) - gluons
        s_gluons = pairs[side]
        a, b = (value for pair, value in pairs.items() if pair != side)
        value = (a**2 + b**2) * (4 / 9 / (a * b) - 1 / s_gluons**2)
        if side == {0, 1}:
            # From gluons, or to two identical ones: 3/8, or 8/3 and a half.
            return 3 / 8 * value if ids[0] == 21 else 8 / 3 * value / 2
        return -value
    flowing_in = quark_lines(ids)
    channels = [
        (s, t, u, flowing_in[0] == -flowing_in[1]),
        (t, s, u, flowing_in[0] == -flowing_in[2]),
        (u, s, t, flowing_in[0] == -flowing_in[3]),
    ]
    exchanged = [(x, y, z) for x, y, z, joined in channels if joined]
    value = sum(4 / 9 * (y**2 + z**2) / x**2 for x, y, z in exchanged)
    if len(exchanged) == 2:
        (x, _, _), (y, _, _) = exchanged
        (z,) = {s, t, u} - {x, y}
        value -= 8 / 27 * z**2 / (x * y)
    return value / (2 if ids[2] == ids[3] else 1)


def test_jets_are_grouped_exactly_as_the_textbook_groups_them() -> None:
    """As few groups as there are different functions, the incoming pairs of one kind apart."""
    points = [(1.0, -0.3, -0.7), (1.0, -0.45, -0.55), (1.0, -0.85, -0.15)]

    def values(ids: tuple[int, ...]) -> list[float]:
        return [textbook_two_to_two(ids, *point) for point in points]

    groups = subprocess_groups("p p > j j")
    for group in groups:
        for ids in group.pdg_ids:
            assert values(ids) == pytest.approx(values(group.pdg_ids[0]), rel=1e-12)
    for one, other in itertools.combinations(groups, 2):
        if one.n_orientations == other.n_orientations and like(one) == like(other):
            assert values(one.pdg_ids[0]) != pytest.approx(values(other.pdg_ids[0]), rel=1e-3)


def like(group: SubprocessGroup) -> list[int]:
    """Which legs are gluons, particles and antiparticles."""
    return [p if p == 21 else 1 if p > 0 else -1 for p in group.pdg_ids[0]]


@pytest.mark.parametrize(("definition", "n_groups"), [("p p > j j", 12), ("p p > j j j", 16)])
def test_pure_jets_need_few_groups_and_a_group_renames_flavours_one_to_one(
    definition: str, n_groups: int
) -> None:
    groups = subprocess_groups(definition)
    assert len(groups) == n_groups
    for group in groups:
        for ids in group.pdg_ids:
            renamed = set(zip(group.pdg_ids[0], ids, strict=True))
            renamed |= {(-a if a != 21 else a, -b if b != 21 else b) for a, b in renamed}
            assert len({a for a, _ in renamed}) == len({b for _, b in renamed}) == len(renamed)


def squared(ids: tuple[int, ...], momenta: Tensor, model: StandardModel) -> Tensor:
    group = SubprocessGroup(name=process_name(ids), pdg_ids=(ids,), qcd_order=1, qed_order=2)
    request = AmplitudeRequest(groups=(group,), model=model, cache_folder=Path())
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    return provide(request, SilentProgress())(momenta, alpha_s, 0).value


def momenta_of_three(n: int) -> Tensor:
    """Massless legs: three momenta that add up to zero, and beams of the same energy."""
    rng = torch.Generator().manual_seed(4)
    a, b = torch.randn(2, n, 3, generator=rng, dtype=torch.float64)
    final = torch.stack([a, b, -a - b], dim=1)
    final = torch.cat([final.norm(dim=-1, keepdim=True), final], dim=-1)
    half = final[..., 0].sum(1) / 2
    zero = torch.zeros_like(half)
    beams = [torch.stack([half, zero, zero, sign * half], dim=-1) for sign in (1, -1)]
    return 80 * torch.cat([torch.stack(beams, dim=1), final], dim=1)


@pytest.mark.parametrize("model", MODELS)
def test_members_share_one_value_at_any_parameters_and_groups_do_not(model: StandardModel) -> None:
    momenta = momenta_of_three(20)
    firsts = []
    for group in subprocess_groups("p p > l+ l- j", model=model):
        assert len(group.pdg_ids) == 4
        values = [squared(ids, momenta, model) for ids in group.pdg_ids]
        for value in values[1:]:
            torch.testing.assert_close(value, values[0], rtol=1e-12, atol=0)
        firsts.append(values[0])
    for one, other in itertools.combinations(firsts, 2):
        assert not torch.allclose(one, other, rtol=1e-3)


def test_charges_tell_quarks_apart_only_where_they_couple() -> None:
    comparison = AmplitudeComparison(StandardModel())

    def n_different(quarks: tuple[int, ...], other: int) -> int:
        found = set()
        for q in quarks:
            ids = (q, -q, other, 21)
            found.add(comparison.assignment(ids, generate_diagrams(ids), "ab", mirrored=False).key)
        return len(found)

    assert n_different((1, 2, 3, 4), other=21) == 1
    assert n_different((1, 2, 3, 4), other=22) == 2
    assert n_different((1, 2, 3, 4, 5), other=21) == 2  # b is heavy


def test_equal_values_at_one_point_of_the_parameters_are_a_coincidence() -> None:
    """gu = gd on the card of the small model; a factor between independent couplings is no law."""
    model = UfoModel(PORTAL)
    assert model.external_parameters()["gu"] == model.external_parameters()["gd"]
    names = {group.name for group in subprocess_groups("p p > x j", model=model)}
    assert {"u u~ > x g", "d d~ > x g"} <= names
    # Neither photon nor x couples with different strength to electrons and muons.
    (group,) = subprocess_groups(
        "u u~ > a1 a2", model=model, multiparticles={"a1": ("e-", "mu-"), "a2": ("e+", "mu+")}
    )
    assert group.pdg_ids == ((2, -2, 11, -11), (2, -2, 13, -13))


def test_a_heavier_quark_is_told_apart() -> None:
    def sizes(model: UfoModel) -> list[int]:
        names = {"q": ("u", "d"), "r": ("u~", "d~")}
        groups = subprocess_groups("g g > q r", model=model, multiparticles=names)
        return [len(group.pdg_ids) for group in groups]

    assert sizes(UfoModel(PORTAL)) == [2]
    assert sizes(UfoModel(PORTAL, {"MD": 3.0})) == [1, 1]


def test_legs_are_permuted_among_those_of_one_name_only() -> None:
    for group in subprocess_groups("p p > j u"):
        assert all(ids[3] == 2 for ids in group.pdg_ids)
    (group,) = subprocess_groups("u d > j j")
    (swapped,) = subprocess_groups("d u > j j")
    assert sorted(group.pdg_ids[0][2:]) == sorted(swapped.pdg_ids[0][2:]) == [1, 2]


def test_identical_particles_keep_a_group_of_their_own() -> None:
    for group in subprocess_groups("p p > j j j"):
        patterns = {tuple(ids[2:].index(p) for p in ids[2:]) for ids in group.pdg_ids}
        assert len(patterns) == 1


def test_beams_are_exchanged_where_that_joins_groups() -> None:
    """u c > u u c u~ is u c > u c c c~ with the beams, and the names of the quarks, exchanged."""
    names = {"q": ("u", "c"), "x": ("u~", "c~")}
    groups = subprocess_groups("q q > q q q x", multiparticles=names)
    (mixed,) = (g for g in groups if g.pdg_ids[0][:2] == (2, 4))
    assert mixed.n_orientations == 2
    assert {ids[:2] for ids in mixed.pdg_ids} == {(2, 4), (4, 2)}
    for a, b, *final in mixed.pdg_ids:
        # The first leg is of the kind that there is three of.
        assert [abs(p) for p in final].count(a) == 3
        assert [abs(p) for p in final].count(b) == 1
