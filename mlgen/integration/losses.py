"""What training minimises: how far a sampler's density is from the integrand.

The Rényi divergence of order a of the target p = |f| / sigma from the density q that points come
from,

    D_a = ln[ integral of p^a q^(1 - a) ] / (a - 1),    section 2 of arXiv:1206.2459

is 0 for a perfect sampler whatever the order. With w = f / q the weight of a point, order 1 is the
Kullback-Leibler divergence, order 2 is ln(1 + relative variance of w), and order infinity is
ln(w_max / sigma), the logarithm of the inverse unweighting efficiency. Larger orders look more
after the largest weights, and are noisier.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.core import TrainingBatch
from mlgen.integration.proposal import channel_weight


def renyi_divergence(batch: TrainingBatch, log_prob: Tensor, order: float) -> Tensor:
    """D_order of the integrand from the sampler, channels and their fractions included: a scalar.

    The points may come from any earlier density: their weights make up for it on average.

    Args:
        batch: n points, those where the integrand is 0 included.
        log_prob: (n,), ln q(r | channel) of the sampler as it is now; anything where value is 0.
        order: 1 or larger.
    """
    drawn = channel_weight(batch).abs() / batch.fraction
    sigma = drawn.mean()
    is_zero = batch.value == 0
    log_value = torch.where(is_zero, torch.ones_like(batch.value), batch.value.abs()).log()
    log_weight = log_value - log_prob - (batch.fraction * sigma).log()
    if order == 1:
        return (drawn * log_weight).mean() / sigma
    # The largest exponent is taken out, or the powers of large weights would overflow.
    exponent = (order - 1) * log_weight
    largest = exponent.detach().max()
    moment = (drawn * (exponent - largest).exp()).mean() / sigma
    return (moment.log() + largest) / (order - 1)
