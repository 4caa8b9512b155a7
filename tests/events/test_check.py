from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from mlgen.cli import run_arguments
from mlgen.core import EventBatch
from mlgen.errors import EventFileError
from mlgen.events.check import CheckReport, check_file
from mlgen.events.formats import read_events, write_events
from tests.events.event_faults import OTHER
from tests.events.good_files import collider, write_good_file
from tests.events.planting import Plant, both, column, replaced, weight
from tests.events.samples import TTJ, eej


def written(path: Path, name: str = "unit") -> Path:
    """A good file of 20 events, those of MadGraph."""
    write_good_file(name, path)
    return path


def errors(report: CheckReport) -> list[str]:
    return [finding.what for finding in report.findings if finding.severity == "error"]


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
    info, events = read_events(TTJ)
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
    assert errors(check_file(path)) == []


def test_round_numbers_are_not_taken_for_rounding(tmp_path: Path) -> None:
    info, events = collider()
    events.momenta[:, 2:, 1:] = 0
    events.momenta[:, 2, 2], events.momenta[:, 3, 2] = 250, -250
    path = tmp_path / "events.lhe"
    write_events(path, [events], info)
    assert check_file(path).findings == ()
    path.write_text(column(3, 7, "255.0")(path.read_text()))
    assert any("momentum" in what for what in errors(check_file(path)))


def test_a_file_that_cannot_be_read_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "events.lhe")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("mlgen.events.check.compare_with_record", fail)
    assert errors(check_file(path)) == ["cannot be read: Input/output error"]


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


@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_a_file_that_breaks_off_anywhere_is_not_good(tmp_path: Path, name: str) -> None:
    whole = written(tmp_path / name, "collider").read_bytes()
    path = tmp_path / f"cut-{name}"
    # The last byte of plain text is the end of its line: without it nothing is lost.
    for end in range(len(whole) - (path.suffix == ".lhe")):
        path.write_bytes(whole[:end])
        report = check_file(path)
        assert any(finding.kind == "document" for finding in report.findings), end


TAGS = {"0": "0", "501": "77", "502": "1234567890123"}

HARMLESS: dict[str, Plant] = {
    "no line end at the end": lambda text: text.rstrip("\n"),
    "blank lines": lambda text: text.replace("\n", "\n\n"),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "more space": lambda text: text.replace(" ", "   "),
    "comments of XML": replaced("<event>\n", "<!-- é <event> -->\n<event>\n<!-- 1 2 3 -->\n", 3),
    "comments in events": replaced("</event>", "# a comment: 1 2 3\n</event>", 3),
    "comments around events": replaced("<event>", "# not an event\n<event>", 3),
    "attributes": replaced("<event>", "<event npLO='1' npNLO=\"-1\">", 3),
    "elements in events": replaced("</event>", "<mgrwt><rscale>1 2</rscale></mgrwt></event>", 3),
    "elements of the header": replaced("<header>", "<header><slha>BLOCK 1</slha>"),
    "another quote": replaced('version="3.0"', "version='3.0'"),
    "declaration": lambda text: '<?xml version="1.0" encoding="utf-8"?>\n' + text,
    "other exponents": column(5, 9, lambda word: f"{float(word):.17E}"),
    "a plus": column(0, 2, "+1"),
    "one mother": both(column(4, 3, "0"), column(5, 3, "0")),
    "unknown scale and couplings": both(*(column(0, c, "-1") for c in (3, 4, 5))),
    "unknown helicity": column(4, 12, "9"),
    "other tags": both(
        *(column(row, 4, lambda word: TAGS[word], event) for row in (1, 2, 6) for event in (1, 20)),
        *(column(row, 5, lambda word: TAGS[word], event) for row in (1, 2, 6) for event in (1, 20)),
    ),
    "a resonance of a new model": column(3, 0, "6000005"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_change_is_not_reported(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "events.lhe")
    text = path.read_text()
    changed = HARMLESS[name](text)
    assert changed != text
    path.write_text(changed)
    assert check_file(path).findings == ()


def test_another_value_of_a_true_variation_is_no_fault(tmp_path: Path) -> None:
    path = written(tmp_path / "events.lhe", "varied")
    path.write_text(weight(OTHER, "-17.0")(path.read_text()))
    assert check_file(path).findings == ()


def test_a_compressed_file_may_have_several_members(tmp_path: Path) -> None:
    content = written(tmp_path / "events.lhe").read_bytes()
    half = len(content) // 2
    path = tmp_path / "events.lhe.gz"
    path.write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:]))
    assert check_file(path).findings == ()


def record(path: Path) -> dict[str, dict[str, dict[str, str | int]]]:
    """What `run.json` says of a file."""
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return {"files": {path.name: {"sha256": sha256, "n_bytes": len(content)}}}


def test_the_checksum_is_compared_where_a_record_lies_beside_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "events.lhe.gz")
    assert check_file(path).checksum == "not compared"
    (tmp_path / "run.json").write_text(json.dumps(record(path)))
    report = check_file(path)
    assert (report.checksum, report.findings) == ("agrees", ())
    other = Path(shutil.copy(path, tmp_path / "other.lhe.gz"))
    assert check_file(other).checksum == "not compared"
    assert check_file(other).findings == ()


def test_a_file_that_is_not_the_one_of_the_record_is_not_good(tmp_path: Path) -> None:
    path = written(tmp_path / "events.lhe")
    (tmp_path / "run.json").write_text(json.dumps(record(path)))
    text = path.read_text()
    for changed in (text.replace("seed = 1", "seed = 2"), text + "\n"):
        path.write_text(changed)
        report = check_file(path)
        assert report.checksum == "differs"
        assert [finding.kind for finding in report.findings] == ["checksum"]
        assert not report.is_good


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"files": 3}', '{"files": {"events.lhe": {}}}', "\0", "[" * 100_000]
)
def test_a_record_that_cannot_be_read_is_a_warning(tmp_path: Path, content: str) -> None:
    path = written(tmp_path / "events.lhe")
    (tmp_path / "run.json").write_text(content)
    report = check_file(path)
    assert report.checksum == "not compared"
    assert [(found.kind, found.severity) for found in report.findings] == [("record", "warning")]


def test_json_has_keys_that_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "events.lhe", "overweight")
    path.write_text(column(6, 5, "503")(path.read_text()))
    assert run_arguments(["check", "--json", str(path)]) == 7
    table = json.loads(capsys.readouterr().out)
    assert table["findings"][0] == {
        "severity": "error",
        "kind": "colour_lines",
        "what": "ICOLUP = [[501, 502], [0, 501], [0, 0], [0, 0], [0, 503]]: "
        "expected colour lines that each begin and end once",
        "n_events": 1,
        "first_event": 1,
    }
    numbers = {key: table[key] for key in ("n_events", "weighting_strategy", "is_good")}
    assert numbers == {"n_events": 20, "weighting_strategy": -4, "is_good": False}
    assert set(table) == {
        "schema", "schema_version", "path", "is_good", "n_events", "weighting_strategy",
        "cross_section_pb", "mean_weight", "kish_effective_size", "checksum", "findings",
    }  # fmt: skip


def test_json_is_json_where_numbers_are_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.lhe"
    path.write_text("no event file")
    assert run_arguments(["check", "--json", str(path)]) == 7
    table = json.loads(capsys.readouterr().out)
    assert (table["cross_section_pb"], table["mean_weight"], table["n_events"]) == (None, None, 0)


def test_people_are_told_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "events.lhe", "overweight")
    assert run_arguments(["check", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "verdict        good" in shown
    assert "checksum       not compared" in shown
    assert "Kish effective size 17.3" in shown
    path.write_text(column(3, 11, "-1.0")(column(6, 5, "503")(path.read_text())))
    assert run_arguments(["check", str(path)]) == 7
    error, warning = (line for line in capsys.readouterr().out.splitlines() if "event 1" in line)
    assert "error" in error
    assert "colour_lines" in error
    assert "warning" in warning
    assert run_arguments(["check", str(tmp_path / "none.lhe")]) == 7
