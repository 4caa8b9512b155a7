"""Records as JSON has them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def table_of(record: DataclassInstance) -> dict[str, Any]:
    """A dataclass as a table: lists for tuples, None for numbers that are not finite.

    >>> from mlgen.core import BeamInfo
    >>> table_of(BeamInfo(pdg_id=11, energy_gev=math.inf, pdf_id=0))
    {'pdg_id': 11, 'energy_gev': None, 'pdf_id': 0}
    """
    return {key: as_json(value) for key, value in dataclasses.asdict(record).items()}


def as_json(value: Any) -> Any:
    """A number, a text, or a nest of these."""
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
