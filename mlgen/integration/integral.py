"""What is known of the integral of a function, after fresh points were drawn."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mlgen.events.unweighting import UnweightingEfficiency
from mlgen.integration.domain import Domain
from mlgen.integration.estimate import ChannelSums


@dataclass(frozen=True, kw_only=True, slots=True)
class Integral:
    """The integral over the box, summed over the combinations of the discrete dimensions.

    In the unit of the function times those of its dimensions.
    """

    domain: Domain
    sums: ChannelSums
    """Of f over the density of the points, with the volume of the box: fresh points only."""
    absolute_sums: ChannelSums
    """The same of |f|."""
    ess: float
    """(sum w)² / (N sum w²) of the weights w of the points, signs included.

    1 / ess - 1 is the squared relative error of one point. Where f changes its sign, no sampler gets
    further than (integral of f / integral of |f|)², and an integral that is zero has none.
    """
    eps_uw: UnweightingEfficiency
    """Sum of |integral| over that of w_max, of all combinations.

    For an f of one sign, the share of the points that unweighting keeps; where signs cancel inside a
    combination, less than that.
    """
    sampler: str
    """Its name."""
    n_calls: int
    """At how many points f was computed."""

    @property
    def value(self) -> float:
        """The integral of f."""
        return self.sums.mean

    @property
    def error(self) -> float:
        """Its standard deviation."""
        return self.sums.error

    @property
    def absolute(self) -> float:
        """The integral of |f|: that of f, unless signs cancel."""
        return self.absolute_sums.mean

    @property
    def n_points(self) -> int:
        """Points that the integral comes from."""
        return int(self.sums.n_points.sum())

    @property
    def values(self) -> Tensor:
        """The integral of each combination, of the shape n_values."""
        return self.sums.means.view(self.domain.n_values)

    @property
    def errors(self) -> Tensor:
        """Their standard deviations, of the shape n_values."""
        return self.sums.variances.sqrt().view(self.domain.n_values)
