"""Writing Les Houches event files, version 3.0 (hep-ph/0109068, hep-ph/0609017)."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from mlgen.core import EventBatch, SampleInfo, Variation
from mlgen.errors import EventFileError
from mlgen.events.lhe_events import events_text
from mlgen.events.lhe_scan import READ_BYTES, LheScanner
from mlgen.events.lhe_text import CLOSING_TAG, END_OF_EVENT, head_text
from mlgen.events.writing import EventFileWriter, FileWeights, check_events

GZIP_LEVEL = 1
"""Of isal, which is three times as fast as zlib at its level 1, for a file that is 2 % smaller. The digits
of momenta do not compress: zlib's level 6 saves a tenth of the size for ten times the time."""

MEMBER_HEAD = struct.Struct("<4sIBBHccHI")
"""Of a gzip member, RFC 1952: magic, method and flags; time; two more; XLEN and one extra field, which holds the number of events."""
MEMBER_START = (b"\x1f\x8b\x08\x04", 0, 4, 255, 8, b"M", b"L", 4)
MEMBER_END = struct.Struct("<II")


@dataclass(frozen=True, kw_only=True, slots=True)
class LheEncoder:
    """Makes the text of events, as it stands in a Les Houches file."""

    factor: float
    """XWGTUP over the weight of an event."""
    variations: tuple[Variation, ...] = ()
    compress: bool = False
    """Whether a piece is a member of a gzip file."""

    def __call__(self, events: EventBatch) -> bytes:
        check_events(events, len(self.variations))
        text = events_text(events, self.factor, [v.name for v in self.variations])
        return compressed(text, len(events)) if self.compress else text


class LheWriter(EventFileWriter[bytes]):
    """Writes a Les Houches file, compressed if its name ends in `.gz`.

    The further weights stand in `<rwgt>`, in the unit of XWGTUP: the mean of one over that of XWGTUP
    is the ratio of their cross sections, and under IDWTUP = -4 its mean is its cross section. The
    header notes `n_events` and `kish_effective_size` before `info.notes`.
    """

    def __init__(self, path: Path, info: SampleInfo, weights: FileWeights) -> None:
        super().__init__(path, info, weights)
        self._compress = self.path.suffix == ".gz"
        self.encode = LheEncoder(
            factor=weights.factor, variations=info.variations, compress=self._compress
        )
        self._stream: BinaryIO | None = None
        self._checksum = 0

    def _begin(self) -> None:
        head = head_text(self.info, self.weights).encode()
        self._stream = self.temporary.open("xb")
        self._write(compressed(head, 0) if self._compress else head)
        self._stream.flush()
        # The events are our own text; the header has the caller's, such as a card.
        with LheScanner(self.temporary):
            pass

    def _put(self, piece: bytes) -> int:
        self._write(piece)
        return n_events_in(piece) if self._compress else piece.count(END_OF_EVENT)

    def _finish(self) -> None:
        assert self._stream is not None
        self._write(compressed(CLOSING_TAG, 0) if self._compress else CLOSING_TAG)
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def _verify(self) -> None:
        checksum = 0
        with self.temporary.open("rb") as stream:
            while piece := stream.read(READ_BYTES):
                checksum = isal_zlib.crc32(piece, checksum)
        if checksum != self._checksum:
            raise EventFileError(f"{self.path}: not what was written: the disk may be failing")

    def _release(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _n_whole_events(self) -> int:
        n_events = 0
        with suppress(EventFileError), LheScanner(self.temporary) as scanner:
            for _ in scanner:
                n_events += 1
        return n_events

    def _write(self, content: bytes) -> None:
        assert self._stream is not None
        self._checksum = isal_zlib.crc32(content, self._checksum)
        self._stream.write(content)


def compressed(text: bytes, n_events: int) -> bytes:
    """A gzip member of this text, which knows its number of events.

    It holds no name and no time: the bytes depend on the text alone. A file is a row of members, so
    that each can be made in another process.
    """
    deflate = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    return b"".join(
        [
            MEMBER_HEAD.pack(*MEMBER_START, n_events),
            deflate.compress(text),
            deflate.flush(),
            MEMBER_END.pack(isal_zlib.crc32(text), len(text) & 0xFFFFFFFF),
        ]
    )


def n_events_in(member: bytes) -> int:
    """The number of events of a gzip member that `compressed` made."""
    *start, n_events = MEMBER_HEAD.unpack_from(member)
    if tuple(start) != MEMBER_START:
        raise EventFileError("a piece that no encoder made: expected a gzip member with its events")
    return int(n_events)
