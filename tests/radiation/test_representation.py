"""Events to columns and back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.physics.kinematics import eta, mass, phi, pt, rapidity
from mlgen.radiation.jets import JetEvents, from_cylindrical, from_rapidity
from mlgen.radiation.representation import (
    ETA,
    LOG_M2,
    LOG_PT,
    PHI,
    Particles,
    Representation,
    Standard,
)
from tests.radiation.samples import PT_MIN, random_events


@pytest.fixture
def events() -> JetEvents:
    return random_events(3000, seed=1)


@pytest.fixture
def representation(events: JetEvents) -> Representation:
    return Representation.of(events, PT_MIN, radius=0.4)


def test_events_come_back_from_their_columns(
    events: JetEvents, representation: Representation
) -> None:
    back = representation.decode(representation.encode(events))
    for name in ("hard", "jets"):
        momenta = getattr(events, name)
        off = (getattr(back, name) - momenta).abs() / momenta[..., :1].clamp(min=1e-300)
        assert float(off.max()) < 1e-9
    assert bool((back.n_jets == events.n_jets).all())


def test_columns_come_back_from_their_events(
    events: JetEvents, representation: Representation
) -> None:
    particles = representation.encode(events)
    back = representation.encode(representation.decode(particles))
    torch.testing.assert_close(back.columns, particles.columns, rtol=0, atol=1e-7)
    torch.testing.assert_close(back.azimuth, particles.azimuth, rtol=0, atol=1e-9)


def test_columns_are_standardised_and_filler_is_zero(
    events: JetEvents, representation: Representation
) -> None:
    particles = representation.encode(events)
    hard, jets = particles.columns[:, 0], particles.columns[:, 1:][events.is_jet]
    for kind in (hard[:, [LOG_PT, ETA, LOG_M2]], jets[:, [LOG_PT, ETA, LOG_M2]]):
        assert float(kind.mean(0).abs().max()) < 1e-12
        assert float((kind.std(0) - 1).abs().max()) < 1e-12
    assert float(hard[:, PHI].abs().max()) == 0
    assert float(jets[:, PHI].abs().max()) <= math.pi
    assert not bool(particles.columns[~particles.is_particle].any())


def test_columns_do_not_change_when_the_event_turns_around_the_beam(
    events: JetEvents, representation: Representation
) -> None:
    def turned(momenta: Tensor) -> Tensor:
        energy, x, y, z = momenta.unbind(-1)
        return torch.stack([energy, math.cos(2) * x - math.sin(2) * y, math.sin(2) * x + math.cos(2) * y, z], dim=-1)  # fmt: skip

    there = representation.encode(
        replace(events, hard=turned(events.hard), jets=turned(events.jets))
    )
    here = representation.encode(events)
    off = (there.columns - here.columns).abs()
    off[..., PHI] = torch.minimum(off[..., PHI], 2 * math.pi - off[..., PHI])
    assert float(off.max()) < 1e-8


def test_columns_are_what_they_are_called(
    events: JetEvents, representation: Representation
) -> None:
    with_jets = events.select(events.n_jets > 0)
    columns = representation.encode(with_jets).columns
    first = with_jets.jets[:, 0]
    found = representation.jets.undo(columns[:, 1])
    torch.testing.assert_close(found[:, LOG_PT].exp() + PT_MIN, pt(first))
    torch.testing.assert_close(found[:, ETA], eta(first))
    torch.testing.assert_close((found[:, LOG_M2] / 2).exp(), mass(first))
    torch.testing.assert_close(found[:, PHI].cos(), (phi(first) - phi(with_jets.hard)).cos())
    hard = representation.hard.undo(columns[:, 0])
    torch.testing.assert_close(hard[:, ETA], rapidity(with_jets.hard))


def test_log_jac_is_that_of_autograd(events: JetEvents, representation: Representation) -> None:
    particles = representation.encode(events.select(events.n_jets == 1).select(slice(0, 1)))
    event = representation.decode(particles)

    def columns(physical: Tensor) -> Tensor:
        hard = from_rapidity(
            *(physical[0], torch.zeros((), dtype=torch.float64), physical[1], physical[2])
        )
        jet = from_cylindrical(*physical[3:])
        one = JetEvents(hard=hard[None], jets=jet[None, None], n_jets=torch.ones(1).long())
        found = representation.encode(one).columns[0]
        return torch.cat([found[0, [LOG_PT, ETA, LOG_M2]], found[1]])

    hard, jet = event.hard[0], event.jets[0, 0]
    relative = phi(jet) - phi(hard)
    at = torch.stack([pt(hard), rapidity(hard), mass(hard), pt(jet), relative, eta(jet), mass(jet)])
    jacobian = torch.autograd.functional.jacobian(columns, at)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    expected = torch.linalg.slogdet(jacobian).logabsdet
    found = representation.log_jac(particles)[0, :2].sum()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_filler_has_no_jacobian(events: JetEvents, representation: Representation) -> None:
    particles = representation.encode(events)
    log_jac = representation.log_jac(particles)
    assert not bool(log_jac[~particles.is_particle].any())
    assert bool((log_jac[particles.is_particle] != 0).all())


def test_a_representation_survives_json(representation: Representation) -> None:
    table = json.loads(json.dumps(asdict(representation)))
    kinds = {
        name: Standard(mean=tuple(table[name]["mean"]), std=tuple(table[name]["std"]))
        for name in ("hard", "jets")
    }
    found = Representation(pt_min=table["pt_min"], radius=table["radius"], **kinds)
    assert found == representation


def test_float32_columns_of_a_network_are_decoded_in_float64(
    events: JetEvents, representation: Representation
) -> None:
    particles = representation.encode(events)
    narrow = Particles(
        columns=particles.columns.float(), n_jets=particles.n_jets, azimuth=particles.azimuth
    )
    assert representation.decode(narrow).jets.dtype == torch.float64


def test_events_below_the_threshold_are_refused(representation: Representation) -> None:
    lower = replace(representation, pt_min=PT_MIN + 10)
    with pytest.raises(
        MlgenError, match=r"pt of jets\[\d+\]\[\d\] = .*: expected more than 30 GeV"
    ):
        lower.encode(random_events(100, seed=2))


def test_a_column_without_spread_cannot_be_standardised() -> None:
    events = random_events(1, seed=3)
    alike = JetEvents.concatenate([events] * 5)
    with pytest.raises(MlgenError, match=r"spread of pt = 0\.0: expected a positive number"):
        Representation.of(alike, PT_MIN)
