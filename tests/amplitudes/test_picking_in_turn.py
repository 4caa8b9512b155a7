from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mlgen.amplitudes.picking_in_turn import Array, Indices, by_usual_share, pick_in_turn
from mlgen.errors import MatrixElementError
from tests.laws import check_frequencies

SHARES = np.array([0.02, 0.5, 0.0, 0.3, 0.03, 0.15])
N = 20_000


def table_of(parts: Array) -> Callable[[int, Indices], Array]:
    """The parts (n, k) as what computes them one by one."""
    return lambda index, at: np.asarray(parts[at, index])


def several_points(n: int) -> tuple[Array, Array]:
    """The parts (n, 6) of different points, a tenth of them 0, and uniform numbers (n,)."""
    rng = np.random.default_rng(1)
    parts = rng.exponential(size=(n, len(SHARES))) ** 3 * SHARES
    parts[rng.random(parts.shape) < 0.1] = 0
    parts[:, 1] += 1e-3
    return parts, rng.random(n)


@pytest.mark.parametrize("order", [range(6), range(5, -1, -1), by_usual_share(SHARES[None])])
def test_parts_are_picked_in_proportion_whatever_the_order(order: Indices) -> None:
    parts = np.tile(3.7 * SHARES, (N, 1))
    uniform = np.random.default_rng(2).random(N)
    picked = pick_in_turn(table_of(parts), order, np.full(N, 3.7), uniform)
    counts = torch.from_numpy(np.bincount(picked, minlength=len(SHARES)))
    check_frequencies(counts, torch.from_numpy(SHARES))
    with pytest.raises(AssertionError, match=r"chi2|impossible"):
        check_frequencies(counts, torch.from_numpy(SHARES[::-1].copy()))


def test_what_is_picked_is_that_of_the_whole_table() -> None:
    parts, uniform = several_points(N)
    order = np.random.default_rng(3).permutation(parts.shape[1])
    picked = pick_in_turn(table_of(parts), order, parts.sum(axis=1), uniform)
    cumulative = parts[:, order].cumsum(axis=1)
    expected = order[(cumulative <= (uniform * parts.sum(axis=1))[:, None]).sum(axis=1)]
    assert np.array_equal(picked, expected)


def test_a_point_is_picked_for_by_itself_as_among_others() -> None:
    parts, uniform = several_points(50)
    total = parts.sum(axis=1)
    together = pick_in_turn(table_of(parts), range(6), total, uniform)
    for i in range(50):
        one = slice(i, i + 1)
        alone = pick_in_turn(table_of(parts[one]), range(6), total[one], uniform[one])
        assert alone[0] == together[i]
    nothing = np.zeros(0)
    assert len(pick_in_turn(table_of(parts), range(6), nothing, nothing)) == 0


def test_the_usual_order_needs_few_parts() -> None:
    parts, uniform = several_points(N)

    def n_computed(order: Indices) -> float:
        computed = 0

        def part(index: int, at: Indices) -> Array:
            nonlocal computed
            computed += len(at)
            return np.asarray(parts[at, index])

        pick_in_turn(part, order, parts.sum(axis=1), uniform)
        return computed / N

    usual = by_usual_share(parts[:100])
    assert n_computed(usual) < 2.5 < 4 < n_computed(usual[::-1])


def test_what_rounding_leaves_goes_to_the_last_part_that_is_not_zero() -> None:
    parts = np.array([[1.0, 2.0, 0.0]])
    uniform = np.array([1 - 1e-12])
    picked = pick_in_turn(table_of(parts), range(3), np.array([3 * (1 + 1e-9)]), uniform)
    assert picked.tolist() == [1]


@pytest.mark.parametrize("factor", [0.9, 1.1, np.nan])
def test_a_total_that_is_not_the_sum_is_refused(factor: float) -> None:
    parts, uniform = several_points(1000)
    with pytest.raises(MatrixElementError, match=r"parts of \|M\|² = .*: expected .*their sum"):
        pick_in_turn(table_of(parts), range(6), factor * parts.sum(axis=1), uniform)


def test_a_part_that_is_not_a_number_is_refused() -> None:
    parts, uniform = several_points(1000)
    parts[0, 0] = np.nan
    total = np.nan_to_num(parts).sum(axis=1)
    with pytest.raises(MatrixElementError, match="nan"):
        pick_in_turn(table_of(parts), range(6), total, uniform)
