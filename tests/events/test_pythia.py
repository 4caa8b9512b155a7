from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.events.formats import read_events, write_events
from mlgen.events.record import UNKNOWN_SPIN
from tests.events.pythia_reading import shower_file
from tests.events.samples import EEJ, eej, with_weights


def ones(n: int) -> Tensor:
    return torch.ones(n, dtype=torch.float64)


def test_pythia_showers_and_hadronises_every_event_of_ours(tmp_path: Path) -> None:
    info, events = eej()
    spin = torch.where(events.status == 2, UNKNOWN_SPIN, events.spin)
    write_events(tmp_path / "events.lhe.gz", [replace(events, spin=spin)], info)
    reading = shower_file(tmp_path / "events.lhe.gz", n_max=1000)
    assert (reading.n_ok, reading.n_failed) == (200, 0)
    assert reading.cross_section_pb == pytest.approx(info.cross_section_pb, rel=1e-9)
    assert reading.sum_of_weights == 200
    assert reading.resonances.count(23) == int((events.pdg_id == 23).sum())


@pytest.mark.parametrize(
    ("first", "weighted"),
    [([3.0, 1.5], False), ([-1.0, -1.0, -1.0], False), ([0.1, 5.0, 0.7], True)],
    ids=["overweight", "negative", "weighted"],
)
def test_pythia_finds_our_cross_section_from_the_weights_of_the_events(
    tmp_path: Path, first: list[float], weighted: bool
) -> None:
    info, events = eej()
    events = events.select(slice(0, 50))
    u = torch.cat([torch.tensor(first, dtype=torch.float64), ones(50 - len(first))])
    write_events(tmp_path / "e.lhe", [with_weights(events, u)], replace(info, weighted=weighted))
    reading = shower_file(tmp_path / "e.lhe", n_max=1000)
    assert (reading.n_ok, reading.n_failed) == (50, 0)
    assert reading.cross_section_pb == pytest.approx(info.cross_section_pb, rel=1e-9)
    assert reading.sum_of_weights == pytest.approx(50 * info.cross_section_pb, rel=1e-9)


def test_pythia_reads_our_copy_of_a_file_as_it_reads_the_original(tmp_path: Path) -> None:
    info, events = read_events(EEJ)
    write_events(tmp_path / "copy.lhe", [events.select(slice(0, 30))], info)
    original, copy = shower_file(EEJ, n_max=30), shower_file(tmp_path / "copy.lhe", n_max=30)
    assert copy.n_ok == original.n_ok == 30
    assert copy.resonances == original.resonances
    assert copy.cross_section_pb == pytest.approx(original.cross_section_pb, rel=1e-9)


def test_pythia_reads_half_of_a_truncated_file_so_that_counting_is_up_to_us(tmp_path: Path) -> None:
    info, events = eej()
    path = tmp_path / "events.lhe"
    write_events(path, [events.select(slice(0, 20))], info)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"<event>", len(whole) // 2) + 30])
    reading = shower_file(path, n_max=1000)
    assert 0 < reading.n_ok < 20
    assert reading.n_failed == 0
