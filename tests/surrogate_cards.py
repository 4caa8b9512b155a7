"""Cards of cheap runs with a surrogate, and what is watched of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlgen.card_files import find_card, read_card
from mlgen.cards import Card

NAME = "uux_to_eeg"
PACK = f"{NAME}.mlgen.zip"

SETTINGS = (
    "matrix_element.provider=closed_form",
    "run.n_events=3000",
    "run.n_estimate=16384",
    "run.chunk_size=4096",
    "run.overweight_budget=0.01",
    "run.sampler=vegas",
    "vegas.n_points=4000",
    "vegas.n_iterations=3",
    "vegas.n_bins=16",
    "surrogate.n_hidden=16",
    "surrogate.n_layers=1",
    "surrogate.n_steps=200",
    "surrogate.helicities=all",
)


def quick_card(surrogate: str, *overrides: str, name: str = NAME) -> Card:
    """Of one subprocess group, whose surrogate is rough."""
    return read_card(find_card(name), (*SETTINGS, f"run.surrogate={surrogate}", *overrides))


def record_of(folder: Path) -> dict[str, Any]:
    """What `run.json` in a folder says."""
    table: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return table


def settled_in(folder: Path, **times: float) -> Path:
    """A record for `--decisions` with these times, microseconds or seconds, by name with a `.` for `__`."""
    path = folder / "settled.json"
    settled = {name.replace("__", "."): value for name, value in times.items()}
    path.write_text(json.dumps({"settled": settled}))
    return path
