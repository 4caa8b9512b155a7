"""The further weights of a run, in all that it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlgen.cli import run_arguments
from mlgen.events.check import check_file
from mlgen.events.formats import read_events
from mlgen.show import show

QUICK = (
    "--sampler=vegas",
    "--set=vegas.n_iterations=3",
    "--set=vegas.n_points=5000",
    "--set=run.n_estimate=16384",
    "--set=weights.scale_variations=true",
)


@pytest.fixture(scope="module", params=[False, True], ids=["unweighted", "weighted"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("varied") / "out"
    arguments = ["run", "pp_to_eej", "-n", "500", *QUICK, "-o", str(folder)]
    weighted = f"--set=run.weighted={str(request.param).lower()}"
    assert run_arguments([*arguments, weighted]) == 0
    return folder


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record


def test_the_file_is_good_and_its_weights_average_to_the_cross_sections_of_the_record(
    folder: Path,
) -> None:
    assert check_file(folder / "events.lhe.gz").is_good
    info, events = read_events(folder / "events.lhe.gz")
    found = record_of(folder)["variations"]
    assert [v["name"] for v in found] == [v.name for v in info.variations]
    assert len(found) == 7
    means = info.cross_section_pb * events.variations.mean(0) / events.weight.mean()
    assert means.tolist() == pytest.approx([v["cross_section_pb"] for v in found], rel=1e-12)


def test_the_nominal_variation_is_the_cross_section_with_its_error(folder: Path) -> None:
    record = record_of(folder)
    nominal = record["variations"][0]
    for key in ("cross_section_pb", "cross_section_error_pb"):
        assert nominal[key] == record[key]
    for other in record["variations"][1:]:
        assert other["cross_section_pb"] != nominal["cross_section_pb"]


def test_the_report_and_the_summaries_show_them(folder: Path) -> None:
    report = (folder / "report.html").read_text()
    for text in ("(stat)", "(scale)", "Scale variations", "MUR=0.5__MUF=0.5__LHAPDF=247000"):
        assert text in report
    assert "(scale) pb" in show(str(folder))
    events = show(str(folder / "events.lhe.gz"))
    assert "MUR=2__MUF=1__LHAPDF=247000" in events
