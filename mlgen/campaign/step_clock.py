"""What each step of a run costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

Step = Literal["prepare", "adapt", "train", "estimate", "surrogate", "generate", "write"]
STEPS: tuple[Step, ...] = get_args(Step)


class StepClock:
    """Collects CPU and wall-clock time by step.

    A step inside a step takes its time away from the outer one, so that the sum over steps is
    the time that passed. Worker processes count in the step in which they end: the operating
    system adds their CPU time to ours only then.

        clock = StepClock()
        with clock.step("adapt"):
            ...
        record = RunRecord(cpu_s=clock.cpu_s, wall_s=clock.wall_s, ...)
    """

    def __init__(
        self, cpu_s: Mapping[str, float] | None = None, wall_s: Mapping[str, float] | None = None
    ) -> None:
        """Begin with what each step has cost before, in an interrupted run; None: nothing."""
        self._cpu_s = {step: (cpu_s or {}).get(step, 0.0) for step in STEPS}
        self._wall_s = {step: (wall_s or {}).get(step, 0.0) for step in STEPS}
        self._open: list[Step] = []
        self._charged_at = _now()

    @contextmanager
    def step(self, name: Step) -> Iterator[None]:
        """Charge what happens inside to this step.

        Raises:
            ValueError: the name is not one of `STEPS`.
        """
        if name not in STEPS:
            raise ValueError(f"step = {name!r}: expected one of {', '.join(STEPS)}")
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def move(self, cpu_s: float, source: Step | None, target: Step) -> None:
        """Charge CPU time to another step than it was charged to; None: to none, till now."""
        if source is not None:
            self._cpu_s[source] -= cpu_s
        self._cpu_s[target] += cpu_s

    def _charge(self) -> None:
        cpu_s, wall_s = _now()
        if self._open:
            self._cpu_s[self._open[-1]] += cpu_s - self._charged_at[0]
            self._wall_s[self._open[-1]] += wall_s - self._charged_at[1]
        self._charged_at = cpu_s, wall_s

    @property
    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each step so far, 0 for one that did not run."""
        return _rounded(self._cpu_s)

    @property
    def wall_s(self) -> dict[str, float]:
        """Wall-clock seconds of each step so far, 0 for one that did not run."""
        return _rounded(self._wall_s)


def _now() -> tuple[float, float]:
    # os.times rather than resource.getrusage: the same numbers, and it exists on Windows too.
    times = os.times()
    return sum(times[:4]), time.monotonic()


def _rounded(seconds: Mapping[Step, float]) -> dict[str, float]:
    return {step: round(value, 3) for step, value in seconds.items()}
