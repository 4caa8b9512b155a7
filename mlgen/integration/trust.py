"""How far a surrogate of |M|² is followed; and the amplitude that follows it so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.core import Amplitude, AmplitudeValue


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """How far a surrogate is followed. Whatever is said here, the events are exact."""

    n_std: float = 2.0
    """The first step takes its value plus so many standard deviations: x_max is small where they are right."""
    max_relative_std: float = 5.0
    """Where its standard deviation is more than so many times its value, the exact |M|² stands in for it: one more matrix element for each such point, whether it survives or not."""
    floor: float = 0.01
    """No point inside the cuts has a smaller s than this share of its channel's mean."""

    def is_followed(self, found: AmplitudeValue) -> Tensor:
        """Where the exact |M|² is not asked for: bool (n,)."""
        size = found.value.abs()
        # Not where anything is NaN or infinite either.
        return (found.std <= self.max_relative_std * size) & (size > 0) & size.isfinite()


EXACT_SHARE = 16
"""One in so many points is exact wherever it lies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedAmplitude:
    """A surrogate that is corrected: exact where it is not to be trusted, and at some points anywhere.

    For training a sampler, which may use any value: what the sampler is worth, and what events weigh, is
    measured with the exact |M|² alone. The points that are exact anywhere show what the surrogate
    has not seen.
    """

    surrogate: Amplitude
    exact: Amplitude
    trust: Trust

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        """|M|², with a standard deviation of 0 where it is exact."""
        with torch.no_grad():
            found = self.surrogate(momenta, alpha_s, group)
            followed = self.trust.is_followed(found)
            followed[::EXACT_SHARE] = False
            asked = (~followed).nonzero()[:, 0]
            exact = self.exact(momenta[asked], alpha_s[asked], group)
        # A surrogate is never sure: what says 0 is exact.
        least = torch.finfo(found.std.dtype).tiny
        return AmplitudeValue(
            value=found.value.index_put((asked,), exact.value),
            std=found.std.clamp(min=least).index_put((asked,), exact.std),
        )
