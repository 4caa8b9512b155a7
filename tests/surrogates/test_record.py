from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from mlgen.surrogates.distributions import PULL_QUANTILES, PULL_RANGE
from tests.surrogates.records import known_group, known_record


def test_a_record_is_json_that_says_what_its_numbers_are_of() -> None:
    record = known_record()
    table = record.to_table()
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert (table["schema"], table["schema_version"]) == ("mlgen-surrogate", 1)
    assert table["binning"]["pull_range"] == list(PULL_RANGE)
    assert table["binning"]["pull_quantiles"] == list(PULL_QUANTILES)
    group = table["groups"][0]
    assert group["regions"]["all"]["pulls"]["total"]["width"] == pytest.approx(1, abs=0.02)
    assert len(group["learning_curve"]) == 3
    assert table["two_stage"][0]["bound"] == pytest.approx(0.82 / 0.145)
    assert table["settings"]["method"] == "repulsive"


def test_numbers_that_json_lacks_are_null() -> None:
    group = replace(known_group(n=20_000), us_per_point=math.inf)
    assert known_record(group).to_table()["groups"][0]["us_per_point"] is None
