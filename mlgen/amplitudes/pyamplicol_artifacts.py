"""Matrix elements made by pyamplicol, kept in a cache.

Generation runs Symbolica, which unlicensed lets one process per user run and aborts any second
one: so each artifact is made by a subprocess, under a lock that all of a user's processes share.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from mlgen.amplitudes.pyamplicol_runtime import package_folder
from mlgen.core import Progress
from mlgen.errors import MatrixElementError

_FORMAT = 1
"""To be raised whenever an artifact made by an older mlgen no longer serves."""

_OPTIONS = (
    # The Universal FeynRules Output of the Standard Model that MadGraph's `sm` is too. The
    # built-in model of pyamplicol 1.0.1 fixes the weak mixing angle at generation: a Z mass
    # set later leaves its couplings wrong; and its b quark and tau are massless.
    "--restriction=default",
    "--coupling-order-policy=minimal",
    # Made in a quarter of the time of the default (recurrence) and faster to evaluate.
    "--execution-mode=compiled",
    "--no-emit-api-bundle",
    "--no-symbolica-suggestion",
    "--progress=log",
)
_MODEL = Path("assets", "models", "ufo", "sm")
_STAGE = re.compile(r"progress: generation (\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """What one artifact is made of. Parameters of the model are set when it is loaded."""

    processes: tuple[str, ...]
    """`u u~ > e+ e- g` and others of the same coupling structure, each once."""
    colour: Literal["full", "lc"]

    def folder(self, cache_folder: Path) -> Path:
        """Where it lies, named by what it depends on."""
        text = json.dumps([self.description(), platform.machine()], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cache_folder / "pyamplicol" / f"{self.colour}-{digest}"

    def description(self) -> dict[str, object]:
        """What it is, for the note beside it."""
        return {
            "format": _FORMAT,
            "processes": sorted(self.processes),
            "colour": self.colour,
            "model": str(_MODEL),
            "options": _OPTIONS,
            "pyamplicol": version("pyamplicol"),
        }


def prepare(artifacts: Sequence[Artifact], cache_folder: Path, progress: Progress) -> None:
    """Make those artifacts that the cache lacks.

    Raises:
        MissingExtra: pyamplicol is not installed.
        MatrixElementError: an artifact could not be made; what was made before is kept.
    """
    package = package_folder()
    missing = [a for a in artifacts if not a.folder(cache_folder).exists()]
    if not missing:
        return
    with progress.step("preparing the matrix element", len(missing)) as advance:
        lock = FileLock(user_cache_path("mlgen", ensure_exists=True) / "symbolica.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            advance(0, "waiting for another process that makes matrix elements")
            lock.acquire()
        try:
            for artifact in missing:
                _make(artifact, cache_folder, package, advance)
        finally:
            lock.release()


def _make(
    artifact: Artifact, cache_folder: Path, package: Path, advance: Callable[[float, str], None]
) -> None:
    folder = artifact.folder(cache_folder)
    title = f"{artifact.processes[0]} ({artifact.colour} colour)"
    # Another process may have made it while this one waited for the lock.
    if folder.exists():
        advance(1, title)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as staging:
        made = Path(staging) / "artifact"
        first, *others = artifact.processes
        command = [sys.executable, "-m", "pyamplicol", "generate", first, str(made)]
        for process in others:
            command += ["--process", process]
        command += [f"--model={package / _MODEL}", f"--color-accuracy={artifact.colour}", *_OPTIONS]
        command += [f"--model-cache-dir={folder.parent / 'models'}"]
        _run(command, Path(staging), title, advance)
        note = json.dumps(artifact.description(), indent=2) + "\n"
        folder.with_suffix(".json").write_text(note)
        made.replace(folder)


def _run(
    command: Sequence[str], folder: Path, title: str, advance: Callable[[float, str], None]
) -> None:
    """Run a generation in a folder, and turn its stages into a progress that ends at 1."""
    done = 0.0
    advance(0, title)
    last_lines: deque[str] = deque(maxlen=200)
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "SYMBOLICA_HIDE_BANNER": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as child:
        try:
            for line in child.stderr or ():
                last_lines.append(line.rstrip())
                stage = _STAGE.search(line)
                if stage:
                    now = int(stage[1]) / int(stage[2])
                    advance(now - done, title)
                    done = now
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise MatrixElementError(_explain(title, child.returncode, list(last_lines)))
    advance(1 - done, title)


def _explain(title: str, returncode: int, lines: Sequence[str]) -> str:
    said = [line for line in lines if line and not line.startswith("INFO")]
    text = " | ".join((said or list(lines))[-3:]) or "it said nothing"
    if returncode < 0:
        likely = {
            -6: "another process of this user probably runs Symbolica, which unlicensed allows "
            "only one at a time",
            -9: "it was probably stopped for want of memory",
        }.get(returncode, "it crashed")
        return f"pyamplicol making {title} was ended by signal {-returncode}: {likely}; {text}"
    return f"pyamplicol could not make {title}: {text}"
