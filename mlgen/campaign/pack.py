"""The sampler pack: what a run has learned, in one file from which events can be made.

It plays the role of a gridpack. A pack is a zip file of JSON and safetensors, so that loading
one runs no code; equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

import mlgen
from mlgen.campaign.run_record import json_text, write_bytes_atomically
from mlgen.errors import PackError

SCHEMA = "mlgen-pack"
SCHEMA_VERSION = 1
SUFFIX = ".mlgen.zip"

_INDEX = "pack.json"
# What zipfile raises on damaged bytes, beside its own error (Python 3.11 to 3.14).
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeDecodeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSampler:
    """A frozen sampler, and what its points are unweighted with."""

    config: Mapping[str, Any]
    """How to build it again: texts, numbers, lists and tables, as JSON has them."""
    tensors: Mapping[str, Tensor]
    """Its state."""
    fraction: tuple[float, ...]
    """The share of the points that is drawn in each channel."""
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
    members = {
        _member(name): safetensors.torch.save(_contiguous(sampler.tensors))
        for name, sampler in sorted(pack.samplers.items())
    }
    index = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
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
                "tensors": _member(name),
            }
            for name, sampler in pack.samplers.items()
        },
        "tables": pack.tables,
        "card": pack.card,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    members = {_INDEX: json_text(index, _INDEX).encode()} | members
    write_bytes_atomically(path, _zip(members))


def read_pack(path: Path) -> Pack:
    """Read a pack, and check every byte of it that is used.

    Raises:
        PackError: the file cannot be read, is no pack, is damaged, or was written by a newer
            mlgen in a form that this one does not know.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    except OSError as error:
        raise PackError(f"{path}: cannot be read ({error.strerror})") from error
    except _DAMAGE as error:
        raise PackError(f"{path}: no sampler pack, or a damaged one: {error}") from error
    with archive:
        index = _read_index(path, archive)
        try:
            return _assemble(path, archive, index)
        except (AttributeError, KeyError, TypeError) as error:
            raise PackError(
                f"{path}: damaged: {_INDEX} is not as mlgen writes it: {error}"
            ) from error


def _member(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise PackError(f"samplers.{name}: expected a name of letters, digits, _ and -")
    return f"samplers/{name}.safetensors"


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors 0.8 refuses tensors that share memory, and each here is written for itself.
    return {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())
    }


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            # The date and the system of the writer would make equal packs differ.
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _read_index(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    if _INDEX not in archive.namelist():
        raise PackError(f"{path}: no sampler pack: it holds no {_INDEX}")
    try:
        index = json.loads(archive.read(_INDEX))
    except _DAMAGE as error:
        raise PackError(f"{path}: damaged: {_INDEX} cannot be read: {error}") from error
    if not isinstance(index, dict) or index.get("schema") != SCHEMA:
        raise PackError(f"{path}: no sampler pack: {_INDEX} is of another program")
    version = index.get("schema_version")
    if not isinstance(version, int):
        raise PackError(f"{path}: damaged: schema_version = {version!r}: expected an integer")
    if version > SCHEMA_VERSION:
        raise PackError(
            f"{path}: written by mlgen {index.get('mlgen_version')} in form {version}; "
            f"mlgen {mlgen.__version__} reads forms up to {SCHEMA_VERSION}: update mlgen"
        )
    return index


def _assemble(path: Path, archive: zipfile.ZipFile, index: dict[str, Any]) -> Pack:
    samplers = {
        name: PackedSampler(
            config=entry["config"],
            tensors=_read_tensors(path, archive, entry["tensors"], index["sha256"]),
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


def _read_tensors(
    path: Path, archive: zipfile.ZipFile, member: str, checksums: Mapping[str, str]
) -> dict[str, Tensor]:
    try:
        content = archive.read(member)
    except _DAMAGE as error:
        raise PackError(f"{path}: damaged: {member} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != checksums[member]:
        raise PackError(f"{path}: damaged: {member} does not have the checksum that {_INDEX} names")
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise PackError(f"{path}: damaged: {member} is no safetensors file: {error}") from error
