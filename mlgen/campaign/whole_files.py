"""Files that have their name only when they are whole, and checksums that tell."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlgen.errors import MlgenError


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(table: Mapping[str, Any], name: str) -> str:
    """The table as indented JSON.

    Raises:
        MlgenError: a number is NaN or infinite, which JSON cannot hold; the message says which.
    """
    for key, value in _leaves(table, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise MlgenError(f"{name}: {key} = {value}: expected a finite number")
    return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{key}[{position}]")
    else:
        yield key, value


def write_json_atomically(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table as JSON; the file has its name only when it is whole.

    Raises:
        MlgenError: a number is NaN or infinite; no file is touched then.
    """
    write_bytes_atomically(path, json_text(table, path.name).encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, flush to the disk, then rename.

    Raises:
        MlgenError: it cannot be written: the disk is full, say.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise MlgenError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
