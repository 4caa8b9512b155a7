"""Batches of events with any number of jets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.physics.kinematics import eta, mass, phi, pt, rapidity
from mlgen.radiation.jets import JetEvents, check_jet_events, from_cylindrical, from_rapidity
from tests.radiation.samples import PT_MIN, random_events


def test_batches_of_different_widths_are_joined_and_parted_again() -> None:
    parts = [random_events(20, seed=1, n_max=2), random_events(30, seed=2, n_max=5)]
    joined = JetEvents.concatenate(parts)
    assert (len(joined), joined.n_max) == (50, 5)
    first = joined.select(slice(0, 20)).padded(2)
    assert torch.equal(first.jets, parts[0].jets)
    assert bool((joined.select(joined.n_jets == 3).n_jets == 3).all())


def test_events_up_to_a_multiplicity_have_room_for_no_more() -> None:
    events = random_events(200, seed=3)
    few = events.up_to(2)
    assert few.n_max == 2
    assert len(few) == int((events.n_jets <= 2).sum())
    check_jet_events(few, PT_MIN)


def test_jets_are_not_cut_off() -> None:
    with pytest.raises(MlgenError, match="n_max = 2: expected at least 4"):
        random_events(200, seed=3).padded(2)


def test_momenta_have_the_variables_they_were_made_of() -> None:
    given = [torch.tensor(x, dtype=torch.float64) for x in (30.0, -3.0, 1.7, 5.0)]
    jet, pair = from_cylindrical(*given), from_rapidity(*given)
    for momentum, along in ((jet, eta), (pair, rapidity)):
        found = [pt(momentum), phi(momentum), along(momentum), mass(momentum)]
        torch.testing.assert_close(torch.stack(found), torch.stack(given))


def test_shapes_that_do_not_fit_are_refused() -> None:
    events = random_events(5, seed=4)
    with pytest.raises(MlgenError, match=r"hard = a tensor \(4, 4\): expected \(5, 4\)"):
        replace(events, hard=events.hard[:4])


def damage(name: str, index: tuple[int | slice, ...], value: float) -> JetEvents:
    events = random_events(5, seed=5)
    events = replace(events, n_jets=torch.tensor([4, 3, 2, 1, 0]))
    filled = random_events(500, seed=6)
    filled = filled.select(filled.n_jets == 4).select(slice(0, 5))
    events = replace(events, jets=filled.jets * events.is_jet[..., None])
    check_jet_events(events, PT_MIN)
    column: Tensor = getattr(events, name).clone()
    column[index] = value
    return replace(events, **{name: column})


EVERY = slice(None)


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("hard", (3, 1), math.nan, r"hard\[3\]\[1\] = nan: expected a finite number of GeV"),
        ("hard", (2, slice(1, 3)), 0.0, r"pt of hard\[2\] = 0: expected a positive one"),
        ("hard", (2, 0), 0.0, r"mass squared of hard\[2\] = -.*: expected a positive one"),
        ("jets", (1, 2, 0), 1.0, r"mass squared of jets\[1\]\[2\] = -"),
        ("jets", (0, 3, slice(1, 3)), 1.0, r"pt of jets\[0\]\[3\] = 1.41.*more than 20 GeV"),
        ("jets", (0, 1, EVERY), 5e4, r"mass squared of jets\[0\]\[1\] = -5e\+09"),
        ("jets", (4, 0, 0), 30.0, r"jets beyond n_jets\[4\]\[0\] = 30: expected zeros"),
        ("n_jets", (2,), 7, r"n_jets\[2\] = 7: expected 0 to 4"),
    ],
)
def test_damaged_events_are_refused_by_their_index(
    name: str, index: tuple[int | slice, ...], value: float, message: str
) -> None:
    with pytest.raises(MlgenError, match=message):
        check_jet_events(damage(name, index, value), PT_MIN)


def test_jets_that_rise_in_pt_are_refused() -> None:
    events = random_events(50, seed=7)
    events = events.select(events.n_jets == 2)
    swapped = replace(events, jets=events.jets[:, [1, 0, 2, 3]])
    with pytest.raises(MlgenError, match=r"pt of jets\[0\]\[1\] = .*: expected falling pt"):
        check_jet_events(swapped, PT_MIN)
