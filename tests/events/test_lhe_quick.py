"""The quick way through the text of events, against the slow one: what it takes, it takes alike."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlgen.core import EventBatch
from mlgen.errors import EventFileError
from mlgen.events.formats import read_events, write_events
from mlgen.events.lhe_events import events_text
from mlgen.events.lhe_numbers import EventTable
from mlgen.events.lhe_quick import BETWEEN, END_OF_EVENT, END_OF_LINE, quick_table
from mlgen.events.lhe_reader import parse_texts
from mlgen.events.lhe_scan import LheScanner
from tests.events.samples import TTJ, eej, same_bits
from tests.events.varied import VARIATIONS, varied

IDS = tuple(variation.name for variation in VARIATIONS)
PATH = Path("events.lhe")
HEAD = b"<LesHouchesEvents version='3.0'>\n<init>\n1\n</init>\n"
FRAGMENTS = [
    *(
        "",
        " ",
        "  ",
        "\n",
        "\t",
        "\r",
        "\f",
        "\u00a0",
        "#",
        "# 1",
        "-",
        "+",
        "_",
        ",",
        "@",
        "[",
        "]",
    ),
    *("],[", "null", "true", "nan", "inf", "x", "<", ">", "&", "&amp;", "&#49;", "'", '"'),
    *("0", "1", "5", "6", "7", "9", "01", "-0", "+1", "-0.0", "0.", ".5", "1.", "1e5", "1E+05"),
    *("1e-07", "1e400", "1d5", "1_0", "0x1", "\u0663", "9007199254740993", "1" * 40, "6.0", "6e0"),
    *(f"{END_OF_LINE!r}", f"{END_OF_EVENT!r}", BETWEEN.decode(), "</event>\n", "<event>\n"),
    *("<!-- -->", "<![CDATA[1]]>", "<rwgt>\n", "</rwgt>\n", "</wgt>", "</wgt> ", "<a/>"),
]


def content(n_events: int, names: tuple[str, ...] = ()) -> bytes:
    _, events = varied(n_events)
    if not names:
        events = replace(events, variations=torch.empty(n_events, 0, dtype=torch.float64))
    return events_text(events, 1.0, names)


def slow_table(text: bytes, ids: tuple[str, ...]) -> EventTable:
    """What expat and `parse_event` make of events, in a file of nothing else."""
    scanner = LheScanner(PATH, BytesIO(HEAD + text + b"</LesHouchesEvents>\n"))
    return parse_texts(PATH, tuple(scanner), ids, first=1)


def assert_same(one: EventTable, other: EventTable) -> None:
    for name in ("info", "particles", "weights"):
        got, expected = getattr(one, name), getattr(other, name)
        assert got.shape == expected.shape
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("ids", [(), IDS], ids=["alone", "with weights"])
def test_what_we_write_is_read_the_quick_way(ids: tuple[str, ...]) -> None:
    text = content(150, ids)
    table = quick_table(text, ids)
    assert table is not None
    assert_same(table, slow_table(text, ids))


def test_what_madgraph_writes_is_read_the_quick_way() -> None:
    with LheScanner(TTJ) as scanner:
        texts = list(scanner)
    text = "".join(f"<event>\n{event.particles.strip()}\n</event>\n" for event in texts).encode()
    table = quick_table(text)
    assert table is not None
    assert_same(table, slow_table(text, ()))


def changed(text: bytes, edits: list[tuple[float, int, str]]) -> bytes:
    for where, n_removed, fragment in edits:
        start = int(where * len(text))
        text = text[:start] + fragment.encode() + text[start + n_removed :]
    return text


@pytest.mark.parametrize("ids", [(), IDS[:2]], ids=["alone", "with weights"])
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 6), st.sampled_from(FRAGMENTS)),
        min_size=1,
        max_size=3,
    )
)
def test_what_the_quick_way_takes_is_what_the_slow_way_finds(
    ids: tuple[str, ...], edits: list[tuple[float, int, str]]
) -> None:
    whole = TWO_WITH_WEIGHTS if ids else TWO
    inner = changed(whole[len("<event>\n") : -len("</event>\n")], edits)
    text = b"<event>\n" + inner + b"</event>\n"
    table = quick_table(text, ids)
    if table is not None:
        assert_same(table, slow_table(text, ids))


_, _TWO = varied(2)
_TWO = replace(_TWO, variations=_TWO.variations[:, :2])
TWO_WITH_WEIGHTS = events_text(_TWO, 1.0, IDS[:2])
TWO = content(2)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" 0.0 ", " -0 "),
        (" 0.0 ", " 1_0 "),
        (" 0.0 ", " 1e400 "),
        (" 0.0 ", " 0.,0. "),
        (" 0.0 ", " "),
        (" 0.0 ", f" {END_OF_LINE!r} "),
        (" 0.0 ", "\n"),
        (" 0.0 ", " 0.0 <!-- --> "),
        ("\n6 1 ", "\n6.0 1 "),
        ("\n6 1 ", "\n5 1 "),
        ("\n6 1 ", "\n06 1 "),
    ],
)
def test_what_is_not_plain_is_left_to_the_slow_way(old: str, new: str) -> None:
    text = TWO.decode()
    assert old in text
    assert quick_table(TWO) is not None
    assert quick_table(text.replace(old, new, 1).encode()) is None


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_every_number_is_read_back_to_its_bits(numbers: list[float]) -> None:
    momenta = _TWO.momenta.clone()
    momenta[0, 2] = torch.tensor(numbers, dtype=torch.float64)
    events = replace(_TWO, momenta=momenta, scale=torch.tensor(numbers[:2], dtype=torch.float64))
    text = events_text(events, 1.0, IDS[:2])
    assert all(len(word) <= 24 for word in text.split(b"<rwgt>")[0].split()), "more than 17 digits"
    found = [line.split() for line in text.splitlines()][4]
    assert [float(word) for word in found[6:10]] == [*numbers[1:], numbers[0]]
    # An end-of-line number would be left to the slow way, which is as exact.
    table = quick_table(text, IDS[:2]) or slow_table(text, IDS[:2])
    assert table.particles[0, 2, 6:10].tobytes() == np.array([*numbers[1:], numbers[0]]).tobytes()
    assert table.info[:, 3].tobytes() == np.array(numbers[:2]).tobytes()


def pieces_of(text: bytes, monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> list[EventTable]:
    monkeypatch.setattr("mlgen.events.lhe_scan.READ_BYTES", n_bytes)
    tables = []
    scanner = LheScanner(PATH, BytesIO(text))
    for piece in scanner.pieces():
        table = piece.table
        tables.append(table if table is not None else parse_texts(PATH, piece.texts, (), first=1))
    return tables


ONE = "<event>\n1 1 1 1 1 1\n1 1 0 0 0 0 1 1 1 1 1 0. 9.\n</event>\n"


@pytest.mark.parametrize("n_bytes", [1, 9, 60, 100, 700, 1 << 20])
@pytest.mark.parametrize(
    "between",
    [
        "",
        "\n",
        "<!-- a comment\n-->\n",
        f"<!-- \n{ONE}{ONE}{ONE}-->\n",
        "<![CDATA[ ]]>\n",
        "<empty/>\n",
    ],
)
def test_events_are_the_same_whatever_stands_between_them_and_wherever_reading_pauses(
    monkeypatch: pytest.MonkeyPatch, between: str, n_bytes: int
) -> None:
    events = content(20)
    inserted = events.replace(BETWEEN, b"</event>\n" + between.encode() + b"<event>\n", 3)
    text = HEAD + events + between.encode() + inserted + events + b"</LesHouchesEvents>\n"
    found = pieces_of(text, monkeypatch, n_bytes)
    assert sum(len(table.info) for table in found) == 60
    slow = slow_table(events * 3, ())
    assert b"".join(table.info.tobytes() for table in found) == slow.info.tobytes()


@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize(
    "broken", [b"<<event>\n", b"<event>\n<event>\n", b"</event>\n<event>\n", b"&<event>\n"]
)
def test_broken_tags_between_events_are_never_passed_over(
    monkeypatch: pytest.MonkeyPatch, broken: bytes, end: bytes
) -> None:
    first, _, _ = TWO.partition(BETWEEN)
    # A `<` that was left over would make a comment of this.
    rest = ONE.encode().removeprefix(b"<event>\n") + b"!-- -->\n</LesHouchesEvents>\n"
    for shift in (b"", b" "):
        text = shift.join([HEAD[:-8], HEAD[-8:] + first + b"</event>" + end + broken + rest])
        for n_bytes in (1, *range(230, 300)):
            with pytest.raises(EventFileError):
                pieces_of(text, monkeypatch, n_bytes)


def test_an_error_names_its_line_and_its_event_after_events_that_were_passed(
    tmp_path: Path,
) -> None:
    info, events = eej()
    events = EventBatch.concatenate([events] * 20)
    path = tmp_path / "events.lhe"
    write_events(path, [events], info)
    text = path.read_text()
    where = text.index("<event>", 1_500_000)
    path.write_text(text[:where] + "<event>&bomb;" + text[where + len("<event>") :])
    line = text[:where].count("\n") + 1
    with pytest.raises(EventFileError, match=rf"line {line}: not well-formed XML"):
        read_events(path)
    number = text[:where].count("<event>") + 1
    path.write_text(text[:where] + text[where:].replace(" 0.0 ", " 0.0 0. ", 1))
    with pytest.raises(EventFileError, match=rf"event {number}: particle line of 14 numbers"):
        read_events(path)


@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_a_sample_of_many_pieces_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    info, events = varied(200)
    events = EventBatch.concatenate([events] * 15)
    write_events(tmp_path / name, [events], info)
    info_back, events_back = read_events(tmp_path / name)
    assert info_back == info
    assert same_bits(events_back, events) == []
