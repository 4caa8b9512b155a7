from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mlgen.campaign.checkpoint import (
    INTERVAL_S,
    PATIENCE,
    RunCheckpoint,
    StoredRun,
    read_checkpoint,
)
from mlgen.campaign.step_clock import StepClock
from mlgen.cards import VegasCard
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.adapt import GridLearner
from mlgen.integration.learner import teach
from tests.integration.toys import peaks

N_ROUNDS = 4


class Time:
    """A clock that tests turn; each write takes some of it."""

    def __init__(self, write_took_s: float = 0.0) -> None:
        self.now_s, self.write_took_s = 100.0, write_took_s

    def __call__(self) -> float:
        return self.now_s


def learner() -> GridLearner:
    return GridLearner(3, 2, VegasCard(n_points=2000, n_iterations=N_ROUNDS, n_bins=8))


def taught(n_rounds: int) -> GridLearner:
    found = learner()
    teach(found, peaks(), 1, SilentProgress(), is_wanted=lambda: found.n_rounds < n_rounds)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.zip"


def begun(path: Path, now: Callable[[], float]) -> RunCheckpoint:
    checkpoint = RunCheckpoint(path, StoredRun(card="[process]\n"), StepClock(), now)
    checkpoint.write()
    return checkpoint


def rounds_in(path: Path) -> int | None:
    state = read_checkpoint(path).learners.get("adapt")
    return None if state is None else int(state.numbers["n_rounds"])


def test_what_was_stored_comes_back_bit_for_bit(path: Path) -> None:
    now = Time()
    checkpoint, stored = begun(path, now), taught(2)
    stored.n_calls = 4321
    checkpoint.settle("vegas.us_per_point", 0.1 + 0.2)
    now.now_s += INTERVAL_S
    checkpoint.offer(stored)
    read = read_checkpoint(path)
    assert read.card == "[process]\n"
    assert read.measured == {"vegas.us_per_point": 0.1 + 0.2}
    assert read.learners["adapt"].n_calls == 4321
    for name, tensor in stored.state().tensors.items():
        assert torch.equal(read.learners["adapt"].tensors[name], tensor)


def test_nothing_is_written_before_the_interval_is_over(path: Path) -> None:
    now = Time()
    checkpoint = begun(path, now)
    checkpoint.offer(taught(1))
    now.now_s += 0.99 * INTERVAL_S
    checkpoint.offer(taught(2))
    assert rounds_in(path) is None
    now.now_s += 0.02 * INTERVAL_S
    checkpoint.offer(taught(3))
    assert rounds_in(path) == 3


def test_a_slow_disk_is_written_to_less_often(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, took_s = Time(), 0.7

    def slow(path: Path, content: bytes) -> None:
        now.now_s += took_s
        path.write_bytes(content)

    monkeypatch.setattr("mlgen.campaign.archive.write_bytes_atomically", slow)
    checkpoint = begun(path, now)
    now.now_s += 0.99 * PATIENCE * took_s
    checkpoint.offer(taught(1))
    assert rounds_in(path) is None
    now.now_s += 0.02 * PATIENCE * took_s
    checkpoint.offer(taught(2))
    assert rounds_in(path) == 2


def test_what_is_complete_is_stored_with_the_next_write(path: Path) -> None:
    now = Time()
    checkpoint = begun(path, now)
    complete = taught(N_ROUNDS)
    checkpoint.offer(complete)
    edges = complete.grid.edges.clone()
    complete.grid.edges.mul_(2)  # what comes later is not what was stored
    assert rounds_in(path) is None
    now.now_s += 1
    checkpoint.catch_up()
    assert rounds_in(path) == N_ROUNDS
    assert torch.equal(read_checkpoint(path).learners["adapt"].tensors["edges"], edges)
    written = path.stat().st_mtime_ns
    checkpoint.catch_up()
    assert path.stat().st_mtime_ns == written


def test_a_measured_time_is_settled_once(path: Path) -> None:
    checkpoint = begun(path, Time())
    assert [checkpoint.settle("costs", value) for value in (1.5, 2.5)] == [1.5, 1.5]
    checkpoint.write()
    again = RunCheckpoint(path, read_checkpoint(path), StepClock())
    assert again.settle("costs", 3.5) == 1.5
    assert again.settle("other", 3.5) == 3.5


def test_learning_goes_on_from_a_checkpoint_to_the_same_grid(path: Path) -> None:
    now = Time()
    checkpoint = begun(path, now)
    now.now_s += INTERVAL_S
    checkpoint.offer(taught(2))
    again = RunCheckpoint(path, read_checkpoint(path), StepClock())
    resumed, toy = learner(), peaks()
    teach(resumed, toy, 1, SilentProgress(), again)
    assert len(toy.sizes) == N_ROUNDS - 2
    assert torch.equal(resumed.grid.edges, taught(N_ROUNDS).grid.edges)
