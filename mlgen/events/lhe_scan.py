"""Reading the text of a Les Houches event file, in bounded memory.

The scanner checks that the file is well-formed XML from its first byte to its last, refuses
DOCTYPE and entity declarations, and hands out the head and then one event's text after another.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.parsers import expat

import numpy as np

from mlgen.core import Variation
from mlgen.errors import EventFileError
from mlgen.events.lhe_numbers import EventTable, EventText
from mlgen.events.lhe_quick import CLOSING, OPENING, quick_table

READ_BYTES = 1 << 20
END_OF_INIT = b"</init>\n"
MAX_BYTES_WITHOUT_EVENT = 1 << 26
"""A head or an event longer than this is refused, so that no file can fill the memory."""

MAX_DEPTH = 64
"""Elements inside one another."""

EVENT_WEIGHT = ["event", "rwgt", "wgt"]
DECLARATIONS = ["header", "initrwgt"]
"""Where the further weights stand, below the first tag."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LheHead:
    """What stands before the first event."""

    version: str
    header: dict[str, str]
    """The text of each element of the header that holds text alone, by its tag."""
    init: tuple[str, ...]
    """The lines of the init block, without its elements."""
    variations: tuple[Variation, ...]
    """The further weights that `<initrwgt>` declares."""

    @property
    def weight_ids(self) -> tuple[str, ...]:
        return tuple(variation.name for variation in self.variations)


@dataclass(frozen=True, kw_only=True, slots=True)
class EventPiece:
    """Some events that follow one another: either their texts or their numbers."""

    texts: tuple[EventText, ...] = ()
    table: EventTable | None = None


class LheScanner:
    """An open event file: `head`, and iteration over the text of its events.

    A context manager. Raises `EventFileError` on opening it and from the iteration: no such file,
    not gzip or XML, not an event file, truncated, with a DOCTYPE, or larger than any good one.

    Args:
        path: the file.
        text: read instead of the file, which it is a part of.
    """

    head: LheHead

    def __init__(self, path: Path, text: BytesIO | None = None) -> None:
        self.path = path
        self._elements: list[str] = []
        self._text: list[str] = []
        self._has_children = False
        self._version = ""
        self._header: dict[str, str] = {}
        self._init: tuple[str, ...] | None = None
        self._events: list[EventText] = []
        self._group = ""
        self._variations: list[Variation] = []
        self._weight_ids: list[str] = []
        self._weights: list[str] = []
        self._rest = b""
        self._n_parsed = 0
        self._end_of_element = -1
        self._ends_line = False
        self._n_lines_passed = 0
        self._bytes_without_event = 0
        self._is_complete = False
        self._failure: EventFileError | None = None
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.buffer_size = 1 << 16
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        try:
            self._raw: BufferedReader | BytesIO = text or path.open("rb")
        except OSError as error:
            raise EventFileError(f"{path}: {error.strerror}: expected an event file") from error
        is_gzip = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0)
        self._stream: gzip.GzipFile | BufferedReader | BytesIO = self._raw
        if is_gzip:
            self._stream = gzip.GzipFile(fileobj=self._raw, mode="rb")
        try:
            while self._init is None and not self._is_complete:
                if len(self._rest) < READ_BYTES:
                    self._rest += self._read()
                end = self._rest.find(END_OF_INIT) + len(END_OF_INIT)
                self._parse(end if end >= len(END_OF_INIT) else len(self._rest))
            if self._init is None:
                raise EventFileError(f"{path}: no <init> block: expected one before the events")
        except BaseException:
            self._raw.close()
            raise
        self.head = LheHead(
            version=self._version,
            header=self._header,
            init=self._init,
            variations=tuple(self._variations),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._raw.close()

    def __iter__(self) -> Iterator[EventText]:
        for piece in self._pieces(self._feed):
            yield from piece.texts

    def pieces(self) -> Iterator[EventPiece]:
        """The events in pieces of some thousands, as numbers wherever their text is plain.

        An alternative to iteration over their texts: a file can be gone through once.
        """
        return self._pieces(self._pass)

    def _pieces(self, go_on: Callable[[], EventTable | None]) -> Iterator[EventPiece]:
        failure: EventFileError | None = None
        while failure is None and not self._is_complete:
            table = None
            try:
                table = go_on()
            except EventFileError as error:
                failure = error
            # What is whole before the damage is handed out before the damage is reported.
            if self._events:
                yield EventPiece(texts=tuple(self._events))
                self._events.clear()
            if table is not None:
                yield EventPiece(table=table)
        if failure is not None:
            raise failure

    def _pass(self) -> EventTable | None:
        """Go on; the table of the events that were passed without expat, if any were."""
        if len(self._rest) < READ_BYTES:
            self._rest += self._read()
        end = self._rest.rfind(CLOSING) + len(CLOSING)
        if end >= len(CLOSING) and self._is_at_event():
            content = self._rest[:end]
            table = quick_table(content, self.head.weight_ids)
            if table is not None:
                self._rest = self._rest[end:]
                self._n_lines_passed += content.count(b"\n")
                self._bytes_without_event = 0
                return table
        # All of it where no event ends: it may be endless.
        self._parse(end if end >= len(CLOSING) else len(self._rest))
        return None

    def _feed(self) -> None:
        self._rest += self._read()
        self._parse(len(self._rest))

    def _is_at_event(self) -> bool:
        """Whether an element and its line have just ended, and the rest is an event beside it."""
        has_ended = self._n_parsed == self._end_of_element and self._ends_line
        return has_ended and self._rest.startswith(OPENING)

    def _read(self) -> bytes:
        """The next bytes of the text; none at its end, or where what came before has first to be parsed."""
        parts: list[bytes] = []
        n_bytes = 0
        try:
            # read1 hands out what can be decompressed before it reports that the rest is missing.
            while (
                self._failure is None
                and n_bytes < READ_BYTES
                and (part := self._stream.read1(READ_BYTES - n_bytes))
            ):
                parts.append(part)
                n_bytes += len(part)
        except EOFError:
            self._failure = EventFileError(f"{self.path}: truncated: the compressed data end early")
        except (OSError, zlib.error) as error:
            self._failure = EventFileError(f"{self.path}: cannot be read: {error}")
        if self._failure is not None and not (parts or self._rest):
            raise self._failure
        self._bytes_without_event += n_bytes
        return b"".join(parts)

    def _parse(self, end: int) -> None:
        """Let expat have the rest up to here; nothing, where there is nothing more to come."""
        piece, self._rest = self._rest[:end], self._rest[end:]
        self._is_complete = not piece
        self._n_parsed += len(piece)
        self._ends_line = piece.endswith(b"\n")
        n_waiting = len(self._events)
        try:
            self._parser.Parse(piece, self._is_complete)
        except expat.ExpatError as error:
            where = f"{self.path}: line {error.lineno + self._n_lines_passed}"
            if self._is_complete:
                inside = f"<{self._elements[-1]}>" if self._elements else "the file's first tag"
                raise EventFileError(f"{where}: truncated: it ends inside {inside}") from error
            reason = expat.ErrorString(error.code)
            raise EventFileError(f"{where}: not well-formed XML ({reason})") from error
        except (LookupError, ValueError) as error:
            # Of the codec that the XML declaration asks for.
            raise EventFileError(f"{self.path}: {error}: expected text in UTF-8") from error
        if len(self._events) > n_waiting:
            self._bytes_without_event = 0
        elif self._bytes_without_event > MAX_BYTES_WITHOUT_EVENT:
            limit = MAX_BYTES_WITHOUT_EVENT >> 20
            raise EventFileError(f"{self.path}: {limit} MiB without an event: refused")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._elements and tag != "LesHouchesEvents":
            raise EventFileError(f"{self.path}: first tag <{tag}>: expected <LesHouchesEvents>")
        if not self._elements:
            self._version = attributes.get("version", "")
        self._elements.append(tag)
        if len(self._elements) > MAX_DEPTH:
            raise EventFileError(f"{self.path}: elements {MAX_DEPTH + 1} deep: refused")
        self._check_place(tag)
        if self._elements[1:2] == ["header"] and len(self._elements) == 4:
            self._has_children = True
        if self._is_wanted():
            self._text.clear()
            self._has_children = False
        elif self._elements[1:] == EVENT_WEIGHT:
            self._weight_ids.append(attributes.get("id", ""))
            self._weights.append("")
        elif self._elements[1:3] == DECLARATIONS:
            self._declare(tag, attributes)

    def _check_place(self, tag: str) -> None:
        """Refuse blocks where none may stand: readers differ in what they make of them."""
        inside = self._elements[1:-1]
        if tag == "event" and inside:
            raise EventFileError(f"{self.path}: <event> inside <{inside[-1]}>: expected none there")
        if tag == "event" and self._init is None:
            raise EventFileError(f"{self.path}: <event> before <init>: expected the init block")
        if tag == "init" and not inside and self._init is not None:
            raise EventFileError(f"{self.path}: a second <init>: expected one")
        if tag == "header" and not inside and (self._header or self._init is not None):
            raise EventFileError(f"{self.path}: <header> behind another block: expected it first")

    def _declare(self, tag: str, attributes: dict[str, str]) -> None:
        """Note a further weight of the events; others' attributes, which none prescribes, may lack."""
        inside = self._elements[3:]
        if inside == ["weightgroup"]:
            # MadGraph 2.0 wrote `type`.
            self._group = attributes.get("name", attributes.get("type", ""))
        elif inside in (["weight"], ["weightgroup", "weight"]):
            self._variations.append(
                Variation(
                    name=attributes.get("id", ""),
                    group=self._group if len(inside) == 2 else "",
                    mu_r_factor=_number(attributes.get("MUR", ""), 1.0),
                    mu_f_factor=_number(attributes.get("MUF", ""), 1.0),
                    pdf_id=int(_number(attributes.get("PDF", ""), 0.0)),
                )
            )

    def _characters(self, text: str) -> None:
        if self._is_wanted():
            self._text.append(text)
        elif self._elements[1:] == EVENT_WEIGHT:
            self._weights[-1] += text

    def _end(self, tag: str) -> None:
        if self._is_wanted():
            text = "".join(self._text)
            if tag == "event":
                self._events.append(EventText(text, tuple(self._weight_ids), tuple(self._weights)))
                self._weight_ids.clear()
                self._weights.clear()
            elif tag == "init":
                self._init = tuple(line for line in text.splitlines() if line.strip())
            elif not self._has_children:
                self._header[tag] = text
        self._elements.pop()
        if len(self._elements) == 1:
            self._end_of_element = self._parser.CurrentByteIndex + len(f"</{tag}>\n")

    def _is_wanted(self) -> bool:
        """Whether text stands directly in an event, the init block or an element of the header."""
        elements = self._elements
        if len(elements) == 2:
            return elements[1] in ("event", "init")
        return len(elements) == 3 and elements[1] == "header"

    def _refuse_doctype(self, *_: object) -> None:
        raise EventFileError(f"{self.path}: DOCTYPE: refused, an event file needs none")


def _number(text: str, default: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return default
    return number if np.isfinite(number) else default
