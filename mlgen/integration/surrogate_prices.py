"""What a surrogate of |M|² would cost and save, measured before it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Self

import torch

from mlgen.cards import Card
from mlgen.core import OneHelicity, PhaseSpacePoints, random_stream
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.proposal import Proposal, draw
from mlgen.integration.timing import seconds_of
from mlgen.physics.model import Model
from mlgen.surrogates.surrogate import time_of_training, untrained_surrogate

N_PROBED = 2048
"""Points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Wall-clock costs: microseconds for each point that is drawn, but where another unit is named."""

    us_per_point: float
    """Of a point, and what it weighs for each unit of |M|²."""
    us_per_squared: float
    """Of the exact |M|², zeros outside the cuts counted."""
    us_per_prediction: float
    """Of the surrogate's, likewise."""
    share_inside: float
    """Of the points that are inside the cuts."""
    training_s: float
    """Seconds, of all groups."""
    us_per_drawn: float | None = None
    """Of one helicity configuration of a point inside the cuts; None where all are computed."""

    @property
    def us_per_call(self) -> float:
        """Of the exact |M|² of a point inside the cuts."""
        return self.us_per_squared / self.share_inside

    @property
    def us_per_survivor(self) -> float:
        """Of what the second step computes, where that is cheapest."""
        drawn = self.us_per_drawn
        return self.us_per_call if drawn is None else min(self.us_per_call, drawn)

    @property
    def cost_ratio(self) -> float:
        """t_s / t_f: of a point with the surrogate, over the exact |M|² of one inside the cuts."""
        return (self.us_per_point + self.us_per_prediction) / self.us_per_call

    @classmethod
    def measured(
        cls, integrand: ProcessIntegrand, proposal: Proposal, card: Card, model: Model
    ) -> tuple[Self, int]:
        """Prices by a few points that change nothing, and how many matrix elements that took."""
        rng = random_stream(card.run.seed, "probe surrogate", 0)
        untrained = untrained_surrogate(integrand.groups, model, card.surrogate)

        def drawn() -> PhaseSpacePoints:
            _, evaluation = draw(integrand.per_squared, proposal, N_PROBED, rng)
            return evaluation.points.select(evaluation.value != 0)

        inside = drawn()
        each = torch.arange(min(len(inside), 256))
        for amplitude in (untrained, integrand.amplitude):  # the first call fills caches
            integrand.squared(inside.select(each), amplitude)
        spent_drawing = seconds_of(drawn)
        spent_exact = seconds_of(lambda: integrand.squared(inside, integrand.amplitude))
        spent_predicting = seconds_of(lambda: integrand.squared(inside, untrained))
        per_point = 1e6 / N_PROBED
        training_s = time_of_training(integrand.groups, model, card.surrogate)
        prices = cls(
            us_per_point=per_point * spent_drawing,
            us_per_squared=per_point * spent_exact,
            us_per_prediction=per_point * spent_predicting,
            share_inside=max(len(inside), 1) / N_PROBED,
            training_s=training_s,
            us_per_drawn=_us_per_drawn(integrand, inside, card),
        )
        return prices, len(inside) + len(each)

    def settled(self, settle: Callable[[str, float], float], purpose: str) -> Self:
        """The prices that were settled on before for this purpose, where they were."""
        measured = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {
            name: settle(f"{purpose}.{name}", value)
            for name, value in measured.items()
            if value is not None
        }
        return replace(self, **values)


def _us_per_drawn(
    integrand: ProcessIntegrand, points: PhaseSpacePoints, card: Card
) -> float | None:
    """Of one configuration of a point; None where all are computed."""
    amplitude = integrand.amplitude
    if card.surrogate.helicities == "all" or not isinstance(amplitude, OneHelicity):
        return None
    total_s = 0.0
    for group, at in integrand.by_group(points.channel):
        momenta, n_helicities = points.momenta[at], len(amplitude.helicities(group))
        helicity = torch.arange(len(at), device=at.device) % n_helicities
        alpha_s = integrand.alpha_s(momenta, group)
        work = partial(amplitude.helicity_value, momenta, alpha_s, helicity, group)
        total_s += seconds_of(work)
    return 1e6 * total_s / max(len(points), 1)
