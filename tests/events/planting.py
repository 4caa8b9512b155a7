"""Changing the text or the tables of an event file: what plants faults, and what changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import h5py

Plant = Callable[[str], str]


def replaced(old: str, new: str, count: int = 1) -> Plant:
    def plant(text: str) -> str:
        assert old in text, "this fault cannot be planted"
        return text.replace(old, new, count)

    return plant


def column(row: int, column: int, new: str | Callable[[str], str], event: int = 1) -> Plant:
    """Change one word of an event; row 0 is its first line."""

    def plant(text: str) -> str:
        parts = text.split("<event>\n")
        lines = parts[event].split("\n")
        words = lines[row].split()
        words[column] = new if isinstance(new, str) else new(words[column])
        lines[row] = " ".join(words)
        parts[event] = "\n".join(lines)
        return "<event>\n".join(parts)

    return plant


def init(row: int, column: int, new: str | Callable[[str], str]) -> Plant:
    """Change one word of the init block; row 0 is its first line."""

    def plant(text: str) -> str:
        head, tag, rest = text.partition("<init>\n")
        lines = rest.split("\n")
        words = lines[row].split()
        words[column] = new if isinstance(new, str) else new(words[column])
        lines[row] = " ".join(words)
        return head + tag + "\n".join(lines)

    return plant


def scaled(factor: float) -> Callable[[str], str]:
    return lambda word: repr(factor * float(word))


def both(*plants: Plant) -> Plant:
    def plant(text: str) -> str:
        for one in plants:
            text = one(text)
        return text

    return plant


def note(key: str, value: str) -> Plant:
    """Give a note of the header another value."""

    def plant(text: str) -> str:
        before, tag, rest = text.partition(f"{key} = ")
        assert tag, "this fault cannot be planted"
        return before + tag + value + rest[rest.index("\n") :]

    return plant


def weight(name: str, new: str) -> Plant:
    """Give a further weight of the third event another text."""

    def plant(text: str) -> str:
        parts = text.split("<event>")
        before, tag, rest = parts[3].partition(f'<wgt id="{name}">')
        parts[3] = before + tag + new + rest[rest.index("</wgt>") :]
        return "<event>".join(parts)

    return plant


def in_third_event(old: str, new: str) -> Plant:
    def plant(text: str) -> str:
        parts = text.split("<event>")
        parts[3] = replaced(old, new)(parts[3])
        return "<event>".join(parts)

    return plant


def in_header(old: str, new: str) -> Plant:
    def plant(text: str) -> str:
        head, tag, rest = text.partition("</header>")
        return replaced(old, new)(head) + tag + rest

    return plant


def rows_in_order(order: list[int], event: int = 1) -> Plant:
    """Put the particles of an event in another order, which names each by its row from 1 on."""

    def plant(text: str) -> str:
        parts = text.split("<event>\n")
        lines = parts[event].split("\n")
        lines[1 : 1 + len(order)] = [lines[row] for row in order]
        parts[event] = "\n".join(lines)
        return "<event>\n".join(parts)

    return plant


def block(text: str, tag: str) -> str:
    """The first block of a tag."""
    end = f"</{tag}>\n"
    return text[text.index(f"<{tag}>") : text.index(end) + len(end)]


def without_event(text: str) -> str:
    before, _, rest = text.partition("<event>")
    return before + rest.partition("</event>\n")[2]


def event_twice(text: str) -> str:
    event = block(text, "event")
    return text.replace(event, event + event, 1)


def without_further_weight(text: str) -> str:
    parts = text.split("<event>")
    before, _, rest = parts[3].partition("<wgt")
    parts[3] = before + rest.partition("</wgt>\n")[2]
    return "<event>".join(parts)


def without_declarations(text: str) -> str:
    before, _, rest = text.partition("<initrwgt>")
    return before + rest.partition("</initrwgt>")[2]


def entity_bomb(text: str) -> str:
    """Entities of entities: ten levels would fill 10 GB."""
    entities = ['<!ENTITY a0 "aaaaaaaaaa">']
    entities += [f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 10)]
    bombed = text.replace("<event>\n", "<event>&a9;\n", 1)
    return f"<!DOCTYPE a [{''.join(entities)}]>\n{bombed}"


def negated(number: float) -> float:
    return -number


def shifted(by: float) -> Callable[[float], float]:
    return lambda number: number + by


def cell(
    table: str,
    row: int,
    column: str,
    new: float | Callable[[float], float],
    with_checksums: bool = False,
) -> Callable[[bytes], bytes]:
    """Change a number of an LHEH5 file, and leave out the checksums that tell of it, or not."""

    def plant(content: bytes) -> bytes:
        stream = BytesIO(content)
        with h5py.File(stream, "r+") as file:
            names = [name.decode() for name in file[table].attrs["properties"]]
            place = (names.index(column),) if file[table].ndim == 1 else (row, names.index(column))
            file[table][place] = new(file[table][place]) if callable(new) else new
            for attributes in (file["procInfo"].attrs, file["xml/header"].attrs):
                for name in [name for name in attributes if name.startswith("crc32")]:
                    if not with_checksums:
                        del attributes[name]
        return stream.getvalue()

    return plant
