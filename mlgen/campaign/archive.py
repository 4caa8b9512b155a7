"""Learned tensors in one file: a zip of JSON and safetensors.

Loading one runs no code; every byte that is used is checked; equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

import mlgen
from mlgen.campaign.conforming import check_conforms
from mlgen.campaign.whole_files import json_text, write_bytes_atomically
from mlgen.errors import PackError

T = TypeVar("T")

MAX_RATIO = 10
"""Members are stored as they are; a pack that was zipped again is not much smaller."""

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
class ArchiveKind:
    """What an archive is for."""

    title: str
    """For people: `sampler pack`."""
    index: str
    """The name of its JSON: `pack.json`."""
    schema: str
    schema_version: int
    folder: str
    """Where its tensors lie: `samplers`."""

    def member(self, name: str) -> str:
        """The file of the tensors of a name.

        Raises:
            PackError: the name cannot be that of a file.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise PackError(f"{self.folder}.{name}: expected a name of letters, digits, _ and -")
        return f"{self.folder}/{name}.safetensors"


def write_archive(
    path: Path,
    kind: ArchiveKind,
    table: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write an archive; the file has its name only when it is whole.

    Raises:
        PackError: a name cannot be that of a file.
        MlgenError: a number in the table is NaN or infinite, or the file cannot be written.
    """
    write_bytes_atomically(path, archive_bytes(kind, table, tensors))


def archive_bytes(
    kind: ArchiveKind, table: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]
) -> bytes:
    """The content of an archive; equal content gives equal bytes.

    Args:
        table: what its JSON holds, beside the schema and the checksums.
        tensors: by name, then by key.

    Raises:
        PackError: a name cannot be that of a file.
        MlgenError: a number in the table is NaN or infinite.
    """
    members = {
        kind.member(name): safetensors.torch.save(_contiguous(entries))
        for name, entries in sorted(tensors.items())
    }
    index = {
        "schema": kind.schema,
        "schema_version": kind.schema_version,
        **table,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    return _zip({kind.index: json_text(index, kind.index).encode()} | members)


class Archive:
    """An archive that is being read."""

    def __init__(self, path: Path, kind: ArchiveKind) -> None:
        """Read the file and its JSON.

        Raises:
            PackError: the file cannot be read, is no archive of this kind, is damaged, or was
                written by a newer mlgen in a form that this one does not know.
        """
        self._path, self._kind = path, kind
        try:
            if path.exists() and not path.is_file():
                raise PackError(f"{path}: no regular file: expected a {kind.title}")
            content = path.read_bytes()
            self._zip = zipfile.ZipFile(io.BytesIO(content))
            promised = sum(member.file_size for member in self._zip.infolist())
        except OSError as error:
            raise PackError(f"{path}: cannot be read ({error.strerror})") from error
        except _DAMAGE as error:
            raise PackError(f"{path}: no {kind.title}, or a damaged one: {error}") from error
        if promised > MAX_RATIO * len(content):
            raise PackError(f"{path}: {promised} bytes in {len(content)}: refused")
        self.index = self._read_index()

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a name.

        Raises:
            PackError: they are damaged.
        """
        member, path = self._kind.member(name), self._path
        try:
            content = self._zip.read(member)
        except _DAMAGE as error:
            raise PackError(f"{path}: damaged: {member} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != self.index["sha256"][member]:
            raise PackError(
                f"{path}: damaged: {member} does not have the checksum that {self._kind.index} names"
            )
        try:
            return safetensors.torch.load(content)
        except (SafetensorError, *_DAMAGE, TypeError) as error:
            raise PackError(f"{path}: damaged: {member} is no safetensors file: {error}") from error

    def assemble(self, build: Callable[[Archive], T]) -> T:
        """What is built from the archive.

        Raises:
            PackError: the index lacks what is needed, or holds it in another form.
        """
        try:
            found = build(self)
            check_conforms(found)
        except (*_DAMAGE, AttributeError, TypeError) as error:
            raise PackError(
                f"{self._path}: damaged: {self._kind.index} is not as mlgen writes it: {error}"
            ) from error
        return found

    def _read_index(self) -> dict[str, Any]:
        path, kind = self._path, self._kind
        if kind.index not in self._zip.namelist():
            raise PackError(f"{path}: no {kind.title}: it holds no {kind.index}")
        try:
            index = json.loads(self._zip.read(kind.index), parse_constant=_refuse)
        except _DAMAGE as error:
            raise PackError(f"{path}: damaged: {kind.index} cannot be read: {error}") from error
        if not isinstance(index, dict) or index.get("schema") != kind.schema:
            raise PackError(f"{path}: no {kind.title}: {kind.index} is of another program")
        version = index.get("schema_version")
        if not isinstance(version, int):
            raise PackError(f"{path}: damaged: schema_version = {version!r}: expected an integer")
        if version < kind.schema_version:
            raise PackError(
                f"{path}: written by mlgen {index.get('mlgen_version')} in form {version}: expected "
                f"form {kind.schema_version}, as mlgen {mlgen.__version__} has it; make it again"
            )
        if version > kind.schema_version:
            raise PackError(
                f"{path}: written by mlgen {index.get('mlgen_version')} in form {version}; "
                f"mlgen {mlgen.__version__} reads form {kind.schema_version}: update mlgen"
            )
        return index


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant}: expected a number")


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors 0.8 refuses tensors that share memory, and each here is written for itself.
    return {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())
    }


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            # The date and the system of the writer would make equal archives differ.
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()
