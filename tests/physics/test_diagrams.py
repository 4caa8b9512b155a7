from __future__ import annotations

import re

import feyngraph
import pytest

from mlgen.core import SubprocessGroup
from mlgen.physics.diagrams import diagram_model, generate_diagrams, group_diagrams
from mlgen.physics.model import StandardModel


@pytest.mark.parametrize(
    ("pdg_ids", "n_diagrams"),
    [
        ((-11, 11, -13, 13), 2),  # photon and Z
        ((2, -2, -11, 11, 21), 4),
        ((2, -2, 24, -24), 3),
        ((21, 21, 21, 21), 4),
        ((21, 21, 21, 21, 21), 25),
        ((21, 21, 21, 21, 21, 21), 220),
        ((21, 21, 6, -6, 21), 16),
        ((21, 21, 6, -6, 21, 21), 123),
    ],
)
def test_processes_have_their_textbook_number_of_diagrams(
    pdg_ids: tuple[int, ...], n_diagrams: int
) -> None:
    """Gluons: 4, 25, 220 (Mangano, Parke: Phys. Rept. 200 (1991) 301); others: MadGraph."""
    assert len(generate_diagrams(pdg_ids)) == n_diagrams


@pytest.mark.parametrize(
    "pdg_ids", [(2, -2, -11, 11, 21), (21, 21, 6, -6, 21), (2, 1, 24, -24, 2, 1), (22, 22, 24, -24)]
)
def test_a_diagram_is_a_tree_whose_vertices_the_model_has(pdg_ids: tuple[int, ...]) -> None:
    model = StandardModel()
    rules = {tuple(sorted(v.particles)): dict(v.orders) for v in model.vertices()}
    for diagram in generate_diagrams(pdg_ids):
        assert len(diagram.vertices) == len(diagram.propagators) + 1
        assert sum(len(v) - 2 for v in diagram.vertices) == len(pdg_ids) - 2
        for name in ("QCD", "QED"):
            powers = [rules[vertex].get(name, 0) for vertex in diagram.vertices]
            assert diagram.order(name) == sum(powers)
        # Each inner line meets two vertices, each outer one meets one.
        lines = [legs for vertex in diagram.lines for legs in vertex]
        for propagator in diagram.propagators:
            assert 0 not in propagator.legs
            assert lines.count(propagator.legs) == 2
        for leg in range(len(pdg_ids)):
            assert lines.count(frozenset({leg})) == 1


def test_each_line_carries_what_its_two_vertices_say() -> None:
    model = StandardModel()
    for diagram in generate_diagrams((2, -1, -11, 12, 21)):
        for propagator in diagram.propagators:
            ends = [
                pdg_id
                for vertex, lines in zip(diagram.vertices, diagram.lines, strict=True)
                for pdg_id, legs in zip(vertex, lines, strict=True)
                if legs == propagator.legs
            ]
            assert sorted(ends) == sorted([propagator.pdg_id, model.conjugate(propagator.pdg_id)])


def test_propagators_say_what_flows_and_whether_they_are_spacelike() -> None:
    (photon, z) = sorted(
        generate_diagrams((-11, 11, -13, 13)), key=lambda d: d.propagators[0].pdg_id
    )
    assert photon.propagators[0].legs == z.propagators[0].legs == {2, 3}
    assert [d.propagators[0].pdg_id for d in (photon, z)] == [22, 23]
    assert not photon.propagators[0].is_spacelike
    (w,) = generate_diagrams((2, -1, -11, 12))
    assert w.propagators[0].pdg_id == 24
    assert {
        d.propagators[0].is_spacelike for d in generate_diagrams((2, 1, 2, 1)) if d.order("QCD")
    } == {True}


def test_the_diagrams_of_a_group_have_its_orders() -> None:
    ids = ((2, 2, 24, 24, 1, 1),)
    orders = {"weak": (0, 4), "strong": (2, 2)}
    groups = {
        name: SubprocessGroup(name=name, pdg_ids=ids, qcd_order=qcd, qed_order=qed)
        for name, (qcd, qed) in orders.items()
    }
    counts = {name: len(group_diagrams(group)) for name, group in groups.items()}
    assert all(counts.values())
    assert sum(counts.values()) == len(generate_diagrams(ids[0]))


def test_the_built_in_vertices_are_those_of_the_library_without_ghosts_and_goldstones() -> None:
    """feyngraph's Standard Model, which was made by FeynRules, prints its vertices."""
    names = {particle.name(): particle.pdg() for particle in feyngraph.Model().particles()}
    found = set()
    for vertex in diagram_model().rules.vertices():
        listed = re.search(r"particles: \[(.*?)\]", str(vertex))
        assert listed is not None
        particles = sorted(names[name.strip('"')] for name in listed[1].split(", "))
        if all(abs(p) <= 25 for p in particles):
            found.add((tuple(particles), tuple(sorted(vertex.coupling_orders().items()))))
    ours = {(tuple(sorted(v.particles)), v.orders) for v in StandardModel().vertices()}
    assert ours == found
