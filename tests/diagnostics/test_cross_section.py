from __future__ import annotations

from typing import Any

import pytest

from mlgen.diagnostics.cross_section import cross_section_text, variation_tables


def a_record(scales: list[float], members: list[float] | None = None) -> dict[str, Any]:
    groups = {"scale_variations": scales, "pdf_members": members or []}
    return {
        "cross_section_pb": 212.04,
        "cross_section_error_pb": 0.12,
        "variations": [
            {
                "name": f"{group} {i}",
                "group": group,
                "cross_section_pb": sigma,
                "cross_section_error_pb": 0.15,
            }
            for group, values in groups.items()
            for i, sigma in enumerate(values)
        ],
    }


@pytest.mark.parametrize(
    ("scales", "text"),
    [
        ([], "212.04 ± 0.12 pb"),
        ([212.04, 240.0, 190.04], "212.04 ± 0.12 (stat) +28.0 −22.0 (scale) pb"),
        ([212.04, 212.04], "212.04 ± 0.12 (stat) +0.00 −0.00 (scale) pb"),
        ([220.0, 230.0], "212.04 ± 0.12 (stat) +18.0 −0.0 (scale) pb"),
    ],
)
def test_the_envelope_of_the_scales_stands_beside_the_statistical_error(
    scales: list[float], text: str
) -> None:
    assert cross_section_text(a_record(scales, [500.0])) == text


def test_a_record_from_before_there_were_variations_is_shown_without() -> None:
    record = a_record([])
    del record["variations"]
    assert cross_section_text(record) == "212.04 ± 0.12 pb"
    assert list(variation_tables(record)) == []


def test_each_group_has_a_table_of_its_own() -> None:
    scales, members = variation_tables(a_record([212.04, 240.0], [0.99 * 212.04]))
    assert [row["difference"] for row in scales["rows"]] == ["+0.00%", "+13.19%"]
    assert scales["rows"][1]["cross_section"] == "240.00 ± 0.15"
    assert [row["name"] for row in members["rows"]] == ["pdf_members 0"]
    assert members["rows"][0]["difference"] == "-1.00%"
