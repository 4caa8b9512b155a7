"""The folder of a run: a new one, one of an interrupted run, and who works in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlgen.campaign.checkpoint import CHECKPOINT_FILE
from mlgen.campaign.pack import SUFFIX
from mlgen.campaign.run_record import RECORD_FILE
from mlgen.errors import CardError, MlgenError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module, or none

_TEMPORARY = (".*.partial", ".*.part")
"""What files are called while they are written."""


def new_folder(folder: Path | str | None, name: str) -> Path:
    """A new or empty folder; None: `runs/NAME`, or the next free `runs/NAME-2`, ...

    Raises:
        CardError: the folder holds something.
        MlgenError: it cannot be made.
    """
    if folder is None:
        runs = Path("runs")
        target, count = runs / name, 1
        while target.exists():
            count += 1
            target = runs / f"{name}-{count}"
    else:
        target = Path(folder)
    try:
        if target.exists() and not (target.is_dir() and _is_empty(target)):
            raise CardError(f"--output {target}: expected a new or an empty folder")
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MlgenError(f"{target}: cannot be made ({error.strerror})") from error
    return target


def _is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, but for what was being written when a run was killed at once."""
    return all(any(path.match(pattern) for pattern in _TEMPORARY) for path in folder.iterdir())


def new_file(path: Path | None, name: str, suffix: str) -> Path:
    """Where a new file is to stand; None: the name with this end, in the working directory.

    Raises:
        CardError: something is there, its folder is not, or the name has another end.
    """
    target = _unused(path, name, suffix)
    if not target.parent.is_dir():
        raise CardError(f"--output {target}: expected an existing folder")
    return target


def new_pack(path: Path | str | None, name: str) -> Path:
    """Where a new pack is to stand; None: `NAME.mlgen.zip` in the working directory.

    Raises:
        CardError: something is there, or the name is not that of a pack.
    """
    return _unused(path, name, SUFFIX)


def _unused(path: Path | str | None, name: str, suffix: str) -> Path:
    target = Path(name + suffix) if path is None else Path(path)
    if not target.name.endswith(suffix):
        raise CardError(f"--output {target}: expected a name that ends in {suffix}")
    if target.exists():
        raise CardError(f"--output {target}: expected a file that does not exist yet")
    return target


def check_resumable(folder: Path) -> None:
    """Say so where there is nothing to go on with.

    Raises:
        CardError: the folder holds no run, or one that was not interrupted.
    """
    if (folder / CHECKPOINT_FILE).is_file():
        return
    try:
        status = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))["status"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        status = None
    if status is None:
        raise CardError(f"--resume {folder}: no run is there: expected the folder of one")
    raise CardError(
        f"--resume {folder}: the run is {status} and has nothing to go on with: "
        "expected an interrupted one"
    )


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep other processes of mlgen out of a folder; the system lets go when the process ends.

    Raises:
        MlgenError: another one works there.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MlgenError(
                f"{folder}: another mlgen works there: expected that to end"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Remove what was being written when a run was stopped."""
    for pattern in _TEMPORARY:
        for path in folder.glob(pattern):
            path.unlink()
