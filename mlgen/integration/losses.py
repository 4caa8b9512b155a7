"""What training minimises: how far the density of the points is from the integrand.

The Rényi divergence of the integrand p (normalised to 1) from the density q of the points,

    D_a = ln[ integral of p^a q^(1 - a) ] / (a - 1),    section 2 of arXiv:1206.2459

is 0 for a perfect sampler whatever the order. With w = f / q the weight of a point, order 1 is the
Kullback-Leibler divergence, order 2 is ln(1 + relative variance of w), and order infinity is
ln(w_max / sigma), the logarithm of the inverse unweighting efficiency. Larger orders look more
after the largest weights, and are noisier.

The density of several channels is sum_c alpha_c q_c. With the alpha_c that suit an order best,

    D_a = a / (a - 1) ln[ sum_c <w_c^a>^(1/a) / sigma ],    alpha_c ~ <w_c^a>^(1/a),

with w_c the weight within a channel: for order 2 the stratified variance of arXiv:2311.01548
(section 3.2), and for order infinity the sum of the channels' largest weights, which is what
unweighting pays for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.cards import FlowCard
from mlgen.core import TrainingBatch
from mlgen.integration.proposal import channel_weight

MAX_ORDER = 50.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """The order of the divergence, and the channels' fractions in it."""

    first_order: float
    """At the beginning of training."""
    last_order: float
    """Towards its end: large orders see only the tail, and want a good start."""
    stratified: bool
    """Whether the fractions are those that suit the order best, not those that points are drawn with."""

    def order(self, progress: float) -> float:
        """The order when a part of the training, from 0 to 1, is done."""
        return self.first_order + (self.last_order - self.first_order) * progress


def objective(card: FlowCard) -> Objective:
    """What the card asks for."""
    if card.loss == "renyi":
        last = card.renyi_order
        return Objective(first_order=min(2.0, last), last_order=last, stratified=True)
    order = 1.0 if card.loss == "kullback_leibler" else 2.0
    stratified = card.loss == "stratified_variance"
    return Objective(first_order=order, last_order=order, stratified=stratified)


def renyi_divergence(
    batch: TrainingBatch, log_prob: Tensor, order: float, fraction: Tensor | None = None
) -> Tensor:
    """D_order of the integrand from the sampler, channels and their fractions included: a scalar.

    The points may come from any earlier density: their weights make up for it on average.

    Args:
        batch: n points, those where the integrand is 0 included.
        log_prob: (n,), ln q(r | channel) of the sampler as it is now; anything where value is 0.
        order: 1 or larger.
        fraction: (n,), alpha of each point's channel; None: those that the points were drawn with.
    """
    drawn = channel_weight(batch).abs() / batch.fraction
    sigma = drawn.mean()
    is_zero = batch.value == 0
    log_value = torch.where(is_zero, torch.ones_like(batch.value), batch.value.abs()).log()
    alpha = batch.fraction if fraction is None else fraction
    log_weight = log_value - log_prob - (alpha * sigma).log()
    if order == 1:
        return (drawn * log_weight).mean() / sigma
    # The largest exponent is taken out, or the powers of large weights would overflow.
    exponent = (order - 1) * log_weight
    largest = exponent.detach().max()
    moment = (drawn * (exponent - largest).exp()).mean() / sigma
    return (moment.log() + largest) / (order - 1)


def best_fractions(weight: Tensor, channel: Tensor, n_channels: int, order: float) -> Tensor:
    """<|w|^a>^(1/a) of each channel, over their sum: (n_channels,).

    Args:
        weight: (n,), within the channel, zeros included.
        channel: (n,).
        order: a, 1 or larger.
    """
    scaled = (weight.abs() / weight.abs().max()).pow(order)
    n_points = channel.bincount(minlength=n_channels).clamp(min=1)
    moment = channel.bincount(scaled, minlength=n_channels) / n_points
    share = moment.pow(1 / order)
    return share / share.sum()


def visible_order(weight: Tensor, share: float) -> float:
    """The largest order whose moment is not the work of a few points.

    Point i carries the part w_i^a of the moment of order a. Their effective number,
    (sum w^a)² / sum w^2a, falls with a: where it is small, training follows the noise of a few points.

    Args:
        weight: (n,), zeros included.
        share: the least effective number, in units of n.

    Returns:
        order: between 2 and `MAX_ORDER`.
    """
    log_weight = weight.abs()[weight != 0].log()
    log_n = math.log(share * len(weight))
    low, high = 2.0, MAX_ORDER
    for _ in range(12):
        order = (low + high) / 2
        sums = [torch.logsumexp(k * order * log_weight, 0) for k in (1, 2)]
        if 2 * float(sums[0]) - float(sums[1]) > log_n:
            low = order
        else:
            high = order
    return low
