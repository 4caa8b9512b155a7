"""Unweighted events are distributed as an independent integration says: VEGAS on flat phase space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.distributions import (
    Reference,
    compare,
    observables,
    reference,
    spectra_of,
    unweighted_events,
    weighted_sample,
)
from mlgen.core import EventBatch
from mlgen.physics.kinematics import pt

QUICK = (
    "run.sampler=vegas",
    "run.n_events=15_000",
    "run.n_estimate=32_768",
    "vegas.n_iterations=6",
    "vegas.n_points=20_000",
)


def p_values(events: EventBatch, theirs: Reference) -> dict[str, float]:
    """The p-value of each observable."""
    found = compare(spectra_of(events, theirs.spectra.edges), theirs.spectra)
    assert min(comparison.n_dof for comparison in found) >= 15
    return {comparison.observable: comparison.p_value for comparison in found}


@pytest.fixture(scope="module")
def eej() -> Reference:
    sample = weighted_sample("pp_to_eej", "vegas.n_points=80_000", "vegas.n_iterations=10")
    return reference(sample, 1_200_000)


@pytest.fixture(scope="module")
def eej_events() -> EventBatch:
    return unweighted_events("pp_to_eej", *QUICK)


def test_events_of_lepton_pairs_with_a_jet_are_distributed_as_flat_phase_space_says(
    eej: Reference, eej_events: EventBatch
) -> None:
    assert eej.ess > len(eej_events)
    found = p_values(eej_events, eej)
    assert {"pt(j)", "eta(e+)", "m(e+ e-)", "delta_r(e+ j)"} <= set(found)
    assert min(found.values()) > 1e-4, found


@pytest.mark.parametrize(
    ("shift", "observable"),
    [
        ("cuts.jets.pt_min_gev=21", "pt(j)"),
        ("model.z_mass_gev=91.5", "m(e+ e-)"),
        ("cuts.jet_lepton.delta_r_min=0.7", "delta_r(e+ j)"),
    ],
)
def test_events_of_another_card_are_noticed(shift: str, observable: str, eej: Reference) -> None:
    assert p_values(unweighted_events("pp_to_eej", *QUICK, shift), eej)[observable] < 1e-6


def test_events_that_lost_their_overweights_are_noticed(eej: Reference) -> None:
    # A quarter of the cross section is overweight; then every weight is cut to 1.
    events = unweighted_events("pp_to_eej", *QUICK, "run.overweight_budget=0.25")
    assert min(p_values(events, eej).values()) > 1e-4
    clipped = replace(events, weight=torch.ones_like(events.weight))
    assert min(p_values(clipped, eej).values()) < 1e-6


def test_events_with_a_jet_beside_top_pairs_are_distributed_as_flat_phase_space_says(
    artifact_cache: Path,
) -> None:
    # The gluonic part of p p > t t~ j, whose matrix element other tests need as well.
    folder = f"matrix_element.cache_folder={artifact_cache}"
    sample = weighted_sample("gg_to_ttg", folder, "vegas.n_points=20_000")
    theirs = reference(sample, 200_000)
    assert theirs.ess > 30_000
    events = unweighted_events("gg_to_ttg", folder, *QUICK)
    found = p_values(events, theirs)
    assert {"pt(j)", "eta(t)", "m(t t~)", "delta_r(j t)"} <= set(found)
    assert min(found.values()) > 1e-4, found
    is_jet = (events.status == 1) & (events.pdg_id == 21)
    harder = (pt(events.momenta) * is_jet).sum(1) > 21
    assert p_values(events.select(harder), theirs)["pt(j)"] < 1e-6


def test_observables_are_those_of_each_particle_each_pair_and_all() -> None:
    assert list(observables(["a", "b"])) == [
        *("pt(a)", "eta(a)", "pt(b)", "eta(b)"),
        *("m(a b)", "delta_r(a b)", "y(a b)", "m(all)", "y(all)"),
    ]
