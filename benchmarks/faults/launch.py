"""The command line with a fault in it: `python -m benchmarks.faults.launch PLAN ARGUMENT...`.

PLAN is JSON, the fields of `Plan`. What happens to a file happens when it is opened for writing: Python
announces that to audit hooks, whoever opens it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

BALLAST = ".ballast"
"""A file that fills a disk."""

_BLOCK = 4096
"""Bytes: what a disk gives out at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What goes wrong in a process."""

    do: str = ""
    """When a file is opened: fill (the disk), limit (the size of files), kill, remove (the folder)."""
    file: str = ""
    """A regular expression for its path."""
    nth: int = 1
    """Which time."""
    spare: int = 0
    """Bytes that still fit."""
    memory: int = 0
    """Bytes that may be asked for once everything is imported; 0: as many as there are."""
    n_files: int = 0
    """That may be open at once; 0: as many as the system allows."""
    blocked: tuple[str, ...] = ()
    """Packages that seem not to be installed."""
    version: str = ""
    """What mlgen says its version is."""
    checkpoints: bool = False
    """Whether they are written at every occasion, not every few seconds."""

    @property
    def text(self) -> str:
        """As the command line has it."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Plan:
        """What `text` was made of."""
        table = json.loads(text)
        return cls(**{f.name: table[f.name] for f in fields(cls)})


class Hiding:
    """A finder that does not find some packages."""

    def __init__(self, finder: Any, names: Iterable[str]) -> None:
        self._finder, self._names = finder, frozenset(names)

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name.partition(".")[0] in self._names:
            return None
        return self._finder.find_spec(name, path, target)

    def find_distributions(self, context: Any) -> Any:
        find = getattr(self._finder, "find_distributions", None)
        found = find(context) if find else ()
        return (package for package in found if package.name not in self._names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


class Trap:
    """An audit hook that strikes when a file is opened for writing."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._n_left = plan, plan.nth
        self._pattern = re.compile(plan.file)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or self._n_left == 0:
            return
        path, mode, flags = arguments
        if not isinstance(path, str) or not self._pattern.search(path):
            return
        if any(letter in (mode or "") for letter in "wax+") or flags & (os.O_WRONLY | os.O_RDWR):
            self._n_left -= 1
            if self._n_left == 0:
                self._strike(Path(path).parent)

    def _strike(self, folder: Path) -> None:
        plan = self._plan
        if plan.do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif plan.do == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (plan.spare, resource.RLIM_INFINITY))
        elif plan.do == "remove":
            shutil.rmtree(folder)
        elif plan.do == "fill":
            fill(folder, plan.spare)


def fill(folder: Path, spare: int) -> None:
    """Leave so many bytes on the disk of a folder."""
    disk = os.statvfs(folder)
    n_bytes = disk.f_bavail * disk.f_frsize - -(-spare // _BLOCK) * _BLOCK
    with (folder / BALLAST).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(n_bytes, 1))


def _virtual_memory() -> int:
    n_pages = Path("/proc/self/statm").read_text().split()[0]
    return int(n_pages) * os.sysconf("SC_PAGE_SIZE")


def run(plan: Plan, arguments: Sequence[str]) -> int:
    """Run the command line with a fault in this process; its exit code."""
    if plan.blocked:
        sys.meta_path[:] = [Hiding(finder, plan.blocked) for finder in sys.meta_path]
    from mlgen.cli import run_arguments

    if plan.version:
        import mlgen

        mlgen.__version__ = plan.version
    if plan.checkpoints:
        from mlgen.campaign import checkpoint

        checkpoint.INTERVAL_S = checkpoint.PATIENCE = 0.0
    if plan.do:
        sys.addaudithook(Trap(plan))
    if plan.n_files:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (plan.n_files, most))
    if plan.memory:
        most_bytes = _virtual_memory() + plan.memory
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, resource.RLIM_INFINITY))
    return run_arguments(arguments)


if __name__ == "__main__":
    # Background jobs of a shell have Ctrl-C ignored, and what they start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(run(Plan.of(sys.argv[1]), sys.argv[2:]))
