"""A mixture of normal densities at each point: errors whose distribution has tails."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.method import Method, Prediction, bounded, gaussian_loss
from mlgen.surrogates.networks import Inputs, start_network


class GaussianMixture(Method):
    """One network, p = sum_k share_k N(t; mean_k, std_k): section 2.3 of arXiv:2412.12069.

    The systematic part is the standard deviation of the mixture; the statistical one is 0.
    """

    def __init__(self, inputs: Inputs, settings: SurrogateCard, rng: torch.Generator) -> None:
        super().__init__()
        self.network = start_network(inputs, settings, 3 * settings.n_members, rng)

    def loss(self, features: Tensor, target: Tensor, n_training: int) -> Tensor:
        log_share, mean, log_std = self._components(features)
        return -(log_share - gaussian_loss(mean, log_std, target[:, None])).logsumexp(1).mean()

    def forward(self, features: Tensor) -> Prediction:
        log_share, means, log_std = self._components(features)
        share = log_share.exp()
        mean = (share * means).sum(1)
        variance = (share * ((2 * log_std).exp() + (means - mean[:, None]).square())).sum(1)
        return Prediction(mean, variance.sqrt(), torch.zeros_like(mean))

    def _components(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln of the share, the mean and ln of the standard deviation of each, (n, n_components)."""
        logit, mean, log_std = self.network(features)[0].chunk(3, dim=1)
        return logit.log_softmax(1), mean, bounded(log_std)
