"""Card files: found by path or name, read from TOML into the dataclasses of `mlgen.cards`, written.

A key that no dataclass has is an error, and so is a value of the wrong type; each message names the
key, what it got, and what it expected. No key is named here: all of them stand in `mlgen.cards`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlgen.cards import Card
from mlgen.cut_cards import require
from mlgen.errors import CardError

T = TypeVar("T")

MAX_CHARACTERS = 1 << 14
"""Of a card; the longest that comes with mlgen, with all defaults written out, has a fifth of it."""


def card_folder() -> Path:
    """Where the cards lie that come with mlgen: in the package, or beside it in a clone."""
    package = Path(__file__).parent
    installed = package / "processes"
    return installed if installed.is_dir() else package.parent / "processes"


def card_names() -> tuple[str, ...]:
    """The names of the cards that come with mlgen."""
    return tuple(sorted(path.stem for path in card_folder().glob("*.toml")))


def find_card(card: Path | str) -> Path:
    """The file of a card, given as a path or by the name of one that comes with mlgen.

    Raises:
        CardError: there is no such file and no such name.
    """
    path = Path(card)
    if path.exists():
        return path
    if str(card) in card_names():
        return card_folder() / f"{card}.toml"
    close = difflib.get_close_matches(path.stem, card_names(), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(card_names())}"
    raise CardError(f"{card}: no such file, and no card of that name; {hint}")


def read_card(path: Path, overrides: Sequence[str] = ()) -> Card:
    """Read a card and apply `section.key=value` overrides in their order.

    Raises:
        CardError: the file cannot be read, is not TOML, or a key or value is wrong.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise CardError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CardError(f"{path}: not text in UTF-8") from error
    table = _toml_table(text, str(path))
    for override in overrides:
        _apply_override(table, override)
    return card_from_table(table)


def card_from_toml(text: str) -> Card:
    """A card from its text, such as `card_to_toml` makes.

    Raises:
        CardError: it is not TOML, or a key or value is wrong.
    """
    return card_from_table(_toml_table(text, "card"))


def _toml_table(text: str, where: str) -> dict[str, Any]:
    # tomllib takes 10 s and 2 GB for a key of 10^5 parts (Python 3.11).
    if len(text) > MAX_CHARACTERS:
        raise CardError(f"{where}: more than {MAX_CHARACTERS} characters: expected a card")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of 10^4 digits or brackets
        raise CardError(f"{where}: not valid TOML: {error}") from error


def card_from_table(table: Mapping[str, Any]) -> Card:
    """A card from parsed TOML."""
    return _build(Card, table, "")


def card_to_toml(card: Card) -> str:
    """The whole card as TOML, defaults written out: what a run records of itself."""
    return "\n".join(_section_lines("", dataclasses.asdict(card))).strip() + "\n"


def _section_lines(name: str, table: Mapping[str, Any]) -> list[str]:
    lines = [f"[{name}]"] if name else []
    for key, value in table.items():
        if not isinstance(value, dict) and not _is_tables(value) and value is not None:
            lines.append(f"{_toml_key(key)} = {_toml_value(value)}")
    lines.append("")
    for key, value in table.items():
        place = f"{name}.{_toml_key(key)}" if name else _toml_key(key)
        if isinstance(value, dict):
            lines += _section_lines(place, value)
        elif _is_tables(value):
            for item in value:
                lines += [f"[[{place}]]", *_section_lines("", item)]
    return lines


def _is_tables(value: object) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and isinstance(value[0], dict)


def _toml_key(key: str) -> str:
    is_bare = key.replace("_", "").replace("-", "").isalnum() and key.isascii()
    return key if is_bare else str(_toml_value(key))


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the DEL character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)


def _apply_override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise CardError(f"--set {override}: expected section.key=value")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        parsed = {}
    # What is not one value of TOML is a text without its quotes.
    value = parsed["value"] if len(parsed) == 1 else text.strip()
    *sections, last = key.strip().split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise CardError(f"--set {override}: {section} is a value, not a section")
    table[last] = value


def _build(cls: type[T], table: object, where: str) -> T:
    if not isinstance(table, Mapping):
        raise CardError(f"{where} = {table!r}: expected a section")
    prefix = f"{where}." if where else ""
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]  # a dataclass, as all sections are
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known: {', '.join(known)}"
            raise CardError(f"{prefix}{key}: no such key; {hint}")
    values = {}
    for name, item in known.items():
        if name in table:
            values[name] = _convert(table[name], hints[name], prefix + name)
        elif item.default is item.default_factory is dataclasses.MISSING:
            raise CardError(f"{prefix}{name}: missing, and it has no default")
    return cls(**values)


def _convert(value: object, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert(value, next(a for a in arguments if a is not type(None)), where)
    if origin is Literal:
        require(value in arguments, where, value, "one of " + ", ".join(map(repr, arguments)))
        return value
    if origin is tuple:
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        if arguments[-1] is Ellipsis:
            require(is_list, where, value, "a list")
            items = typing.cast(Sequence[object], value)
            return tuple(_convert(v, arguments[0], f"{where}[{i}]") for i, v in enumerate(items))
        if not is_list or len(typing.cast(Sequence[object], value)) != len(arguments):
            raise CardError(f"{where} = {value!r}: expected {len(arguments)} values")
        items = typing.cast(Sequence[object], value)
        return tuple(_convert(v, a, where) for v, a in zip(items, arguments, strict=True))
    if origin is Mapping:
        require(isinstance(value, Mapping), where, value, "a section")
        entries = typing.cast(Mapping[str, object], value)
        return {key: _convert(v, arguments[1], f"{where}.{key}") for key, v in entries.items()}
    if hint is float:
        try:
            number = math.nan if isinstance(value, bool) else float(typing.cast(float, value))
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        require(isinstance(value, int | float) and not math.isnan(number), where, value, "a number")
        return number
    names = {int: "an integer", str: "a text in quotes", bool: "true or false"}
    require(type(value) is hint, where, value, names[hint])
    return value
