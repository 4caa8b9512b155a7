"""What a choice of sampler was expected to cost, and what it did cost, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def costs_text(decision: Mapping[str, Any]) -> Iterator[str]:
    """A line for each alternative of a decision of `run.json`, and one for what it took."""
    for expected in decision.get("expected", ()):
        yield f"expected: {_cost(expected)}"
    if outcome := decision.get("outcome"):
        yield f"in the end: {_cost(outcome)}"


def _cost(cost: Mapping[str, Any]) -> str:
    trained = f", {cost['n_steps']} training steps in {_seconds(cost['training_s'])}"
    return (
        f"{cost['sampler']}{trained if cost['n_steps'] else ''}, "
        f"the events in {_seconds(cost['goal_s'])}"
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
