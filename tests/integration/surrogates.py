"""Processes that are ready to be unweighted in one stage or in two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from benchmarks.distorted import Distorted, ErrorOf, corner, far_off, humble_corner, waves
from mlgen.build import Process
from mlgen.cards import RunCard
from mlgen.core import EventBatch
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.generate import Chunk, Totals
from mlgen.integration.measure import Estimate, estimate
from mlgen.integration.proposal import Proposal
from mlgen.integration.trust import Trust
from mlgen.integration.two_stage import SurrogateIntegrand, TwoStageSource
from mlgen.integration.two_stage_estimate import TwoStageEstimate, estimate_two_stage
from tests.integration.toys import process

N_CHUNKS = 24

QUALITIES: dict[str, tuple[ErrorOf, Trust]] = {
    "good": (waves(0.02), Trust()),
    "rough": (waves(0.35), Trust()),
    "wrong in a corner": (corner, Trust()),
    "wrong in a corner, and says so": (humble_corner, Trust()),
    "wrong in a corner, and not asked there": (humble_corner, Trust(max_relative_std=0.5)),
    "far off": (far_off, Trust()),
}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A process with an adapted grid, ready for either way to unweight."""

    process: Process
    proposal: Proposal
    measured: Estimate
    card: RunCard

    def surrogate(self, quality: str) -> SurrogateIntegrand:
        exact = self.process.integrand.amplitude
        error, trust = QUALITIES[quality]
        return SurrogateIntegrand(
            integrand=self.process.integrand,
            surrogate=Distorted(amplitude=exact, error=error),
            trust=trust,
        )

    def estimate(self, integrand: SurrogateIntegrand) -> TwoStageEstimate:
        return estimate_two_stage(
            integrand, self.proposal, self.card, "two stages", SilentProgress(), n_survivors=10_000
        )

    def source(
        self, integrand: SurrogateIntegrand, measured: TwoStageEstimate, seed: int = 1
    ) -> TwoStageSource:
        return TwoStageSource(
            integrand=integrand,
            pick=self.process.picker,
            proposal=replace(self.proposal, fractions=measured.maxima.fractions),
            maxima=measured.maxima,
            run=replace(self.card, seed=seed),
        )


@cache
def prepared(name: str, *overrides: str) -> Prepared:
    made = process(name, *overrides)
    grid, fractions, _ = adapt_grid(made.integrand, made.card.vegas, 1, SilentProgress())
    proposal = Proposal(sampler=grid, fractions=fractions)
    card = RunCard(n_estimate=40_000, chunk_size=4096, seed=1, overweight_budget=0.01)
    measured = estimate(made.integrand, proposal, card, "one stage", SilentProgress())
    return Prepared(process=made, proposal=proposal, measured=measured, card=card)


@cache
def estimated(name: str, quality: str) -> TwoStageEstimate:
    return prepared(name).estimate(prepared(name).surrogate(quality))


def source(name: str, quality: str) -> TwoStageSource:
    made = prepared(name)
    return made.source(made.surrogate(quality), estimated(name, quality))


def totals(chunks: list[Chunk]) -> Totals:
    return Totals.of([chunk.summary for chunk in chunks])


def joined(chunks: list[Chunk]) -> EventBatch:
    return EventBatch.concatenate([chunk.events for chunk in chunks])


@cache
def chunks_of(quality: str, *, second_step: bool = True) -> list[Chunk]:
    made = source("pp_to_eej", quality)
    # The same points, and more: other titles are independent of the reference.
    made = replace(made, title="two stages")
    if not second_step:
        surrogate = made.integrand.surrogate
        believed = replace(made.integrand.integrand, amplitude=surrogate)
        made = replace(made, integrand=replace(made.integrand, integrand=believed))
    return [made.chunk(index) for index in range(N_CHUNKS)]
