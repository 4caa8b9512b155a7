"""Write docs/cards.md from the dataclasses of mlgen/cards.py, their defaults and docstrings.

    python docs/make_cards.py

A test compares the file with what this makes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

from mlgen import cards, cut_cards

PAGE = Path(__file__).with_name("cards.md")

HEAD = """# Cards

A card is a TOML file. Units stand in the names of its keys; a key that is not listed here is an
error, and `mlgen run CARD --set section.key=value` overrides any of them. This page is made from
`mlgen/cards.py` by `docs/make_cards.py`.
"""


def render() -> str:
    """The whole page."""
    return HEAD + "".join(_sections(cards.Card, "", _docstrings()))


def _docstrings() -> dict[tuple[str, str], str]:
    """The text below each field, by class and name."""
    found = {}
    trees = [ast.parse(Path(str(m.__file__)).read_text(encoding="utf-8")) for m in (cards, cut_cards)]
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
    cls: type, name: str, docs: dict[tuple[str, str], str], about: str = ""
) -> typing.Iterator[str]:
    """The section of one dataclass, then those inside it."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    inner = [item for item in fields if dataclasses.is_dataclass(hints[item.name])]
    listed = [item for item in fields if dataclasses.is_dataclass(_item_type(hints[item.name]))]
    rows = [item for item in fields if item not in (*inner, *listed)]
    if name:
        text = inspect.getdoc(cls) or ""
        text = text.partition("`: ")[2] or text
        yield f"\n## `[{name}]`\n\n{text[:1].upper()}{text[1:]}\n"
        if about:
            yield f"\n{about}\n"
    if rows:
        yield "\n| key | default | meaning |\n| --- | --- | --- |\n"
    for item in rows:
        meaning = " ".join(_meaning(cls, item.name, docs).split())
        yield f"| `{item.name}` | {_default(item)} | {meaning.replace('|', chr(92) + '|')} |\n"
    for item in inner:
        place = f"{name}.{item.name}" if name else item.name
        about = docs.get((cls.__name__, item.name), "") if name else ""
        yield from _sections(hints[item.name], place, docs, about)
    for item in listed:
        yield from _sections(_item_type(hints[item.name]), f"[{name}.{item.name}]", docs)


def _meaning(cls: type, name: str, docs: dict[tuple[str, str], str]) -> str:
    """The docstring of a field, its class's own or an inherited one."""
    return next((docs[c.__name__, name] for c in cls.__mro__ if (c.__name__, name) in docs), "")


def _item_type(hint: typing.Any) -> typing.Any:
    """X of `tuple[X, ...]`, None for any other type."""
    arguments = typing.get_args(hint)
    return arguments[0] if arguments[1:] == (Ellipsis,) else None


def _default(item: dataclasses.Field[typing.Any]) -> str:
    if item.default is dataclasses.MISSING:
        return "required"
    if item.default_factory is dict or item.default == ():
        return "none"
    if item.default is None:
        return "none"
    if isinstance(item.default, bool):
        return f"`{str(item.default).lower()}`"
    return f"`{item.default!r}`".replace("'", '"')


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
