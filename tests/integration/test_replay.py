from __future__ import annotations

import pytest
import torch

from mlgen.core import TrainingBatch
from mlgen.integration.replay import Replay, joined, random_parts


def batch(first: int, n: int) -> TrainingBatch:
    """Points whose value is their number."""
    number = torch.arange(first, first + n, dtype=torch.float64)
    return TrainingBatch(
        r=number[:, None] / 1000,
        channel=torch.zeros(n, dtype=torch.int64),
        value=number,
        log_q=-number,
        fraction=torch.ones_like(number),
    )


def numbers(part: TrainingBatch) -> list[int]:
    assert torch.equal(part.log_q, -part.value)
    return [int(v) for v in part.value.tolist()]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def kept(n_rounds: int, sizes: tuple[int, ...] = (5, 7, 6)) -> Replay:
    replay, first = Replay(n_rounds), 0
    for size in sizes:
        replay.add(batch(first, size))
        first += size
    return replay


def test_the_last_rounds_are_kept() -> None:
    assert numbers(kept(3).last(3)) == list(range(18))
    assert numbers(kept(3).last(1)) == list(range(12, 18))
    assert numbers(kept(2).last(3)) == list(range(5, 18))


@pytest.mark.parametrize("size", [4, 6, 9])
def test_a_point_comes_again_only_when_all_others_that_fit_have_come(size: int) -> None:
    parts = [numbers(part) for part in random_parts(kept(3).last(3), 8, size, rng())]
    assert [len(part) for part in parts] == [size] * 8
    per_pass = 18 // size
    for start in range(0, 8 - per_pass + 1, per_pass):
        seen = [number for part in parts[start : start + per_pass] for number in part]
        assert len(set(seen)) == len(seen)


def test_a_part_is_no_larger_than_what_is_kept() -> None:
    assert [sorted(numbers(part)) for part in random_parts(kept(3).last(3), 2, 100, rng())] == [
        [*range(18)]
    ] * 2


def test_the_order_is_random_and_fixed_by_the_stream() -> None:
    first, again = (
        [numbers(p) for p in random_parts(kept(3).last(3), 3, 6, rng())] for _ in range(2)
    )
    assert first == again
    assert first[0] != sorted(first[0])


def test_what_is_kept_can_be_stored_and_restored() -> None:
    replay, other = kept(2), Replay(2)
    other.add(batch(100, 3))
    other.restore(replay.tensors())
    assert numbers(other.last(2)) == numbers(replay.last(2))
    other.add(batch(50, 2))
    assert numbers(other.last(2)) == [*range(12, 18), 50, 51]


def test_batches_are_joined_in_their_order() -> None:
    assert numbers(joined([batch(3, 2), batch(0, 1)])) == [3, 4, 0]
