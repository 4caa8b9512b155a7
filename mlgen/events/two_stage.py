"""The statistics of two-stage unweighting: a cheap surrogate s chooses, the exact weight w corrects.

As in arXiv:2109.11964. A point is kept with probability p_1 = min(1, s / s_max), and has
u_1 = max(1, s / s_max) then. Only for these survivors is w computed. A survivor is kept with
probability p_2 = min(1, |zeta|), where zeta = u_1 w / (s x_max), and is an event of weight
u = sign(zeta) max(1, |zeta|).

That is unbiased, whatever s is, as long as s depends on the point alone and is positive wherever w is
not 0, and whatever s_max and x_max are:

    p_1 u_1 = s / s_max  and  p_2 u = zeta, by definition; the mean weight that a point leaves is
    p_1 p_2 u = p_1 u_1 w / (s x_max) = (s / s_max) (w / s) / x_max = w / (s_max x_max);
    s has dropped out, and channels drawn in proportion to s_max,c x_max,c leave w everywhere.

So both steps are `unweighting.accept`: of s against s_max, then of u_1 w / s against x_max. The excess of
the first step does not stay with the event, but is made up for in the second where x_max has room.
`unweighting.find_w_max_by_channel` finds s_max from values of s, `find_x_max` x_max from survivors. A
bad surrogate costs survivors, never the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.errors import GenerationError
from mlgen.events.unweighting import find_w_max_by_channel


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStageEfficiency:
    """What the steps of two-stage unweighting keep."""

    eps_1: float
    """Survivors of the first step over points."""
    eps_2: float
    """Events over survivors."""
    alpha: float
    """The Kish factor (sum |u|)² / (n sum u²) of the n events: what their overweights leave of them."""
    overweight: float
    """sum (|u| - 1) / sum |u| of the events, expected from the survivors."""
    calls: float = 1.0
    """Exact weights computed over survivors: more than 1 where the first step needed some."""


def find_x_max(
    ratio: Tensor,
    channel: Tensor,
    size: Tensor,
    budget: float,
    counts: Tensor | None = None,
) -> Tensor:
    """The x_max,c that cost the fewest exact weights, with an overweight excess of at most the budget.

        sum_c A_c mean_c (|x| - x_max,c)+  <=  t sum_c A_c mean_c |x|

    for x = u_1 w / s, with the means over the survivors of each channel. For each event there are
    sum_c A_c x_max,c of these, up to a constant, which is made as small as possible: with A_c x for the
    weight that is the problem of `find_w_max_by_channel`. The points are to be independent of those that
    the surrogate has learned from, or x_max is too small.

    Args:
        ratio: (n,), u_1 w / s of survivors.
        channel: (n,), int64; in any proportion.
        size: (n_channels,), A_c = mean_c min(s, s_max,c) over all points, pb.
        budget: t, in [0, 1).
        counts: (n,), p_1 of each point where the points are not survivors yet; 1 by default.

    Returns:
        x_max: (n_channels,), positive. A channel that no survivor is known of has the largest of the
            others, at next to no cost: with 0 its events would be lost.

    Raises:
        NonFiniteWeight, GenerationError: as `find_w_max_by_channel`.
        GenerationError: there is no survivor with a weight.
    """
    known = torch.where(size > 0, size, torch.ones_like(size))
    weight = ratio * known[channel]
    w_max = find_w_max_by_channel(weight, channel, len(size), budget, counts)
    x_max = w_max / known
    if not bool((x_max > 0).any()):
        raise GenerationError(
            f"no exact weight among {len(ratio)} survivors of the surrogate: expected some; draw more "
            "points"
        )
    return x_max.where(x_max > 0, x_max.max())


def control_variate(surrogate: Tensor, exact: Tensor, kept: Tensor, p_1: Tensor) -> Tensor:
    """A weight for every point, with the mean of the exact ones, from those of survivors alone: (n,).

        y = w_s + (w - w_s) / p_1  for a survivor,  y = w_s  for the other points.

    E[y] = w at each point, whatever w_s is; its variance is (w - w_s)² (1 / p_1 - 1), little where the
    surrogate is good. The points are independent and y is finite for each, so the usual error of the
    mean of y is honest.

    Args:
        surrogate: (n,), w_s, pb, with its sign.
        exact: (n_kept,), w of the survivors, pb.
        kept: (n,), bool, which points are survivors.
        p_1: (n,), the probability that each point had to be one; positive for these.
    """
    difference = (exact - surrogate[kept]) / p_1[kept]
    return surrogate.index_put((kept,), surrogate[kept] + difference)


def two_stage_efficiency(
    zeta: Tensor,
    channel: Tensor,
    p_1: Tensor,
    fractions: Tensor,
    calls: float = 1.0,
    counts: Tensor | None = None,
) -> TwoStageEfficiency:
    """What the two steps keep of points that are drawn with these fractions.

    Args:
        zeta: (n,), u_1 w / (s x_max) of survivors.
        channel: (n,), int64.
        p_1: (n_channels,), the share of the points of each channel that survive.
        fractions: (n_channels,), of the points.
        calls: exact weights computed over survivors.
        counts: (n,), how often each survivor counts; once by default.
    """
    counts = torch.ones_like(zeta) if counts is None else counts
    n = channel.bincount(counts, minlength=len(fractions))
    survivors = fractions * p_1
    each = counts * (survivors / n)[channel]
    size = zeta.abs()
    u = size.clamp(min=1)
    eps_1 = float(survivors.sum())
    # An event comes with probability p_2, and p_2 u = |zeta|.
    n_events, total = float((each * size.clamp(max=1)).sum()), float((each * size).sum())
    squares = float((each * size * u).sum())
    return TwoStageEfficiency(
        eps_1=eps_1,
        eps_2=n_events / eps_1 if eps_1 > 0 else 0.0,
        alpha=total**2 / (n_events * squares) if squares > 0 else 0.0,
        overweight=1 - n_events / total if total > 0 else 0.0,
        calls=calls,
    )


def effective_gain(efficiency: TwoStageEfficiency, eps_full: float, cost_ratio: float) -> float:
    """How many times faster than with the exact weights alone events come, for the same effective number.

        f_eff = alpha / [ (t_s / t_f) eps_full / (eps_1 eps_2) + eps_full / eps_2 ]

    As in arXiv:2109.11964, with alpha as in arXiv:2301.13562; at most eps_2 / eps_full. The last term is
    that of the exact weights, and here holds `calls` of them for each survivor.

    Args:
        eps_full: of one-stage unweighting, over the same points as eps_1 is: those that are drawn, or
            those inside the cuts.
        cost_ratio: t_s / t_f, what such a point costs with the surrogate over what it costs with the exact
            weight.
    """
    tries = cost_ratio * eps_full / (efficiency.eps_1 * efficiency.eps_2)
    return efficiency.alpha / (tries + efficiency.calls * eps_full / efficiency.eps_2)
