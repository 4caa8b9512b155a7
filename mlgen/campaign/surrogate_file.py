"""A surrogate in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import mlgen
from mlgen.campaign.archive import Archive, ArchiveKind, write_archive

SUFFIX = ".surrogate.zip"

_KIND = ArchiveKind(
    title="surrogate",
    index="surrogate.json",
    schema="mlgen-surrogate-file",
    schema_version=1,
    folder="tensors",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSurrogate:
    """What a surrogate has learned, and of what."""

    card: str
    """The whole card, TOML: the process, its model, and how to build the surrogate again."""
    groups: tuple[str, ...]
    """The subprocess groups, by their first flavour assignments."""
    tensors: Mapping[str, Tensor]
    """Its state."""
    mlgen_version: str = mlgen.__version__


def write_surrogate(path: Path, stored: StoredSurrogate) -> None:
    """Write a surrogate; the file has its name only when it is whole.

    Raises:
        MlgenError: the file cannot be written.
    """
    table = {
        "mlgen_version": stored.mlgen_version,
        "groups": list(stored.groups),
        "card": stored.card,
    }
    write_archive(path, _KIND, table, {"surrogate": stored.tensors})


def read_surrogate(path: Path) -> StoredSurrogate:
    """Read a surrogate, and check every byte of it.

    Raises:
        PackError: the file cannot be read, is none, is damaged, or was written in another form.
    """
    return Archive(path, _KIND).assemble(_assemble)


def _assemble(archive: Archive) -> StoredSurrogate:
    index = archive.index
    return StoredSurrogate(
        card=index["card"],
        groups=tuple(index["groups"]),
        tensors=archive.tensors("surrogate"),
        mlgen_version=index["mlgen_version"],
    )
