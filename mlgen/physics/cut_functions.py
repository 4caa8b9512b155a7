"""Cuts that users write in Python: the entry points of the group `mlgen.cuts`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

from torch import Tensor

from mlgen.errors import CardError

CutFunction = Callable[[Tensor, tuple[int, ...]], Tensor]
"""Final momenta (n, n_final, 4), (E, px, py, pz) in GeV, and their PDG ids -> which pass: bool (n,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredCut:
    """A user's function, and whether it looks at flavours beyond what the cards' kinds are."""

    name: str
    function: CutFunction
    tells_flavours_apart: bool
    """The function's attribute of this name. Without it, flavours that share one |M|² are cut together, so the function must treat them alike."""


def cut_function_names() -> tuple[str, ...]:
    """The registered cuts."""
    return tuple(sorted(entry_points(group="mlgen.cuts").names))


def find_cut_function(name: str) -> RegisteredCut:
    """The registered cut of a name.

    Raises:
        CardError: no such cut.
    """
    names = cut_function_names()
    if name not in names:
        known = f"one of {', '.join(names)}" if names else "an entry point of the group mlgen.cuts"
        none = "" if names else "; none is registered"
        raise CardError(f"cuts.function = {name!r}: expected {known}{none}")
    function = next(iter(entry_points(group="mlgen.cuts", name=name))).load()
    return RegisteredCut(
        name=name,
        function=function,
        tells_flavours_apart=bool(getattr(function, "tells_flavours_apart", False)),
    )
