"""Write docs/cards.md from the dataclasses of the files mlgen/*cards.py, their defaults and docstrings.

    python docs/make_cards.py

A test compares the file with what this makes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

from mlgen import cards, cut_cards, surrogate_cards

PAGE = Path(__file__).with_name("cards.md")

HEAD = """# Cards

A card is a TOML file. Units stand in the names of its keys; a key that is not listed here is an
error, and `mlgen run CARD --set section.key=value` overrides any of them. A section in double
brackets may stand several times, once for each entry of a list. Sections of the same keys share a
table here. This page is made from `mlgen/cards.py`, `mlgen/cut_cards.py` and
`mlgen/surrogate_cards.py` by `docs/make_cards.py`.
"""


def render() -> str:
    """The whole page."""
    return HEAD + "".join(_sections(cards.Card, [], _docstrings(), []))


def _docstrings() -> dict[tuple[str, str], str]:
    """The text below each field, by class and name."""
    found = {}
    modules = (cards, cut_cards, surrogate_cards)
    trees = [ast.parse(Path(str(m.__file__)).read_text(encoding="utf-8")) for m in modules]
    for node in (statement for tree in trees for statement in tree.body):
        if not isinstance(node, ast.ClassDef):
            continue
        for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
            if not (isinstance(statement, ast.AnnAssign) and isinstance(after, ast.Expr)):
                continue
            if isinstance(statement.target, ast.Name) and isinstance(after.value, ast.Constant):
                found[node.name, statement.target.id] = str(after.value.value)
    return found


def _sections(
    cls: type, names: list[str], docs: dict[tuple[str, str], str], notes: list[str]
) -> typing.Iterator[str]:
    """The section of one dataclass, under all the names that a card has it, then those inside it."""
    hints = typing.get_type_hints(cls)
    rows, inner = [], dict[type, list[str]]()
    for item in dataclasses.fields(cls):
        hint, listed = hints[item.name], _item_type(hints[item.name])
        if dataclasses.is_dataclass(hint):
            inner.setdefault(hints[item.name], []).append(item.name)
        elif dataclasses.is_dataclass(listed):
            inner.setdefault(_item_type(hint), []).append(f"[{item.name}]")
        else:
            rows.append(item)
    if names:
        text = inspect.getdoc(cls) or ""
        text = text.partition("`: ")[2] or text
        heading = ", ".join(f"`[{name}]`" for name in names)
        yield f"\n## {heading}\n\n{text[:1].upper()}{text[1:]}\n"
        yield from (f"\n{note}\n" for note in notes)
    if rows:
        yield "\n| key | default | meaning |\n| --- | --- | --- |\n"
    for item in sorted(rows, key=lambda item: _default(item) != "required"):
        meaning = " ".join(_meaning(cls, item.name, docs).split())
        yield f"| `{item.name}` | {_default(item)} | {meaning.replace('|', chr(92) + '|')} |\n"
    for hint, keys in inner.items():
        places = [_place(names, key) for key in keys]
        about = [(key, docs.get((cls.__name__, key), "")) for key in keys] if names else []
        yield from _sections(hint, places, docs, [f"`{k}`: {note}" for k, note in about if note])


def _place(names: list[str], key: str) -> str:
    """`cuts.jets`, or `[cuts.particles]` for a list of tables."""
    prefix = "".join(f"{name}." for name in names)
    return f"[{prefix}{key[1:]}" if key.startswith("[") else prefix + key


def _meaning(cls: type, name: str, docs: dict[tuple[str, str], str]) -> str:
    """The docstring of a field, its class's own or an inherited one."""
    return next((docs[c.__name__, name] for c in cls.__mro__ if (c.__name__, name) in docs), "")


def _item_type(hint: typing.Any) -> typing.Any:
    """X of `tuple[X, ...]`, None for any other type."""
    arguments = typing.get_args(hint)
    return arguments[0] if arguments[1:] == (Ellipsis,) else None


def _default(item: dataclasses.Field[typing.Any]) -> str:
    if item.default_factory is dict or item.default in ((), None):
        return "none"
    if item.default is dataclasses.MISSING:
        return "required"
    if isinstance(item.default, bool):
        return f"`{str(item.default).lower()}`"
    return f"`{item.default!r}`".replace("'", '"')


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
