from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from mlgen.core import EventBatch
from mlgen.diagnostics.observables import Observable, compare, observables
from tests.diagnostics.samples import eej, events_of, massless, random_momenta


def named(events: EventBatch) -> dict[str, Observable]:
    return {observable.name: observable for observable in observables(events)}


def test_what_is_plotted_follows_from_the_final_state() -> None:
    assert list(named(eej(100, seed=1))) == [
        "transverse momentum of e+",
        "pseudorapidity of e+",
        "transverse momentum of e-",
        "pseudorapidity of e-",
        "transverse momentum of jet",
        "pseudorapidity of jet",
        "mass of e+ e-",
        "transverse momentum of e+ e-",
        "rapidity of e+ e-",
    ]


def test_incoming_and_intermediate_particles_are_not_final() -> None:
    momenta = random_momenta(10, 5, seed=1)
    events = events_of(momenta, [21, 21, 23, 6, -6], status=[-1, -1, 2, 1, 1])
    names = named(events)
    assert "transverse momentum of t" in names
    assert "mass of t t~" in names
    assert not any("jet" in name or " z" in name for name in names)


def test_jets_are_ranked_by_pt_whatever_their_flavour() -> None:
    pt = torch.tensor([[20.0, 50.0], [70.0, 30.0]], dtype=torch.float64)
    events = events_of(massless(pt, 0 * pt, 0 * pt), [1, 21])
    names = named(events)
    assert names["transverse momentum of jet 1"].of(events).tolist() == [50, 70]
    assert names["transverse momentum of jet 2"].of(events).tolist() == [20, 30]
    assert names["distance of the two hardest jets"].of(events).tolist() == [0, 0]


def test_an_event_without_the_particle_has_no_value() -> None:
    two = events_of(random_momenta(3, 2, seed=1), [21, 21])
    one = events_of(random_momenta(2, 1, seed=2), [21])
    events = EventBatch.concatenate([two, one])
    values = named(events)["transverse momentum of jet 2"].of(events)
    assert values.isnan().tolist() == [False, False, False, True, True]
    assert named(two)["transverse momentum of jet 2"].of(one).isnan().all()


def test_the_mass_of_a_pair_is_that_of_its_sum() -> None:
    pt = torch.full((1, 2), 45.594, dtype=torch.float64)
    phi = torch.tensor([[0.0, math.pi]], dtype=torch.float64)
    events = events_of(massless(pt, 0 * pt, phi), [-13, 13])
    names = named(events)
    assert names["mass of mu+ mu-"].of(events).item() == pytest.approx(91.188, rel=1e-12)
    assert names["mass of mu+ mu- around the Z"].window == (71, 111)


def test_an_observable_with_one_value_is_not_plotted() -> None:
    n = 1000
    eta = random_momenta(n, 1, seed=1)[:, 0, 3].div(50)
    pt = 250 / eta.cosh()
    momenta = torch.stack(
        [massless(pt, eta, 0 * eta), massless(pt, -eta, 0 * eta + math.pi)], dim=1
    )
    events = events_of(momenta, [13, -13])
    plotted = [o.name for o in observables(events) if compare(o, events, events, 1.0)]
    assert plotted == [
        "transverse momentum of mu-",
        "pseudorapidity of mu-",
        "transverse momentum of mu+",
        "pseudorapidity of mu+",
    ]


def test_a_spectrum_integrates_to_the_cross_section() -> None:
    events, reference = eej(20_000, seed=1), eej(20_000, seed=2, weighted=True)
    for observable in observables(events):
        comparison = compare(replace(observable, window=None), events, reference, 212.0)
        assert comparison is not None
        widths = np.diff(comparison.edges)
        for spectrum in (comparison.events, comparison.reference):
            assert 212 * 0.997 < (spectrum * widths).sum() <= 212 * (1 + 1e-12)


def test_errors_are_the_square_root_of_the_sum_of_squares() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0, 1.0] * 50, dtype=torch.float64)
    pt = torch.tensor([10.0, 10.0, 30.0, 100.0] * 50, dtype=torch.float64)
    events = events_of(massless(pt, pt * 0, pt * 0)[:, None], [21], weight)
    comparison = compare(named(events)["transverse momentum of jet"], events, events, 350.0)
    assert comparison is not None
    widths = np.diff(comparison.edges)
    assert (comparison.events * widths)[0] == pytest.approx(150)
    assert (comparison.events_error * widths)[0] == pytest.approx(math.sqrt(50 + 200))


def test_p_values_are_uniform_for_samples_of_one_distribution() -> None:
    pt = named(eej(10, seed=0))["transverse momentum of e+"]
    p_values = []
    for seed in range(100):
        events, reference = eej(2000, seed=seed), eej(3000, seed=seed + 10_000, weighted=True)
        comparison = compare(pt, events, reference, 1.0)
        assert comparison is not None
        p_values.append(comparison.p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_samples_that_differ_are_seen_to_differ() -> None:
    events, reference = eej(10_000, seed=1), eej(10_000, seed=2, weighted=True, mean_pt=36)
    comparison = compare(named(events)["transverse momentum of e+"], events, reference, 1.0)
    assert comparison is not None
    assert comparison.p_value < 1e-6


def test_negative_weights_are_kept() -> None:
    events, reference = eej(5000, seed=1), eej(5000, seed=2, weighted=True)
    signs = torch.where(torch.arange(5000) % 5 == 0, -1.0, 1.0).double()
    comparison = compare(
        named(events)["pseudorapidity of e+"],
        replace(events, weight=signs),
        replace(reference, weight=reference.weight * signs),
        212.0,
    )
    assert comparison is not None
    widths = np.diff(comparison.edges)
    assert (comparison.events * widths).sum() == pytest.approx(212, rel=0.01)
    assert comparison.p_value > 1e-4
