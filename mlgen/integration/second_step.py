"""What the second step of two-stage unweighting computes for a survivor of the first one.

Either |M|² of all helicities, or that of one configuration h, drawn with a probability q(h | point):

    |M_h|² / q(h | point),  whose mean over h is  sum_h |M_h|² = |M|².

The second step takes it for |M|². It is as exact, whatever q is, as long as q is positive: the mean
weight that a point leaves is linear in the weight of its survivor, and has its mean. And an event with
the helicities h comes in proportion to q(h | point) |M_h|² / q(h | point) = |M_h|², so that its helicities are
picked already. A q that is far off costs survivors, never the answer.
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
class DrawnHelicity:
    """|M|² of one configuration for each point, drawn from learned shares."""

    amplitude: OneHelicity
    shares: HelicityShares

    def __call__(
        self, integrand: ProcessIntegrand, points: PhaseSpacePoints, rng: torch.Generator
    ) -> ExactSquared:
        uniform = torch.rand(len(points), generator=rng, dtype=torch.float64).to(points.x.device)
        found = ExactSquared.of_all(torch.empty_like(points.log_jac))
        for group, at in integrand.by_group(points.channel):
            momenta = points.momenta[at]
            alpha_s, q = integrand.alpha_s(momenta, group), self.shares(momenta, group)
            if q is None:
                found.value[at] = integrand.amplitude(momenta, alpha_s, group).value
                continue
            helicity = _drawn(q, uniform[at])
            squared = self.amplitude.helicity_value(momenta, alpha_s, helicity, group)
            found.value[at] = squared / q.gather(1, helicity[:, None])[:, 0]
            found.helicity[at] = helicity
        return found


def _drawn(shares: Tensor, uniform: Tensor) -> Tensor:
    """A column of each row (n, k), in proportion to its value, for uniform (n,) in [0, 1): (n,)."""
    edges = shares.cumsum(1)
    above = torch.searchsorted(edges, (uniform * edges[:, -1])[:, None], right=True)
    return above[:, 0].clamp(max=shares.shape[1] - 1)
