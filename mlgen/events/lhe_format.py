"""Les Houches event files as a format: see `mlgen.events.formats`."""

from __future__ import annotations

from mlgen.events.formats import EventFormat
from mlgen.events.lhe_reader import LheReader
from mlgen.events.lhe_writer import LheWriter

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def recognises(first_bytes: bytes) -> bool:
    """Whether a file may be XML, plain or compressed."""
    return first_bytes.startswith((GZIP_MAGIC, *BYTE_ORDER_MARKS)) or (
        first_bytes.lstrip()[:1] in (b"<", b"")
    )


LHE = EventFormat(recognises=recognises, writer=LheWriter, reader=LheReader)
