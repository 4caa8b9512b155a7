"""The cross section of a run as people write it, with what its variations say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mlgen.diagnostics.rounding import with_error
from mlgen.physics.variations import MEMBERS, SCALES

TITLES = {SCALES: "Scale variations", MEMBERS: "Members of the set of parton densities"}


def cross_section_text(record: Mapping[str, Any]) -> str:
    """The cross section in pb with its statistical error and, if it was varied, that of the scales.

    The latter is the envelope: what the largest and the smallest variation differ by.

    Args:
        record: `run.json` of a complete run, as a table.
    """
    nominal = record["cross_section_pb"]
    text = with_error(nominal, record["cross_section_error_pb"])
    varied = [
        variation["cross_section_pb"]
        for variation in record.get("variations", ())
        if variation["group"] == SCALES
    ]
    if not varied:
        return f"{text} pb"
    up, down = max(0.0, max(varied) - nominal), max(0.0, nominal - min(varied))
    shown_up, shown_down = _alike(up, down)
    return f"{text} (stat) +{shown_up} −{shown_down} (scale) pb"


def _alike(up: float, down: float) -> tuple[str, str]:
    """Both with the decimals that give the larger one three digits."""
    largest = max(up, down)
    size = math.floor(math.log10(largest)) if largest > 0 else 0
    if not -4 <= size < 6:
        return f"{up:.3g}", f"{down:.3g}"
    decimals = max(0, 2 - size)
    return f"{up:.{decimals}f}", f"{down:.{decimals}f}"


def variation_tables(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """For each group of variations a title and rows: name, cross section, relative difference."""
    variations = record.get("variations", ())
    for group in dict.fromkeys(variation["group"] for variation in variations):
        rows = [_row(v, record["cross_section_pb"]) for v in variations if v["group"] == group]
        yield {"title": TITLES.get(group, group), "rows": rows}


def _row(variation: Mapping[str, Any], nominal: float) -> dict[str, str]:
    sigma = variation["cross_section_pb"]
    return {
        "name": variation["name"],
        "cross_section": with_error(sigma, variation["cross_section_error_pb"]),
        "difference": f"{100 * (sigma / nominal - 1):+.2f}%" if nominal else "",
    }
