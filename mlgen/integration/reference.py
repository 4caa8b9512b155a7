"""Weighted events for plots, from the points that measured a sampler: no matrix element is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import AmplitudeValue, EventBatch, PhaseSpace, SubprocessGroup
from mlgen.events.record import UNKNOWN_SPIN
from mlgen.integration.candidates import Candidate
from mlgen.integration.integrand import ProcessEvaluation
from mlgen.integration.measure import estimate_chunks
from mlgen.integration.picking import EventPicker
from mlgen.integration.proposal import draw
from mlgen.physics.variations import Reweighting


def reference_sample(
    candidate: Candidate, pick: EventPicker, card: RunCard, n_events: int
) -> EventBatch:
    """The first points inside cuts that measured a sampler, weighted in pb.

    The points are drawn once more, and their weights are known. Flavours are picked as for any
    event; helicities are unknown, and nothing has a colour or a further weight. No event of the
    run comes from these points.

    Args:
        candidate: the sampler and its measurement.
        pick: what would complete the events.
        card: what the measurement was made with.
        n_events: how many; fewer where the measurement has fewer.
    """
    phase_space = pick.integrand.phase_space
    only_points = _PointsAlone(phase_space=phase_space, n_channels=len(phase_space.channels))
    bare = replace(pick, amplitude=_Undetailed(pick.integrand.groups), reweighting=Reweighting())
    batches: list[EventBatch] = []
    n_found, start = 0, 0
    card = replace(card, n_estimate=len(candidate.measured.weights))
    for n, rng in estimate_chunks(card, candidate.name):
        batch, evaluation = draw(only_points, candidate.proposal, n, rng)
        weight = candidate.measured.weights[start : start + n] / batch.fraction
        inside = weight.nonzero()[: n_events - n_found, 0]
        batches.append(bare(evaluation.points.select(inside), weight[inside], rng))
        n_found, start = n_found + len(inside), start + n
        if n_found == n_events:
            break
    return EventBatch.concatenate(batches)


@dataclass(frozen=True, kw_only=True, slots=True)
class _PointsAlone:
    """An `Integrand` that computes where its points are, and nothing else."""

    phase_space: PhaseSpace
    n_channels: int

    @property
    def n_dim(self) -> int:
        return self.phase_space.n_dim

    @property
    def n_flat(self) -> int:
        return self.phase_space.n_flat

    def __call__(self, r: Tensor, channel: Tensor) -> ProcessEvaluation:
        points = self.phase_space.forward(r, channel)
        return ProcessEvaluation(value=torch.ones_like(points.log_jac), points=points)


@dataclass(frozen=True, slots=True)
class _Undetailed:
    """|M|² = 1, of unknown helicities and without colour."""

    groups: Sequence[SubprocessGroup]

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        value = torch.ones_like(alpha_s)
        return AmplitudeValue(value=value, std=torch.zeros_like(value))

    def helicities(self, group: int) -> Tensor:
        return torch.full((1, self.groups[group].n_ext), int(UNKNOWN_SPIN))

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        return torch.ones_like(alpha_s)[:, None]

    def colour_flows(self, group: int) -> Tensor:
        return torch.zeros((1, self.groups[group].n_ext, 2), dtype=torch.int64)

    def colour_flow_values(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        return torch.ones_like(alpha_s)[:, None]
