"""Integrals with their errors, from points that nothing was adapted or trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from mlgen.core import TrainingBatch
from mlgen.integration.proposal import channel_weight


class Weights(Protocol):
    """The weights of some events."""

    @property
    def weight(self) -> Tensor:
        """(n,)."""

    @property
    def variations(self) -> Tensor:
        """(n, n_variations), in the unit of `weight`."""


def ratios_of_means(events: Iterable[Weights]) -> tuple[Tensor, Tensor]:
    """The mean of each variation over the mean weight of the same events, with its error.

    R = sum v / sum w, with the variance sum (v - R w)² / (sum w)²: exact where v is a constant
    times w, whatever the spread of w.

    Args:
        events: gone through several times.

    Returns:
        ratio, error: (n_variations,).
    """
    columns = [(batch.variations - batch.weight[:, None]).sum(0) for batch in events]
    total = sum(float(batch.weight.sum()) for batch in events)
    # Like this a column that is the weight itself has the ratio 1 to the last bit.
    ratio = 1 + torch.stack(columns).sum(0) / total
    squares = [
        (batch.variations - ratio * batch.weight[:, None]).square().sum(0) for batch in events
    ]
    return ratio, torch.stack(squares).sum(0).sqrt() / abs(total)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelSums:
    """Sums over points, channel by channel; those of any number of samples add up.

    Samples are so combined by their number of points, never by their estimated variance, which
    is too low where a heavy tail was missed. Samples drawn with different fractions may be
    added, since each channel is a mean of its own.
    """

    n_points: Tensor
    """(n_channels,), zeros from cuts counted."""
    total: Tensor
    """(n_channels,), the sum of value / q."""
    total_squares: Tensor
    """(n_channels,), the sum of (value / q)²."""

    @classmethod
    def empty(cls, n_channels: int) -> Self:
        zeros = torch.zeros(n_channels, dtype=torch.float64)
        return cls(n_points=zeros, total=zeros, total_squares=zeros)

    @classmethod
    def of(cls, batch: TrainingBatch, n_channels: int) -> Self:
        return cls.of_weights(channel_weight(batch), batch.channel, n_channels)

    @classmethod
    def of_weights(cls, weight: Tensor, channel: Tensor, n_channels: int) -> Self:
        """Of value / q (n,), or of anything that has the same mean at each point."""
        return cls(
            n_points=channel.bincount(minlength=n_channels).to(torch.float64),
            total=channel.bincount(weight, minlength=n_channels),
            total_squares=channel.bincount(weight.square(), minlength=n_channels),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            n_points=self.n_points + other.n_points,
            total=self.total + other.total,
            total_squares=self.total_squares + other.total_squares,
        )

    @property
    def means(self) -> Tensor:
        """The integral of each channel, (n_channels,); 0 for one without points."""
        return self.total / self.n_points.clamp(min=1)

    @property
    def root_mean_squares(self) -> Tensor:
        """sqrt(mean (value / q)²) of each channel, (n_channels,)."""
        return (self.total_squares / self.n_points.clamp(min=1)).sqrt()

    @property
    def variances(self) -> Tensor:
        """The squared error of each channel's integral, (n_channels,)."""
        n = self.n_points.clamp(min=2)
        spread = (self.total_squares / n - (self.total / n).square()).clamp(min=0)
        return spread / (n - 1)

    @property
    def mean(self) -> float:
        """The integral, summed over channels."""
        return float(self.means.sum())

    @property
    def error(self) -> float:
        """Its standard deviation."""
        return float(self.variances.sum().sqrt())
