"""Faults of event files, each with what a check must report of it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlgen.events.check_findings import Severity
from tests.events import event_faults, file_faults
from tests.events.event_faults import Row
from tests.events.good_files import write_good_file
from tests.events.lheh5_faults import LHEH5, flipped
from tests.events.planting import Plant


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedFault:
    """A fault in a file that was good."""

    base: str
    """The good file: one of GOOD_FILES."""
    plant: Callable[[bytes], bytes]
    kind: str
    """`Finding.kind` of what must be found."""
    text: str
    """A part of `Finding.what`."""
    severity: Severity = "error"
    suffix: str = ".lhe"

    def write(self, path: Path) -> None:
        """Write the good file to a path with this suffix, and plant the fault in it."""
        write_good_file(self.base, path)
        good = path.read_bytes()
        bad = self.plant(good)
        assert bad != good, "the file is as good as before"
        path.write_bytes(bad)


def _in_text(
    base: str, rows: dict[str, Row], severity: Severity = "error"
) -> dict[str, PlantedFault]:
    def on_bytes(plant: Plant) -> Callable[[bytes], bytes]:
        return lambda content: plant(content.decode()).encode()

    return {
        f"{base}: {name}": PlantedFault(
            base=base, plant=on_bytes(plant), kind=kind, text=text, severity=severity
        )
        for name, (plant, kind, text) in rows.items()
    }


COMPRESSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated in the middle": (lambda b: b[: len(b) // 2], "truncated"),
    "last byte missing": (lambda b: b[:-1], "truncated"),
    "checksum missing": (lambda b: b[:-8], "truncated"),
    "checksum changed": (lambda b: b[:-8] + b"\0\0\0\0" + b[-4:], "cannot be read"),
    "a bit flipped": (flipped(0.6), ""),
    "garbage behind the end": (lambda b: b + b"garbage", "cannot be read"),
    "a second document": (lambda b: b + b, "junk after document element"),
    "text behind the end": (lambda b: b + gzip.compress(b"<event>"), "not well-formed XML"),
    "header of gzip alone": (lambda b: b[:10], ""),
}

CATALOGUE: dict[str, PlantedFault] = {
    **_in_text(
        "unit",
        file_faults.DOCUMENT
        | event_faults.LINES
        | file_faults.STRATEGY
        | event_faults.PARTICLES
        | event_faults.KINEMATICS,
    ),
    **_in_text("unit", {f"init, {name}": row for name, row in file_faults.INIT.items()}),
    **_in_text("unit", {f"colour, {name}": row for name, row in event_faults.COLOUR.items()}),
    **_in_text("unit", file_faults.WARNINGS_OF_OURS, "warning"),
    **_in_text("overweight", file_faults.OVERWEIGHT | file_faults.NOTES),
    **_in_text("many", file_faults.WARNINGS_OF_MANY, "warning"),
    **_in_text("varied", event_faults.FURTHER_WEIGHTS),
    **_in_text("collider", event_faults.COLLIDER),
    **_in_text("collider", file_faults.WARNINGS_OF_COLLIDER, "warning"),
    **_in_text("tops", file_faults.WARNINGS_OF_TOPS, "warning"),
    **_in_text("madgraph", file_faults.MADGRAPH),
    **_in_text("madgraph", file_faults.WARNINGS_OF_MADGRAPH, "warning"),
    **_in_text("pythia", file_faults.PYTHIA),
    **_in_text("pythia tops", event_faults.DECAYS),
    **{
        f"{base}, compressed: {name}": PlantedFault(
            base=base, plant=plant, kind="document", text=text, suffix=".lhe.gz"
        )
        for base in ("unit", "madgraph")
        for name, (plant, text) in COMPRESSED.items()
    },
    **{
        f"overweight, LHEH5: {name}": PlantedFault(
            base="overweight", plant=plant, kind=kind, text=text, suffix=".lheh5"
        )
        for name, (plant, kind, text) in LHEH5.items()
    },
}
