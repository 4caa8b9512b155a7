"""What the second step of two-stage unweighting computes for a survivor of the first one.

Either |M|² of all helicities, or that of k configurations h_i, each drawn with a probability q(h | point):

    sum_i r_i / k,  r_i = |M_h_i|² / q(h_i | point),  whose mean is  sum_h |M_h|² = |M|².

The second step takes it for |M|². It is as exact, whatever q is, as long as q is positive: the mean
weight that a point leaves is linear in the weight of its survivor, and has its mean. With one of the h_i
for its helicities, in proportion to r_i, an event with h comes in proportion to the mean of the sum of
those r_i / k with h_i = h: to |M_h|². So they are picked already. A q that is far off costs survivors,
never the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from mlgen.core import OneHelicity, PhaseSpacePoints
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.surrogates.helicity_shares import HelicityShares

ALL = -1
"""In place of the index of a configuration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactSquared:
    """|M|² of points, of all helicities or of one of them for each point."""

    value: Tensor
    """(n,), that of all helicities, or of one of them over the probability that it was drawn with."""
    helicity: Tensor
    """(n,), int64, which one: an index into `core.ResolvedAmplitude.helicities`, or `ALL`."""

    @classmethod
    def of_all(cls, value: Tensor) -> Self:
        """|M|² (n,) of all helicities."""
        return cls(value=value, helicity=torch.full_like(value, ALL, dtype=torch.int64))

    def select(self, index: Tensor) -> Self:
        """The points at an index or mask."""
        return type(self)(value=self.value[index], helicity=self.helicity[index])


class SecondStep(Protocol):
    """What is computed for survivors of the first step: on average |M|², at each point."""

    def __call__(
        self, integrand: ProcessIntegrand, points: PhaseSpacePoints, rng: torch.Generator
    ) -> ExactSquared:
        """At points inside the cuts."""


@dataclass(frozen=True, slots=True)
class AllHelicities:
    """|M|², summed over helicities."""

    def __call__(
        self, integrand: ProcessIntegrand, points: PhaseSpacePoints, rng: torch.Generator
    ) -> ExactSquared:
        return ExactSquared.of_all(integrand.squared(points, integrand.amplitude).value)


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnHelicities:
    """|M|² of a few configurations for each point, drawn from learned shares."""

    amplitude: OneHelicity
    shares: HelicityShares
    n_draws: int = 1

    def __call__(
        self, integrand: ProcessIntegrand, points: PhaseSpacePoints, rng: torch.Generator
    ) -> ExactSquared:
        uniform = torch.rand(2, len(points), generator=rng, dtype=torch.float64).to(points.x.device)
        found = ExactSquared.of_all(torch.empty_like(points.log_jac))
        for group, at in integrand.by_group(points.channel):
            momenta = points.momenta[at]
            alpha_s, q = integrand.alpha_s(momenta, group), self.shares(momenta, group)
            if q is None:
                found.value[at] = integrand.amplitude(momenta, alpha_s, group).value
                continue
            helicity = drawn_columns(q, uniform[0, at], self.n_draws)
            squared = self.amplitude.helicity_value(
                momenta.repeat_interleave(self.n_draws, 0),
                alpha_s.repeat_interleave(self.n_draws, 0),
                helicity.flatten(),
                group,
            )
            ratio = squared.reshape(helicity.shape) / q.gather(1, helicity)
            found.value[at] = ratio.mean(1)
            picked = drawn_columns(ratio, uniform[1, at], 1)
            found.helicity[at] = helicity.gather(1, picked)[:, 0]
        return found


def drawn_columns(parts: Tensor, uniform: Tensor, n_draws: int) -> Tensor:
    """Columns of each row (n, k), drawn in proportion to their parts, for uniform (n,) in [0, 1).

    Drawings of a row are evenly spaced: each is in proportion, and they differ as much as they can.

    Returns:
        (n, n_draws), int64, ascending.
    """
    edges = parts.cumsum(1)
    every = uniform[:, None] + torch.arange(n_draws, device=uniform.device)
    above = torch.searchsorted(edges, every / n_draws * edges[:, -1:], right=True)
    return above.clamp(max=parts.shape[1] - 1)
