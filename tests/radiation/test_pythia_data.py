"""What Pythia makes of its own process and of event files."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mlgen.core import EventBatch, SampleInfo
from mlgen.errors import CardError, EventFileError, GenerationError, MissingExtra
from mlgen.events.formats import read_events, write_events
from mlgen.physics.kinematics import eta, mass, pt
from mlgen.radiation.jets import check_jet_events
from mlgen.radiation.pythia_data import PythiaSettings, ShowerChunk, make_chunk
from tests.laws import check_estimate

for extra in ("pythia8mc", "fastjet"):
    pytest.importorskip(extra, reason="needs the extra `radiation`")

REFERENCE = Path(__file__).parents[1] / "reference" / "lhe"
N = 2000


@cache
def partons() -> ShowerChunk:
    return make_chunk(PythiaSettings(), seed=1, chunk=0, n=N)


@cache
def eej() -> tuple[SampleInfo, EventBatch]:
    info, events = read_events(REFERENCE / "pp_epemj_200.lhe.gz")
    one = torch.ones(len(events), dtype=torch.float64)
    info = replace(info, weighted=False, process="p p > e+ e- j", card="[process]\n")
    return info, replace(events, weight=one)


def lepton_pairs(events: EventBatch) -> Tensor:
    is_lepton = (events.pdg_id.abs() == 11) & (events.status == 1)
    return (events.momenta * is_lepton[..., None]).sum(1)


def test_pythia_makes_pairs_and_jets_that_models_can_learn_from() -> None:
    events = partons().events.to_events()
    assert len(events) == N
    check_jet_events(events, 20.0)
    masses = mass(events.hard)
    assert 81 <= float(masses.min()) < float(masses.max()) <= 101
    assert float(eta(events.jets)[events.is_jet].abs().max()) < 5
    assert float(masses.median()) == pytest.approx(91.0, abs=0.3)


def test_about_a_quarter_of_all_pairs_has_a_jet() -> None:
    """0.260 +- 0.0025 by Pythia's own SlowJet, event by event, in 30,000 events."""
    share = float((partons().events.n_jets > 0).double().mean())
    check_estimate(share, (0.26 * 0.74 / N) ** 0.5, 0.260, max_relative_error=0.05)


def test_the_leading_jet_recoils_against_the_pair() -> None:
    events = partons().events.to_events()
    one = events.select(events.n_jets == 1)
    away = -(one.hard[:, 1:3] * one.jets[:, 0, 1:3]).sum(-1) / (pt(one.hard) * pt(one.jets[:, 0]))
    assert float(away.median()) > 0.95


def test_hadrons_and_the_underlying_event_are_made_on_request() -> None:
    masses = {}
    for level in ("partons", "hadrons", "full"):
        chunk = make_chunk(PythiaSettings(level=level), seed=1, chunk=0, n=100)
        check_jet_events(chunk.events.to_events(), 20.0)
        masses[level] = float(chunk.events.jets[:, 3].median())
    assert masses["partons"] < masses["hadrons"]
    assert masses["partons"] < masses["full"]


def test_a_chunk_has_its_own_random_numbers_and_always_the_same() -> None:
    first, again, other_chunk, other_seed = (
        make_chunk(PythiaSettings(), seed=seed, chunk=chunk, n=20).events
        for seed, chunk in ((3, 5), (3, 5), (3, 6), (4, 5))
    )
    assert torch.equal(first.hard, again.hard)
    assert torch.equal(first.jets, again.jets)
    assert not torch.isin(first.hard, other_chunk.hard).any()
    assert not torch.isin(first.hard, other_seed.hard).any()


def test_showers_of_an_event_file_keep_its_pairs_and_their_order(tmp_path: Path) -> None:
    info, events = eej()
    write_events(tmp_path / "hard.lhe", [events], info)
    chunk = make_chunk(PythiaSettings(), 1, 0, len(events), tmp_path / "hard.lhe")
    showered = chunk.events.to_events()
    change = (mass(showered.hard) / mass(lepton_pairs(events)) - 1).abs()
    names_z = (events.pdg_id == 23).any(dim=1)
    assert float(change[names_z].max()) < 1e-6
    # Else Pythia finds energy for the masses of quarks in all that is there.
    assert float(change.max()) < 1e-3
    assert float(showered.n_jets.double().mean()) > 0.8
    assert chunk.cross_section_pb == pytest.approx(info.cross_section_pb, rel=1e-9)


def test_a_file_with_fewer_events_than_expected_is_an_error(tmp_path: Path) -> None:
    info, events = eej()
    write_events(tmp_path / "hard.lhe", [events.select(slice(0, 20))], info)
    with pytest.raises(EventFileError, match="Pythia read 20 events: expected 30"):
        make_chunk(PythiaSettings(), 1, 0, 30, tmp_path / "hard.lhe")


def test_events_without_a_pair_of_leptons_are_an_error(tmp_path: Path) -> None:
    info, events = read_events(REFERENCE / "gg_ttxg_50.lhe.gz")
    write_events(tmp_path / "hard.lhe", [events], info)
    with pytest.raises(GenerationError, match=r"PDG ids \[.*\]: expected one pair"):
        make_chunk(PythiaSettings(), 1, 0, len(events), tmp_path / "hard.lhe")


def test_what_is_no_event_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hard.lhe").write_text("nothing")
    with pytest.raises(EventFileError, match="Pythia cannot begin with it"):
        make_chunk(PythiaSettings(), 1, 0, 5, tmp_path / "hard.lhe")


def test_further_settings_reach_pythia() -> None:
    settings = PythiaSettings(extra=("PartonLevel:ISR = off", "PartonLevel:FSR = off"))
    jets = make_chunk(settings, 1, 0, 100).events.n_jets
    assert int(jets.sum()) == 0


@pytest.mark.parametrize("line", ["SpaceShower:noSuchKey = 3", "gibberish"])
def test_settings_that_pythia_does_not_know_are_refused(
    line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CardError, match=f"--pythia '{line}': expected a setting that Pythia knows"):
        make_chunk(PythiaSettings(extra=(line,)), 1, 0, 5)
    assert capfd.readouterr().out == ""


def test_settings_that_pythia_cannot_start_with_are_refused() -> None:
    with pytest.raises(CardError, match=r"Pythia cannot begin with .*ffbar2gmZ = off"):
        make_chunk(PythiaSettings(extra=("WeakSingleBoson:ffbar2gmZ = off",)), 1, 0, 5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"level": "quarks"}, "--level quarks: expected one of partons, hadrons, full"),
        ({"energy_gev": -1.0}, "--energy -1: expected a positive energy in GeV"),
        ({"mass_range_gev": (101.0, 81.0)}, "--mass 101 81: expected two rising masses in GeV"),
    ],
)
def test_impossible_orders_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        PythiaSettings(**wrong)


def test_without_pythia_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'mlgen-hep\[radiation\]'"):
        make_chunk(PythiaSettings(), 1, 0, 5)
