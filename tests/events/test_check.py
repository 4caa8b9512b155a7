from __future__ import annotations

import gzip
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlgen.core import EventBatch
from mlgen.errors import EventFileError
from mlgen.events.check import CheckReport, check_file
from mlgen.events.formats import read_events, write_events
from tests.events.samples import EEJ, TTJ, eej, with_weights


def written(path: Path, u: list[float] | None = None, weighted: bool = False) -> Path:
    """A good file of 20 events, those of MadGraph."""
    info, events = eej()
    weight = torch.ones(20, dtype=torch.float64)
    weight[: len(u or [])] = torch.tensor(u or [], dtype=torch.float64)
    events = with_weights(events.select(slice(0, 20)), weight)
    write_events(path, [events], replace(info, weighted=weighted))
    return path


def errors(report: CheckReport) -> list[str]:
    return [finding.what for finding in report.findings if finding.severity == "error"]


@pytest.mark.parametrize("path", [EEJ, TTJ], ids=["pp_epemj", "gg_ttxg"])
def test_files_of_madgraph_pass(path: Path) -> None:
    report = check_file(path)
    assert report.findings == ()
    assert report.is_good
    assert report.mean_weight == pytest.approx(report.cross_section_pb, rel=1e-6)


@pytest.mark.parametrize(
    ("u", "weighted"),
    [([], False), ([3.0, 1.5], False), ([-1.0, -1.0], False), ([0.2, 7.0], True)],
    ids=["unit", "overweight", "negative", "weighted"],
)
@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_files_of_ours_pass(tmp_path: Path, name: str, u: list[float], weighted: bool) -> None:
    report = check_file(written(tmp_path / name, u, weighted))
    assert report.findings == ()
    assert report.n_events == 20


def replaced(old: str, new: str, count: int = 1) -> Callable[[str], str]:
    def plant(text: str) -> str:
        assert old in text, "this fault cannot be planted"
        return text.replace(old, new, count)

    return plant


def column(row: int, column: int, new: str | Callable[[str], str]) -> Callable[[str], str]:
    """Change one word of the first event; row 0 is its first line."""

    def plant(text: str) -> str:
        head, tag, rest = text.partition("<event>\n")
        lines = rest.split("\n")
        words = lines[row].split()
        words[column] = new if isinstance(new, str) else new(words[column])
        lines[row] = " ".join(words)
        return head + tag + "\n".join(lines)

    return plant


def scaled(factor: float) -> Callable[[str], str]:
    return lambda word: repr(factor * float(word))


def both(*plants: Callable[[str], str]) -> Callable[[str], str]:
    def plant(text: str) -> str:
        for one in plants:
            text = one(text)
        return text

    return plant


def without_event(text: str) -> str:
    before, _, rest = text.partition("<event>")
    return before + rest.partition("</event>\n")[2]


def event_twice(text: str) -> str:
    event = text[text.index("<event>") : text.index("</event>\n") + len("</event>\n")]
    return text.replace(event, event + event, 1)


# The first event, g u~ > Z u~, Z > e+ e-, is:
#   1 g  -1  0 0  501 502
#   2 u~ -1  0 0    0 501
#   3 Z   2  1 2    0   0
#   4 e+  1  3 3    0   0
#   5 e-  1  3 3    0   0
#   6 u~  1  1 2    0 502
FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated inside an event": (lambda t: t[: len(t) // 2], "truncated"),
    "closing tag missing": (replaced("</LesHouchesEvents>\n", ""), "truncated"),
    "text behind the end": (lambda t: t + "<event>", "not well-formed XML"),
    "tag not closed": (replaced("</event>\n", ""), "not well-formed XML"),
    "unknown entity": (replaced("<event>", "<event>&x;"), "not well-formed XML"),
    "DOCTYPE": (replaced("<Les", "<!DOCTYPE a>\n<Les"), "DOCTYPE: refused"),
    "entity bomb": (
        replaced("<Les", '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]>\n<Les'),
        "DOCTYPE: refused",
    ),
    "another first tag": (replaced("LesHouchesEvents", "html", 2), "first tag <html>"),
    "no init block": (lambda t: t[: t.index("<init>")] + "</LesHouchesEvents>", "no <init> block"),
    "no events": (lambda t: t[: t.index("<event>")] + "</LesHouchesEvents>", "no events"),
    "an event missing": (without_event, "19 events: expected 20, as the header notes"),
    "an event twice": (event_twice, "21 events: expected 20, as the header notes"),
    "NUP too large": (column(0, 0, "7"), "NUP = 7: expected 6"),
    "NUP too small": (column(0, 0, "5"), "NUP = 5: expected 6"),
    "NUP 0": (column(0, 0, "0"), "NUP = 0"),
    "NUP absurd": (column(0, 0, "1000000000"), "expected at most 500"),
    "number missing": (column(3, 12, ""), "particle line of 12 numbers"),
    "number too many": (column(3, 12, "0. 9.0"), "particle line of 14 numbers"),
    "no number": (column(3, 8, "abc"), "expected a number"),
    "Fortran exponent": (column(3, 8, "1.0D+02"), "expected a number"),
    "NaN momentum": (column(5, 8, "nan"), "expected finite numbers"),
    "infinite energy": (column(5, 9, "inf"), "expected finite numbers"),
    "NaN weight": (column(0, 2, "nan"), "expected finite numbers"),
    "NaN scale": (column(0, 3, "nan"), "expected finite numbers"),
    "fraction of a status": (column(6, 1, "1.5"), "expected whole numbers"),
    "absurd id": (column(6, 0, "1e300"), "expected whole numbers"),
    "NPRUP too large": (replaced(" 3 1\n", " 3 2\n"), "NPRUP = 2: expected 1"),
    "init line short": (replaced("2212 2212 ", "2212 "), "init block"),
    "no beam energy": (replaced(" 6500.0 ", " 0.0 "), "expected a positive energy in GeV"),
    "cross section 0": (
        replaced("\n211.4505 ", "\n0.0 "),
        "XSECUP = 0.0: expected a cross section",
    ),
    "cross section NaN": (replaced("\n211.4505 ", "\nnan "), "XSECUP = nan"),
    "error negative": (replaced(" 0.9405939 ", " -1.0 "), "XERRUP = -1.0"),
    "IDWTUP unknown": (replaced(" 3 1\n", " 7 1\n"), "IDWTUP = 7"),
    "overweight with IDWTUP 3": (column(0, 2, "1.5"), "XWGTUP = 1.5 with IDWTUP = 3"),
    "almost unit weight with IDWTUP 3": (column(0, 2, "1.0000000000000002"), "with IDWTUP = 3"),
    "negative weight with IDWTUP 3": (column(0, 2, "-1.0"), "expected no negative weight"),
    "unit weights with IDWTUP -4": (
        replaced(" 3 1\n", " -4 1\n"),
        "mean of XWGTUP = 1 pb: expected",
    ),
    "weight above XMAXUP with IDWTUP 1": (
        both(replaced(" 3 1\n", " 1 1\n"), column(0, 2, "2.0")),
        "expected at most XMAXUP, 1.0",
    ),
    "process unknown": (column(0, 1, "5"), "IDPRUP = 5"),
    "id 0": (column(6, 0, "0"), "expected a particle's PDG id"),
    "status unknown": (column(6, 1, "5"), "status = 5"),
    "three incoming": (column(6, 1, "-1"), "3 lines of status -1"),
    "one incoming": (column(2, 1, "1"), "1 lines of status -1"),
    "mother out of range": (column(6, 3, "9"), "mothers = [1, 9]"),
    "mother negative": (column(6, 2, "-1"), "mothers = [-1, 2]"),
    "own mother": (column(6, 2, "6"), "mothers = [6, 2]"),
    "no mother": (both(column(6, 2, "0"), column(6, 3, "0")), "a line that it comes from"),
    "mother of an incoming": (column(1, 2, "3"), "none, as it is incoming"),
    "mother that is outgoing": (
        both(column(6, 2, "4"), column(6, 3, "4")),
        "mothers that are not outgoing",
    ),
    "resonance without daughters": (
        both(*(column(row, c, w) for row in (4, 5) for c, w in ((2, "1"), (3, "2")))),
        "decay products",
    ),
    "one daughter lost": (
        both(column(4, 2, "1"), column(4, 3, "2")),
        "as much as the resonance has",
    ),
    "colour line broken": (column(6, 5, "503"), "colour lines that each begin and end once"),
    "colour swapped": (
        both(column(6, 4, "502"), column(6, 5, "0")),
        "the colours of such a particle",
    ),
    "gluon without colour": (
        both(column(1, 4, "0"), column(1, 5, "0"), column(2, 5, "0"), column(6, 5, "0")),
        "the colours of such a particle",
    ),
    "gluon of one line": (column(1, 5, "501"), "the colours of such a particle"),
    "coloured electron": (column(4, 4, "501"), "the colours of such a particle"),
    "tag used twice": (
        both(column(1, 5, "501"), column(6, 5, "501")),
        "colour lines that each begin and end once",
    ),
    "charge": (column(6, 0, "-1"), "charge: as much as comes in"),
    "charge of a decay": (
        both(column(4, 0, "-12"), column(6, 0, "-1")),
        "charge: as much as the resonance has",
    ),
    "momentum off by 1e-6": (column(5, 8, scaled(1 + 1e-6)), "momentum: as much as comes in"),
    "energy off by 1e-6": (column(6, 9, scaled(1 + 1e-6)), "momentum: as much as comes in"),
    "resonance's momentum": (column(3, 8, scaled(1.001)), "as much as the resonance has"),
    "resonance's mass": (column(3, 10, scaled(1.001)), "line 3: mass"),
    "electron too heavy": (column(5, 10, "5.0"), "line 5: mass = 5.0"),
    "mass NaN": (column(5, 10, "nan"), "expected finite numbers"),
    "energy negative": (column(5, 9, scaled(-1.0)), "expected a positive energy"),
    "parton above the beam": (
        replaced(" 6500.0 6500.0 ", " 6500.0 400.0 "),
        "at most the beam's energy",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(tmp_path: Path, name: str) -> None:
    plant, expected = FAULTS[name]
    path = written(tmp_path / "events.lhe")
    good = path.read_text()
    bad = plant(good)
    assert bad != good
    path.write_text(bad)
    found = errors(check_file(path))
    assert any(expected in what for what in found), found


WEIGHTED_FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "cross section off by 1e-5": (replaced("\n211.4505 ", "\n211.4526 "), "mean of XWGTUP"),
    "a weight lost its excess": (column(0, 2, scaled(1 / 3)), "mean of XWGTUP"),
    "a weight lost its sign": (column(0, 2, scaled(-1.0)), "mean of XWGTUP"),
    "IDWTUP 3": (replaced(" -4 1\n", " 3 1\n"), "with IDWTUP = 3: expected 1"),
    "XMAXUP": (lambda t: t.replace(t.split("<init>")[1].split()[12], "1.0", 1), "XMAXUP = 1"),
}


@pytest.mark.parametrize("name", WEIGHTED_FAULTS)
def test_a_fault_planted_among_weights_is_found(tmp_path: Path, name: str) -> None:
    plant, expected = WEIGHTED_FAULTS[name]
    path = written(tmp_path / "events.lhe", [3.0])
    path.write_text(plant(path.read_text()))
    found = errors(check_file(path))
    assert any(expected in what for what in found), found


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (column(4, 12, "2.0"), "expected a helicity within"),
        (replaced('version="3.0"', 'version="4.0"'), "version = '4.0'"),
        (
            both(*(column(row, c, scaled(-1.0)) for row in range(1, 7) for c in (7, 8))),
            "the first line along +z",
        ),
    ],
)
def test_what_readers_may_stumble_over_is_a_warning(
    tmp_path: Path, plant: Callable[[str], str], expected: str
) -> None:
    path = written(tmp_path / "events.lhe")
    path.write_text(plant(path.read_text()))
    report = check_file(path)
    assert report.is_good
    assert [expected in finding.what for finding in report.findings] == [True]


def test_events_before_a_truncation_are_counted_and_checked(tmp_path: Path) -> None:
    info, events = eej()
    path = tmp_path / "events.lhe.gz"
    write_events(path, [EventBatch.concatenate([events] * 5)], info)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    report = check_file(path)
    assert 800 < report.n_events < 950
    assert any("truncated" in what for what in errors(report))
    assert any("events: expected 1000, as the header notes" in what for what in errors(report))


def test_a_fault_is_reported_once_with_its_count_and_its_first_event(tmp_path: Path) -> None:
    path = written(tmp_path / "events.lhe")
    lines = path.read_text().split("<event>\n")
    for event in (3, 7, 8):
        lines[event] = lines[event].replace(" 91.188 ", " nan ", 1)
    path.write_text("<event>\n".join(lines))
    (finding,) = check_file(path).findings
    assert (finding.n_events, finding.first_event) == (3, 3)


def test_files_with_few_digits_are_not_blamed_for_rounding(tmp_path: Path) -> None:
    _, events = read_events(TTJ)
    info, _ = read_events(TTJ)
    path = tmp_path / "events.lhe"
    write_events(path, [events], info)
    head, tag, rest = path.read_text().partition("<event>")
    words = [
        line.split(" ")
        if len(line.split(" ")) != 13
        else line.split(" ")[:6] + [f"{float(word):.8e}" for word in line.split(" ")[6:]]
        for line in rest.split("\n")
    ]
    path.write_text(head + tag + "\n".join(" ".join(line) for line in words))
    assert check_file(path).findings == ()


def test_a_file_that_is_not_there_is_an_error_of_the_call(tmp_path: Path) -> None:
    with pytest.raises(EventFileError, match="no such file: expected an event file"):
        check_file(tmp_path / "none.lhe")


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"\x1f\x8bgarbage!", b"\0", b"plain", b"<a/>"]
)
def test_what_is_no_event_file_is_a_finding(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.lhe"
    path.write_bytes(content)
    report = check_file(path)
    assert not report.is_good
    assert report.n_events == 0


def test_random_damage_is_never_a_crash(tmp_path: Path) -> None:
    path = written(tmp_path / "events.lhe")
    whole = path.read_bytes()
    rng = torch.Generator().manual_seed(3)
    n_good = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            at = int(torch.randint(len(damaged), (), generator=rng))
            damaged[at] = int(torch.randint(256, (), generator=rng))
        path.write_bytes(damaged)
        n_good += check_file(path).is_good
    # A digit beyond the tolerance, or a byte of the card, may change without breaking a rule.
    assert n_good < 60


def test_ten_thousand_events_take_seconds(tmp_path: Path) -> None:
    info, events = eej()
    path = tmp_path / "events.lhe.gz"
    write_events(path, [events] * 50, info)
    start = time.process_time()
    report = check_file(path)
    assert report.is_good
    assert report.n_events == 10_000
    assert time.process_time() - start < 5  # 0.4 s on an idle core


def test_a_plain_file_may_have_the_name_of_a_compressed_one(tmp_path: Path) -> None:
    written(tmp_path / "events.lhe")
    shutil.copy(tmp_path / "events.lhe", tmp_path / "events.lhe.gz")
    assert check_file(tmp_path / "events.lhe.gz").is_good
    (tmp_path / "packed.lhe").write_bytes(gzip.compress((tmp_path / "events.lhe").read_bytes()))
    assert check_file(tmp_path / "packed.lhe").is_good
