"""Events with jets in a file, and where they come from: what `mlgen radiation data` writes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import mlgen
from mlgen.campaign.archive import Archive, ArchiveKind, write_archive
from mlgen.errors import CardError, PackError
from mlgen.radiation.cluster import CompactEvents, JetDefinition

SUFFIX = ".jets.zip"

_KIND = ArchiveKind(
    title="file of jets",
    index="jets.json",
    schema="mlgen-jets",
    schema_version=1,
    folder="events",
)
_NAME = "events"
"""Of the tensors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JetOrigin:
    """How events were made."""

    settings: tuple[str, ...]
    """What Pythia was told, in its own words, but for seeds and files."""
    level: str
    """`partons`, `hadrons` or `full`."""
    jets: JetDefinition
    seed: int
    events_per_chunk: int
    """So many events share one seed of Pythia's."""
    event_file: str
    """The name of the file that was showered; empty: Pythia made the process."""
    event_file_sha256: str
    n_hard_events: int
    """Events of that file; those of weights above the usual one may be showered more than once."""
    n_failed: int
    """Events that Pythia began and gave up on."""
    n_tried: int
    """Points of phase space that Pythia looked at."""
    cross_section_pb: float
    """Of the whole process, whatever jets it has."""
    cross_section_error_pb: float
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredJets:
    """Events with jets, and where they come from."""

    events: CompactEvents
    origin: JetOrigin
    mlgen_version: str = mlgen.__version__


def write_jets(path: Path, stored: StoredJets) -> None:
    """Write events with jets; the file has its name only when it is whole.

    Raises:
        MlgenError: the file cannot be written.
    """
    table = {
        "mlgen_version": stored.mlgen_version,
        "n_events": len(stored.events),
        "origin": dataclasses.asdict(stored.origin),
    }
    events = stored.events
    tensors = {"hard": events.hard, "jets": events.jets, "n_jets": events.n_jets}
    write_archive(path, _KIND, table, {_NAME: tensors})


def read_jets(path: Path) -> StoredJets:
    """Read events with jets, and check every byte.

    Raises:
        PackError: the file cannot be read, is none, is damaged, or was written in another form.
    """
    return Archive(path, _KIND).assemble(_assemble)


def _assemble(archive: Archive) -> StoredJets:
    index = archive.index
    origin: dict[str, Any] = index["origin"]
    try:
        jets = JetDefinition(**origin["jets"])
    except CardError as error:
        raise PackError(f"{_KIND.index}: jets: {error}") from error
    return StoredJets(
        events=_events(archive, index["n_events"]),
        origin=JetOrigin(**{**origin, "settings": tuple(origin["settings"]), "jets": jets}),
        mlgen_version=index["mlgen_version"],
    )


def _events(archive: Archive, n: int) -> CompactEvents:
    events = CompactEvents(**archive.tensors(_NAME))
    total = int(events.n_jets.sum())
    expected = {
        "hard": (torch.float32, (n, 4)),
        "jets": (torch.float32, (total, 4)),
        "n_jets": (torch.uint8, (n,)),
    }
    for name, form in expected.items():
        column = getattr(events, name)
        if (column.dtype, tuple(column.shape)) != form:
            raise ValueError(f"{name} = {column.dtype} {tuple(column.shape)}: expected {form}")
        if not bool(column.isfinite().all()):
            raise ValueError(f"{name}: expected finite numbers")
    return events
