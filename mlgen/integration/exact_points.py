"""Points at which the exact |M|² was computed, kept for what learns it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import Evaluation, Progress, random_stream
from mlgen.errors import GenerationError
from mlgen.integration.integrand import ProcessEvaluation, ProcessIntegrand
from mlgen.integration.proposal import Proposal, draw
from mlgen.surrogates.sample import AmplitudeSample

MOST_TRIES = 10_000
"""Points that are drawn for one inside the cuts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactPoints:
    """Points inside the cuts, and their |M|²."""

    momenta: Tensor
    """(n, n_ext, 4), GeV."""
    channel: Tensor
    """(n,), int64."""
    squared: Tensor
    """(n,), |M|², GeV^(8 - 2 n_ext)."""

    @classmethod
    def of(cls, evaluation: Evaluation) -> Self | None:
        """Those of an evaluation; None where it is of no process.

        A point whose |M|² is a surrogate's is none of them, nor one outside the cuts.
        """
        if not isinstance(evaluation, ProcessEvaluation) or evaluation.squared is None:
            return None
        squared = evaluation.squared
        at = ((squared.value != 0) & (squared.std == 0)).nonzero()[:, 0]
        points = evaluation.points.select(at)
        return cls(momenta=points.momenta, channel=points.channel, squared=squared.value[at])

    def __len__(self) -> int:
        return len(self.channel)

    def select(self, index: Tensor | slice) -> Self:
        """The points at an index, mask or slice."""
        return type(self)(
            momenta=self.momenta[index], channel=self.channel[index], squared=self.squared[index]
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of several batches, in their order."""
        return cls(
            momenta=torch.cat([part.momenta for part in parts]),
            channel=torch.cat([part.channel for part in parts]),
            squared=torch.cat([part.squared for part in parts]),
        )


def draw_exact(
    integrand: ProcessIntegrand,
    proposal: Proposal,
    n: int,
    run: RunCard,
    title: str,
    progress: Progress,
) -> ExactPoints:
    """The first n points inside the cuts that a sampler draws, with their matrix elements.

    Raises:
        GenerationError: hardly any point passes the cuts.
        NonFiniteWeight: a weight is NaN or infinite.
    """
    parts: list[ExactPoints] = []
    found = n_drawn = 0
    with progress.step(title, n) as advance:
        while found < n:
            rng = random_stream(run.seed, title, len(parts))
            _, evaluation = draw(integrand, proposal, run.chunk_size, rng)
            part = ExactPoints.of(evaluation)
            if part is not None:
                parts.append(part)
                advance(min(len(part), n - found), "")
                found += len(part)
            n_drawn += run.chunk_size
            if found * MOST_TRIES < n_drawn:
                raise GenerationError(
                    f"{found} of {n_drawn} points pass the cuts: expected more to learn from"
                )
    return ExactPoints.joined(parts).select(slice(0, n))


def samples_of(
    kept: Iterable[ExactPoints], integrand: ProcessIntegrand, max_points: int
) -> list[AmplitudeSample]:
    """What a surrogate learns of each group: the last points, of all groups together at most so many."""
    parts: deque[ExactPoints] = deque()
    n_points = 0
    for part in kept:
        parts.append(part)
        n_points += len(part)
        # All that was kept may be more than there is memory for.
        while n_points - len(parts[0]) >= max_points:
            n_points -= len(parts.popleft())
    n_ext = integrand.groups[0].n_ext
    empty = ExactPoints(
        momenta=torch.empty(0, n_ext, 4, dtype=torch.float64),
        channel=torch.empty(0, dtype=torch.int64),
        squared=torch.empty(0, dtype=torch.float64),
    )
    points = ExactPoints.joined([empty, *parts])
    skipped = max(0, len(points) - max_points)
    group = torch.tensor([c.group for c in integrand.phase_space.channels])[points.channel]
    group[:skipped] = -1
    found = []
    for index, of_group in enumerate(integrand.groups):
        mine = group == index
        momenta, squared = points.momenta[mine], points.squared[mine]
        mu_r, _ = integrand.scales(momenta, index)
        alpha_s = integrand.coupling(mu_r.square())
        found.append(AmplitudeSample.of(momenta, squared, alpha_s, of_group))
    return found
