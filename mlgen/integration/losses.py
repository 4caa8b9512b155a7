"""What training minimises: distances between a sampler's density and the integrand.

Each loss takes points that some earlier density drew, and the log-density that the sampler
being trained gives them now; the weights of the points make the loss the same, on average,
whichever density drew them. Points of value 0 do not contribute and may be left out.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mlgen.core import TrainingBatch
from mlgen.integration.proposal import channel_weight

Loss = Callable[[TrainingBatch, Tensor], Tensor]
"""(batch, log_prob (n,)) -> scalar."""


def kl_divergence(batch: TrainingBatch, log_prob: Tensor) -> Tensor:
    """- integral of p ln q with p = |f| / sigma: the Kullback-Leibler divergence but a constant.

    Eq. (12) of arXiv:2212.06172.
    """
    weight = channel_weight(batch).abs() / batch.fraction
    return -(weight * log_prob).sum() / weight.sum()


def variance(batch: TrainingBatch, log_prob: Tensor) -> Tensor:
    """ln of the integral of f² / q over sigma²: one more than the relative variance of a weight.

    Eq. (11) of arXiv:2212.06172; its logarithm has the same minimum and tamer gradients.
    """
    weight = channel_weight(batch).abs()
    squares = weight.square() / batch.fraction * (batch.log_q - log_prob).exp()
    sigma = (weight / batch.fraction).sum() / len(batch)
    return (squares.sum() / len(batch) / sigma.square()).log()


LOSSES: dict[str, Loss] = {"kl": kl_divergence, "variance": variance}
