from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pylhe
import pytest
import torch

from mlgen.core import EventBatch
from mlgen.errors import EventFileError
from mlgen.events.formats import read_events, write_events
from tests.events.pythia_reading import weights_of_file
from tests.events.samples import eej, same_bits
from tests.events.varied import VARIATIONS, varied


def test_events_have_no_variations_unless_told() -> None:
    _, events = eej()
    assert events.variations.shape == (200, 0)
    assert EventBatch.concatenate([events, events]).variations.shape == (400, 0)


def test_variations_follow_their_events() -> None:
    _, events = varied(50)
    parts = [events.select(torch.arange(30, 50)), events.select(slice(0, 30))]
    parts[0] = replace(parts[0], **{"pdg_id": parts[0].pdg_id[:, :6]})
    joined = EventBatch.concatenate(parts)
    assert torch.equal(joined.variations, events.variations.roll(20, dims=0))
    assert torch.equal(joined.select(joined.weight > 2).variations, joined.variations[:0])


@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_further_weights_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    info, events = varied(200)
    write_events(
        tmp_path / name, [events.select(slice(0, 70)), events.select(slice(70, None))], info
    )
    info_back, events_back = read_events(tmp_path / name)
    assert info_back == info
    assert same_bits(events_back, events) == []


def test_weights_in_pb_keep_their_ratios_and_are_left_alone_when_copied(tmp_path: Path) -> None:
    info, events = varied(50, [3.0, -1.5, 0.2])
    write_events(tmp_path / "one.lhe", [events], info)
    info_one, one = read_events(tmp_path / "one.lhe")
    assert info_one.weighted
    factor = info.cross_section_pb / float(events.weight.mean())
    torch.testing.assert_close(one.variations, factor * events.variations, rtol=1e-14, atol=0)
    write_events(tmp_path / "two.lhe", [one], info_one)
    assert (tmp_path / "one.lhe").read_bytes() == (tmp_path / "two.lhe").read_bytes()


def test_pylhe_would_write_the_same_head(tmp_path: Path) -> None:
    info, events = varied(10, [2.0])
    ungrouped = replace(info.variations[-1], name='a further one, <odd> & "quoted"', group="")
    info = replace(info, variations=(*info.variations[:-1], ungrouped))
    write_events(tmp_path / "events.lhe", [events], info)
    file = pylhe.LHEFile.fromfile(tmp_path / "events.lhe", generator=False)
    assert file.header is not None
    exact = pylhe.LHEXMLFormat(
        initinfo="{beamA} {beamB} {energyA!r} {energyB!r} {PDFgroupA} {PDFgroupB} {PDFsetA}"
        " {PDFsetB} {weightingStrategy} {numProcesses}",
        procinfo="{xSection!r} {error!r} {unitWeight!r} {procId}",
    )
    head = f'<LesHouchesEvents version="3.0">\n{file.header.tolhe(exact)}{file.init.tolhe(exact)}\n'
    text = (tmp_path / "events.lhe").read_text(encoding="utf-8")
    assert text.startswith(f"{head}<event>\n")


def test_pylhe_reads_the_same_weights_and_what_they_are(tmp_path: Path) -> None:
    info, events = varied(50, [2.0])
    write_events(tmp_path / "events.lhe", [events], info)
    file = pylhe.LHEFile.fromfile(tmp_path / "events.lhe", generator=False)
    assert file.header is not None
    groups = [
        e for e in file.header.initrwgt.entries if isinstance(e, pylhe.LHEInitRWGTWeightGroup)
    ]
    assert [(group.name, len(group.weights)) for group in groups] == [
        ("scale_variations", 7),
        ("pdf_members", 2),
    ]
    declared = [weight for group in groups for weight in group.weights]
    assert [weight.id for weight in declared] == [variation.name for variation in VARIATIONS]
    for weight, variation in zip(declared, VARIATIONS, strict=True):
        attributes = weight.extra_attributes
        assert float(attributes["MUR"]) == variation.mu_r_factor
        assert float(attributes["MUF"]) == variation.mu_f_factor
        assert int(attributes["PDF"]) == variation.pdf_id
    read = list(file.events)
    factor = info.cross_section_pb / float(events.weight.mean())
    for i in (0, 1, 49):
        expected = (factor * events.variations[i]).tolist()
        assert list(read[i].weights) == [variation.name for variation in VARIATIONS]
        assert list(read[i].weights.values()) == expected


@pytest.mark.parametrize(
    ("u", "weighted"),
    [([], False), ([3.0, -1.5], False), ([0.1, 5.0], True)],
    ids=["unit", "overweight", "weighted"],
)
def test_pythia_reads_each_weight_in_proportion_to_the_event_s_own(
    tmp_path: Path, u: list[float], weighted: bool
) -> None:
    info, events = varied(40, u, weighted)
    write_events(tmp_path / "events.lhe", [events], info)
    reading = weights_of_file(tmp_path / "events.lhe")
    names = [variation.name for variation in VARIATIONS]
    assert sorted(reading) == sorted(["Weight", *names])
    assert all(len(values) == 40 for values in reading.values())
    own = torch.tensor(reading["Weight"], dtype=torch.float64)
    torch.testing.assert_close(own / own[5], events.weight, rtol=1e-9, atol=0)
    expected = events.variations / events.weight[:, None]
    for column, name in enumerate(names):
        ratio = torch.tensor(reading[name], dtype=torch.float64) / own
        torch.testing.assert_close(ratio, expected[:, column], rtol=1e-9, atol=1e-12)


def test_weights_of_others_are_read_in_any_order_and_without_groups(tmp_path: Path) -> None:
    info, events = varied(20)
    path = tmp_path / "events.lhe.gz"
    write_events(path, [events], info)
    text = gzip.decompress(path.read_bytes()).decode()
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("<wgt"))
    lines[at], lines[at + 3] = lines[at + 3], lines[at].replace('">', "' >  +").replace('"', "'")
    other = "\n".join(line for line in lines if "weightgroup" not in line)
    other = other.replace('MUR="0.5"', 'mur="x"').replace('PDF="247001"', 'PDF="247001@0"')
    (tmp_path / "other.lhe").write_text(other)
    info_back, events_back = read_events(tmp_path / "other.lhe")
    assert torch.equal(events_back.variations, events.variations)
    assert [v.name for v in info_back.variations] == [v.name for v in VARIATIONS]
    assert {v.group for v in info_back.variations} == {""}
    assert (info_back.variations[3].mu_r_factor, info_back.variations[-2].pdf_id) == (1.0, 0)


def test_names_with_markup_survive(tmp_path: Path) -> None:
    info, events = varied(5)
    name = "a\"b'c<&>é"
    info = replace(info, variations=(replace(VARIATIONS[0], name=name), *VARIATIONS[1:]))
    write_events(tmp_path / "events.lhe", [events], info)
    assert read_events(tmp_path / "events.lhe")[0].variations[0].name == name


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    info, events = varied(5)
    path = tmp_path / "events.lhe"
    twice = replace(info, variations=(VARIATIONS[0], *VARIATIONS[:-1]))
    with pytest.raises(EventFileError, match="expected names that differ"):
        write_events(path, [events], twice)
    with pytest.raises(EventFileError, match=r"event 1: 9 variations: expected 0"):
        write_events(path, [events], replace(info, variations=()))
    broken = events.variations.clone()
    broken[3, 2] = torch.nan
    with pytest.raises(EventFileError, match=r"event 4: variations = .*: expected finite numbers"):
        write_events(path, [replace(events, variations=broken)], info)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_an_event_that_lacks_a_weight_is_not_read(tmp_path: Path) -> None:
    info, events = varied(5)
    write_events(tmp_path / "events.lhe", [events], info)
    text = (tmp_path / "events.lhe").read_text()
    head, _, rest = text.rpartition("<wgt")
    (tmp_path / "events.lhe").write_text(head + rest.partition("</wgt>\n")[2])
    with pytest.raises(EventFileError, match=r"event 5: <rwgt> of 8 weights: expected 9"):
        read_events(tmp_path / "events.lhe")
