from __future__ import annotations

from pathlib import Path

import pytest

from mlgen.errors import EventFileError
from mlgen.events.formats import read_events, write_events
from mlgen.events.summary import summarise
from tests.events.varied import varied


def test_a_summary_is_of_all_events(tmp_path: Path) -> None:
    path = tmp_path / "a.lhe"
    sample_info, sample = varied(40, [2.0, -1.5])
    write_events(path, [sample], sample_info)
    found, (info, events) = summarise(path), read_events(path)
    assert found.info == info
    assert found.n_events == len(events) == sum(n for _, n in found.final_states)
    assert found.smallest == float(events.weight.min())
    assert found.largest == float(events.weight.max())
    ratios = (events.variations.sum(0) / events.weight.sum()).tolist()
    assert found.ratios == pytest.approx(ratios, rel=1e-12)
    expected = {
        tuple(i[s == 1].tolist()) for i, s in zip(events.pdg_id, events.status, strict=True)
    }
    assert {ids for ids, _ in found.final_states} == expected


def test_a_file_that_breaks_off_has_no_summary(tmp_path: Path) -> None:
    path = tmp_path / "a.lhe"
    sample_info, sample = varied(40, [2.0, -1.5])
    write_events(path, [sample], sample_info)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EventFileError, match="truncated"):
        summarise(path)
