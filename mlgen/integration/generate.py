"""Events from a frozen proposal, chunk by chunk: each is the same whoever makes it, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import EventBatch, Progress, random_stream
from mlgen.errors import GenerationError
from mlgen.events.unweighting import accept
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.measure import Estimate
from mlgen.integration.picking import EventPicker
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.integration.second_step import ExactSquared

TITLE = "generating"

_GENEROUS = 100
"""Generation gives up after this many times the points that the efficiency predicts."""

_MARGIN = 4.0
"""Standard deviations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkSummary:
    """What the points of a chunk say."""

    index: int
    n_events: int
    n_points: int
    n_calls: int
    """Matrix elements."""
    sums: ChannelSums
    """Of all its points."""
    excess: float = 0.0
    """sum (|w| - w_max)+ / w_max over its points; 0 for weighted events."""
    size: float = 0.0
    """sum |w| / w_max."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """The events of one chunk of points."""

    summary: ChunkSummary
    events: EventBatch


class ChunkSource(Protocol):
    """Where events come from: all of it frozen, so that a chunk depends on nothing but its index."""

    @property
    def run(self) -> RunCard:
        """What is wanted."""

    @property
    def title(self) -> str:
        """Names the random streams, so that samples of different titles are independent."""

    def chunk(self, index: int) -> Chunk:
        """The events among `run.chunk_size` points.

        Raises:
            NonFiniteWeight: a weight is NaN or infinite.
            MatrixElementError: as the matrix element says.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class EventSource:
    """Events by the exact |M|² alone: a `ChunkSource`."""

    integrand: ProcessIntegrand
    pick: EventPicker
    proposal: Proposal
    """Its fractions are in proportion to w_max, unless the events are weighted."""
    w_max: Tensor
    """(n_channels,), pb."""
    run: RunCard
    title: str = TITLE

    def chunk(self, index: int) -> Chunk:
        """See `ChunkSource`."""
        rng = random_stream(self.run.seed, self.title, index)
        batch, evaluation = draw(self.integrand, self.proposal, self.run.chunk_size, rng)
        weight = channel_weight(batch)
        excess = size = 0.0
        if self.run.weighted:
            mask = weight != 0
            u = (weight / batch.fraction)[mask]
        else:
            w_max = self.w_max[batch.channel]
            ratio = (weight / w_max).abs()
            excess, size = float((ratio - 1).clamp(min=0).sum()), float(ratio.sum())
            mask, u = accept(weight, w_max, rng)
        summary = ChunkSummary(
            index=index,
            n_events=len(u),
            n_points=len(batch),
            n_calls=evaluation.n_calls,
            sums=ChannelSums.of(batch, self.integrand.n_channels),
            excess=excess,
            size=size,
        )
        squared = evaluation.squared
        known = None if squared is None else ExactSquared.of_all(squared.value[mask])
        events = self.pick(evaluation.points.select(mask), u, rng, known)
        return Chunk(summary=summary, events=events)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkPlan:
    """How many chunks hold the events that are wanted.

    Their number follows from the efficiency that was measured before, with a margin of four standard
    deviations: to stop when the events are there would favour chunks with large weights, and bias the
    cross section. More are made, one after another, only where the margin was not enough.
    """

    n_events: int
    chunk_size: int
    n_planned: int
    max_points: int

    @classmethod
    def of(cls, run: RunCard, share: float, error: float) -> ChunkPlan:
        """The plan for what a card asks for.

        Args:
            share: of the points that become events, as measured.
            error: its standard deviation.
        """
        # A tail that is hardly known has errors as large as the efficiency.
        share = max(share - _MARGIN * error, share / 2)
        wanted = run.n_events + _MARGIN * math.sqrt(run.n_events)
        n_planned = math.ceil(wanted / (share * run.chunk_size))
        return cls(
            n_events=run.n_events,
            chunk_size=run.chunk_size,
            n_planned=n_planned,
            max_points=run.max_points or _GENEROUS * n_planned * run.chunk_size,
        )

    @classmethod
    def from_estimate(cls, run: RunCard, measured: Estimate) -> ChunkPlan:
        """The plan by an estimate of the same sampler."""
        return cls.of(run, *yield_of(measured, run.weighted))

    def missing(self, made: Sequence[ChunkSummary]) -> range:
        """The chunks to make after these, the first ones; empty where all is there.

        Raises:
            GenerationError: too many points gave too few events.
        """
        n_events, n_points = sum(c.n_events for c in made), self.chunk_size * len(made)
        if n_points >= self.max_points or len(made) >= self.n_planned:
            if n_events >= self.n_events:
                return range(0)
            if n_points >= self.max_points:
                raise GenerationError(
                    f"{n_events} of {self.n_events} events after {n_points} points: expected more "
                    "from the efficiency that was measured; raise run.max_points or run.n_estimate"
                )
            return range(len(made), len(made) + 1)
        return range(len(made), min(self.n_planned, math.ceil(self.max_points / self.chunk_size)))


def yield_of(measured: Estimate, weighted: bool) -> tuple[float, float]:
    """The share of the points that become events, and its error."""
    return measured.share_inside if weighted else (measured.kept, measured.eps_uw.error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What all points of a sample say together; sums run in the order of the chunks."""

    sums: ChannelSums
    n_points: int
    n_calls: int
    overweight_fraction: float
    """The overweight excess realised on these fresh points; 0 for weighted events."""

    @classmethod
    def of(cls, made: Sequence[ChunkSummary]) -> Totals:
        sums = made[0].sums
        for chunk in made[1:]:
            sums += chunk.sums
        size = math.fsum(chunk.size for chunk in made)
        return cls(
            sums=sums,
            n_points=sum(chunk.n_points for chunk in made),
            n_calls=sum(chunk.n_calls for chunk in made),
            overweight_fraction=math.fsum(c.excess for c in made) / size if size > 0 else 0.0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A sample of events in memory, and what its making says."""

    events: EventBatch
    totals: Totals


def generate(source: ChunkSource, plan: ChunkPlan, progress: Progress) -> Generated:
    """Make the events of a plan in memory; the first ones in chunk order are kept.

    Raises:
        GenerationError: too many points gave too few events.
    """
    made: list[Chunk] = []
    with progress.step(source.title, plan.n_events) as advance:
        while wanted := plan.missing([chunk.summary for chunk in made]):
            for index in wanted:
                made.append(source.chunk(index))
                advance(made[-1].summary.n_events, f"{index + 1} chunks")
    events = EventBatch.concatenate([chunk.events for chunk in made])
    return Generated(
        events=events.select(slice(0, plan.n_events)),
        totals=Totals.of([chunk.summary for chunk in made]),
    )
