"""Where a function of the user's lives: a box, times the values of discrete dimensions."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.cut_cards import require
from mlgen.errors import CardError

MAX_COMBINATIONS = 1024
"""Each has a grid of its own, which wants about 1000 points a round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """A box, times every combination k of the values of discrete dimensions.

    Every combination is a channel; the last discrete dimension runs fastest, as in `itertools.product`.

    >>> domain = Domain(bounds=((0.0, 2.0),), n_values=(2, 3))
    >>> domain.combinations(torch.arange(domain.n_channels)).tolist()
    [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    """

    bounds: tuple[tuple[float, float], ...]
    """Lower and upper end of each continuous dimension."""
    n_values: tuple[int, ...] = ()
    """How many values each discrete dimension has: 0, ..., n - 1."""

    def __post_init__(self) -> None:
        require(len(self.bounds) >= 1, "n_dim", self.n_dim, "at least 1")
        for i, (low, high) in enumerate(self.bounds):
            is_range = math.isfinite(low) and math.isfinite(high) and low < high
            require(is_range, f"bounds[{i}]", (low, high), "two finite numbers that increase")
        for i, n in enumerate(self.n_values):
            require(n >= 1, f"n_values[{i}]", n, "at least 1")
        expected = (
            f"at most {MAX_COMBINATIONS} combinations, not {self.n_channels}: sum over some of the "
            "discrete dimensions inside the function, or take k = floor(n r) of a continuous one"
        )
        require(self.n_channels <= MAX_COMBINATIONS, "n_values", self.n_values, expected)

    @classmethod
    def of(
        cls,
        n_dim: int | None = None,
        bounds: Sequence[tuple[float, float]] | None = None,
        n_values: Sequence[int] = (),
    ) -> Domain:
        """The domain that arguments as users give them stand for.

        Args:
            n_dim: continuous dimensions; None: as many as there are bounds.
            bounds: of each of them; None: from 0 to 1.

        Raises:
            CardError: the arguments do not fit together, or are out of range.
        """
        if bounds is None:
            if n_dim is None:
                raise CardError("n_dim = None: expected a number of dimensions, or bounds")
            bounds = [(0.0, 1.0)] * _whole(n_dim, "n_dim")
        elif n_dim is not None and n_dim != len(bounds):
            raise CardError(f"bounds = {len(bounds)} pairs: expected n_dim = {n_dim} of them")
        ends = []
        for i, pair in enumerate(bounds):
            try:
                low, high = pair
                ends.append((float(low), float(high)))
            except (TypeError, ValueError):
                raise CardError(f"bounds[{i}] = {pair!r}: expected two numbers") from None
        counts = tuple(_whole(n, f"n_values[{i}]") for i, n in enumerate(n_values))
        return cls(bounds=tuple(ends), n_values=counts)

    @property
    def n_dim(self) -> int:
        return len(self.bounds)

    @property
    def n_channels(self) -> int:
        return math.prod(self.n_values)

    @property
    def volume(self) -> float:
        """Of the box."""
        return math.prod(high - low for low, high in self.bounds)

    def points(self, r: Tensor) -> Tensor:
        """The points of the box (n, n_dim) that r (n, n_dim) in the unit cube stands for: a new tensor."""
        low, high = r.new_tensor(self.bounds).T
        # Rounding could lead beyond the upper end.
        return torch.minimum(low + r * (high - low), high)

    def combinations(self, channel: Tensor) -> Tensor:
        """The combination k (n, len(n_values)), int64, of each channel (n,)."""
        columns = torch.unravel_index(channel, self.n_values) if self.n_values else ()
        return torch.stack(columns, dim=1) if columns else channel.new_empty((len(channel), 0))

    def describe(self, point: Tensor, channel: int) -> str:
        """A point (n_dim,) of the box and its combination, for people."""
        at = f"point = {point.tolist()}"
        if not self.n_values:
            return at
        return f"{at}, k = {self.combinations(torch.tensor([channel]))[0].tolist()}"


def _whole(value: int, where: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise CardError(f"{where} = {value!r}: expected a whole number") from None
