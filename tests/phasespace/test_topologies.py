from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import pytest
import torch

from mlgen.card_files import card_names
from mlgen.core import SubprocessGroup
from mlgen.cut_cards import CutsCard, PairCutsCard, ParticleCutsCard
from mlgen.phasespace.topologies import (
    Cluster,
    Line,
    Node,
    Reach,
    Structure,
    Topology,
    clusters,
    legs_of,
    orbits,
    read_topology,
    structures,
)
from mlgen.physics.bounds import CutBounds
from mlgen.physics.diagrams import group_diagrams
from mlgen.physics.kinematics import mass
from tests.phasespace.wired import MODEL, wire_card, wire_process
from tests.subprocess_groups import subprocess_groups


@dataclass(frozen=True)
class Found:
    """What the diagrams of a group become."""

    group: SubprocessGroup
    topologies: tuple[Topology, ...]
    structures: tuple[Structure, ...]
    reach: Reach


def found_in(
    definition: str, cuts: CutsCard | None = None, energy_gev: float = 6500.0, beam: str = "p"
) -> Found:
    hadronic = beam == "p"
    (group, *_) = subprocess_groups(definition, ("p", "p") if hadronic else ("e+", "e-"))
    return found_of(group, CutBounds(cuts or CutsCard()), energy_gev, hadronic)


def found_of(group: SubprocessGroup, bounds: CutBounds, energy_gev: float, hadronic: bool) -> Found:
    def least_mass(legs: frozenset[int]) -> float:
        pdg_ids = [group.pdg_ids[0][leg] for leg in sorted(legs)]
        return bounds.min_mass(pdg_ids, [MODEL.mass_gev(p) for p in pdg_ids])

    def least_pt(legs: frozenset[int]) -> float:
        return sum(bounds.min_pt(group.pdg_ids[0][leg]) for leg in legs)

    reach = Reach(
        mass_gev=MODEL.mass_gev,
        width_gev=MODEL.width_gev,
        least_mass=least_mass,
        least_pt=least_pt,
        sqrt_s_gev=2 * energy_gev,
    )
    topologies = tuple(read_topology(d, group.n_ext) for d in group_diagrams(group))
    return Found(group, topologies, structures(topologies, reach, hadronic), reach)


def resonances(structure: Structure) -> set[tuple[int, tuple[int, ...]]]:
    return {
        (cluster.pdg_id, tuple(sorted(cluster.legs)))
        for cluster in clusters(structure)
        if cluster.kind == "resonance"
    }


# --- what physics says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "n_structures", "n_orbits"),
    [
        ("u u~ > e+ e- g", 1, 1),
        ("g g > g g", 1, 1),
        ("g g > t t~", 1, 1),
        ("g g > t t~ g", 1, 1),
        ("u u~ > e+ e- g g", 4, 3),  # the leptons balance, either gluon does, or they are a pair
        ("g g > t t~ g g", 4, 3),
        ("g g > g g g", 6, 2),  # three that balance; three pairs
    ],
)
def test_processes_have_the_structures_that_one_would_draw(
    definition: str, n_structures: int, n_orbits: int
) -> None:
    cuts = CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=50.0))
    assert len(found_in(definition, cuts).structures) == n_structures
    assert len(wire_process(definition, cuts).phase_space.channels) == n_orbits


@pytest.mark.parametrize("pt_min", [0.0, 20.0, 200.0])
def test_two_tops_are_kept_together_and_radiation_balances_the_pair(pt_min: float) -> None:
    cuts = CutsCard(jets=ParticleCutsCard(pt_min_gev=pt_min))
    (structure,) = found_in("g g > t t~ g", cuts).structures
    pair, gluon = structure.systems
    assert isinstance(pair, Cluster)
    assert pair.kind == "heavy"
    assert pair.legs == {2, 3}
    assert gluon == 4


@pytest.mark.parametrize("pt_min", [0.0, 20.0, 200.0])
def test_a_collinear_pair_is_light_however_hard_its_parts_are(pt_min: float) -> None:
    cuts = CutsCard(jets=ParticleCutsCard(pt_min_gev=pt_min), jet_jet=PairCutsCard(delta_r_min=0.4))
    kinds = {c.kind for s in found_in("g g > g g g", cuts).structures for c in clusters(s)}
    assert kinds == {"light"}


@pytest.mark.parametrize(("mass_min", "kinds"), [(0.0, set()), (60.0, set()), (200.0, {"bounded"})])
def test_a_line_whose_mass_a_cut_bounds_is_kept(mass_min: float, kinds: set[str]) -> None:
    """Of two jets alone: other lines would be s_hat, where nothing happens."""
    cuts = CutsCard(
        jets=ParticleCutsCard(pt_min_gev=50.0), jet_jet=PairCutsCard(mass_min_gev=mass_min)
    )
    structures = found_in("g g > g g", cuts).structures
    found: set[str] = {c.kind for structure in structures for c in clusters(structure)}
    assert found == kinds


def test_a_bounded_line_loses_no_point_below_its_bound() -> None:
    cuts = CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=200.0))
    wired = wire_process("u u~ > e+ e-", cuts)
    n_columns = wired.phase_space.n_dim + wired.phase_space.n_flat
    r = torch.rand((1000, n_columns), generator=torch.Generator().manual_seed(1)).double()
    points = wired.phase_space.forward(r, torch.zeros(1000, dtype=torch.int64))
    assert float(mass(points.momenta[:, 2:4].sum(1)).min()) >= 200.0 * (1 - 1e-12)


def test_a_photon_shares_the_map_of_the_z_beside_it() -> None:
    found = found_in("u u~ > e+ e- g", CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=50.0)))
    lines = {line.pdg_id for topology in found.topologies for line in lines_of(topology)}
    assert lines >= {22, 23}
    (structure,) = found.structures
    assert resonances(structure) == {(23, (2, 3))}


@pytest.mark.parametrize(
    ("definition", "beam", "energy", "cuts"),
    [
        ("u u~ > e+ e- g", "p", 6500.0, PairCutsCard(mass_min_gev=100.0)),
        ("u u~ > e+ e- g", "p", 40.0, PairCutsCard(mass_min_gev=50.0)),
        ("e+ e- > mu+ mu- a", "e", 40.0, PairCutsCard()),
    ],
)
def test_a_z_that_cannot_be_reached_is_no_resonance(
    definition: str, beam: str, energy: float, cuts: PairCutsCard
) -> None:
    found = found_in(definition, CutsCard(lepton_lepton=cuts), energy, beam)
    assert all(resonances(structure) == set() for structure in found.structures)
    at_higher_energy = found_in(definition, None, 6500.0, beam)
    assert any((23, (2, 3)) in resonances(structure) for structure in at_higher_energy.structures)


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("u d~ > e+ ve g", {(24, (2, 3))}),
        ("u u~ > e+ e- mu+ mu-", {(23, (2, 3)), (23, (4, 5))}),
        ("u u~ > w+ b w- b~", {(6, (2, 3)), (-6, (4, 5))}),
        ("u u~ > z b b~ QCD=0", {(25, (3, 4))}),
    ],
)
def test_resonances_are_named(definition: str, expected: set[tuple[int, tuple[int, ...]]]) -> None:
    every = [resonances(structure) for structure in found_in(definition).structures]
    assert expected in every
    assert all(len(legs) > 1 for _, legs in set().union(*every))


def test_a_pair_of_w_bosons_has_an_s_channel_and_a_chain_with_a_neutrino() -> None:
    found = found_in("e+ e- > w+ w-", None, 250.0, "e")
    spacelike = []
    for structure in found.structures:
        (whole,) = structure.systems
        assert isinstance(whole, Cluster)
        assert whole.legs == {2, 3}
        spacelike.append(whole.spacelike_gev)
    assert sorted(spacelike, key=str) == [0.0, None]
    lines = {pdg_id for topology in found.topologies for pdg_id in topology.spacelike}
    assert lines in ({-12}, {12})


def test_a_t_channel_w_is_a_massive_spacelike_line() -> None:
    masses = {
        cluster.spacelike_gev
        for structure in found_in("e+ e- > ve ve~", None, 250.0, "e").structures
        for cluster in clusters(structure)
    }
    assert masses == {None, MODEL.mass_gev(24)}


# --- laws ------------------------------------------------------------------------------------


def lines_of(topology: Topology) -> list[Line]:
    found: list[Line] = []
    nodes = list(topology.systems)
    while nodes:
        node = nodes.pop()
        if isinstance(node, Line):
            found.append(node)
            nodes += node.parts
    return found


def line_legs(line: Line | int) -> frozenset[int]:
    if isinstance(line, int):
        return frozenset({line})
    return frozenset().union(*map(line_legs, line.parts))


@cache
def every_card() -> list[Found]:
    """The groups of all cards; one of each set that differs in flavour only."""
    found = []
    for name in card_names():
        wired = wire_card(name)
        groups = {wired.phase_space.channels[c].group for c in wired.unlike_channels}
        for group in groups:
            setting = wired.setting
            energy = math.sqrt(setting.s) / 2
            found.append(found_of(wired.groups[group], setting.cuts, energy, setting.hadronic))
    return found


def test_topologies_hold_each_final_leg_once() -> None:
    for found in every_card():
        final = list(range(2, found.group.n_ext))
        for topology in found.topologies:
            legs = sorted(itertools.chain(*map(line_legs, topology.systems)))
            assert legs == final
            assert len(topology.spacelike) == len(topology.systems) - 1
        for structure in found.structures:
            assert sorted(itertools.chain(*map(legs_of, structure.systems))) == final


def test_no_structure_is_there_twice() -> None:
    for found in every_card():
        assert len(set(found.structures)) == len(found.structures) > 0


def test_all_that_may_peak_together_in_a_diagram_is_together_in_a_structure() -> None:
    """Resonances that are within reach and light lines, so also of diagrams with contact vertices."""
    for found in every_card():
        every = [{cluster.legs for cluster in clusters(s)} for s in found.structures]
        for topology in found.topologies:
            peaks = {
                line_legs(line)
                for line in lines_of(topology)
                if found.reach.is_resonant(line) or found.reach.is_light(line)
            }
            everything = frozenset(range(2, found.group.n_ext))
            peaks -= {legs for legs in peaks if legs == everything}
            assert any(peaks <= legs for legs in every), (found.group.name, peaks)


def test_three_parts_meet_only_where_a_resonance_decays_so() -> None:
    for found in every_card():
        for structure in found.structures:
            for cluster in clusters(structure):
                assert len(cluster.parts) == 2 or cluster.kind == "resonance"


def identical(found: Found) -> list[list[int]]:
    pdg_ids = found.group.pdg_ids[0]
    final = sorted(range(2, len(pdg_ids)), key=lambda leg: pdg_ids[leg])
    groups = [list(legs) for _, legs in itertools.groupby(final, key=lambda leg: pdg_ids[leg])]
    return [legs for legs in groups if len(legs) > 1]


def exchanges(found: Found) -> list[dict[int, int]]:
    places = identical(found)
    return [
        dict(zip(itertools.chain(*places), itertools.chain(*orders), strict=True))
        for orders in itertools.product(*map(itertools.permutations, places))
    ]


@pytest.mark.parametrize(
    "definition", ["g g > g g g", "u u~ > e+ e- g g", "u u~ > z g g g", "g g > t t~ g g"]
)
def test_relabelling_is_the_action_of_a_group(definition: str) -> None:
    found = found_in(definition)
    every = exchanges(found)
    for structure in found.structures:
        assert structure.relabelled({}) == structure
        for first, second in itertools.product(every, every):
            both = {leg: second.get(to, to) for leg, to in first.items()}
            assert structure.relabelled(first).relabelled(second) == structure.relabelled(both)


def whichever_balances(structures: Iterable[Structure]) -> set[Structure | frozenset[Node]]:
    """Structures; those of two systems, of which the diagrams choose one to balance, as pairs."""
    return {s if len(s.systems) > 2 else frozenset(s.systems) for s in structures}


def test_the_structures_of_a_process_are_those_of_any_order_of_identical_legs() -> None:
    for found in (*every_card(), found_in("g g > g g g g")):
        expected = whichever_balances(found.structures)
        for leg in exchanges(found):
            there = [structure.relabelled(leg) for structure in found.structures]
            assert whichever_balances(there) == expected, found.group.name


def test_orbits_hold_each_structure_once_and_say_how_it_comes_from_the_first() -> None:
    """Of two like systems either one balances the other."""
    for found in (*every_card(), found_in("g g > g g g g")):
        places = identical(found)
        n_orders = math.prod(math.factorial(len(legs)) for legs in places)
        members = orbits(found.structures, places)
        together = [structure for orbit in members for structure, _ in orbit]
        assert len(set(together)) == len(together)
        assert set(together) >= set(found.structures)
        assert whichever_balances(together) == whichever_balances(found.structures)
        for orbit in members:
            first, unchanged = orbit[0]
            assert all(leg == to for leg, to in unchanged.items())
            assert n_orders % len(orbit) == 0
            for structure, leg in orbit:
                assert first.relabelled(leg) == structure


def test_without_identical_legs_each_structure_is_an_orbit() -> None:
    found = found_in("e+ e- > u u~ g", None, 250.0, "e")
    assert [len(orbit) for orbit in orbits(found.structures, [])] == [1] * len(found.structures)


@pytest.mark.parametrize(
    ("definition", "sizes"),
    [
        ("u u~ > e+ e- g g", [1, 1, 2]),
        ("g g > g g g", [3, 3]),
    ],
)
def test_orbits_have_the_sizes_that_one_counts(definition: str, sizes: list[int]) -> None:
    cuts = CutsCard(lepton_lepton=PairCutsCard(mass_min_gev=50.0))
    found = found_in(definition, cuts)
    assert sorted(map(len, orbits(found.structures, identical(found)))) == sizes


def test_the_order_of_the_systems_after_the_first_makes_no_other_structure() -> None:
    structure = Structure((2, 3, 4, 5))
    assert structure in found_in("g g > g g g g").structures
    for order in itertools.permutations((3, 4, 5)):
        assert structure.relabelled(dict(zip((3, 4, 5), order, strict=True))) == structure
    assert structure.relabelled({2: 3, 3: 2}) != structure


def test_two_pairs_of_identical_leptons_make_two_z_bosons_in_two_ways() -> None:
    """Of which either one balances the other."""
    found = found_in("u u~ > e+ e- e+ e-")
    n_members = [
        len(orbit)
        for orbit in orbits(found.structures, identical(found))
        if [len(legs) for _, legs in resonances(orbit[0][0])] == [2, 2]
    ]
    assert n_members == [4]
