"""Every fault of the catalogue is found, and files without one pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from mlgen.events import check
from mlgen.events.check import CheckReport, check_file
from mlgen.events.check_findings import Fault
from tests.events.fault_catalogue import CATALOGUE, PlantedFault
from tests.events.good_files import GOOD_FILES, OURS, write_good_file


def finds(fault: PlantedFault, report: CheckReport) -> bool:
    """Whether a report has what the catalogue says of a fault."""
    return any(
        (found.kind, found.severity) == (fault.kind, fault.severity) and fault.text in found.what
        for found in report.findings
    )


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_planted_fault_is_found(tmp_path: Path, name: str) -> None:
    fault = CATALOGUE[name]
    path = tmp_path / f"events{fault.suffix}"
    fault.write(path)
    report = check_file(path)
    assert finds(fault, report), report.findings
    assert report.is_good == (fault.severity == "warning")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *product(GOOD_FILES, (".lhe", ".lhe.gz")),
        *product(OURS, (".lheh5",)),
    ],
)
def test_good_files_pass(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"events{suffix}"
    write_good_file(name, path)
    report = check_file(path)
    assert report.findings == ()
    assert report.n_events > 0


def no_faults(*_: object) -> Iterator[Fault]:
    return iter(())


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("particle_faults", "unit: status unknown"),
        ("mother_faults", "unit: own mother"),
        ("event_faults", "unit: scale"),
        ("colour_faults", "unit: colour, line broken"),
        ("kinematic_faults", "unit: momentum off by 1e-6"),
        ("init_faults", "unit: init, process unknown"),
        ("unit_faults", "unit: overweight with IDWTUP 3"),
        ("variation_faults", "varied: the event's own weight changed"),
        ("mass_faults", "tops: tops of two masses"),
        ("check_init", "unit: init, IDWTUP unknown"),
        ("check_declared", "varied: declared twice"),
        ("check_totals", "unit: an event missing"),
    ],
)
def test_without_its_rule_a_fault_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, name: str
) -> None:
    fault = CATALOGUE[name]
    path = tmp_path / f"events{fault.suffix}"
    fault.write(path)
    monkeypatch.setattr(check, rule, no_faults)
    assert not finds(fault, check_file(path))


def test_the_catalogue_has_each_kind_of_finding_that_is_documented() -> None:
    page = Path(__file__).parents[2] / "docs" / "event_files.md"
    table = page.read_text(encoding="utf-8").split("| kind |")[1].split("\n\n")[0]
    documented = {
        kind
        for row in table.splitlines()[2:]
        for kind in re.findall("`([a-z_]+)`", row.split("|")[1])
    }
    # tests/events/test_check.py has those that need a second file.
    assert {fault.kind for fault in CATALOGUE.values()} == documented - {"checksum", "record"}
    assert len(CATALOGUE) >= 190
