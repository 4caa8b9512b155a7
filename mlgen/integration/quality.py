"""How good the density is that a batch of points was drawn from, by the weights of its points."""

from __future__ import annotations

from mlgen.core import TrainingBatch
from mlgen.events.unweighting import effective_sample_size, find_w_max_by_channel
from mlgen.integration.proposal import channel_weight


def efficiency_of(batch: TrainingBatch, n_channels: int, budget: float) -> float:
    """The share of points that unweighting keeps, eps_uw but where signs cancel; 0 for weights of 0.

    Args:
        budget: t, the overweight budget.
    """
    weight, channel = channel_weight(batch).abs(), batch.channel
    w_max = find_w_max_by_channel(weight, channel, n_channels, budget)
    n_points = channel.bincount(minlength=n_channels).clamp(min=1)
    sizes = channel.bincount(weight, minlength=n_channels) / n_points
    return float(sizes.sum() / w_max.sum()) if bool(w_max.any()) else 0.0


def ess_of(batch: TrainingBatch) -> float:
    """The effective sample size of |w|, all channels together, as a fraction of the points."""
    return effective_sample_size(channel_weight(batch).abs() / batch.fraction)
