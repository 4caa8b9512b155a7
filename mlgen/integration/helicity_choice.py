"""Whether one helicity is drawn for each survivor of the first step: learned, measured, used where it pays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mlgen.cards import Card
from mlgen.core import OneHelicity, PhaseSpacePoints
from mlgen.errors import GenerationError, TrainingFailed
from mlgen.events.unweighting import accept
from mlgen.integration.aids import Aids
from mlgen.integration.helicity_prices import HelicityPrices, configurations
from mlgen.integration.learner import LearnerState
from mlgen.integration.measure import estimate_chunks
from mlgen.integration.proposal import Proposal
from mlgen.integration.second_step import DrawnHelicity
from mlgen.integration.two_stage import SurrogateIntegrand
from mlgen.integration.two_stage_estimate import MOST_POINTS, TwoStageEstimate
from mlgen.physics.model import Model
from mlgen.surrogates.helicity_shares import (
    HelicityShares,
    restore_shares,
    start_shares,
    train_shares,
)

PURPOSE = "helicities"
N_TABLES = 30_000
"""Survivors at which all configurations are computed, to learn their shares: see docs/structure.md."""
N_PROBED = 1024
"""Points that tell what things cost."""
CALLS_OF_PRICES = 5
"""Matrix elements for each of those points."""
USUAL_EPS_2 = 0.6
"""Of survivors with one helicity, expected before anything is known."""
MARGIN = 1.5
"""Shares must be expected to save so many times what learning them takes."""


class Estimator(Protocol):
    """Measures two-stage unweighting by fresh points."""

    def __call__(
        self, integrand: SurrogateIntegrand, purpose: str, cost_ratio: float
    ) -> TwoStageEstimate:
        """See `estimate_two_stage`; the purpose names its random streams and its settled times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecondStepChoice:
    """What the second step computes, and what it keeps."""

    integrand: SurrogateIntegrand
    measured: TwoStageEstimate
    reason: str
    n_calls: int = 0
    """Exact matrix elements computed for the choice."""
    warnings: tuple[str, ...] = ()


class HelicityChoice:
    """The choice for a surrogate that was measured with all helicities."""

    def __init__(
        self,
        integrand: SurrogateIntegrand,
        measured: TwoStageEstimate,
        proposal: Proposal,
        card: Card,
        model: Model,
        aids: Aids,
    ) -> None:
        self._integrand, self._measured, self._proposal = integrand, measured, proposal
        self._card, self._model, self._aids = card, model, aids
        self._n_calls = 0

    def run(self, estimate: Estimator) -> SecondStepChoice:
        """Learn shares where they are expected to pay, and take them where they do.

        Raises:
            MatrixElementError: the configurations do not sum to |M|².
        """
        wanted, amplitude = self._card.surrogate.helicities, self._integrand.integrand.amplitude
        if wanted == "all":
            return self._all("the card asks for all")
        if not isinstance(amplitude, OneHelicity):
            return self._all("the matrix element has no single ones")
        groups = range(len(self._integrand.integrand.groups))
        if max(len(amplitude.helicities(group)) for group in groups) == 1:
            return self._all("there is one")
        try:
            return self._one(amplitude, estimate)
        except (TrainingFailed, GenerationError) as failure:
            warning = f"drawing helicities failed: {failure}; all are computed"
            return replace(self._all(warning), warnings=(warning,))

    def _one(self, amplitude: OneHelicity, estimate: Estimator) -> SecondStepChoice:
        aids, card, measured = self._aids, self._card, self._measured
        prices = self._prices(amplitude).settled(aids.checkpoints.settle)
        us_all = measured.us_per_event + prices.us_per_pick
        saved_s = 1e-6 * card.run.n_events * (us_all - self._expected_us(prices))
        costs_s = self._learning_s(prices)
        if card.surrogate.helicities == "auto" and saved_s < MARGIN * costs_s:
            return self._all(
                f"one for each point would save about {saved_s:.3g} s, and take {costs_s:.3g} s to learn"
            )
        second = DrawnHelicity(amplitude=amplitude, shares=self._learned(amplitude))
        drawn = replace(self._integrand, second=second)
        found = estimate(
            drawn, "surrogate, one helicity", measured.us_per_point / prices.us_per_drawn
        )
        self._n_calls += found.n_calls
        us_one, us_all = (
            us / of.efficiency.alpha for us, of in ((found.us_per_event, found), (us_all, measured))
        )
        reason = f"an event takes about {us_one:.3g} us with one for each point, and {us_all:.3g} us with all"
        if card.surrogate.helicities == "auto" and us_one > us_all:
            return self._all(reason)
        return SecondStepChoice(
            integrand=drawn, measured=found, reason=reason, n_calls=self._n_calls
        )

    def _all(self, reason: str) -> SecondStepChoice:
        return SecondStepChoice(
            integrand=self._integrand,
            measured=self._measured,
            reason=reason,
            n_calls=self._n_calls,
        )

    def _expected_us(self, prices: HelicityPrices) -> float:
        """Of an event with one helicity for each survivor."""
        measured = self._measured
        return (
            measured.us_per_point / measured.efficiency.eps_1 + prices.us_per_drawn
        ) / USUAL_EPS_2

    def _learning_s(self, prices: HelicityPrices) -> float:
        """Seconds to learn shares, and to measure what they are worth."""
        measured = self._measured
        us = measured.n_points * measured.us_per_point
        us += measured.n_survivors * prices.us_per_drawn
        us += N_TABLES * (measured.us_per_point / measured.efficiency.eps_1 + prices.us_per_table)
        return prices.training_s + 1e-6 * us

    def _survivors(self, n_points: int, title: str) -> list[PhaseSpacePoints]:
        """What the first step leaves of so many fresh points."""
        maxima, run = self._measured.maxima, self._card.run
        proposal = replace(self._proposal, fractions=maxima.fractions)
        found = []
        with self._aids.progress.step(f"drawing points to learn {title}", n_points) as advance:
            for n, rng in estimate_chunks(replace(run, n_estimate=n_points), title):
                drawn = self._integrand.draw(proposal, n, rng)
                kept, _ = accept(drawn.s(maxima.floor), maxima.s_max[drawn.channel], rng)
                found.append(drawn.points.select(kept))
                self._n_calls += drawn.n_exact
                advance(n, "")
        return found

    def _prices(self, amplitude: OneHelicity) -> HelicityPrices:
        """By a few points that change nothing.

        Raises:
            MatrixElementError: the configurations do not sum to |M|².
        """
        n_points = math.ceil(N_PROBED / self._measured.efficiency.eps_1)
        points = self._survivors(min(n_points, self._card.run.chunk_size), "helicities, probe")[0]
        self._n_calls += CALLS_OF_PRICES * len(points)
        integrand = self._integrand.integrand
        return HelicityPrices.measured(integrand, amplitude, points, self._card, self._model)

    def _learned(self, amplitude: OneHelicity) -> HelicityShares:
        """The shares, learned once.

        Raises:
            TrainingFailed: there are too few points, or a loss is not finite.
        """
        integrand, aids = self._integrand.integrand, self._aids
        known = configurations(integrand, amplitude)
        if (state := aids.checkpoints.load(PURPOSE)) is not None:
            return restore_shares(integrand.groups, self._model, known, state.tensors)
        n_points = math.ceil(N_TABLES / self._measured.efficiency.eps_1)
        n_points = min(n_points, MOST_POINTS * self._measured.n_points)
        tables: list[list[tuple[Tensor, Tensor]]] = [[] for _ in integrand.groups]
        for points in self._survivors(n_points, PURPOSE):
            for group, at in integrand.by_group(points.channel):
                momenta = points.momenta[at]
                values = amplitude.helicity_values(
                    momenta, integrand.alpha_s(momenta, group), group
                )
                tables[group].append((momenta, values))
                self._n_calls += len(at)
        learned = train_shares(
            start_shares(integrand.groups, self._model, known, self._card.run.seed),
            [_joined(parts, integrand.groups[0].n_ext) for parts in tables],
            self._card.surrogate,
            self._card.run.seed,
            aids.progress,
        )
        aids.checkpoints.store(PURPOSE, LearnerState(tensors=learned.state(), numbers={}))
        return learned


def _joined(parts: list[tuple[Tensor, Tensor]], n_ext: int) -> tuple[Tensor, Tensor]:
    if not parts:
        return torch.empty(0, n_ext, 4, dtype=torch.float64), torch.empty(0, 1, dtype=torch.float64)
    momenta, values = (torch.cat(column) for column in zip(*parts, strict=True))
    return momenta, values
