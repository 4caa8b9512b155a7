"""Whether a few helicities are drawn for each survivor of the first step: learned, measured, used where it pays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mlgen.cards import Card
from mlgen.core import OneHelicity, PhaseSpacePoints, random_stream
from mlgen.errors import GenerationError, TrainingFailed
from mlgen.events.unweighting import accept, find_w_max
from mlgen.integration.aids import Aids
from mlgen.integration.helicity_prices import HelicityPrices, configurations
from mlgen.integration.learner import LearnerState
from mlgen.integration.measure import estimate_chunks
from mlgen.integration.proposal import Proposal
from mlgen.integration.second_step import DrawnHelicities, drawn_columns
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
"""Survivors at which all configurations are computed, to learn their shares. In g g > t t~ g g, at one
s_max, eps_2 with one drawn was 0.74 with so many, and 0.77 with 100k (ORDER = 4)."""
N_PROBED = 1024
"""Points that tell what things cost."""
CALLS_OF_PRICES = 8
"""Matrix elements for each of those points."""
USUAL_EPS_2, USUAL_KEPT = 0.6, 0.9
"""Of survivors with one helicity, and of all points in units of what is kept with all: expected before
anything is known."""
DRAWS = (1, 2, 3, 4, 6, 8)
"""How many helicities of a survivor may be drawn."""
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
            return self._drawn(amplitude, estimate)
        except (TrainingFailed, GenerationError) as failure:
            warning = f"drawing helicities failed: {failure}; all are computed"
            return replace(self._all(warning), warnings=(warning,))

    def _drawn(self, amplitude: OneHelicity, estimate: Estimator) -> SecondStepChoice:
        aids, card, measured = self._aids, self._card, self._measured
        prices = self._prices(amplitude).settled(aids.checkpoints.settle)
        us_all = measured.us_per_event + prices.us_per_pick
        saved_s = 1e-6 * card.run.n_events * (us_all - self._expected_us(prices))
        costs_s = self._learning_s(prices)
        if card.surrogate.helicities == "auto" and saved_s < MARGIN * costs_s:
            return self._all(
                f"a few drawn would save about {saved_s:.3g} s, and take {costs_s:.3g} s to learn"
            )
        second = self._learned(amplitude, prices)
        drawn = replace(self._integrand, second=second)
        us_survivor = prices.us_of_survivor(second.n_draws)
        found = estimate(drawn, "surrogate, helicities drawn", measured.us_per_point / us_survivor)
        self._n_calls += found.n_calls
        us_drawn, us_all = (
            us / of.efficiency.alpha for us, of in ((found.us_per_event, found), (us_all, measured))
        )
        reason = (
            f"an event takes about {us_drawn:.3g} us with {second.n_draws} drawn for each point, and "
            f"{us_all:.3g} us with all"
        )
        if card.surrogate.helicities == "auto" and us_drawn > us_all:
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
        us_per_point, (kept, _) = self._measured.us_per_point, self._measured.kept
        return us_per_point / (USUAL_KEPT * kept) + prices.us_per_drawn / USUAL_EPS_2

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

    def _learned(self, amplitude: OneHelicity, prices: HelicityPrices) -> DrawnHelicities:
        """What draws helicities, learned once.

        Raises:
            TrainingFailed: there are too few points, or a loss is not finite.
        """
        integrand, aids, seed = self._integrand.integrand, self._aids, self._card.run.seed
        known = configurations(integrand, amplitude)
        if (state := aids.checkpoints.load(PURPOSE)) is not None:
            shares = restore_shares(integrand.groups, self._model, known, state.tensors)
            n_draws = int(state.numbers["n_draws"])
            return DrawnHelicities(amplitude=amplitude, shares=shares, n_draws=n_draws)
        tables = self._tables(amplitude)
        started = start_shares(integrand.groups, self._model, known, seed)
        shares = train_shares(started, tables, self._card.surrogate, seed, aids.progress)
        n_draws = self._best_draws(shares, tables, prices)
        numbers = {"n_draws": float(n_draws)}
        aids.checkpoints.store(PURPOSE, LearnerState(tensors=shares.state(), numbers=numbers))
        return DrawnHelicities(amplitude=amplitude, shares=shares, n_draws=n_draws)

    def _tables(self, amplitude: OneHelicity) -> list[tuple[Tensor, Tensor]]:
        """Momenta of survivors, and |M|² of each configuration there, for each group."""
        integrand = self._integrand.integrand
        n_points = math.ceil(N_TABLES / self._measured.efficiency.eps_1)
        n_points = min(n_points, MOST_POINTS * self._measured.n_points)
        tables: list[list[tuple[Tensor, Tensor]]] = [[] for _ in integrand.groups]
        for points in self._survivors(n_points, PURPOSE):
            for group, at in integrand.by_group(points.channel):
                momenta = points.momenta[at]
                alpha_s = integrand.alpha_s(momenta, group)
                values = amplitude.helicity_values(momenta, alpha_s, group)
                tables[group].append((momenta, values))
                self._n_calls += len(at)
        return [_joined(parts, integrand.groups[0].n_ext) for parts in tables]

    def _best_draws(
        self,
        shares: HelicityShares,
        tables: Sequence[tuple[Tensor, Tensor]],
        prices: HelicityPrices,
    ) -> int:
        """With how many draws for each survivor an event is expected to cost least."""
        run, us_per_point = self._card.run, self._measured.us_per_point
        first_us = us_per_point / self._measured.efficiency.eps_1
        costs = {}
        for n_draws in DRAWS:
            rng = random_stream(run.seed, "probe draws", n_draws)
            ratio = torch.cat(
                [
                    _ratios(q, values, n_draws, rng)
                    for group, (momenta, values) in enumerate(tables)
                    if (q := shares(momenta, group)) is not None
                ]
            )
            eps_2 = float(ratio.mean()) / find_w_max(ratio, run.overweight_budget)
            costs[n_draws] = (first_us + prices.us_of_survivor(n_draws)) / eps_2
        return min(costs, key=lambda n_draws: costs[n_draws])


def _ratios(q: Tensor, values: Tensor, n_draws: int, rng: torch.Generator) -> Tensor:
    """What draws make of |M|², relatively: (n,), from q and values (n, n_helicities)."""
    uniform = torch.rand(len(q), generator=rng, dtype=torch.float64)
    drawn = drawn_columns(q, uniform, n_draws)
    p = values / values.sum(1, keepdim=True)
    return (p.gather(1, drawn) / q.gather(1, drawn)).mean(1)


def _joined(parts: list[tuple[Tensor, Tensor]], n_ext: int) -> tuple[Tensor, Tensor]:
    if not parts:
        return torch.empty(0, n_ext, 4, dtype=torch.float64), torch.empty(0, 1, dtype=torch.float64)
    momenta, values = (torch.cat(column) for column in zip(*parts, strict=True))
    return momenta, values
