"""Jets, against anti-kt written out."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mlgen.errors import CardError, MissingExtra
from mlgen.physics.kinematics import eta, mass, pt
from mlgen.radiation.cluster import MASSLESS, CompactEvents, JetDefinition, cluster
from mlgen.radiation.jets import check_jet_events, from_cylindrical

pytest.importorskip("fastjet", reason="needs the extra `radiation`")

HARD = np.array([[100.0, 20.0, 0.0, 5.0]])
Array = NDArray[np.float64]


def shower_like(seed: int, n: int = 40) -> Array:
    """Particles (n, 4) around three directions, and anywhere, (E, px, py, pz)."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform((-2.5, -math.pi), (2.5, math.pi), (3, 2))
    which = rng.integers(4, size=n)
    anywhere = rng.uniform((-6, -math.pi), (6, math.pi), (n, 2))
    around = centre[which % 3] + 0.2 * rng.standard_normal((n, 2))
    along, azimuth = np.where(which[:, None] == 3, anywhere, around).T
    columns = [rng.exponential(8.0, n) + 0.1, azimuth, along, np.full(n, 0.14)]
    return np.asarray(from_cylindrical(*(torch.from_numpy(column) for column in columns)))


def awkward_events(events: list[Array]) -> Any:
    columns = {
        name: ak.unflatten(np.concatenate(events)[:, k], [len(event) for event in events])
        for k, name in enumerate(("E", "px", "py", "pz"))
    }
    return ak.zip(columns, with_name="Momentum4D")


def clustered(events: list[Array], definition: JetDefinition) -> CompactEvents:
    hard = np.repeat(HARD, len(events), axis=0)
    rng = torch.Generator().manual_seed(1)
    return cluster(hard, awkward_events(events), definition, rng)


def slow_anti_kt(particles: Array, definition: JetDefinition) -> Array:
    """The definition of arXiv:0802.1189, eqs. (1) and (2), step by step: jets (k, 4) in falling pt."""
    left = list(particles)
    jets: list[Array] = []
    while left:
        p = np.array(left)
        kt2 = p[:, 1] ** 2 + p[:, 2] ** 2
        y = 0.5 * np.log((p[:, 0] + p[:, 3]) / (p[:, 0] - p[:, 3]))
        azimuth = np.arctan2(p[:, 2], p[:, 1])
        turn = (azimuth[:, None] - azimuth + math.pi) % (2 * math.pi) - math.pi
        delta2 = (y[:, None] - y) ** 2 + turn**2
        distance = np.minimum(1 / kt2[:, None], 1 / kt2) * delta2 / definition.radius**2
        np.fill_diagonal(distance, 1 / kt2)
        i, j = sorted(np.unravel_index(distance.argmin(), distance.shape))
        if i == j:
            jets.append(left.pop(i))
        else:
            left[i] = left[i] + left.pop(j)
    found = np.array(jets)
    jet_pt = np.hypot(found[:, 1], found[:, 2])
    jet_eta = np.arcsinh(found[:, 3] / jet_pt)
    passes = (jet_pt > definition.pt_min_gev) & (np.abs(jet_eta) < definition.abs_eta_max)
    return found[passes][np.argsort(-jet_pt[passes])]


@pytest.mark.parametrize("radius", [0.4, 1.0])
def test_jets_are_those_of_anti_kt_written_out(radius: float) -> None:
    definition = JetDefinition(radius=radius, pt_min_gev=10.0, abs_eta_max=3.0)
    events = [shower_like(seed) for seed in range(30)]
    found = clustered(events, definition).to_events()
    expected = [slow_anti_kt(event, definition) for event in events]
    assert found.n_jets.tolist() == [len(jets) for jets in expected]
    assert found.n_max > 3
    check_jet_events(found, definition.pt_min_gev)
    for index, jets in enumerate(expected):
        ours, theirs = found.jets[index, : len(jets)], torch.from_numpy(jets)
        # Masses of single particles are drawn anew; they move the energy by little.
        torch.testing.assert_close(ours[:, 1:], theirs[:, 1:], rtol=1e-5, atol=1e-4)
        has_mass = mass(theirs) > 0.15
        torch.testing.assert_close(mass(ours)[has_mass], mass(theirs)[has_mass], rtol=1e-5, atol=0)


def test_the_slow_clustering_notices_another_radius() -> None:
    definition = JetDefinition(radius=0.4, pt_min_gev=10.0)
    events = [shower_like(seed) for seed in range(30)]
    counts = clustered(events, definition).n_jets.tolist()
    assert counts != [len(slow_anti_kt(event, replace(definition, radius=0.6))) for event in events]


def test_jets_of_one_particle_are_given_masses_without_a_peak() -> None:
    columns = torch.tensor([[50.0, 1.0, 0.5, 0.0], [40.0, -2.0, -1.0, 4.8]]).double()
    event = from_cylindrical(*columns.T).numpy()
    found = clustered([event] * 500, JetDefinition())
    masses = found.jets[:, 3].double()
    assert len(masses) == 1000
    assert len(masses.unique()) == 1000  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert float(masses.min()) > MASSLESS
    assert float(masses.median()) == pytest.approx(0.6, rel=0.1)
    momenta = from_cylindrical(*found.jets.double().T)
    assert float((pt(momenta).reshape(-1, 2) - torch.tensor([50.0, 40.0])).abs().max()) < 1e-5


def test_a_jet_that_rounding_puts_on_the_threshold_is_none() -> None:
    columns = torch.tensor([20.0000001, 20.001, 19.99]).double()
    events = [from_cylindrical(x, *torch.tensor([1.0, 0, 0]).double()).numpy()[None] for x in columns]  # fmt: skip
    found = clustered(events, JetDefinition())
    assert found.n_jets.tolist() == [0, 1, 0]
    assert bool((found.jets[:, 0] > 20).all())


def test_events_without_particles_have_no_jets() -> None:
    nothing = np.zeros((0, 4))
    found = clustered([nothing, shower_like(1), nothing], JetDefinition())
    assert found.n_jets[[0, 2]].tolist() == [0, 0]
    none = clustered([nothing], JetDefinition()).to_events()
    assert (len(none), none.n_max) == (1, 0)


def test_float32_keeps_masses_where_four_momenta_would_lose_them() -> None:
    columns = torch.tensor([[1000.0, 1.0, 2.0, 5.0]]).double()
    compact = CompactEvents(
        hard=columns.float(), jets=columns.float(), n_jets=torch.tensor([1], dtype=torch.uint8)
    )
    jets = compact.to_events().jets[0]
    assert float(mass(jets)[0]) == pytest.approx(5.0, rel=1e-6)
    assert float(eta(jets)[0]) == pytest.approx(2.0, rel=1e-6)
    assert float(mass(jets.float().double())[0]) != pytest.approx(5.0, rel=1e-3)


def test_impossible_jets_are_refused() -> None:
    with pytest.raises(CardError, match="--pt-min -1: expected a positive number"):
        JetDefinition(pt_min_gev=-1.0)


def test_without_fastjet_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'mlgen-hep\[radiation\]'"):
        clustered([shower_like(1)], JetDefinition())
