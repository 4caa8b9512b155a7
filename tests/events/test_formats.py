from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pylhe
import pytest

from mlgen.core import EventBatch
from mlgen.errors import EventFileError
from mlgen.events.formats import open_reader, read_events, write_events
from tests.events.samples import TTJ, eej, same_bits
from tests.events.varied import varied

NAMES = ["events.lhe", "events.lhe.gz", "events.lheh5", "events.hdf5", "events.h5"]
BLOCKS = (("chunks", '{"0": 3, "text": "<&>"}'), ("empty", ""), ("lines", "\n a \r\n b\r\n"))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_read_and_written_again_has_the_same_events_and_head(
    tmp_path: Path, name: str
) -> None:
    info, events = varied(200, [3.0, -1.5, 0.2])
    info = replace(info, blocks=BLOCKS)
    write_events(tmp_path / name, [events], info)
    one_info, one = read_events(tmp_path / name)
    write_events(tmp_path / f"copy.{name}", [one], one_info)
    two_info, two = read_events(tmp_path / f"copy.{name}")
    assert one_info == replace(info, weighted=True)
    assert two_info == one_info
    assert same_bits(two, one) == []


@pytest.mark.parametrize("name", NAMES)
def test_content_tells_the_format_not_the_name(tmp_path: Path, name: str) -> None:
    info, events = eej()
    write_events(tmp_path / name, [events], info)
    (tmp_path / name).rename(tmp_path / "any.name")
    info_back, events_back = read_events(tmp_path / "any.name")
    assert info_back == info
    assert same_bits(events_back, events) == []


@pytest.mark.parametrize("name", ["events.txt", "events", "events.gz", "lhe", "events.lhe.bz2"])
def test_a_name_of_no_format_is_one_clear_line(tmp_path: Path, name: str) -> None:
    info, events = eej()
    with pytest.raises(
        EventFileError, match=r"expected a name that ends in one of .*\.lhe, \.lhe\.gz"
    ):
        write_events(tmp_path / name, [events], info)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_bounded_whatever_the_length_of_the_file(tmp_path: Path, name: str) -> None:
    info, events = eej()
    write_events(tmp_path / name, [events] * 60, info)
    with open_reader(tmp_path / name) as reader:
        assert reader.info == info
        lengths = [len(batch) for batch in reader]
    assert sum(lengths) == 12_000
    assert max(lengths) < 5000


@pytest.mark.parametrize("name", NAMES)
def test_batches_that_can_be_gone_through_only_once_are_refused(tmp_path: Path, name: str) -> None:
    info, events = eej()
    with pytest.raises(EventFileError, match="0 events: expected 200"):
        write_events(tmp_path / name, iter([events]), info)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tag", ["mlgen_card", "initrwgt", "a b", "1st", "<x>", "", "chunks"])
def test_blocks_need_tags_of_their_own(tmp_path: Path, tag: str) -> None:
    info, events = eej()
    info = replace(info, blocks=(("chunks", "1"), (tag, "2")))
    with pytest.raises(EventFileError, match=r"blocks\..*: expected a tag of its own"):
        write_events(tmp_path / "events.lhe", [events], info)
    assert list(tmp_path.iterdir()) == []


def test_the_header_of_others_is_kept_when_their_events_are_copied(tmp_path: Path) -> None:
    info, events = read_events(TTJ)
    write_events(tmp_path / "theirs.lhe", [events], info)
    text = (tmp_path / "theirs.lhe").read_text()
    theirs = "<header>\n<MGVersion>\n3.5\n</MGVersion>\n<slha>\n1 <b>2</b>\n</slha>\n"
    assert text.count("<header>") == 1
    (tmp_path / "theirs.lhe").write_text(text.replace("<header>\n", theirs))
    info, events = read_events(tmp_path / "theirs.lhe")
    # What holds more than text cannot be kept as text.
    assert info.blocks == (("MGVersion", "\n3.5\n"),)
    write_events(tmp_path / "copy.lhe", [events], info)
    assert read_events(tmp_path / "copy.lhe")[0] == info


def test_compressed_files_of_many_members_are_one_file_to_others(tmp_path: Path) -> None:
    info, events = eej()
    events = EventBatch.concatenate([events] * 15)
    write_events(tmp_path / "events.lhe", [events], info)
    write_events(tmp_path / "events.lhe.gz", [events], info)
    packed = (tmp_path / "events.lhe.gz").read_bytes()
    assert packed.count(b"\x1f\x8b\x08\x04") >= 5
    assert gzip.decompress(packed) == (tmp_path / "events.lhe").read_bytes()
    assert len(list(pylhe.LHEFile.fromfile(tmp_path / "events.lhe.gz").events)) == 3000


def test_the_header_notes_how_many_equal_events_the_weights_are_worth(tmp_path: Path) -> None:
    info, events = varied(100, [3.0])
    write_events(tmp_path / "events.lhe", [events], info)
    expected = 102**2 / 108
    assert f"kish_effective_size = {expected:.9g}\n" in (tmp_path / "events.lhe").read_text()
