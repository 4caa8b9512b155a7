"""Damage to files: of bytes, of numbers in texts, of XML, of tables of JSON.

Each mutation makes other bytes from those of a good file, with a generator of random numbers that
is its only source of chance: a case is repeated by its seed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

MAX_GROWN = 1 << 22
"""What is longer already is not mutated again."""

NUMBER = re.compile(rb"(?<![\w.])[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?(?![\w.])")
EXTREMES = (
    *(b"0", b"-0", b"-0.0", b"-1", b"1", b"2", b"3", b"-4", b"1.5", b"500", b"501"),
    *(b"65536", b"2147483648", b"9007199254740993", b"9223372036854775807"),
    *(b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616"),
    *(b"5e-324", b"2e-322", b"3e-322", b"1e-400", b"1.7976931348623157e308", b"1e308", b"-1e308"),
    *(b"1e309", b"nan", b"NaN", b"inf", b"-inf", b"Infinity", b"-Infinity", b"0x10", b"1_0"),
    *(b"1d5", b"1e", b"+1", b"--1", b".5", b"5.", b"1,5", b"true", b"null", b'"1"', b"[]", b"@"),
    *(b"", b"x", b"\xd9\xa1", b"\xc2\xa0", b"\0", b"1979-05-27", b"00:00:99"),
)
WORDS = (b"0", b"1", b"\xff", b"\x00", b"\x7f", b"\x80")
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037", "latin-1")


def span(content: bytes, rng: Random, longest: int = 64) -> tuple[int, int]:
    """Where a span begins and ends; now and then it is a long one."""
    if rng.random() < 0.1:
        longest = len(content)
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.randint(1, max(1, longest)))


# --- bytes -----------------------------------------------------------------------------------


def flip_bit(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def change_byte(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def insert_bytes(content: bytes, rng: Random) -> bytes:
    at, n = rng.randrange(len(content) + 1), rng.randint(1, 16)
    new = rng.randbytes(n) if rng.random() < 0.5 else rng.choice(WORDS) * n
    return content[:at] + new + content[at:]


def delete_span(content: bytes, rng: Random) -> bytes:
    start, end = span(content, rng)
    return content[:start] + content[end:]


def fill_span(content: bytes, rng: Random) -> bytes:
    start, end = span(content, rng)
    return content[:start] + rng.choice(WORDS) * (end - start) + content[end:]


def duplicate_span(content: bytes, rng: Random) -> bytes:
    start, end = span(content, rng)
    at = rng.choice([end, rng.randrange(len(content) + 1)])
    return content[:at] + content[start:end] + content[at:]


def swap_spans(content: bytes, rng: Random) -> bytes:
    a, b, c, d = sorted(rng.randrange(len(content) + 1) for _ in range(4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def truncate(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def behead(content: bytes, rng: Random) -> bytes:
    return content[rng.randrange(len(content) + 1) :]


def append_copy(content: bytes, rng: Random) -> bytes:
    return content + content


def append_garbage(content: bytes, rng: Random) -> bytes:
    return content + rng.choice([b"\0" * 512, b"\n\n", b" ", rng.randbytes(64), b"PK\x05\x06"])


def extreme_integer(content: bytes, rng: Random) -> bytes:
    """Write an integer of 2, 4 or 8 bytes over some of them."""
    size = rng.choice([2, 4, 8])
    if len(content) < size:
        return content
    largest = (1 << (8 * size - 1)) - 1
    number: int = rng.choice([0, 1, -1, largest, -largest - 1, 1 << 20, 255])
    at = rng.randrange(len(content) - size + 1)
    new = number.to_bytes(8, "little", signed=True)[:size]
    if rng.random() < 0.5:
        new = new[::-1]
    return content[:at] + new + content[at + size :]


BYTES: Sequence[Mutation] = (
    flip_bit,
    change_byte,
    insert_bytes,
    delete_span,
    fill_span,
    duplicate_span,
    swap_spans,
    truncate,
    behead,
    append_copy,
    append_garbage,
    extreme_integer,
)


# --- text ------------------------------------------------------------------------------------


def change_number(content: bytes, rng: Random) -> bytes:
    places = [match.span() for match in NUMBER.finditer(content)]
    if not places:
        return content
    start, end = rng.choice(places)
    if rng.random() < 0.02:
        new = rng.choice([b"9" * 1_000_000, b"0." + b"3" * 1_000_000, b"1e" + b"9" * 100_000])
    elif rng.random() < 0.2:
        new = repr(rng.choice([rng.gauss(0, 1), rng.randint(-1000, 1000)])).encode()
    else:
        new = rng.choice(EXTREMES)
    return content[:start] + new + content[end:]


def _lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True) or [b""]


def swap_lines(content: bytes, rng: Random) -> bytes:
    lines = _lines(content)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def delete_line(content: bytes, rng: Random) -> bytes:
    lines = _lines(content)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def duplicate_line(content: bytes, rng: Random) -> bytes:
    lines = _lines(content)
    i = rng.randrange(len(lines))
    return b"".join(lines[: i + 1] + lines[i:])


def long_line(content: bytes, rng: Random) -> bytes:
    lines = _lines(content)
    filling = rng.choice([b" ", b"1 ", b"x", b"<", b"\t", b'"', b"[", b"\\"])
    i = rng.randrange(len(lines))
    lines[i] = lines[i].rstrip(b"\n") + filling * rng.choice([100, 10_000, 500_000]) + b"\n"
    return b"".join(lines)


def other_encoding(content: bytes, rng: Random) -> bytes:
    text = content.decode("utf-8", errors="replace")
    return text.encode(rng.choice(ENCODINGS), errors="replace")


def other_line_ends(content: bytes, rng: Random) -> bytes:
    return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b" \n", b"\n ", b"\0\n"]))


def nest(content: bytes, rng: Random) -> bytes:
    """Brackets or elements inside one another, at some place."""
    at = rng.randrange(len(content) + 1)
    depth = rng.choice([10, 1000, 100_000])
    opening, closing = rng.choice(
        [(b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"a.", b""), (b"{a=", b"}")]
    )
    return content[:at] + opening * depth + b"1" + closing * depth + content[at:]


TEXT: Sequence[Mutation] = (
    change_number,
    change_number,
    change_number,
    change_number,
    swap_lines,
    delete_line,
    duplicate_line,
    long_line,
    other_encoding,
    other_line_ends,
    nest,
)


# --- XML -------------------------------------------------------------------------------------

XML_PARTS = (
    *(b"<!-- comment -->", b"<!-- <event> -->", b"<![CDATA[ 1 2 ]]>", b"<![CDATA[</event>]]>"),
    *(b"<?php 1 ?>", b"&amp;", b"&lt;", b"&#0;", b"&#48;", b"&#x10FFFF;", b"&bomb;", b"&a0;"),
    *(b"<rwgt>", b"</rwgt>", b"<wgt id='a'> 1 </wgt>", b"<event>\n", b"</event>\n", b"<event/>"),
    *(b"<init>\n", b"</init>\n", b"<header>", b"</header>", b"</LesHouchesEvents>\n", b"# note\n"),
    *(b"<weight id='x'/>", b"<initrwgt>", b"]]>", b'<!ENTITY a "b">', b"<?xml version='1.0'?>"),
    *(b'<event npLO=" 1 ">\n', b"<mgrwt>\n1\n</mgrwt>\n", b"<scales muf='1'/>", b"\xef\xbb\xbf"),
)
PROLOGUES = (
    b'<?xml version="1.0" encoding="UTF-16"?>\n',
    b'<?xml version="1.0" encoding="no-such"?>\n',
    b'<?xml version="9.9"?>\n',
    b'<?xml version="1.0" encoding="ISO-8859-1"?>\n',
    b'<!DOCTYPE a [<!ENTITY a0 "1">]>\n',
    b'<!DOCTYPE a SYSTEM "file:///dev/zero">\n',
    b"\n",
    b"\xef\xbb\xbf",
)


def insert_xml(content: bytes, rng: Random) -> bytes:
    """A piece of XML, at a line's beginning as often as anywhere."""
    at = rng.randrange(len(content) + 1)
    if rng.random() < 0.5:
        at = content.find(b"\n", at) + 1
    return content[:at] + rng.choice(XML_PARTS) + content[at:]


def prologue(content: bytes, rng: Random) -> bytes:
    return rng.choice(PROLOGUES) + content


def wrap_event(content: bytes, rng: Random) -> bytes:
    """Put some events inside another element."""
    tag = rng.choice([b"eventgroup", b"event", b"header", b"rwgt", b"LesHouchesEvents"])
    before, opening, rest = content.partition(b"<event>")
    return (
        before
        + b"<"
        + tag
        + b">"
        + opening
        + rest.replace(b"</event>", b"</event></" + tag + b">", 1)
    )


XML: Sequence[Mutation] = (insert_xml, insert_xml, insert_xml, prologue, wrap_event)


# --- JSON ------------------------------------------------------------------------------------

VALUES: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**400, 1.5, 1e308, 5e-324, -0.0),
    *(float("nan"), float("inf"), "", "x", "nan", "../../x", "é\ud800", "1" * 10_000),
    *([], [1], [[]], ["a", "b"], {}, {"a": 1}, [0.5, 0.5], [None]),
)


def change_table(table: Any, rng: Random) -> Any:
    """A table in which one value, at any depth, is another, missing, or there twice."""
    if not isinstance(table, dict | list) or not table or rng.random() < 0.1:
        return rng.choice(VALUES)
    if isinstance(table, dict):
        changed, key = dict(table), rng.choice(list(table))
        if rng.random() < 0.1:
            del changed[key]
        elif rng.random() < 0.1:
            changed[rng.choice(["", "a", "é", "\ud800", key + "s"])] = changed[key]
        else:
            changed[key] = change_table(table[key], rng)
        return changed
    items, i = list(table), rng.randrange(len(table))
    if rng.random() < 0.1:
        del items[i]
    elif rng.random() < 0.1:
        items.append(items[i])
    else:
        items[i] = change_table(items[i], rng)
    return items


def change_json(content: bytes, rng: Random) -> bytes:
    try:
        table = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return json.dumps(change_table(table, rng), indent=2).encode()


def duplicate_key(content: bytes, rng: Random) -> bytes:
    """A line of indented JSON again, with another number."""
    lines = _lines(content)
    i = rng.randrange(len(lines))
    again = change_number(lines[i], rng)
    return b"".join([*lines[: i + 1], again, *lines[i + 1 :]])


JSON: Sequence[Mutation] = (change_json, change_json, change_json, change_json, duplicate_key)


def mutated(content: bytes, mutations: Sequence[Mutation], rng: Random) -> bytes:
    """One to four mutations, in their order in the sequence; one in half of the cases."""
    places = rng.choices(range(len(mutations)), k=rng.choice([1, 1, 1, 2, 3, 4]))
    for place in sorted(places):
        if len(content) > MAX_GROWN:
            break
        content = mutations[place](content, rng)
    return content
