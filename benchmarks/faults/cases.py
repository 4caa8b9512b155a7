"""The registry of cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults.stage import Stage

Play = Callable[[Stage], str]
"""Plays a case once; what came of it, in a few words. Raises `Broken`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A kind of fault."""

    name: str
    repeats: int
    """In a full campaign."""
    play: Play


CASES: list[Case] = []


def case(name: str, repeats: int = 1) -> Callable[[Play], Play]:
    """Register a function as a case."""

    def register(play: Play) -> Play:
        CASES.append(Case(name=name, repeats=repeats, play=play))
        return play

    return register
