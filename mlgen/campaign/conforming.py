"""Whether a value is what its type says: what was read from a file must be."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal

from torch import Tensor

_TABLES: Mapping[type[object], Any] = {
    dict: Mapping[str, Any],
    list: Sequence[Any],
    tuple: tuple[Any, ...],
}
"""What is in what may be anything."""


def check_conforms(value: object) -> None:
    """Refuse a dataclass with anything in it, at any depth, that is not what the types say.

    Raises:
        TypeError: says where; likewise of numbers that are not finite.
    """
    if found := fault(value, type(value), type(value).__name__):
        raise TypeError(found)


def fault(value: object, hint: Any, where: str = "") -> str:
    """Where a value is not what a type says; empty where it is."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        hint = _TABLES.get(type(value), type(value))
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _fault_of_dataclass(value, typing.cast(type[Any], hint), where)
    if origin in (typing.Union, UnionType):
        found = [fault(value, one, where) for one in arguments]
        return "" if "" in found else found[0]
    if origin is Literal:
        return "" if value in arguments else f"{where} = {value!r}"
    if origin in (Mapping, dict):
        if not isinstance(value, Mapping):
            return f"{where} = {value!r}: no mapping"
        of_keys = [fault(key, arguments[0], f"{where}: key {key!r}") for key in value]
        items = [fault(item, arguments[1], f"{where}.{key}") for key, item in value.items()]
        return next(filter(None, of_keys + items), "")
    if origin in (tuple, Sequence, list):
        return _fault_of_sequence(value, hint, where)
    kinds = {float: (float, int), NoneType: (NoneType,), Tensor: (Tensor,)}.get(hint, (hint,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        return f"{where} = {value!r}: no {hint.__name__}"
    if hint is str and not _is_text(value):
        return f"{where} = {value!r}: expected text that UTF-8 can hold"
    if hint is float and not _is_finite(typing.cast(float, value)):
        return f"{where} = {value!r}: expected a finite number"
    return ""


def _is_text(value: object) -> bool:
    try:
        str(value).encode()
    except UnicodeEncodeError:  # a half of a character, which JSON can hold
        return False
    return True


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # of a whole number
        return False


def _fault_of_dataclass(value: object, hint: type[Any], where: str) -> str:
    if not isinstance(value, hint):
        return f"{where} = {value!r}: no {hint.__name__}"
    hints = typing.get_type_hints(hint)
    names = [item.name for item in dataclasses.fields(hint)]
    found = (fault(getattr(value, name), hints[name], f"{where}.{name}") for name in names)
    return next(filter(None, found), "")


def _fault_of_sequence(value: object, hint: Any, where: str) -> str:
    arguments = typing.get_args(hint)
    is_right = isinstance(value, tuple if typing.get_origin(hint) is tuple else Sequence)
    if not is_right or isinstance(value, str):
        return f"{where} = {value!r}: no sequence"
    items = typing.cast(Sequence[object], value)
    if len(arguments) > 1 and arguments[1] is not Ellipsis:
        if len(items) != len(arguments):
            return f"{where} = {value!r}: expected {len(arguments)} items"
        kinds = list(arguments)
    else:
        kinds = [arguments[0]] * len(items)
    pairs = zip(items, kinds, strict=True)
    found = (fault(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(pairs))
    return next(filter(None, found), "")
