"""Evidential regression: the parameters of a distribution of normal distributions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.method import Method, Prediction, bounded
from mlgen.surrogates.networks import Inputs, start_network

REGULARISATION = 0.01
"""lambda of eq. (10) of arXiv:1910.02600."""
LEAST_EXCESS = 1e-3
"""alpha stays so much above 1, where the variance would be infinite."""


class Evidential(Method):
    """One network that gives gamma, nu, alpha, beta of a normal-inverse-gamma distribution.

    Its marginal is Student's t: eqs. (7)-(10) of arXiv:1910.02600. The systematic variance is
    beta / (alpha - 1), the statistical one beta / (nu (alpha - 1)), its eq. (5). The likelihood knows beta (1 + nu) / nu and alpha alone, so
    that only both parts together mean what they say; the regularisation tells them apart.
    """

    def __init__(self, inputs: Inputs, settings: SurrogateCard, rng: torch.Generator) -> None:
        super().__init__()
        self.network = start_network(inputs, settings, 4, rng)

    def loss(self, features: Tensor, target: Tensor, n_training: int) -> Tensor:
        mean, nu, alpha, beta = self._evidence(features)
        error = target - mean
        penalty = REGULARISATION * error.abs() * (2 * nu + alpha)
        return (evidential_loss(error, nu, alpha, beta) + penalty).mean()

    def forward(self, features: Tensor) -> Prediction:
        mean, nu, alpha, beta = self._evidence(features)
        variance = beta / (alpha - 1)
        return Prediction(mean, variance.sqrt(), (variance / nu).sqrt())

    def _evidence(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, nu, alpha, log_scale = self.network(features)[0].unbind(1)
        # beta is a variance, over many powers of ten: it is the one that is an exponential.
        beta = (2 * bounded(log_scale)).exp()
        return mean, F.softplus(nu) + LEAST_EXCESS, F.softplus(alpha) + 1 + LEAST_EXCESS, beta


def evidential_loss(error: Tensor, nu: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """-ln of Student's t with 2 alpha degrees of freedom, elementwise: eq. (8) of arXiv:1910.02600."""
    omega = 2 * beta * (1 + nu)
    return (
        0.5 * (torch.pi / nu).log()
        - alpha * omega.log()
        + (alpha + 0.5) * (error.square() * nu + omega).log()
        + torch.lgamma(alpha)
        - torch.lgamma(alpha + 0.5)
    )
