"""Surrogates of known quality: the exact |M|² times a function of the momenta."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor

from mlgen.build import Process
from mlgen.cards import RunCard
from mlgen.core import Amplitude, AmplitudeValue
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.measure import Estimate, estimate
from mlgen.integration.proposal import Proposal
from mlgen.integration.two_stage import SurrogateIntegrand, Trust, TwoStageSource
from mlgen.integration.two_stage_estimate import TwoStageEstimate, estimate_two_stage
from mlgen.physics.kinematics import pt
from tests.integration.toys import process

TRUST = Trust()

ErrorOf = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Of momenta (n, n_ext, 4): ln of surrogate over exact value (n,), and its standard deviation (n,)."""


@dataclass(frozen=True, kw_only=True)
class Distorted:
    """An amplitude times the exponential of an error."""

    amplitude: Amplitude
    error: ErrorOf
    asked: list[Tensor] = field(default_factory=list)
    """The momenta of each call so far."""

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        self.asked.append(momenta)
        log_ratio, relative_std = self.error(momenta)
        value = self.amplitude(momenta, alpha_s, group).value * log_ratio.exp()
        return AmplitudeValue(value=value, std=value * relative_std)


def waves(size: float) -> ErrorOf:
    """An error that oscillates too quickly for any histogram to resolve."""

    def error(momenta: Tensor) -> tuple[Tensor, Tensor]:
        phase = momenta[:, 2:, 1:].flatten(1) @ torch.arange(
            1.0, 1 + 3 * (momenta.shape[1] - 2)
        ).to(momenta)
        return size * (0.7 * phase).sin(), torch.full_like(phase, size / 2**0.5)

    return error


def corner(momenta: Tensor) -> tuple[Tensor, Tensor]:
    """Sure of itself, and a factor 3 too small where the first final particle is forward; too large elsewhere."""
    first = momenta[:, 2]
    wrong = torch.where(first[:, 3] > 0.6 * first[:, 0], -1.1, 0.3 * (pt(first) / 20).sin())
    return wrong, torch.full_like(wrong, 0.01)


def humble_corner(momenta: Tensor) -> tuple[Tensor, Tensor]:
    """The same, but it knows where it is wrong."""
    wrong, std = corner(momenta)
    return wrong, std.where(wrong > -1, torch.ones_like(std))


def far_off(momenta: Tensor) -> tuple[Tensor, Tensor]:
    """Wrong by up to a factor 6 either way."""
    wrong = 1.8 * (momenta[:, 2, 1] / 9 + momenta[:, 2, 3] / 50).sin()
    return wrong, torch.full_like(wrong, 0.3)


QUALITIES: dict[str, ErrorOf] = {
    "good": waves(0.03),
    "rough": waves(0.5),
    "wrong in a corner": corner,
    "wrong in a corner, and says so": humble_corner,
    "far off": far_off,
}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A process with an adapted grid, ready for either way to unweight."""

    process: Process
    proposal: Proposal
    measured: Estimate
    card: RunCard

    def surrogate(self, quality: str, trust: Trust = TRUST) -> SurrogateIntegrand:
        amplitude = Distorted(amplitude=self.process.integrand.amplitude, error=QUALITIES[quality])
        return SurrogateIntegrand(
            integrand=self.process.integrand, surrogate=amplitude, trust=trust
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
def prepared(name: str) -> Prepared:
    made = process(name)
    grid, fractions, _ = adapt_grid(made.integrand, made.card.vegas, 1, SilentProgress())
    proposal = Proposal(sampler=grid, fractions=fractions)
    card = RunCard(n_estimate=40_000, chunk_size=4096, seed=1, overweight_budget=0.01)
    measured = estimate(made.integrand, proposal, card, "one stage", SilentProgress())
    return Prepared(process=made, proposal=proposal, measured=measured, card=card)
