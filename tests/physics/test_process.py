from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.amplitudes.closed_form import provide
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.card_files import card_names, find_card, read_card
from mlgen.core import SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, ProcessError
from mlgen.physics.model import StandardModel
from mlgen.physics.process import (
    beam_pdg_id,
    particle_name,
    particle_names,
    process_name,
    read_process,
)
from tests.laws import boost_and_rotate
from tests.subprocess_groups import subprocess_groups

Groups = tuple[SubprocessGroup, ...]
PARTONS = particle_names(StandardModel())["p"]


def at_protons(definition: str) -> Groups:
    return subprocess_groups(definition)


def ordered_subprocesses(groups: Groups) -> Counter[tuple[int, ...]]:
    """All that collide, first parton from the first beam, the final state sorted, and how often."""
    count: Counter[tuple[int, ...]] = Counter()
    for group in groups:
        for a, b, *final in group.pdg_ids:
            for beams in ((a, b), (b, a))[: group.n_orientations]:
                count[(*beams, *sorted(final))] += 1
    return count


def charge(pdg_id: int) -> int:
    """In units of e/3."""
    quarks = {1: -1, 2: 2, 3: -1, 4: 2, 5: -1, 6: 2}
    others = {11: -3, 12: 0, 13: -3, 14: 0, 15: -3, 16: 0, 21: 0, 22: 0, 23: 0, 24: 3, 25: 0}
    return (quarks | others)[abs(pdg_id)] * (1 if pdg_id > 0 else -1)


def flavour(pdg_ids: tuple[int, ...]) -> dict[int, int]:
    """The net number of each fermion, zeros left out."""
    count: Counter[int] = Counter()
    for pdg_id in pdg_ids:
        if abs(pdg_id) < 20:
            count[abs(pdg_id)] += 1 if pdg_id > 0 else -1
    return {key: value for key, value in count.items() if value}


def conserving(final: tuple[tuple[int, ...], ...]) -> set[tuple[int, ...]]:
    """What two partons can make without changing flavours, by trying all of it."""
    found = set()
    for ids in itertools.product(PARTONS, PARTONS, *final):
        if flavour(ids[:2]) == flavour(ids[2:]):
            found.add((*ids[:2], *sorted(ids[2:])))
    return found


@pytest.mark.parametrize(
    ("definition", "final", "n_ordered"),
    [
        ("p p > e+ e- j", ((-11,), (11,), PARTONS), 24),
        ("p p > t t~ j", ((6,), (-6,), PARTONS), 25),
        ("p p > e+ e-", ((-11,), (11,)), 8),
        ("p p > j j", (PARTONS, PARTONS), 117),
        ("p p > a j", ((22,), PARTONS), 24),
    ],
)
def test_each_subprocess_that_conserves_flavour_is_there_once(
    definition: str, final: tuple[tuple[int, ...], ...], n_ordered: int
) -> None:
    expected = conserving(final)
    # Without a quark there is no photon, Z or lepton at tree level.
    if {-11, 22} & {ids[0] for ids in final}:
        expected = {ids for ids in expected if any(abs(p) <= 4 for p in ids)}
    count = ordered_subprocesses(at_protons(definition))
    assert set(count) == expected
    assert set(count.values()) == {1}
    assert count.total() == n_ordered


def test_both_charges_of_a_w_come_from_all_pairs_of_generations() -> None:
    ordered = ordered_subprocesses(at_protons("p p > e+ ve"))
    assert set(ordered) == {
        (2, -1, -11, 12),
        (-1, 2, -11, 12),
        (4, -3, -11, 12),
        (-3, 4, -11, 12),
    }


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (
            "p p > e+ e- j",
            {
                "g u > e+ e- u": {2, 4},
                "g d > e+ e- d": {1, 3},
                "g u~ > e+ e- u~": {2, 4},
                "g d~ > e+ e- d~": {1, 3},
                "u u~ > e+ e- g": {2, 4},
                "d d~ > e+ e- g": {1, 3},
            },
        ),
        (
            "p p > t t~ j",
            {
                "g g > t t~ g": set(),
                "g u > t t~ u": {1, 2, 3, 4},
                "g u~ > t t~ u~": {1, 2, 3, 4},
                "u u~ > t t~ g": {1, 2, 3, 4},
            },
        ),
        ("p p > e+ e-", {"u u~ > e+ e-": {2, 4}, "d d~ > e+ e-": {1, 3}}),
    ],
)
def test_groups_join_generations_and_where_no_charge_couples_all_light_flavours(
    definition: str, expected: dict[str, set[int]]
) -> None:
    got = {
        group.name: {abs(p) for ids in group.pdg_ids for p in ids if abs(p) <= 4}
        for group in at_protons(definition)
    }
    assert got == expected


def test_lepton_beams_have_one_subprocess() -> None:
    (group,) = subprocess_groups("e+ e- > mu+ mu-", ("e+", "e-"))
    assert group == SubprocessGroup(
        name="e+ e- > mu+ mu-", pdg_ids=((-11, 11, -13, 13),), n_orientations=1, qed_order=2
    )


def test_legs_keep_the_order_of_the_definition() -> None:
    for group in at_protons("p p > j e- e+"):
        for ids in group.pdg_ids:
            assert ids[3:] == (11, -11)
            assert ids[2] in PARTONS


@pytest.mark.parametrize(
    "definition", ["p p > e+ e- j", "p p > t t~ j", "p p > j j", "p p > e+ ve j", "p p > w+ w- j"]
)
def test_members_of_a_group_conserve_charge_and_have_like_legs(definition: str) -> None:
    for group in at_protons(definition):
        assert group.name == process_name(group.pdg_ids[0])
        assert len(set(group.pdg_ids)) == len(group.pdg_ids)
        for ids in group.pdg_ids:
            assert sum(map(charge, ids[:2])) == sum(map(charge, ids[2:]))
            for mine, first in zip(ids, group.pdg_ids[0], strict=True):
                quarks = abs(mine) <= 4 and abs(first) <= 4
                assert mine == first or (quarks and mine * first > 0)
                if definition not in ("p p > t t~ j", "p p > j j"):
                    assert charge(mine) == charge(first)


def test_only_unlike_partons_have_a_mirrored_assignment() -> None:
    for group in at_protons("p p > j j"):
        for a, b, *_ in group.pdg_ids:
            assert group.n_orientations == (1 if a == b else 2)


def test_named_partons_come_from_the_first_and_the_second_beam_as_named() -> None:
    for definition in ("u u~ > e+ e- g", "u~ u > e+ e- g", "u g > e+ e- u"):
        (group,) = at_protons(definition)
        assert group.name == definition
        assert group.n_orientations == 1
    count = ordered_subprocesses(at_protons("p u > e+ e- j"))
    assert set(count.elements()) == {(21, 2, -11, 2, 11), (-2, 2, -11, 11, 21)}


def phase_space_points(n_final: int, n: int = 50) -> Tensor:
    """Massless points at rest: momenta that sum to zero, energies scaled; by hand for 2 and 3 legs."""
    rng = torch.Generator().manual_seed(n_final)
    directions = torch.randn(n, n_final, 3, generator=rng, dtype=torch.float64)
    if n_final == 2:
        directions[:, 1] = -directions[:, 0]
    else:
        directions[:, 2] = -directions[:, 0] - directions[:, 1]
    final = torch.cat([directions.norm(dim=-1, keepdim=True), directions], dim=-1)
    half = final[..., 0].sum(1) / 2
    beams = torch.zeros(n, 2, 4, dtype=torch.float64)
    beams[:, :, 0] = half[:, None]
    beams[:, 0, 3], beams[:, 1, 3] = half, -half
    return boost_and_rotate(100 * torch.cat([beams, final], dim=1), seed=2)


def squared(pdg_ids: tuple[int, ...], momenta: Tensor) -> Tensor:
    group = SubprocessGroup(name=process_name(pdg_ids), pdg_ids=(pdg_ids,))
    request = AmplitudeRequest(groups=(group,), model=StandardModel(), cache_folder=Path())
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    return provide(request, SilentProgress())(momenta, alpha_s, 0).value


@pytest.mark.parametrize("definition", ["p p > e+ e- j", "p p > e+ e-", "p p > mu+ mu- j"])
def test_the_members_of_a_group_share_one_matrix_element_leg_by_leg(definition: str) -> None:
    groups = at_protons(definition)
    momenta = phase_space_points(groups[0].n_ext - 2)
    values = []
    for group in groups:
        first, *others = (squared(ids, momenta) for ids in group.pdg_ids)
        assert others
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-13, atol=0)
        values.append(first)
    # A negative control: other groups have other values, so nothing else could be joined.
    for one, other in itertools.combinations(values, 2):
        assert not torch.allclose(one, other, rtol=1e-3)


def test_a_mirrored_assignment_has_the_same_matrix_element_with_its_legs_exchanged() -> None:
    momenta = phase_space_points(3)
    exchanged = momenta[:, [1, 0, 2, 3, 4]]
    for group in at_protons("p p > e+ e- j"):
        a, b, *final = group.pdg_ids[0]
        torch.testing.assert_close(
            squared((b, a, *final), exchanged),
            squared(group.pdg_ids[0], momenta),
            rtol=1e-12,
            atol=0,
        )


def test_the_lowest_order_in_the_electroweak_coupling_is_kept() -> None:
    """u d~ > t t~ j needs a W, so it is not of the lowest order of `p p > t t~ j`; t b~ needs one anyway."""
    assert all(ids[0] + ids[1] == 0 or 21 in ids[:2] for ids in all_members("p p > t t~ j"))
    assert all_members("p p > t b~")


def all_members(definition: str) -> list[tuple[int, ...]]:
    return [ids for group in at_protons(definition) for ids in group.pdg_ids]


def test_the_subprocesses_of_each_card_can_be_read() -> None:
    for name in card_names():
        card = read_card(find_card(name))
        assert read_process(card.process, card.beams.particles, StandardModel(card.model))


def test_the_result_does_not_depend_on_the_run() -> None:
    assert at_protons("p p > j j") == at_protons("p p > j j")


@pytest.mark.parametrize(
    ("definition", "beams", "message"),
    [
        ("p p > e+ x", ("p", "p"), "no particle 'x'; known: p, j, l-"),
        ("p > e+ e-", ("p", "p"), "with two particles on that side, got 1"),
        ("p p p > e+ e-", ("p", "p"), "with two particles on that side, got 3"),
        ("p p > z", ("p", "p"), "with two to six particles on that side, got 1"),
        ("p p > " + 7 * "j ", ("p", "p"), "with two to six particles on that side, got 7"),
        ("p p > e+ > e-", ("p", "p"), "no particle '>'"),
        ("e+ e- > mu+ mu-", ("p", "p"), "do not come from beams.particles = ['p', 'p']"),
        ("e- e+ > mu+ mu-", ("e+", "e-"), "do not come from beams.particles = ['e+', 'e-']"),
        ("p p > e+ e-", ("e+", "e-"), "do not come from beams.particles = ['e+', 'e-']"),
        ("b b~ > e+ e-", ("p", "p"), "do not come from beams.particles = ['p', 'p']"),
        ("l+ l- > mu+ mu-", ("e+", "e-"), "do not come from"),
        ("g g > e+ e-", ("p", "p"), "no tree diagrams"),
        ("u u > e+ e-", ("p", "p"), "no tree diagrams"),
        ("u s~ > e+ ve", ("p", "p"), "no tree diagrams"),  # a diagonal CKM matrix
        ("p p > e+ mu-", ("p", "p"), "no tree diagrams"),
        ("p p > e+ e+", ("p", "p"), "no tree diagrams"),
    ],
)
def test_what_cannot_be_is_named(definition: str, beams: tuple[str, str], message: str) -> None:
    with pytest.raises(ProcessError) as error:
        subprocess_groups(definition, beams)
    assert str(error.value).startswith(f"process.definition = {definition!r}: ")
    assert message in str(error.value)


def test_multiparticles_of_the_card_stand_for_their_particles() -> None:
    names = {"e": ("e+", "e-"), "v": ("ve", "ve~")}
    groups = subprocess_groups("p p > e v", multiparticles=names)
    assert set(ordered_subprocesses(groups)) == {
        *ordered_subprocesses(at_protons("p p > e+ ve")),
        *ordered_subprocesses(at_protons("p p > e- ve~")),
    }
    # Names may be made of names, and what is named twice counts once.
    nested = {"e": ("e+", "e-"), "l": ("e", "e+", "l+", "mu-")}
    count = ordered_subprocesses(subprocess_groups("u u~ > l l", multiparticles=nested))
    assert count == {(2, -2, -11, 11): 1, (2, -2, -13, 13): 1}


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        ("j", ("g", "b"), "j = ['g', 'b']: expected a name that is not taken; j is built in"),
        ("e+", ("mu+",), "e+ = ['mu+']: expected a name that is not taken"),
        ("lep", ("e+", "x"), "lep = ['e+', 'x']: no particle 'x'; known: p, j, l-"),
        ("lep", (), "lep = []: expected a name without blanks and at least one particle"),
        ("a lep", ("e+",), "a lep = ['e+']: expected a name without blanks"),
    ],
)
def test_a_multiparticle_that_is_none_is_named(
    name: str, members: tuple[str, ...], message: str
) -> None:
    with pytest.raises(CardError) as error:
        subprocess_groups("p p > e+ e-", multiparticles={name: members})
    assert str(error.value).startswith(f"process.multiparticles.{message}")


@pytest.mark.parametrize(
    ("definition", "orders"),
    [
        ("u u > w+ w+ d d", (2, 2)),
        ("u u > w+ w+ d d QCD=0", (0, 4)),
        ("u u > w+ w+ d d QED = 2", (2, 2)),
        ("u u > w+ w+ d d QED<=4 QCD<=0", (0, 4)),
        ("p p > t b~", (0, 2)),
        ("p p > t t~ QED=1", (2, 0)),
        ("p p > t t~ QCD=0", (0, 2)),
        ("p p > e+ e- j QED=9 QCD=9", (1, 2)),  # there is no other order
        ("g g > h h h t t~", (2, 3)),
    ],
)
def test_coupling_orders_are_bounded_from_above(definition: str, orders: tuple[int, int]) -> None:
    for group in at_protons(definition):
        assert (group.qcd_order, group.qed_order) == orders


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (
            "u u > w+ w+ d d QED=4",
            "u u > w+ w+ d d has diagrams of several coupling orders (QCD=2 QED=2; QED=4), which "
            "interfere and are not kept apart here: expected bounds that leave one of them; "
            "set QCD=0 or QED=2 at its end",
        ),
        ("p p > j j QED=2", "set QCD=0 or QED=0 at its end"),
        ("p p > t t~ QCD=2", "set QCD=0 or QED=0 at its end"),
        ("p p > e+ e- j QED=1", "no tree diagrams of these coupling orders; there are QCD=1 QED=2"),
        ("p p > e+ e- NP=1", "'NP=1': expected each coupling order once, of QCD, QED"),
        ("p p > e+ e- QED=2 QED=4", "'QED=2': expected each coupling order once, of QCD, QED"),
        ("p p > e+ e- QED==2", "no particle 'QED==2'"),
    ],
)
def test_a_mixture_of_coupling_orders_is_refused(definition: str, message: str) -> None:
    with pytest.raises(ProcessError) as error:
        at_protons(definition)
    assert str(error.value).startswith(f"process.definition = {definition!r}: ")
    assert message in str(error.value)


def test_subprocesses_of_one_definition_may_differ_in_their_orders() -> None:
    groups = subprocess_groups("p p > j x QED=1", multiparticles={"x": ("a", "g")})
    orders = {(22 in group.pdg_ids[0], group.qcd_order, group.qed_order) for group in groups}
    assert orders == {(True, 1, 1), (False, 2, 0)}


@pytest.mark.parametrize(
    "definition",
    [
        "p p > z h",
        "p p > w+ w- z",
        "p p > a a",
        "p p > e+ e- mu+ mu-",
        "p p > t t~ b b~",
        "p p > e+ ve vl~ l-",
        "u u~ > b e+ ve b~ mu- vm~",
    ],
)
def test_final_states_of_all_kinds_have_subprocesses(definition: str) -> None:
    for group in at_protons(definition):
        assert group.n_ext == 2 + len(definition.split(">")[1].split())
        for ids in group.pdg_ids:
            assert sum(map(charge, ids[:2])) == sum(map(charge, ids[2:]))


def test_an_unknown_beam_is_named() -> None:
    with pytest.raises(ProcessError, match=r"beams.particles = 'q': expected one of p, e-, e\+"):
        subprocess_groups("p p > e+ e-", ("p", "q"))
    with pytest.raises(ProcessError, match="antiprotons are not supported"):
        subprocess_groups("p p > e+ e-", ("p", "p~"))
    assert [beam_pdg_id(name) for name in ("p", "e-", "mu+")] == [2212, 11, -13]


def test_names_are_those_of_the_particle_data_group() -> None:
    from particle import Particle

    model = StandardModel()
    for pdg_id, particle in model.particles.items():
        assert particle_names(model)[particle_name(pdg_id)] == (pdg_id,)
        assert Particle.from_pdgid(pdg_id).three_charge == charge(pdg_id)
        assert round(3 * particle.charge) == charge(pdg_id)
    assert process_name((2, -2, -11, 11, 21)) == "u u~ > e+ e- g"
