from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlgen.build import Process
from mlgen.integration.candidates import TrainingCurve
from mlgen.integration.training import STEPS_PER_ROUND
from mlgen.jobs.outputs import MOST_ENTRIES, _training_record
from mlgen.jobs.sample import notes_on
from mlgen.physics.model import StandardModel
from tests.subprocess_groups import subprocess_groups


def process(definition: str) -> Process:
    """As much of a process as its notes are made from."""
    parts: Any = SimpleNamespace(
        picker=SimpleNamespace(model=StandardModel()),
        integrand=SimpleNamespace(groups=subprocess_groups(definition, ("p", "p"))),
    )
    return cast(Process, parts)


@pytest.mark.parametrize(
    ("definition", "names"), [("p p > t t~ j", "t, t~"), ("p p > z w+", "z, w+")]
)
def test_a_note_says_which_particles_are_undecayed(definition: str, names: str) -> None:
    (note,) = notes_on(process(definition))
    assert note.startswith(f"{names}: undecayed")
    assert "spin correlations" in note


def test_stable_particles_need_no_note() -> None:
    assert notes_on(process("p p > e+ e- j")) == ()


@pytest.mark.parametrize("n_rounds", [1, 7, MOST_ENTRIES, MOST_ENTRIES + 1, 1234])
def test_the_curve_of_a_training_is_short_and_holds_every_loss(n_rounds: int) -> None:
    n_steps = STEPS_PER_ROUND * n_rounds - 5  # the last round was cut
    curve = TrainingCurve(
        sampler="flow",
        losses=(0.25,) * n_steps,
        efficiencies=tuple(i / n_rounds for i in range(n_rounds)),
    )
    record = _training_record(curve)
    assert record is not None
    assert len(record.steps) == len(record.eps_uw) == len(record.loss) <= MOST_ENTRIES
    assert set(record.loss) == {0.25}
    assert record.n_steps == n_steps
    assert record.steps[0] == 0
    assert list(record.steps) == sorted(record.steps)


def test_a_training_that_collapsed_shows_what_it_collapsed_to() -> None:
    losses = (1.0,) * STEPS_PER_ROUND + (3.0,) * STEPS_PER_ROUND
    curve = TrainingCurve(sampler="flow", losses=losses, efficiencies=(0.5, 0.4, 0.01))
    record = _training_record(curve)
    assert record is not None
    assert (record.eps_uw, record.loss) == ((0.5, 0.4, 0.01), (1.0, 3.0))


def test_without_a_training_there_is_no_curve() -> None:
    assert _training_record(None) is None
