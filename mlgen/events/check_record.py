"""An event file against the checksum that the record of its run holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mlgen.events.check_findings import Findings

RECORD_FILE = "run.json"
"""Beside the event file; `files.NAME` has its `sha256` and its size, `n_bytes`."""


def compare_with_record(path: Path, findings: Findings) -> bool | None:
    """Whether a file is the one that the record beside it describes; None where none does.

    Args:
        path: of the file.
        findings: where a difference is noted.
    """
    record_path = path.parent / RECORD_FILE
    if not record_path.is_file():
        return None
    try:
        files = json.loads(record_path.read_bytes())["files"]
        if path.name not in files:
            return None
        sha256, n_bytes = str(files[path.name]["sha256"]), int(files[path.name]["n_bytes"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{RECORD_FILE}: {type(error).__name__}: expected the record of a run"
        findings.of_file("warning", "record", what)
        return None
    found = path.stat().st_size
    if found != n_bytes:
        what = f"{found} bytes: expected {n_bytes}, as {RECORD_FILE} says"
        findings.of_file("error", "checksum", what)
        return False
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        what = f"sha256 = {digest[:16]}…: expected {sha256[:16]}…, as {RECORD_FILE} says"
        findings.of_file("error", "checksum", what)
    return digest == sha256
