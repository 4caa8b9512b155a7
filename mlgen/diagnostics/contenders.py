"""What a comparison compares: samplers that learn from so many calls, then draw fresh points.

Whoever it is, and whoever wrote it: a contender asks the same metered integrand, for learning and for
drawing, and its CPU time is that of the process while it works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.core import Evaluation, Integrand, Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What something took."""

    n_points: int
    """Points at which the integrand was asked for."""
    n_calls: int
    """Those inside the cuts: matrix elements computed."""
    cpu_s: float
    """CPU time of the process, that of the integrand included."""
    integrand_cpu_s: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            n_points=self.n_points + other.n_points,
            n_calls=self.n_calls + other.n_calls,
            cpu_s=self.cpu_s + other.cpu_s,
            integrand_cpu_s=self.integrand_cpu_s + other.integrand_cpu_s,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            n_points=self.n_points - other.n_points,
            n_calls=self.n_calls - other.n_calls,
            cpu_s=self.cpu_s - other.cpu_s,
            integrand_cpu_s=self.integrand_cpu_s - other.integrand_cpu_s,
        )


NO_COST = Cost(n_points=0, n_calls=0, cpu_s=0.0, integrand_cpu_s=0.0)


class Meter:
    """An integrand that counts its calls and its CPU time."""

    def __init__(self, integrand: Integrand[Evaluation]) -> None:
        self._integrand = integrand
        self._n_points = self._n_calls = 0
        self._cpu_s = 0.0

    @property
    def n_dim(self) -> int:
        return self._integrand.n_dim

    @property
    def n_flat(self) -> int:
        return self._integrand.n_flat

    @property
    def n_channels(self) -> int:
        return self._integrand.n_channels

    def __call__(self, r: Tensor, channel: Tensor) -> Evaluation:
        started = time.process_time()
        with torch.no_grad():
            evaluation = self._integrand(r, channel)
        self._cpu_s += time.process_time() - started
        self._n_points += len(channel)
        self._n_calls += evaluation.n_calls
        return evaluation

    def value(self, r: Tensor, channel: Tensor, rng: torch.Generator) -> Tensor:
        """The integrand at the adapted columns r (n, n_dim), the flat ones drawn: (n,)."""
        flat = torch.rand((len(r), self.n_flat), generator=rng, dtype=torch.float64)
        return self(torch.cat([r.to(torch.float64), flat], dim=1), channel).value

    @property
    def spent(self) -> Cost:
        """So far; differences of it are what things took."""
        return Cost(
            n_points=self._n_points,
            n_calls=self._n_calls,
            cpu_s=time.process_time(),
            integrand_cpu_s=self._cpu_s,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshPoints:
    """Points that nothing was learned from, drawn from a frozen sampler."""

    cross_section: float
    error: float
    """Its standard deviation, with the strata that the sampler has."""
    n_points: int
    """The points that cross section and error come from."""
    weight: Tensor
    """(n,): the mean over a channel's points is the channel's integral. Zeros included."""
    channel: Tensor
    """(n,), int64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """A sampler, frozen."""

    cost: Cost
    """What learning took, without what only planned it."""
    settings: Mapping[str, str | float]
    """How it was set up, for the record."""
    draw: Callable[[int], FreshPoints]
    """At least so many fresh points, of which so many with their weights."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how it went."""


Learn = Callable[[Meter, int, int, Progress], Learned]
"""Adapt or train on an integrand, with about so many calls, from a seed.

Raises:
    GenerationError: no point passes the cuts.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """A sampler in a comparison."""

    name: str
    """Short, for options and JSON."""
    title: str
    """For people."""
    learn: Learn
