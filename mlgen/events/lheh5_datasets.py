"""Tables and texts of HDF5 files of unknown origin, refused where reading them may do harm.

HDF5 can follow links to other files, load plugins that decode data, and promise 10^18 rows in 100
bytes; none of that is needed in an event file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from mlgen.errors import EventFileError
from mlgen.events.lheh5_layout import CHECKSUM_OF, HEADER_CHECKSUM, MAGIC
from mlgen.events.lheh5_rehearsal import rehearse

FIRST_WITH_CHECKSUMS = b"\x02"
"""Version of the head of an HDF5 file, behind MAGIC, from which all but raw data has checksums."""

MAX_TEXT_BYTES = 1 << 26
MAX_COLUMNS = 1 << 14
MAX_CHUNK_BYTES = 1 << 26
"""A chunk is in memory as a whole."""
CACHE_BYTES = 2 * MAX_CHUNK_BYTES
"""Room for the chunk from which rows are being read, so that it is decoded once."""
MAX_RATIO = 1100
"""zlib makes at most 1032 bytes of one."""

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
"""The filters that need no plugin and that others use."""

LAYOUTS = (0, 1, 2)
"""Compact, contiguous and chunked; not virtual (3)."""

MAX_MESSAGE = 200


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """What h5py raises on a damaged file, as an `EventFileError` of one line."""
    try:
        yield
    # h5py 3.16 turns errors of the C library into any of these, by their kind.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).strip("'\"").split())[:MAX_MESSAGE] or type(error).__name__
        raise EventFileError(f"{path}: damaged or no LHEH5 file: {reason}") from error


class UntrustedFile:
    """An open HDF5 file, of which tables and texts are safe to read.

    All methods raise `EventFileError`, but for errors of h5py, which `reporting` turns into it. What
    has no checksums is read in another process first: HDF5 2.0 can take damage for a loop without
    an end, or for a text of 4 GB.

    Args:
        path: the file.
        is_rehearsal: whether this is that process.
    """

    def __init__(self, path: Path, is_rehearsal: bool = False) -> None:
        import h5py  # late: 0.2 s, and not all who read event files read these

        self.path = path
        self._is_rehearsed = is_rehearsal
        with reporting(path):
            with path.open("rb") as stream:
                is_old = stream.read(len(MAGIC) + 1)[-1:] < FIRST_WITH_CHECKSUMS
            if is_old:
                self._rehearse()
            self._file = h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES)

    def close(self) -> None:
        """Close the file."""
        with reporting(self.path):
            self._file.close()

    def table(self, name: str, n_dim: int = 2) -> Any:
        """The dataset of numbers of this name at the root of the file, with `n_dim` axes.

        Raises:
            EventFileError: there is none, or it is not what a table of an event file can be.
        """
        where = f"{self.path}: {name}"
        dataset = self._dataset(name)
        if dataset is None:
            raise EventFileError(f"{where}: missing: expected it in an LHEH5 file")
        kind = dataset.dtype
        if kind.kind not in "fiu" or kind.itemsize > 8:
            raise EventFileError(f"{where}: of type {kind}: expected numbers of at most 64 bits")
        if dataset.shape is None or len(dataset.shape) != n_dim:
            raise EventFileError(f"{where}: of shape {dataset.shape}: expected {n_dim} axes")
        if not 0 < dataset.shape[-1] <= MAX_COLUMNS:
            raise EventFileError(
                f"{where}: {dataset.shape[-1]} columns: expected 1 to {MAX_COLUMNS} of them"
            )
        return dataset

    def check_is_filled(self, dataset: Any) -> None:
        """Refuse a table that promises more rows than the file can hold."""
        promised = dataset.size * dataset.dtype.itemsize
        stored = dataset.id.get_storage_size()
        if promised > MAX_RATIO * stored:
            raise EventFileError(
                f"{self.path}: {dataset.name[1:]}: {len(dataset)} rows: expected no more than "
                f"{stored} bytes can hold"
            )

    def column_names(self, dataset: Any, default: Sequence[str]) -> tuple[str, ...]:
        """The names of its columns, as an attribute says, or those that are usual in their order."""
        import h5py

        n_columns = dataset.shape[-1]
        for attribute in ("properties", dataset.name[1:]):
            if attribute not in dataset.attrs:
                continue
            found = dataset.attrs.get_id(attribute)
            kind = h5py.check_string_dtype(found.dtype)
            if kind is None or found.shape != (n_columns,):
                continue
            if kind.length is None:
                self._rehearse()
            names = [
                name.decode() if isinstance(name, bytes) else str(name)
                for name in dataset.attrs[attribute]
            ]
            if len(set(names)) == n_columns:
                return tuple(names)
        unnamed = [f"weight{i + 1}" for i in range(n_columns - len(default))]
        return (*default, *unnamed)[:n_columns]

    def text(self, name: str) -> str:
        """The text of a dataset, empty where there is none.

        Raises:
            EventFileError: it is no text, or not the one that was written.
        """
        import h5py

        dataset = self._dataset(name)
        if dataset is None:
            return ""
        where = f"{self.path}: {name}"
        kind = h5py.check_string_dtype(dataset.dtype)
        if kind is None or dataset.shape != ():
            raise EventFileError(f"{where}: of type {dataset.dtype}: expected one text")
        if kind.length is None:
            self._rehearse()
        elif kind.length > MAX_TEXT_BYTES:
            raise EventFileError(f"{where}: {kind.length} bytes: expected at most {MAX_TEXT_BYTES}")
        found: bytes = dataset[()]
        if HEADER_CHECKSUM in dataset.attrs:
            declared = int(dataset.attrs[HEADER_CHECKSUM])
            check_sum(self.path, name, isal_zlib.crc32(found), declared)
        return found.decode()

    def declared_checksums(self, dataset: Any) -> dict[str, int]:
        """The CRC-32 of each table, as attributes of this one say; none in the files of others."""
        return {
            name.removeprefix(CHECKSUM_OF): int(dataset.attrs[name])
            for name in dataset.attrs
            if name.startswith(CHECKSUM_OF) and dataset.attrs.get_id(name).dtype.kind == "u"
        }

    def _rehearse(self) -> None:
        """Have another process read it first, once."""
        if not self._is_rehearsed:
            rehearse(self.path)
            self._is_rehearsed = True

    def _dataset(self, name: str) -> Any:
        """The dataset of this name, if there is one."""
        import h5py

        where = f"{self.path}: {name}"
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            link = self._file.get("/".join(parts[:depth]), getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise EventFileError(f"{where}: {type(link).__name__}: refused, expected the data")
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise EventFileError(f"{where}: {type(dataset).__name__}: expected a dataset")
        properties = dataset.id.get_create_plist()
        if properties.get_layout() not in LAYOUTS or properties.get_external_count() > 0:
            raise EventFileError(f"{where}: data in another file: refused, expected them here")
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if not filters <= {DEFLATE, SHUFFLE, FLETCHER32}:
            raise EventFileError(
                f"{where}: filters {sorted(filters)}: refused, expected deflate, shuffle or "
                f"fletcher32"
            )
        if dataset.chunks is not None:
            n_bytes = float(np.prod(dataset.chunks, dtype=float)) * dataset.dtype.itemsize
            if n_bytes > MAX_CHUNK_BYTES:
                raise EventFileError(
                    f"{where}: chunks of {n_bytes:.3g} bytes: expected at most {MAX_CHUNK_BYTES}"
                )
        return dataset


def check_sum(path: Path, name: str, found: int, declared: int) -> None:
    """Refuse a table whose CRC-32 is not the one that the file declares."""
    if found != declared:
        raise EventFileError(f"{path}: {name}: its checksum is wrong: the file is damaged")


def rows(dataset: Any, first: int, end: int) -> NDArray[np.float64]:
    """Rows of a table as float64.

    Raises:
        EventFileError: there are fewer.
    """
    found = np.ascontiguousarray(dataset[first:end], dtype=np.float64)
    if len(found) != end - first:
        raise EventFileError(
            f"{dataset.file.filename}: {dataset.name[1:]}: {len(dataset)} rows: expected {end}"
        )
    return found
