"""Whether an integrand is the one that something stored was learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mlgen.core import random_stream
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.proposal import Proposal

N_COMPARED = 16
"""Stored points at which the integrand must still have its value."""
TOLERANCE = 1e-6
"""Relative, of those values: another processor rounds otherwise."""

_N_TRIED = 256
_FLAT = 0.5
"""For the numbers on which the integrand does not depend."""


def channels_sha256(integrand: ProcessIntegrand) -> str:
    """Of the groups and channels of an integrand."""
    parts = repr((integrand.groups, integrand.phase_space.channels))
    return hashlib.sha256(parts.encode()).hexdigest()


def values_at(integrand: ProcessIntegrand, r: Tensor, channel: Tensor) -> Tensor:
    """The integrand (n,) at the adapted numbers r (n, n_dim) in the channels (n,)."""
    flat = torch.full((len(r), integrand.n_flat), _FLAT, dtype=r.dtype, device=r.device)
    return integrand(torch.cat([r, flat], dim=1), channel).value


def has_values(integrand: ProcessIntegrand, r: Tensor, channel: Tensor, value: Tensor) -> Tensor:
    """Where the integrand has these values (n,) still, but for rounding: bool (n,)."""
    return torch.isclose(values_at(integrand, r, channel), value, rtol=TOLERANCE, atol=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What an integrand is known by: its channels, and its values at some points."""

    channels_sha256: str
    r: Sequence[Sequence[float]]
    """n points of n_dim numbers."""
    channel: Sequence[int]
    value: Sequence[float]
    """pb."""

    @classmethod
    def of(cls, integrand: ProcessIntegrand, proposal: Proposal, seed: int) -> Self:
        """Of the first points inside the cuts that a sampler draws."""
        rng = random_stream(seed, "fingerprint", 0)
        channel = torch.multinomial(proposal.fractions, _N_TRIED, replacement=True, generator=rng)
        r, _ = proposal.sampler.sample(channel, rng)
        value = values_at(integrand, r, channel)
        inside = value.nonzero()[:N_COMPARED, 0]
        return cls(
            channels_sha256=channels_sha256(integrand),
            r=r[inside].tolist(),
            channel=channel[inside].tolist(),
            value=value[inside].tolist(),
        )

    def difference(self, integrand: ProcessIntegrand) -> str:
        """In what an integrand differs from this one; empty where it does not."""
        if self.channels_sha256 != channels_sha256(integrand):
            return "other subprocesses or channels"
        if not self.value:
            return ""
        r = torch.tensor(self.r, dtype=torch.float64)
        channel = torch.tensor(self.channel)
        value = torch.tensor(self.value, dtype=torch.float64)
        if not bool(has_values(integrand, r, channel, value).all()):
            return "another integrand: the values at stored points differ"
        return ""
