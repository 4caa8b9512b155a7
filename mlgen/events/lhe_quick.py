"""The numbers of many events at once, where their text is as plain as text can be.

JSON's numbers are a part of those that event files have, so that the text of events becomes a JSON
array by changing the characters between its numbers, and orjson reads it ten times as fast as one
word after another is read. Whatever is not plain is left to `parse_event`, which decides
what is right and what is not: the two never differ on what the quick way takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

import numpy as np
import orjson
from numpy.typing import NDArray

from mlgen.events.lhe_numbers import MAX_PARTICLES, N_COLUMNS, N_INFO, EventTable

OPENING = b"<event>\n"
CLOSING = b"</event>\n"
BETWEEN = CLOSING + OPENING
END_OF_WEIGHTS = [b"\n</rwgt", b"\n"]
"""What follows the last weight, split at `>`."""

END_OF_LINE, END_OF_EVENT = -7e22, -8e22
"""Numbers that stand for the ends; should they be those of an event, the text is not plain."""
MARK = b"@"


def _translation() -> bytes:
    """Space and tab become commas; what belongs in no number becomes an x, which JSON refuses."""
    table = bytearray(b"x" * 256)
    for character in b"0123456789+-.eE\n" + MARK:
        table[character] = character
    for character in b" \t":
        table[character] = ord(",")
    return bytes(table)


TRANSLATION = _translation()


def quick_table(content: bytes, weight_ids: Sequence[str] = ()) -> EventTable | None:
    """The events of a text, or None where it is not plain.

    Args:
        content: events that follow one another, from the first `<event>` to the last `</event>` and
            the ends of these lines. Where this gives a table, the text is also well-formed XML.
        weight_ids: those that the head declares, in its order.
    """
    if MARK in content or len(set(weight_ids)) < len(weight_ids):
        return None
    body = content[len(OPENING) : -len(CLOSING)]
    if weight_ids:
        events = [event.partition(b"<rwgt>\n") for event in body.split(BETWEEN)]
        text = MARK.join([particles for particles, _, _ in events])
        weights = _weights([rest for _, _, rest in events], weight_ids)
    else:
        text = body.replace(BETWEEN, MARK)
        weights = np.empty((text.count(MARK) + 1, 0))
    if weights is None:
        return None
    text = text.translate(TRANSLATION)
    numbers = _numbers(text) or _numbers(_tidied(text))
    return _table(numbers, text.count(b"\n"), weights) if numbers else None


def _tidied(text: bytes) -> bytes:
    """The text with one separator between numbers, and these as JSON spells them: not `+1` or `0.`."""
    while b",," in text:
        text = text.replace(b",,", b",")
    text = text.removeprefix(b",").replace(b",\n", b"\n").replace(b"\n,", b"\n")
    text = text.replace(MARK + b",", MARK).replace(b",+", b",").replace(b"\n+", b"\n")
    return text.replace(b".,", b".0,").replace(b".\n", b".0\n")


def _numbers(text: bytes) -> list[float] | None:
    """The numbers with marks between the lines and events; whole ones as int."""
    ends = f",{END_OF_LINE!r},".encode(), f"{END_OF_EVENT!r},".encode()
    text = text.replace(b"\n", ends[0]).replace(MARK, ends[1])
    # JSON would take the sign from a whole number -0.
    if b"-0," in text:
        return None
    try:
        numbers: list[float] = orjson.loads(b"[%b%b]" % (text, ends[1][:-1]))
    except orjson.JSONDecodeError:
        return None
    return numbers


def _table(numbers: list[float], n_lines: int, weights: NDArray[np.float64]) -> EventTable | None:
    """The numbers in their places, if each line has as many as the accord says."""
    flat = np.fromiter(numbers, dtype=np.float64, count=len(numbers))
    ends = np.flatnonzero(flat == END_OF_EVENT)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if len(ends) != len(weights) or not all(
        type(numbers[start]) is int for start in starts.tolist()
    ):
        return None
    n_rows = flat[starts]
    fits = (ends - starts == N_INFO + 1 + (N_COLUMNS + 1) * n_rows) & (n_rows >= 1)
    if not (fits & (n_rows <= MAX_PARTICLES)).all():
        return None
    n_rows = n_rows.astype(np.int64)
    # In an event, the ends of lines are at N_INFO and then after every N_COLUMNS more.
    places = starts[:, None] + N_INFO + (N_COLUMNS + 1) * np.arange(n_rows.max() + 1)
    expected = places[np.arange(n_rows.max() + 1) <= n_rows[:, None]]
    if len(expected) != n_lines or not np.array_equal(
        np.flatnonzero(flat == END_OF_LINE), expected
    ):
        return None
    # Without the ends, each event is its first line and then its particles.
    is_number = np.ones(len(flat), dtype=bool)
    is_number[expected] = False
    is_number[ends] = False
    is_info = np.zeros(len(flat), dtype=bool)
    is_info[(starts[:, None] + np.arange(N_INFO)).ravel()] = True
    particles = np.zeros((len(starts), int(n_rows.max()), N_COLUMNS))
    is_row = np.arange(particles.shape[1]) < n_rows[:, None]
    particles[is_row] = flat[is_number & ~is_info].reshape(-1, N_COLUMNS)
    return EventTable(info=flat[is_info].reshape(-1, N_INFO), particles=particles, weights=weights)


def _weights(texts: Sequence[bytes], ids: Sequence[str]) -> NDArray[np.float64] | None:
    """The further weights (n, n_weights), from what follows `<rwgt>` in each event."""
    openings = [f"<wgt id={quoteattr(name)}".encode() for name in ids]
    expected = [openings[0], *(b"\n" + opening for opening in openings[1:])]
    n_weights = len(ids)
    found: list[bytes] = []
    for text in texts:
        parts = text.split(b">")
        if parts[0:-2:2] != expected or parts[-2:] != END_OF_WEIGHTS:
            return None
        found += parts[1:-2:2]
    text = b" ".join(found) + b" "
    text = text.replace(b"</wgt ", b" ").translate(TRANSLATION)
    try:
        numbers = orjson.loads(b"[%b]" % text[:-1])
    except orjson.JSONDecodeError:
        return None
    if len(numbers) != len(texts) * n_weights or b"-0," in text:
        return None
    return np.array(numbers, dtype=np.float64).reshape(-1, n_weights)
