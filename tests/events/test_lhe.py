from __future__ import annotations

import errno
import gzip
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pylhe
import pytest
import torch
from torch import Tensor

from mlgen.core import EventBatch, SampleInfo
from mlgen.errors import EventFileError
from mlgen.events.formats import read_events, write_events
from mlgen.events.lhe_scan import LheScanner
from tests.events.samples import TTJ, eej, same_bits, with_weights


def weights(first: list[float], n: int) -> Tensor:
    return torch.tensor(first + [1.0] * (n - len(first)), dtype=torch.float64)


def init_of(path: Path) -> tuple[int, float, float]:
    """IDWTUP, XSECUP and XMAXUP as pylhe reads them."""
    init = pylhe.LHEFile.fromfile(path, generator=False).init
    return init.initInfo.weightingStrategy, init.procInfo[0].xSection, init.procInfo[0].unitWeight


@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_what_was_written_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    info, events = eej()
    rng = torch.Generator().manual_seed(5)
    momenta = events.momenta * torch.randn(events.momenta.shape, generator=rng, dtype=torch.float64)
    momenta[events.pdg_id == 0] = 0.0
    momenta[0, 0] = torch.tensor(
        [5e-324, 1.7976931348623157e308, -0.0, 0.1 + 0.2], dtype=torch.float64
    )
    events = replace(events, momenta=momenta, mass=momenta[..., 0] / 3)
    write_events(
        tmp_path / name, [events.select(slice(0, 70)), events.select(slice(70, None))], info
    )
    info_back, events_back = read_events(tmp_path / name)
    assert info_back == info
    assert same_bits(events_back, events) == []


def test_weights_in_pb_come_back_bit_for_bit_when_a_file_is_copied(tmp_path: Path) -> None:
    info, events = eej()
    rng = torch.Generator().manual_seed(6)
    weighted = with_weights(events, torch.rand(len(events), generator=rng, dtype=torch.float64))
    write_events(tmp_path / "one.lhe", [weighted], replace(info, weighted=True))
    info_one, events_one = read_events(tmp_path / "one.lhe")
    write_events(tmp_path / "two.lhe", [events_one], info_one)
    assert (tmp_path / "one.lhe").read_bytes() == (tmp_path / "two.lhe").read_bytes()


def test_pylhe_reads_the_same_events_and_header(tmp_path: Path) -> None:
    info, events = eej()
    write_events(tmp_path / "events.lhe.gz", [events], info)
    file = pylhe.LHEFile.fromfile(tmp_path / "events.lhe.gz", generator=False)
    assert file.version == "3.0"
    assert [(g.name, bool(g.version)) for g in file.init.generators] == [("mlgen", True)]
    assert file.header is not None
    header = {element.tag: element.text or "" for element in file.header.extra_elements}
    assert header["mlgen_card"].strip("\n") == info.card.strip("\n")
    assert header["mlgen_notes"].split("\n")[1] == "n_events = 200"
    assert header["mlgen_process"] == info.process
    read = list(file.events)
    assert len(read) == len(events)
    for i in (0, 2, 199):
        rows = int((events.pdg_id[i] != 0).sum())
        particles = read[i].particles
        assert [p.id for p in particles] == events.pdg_id[i, :rows].tolist()
        assert [[p.e, p.px, p.py, p.pz] for p in particles] == events.momenta[i, :rows].tolist()
        assert [[p.mother1, p.mother2] for p in particles] == events.mothers[i, :rows].tolist()


def test_the_bytes_depend_on_the_events_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, events = eej()
    write_events(tmp_path / "one.lhe.gz", [events], info)
    monkeypatch.setattr("time.time", lambda: 1.0e9)
    write_events(
        tmp_path / "two.lhe.gz", [events.select(slice(0, 3)), events.select(slice(3, None))], info
    )
    one, two = (tmp_path / "one.lhe.gz").read_bytes(), (tmp_path / "two.lhe.gz").read_bytes()
    assert one == two
    assert one[3] & 8 == 0, "the gzip header holds a file name"
    assert one[4:8] == bytes(4), "the gzip header holds a time"
    assert os.uname().nodename.encode() not in gzip.decompress(one)


def test_unit_weights_give_strategy_3_with_the_cross_section_in_the_init_block(
    tmp_path: Path,
) -> None:
    info, events = eej()
    write_events(tmp_path / "events.lhe", [events], info)
    assert init_of(tmp_path / "events.lhe") == (3, info.cross_section_pb, 1.0)
    assert set(read_events(tmp_path / "events.lhe")[1].weight.tolist()) == {1.0}


@pytest.mark.parametrize(
    ("first", "weighted"),
    [
        ([3.0, 1.5], False),
        ([-1.0, -1.0], False),
        ([1.0 + 2**-52], False),
        ([0.1, 40.0], True),
        ([], True),
    ],
    ids=["overweight", "negative", "one ulp above 1", "weighted", "weighted, all alike"],
)
def test_any_other_weights_give_strategy_4_in_pb_with_the_cross_section_as_mean(
    tmp_path: Path, first: list[float], weighted: bool
) -> None:
    info, events = eej()
    u = weights(first, len(events))
    write_events(
        tmp_path / "events.lhe", [with_weights(events, u)], replace(info, weighted=weighted)
    )
    strategy, cross_section, largest = init_of(tmp_path / "events.lhe")
    written = read_events(tmp_path / "events.lhe")[1].weight
    assert strategy == -4
    assert cross_section == info.cross_section_pb
    assert float(written.mean()) == pytest.approx(info.cross_section_pb, rel=1e-13)
    assert largest == float(written.abs().max())
    torch.testing.assert_close(written / written[-1], u / u[-1], rtol=1e-14, atol=0)


def test_an_existing_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    info, events = eej()
    path = tmp_path / "events.lhe"
    path.write_text("before")
    write_events(path, [events], info)
    assert len(read_events(path)[1]) == 200
    assert [p.name for p in tmp_path.iterdir()] == ["events.lhe"]


def broken(
    column: str, value: float
) -> Callable[[EventBatch, SampleInfo], tuple[EventBatch, SampleInfo]]:
    def change(events: EventBatch, info: SampleInfo) -> tuple[EventBatch, SampleInfo]:
        changed = getattr(events, column).clone()
        changed[7] = value
        return replace(events, **{column: changed}), info

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken("momenta", float("nan")), r"event 8: momenta = .*nan.*: expected finite numbers"),
        (broken("weight", float("inf")), r"event 8: weight = inf: expected finite numbers"),
        (broken("scale", float("nan")), r"event 8: scale = nan: expected finite numbers"),
        (
            lambda e, i: (e, replace(i, cross_section_pb=float("nan"))),
            r"cross_section_pb = nan: expected a finite number",
        ),
        (lambda e, i: (e.select(slice(0, 0)), i), r"events = 0: expected at least one event"),
        (
            lambda e, i: (with_weights(e, torch.zeros(200, dtype=torch.float64)), i),
            r"mean event weight = 0.0: expected a number other than 0",
        ),
        (
            lambda e, i: (e, replace(i, notes=(("a", "b\nc"),))),
            r"notes.a = 'b\\nc': expected one line",
        ),
        (lambda e, i: (e, replace(i, notes=(("n_events", "3"),))), r"expected keys that differ"),
        (lambda e, i: (e, replace(i, card="\0")), r"not well-formed XML"),
    ],
)
def test_what_makes_no_good_file_is_refused_and_leaves_none(
    tmp_path: Path,
    change: Callable[[EventBatch, SampleInfo], tuple[EventBatch, SampleInfo]],
    message: str,
) -> None:
    info, events = eej()
    events, info = change(events, info)
    with pytest.raises(EventFileError, match=message):
        write_events(tmp_path / "events.lhe.gz", [events], info)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    info, events = eej()
    path = tmp_path / "nowhere" / "events.lhe"
    with pytest.raises(
        EventFileError, match=r"nowhere/events.lhe: cannot be written: No such file"
    ):
        write_events(path, [events], info)


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """A limit on the size of files, which a write meets as it meets a full disk: with an OSError.

    No wider than the write itself: a test runner whose output goes to a file meets it too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_a_full_disk_leaves_no_final_file_and_loses_no_whole_event(
    tmp_path: Path, name: str
) -> None:
    info, events = eej()
    events = EventBatch.concatenate([events] * 20)
    message = r"cannot be written: .* whole events are left in"
    with pytest.raises(EventFileError, match=message) as caught, file_size_limit(300_000):
        write_events(tmp_path / name, [events], info)
    (left,) = tmp_path.iterdir()
    assert str(left) in str(caught.value)
    announced = int(str(caught.value).split("; ")[1].split()[0])
    assert announced > 300
    with LheScanner(left) as scanner:
        texts = iter(scanner)
        assert len(list(islice(texts, announced))) == announced
        with pytest.raises(EventFileError, match="truncated"):
            next(texts)


def test_a_full_disk_before_the_first_event_leaves_nothing(tmp_path: Path) -> None:
    info, events = eej()
    with pytest.raises(EventFileError, match="cannot be written"), file_size_limit(100):
        write_events(tmp_path / "events.lhe", [events], info)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_after_writing_keeps_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, events = eej()
    path = tmp_path / "events.lhe"
    path.write_text("before")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(EventFileError, match="200 whole events are left in"):
        write_events(path, [events], info)
    assert path.read_text() == "before"


def test_a_disk_that_returns_other_bytes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, events = eej()
    sync = os.fsync

    def corrupt(descriptor: int) -> None:
        sync(descriptor)
        os.pwrite(descriptor, b"7", 5000)

    monkeypatch.setattr(os, "fsync", corrupt)
    with pytest.raises(EventFileError, match="not what was written"):
        write_events(tmp_path / "events.lhe", [events], info)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, events = eej()

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_events(tmp_path / "events.lhe", [events], info)
    assert list(tmp_path.iterdir()) == []


def test_files_of_other_generators_are_read() -> None:
    info, events = read_events(TTJ)
    assert info.cross_section_pb == 486.1046
    assert info.weighted
    assert len(events) == 50
    assert events.pdg_id[0].tolist() == [21, 21, 6, -6, 21]
    assert events.mass[0].tolist() == [0, 0, 173, 173, 0]
    assert events.colour[0, 0].tolist() == [504, 502]


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_a_truncated_file_is_never_read(tmp_path: Path, name: str, fraction: float) -> None:
    info, events = eej()
    path = tmp_path / name
    write_events(path, [events], info)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(EventFileError, match="truncated"):
        read_events(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<LesHouchesEvents version", "<!DOCTYPE x><LesHouchesEvents version", "DOCTYPE: refused"),
        ("<LesHouchesEvents", "<html><LesHouchesEvents", "first tag <html>"),
        ("<init>", "<event>\n</event><init>", "<event> before <init>"),
        ("\n6 1 ", "\n7 1 ", "event 1: NUP = 7: expected 6"),
        ("\n6 1 ", "\nsix 1 ", "event 1: NUP = six: expected a whole number"),
        ("\n6 1 ", "\n999999999 1 ", "event 1: NUP = 999999999: expected at most 500"),
        (" 0.0 9.0", " 0.0", "event 1: particle line of 12 numbers: expected 13"),
        (" 0.0 9.0", " 0.0 9_0", "event 1: a line with characters"),
        (" 0.0 9.0", " 0.0\u00a09.0", "event 1: a line with characters"),
        (" 0.0 9.0", " 0.0 abc", "event 1: .*abc.*: expected a number"),
        ("501 502", "501.5 502", "event 1: expected whole numbers in columns 1 to 6"),
        ("501 502", "1e300 502", "event 1: expected whole numbers in columns 1 to 6"),
        ("501 502", "nan 502", "event 1: expected whole numbers in columns 1 to 6"),
        (" 3 1\n", " 3 2\n", "NPRUP = 2: expected 1, the lines there are"),
        ("6500.0 6500.0", "6500.0", "init block"),
        ("<event>", "<event>&bomb;", "not well-formed XML"),
    ],
)
def test_a_damaged_file_gives_one_clear_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    info, events = eej()
    spin = events.spin.clone()
    spin[0, 2] = 9.0
    path = tmp_path / "events.lhe"
    write_events(path, [replace(events, spin=spin)], info)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(EventFileError, match=message):
        read_events(path)


def test_what_is_no_event_file_gives_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(EventFileError, match=r"none.lhe: No such file"):
        read_events(tmp_path / "none.lhe")
    for content in (b"", b"\x1f\x8b", b"\x1f\x8bgarbage!", b"\0\1\2", b"plain text"):
        (tmp_path / "odd.lhe").write_bytes(content)
        with pytest.raises(EventFileError, match=r"odd.lhe: "):
            read_events(tmp_path / "odd.lhe")


def test_endless_white_space_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlgen.events.lhe_scan.MAX_BYTES_WITHOUT_EVENT", 1 << 20)
    path = tmp_path / "bomb.lhe.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(b"<LesHouchesEvents version='3.0'>\n" + b" " * (1 << 23))
    with pytest.raises(EventFileError, match="1 MiB without an event: refused"):
        read_events(path)
