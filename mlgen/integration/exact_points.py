"""Points at which the exact |M|² was computed, kept for what learns it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mlgen.core import Evaluation
from mlgen.integration.integrand import ProcessEvaluation, ProcessIntegrand
from mlgen.surrogates.sample import AmplitudeSample


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

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of several batches, in their order."""
        return cls(
            momenta=torch.cat([part.momenta for part in parts]),
            channel=torch.cat([part.channel for part in parts]),
            squared=torch.cat([part.squared for part in parts]),
        )


def samples_of(
    kept: Iterable[ExactPoints], integrand: ProcessIntegrand, max_points: int
) -> list[AmplitudeSample]:
    """What a surrogate learns of each group: the last points, of all groups together at most so many."""
    parts = list(kept)
    while parts and sum(map(len, parts[1:])) >= max_points:
        parts.pop(0)
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
