"""The statistics of unweighting: w_max from an overweight budget, efficiency, acceptance.

A weight is the integrand over the density of its point within its channel, so that the mean over
the points of a channel is the channel's cross section; points outside the cuts count, as zeros.
Events are made by drawing channel c with probability w_max,c / sum of w_max and keeping its point
with probability min(1, |w| / w_max,c). An event whose |w| exceeds w_max,c keeps the excess as
its weight: that leaves every observable unbiased, which clipping would not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.errors import GenerationError, NonFiniteWeight

POOLED_FROM = 128
"""The bootstrap follows this many largest weights one by one, and the others in blocks."""
BLOCKS_PER_E_FOLD = 32
"""Blocks of weights between one rank and e times that rank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnweightingEfficiency:
    """eps_uw(N, t): sum over channels of |sigma_c| over the sum of w_max,c."""

    value: float
    error: float
    """Standard deviation of `value` over bootstrap replicas of the sample."""
    n: int
    """N, the points of all channels, zeros from cuts counted."""
    t: float
    """The overweight budget."""


def find_w_max(weights: Tensor, budget: float) -> float:
    """The smallest w_max whose overweight excess in this sample is at most the budget.

    The excess, sum (|w| - w_max)+ / sum |w|, is piecewise linear in w_max: it is solved for
    exactly between two neighbouring weights. Tuned on its own sample the answer is optimistic:
    the excess on fresh points is larger (`overweight_excess`), by several times for heavy tails.

    >>> find_w_max(torch.tensor([0.0, 1.0, -1.0, 4.0], dtype=torch.float64), budget=0.0)
    4.0
    >>> find_w_max(torch.tensor([0.0, 1.0, -1.0, 4.0], dtype=torch.float64), budget=0.25)
    2.5

    Args:
        weights: (n,), pb, of either sign, zeros included; 0 is returned where all of them are.
        budget: t, in [0, 1).

    Raises:
        NonFiniteWeight: a weight is NaN or infinite.
        GenerationError: the budget is not in [0, 1).
    """
    if len(weights) == 0:
        return 0.0
    descending = _magnitudes(weights, budget).sort(descending=True).values
    return float(_solve_w_max(descending, torch.ones_like(descending), budget))


def find_w_max_by_channel(
    weights: Tensor, channel: Tensor, n_channels: int, budget: float
) -> Tensor:
    """`find_w_max` of each channel's own points, each with the whole budget: (n_channels,).

    A channel without points, or with zeros only, has w_max = 0 and is never drawn.

    Args:
        weights: (n,), pb.
        channel: (n,), int64.
        n_channels: how many channels there are, drawn or not.
        budget: t, in [0, 1).

    Raises:
        NonFiniteWeight, GenerationError: as `find_w_max`.
    """
    per_channel = [find_w_max(weights[channel == c], budget) for c in range(n_channels)]
    return torch.tensor(per_channel, dtype=torch.float64, device=weights.device)


def unweighting_efficiency(
    weights: Tensor, channel: Tensor, budget: float, rng: torch.Generator, n_replicas: int = 100
) -> UnweightingEfficiency:
    """eps_uw(N, t) = sum over channels of |sigma_c| / sum over channels of w_max,c.

    sigma_c is the mean of the channel's weights; w_max,c is found on the same points. The error
    is the standard deviation over Poisson bootstrap replicas of each channel's points.

    Args:
        weights: (n,), pb, zeros included.
        channel: (n,), int64.
        budget: t, in [0, 1).
        rng: draws the replicas, on the device of the weights.
        n_replicas: how many; the error itself is known to 1 / sqrt(2 n_replicas).

    Raises:
        NonFiniteWeight, GenerationError: as `find_w_max`.
    """
    magnitudes = _magnitudes(weights, budget)
    sigma = weights.new_zeros(1 + n_replicas)
    w_max = weights.new_zeros(1 + n_replicas)
    for c in torch.unique(channel).tolist():
        mine = channel == c
        descending, order = magnitudes[mine].sort(descending=True)
        signed = weights[mine][order]
        # Neighbours in the sorted list are nearly equal: pooling those within 3 % of a rank leaves
        # the replicas as they were, at a fraction of the random numbers.
        rank = torch.arange(len(descending), dtype=weights.dtype, device=weights.device)
        pooled = POOLED_FROM + BLOCKS_PER_E_FOLD * (rank / POOLED_FROM).clamp(min=1).log()
        block = torch.where(rank < POOLED_FROM, rank, pooled).to(torch.int64)
        n_in_block = block.bincount().to(weights.dtype)
        mean = block.bincount(weights=descending) / n_in_block
        signed_mean = block.bincount(weights=signed) / n_in_block
        counts = torch.poisson(n_in_block.expand(n_replicas, -1).contiguous(), generator=rng)
        n_drawn = counts.sum(1).clamp(min=1)
        sigma[0] += signed.mean().abs()
        w_max[0] += _solve_w_max(descending, torch.ones_like(descending), budget)
        sigma[1:] += (counts @ signed_mean).div(n_drawn).abs()
        w_max[1:] += _solve_w_max(mean, counts, budget)
    value = torch.where(w_max > 0, sigma / w_max, torch.zeros_like(w_max))
    return UnweightingEfficiency(
        value=float(value[0]), error=float(value[1:].std()), n=len(weights), t=budget
    )


def accept(weight: Tensor, w_max: float | Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Keep each point with probability min(1, |w| / w_max).

    Args:
        weight: (n,), pb, of either sign.
        w_max: pb, one for all, or (n,), that of each point's channel.
        rng: its device draws the uniform numbers, one for each point.

    Returns:
        mask: (n,), which points are kept.
        u: (n_kept,), sign(w) max(1, |w| / w_max) of those: the relative weight of the event.

    Raises:
        GenerationError: a point with a weight comes from a channel with w_max = 0.
    """
    ratio = _ratio(weight, w_max)
    uniform = torch.rand(len(weight), generator=rng, dtype=torch.float64, device=rng.device)
    mask = uniform.to(weight.device) < ratio.abs()
    kept = ratio[mask]
    return mask, kept.sign() * kept.abs().clamp(min=1)


def overweight_excess(weights: Tensor, w_max: float | Tensor) -> float:
    """sum (|w| - w_max)+ / sum |w|: the share of the cross section that lies above w_max.

    For points of several channels that were drawn in proportion to w_max,c, the weights are to be
    w / w_max,c, with w_max = 1.

    Args:
        weights: (n,), pb.
        w_max: pb, one for all or (n,).
    """
    magnitudes = weights.abs()
    total = float(magnitudes.sum())
    return float((magnitudes - w_max).clamp(min=0).sum()) / total if total > 0 else 0.0


def effective_sample_size(weights: Tensor) -> float:
    """ESS = (sum w)² / (N sum w²), in [0, 1]: 1 for equal weights, 0 for none.

    Args:
        weights: (n,), zeros included.
    """
    squares = float(weights.square().sum())
    return float(weights.sum()) ** 2 / (len(weights) * squares) if squares > 0 else 0.0


def _magnitudes(weights: Tensor, budget: float) -> Tensor:
    """|w|, of weights and a budget that make sense."""
    if not 0 <= budget < 1:
        raise GenerationError(f"overweight budget = {budget}: expected a number in [0, 1)")
    finite = weights.isfinite()
    if not bool(finite.all()):
        index = int((~finite).nonzero()[0])
        raise NonFiniteWeight(f"weights[{index}] = {float(weights[index])}: expected a number (pb)")
    return weights.abs()


def _solve_w_max(descending: Tensor, counts: Tensor, budget: float) -> Tensor:
    """w_max of samples in which the value descending[j] occurs counts[..., j] times.

    With the k largest values above w_max the excess is sum_{j<=k} (w_j - w_max), so
    w_max = w_k + [sum_{j<=k} (w_j - w_k) - t sum w] / n_k.
    """
    n_above = counts.cumsum(-1)
    sum_above = (counts * descending).cumsum(-1)
    # Ties may leave -1 ulp here, and the largest weight must come back unharmed at t = 0.
    excess_at_value = (sum_above - n_above * descending).clamp(min=0)
    allowed = budget * sum_above[..., -1:]
    k = (excess_at_value <= allowed).sum(-1, keepdim=True) - 1
    n_k = n_above.gather(-1, k)
    shift = (excess_at_value.gather(-1, k) - allowed) / n_k.clamp(min=1)
    w_max = (descending[k] + shift).where(n_k > 0, torch.zeros_like(shift))
    return w_max.squeeze(-1)


def _ratio(weight: Tensor, w_max: float | Tensor) -> Tensor:
    """w / w_max, 0 where both are."""
    limit = torch.as_tensor(w_max, dtype=weight.dtype, device=weight.device).expand_as(weight)
    impossible = (weight != 0) & ~(limit > 0)
    if bool(impossible.any()):
        index = int(impossible.nonzero()[0])
        raise GenerationError(
            f"w_max = {float(limit[index])} for a point of weight {float(weight[index])} pb: "
            "expected a positive w_max, or the channel is not to be drawn"
        )
    return torch.where(weight != 0, weight / limit, torch.zeros_like(weight))
