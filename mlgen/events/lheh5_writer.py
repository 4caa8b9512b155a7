"""Writing LHEH5 event files.

With h5py itself: pylhe 2.1.0 wants an object for each particle, and writes fewer events in a second
than there are in a second of Les Houches text.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from isal import isal_zlib
from numpy.typing import NDArray

import mlgen
from mlgen.core import EventBatch, SampleInfo, Variation
from mlgen.errors import EventFileError
from mlgen.events.lhe_numbers import MAX_WHOLE
from mlgen.events.lhe_text import PROCESS_ID, header_text
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
    check_events,
)

FORMAT_OF_HDF5 = ("v110", "v110")
"""HDF5 1.10: the first in which all that describes the data has checksums."""
MAX_MISSED = 1
"""Units in the last place: one rounding of a product, one of a quotient."""
SPARE_BYTES = 1 << 16
"""Reserved beyond the data for what HDF5 notes of them, some 100 bytes a chunk."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lheh5Piece:
    """Rows of some events; `start` is counted from the first row of `particles` here."""

    events: NDArray[np.float64]
    """(n, n_columns), EVENT_COLUMNS and the weights."""
    particles: NDArray[np.float64]
    """(n_rows, 13), PARTICLE_COLUMNS."""
    last_bits: NDArray[np.int8]
    """(n, n_variations), LAST_BITS; (n, 0) where weights do not stand for 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lheh5Encoder:
    """Makes the rows of events, as they stand in an LHEH5 file."""

    factor: float
    """What stands in the file, in pb, over the weight of an event."""
    is_unit: bool = False
    """Whether each weight is 1, so that the reader divides by the factor."""
    variations: tuple[Variation, ...] = ()

    def __call__(self, events: EventBatch) -> Lheh5Piece:
        check_events(events, len(self.variations))
        is_row = events.pdg_id != 0
        n_rows = is_row.sum(1).to(torch.float64)
        counts = torch.cat(
            [events.pdg_id[..., None], events.status[..., None], events.mothers, events.colour],
            dim=-1,
        )[is_row]
        if len(counts) and int(counts.abs().max()) > MAX_WHOLE:
            raise EventFileError(f"{int(counts.abs().max())}: expected whole numbers up to 2^53")
        particles = np.zeros((len(counts), len(PARTICLE_COLUMNS)))
        particles[:, :6] = counts.cpu().numpy()
        particles[:, 6:10] = events.momenta[is_row][:, [1, 2, 3, 0]].cpu().numpy()
        particles[:, 10] = events.mass[is_row].cpu().numpy()
        particles[:, 12] = events.spin[is_row].cpu().numpy()
        columns = [
            torch.full_like(events.weight, PROCESS_ID),
            n_rows,
            n_rows.cumsum(0) - n_rows,
            torch.ones_like(events.weight),
            # Readers in C++ take SCALUP from `rscale`, pylhe from `scale`.
            events.scale,
            events.scale,
            events.scale,
            events.alpha_em,
            events.alpha_s,
            self.factor * events.weight,
        ]
        in_pb = self.factor * events.variations
        rows = torch.cat([torch.stack(columns, dim=1), in_pb], dim=1)
        if not bool(rows.isfinite().all()):
            raise EventFileError(
                f"weights times {self.factor} pb: expected finite numbers in pb in an LHEH5 file"
            )
        return Lheh5Piece(
            events=rows.cpu().numpy(),
            particles=particles,
            last_bits=self._last_bits(events.variations, in_pb).cpu().numpy(),
        )

    def _last_bits(self, variations: torch.Tensor, in_pb: torch.Tensor) -> torch.Tensor:
        """By how many units in the last place dividing by the factor misses the variations."""
        if not self.is_unit:
            return torch.empty(len(variations), 0, dtype=torch.int8)
        found = (in_pb / self.factor).view(torch.int64)
        missed = variations.to(torch.float64).view(torch.int64) - found
        if bool((missed.abs() > MAX_MISSED).any()):
            raise EventFileError(
                f"variations times {self.factor} pb: expected numbers that float64 holds in an "
                f"LHEH5 file"
            )
        return missed.to(torch.int8)


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
        self._descriptor = -1
        self._reserved = 0
        self._n_rows = 0
        self._n_max = 0
        self._remainder = np.empty((0, len(PARTICLE_COLUMNS)))
        self._tables: dict[str, Any] = {}
        self._checksums: dict[str, int] = {}

    def _begin(self) -> None:
        import h5py

        header = header_text(self.info, self.weights).encode()
        with _hdf5_errors():
            # No cache: each chunk goes to the file at once and in our order, so that the bytes
            # depend on the events alone.
            self._file = h5py.File(self.temporary, "x", libver=FORMAT_OF_HDF5, rdcc_nbytes=0)
            self._descriptor = os.open(self.temporary, os.O_RDWR)
            self._file.create_dataset("version", data=np.array(VERSION), track_times=False)
            self._make_init()
            kind = h5py.string_dtype("utf-8", max(1, len(header)))
            dataset = self._file.create_group("xml").create_dataset(
                "header", data=np.array(header, dtype=kind), dtype=kind, track_times=False
            )
            dataset.attrs[HEADER_CHECKSUM] = isal_zlib.crc32(header)
            n_rows = min(ROWS_PER_CHUNK, self.weights.n_events)
            self._tables["events"] = self._make_table("events", self._columns, n_rows)
            self._tables["particles"] = self._make_table("particles", PARTICLE_COLUMNS, 2 * n_rows)
            if self._is_unit and self.info.variations:
                names = [variation.name for variation in self.info.variations]
                self._tables[LAST_BITS] = self._make_table(LAST_BITS, names, n_rows, np.int8)
            self._checksums |= dict.fromkeys(self._tables, 0)

    def _put(self, piece: Lheh5Piece) -> int:
        rows_per_chunk = self._tables["particles"].chunks[0]
        self._reserve(piece.events.nbytes + piece.particles.nbytes + piece.last_bits.nbytes)
        events = piece.events.copy()
        events[:, EVENT_COLUMNS.index("start")] += self._n_rows
        n_per_event = events[:, EVENT_COLUMNS.index("nparticles")]
        particles = np.concatenate([self._remainder, piece.particles])
        n_whole = len(particles) // rows_per_chunk * rows_per_chunk
        with _hdf5_errors():
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
        self._seal()
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1

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
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

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
        dataset = self._make_table("init", INIT_COLUMNS, 0)
        dataset[:] = numbers
        self._checksums["init"] = isal_zlib.crc32(np.array(numbers, dtype=np.float64))
        dataset.attrs["generatorName"] = np.bytes_("mlgen")
        dataset.attrs["generatorVersion"] = np.bytes_(mlgen.__version__)
        if self._is_unit:
            dataset.attrs[UNIT_WEIGHTS_FLAG] = 1

    def _make_table(
        self,
        name: str,
        columns: Sequence[str],
        rows_per_chunk: int,
        dtype: type[np.generic] = np.float64,
    ) -> Any:
        """An empty table with named columns; of a single row, without an axis for it, if 0."""
        import h5py

        n_columns = len(columns)
        grows = rows_per_chunk > 0
        dataset = self._file.create_dataset(
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

    def _seal(self) -> None:
        """Write what is still missing, and close the HDF5 file, which is then one."""
        file, self._file = self._file, None
        try:
            with _hdf5_errors():
                self._file = file
                if len(self._remainder):
                    self._extend("particles", self._remainder)
                # Readers in C++ take n_max rows for each event, from the first one on; rows that
                # were never written take no space.
                n_events = len(self._tables["events"])
                self._tables["particles"].resize(n_events * self._n_max, axis=0)
                processes = self._make_table("procInfo", PROCESS_COLUMNS, 1)
                cross_section = self.info.cross_section_pb
                largest = abs(cross_section) if self._is_unit else self.weights.largest
                error = self.info.cross_section_error_pb
                processes.resize(1, axis=0)
                numbers = [PROCESS_ID, self._n_max, -1, cross_section, error, largest]
                processes[:] = np.array([numbers])
                own = isal_zlib.crc32(np.array(numbers, dtype=np.float64))
                for name, checksum in {**self._checksums, "procInfo": own}.items():
                    processes.attrs[f"{CHECKSUM_OF}{name}"] = np.uint32(checksum)
                file.flush()
                n_bytes = file.id.get_filesize()
        finally:
            self._file = None
            with _hdf5_errors():
                file.close()
        # What was reserved and not needed; HDF5 does not know of it.
        os.truncate(self.temporary, n_bytes)

    def _reserve(self, n_bytes: int) -> None:
        """Make sure that there is room for more rows, before HDF5 counts on it.

        HDF5 2.0 cannot close a file whose end could not be written, and nothing reads it then.

        Raises:
            OSError: there is no room.
        """
        # A last chunk of each table is written as a whole, however few its rows are.
        chunks = [np.prod(table.chunks) * table.dtype.itemsize for table in self._tables.values()]
        end = self._file.id.get_filesize() + int(sum(chunks)) + n_bytes + SPARE_BYTES
        if end <= self._reserved or not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self._descriptor, self._reserved, end - self._reserved)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
        self._reserved = end


@contextmanager
def _hdf5_errors() -> Iterator[None]:
    """What h5py says of a disk that fails, as an OSError with a reason of one line."""
    try:
        yield
    except OSError as error:
        if error.errno:
            raise OSError(error.errno, os.strerror(error.errno)) from error
        raise OSError(errno.EIO, str(error).split("\n")[0]) from error
    except RuntimeError as error:
        raise OSError(errno.EIO, str(error).split("\n")[0]) from error
