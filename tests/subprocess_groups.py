"""Subprocess groups of a definition, without a whole card."""

from __future__ import annotations

from collections.abc import Mapping

from mlgen.cards import ProcessCard
from mlgen.core import SubprocessGroup
from mlgen.physics.model import Model, StandardModel
from mlgen.physics.process import read_process


def subprocess_groups(
    definition: str,
    beams: tuple[str, str] = ("p", "p"),
    model: Model | None = None,
    multiparticles: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[SubprocessGroup, ...]:
    """What `read_process` makes of a definition; the Standard Model where no model is given."""
    card = ProcessCard(name="test", definition=definition, multiparticles=multiparticles or {})
    return read_process(card, beams, model or StandardModel())
