"""LHEH5 event files as a format: see `mlgen.events.formats`."""

from __future__ import annotations

from mlgen.events.formats import EventFormat
from mlgen.events.lheh5_layout import MAGIC
from mlgen.events.lheh5_reader import Lheh5Reader
from mlgen.events.lheh5_writer import Lheh5Writer


def recognises(first_bytes: bytes) -> bool:
    """Whether a file is HDF5."""
    return first_bytes.startswith(MAGIC)


LHEH5 = EventFormat(recognises=recognises, writer=Lheh5Writer, reader=Lheh5Reader)
