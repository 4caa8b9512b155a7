"""Events by a surrogate of |M|²: it decides about each point, the exact |M|² about those that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import Amplitude, PhaseSpacePoints, TrainingBatch, random_stream
from mlgen.errors import GenerationError
from mlgen.events.two_stage import control_variate
from mlgen.events.unweighting import accept
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.generate import TITLE, Chunk, ChunkSummary
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.picking import EventPicker
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.integration.second_step import AllHelicities, ExactSquared, SecondStep
from mlgen.integration.trust import Trust


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogatePoints:
    """Points, and what a surrogate says of them."""

    batch: TrainingBatch
    """Its values are the weights for each unit of |M|²."""
    points: PhaseSpacePoints
    per_squared: Tensor
    """(n,), the weight within its channel, pb, for each unit of |M|²; 0 outside the cuts."""
    squared: Tensor
    """(n,), |M|² of the surrogate, or the exact one where that is known; 0 outside the cuts."""
    bound: Tensor
    """(n,), what the first step takes for |M|², not negative."""
    is_exact: Tensor
    """(n,), bool: where the surrogate was not trusted."""

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def channel(self) -> Tensor:
        return self.batch.channel

    @property
    def n_exact(self) -> int:
        """How many exact matrix elements were computed."""
        return int(self.is_exact.sum())

    def s(self, floor: Tensor) -> Tensor:
        """The surrogate weight (n,), pb, positive inside the cuts: `bound`, but not below (n_channels,) floors."""
        size = (self.per_squared * self.bound).abs()
        inside = self.per_squared != 0
        return size.maximum(floor[self.channel]).where(inside, torch.zeros_like(size))


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateIntegrand:
    """A process whose |M|² is first a surrogate's, and exact where that is asked for."""

    integrand: ProcessIntegrand
    """With the exact amplitude."""
    surrogate: Amplitude
    """Always the same at the same point."""
    trust: Trust = field(default_factory=Trust)
    second: SecondStep = field(default_factory=AllHelicities)
    """Corrects what the surrogate chose."""

    def draw(self, proposal: Proposal, n: int, rng: torch.Generator) -> SurrogatePoints:
        """Draw n points. The exact |M|² is computed where the surrogate is not to be trusted.

        That depends on the point alone, and so does s: the second step makes up for either.

        Raises:
            NonFiniteWeight: the weight of a point is NaN or infinite.
        """
        batch, evaluation = draw(self.integrand.per_squared, proposal, n, rng)
        points, per_squared = evaluation.points, channel_weight(batch)
        inside = per_squared.nonzero()[:, 0]
        chosen = points.select(inside)
        with torch.no_grad():
            found = self.integrand.squared(chosen, self.surrogate)
        value = found.value.abs()
        unknown = (~self.trust.is_followed(found)).nonzero()[:, 0]
        exact = self.exact(points, per_squared, inside[unknown])
        bound = (value + self.trust.n_std * found.std).index_put((unknown,), exact.abs())

        def everywhere(of_inside: Tensor) -> Tensor:
            return torch.zeros_like(per_squared).index_put((inside,), of_inside)

        return SurrogatePoints(
            batch=batch,
            points=points,
            per_squared=per_squared,
            squared=everywhere(found.value.index_put((unknown,), exact)),
            bound=everywhere(bound),
            is_exact=everywhere(torch.zeros_like(value).index_fill(0, unknown, 1.0)).bool(),
        )

    def exact(self, points: PhaseSpacePoints, per_squared: Tensor, at: Tensor) -> Tensor:
        """The exact |M|² of the points at an index (k,): (k,).

        Raises:
            NonFiniteWeight: a weight is NaN or infinite.
        """
        chosen = points.select(at)
        with torch.no_grad():
            squared = self.integrand.squared(chosen, self.integrand.amplitude).value
        self.integrand.check_finite(squared * per_squared[at], chosen)
        return squared

    def corrected(
        self, points: PhaseSpacePoints, per_squared: Tensor, at: Tensor, rng: torch.Generator
    ) -> ExactSquared:
        """What the second step computes for the k points at an index.

        Raises:
            NonFiniteWeight: a weight is NaN or infinite.
        """
        chosen = points.select(at)
        with torch.no_grad():
            found = self.second(self.integrand, chosen, rng)
        self.integrand.check_finite(found.value * per_squared[at], chosen)
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Maxima:
    """What the two steps compare with, all found on points of their own: (n_channels,) each."""

    floor: Tensor
    """The smallest s inside the cuts, pb."""
    s_max: Tensor
    """pb."""
    x_max: Tensor

    @property
    def fractions(self) -> Tensor:
        """The share of the points of each channel for which its events come out right."""
        product = self.s_max * self.x_max
        return product / product.sum()


@dataclass(frozen=True, kw_only=True, slots=True)
class Survivors:
    """What is left of points after the first step, with their exact weights."""

    kept: Tensor
    """(n,), bool, which of all points they are."""
    channel: Tensor
    """(k,)."""
    s: Tensor
    """(k,), pb."""
    ratio: Tensor
    """(k,), u_1 w / s."""
    squared: Tensor
    """(k,), as `ExactSquared` has it, likewise the next."""
    helicity: Tensor
    """(k,), int64."""
    sums: ChannelSums
    """Of all points: the cross section."""
    n_calls: int
    """Exact matrix elements, also those of points that did not survive."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of several batches of points, in their order."""
        sums = parts[0].sums
        for part in parts[1:]:
            sums += part.sums
        columns = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("kept", "channel", "s", "ratio", "squared", "helicity")
        }
        return cls(**columns, sums=sums, n_calls=sum(part.n_calls for part in parts))


def first_step(
    integrand: SurrogateIntegrand,
    drawn: SurrogatePoints,
    floor: Tensor,
    s_max: Tensor,
    rng: torch.Generator,
) -> Survivors:
    """Let the surrogate choose among points, and correct the weights of those it keeps.

    Args:
        floor, s_max: (n_channels,), pb.

    Raises:
        NonFiniteWeight: an exact weight is NaN or infinite.
        GenerationError: a point inside the cuts comes from a channel with s_max = 0.
    """
    s, of_channel = drawn.s(floor), s_max[drawn.channel]
    kept, u_1 = accept(s, of_channel, rng)
    to_compute = (kept & ~drawn.is_exact).nonzero()[:, 0]
    corrected = integrand.corrected(drawn.points, drawn.per_squared, to_compute, rng)
    exact = drawn.squared.index_put((to_compute,), corrected.value)
    helicity = ExactSquared.of_all(exact).helicity.index_put((to_compute,), corrected.helicity)
    weight = (exact * drawn.per_squared)[kept]
    p_1 = (s / of_channel).clamp(max=1)
    every = control_variate(drawn.squared * drawn.per_squared, weight, kept, p_1)
    return Survivors(
        kept=kept,
        channel=drawn.channel[kept],
        s=s[kept],
        ratio=u_1 * weight / s[kept],
        squared=exact[kept],
        helicity=helicity[kept],
        sums=ChannelSums.of_weights(every, drawn.channel, len(s_max)),
        n_calls=len(to_compute) + drawn.n_exact,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStageSource:
    """Events by a surrogate, then the exact |M|²: a `generate.ChunkSource`."""

    integrand: SurrogateIntegrand
    pick: EventPicker
    proposal: Proposal
    """Its fractions are those of `maxima`."""
    maxima: Maxima
    run: RunCard
    title: str = TITLE

    def __post_init__(self) -> None:
        if self.run.weighted:
            raise GenerationError(
                "run.weighted = true with a surrogate: expected unweighted events, since the exact "
                "weight is known of few points alone"
            )

    def chunk(self, index: int) -> Chunk:
        """See `generate.ChunkSource`."""
        rng = random_stream(self.run.seed, self.title, index)
        drawn = self.integrand.draw(self.proposal, self.run.chunk_size, rng)
        survivors = first_step(self.integrand, drawn, self.maxima.floor, self.maxima.s_max, rng)
        x_max = self.maxima.x_max[survivors.channel]
        size = (survivors.ratio / x_max).abs()
        mask, u = accept(survivors.ratio, x_max, rng)
        summary = ChunkSummary(
            index=index,
            n_events=len(u),
            n_points=len(drawn),
            n_calls=survivors.n_calls,
            sums=survivors.sums,
            excess=float((size - 1).clamp(min=0).sum()),
            size=float(size.sum()),
        )
        points = drawn.points.select(survivors.kept).select(mask)
        known = ExactSquared(value=survivors.squared[mask], helicity=survivors.helicity[mask])
        events = self.pick(points, u, rng, known)
        return Chunk(summary=summary, events=events)
