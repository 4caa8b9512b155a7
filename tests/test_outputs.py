from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlgen.build import Process
from mlgen.outputs import notes_on
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
