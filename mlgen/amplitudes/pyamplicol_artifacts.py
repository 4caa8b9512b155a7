"""Matrix elements made by pyamplicol, kept in a cache.

Generation runs Symbolica, which unlicensed lets one process per user run and aborts any second
one: so artifacts are made by a subprocess, under a lock that all of a user's processes share.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from mlgen.amplitudes.pyamplicol_generation import OPTIONS, generate
from mlgen.core import Progress
from mlgen.errors import MatrixElementError

_FORMAT = 2
"""To be raised whenever an artifact made by an older mlgen no longer serves."""

_BATCH = 4
"""Processes of an artifact. Each one costs a second to begin with, and is read as a whole by each
process that is loaded from it: 36 in one took 0.4 to 0.8 s to load, one by itself 0.03 s."""


_TURN_S = 0.2
"""How long a lock is left to others, who look for it every 0.05 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixElement:
    """One matrix element. Parameters of the model are set when it is loaded."""

    process: str
    """`u u~ > e+ e- g`, the names being the model's."""
    pdg_ids: tuple[int, ...]
    colour: Literal["full", "lc"]
    qcd_order: int
    qed_order: int
    ufo_folder: str = ""
    """A model; empty for the Standard Model."""

    def kind(self) -> dict[str, Any]:
        """What it has in common with others of the same artifact, and depends on."""
        return {
            "format": _FORMAT,
            "colour": self.colour,
            "orders": {"QCD": self.qcd_order, "QED": self.qed_order},
            "model": folder_digest(Path(self.ufo_folder)) if self.ufo_folder else "sm",
            "options": list(OPTIONS),
            "pyamplicol": version("pyamplicol"),
            "machine": platform.machine(),
        }


Check = Callable[[MatrixElement, Path], dict[str, float]]
"""Looks at a matrix element in a folder; raises where it is wrong, and gives what is to be noted."""


class ArtifactCache:
    """The matrix elements that were made, each found by what it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pyamplicol"

    def find(self, wanted: MatrixElement) -> Path | None:
        """The artifact that holds a matrix element."""
        kind = wanted.kind()
        for path in sorted(self._folder.glob(f"{wanted.colour}-*.json")):
            note = _read_note(path)
            if (
                wanted.process in note.get("processes", {})
                and all(note.get(key) == value for key, value in kind.items())
                and path.with_suffix("").is_dir()
            ):
                return path.with_suffix("")
        return None

    def folder_of(self, element: MatrixElement) -> Path:
        """The same, of one that was prepared.

        Raises:
            MatrixElementError: it has vanished.
        """
        found = self.find(element)
        if found is None:
            raise MatrixElementError(
                f"{self._folder} has no {element.process} ({element.colour} colour): expected what was made"
            )
        return found

    def prepare(self, wanted: Sequence[MatrixElement], check: Check, progress: Progress) -> None:
        """Make those matrix elements that are missing, and check each of them.

        Raises:
            MissingExtra: pyamplicol is not installed.
            UnsupportedProcess: pyamplicol knows no such process.
            MatrixElementError: one could not be made or is wrong; what was made before is kept.
        """
        missing = [element for element in dict.fromkeys(wanted) if self.find(element) is None]
        if not missing:
            return
        with progress.step("preparing the matrix element", len(missing)) as advance:
            lock = FileLock(user_cache_path("mlgen", ensure_exists=True) / "symbolica.lock")
            # Given back after each batch, so that another process need not wait for all of them.
            for index, batch in enumerate(_batches(missing)):
                if index:
                    time.sleep(_TURN_S)
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    advance(0, "waiting for another process that makes matrix elements")
                    lock.acquire()
                try:
                    self._make(batch, check, advance)
                finally:
                    lock.release()

    def _make(
        self,
        batch: Sequence[MatrixElement],
        check: Check,
        advance: Callable[[float, str], None],
    ) -> None:
        # Another process may have made some while this one waited for the lock.
        elements = [element for element in batch if self.find(element) is None]
        advance(len(batch) - len(elements), "")
        if not elements:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        first = elements[0]
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".making-") as staging:
            made = Path(staging) / "artifact"
            generate(
                [element.process for element in elements],
                made,
                ufo_folder=first.ufo_folder,
                colour=first.colour,
                orders={"QCD": first.qcd_order, "QED": first.qed_order},
                model_cache=self._folder / "models",
                advance=advance,
            )
            checks = {element.process: check(element, made) for element in elements}
            note = first.kind() | {"processes": checks}
            names = json.dumps([first.kind(), sorted(checks)], sort_keys=True)
            digest = hashlib.sha256(names.encode()).hexdigest()[:16]
            folder = self._folder / f"{first.colour}-{digest}"
            made.replace(folder)
            # An artifact without a note is never found.
            _write_note(folder.with_suffix(".json"), note)


def _batches(elements: Sequence[MatrixElement]) -> Iterator[list[MatrixElement]]:
    """Those of one kind together, full colour before the leading colour that is compared with it."""
    ordered = sorted(elements, key=lambda e: (e.colour, json.dumps(e.kind(), sort_keys=True)))
    for _, alike in groupby(ordered, key=MatrixElement.kind):
        remaining = list(alike)
        while remaining:
            yield remaining[:_BATCH]
            remaining = remaining[_BATCH:]


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and isinstance(note.get("processes"), dict) else {}


def _write_note(path: Path, note: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


@cache
def folder_digest(folder: Path) -> str:
    """What stands in the files of a UFO model, which are Python."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".py":
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]
