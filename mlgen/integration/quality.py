"""How good the density is that a batch of points was drawn from, by the weights of its points."""

from __future__ import annotations

from mlgen.core import TrainingBatch
from mlgen.events.unweighting import effective_sample_size, find_w_max_by_channel
from mlgen.integration.proposal import channel_weight


def efficiency_of(batch: TrainingBatch, n_channels: int, budget: float) -> float:
    """The unweighting efficiency, sum of |sigma_c| over the sum of w_max,c; 0 where all weights are.

    Args:
        budget: t, the overweight budget.
    """
    weight, channel = channel_weight(batch), batch.channel
    w_max = find_w_max_by_channel(weight, channel, n_channels, budget)
    n_points = channel.bincount(minlength=n_channels).clamp(min=1)
    sigma = channel.bincount(weight, minlength=n_channels) / n_points
    return float(sigma.abs().sum() / w_max.sum()) if bool(w_max.any()) else 0.0


def ess_of(batch: TrainingBatch) -> float:
    """The effective sample size of all channels together, as a fraction of the points."""
    return effective_sample_size(channel_weight(batch) / batch.fraction)
