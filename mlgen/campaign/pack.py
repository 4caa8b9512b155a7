"""The sampler pack: what a run has learned, in one file from which events can be made.

It plays the role of a gridpack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

import mlgen
from mlgen.campaign.archive import Archive, ArchiveKind, write_archive
from mlgen.errors import PackError

SCHEMA_VERSION = 1
SUFFIX = ".mlgen.zip"

_KIND = ArchiveKind(
    title="sampler pack",
    index="pack.json",
    schema="mlgen-pack",
    schema_version=SCHEMA_VERSION,
    folder="samplers",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSampler:
    """A frozen sampler, and what its points are unweighted with."""

    config: Mapping[str, Any]
    """How to build it again: texts, numbers, lists and tables, as JSON has them."""
    tensors: Mapping[str, Tensor]
    """Its state."""
    fraction: tuple[float, ...]
    """The share of the points that is drawn in each channel; 0 for one that was dropped, so that the
    integrand is that without it."""
    w_max: tuple[float, ...]
    """pb, for each channel."""

    def __post_init__(self) -> None:
        if len(self.fraction) != len(self.w_max):
            raise PackError(
                f"w_max has {len(self.w_max)} channels, fraction {len(self.fraction)}: expected one of each a channel"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pack:
    """All that is needed to make more events."""

    process: str
    """The process string of the card."""
    card: str
    """The whole card, TOML."""
    seed: int
    sampler: str
    """Which of the samplers makes the events."""
    samplers: Mapping[str, PackedSampler]
    cross_section_pb: float
    cross_section_error_pb: float
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping, as JSON has it: versions, efficiencies."""
    mlgen_version: str = mlgen.__version__
    """The version that wrote the pack."""

    def __post_init__(self) -> None:
        if self.sampler not in self.samplers:
            raise PackError(f"sampler = {self.sampler}: expected one of {', '.join(self.samplers)}")


def write_pack(path: Path, pack: Pack) -> None:
    """Write a pack; the file has its name only when it is whole.

    Raises:
        PackError: a sampler's name cannot be the name of a file.
        MlgenError: a number is NaN or infinite.
    """
    table = {
        "mlgen_version": pack.mlgen_version,
        "process": pack.process,
        "seed": pack.seed,
        "sampler": pack.sampler,
        "cross_section_pb": pack.cross_section_pb,
        "cross_section_error_pb": pack.cross_section_error_pb,
        "samplers": {
            name: {
                "config": sampler.config,
                "fraction": list(sampler.fraction),
                "w_max": list(sampler.w_max),
                "tensors": _KIND.member(name),
            }
            for name, sampler in pack.samplers.items()
        },
        "tables": pack.tables,
        "card": pack.card,
    }
    tensors = {name: sampler.tensors for name, sampler in pack.samplers.items()}
    write_archive(path, _KIND, table, tensors)


def read_pack(path: Path) -> Pack:
    """Read a pack, and check every byte of it that is used.

    Raises:
        PackError: the file cannot be read, is no pack, is damaged, or was written by a newer
            mlgen in a form that this one does not know.
    """
    return Archive(path, _KIND).assemble(_assemble)


def _assemble(archive: Archive) -> Pack:
    index = archive.index
    samplers = {
        name: PackedSampler(
            config=entry["config"],
            tensors=archive.tensors(name),
            fraction=tuple(entry["fraction"]),
            w_max=tuple(entry["w_max"]),
        )
        for name, entry in index["samplers"].items()
    }
    return Pack(
        process=index["process"],
        card=index["card"],
        seed=index["seed"],
        sampler=index["sampler"],
        samplers=samplers,
        cross_section_pb=index["cross_section_pb"],
        cross_section_error_pb=index["cross_section_error_pb"],
        tables=index["tables"],
        mlgen_version=index["mlgen_version"],
    )
