"""The statistics of unweighting: w_max from an overweight budget, efficiency, acceptance.

A weight is the integrand over the density of its point within its channel, so that the mean over
the points of a channel is the channel's cross section; points outside the cuts count, as zeros.
Events are made by drawing channel c with probability w_max,c / sum of w_max and keeping its point
with probability min(1, |w| / w_max,c). An event whose |w| exceeds w_max,c keeps the excess as
its weight: that leaves every observable unbiased, which clipping would not.

The budget of that excess is one for all channels together, and spent where it saves most points: see
`find_w_max_by_channel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.errors import GenerationError, NonFiniteWeight

MAX_OWN_EXCESS = 0.2
"""No channel has a larger share of its own cross section above its w_max, unless the budget is larger."""

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
    descending = _magnitudes(weights, budget).sort(descending=True).values
    return float(_solve_w_max(descending, torch.ones_like(descending), budget))


def find_w_max_by_channel(
    weights: Tensor,
    channel: Tensor,
    n_channels: int,
    budget: float,
    counts: Tensor | None = None,
) -> Tensor:
    """The w_max,c with the smallest sum whose total overweight excess is at most the budget.

        sum_c mean_c (|w| - w_max,c)+  <=  t sum_c mean_c |w|

    with the means over the points of each channel. In this optimum a point is equally likely to
    lie above w_max in every channel: to lower w_max,c by dw saves dw of the sum, and costs the excess
    dw P_c(|w| > w_max,c). A channel of which little is known, or that contributes little, so does
    not cost as much as a large one. Not all of a channel is sacrificed, however: at most
    `MAX_OWN_EXCESS` of its own cross section lies above w_max,c, so that its events do come, and not
    as few enormous ones. With one channel the result is that of `find_w_max`.

    Args:
        weights: (n,), pb.
        channel: (n,), int64; the points of the channels may come in any proportion.
        n_channels: how many channels there are, drawn or not.
        budget: t, in [0, 1).
        counts: (n,), how often each point counts in the mean of its channel; once by default.

    Returns:
        w_max: (n_channels,), pb; positive for each channel with a weight that is not zero, and 0 for
            the others, which are never drawn.

    Raises:
        NonFiniteWeight, GenerationError: as `find_w_max`.
    """
    magnitudes = _magnitudes(weights, budget)
    return _allocate(_samples(magnitudes, channel, n_channels, counts), budget)


def unweighting_curve(weights: Tensor, channel: Tensor, budgets: Sequence[float]) -> Tensor:
    """eps_uw(N, t) at each budget t, as `unweighting_efficiency` has it but without errors: (k,).

    Args:
        weights: (n,), pb, zeros included, not all of them 0.
        channel: (n,), int64.
        budgets: t, k of them, each in [0, 1).

    Raises:
        NonFiniteWeight, GenerationError: as `find_w_max`.
    """
    by_channel = _by_channel(weights, channel, int(channel.max()) + 1)
    sigma = sum(float(mine.sum().abs()) / max(len(mine), 1) for mine in by_channel)
    samples = _samples(_magnitudes(weights, max(budgets)), channel, len(by_channel))
    w_max = torch.stack([_allocate(samples, budget).sum() for budget in budgets])
    return sigma / w_max


def unweighting_efficiency(
    weights: Tensor, channel: Tensor, budget: float, rng: torch.Generator, n_replicas: int = 100
) -> UnweightingEfficiency:
    """eps_uw(N, t) = sum over channels of |sigma_c| / sum over channels of w_max,c.

    sigma_c is the mean of the channel's weights; w_max,c is found on the same points, see
    `find_w_max_by_channel`. The error is the standard deviation over Poisson bootstrap replicas of
    each channel's points.

    Args:
        weights: (n,), pb, zeros included.
        channel: (n,), int64.
        budget: t, in [0, 1).
        rng: draws the replicas, on the device of the weights.
        n_replicas: how many; the error itself is known to 1 / sqrt(2 n_replicas).

    Raises:
        NonFiniteWeight, GenerationError: as `find_w_max`.
    """
    _magnitudes(weights, budget)
    sigma = weights.new_zeros(1 + n_replicas)
    samples, replicas = [], []
    for signed in _by_channel(weights, channel, int(channel.max()) + 1):
        descending, order = signed.abs().sort(descending=True)
        block = _blocks(len(signed)).to(signed.device)
        n_in_block = block.bincount().to(weights.dtype)
        mean = block.bincount(weights=descending) / n_in_block
        signed_mean = block.bincount(weights=signed[order]) / n_in_block
        counts = torch.poisson(n_in_block.expand(n_replicas, -1).contiguous(), generator=rng)
        n_drawn = counts.sum(1).clamp(min=1)
        sigma[0] += signed.sum().abs() / max(len(signed), 1)
        sigma[1:] += (counts @ signed_mean).div(n_drawn).abs()
        samples.append(_Sample(descending, torch.ones_like(descending)))
        replicas.append(_Sample(mean, counts))
    of_sample, of_replicas = (_allocate(s, budget).sum(-1) for s in (samples, replicas))
    w_max = torch.cat([of_sample[None], of_replicas])
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


def _by_channel(values: Tensor, channel: Tensor, n_channels: int) -> Sequence[Tensor]:
    """The values (n,) of each channel's points, in their order."""
    n_points = channel.bincount(minlength=n_channels).tolist()
    return torch.split(values[channel.argsort(stable=True)], n_points)


def _samples(
    magnitudes: Tensor, channel: Tensor, n_channels: int, counts: Tensor | None = None
) -> Sequence[_Sample]:
    """The magnitudes (n,) of each channel, each of which occurs once, or so often."""
    counts = torch.ones_like(magnitudes) if counts is None else counts
    by_channel = zip(
        *(_by_channel(column, channel, n_channels) for column in (magnitudes, counts)), strict=True
    )
    sorted_ = [(mine.sort(descending=True), often) for mine, often in by_channel]
    return [_Sample(mine.values, often[mine.indices]) for mine, often in sorted_]


def _blocks(n: int) -> Tensor:
    """In which block of neighbours the bootstrap pools each of n weights in descending order: (n,).

    Neighbours are nearly equal: pooling those within 3 % of a rank leaves the replicas as they
    were, at a fraction of the random numbers.
    """
    rank = torch.arange(n, dtype=torch.float64)
    pooled = POOLED_FROM + BLOCKS_PER_E_FOLD * (rank / POOLED_FROM).clamp(min=1).log()
    return torch.where(rank < POOLED_FROM, rank, pooled).to(torch.int64)


class _Sample(NamedTuple):
    """Weights of a channel, or of several replicas of it."""

    descending: Tensor
    """(k,), the values that occur."""
    counts: Tensor
    """(..., k), how often."""


def _allocate(samples: Sequence[_Sample], budget: float) -> Tensor:
    """w_max of each channel, (..., n_channels): see `find_w_max_by_channel`.

    From the largest weight of each channel on, w_max,c is lowered from value to value. Such a step
    costs an excess of n_above / n_c times its length: the steps are made in the order of that rate,
    which rises within each channel, until the budget is spent in the midst of one.
    """
    if len(samples) == 1:
        return _solve_w_max(*samples[0], budget)[..., None]
    known = [(c, sample) for c, sample in enumerate(samples) if len(sample.descending)]
    w_max = samples[0].counts.new_zeros((*samples[0].counts.shape[:-1], len(samples)))
    if not known:
        return w_max
    levels, rates, owners = [], [], []
    allowed = w_max.new_zeros(w_max.shape[:-1])
    for c, (descending, counts) in known:
        n = _divisor(counts.sum(-1, keepdim=True))
        floor = _solve_w_max(descending, counts, max(budget, MAX_OWN_EXCESS))[..., None]
        n_steps = int((descending > floor.min()).sum().clamp(min=1))
        values = torch.nn.functional.pad(descending, (0, 1))[: n_steps + 1]
        levels.append(torch.maximum(values, floor))
        rates.append(counts[..., :n_steps].cumsum(-1) / n)
        owners.append(torch.full((n_steps,), c, device=w_max.device))
        allowed += budget * (counts @ descending) / n[..., 0]
    rate, order = torch.cat(rates, dim=-1).sort(dim=-1, stable=True)
    owner = torch.cat(owners)[order]
    length = torch.cat([-level.diff(dim=-1) for level in levels], dim=-1).gather(-1, order)
    cost = length.mul_(rate)
    spent = cost.cumsum(-1)
    is_made = spent <= allowed[..., None]
    n_made = torch.zeros_like(w_max).scatter_add(-1, owner, is_made.to(w_max)).to(torch.int64)
    for (c, _), level in zip(known, levels, strict=True):
        w_max[..., c] = level.gather(-1, n_made[..., c : c + 1])[..., 0]
    # The step that the budget ends in; made in full where rounding left none.
    last = is_made.sum(-1, keepdim=True).clamp(max=is_made.shape[-1] - 1)
    spent_before = spent.gather(-1, last) - cost.gather(-1, last)
    part = (allowed[..., None] - spent_before).clamp(min=0) / rate.gather(-1, last)
    part = torch.where(is_made.gather(-1, last), torch.zeros_like(part), part)
    return w_max.scatter_add(-1, owner.gather(-1, last), -part)


def _solve_w_max(descending: Tensor, counts: Tensor, budget: float) -> Tensor:
    """w_max of samples in which the value descending[j] occurs counts[..., j] times.

    With the k largest values above w_max the excess is sum_{j<=k} (w_j - w_max), so
    w_max = w_k + [sum_{j<=k} (w_j - w_k) - t sum w] / n_k.
    """
    if len(descending) == 0:
        return counts.new_zeros(counts.shape[:-1])
    n_above = counts.cumsum(-1)
    sum_above = (counts * descending).cumsum(-1)
    # Ties may leave -1 ulp here, and the largest weight must come back unharmed at t = 0.
    excess_at_value = (sum_above - n_above * descending).clamp(min=0)
    allowed = budget * sum_above[..., -1:]
    k = (excess_at_value <= allowed).sum(-1, keepdim=True) - 1
    n_k = n_above.gather(-1, k)
    shift = (excess_at_value.gather(-1, k) - allowed) / _divisor(n_k)
    w_max = (descending[k] + shift).where(n_k > 0, torch.zeros_like(shift))
    return w_max.squeeze(-1)


def _divisor(n: Tensor) -> Tensor:
    """Counts to divide by: 1 for none."""
    return n.where(n > 0, torch.ones_like(n))


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
