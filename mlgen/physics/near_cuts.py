"""Which points lie near the cuts of a card: those that cuts a little tighter would remove."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.cut_cards import CutsCard
from mlgen.errors import CardError
from mlgen.physics.cuts import CardCuts
from mlgen.physics.leg_cuts import STANDARD_KINDS, ParticleKinds

FACTOR = 1.1
"""What thresholds are tightened by."""


class NearCuts:
    """Near the cuts of a card, for the groups of a process.

    A cut function of the user's has no threshold, and is left as it is.

    Raises:
        CardError: as `CardCuts` does, or the factor does not tighten.
    """

    def __init__(
        self,
        card: CutsCard,
        groups: Sequence[SubprocessGroup],
        kinds: ParticleKinds = STANDARD_KINDS,
        factor: float = FACTOR,
    ) -> None:
        self._passes = CardCuts(card, groups, kinds)
        self._passes_tighter = CardCuts(tightened(card, factor), groups, kinds)

    def __call__(self, momenta: Tensor, group: int) -> Tensor:
        """Which of the momenta (n, n_ext, 4), GeV, of one group pass, but would not after tightening: bool (n,)."""
        return self._passes(momenta, group) & ~self._passes_tighter(momenta, group)


def tightened(card: CutsCard, factor: float = FACTOR) -> CutsCard:
    """The cuts with every lower bound multiplied, and every upper one divided, by a factor.

    Bounds of 0 and of infinity stay. A window that is too narrow for that becomes one of no width in
    its middle: all inside of it is near its bounds.

    Raises:
        CardError: the factor is not a number of at least 1.
    """
    if not 1 <= factor < math.inf:
        raise CardError(f"factor = {factor}: expected a number of at least 1")
    tight: CutsCard = _tightened(card, factor)
    return tight


def _tightened(cuts: Any, factor: float) -> Any:
    """A dataclass of cuts, whatever it holds, tightened."""
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(cuts):
        value = getattr(cuts, item.name)
        if dataclasses.is_dataclass(value):
            changes[item.name] = _tightened(value, factor)
        elif isinstance(value, tuple) and all(map(dataclasses.is_dataclass, value)):
            changes[item.name] = tuple(_tightened(of, factor) for of in value)
        elif "_min" in item.name:
            upper = item.name.replace("_min", "_max")
            changes[item.name], changes[upper] = _window(value, getattr(cuts, upper), factor)
    return dataclasses.replace(cuts, **changes)


def _window(low: float, high: float, factor: float) -> tuple[float, float]:
    tight_low, tight_high = low * factor, high / factor
    if tight_low < tight_high:
        return tight_low, tight_high
    middle = 0.5 * (low + high)
    return middle, math.nextafter(middle, math.inf)
