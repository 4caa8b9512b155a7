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
from mlgen.events.lhe_scan import MAX_BYTES_WITHOUT_EVENT
from mlgen.events.lheh5_layout import HEADER_CHECKSUM

MAX_COLUMNS = 1 << 14
MAX_CHUNK_BYTES = 1 << 26
"""A chunk is in memory as a whole."""
CACHE_BYTES = 2 * MAX_CHUNK_BYTES
"""Room for the chunk from which rows are being read, so that it is decoded once."""
MAX_RATIO = 1100
"""zlib makes at most 1032 bytes of one."""

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
"""The filters that need no plugin and that others use."""

CONTIGUOUS, CHUNKED = 1, 2
"""Layouts; not compact (0), nor virtual (3)."""

MAX_MESSAGE = 200


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """What h5py raises on a damaged file, as an `EventFileError` of one line."""
    try:
        yield
    # h5py 3.16 turns errors of the C library into any of these, by their kind.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        reason = str(error).strip("'\"").split("\n")[0][:MAX_MESSAGE] or type(error).__name__
        raise EventFileError(f"{path}: damaged or no LHEH5 file: {reason}") from error


def table(path: Path, file: Any, name: str, n_dim: int = 2) -> Any:
    """The dataset of numbers of this name, with `n_dim` axes, of which it is safe to read rows.

    Args:
        path: for the message.
        file: the open h5py.File.
        name: of a dataset at its root.
        n_dim: its axes.

    Raises:
        EventFileError: there is none, or it is not what a table of an event file can be.
    """
    where = f"{path}: {name}"
    dataset = _dataset(path, file, name)
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


def check_is_filled(path: Path, dataset: Any) -> None:
    """Refuse a table that promises more rows than the file can hold."""
    promised = dataset.size * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if promised > MAX_RATIO * stored:
        raise EventFileError(
            f"{path}: {dataset.name[1:]}: {len(dataset)} rows: expected no more than {stored} "
            f"bytes can hold"
        )


def column_names(dataset: Any, default: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns, as an attribute says, or those that are usual in their order."""
    n_columns = dataset.shape[-1]
    for attribute in ("properties", dataset.name[1:]):
        if attribute not in dataset.attrs:
            continue
        if dataset.attrs.get_id(attribute).shape == (n_columns,):
            names = [
                name.decode() if isinstance(name, bytes) else name
                for name in dataset.attrs[attribute]
            ]
            if all(isinstance(name, str) for name in names) and len(set(names)) == n_columns:
                return tuple(map(str, names))
    unnamed = [f"weight{i + 1}" for i in range(n_columns - len(default))]
    return (*default, *unnamed)[:n_columns]


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


def text(path: Path, file: Any, name: str) -> str:
    """The text of a dataset, empty where there is none.

    Raises:
        EventFileError: it is no text, or not the one that was written.
    """
    import h5py

    dataset = _dataset(path, file, name)
    if dataset is None:
        return ""
    if h5py.check_string_dtype(dataset.dtype) is None or dataset.shape != ():
        raise EventFileError(f"{path}: {name}: of type {dataset.dtype}: expected one text")
    # Of a text of variable length, this is the size of a pointer.
    if dataset.dtype.itemsize > MAX_BYTES_WITHOUT_EVENT:
        raise EventFileError(
            f"{path}: {name}: {dataset.dtype.itemsize} bytes: expected at most "
            f"{MAX_BYTES_WITHOUT_EVENT}"
        )
    found: bytes = dataset[()]
    checksum = dataset.attrs.get(HEADER_CHECKSUM)
    if checksum is not None and int(checksum) != isal_zlib.crc32(found):
        raise EventFileError(f"{path}: {name}: its checksum is wrong: the file is damaged")
    return found.decode()


def _dataset(path: Path, file: Any, name: str) -> Any:
    """The dataset of this name, if there is one."""
    import h5py

    where = f"{path}: {name}"
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise EventFileError(f"{where}: {type(link).__name__}: refused, expected the data")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise EventFileError(f"{where}: {type(dataset).__name__}: expected a dataset")
    properties = dataset.id.get_create_plist()
    if properties.get_layout() > CHUNKED or properties.get_external_count() > 0:
        raise EventFileError(f"{where}: data in another file: refused, expected them here")
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if not filters <= {DEFLATE, SHUFFLE, FLETCHER32}:
        raise EventFileError(
            f"{where}: filters {sorted(filters)}: refused, expected deflate, shuffle or fletcher32"
        )
    if dataset.chunks and np.prod(dataset.chunks, dtype=float) * dataset.dtype.itemsize > (
        MAX_CHUNK_BYTES
    ):
        raise EventFileError(
            f"{where}: chunks of {dataset.chunks}: expected at most {MAX_CHUNK_BYTES >> 20} MiB"
        )
    return dataset
