"""A learned model of radiation in a file: what `mlgen radiation train` writes, and `mlgen radiate` reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mlgen
from mlgen.campaign.archive import Archive, ArchiveKind, write_archive
from mlgen.errors import MlgenError, PackError
from mlgen.radiation.learned import LearnedRadiation
from mlgen.radiation.model import EXACT

SUFFIX = ".radiation.zip"

_KIND = ArchiveKind(
    title="model of radiation",
    index="radiation.json",
    schema="mlgen-radiation",
    schema_version=3,
    folder="networks",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RadiationOrigin:
    """What a model was learned from, and how."""

    training: Mapping[str, Any]
    """`TrainingSettings`, as JSON has them: infinity as None."""
    seed: int
    n_events: int
    jets: Mapping[str, Any]
    """The `JetOrigin` of the events, empty where they come from elsewhere."""
    jets_sha256: str
    cpu_s: float
    """Of training, all members together."""
    versions: Mapping[str, str]

    @property
    def n_max(self) -> int:
        """The largest number of jets that the model has seen."""
        return int(self.training["n_max"])


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRadiation:
    """A model of radiation, and where it comes from."""

    radiation: LearnedRadiation
    origin: RadiationOrigin
    mlgen_version: str = mlgen.__version__


def write_radiation(path: Path, stored: StoredRadiation, is_small: bool = False) -> None:
    """Write a model; the file has its name only when it is whole.

    Args:
        is_small: networks are rounded to half precision.

    Raises:
        MlgenError: the file cannot be written.
    """
    table, tensors = stored.radiation.state()
    if is_small:
        tensors = {name: _halved(entries) for name, entries in tensors.items()}
    index = {
        "mlgen_version": stored.mlgen_version,
        "origin": dataclasses.asdict(stored.origin),
        "model": table,
        "networks": sorted(tensors),
    }
    write_archive(path, _KIND, index, tensors)


def read_radiation(path: Path) -> StoredRadiation:
    """Read a model, and check every byte of it.

    Raises:
        PackError: the file cannot be read, is none, is damaged, or was written in another form.
    """
    return Archive(path, _KIND).assemble(_assemble)


def _assemble(archive: Archive) -> StoredRadiation:
    index = archive.index
    tensors = {name: _single(archive.tensors(name)) for name in index["networks"]}
    try:
        radiation = LearnedRadiation.restore(index["model"], tensors)
    except PackError:
        raise
    except MlgenError as error:
        raise ValueError(str(error)) from error
    return StoredRadiation(
        radiation=radiation,
        origin=RadiationOrigin(**index["origin"]),
        mlgen_version=index["mlgen_version"],
    )


def _halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.half() if tensor.is_floating_point() and name not in EXACT else tensor
        for name, tensor in tensors.items()
    }


def _single(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.float() if tensor.dtype == torch.half else tensor
        for name, tensor in tensors.items()
    }
