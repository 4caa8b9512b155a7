"""Writing LHEH5 event files.

With h5py itself: pylhe 2.1.0 writes 1.2e5 events of six particles in a second of one core once there
is an object for each particle, and this 2.8e5 from an `EventBatch`, checked on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

import mlgen
from mlgen.core import SampleInfo
from mlgen.errors import EventFileError
from mlgen.events.lhe_text import PROCESS_ID, header_text
from mlgen.events.lheh5_disk import Room, hdf5_errors
from mlgen.events.lheh5_encoder import Lheh5Encoder, Lheh5Piece
from mlgen.events.lheh5_layout import (
    CHECKSUM_OF,
    EVENT_COLUMNS,
    HEADER_CHECKSUM,
    INIT_COLUMNS,
    LAST_BITS,
    NOMINAL,
    PARTICLE_COLUMNS,
    PROCESS_COLUMNS,
    ROWS_PER_CHUNK,
    UNIT_WEIGHTS_FLAG,
    VERSION,
)
from mlgen.events.lheh5_reader import Lheh5Reader
from mlgen.events.writing import (
    UNIT_WEIGHTS,
    WEIGHTS_IN_PB,
    EventFileWriter,
    FileWeights,
)

FORMAT_OF_HDF5 = ("v110", "v110")
"""HDF5 1.10: the first in which all that describes the data has checksums."""
SPARE_BYTES = 1 << 16
"""Reserved beyond the data for what HDF5 notes of them, some 100 bytes a chunk."""


class Lheh5Writer(EventFileWriter[Lheh5Piece]):
    """Writes an LHEH5 file.

    All weights are in pb, and `trials` is 1 for each event: the sum of weights over that of trials
    is the cross section, as this format has it, also where every weight is 1. `init` says -4 for
    all readers, and notes for ours that the weights stand for 1. Variations are in pb too.
    """

    def __init__(self, path: Path, info: SampleInfo, weights: FileWeights) -> None:
        super().__init__(path, info, weights)
        self._is_unit = weights.strategy == UNIT_WEIGHTS
        factor = info.cross_section_pb if self._is_unit else weights.factor
        if factor == 0:
            raise EventFileError(
                "cross_section_pb = 0.0: expected another number, weights of LHEH5 are in pb"
            )
        self._columns = (*EVENT_COLUMNS, NOMINAL, *(v.name for v in info.variations))
        if len(set(self._columns)) < len(self._columns):
            raise EventFileError(
                f"variations = {[v.name for v in info.variations]}: expected names that differ, "
                f"also from the columns of LHEH5"
            )
        self.encode = Lheh5Encoder(factor=factor, is_unit=self._is_unit, variations=info.variations)
        self._file: Any = None
        self._room: Room | None = None
        self._is_begun = False
        self._n_rows = 0
        self._n_max = 0
        self._remainder = np.empty((0, len(PARTICLE_COLUMNS)))
        self._tables: dict[str, Any] = {}
        self._checksums: dict[str, int] = {}

    def _begin(self) -> None:
        import h5py

        header = header_text(self.info, self.weights).encode()
        n_bytes = SPARE_BYTES + 2 * len(header) + 100 * len(self._columns)
        self._room = Room(self.temporary)
        self._room.reserve(n_bytes)
        with hdf5_errors():
            # No cache: each chunk goes to the file at once and in our order, so that the bytes
            # depend on the events alone.
            self._file = h5py.File(self.temporary, "w", libver=FORMAT_OF_HDF5, rdcc_nbytes=0)
            self._room.forget()
            self._room.reserve(n_bytes)
            self._file.create_dataset("version", data=np.array(VERSION), track_times=False)
            self._make_init()
            kind = h5py.string_dtype("utf-8", max(1, len(header)))
            dataset = self._file.create_group("xml").create_dataset(
                "header", data=np.array(header, dtype=kind), dtype=kind, track_times=False
            )
            dataset.attrs[HEADER_CHECKSUM] = isal_zlib.crc32(header)
            n_rows = min(ROWS_PER_CHUNK, self.weights.n_events)
            self._tables["events"] = self._make_table(self._file, "events", self._columns, n_rows)
            self._tables["particles"] = self._make_table(
                self._file, "particles", PARTICLE_COLUMNS, 2 * n_rows
            )
            if self._is_unit and self.info.variations:
                names = [variation.name for variation in self.info.variations]
                self._tables[LAST_BITS] = self._make_table(
                    self._file, LAST_BITS, names, n_rows, np.int8
                )
            self._checksums |= dict.fromkeys(self._tables, 0)
            self._is_begun = True

    def _put(self, piece: Lheh5Piece) -> int:
        rows_per_chunk = self._tables["particles"].chunks[0]
        self._reserve(piece.events.nbytes + piece.particles.nbytes + piece.last_bits.nbytes)
        events = piece.events.copy()
        events[:, EVENT_COLUMNS.index("start")] += self._n_rows
        n_per_event = events[:, EVENT_COLUMNS.index("nparticles")]
        particles = np.concatenate([self._remainder, piece.particles])
        n_whole = len(particles) // rows_per_chunk * rows_per_chunk
        with hdf5_errors():
            self._extend("events", events)
            if LAST_BITS in self._tables:
                self._extend(LAST_BITS, piece.last_bits)
            if n_whole:
                self._extend("particles", particles[:n_whole])
        self._remainder = particles[n_whole:]
        self._n_rows += len(piece.particles)
        self._n_max = max(self._n_max, int(n_per_event.max(initial=0)))
        return len(events)

    def _finish(self) -> None:
        assert self._room is not None
        self._seal()
        self._room.sync()
        self._room.close()

    def _verify(self) -> None:
        with Lheh5Reader(self.temporary) as reader:
            n_rows = dict.fromkeys(self._tables, self._n_events) | {"particles": self._n_rows}
            found = reader.checksums(n_rows)
        if any(found[name] != self._checksums[name] for name in found):
            raise EventFileError(f"{self.path}: not what was written: the disk may be failing")

    def _release(self) -> None:
        try:
            if self._file is not None:
                self._seal()
        finally:
            if self._room is not None:
                self._room.close()

    def _n_whole_events(self) -> int:
        with suppress(EventFileError), Lheh5Reader(self.temporary) as reader:
            return reader.n_events
        return 0

    def _make_init(self) -> None:
        one, other = self.info.beams
        numbers = [
            *(one.pdg_id, other.pdg_id, one.energy_gev, other.energy_gev),
            # Since LHAPDF 5 the number of a set says it all, and the group is 0.
            *(0, 0, one.pdf_id, other.pdf_id),
            *(WEIGHTS_IN_PB, 1),
        ]
        dataset = self._make_table(self._file, "init", INIT_COLUMNS, 0)
        dataset[:] = numbers
        self._checksums["init"] = isal_zlib.crc32(np.array(numbers, dtype=np.float64))
        dataset.attrs["generatorName"] = np.bytes_("mlgen")
        dataset.attrs["generatorVersion"] = np.bytes_(mlgen.__version__)
        if self._is_unit:
            dataset.attrs[UNIT_WEIGHTS_FLAG] = 1

    def _make_table(
        self,
        file: Any,
        name: str,
        columns: Sequence[str],
        rows_per_chunk: int,
        dtype: type[np.generic] = np.float64,
    ) -> Any:
        """An empty table with named columns; of a single row, without an axis for it, if 0."""
        import h5py

        n_columns = len(columns)
        grows = rows_per_chunk > 0
        dataset = file.create_dataset(
            name,
            shape=(0, n_columns) if grows else (n_columns,),
            maxshape=(None, n_columns) if grows else None,
            chunks=(rows_per_chunk, n_columns) if grows else (n_columns,),
            dtype=dtype,
            fletcher32=True,
            track_times=False,
        )
        # Readers in C++ take the first attribute, as text of variable length; pylhe and ours take the
        # second. HDF5 keeps texts of variable length without a checksum.
        dataset.attrs.create(name, list(columns), dtype=h5py.string_dtype())
        dataset.attrs["properties"] = np.array([column.encode() for column in columns])
        return dataset

    def _extend(self, name: str, rows: NDArray[Any]) -> None:
        dataset = self._tables[name]
        first = len(dataset)
        dataset.resize(first + len(rows), axis=0)
        dataset[first:] = rows
        self._checksums[name] = isal_zlib.crc32(rows, self._checksums[name])

    def _reserve(self, n_bytes: int) -> None:
        """Take room for so many more bytes of rows, and for what HDF5 notes of them."""
        assert self._room is not None
        # A last chunk of each table is written as a whole, however few its rows are.
        chunks = [np.prod(table.chunks) * table.dtype.itemsize for table in self._tables.values()]
        end = self._file.id.get_filesize() + int(sum(chunks)) + n_bytes
        self._room.reserve(end + SPARE_BYTES + end // 1000)

    def _seal(self) -> None:
        """Write what is still missing, and close the HDF5 file, which is then one."""
        assert self._room is not None
        file, self._file = self._file, None
        try:
            with hdf5_errors():
                if self._is_begun:
                    self._write_rest(file)
                file.flush()
                n_bytes = file.id.get_filesize()
        finally:
            with hdf5_errors():
                file.close()
        # HDF5 does not know of what was reserved.
        self._room.trim(n_bytes)

    def _write_rest(self, file: Any) -> None:
        """Write the last particles, and what is known when all events are."""
        self._extend("particles", self._remainder)
        # Readers in C++ take n_max rows for each event, from the first one on; rows that were never
        # written take no space.
        self._tables["particles"].resize(len(self._tables["events"]) * self._n_max, axis=0)
        cross_section = self.info.cross_section_pb
        largest = abs(cross_section) if self._is_unit else self.weights.largest
        error = self.info.cross_section_error_pb
        row = np.array([[PROCESS_ID, self._n_max, -1, cross_section, error, largest]])
        processes = self._make_table(file, "procInfo", PROCESS_COLUMNS, 1)
        processes.resize(1, axis=0)
        processes[:] = row
        for name, checksum in {**self._checksums, "procInfo": isal_zlib.crc32(row)}.items():
            processes.attrs[f"{CHECKSUM_OF}{name}"] = np.uint32(checksum)
