"""What a single helicity configuration costs beside all of them, measured before shares are learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor

from mlgen.cards import Card
from mlgen.core import OneHelicity, PhaseSpacePoints, random_stream
from mlgen.errors import MatrixElementError
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.picking import pick_helicity
from mlgen.integration.second_step import DrawnHelicities
from mlgen.integration.timing import seconds_of
from mlgen.physics.model import Model
from mlgen.surrogates.helicity_shares import HelicityShares, seconds_to_train, start_shares

N_CHECKED = 4
"""Points of each group at which the configurations must sum to |M|²."""
TOLERANCE = 1e-6
N_SEVERAL = 4
"""Configurations that tell what a further one costs."""
LEAST_MORE = 0.1
"""Of the first one, what a further one costs at least, whatever the difference of two noisy times says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HelicityPrices:
    """Wall-clock costs: microseconds a point, but where another unit is named."""

    us_per_drawn: float
    """Of drawing one configuration, and its |M|²."""
    us_per_more: float
    """Of each further one."""
    us_per_table: float
    """Of |M|² of each configuration."""
    us_per_pick: float
    """Of picking one where |M|² is known."""
    training_s: float
    """Seconds, of all groups."""

    @classmethod
    def measured(
        cls,
        integrand: ProcessIntegrand,
        amplitude: OneHelicity,
        points: PhaseSpacePoints,
        card: Card,
        model: Model,
    ) -> Self:
        """Prices by a few points inside the cuts.

        Raises:
            MatrixElementError: the configurations do not sum to |M|².
        """
        untrained = start_shares(integrand.groups, model, configurations(integrand, amplitude))
        drawing = DrawnHelicities(amplitude=amplitude, shares=HelicityShares(untrained))
        rng = random_stream(card.run.seed, "probe helicities", 0)
        drawing(integrand, points, rng)  # the first call fills caches
        several = replace(drawing, n_draws=N_SEVERAL)
        drawn_s, several_s = (
            seconds_of(partial(step, integrand, points, rng)) for step in (drawing, several)
        )
        more_s = max((several_s - drawn_s) / (N_SEVERAL - 1), LEAST_MORE * drawn_s)
        table_s = pick_s = 0.0
        for group, at in integrand.by_group(points.channel):
            momenta = points.momenta[at]
            alpha_s = integrand.alpha_s(momenta, group)
            check_sum(amplitude, momenta[:N_CHECKED], alpha_s[:N_CHECKED], group)
            total = amplitude(momenta, alpha_s, group).value
            table = partial(amplitude.helicity_values, momenta, alpha_s, group)
            pick = partial(pick_helicity, amplitude, momenta, alpha_s, total, group, rng)
            table_s, pick_s = table_s + seconds_of(table), pick_s + seconds_of(pick)
        per_point = 1e6 / max(len(points), 1)
        return cls(
            us_per_drawn=per_point * drawn_s,
            us_per_more=per_point * more_s,
            us_per_table=per_point * table_s,
            us_per_pick=per_point * pick_s,
            training_s=seconds_to_train(untrained, card.surrogate),
        )

    def us_of_survivor(self, n_draws: int) -> float:
        """Of so many configurations."""
        return self.us_per_drawn + (n_draws - 1) * self.us_per_more

    def settled(self, settle: Callable[[str, float], float]) -> Self:
        """The prices that were settled on before, where they were."""
        names = ("us_per_drawn", "us_per_more", "us_per_table", "us_per_pick", "training_s")
        values = {name: settle(f"helicities.{name}", getattr(self, name)) for name in names}
        return replace(self, **values)


def configurations(integrand: ProcessIntegrand, amplitude: OneHelicity) -> Sequence[Tensor]:
    """Those of each group, (n_helicities, n_ext)."""
    return [amplitude.helicities(group) for group in range(len(integrand.groups))]


def check_sum(amplitude: OneHelicity, momenta: Tensor, alpha_s: Tensor, group: int) -> None:
    """See that the configurations, one by one, sum to |M|².

    Raises:
        MatrixElementError: they do not.
    """
    expected = amplitude(momenta, alpha_s, group).value
    found = torch.zeros_like(expected)
    for index in range(len(amplitude.helicities(group))):
        helicity = torch.full_like(alpha_s, index, dtype=torch.int64)
        found += amplitude.helicity_value(momenta, alpha_s, helicity, group)
    if not torch.allclose(found, expected, rtol=TOLERANCE, atol=0.0):
        raise MatrixElementError(
            f"the helicities, one by one, sum to {found.tolist()}: expected |M|² = "
            f"{expected.tolist()}"
        )
