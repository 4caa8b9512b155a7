"""One of many parts is picked for each point, without computing all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from mlgen.errors import MatrixElementError

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

TOLERANCE = 1e-6
"""How much the sum of the parts may differ from the total, relatively. By rounding it was 4e-14."""


def by_usual_share(parts: Array) -> Indices:
    """The parts (n, k) of some points in the order of their mean shares, the largest first: (k,)."""
    shares = parts / parts.sum(axis=1, keepdims=True)
    return np.argsort(-shares.mean(axis=0), kind="stable")


def pick_in_turn(
    part: Callable[[int, Indices], Array], order: Iterable[int], total: Array, uniform: Array
) -> Indices:
    """The first part of each point at which the sum of the parts so far exceeds uniform * total.

    So each part is picked with probability part / total, whatever the order; a good one needs few
    parts. What rounding leaves over goes to the last part that is not 0.

    Args:
        part: the values (m,) of a part, not negative, at an index (m,) into the points.
        order: of all parts, the same for each point.
        total: (n,), the sum of all parts at each point.
        uniform: (n,), in [0, 1).

    Raises:
        MatrixElementError: the parts of a point that was followed do not sum to its total.
    """
    picked = np.full(len(total), -1, dtype=np.int64)
    left, so_far, threshold = np.arange(len(total)), np.zeros_like(total), uniform * total
    for index in order:
        if len(left) == 0:
            return picked
        found = part(index, left)
        so_far = so_far + found
        picked[left[found > 0]] = index
        is_open = ~(so_far > threshold)
        _check(so_far[~is_open], total[left[~is_open]], at_least=0.0)
        left, so_far, threshold = left[is_open], so_far[is_open], threshold[is_open]
    _check(so_far, total[left], at_least=1 - TOLERANCE)
    return picked


def _check(so_far: Array, total: Array, at_least: float) -> None:
    """The share of the total that was found is at least so much, and at most 1."""
    # Not where anything is NaN either.
    wrong = ~((so_far >= at_least * total) & (so_far <= (1 + TOLERANCE) * total))
    if wrong.any():
        raise MatrixElementError(
            f"the parts of |M|² = {so_far[wrong][0]:.9g}: expected {total[wrong][0]:.9g}, their sum"
        )
