"""A mean and a standard deviation at each point: the heteroscedastic likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.method import Method, Prediction, bounded, gaussian_loss
from mlgen.surrogates.networks import Inputs, start_network


class Gaussian(Method):
    """One network, ln p = -(t - mean)² / (2 std²) - ln std: section 2.1 of arXiv:2412.12069.

    It knows nothing of what the sample leaves open: the statistical part is 0.
    """

    def __init__(self, inputs: Inputs, settings: SurrogateCard, rng: torch.Generator) -> None:
        super().__init__()
        self.network = start_network(inputs, settings, 2, rng)

    def loss(self, features: Tensor, target: Tensor, n_training: int) -> Tensor:
        mean, log_std = self.network(features)[0].unbind(1)
        return gaussian_loss(mean, bounded(log_std), target).mean()

    def forward(self, features: Tensor) -> Prediction:
        mean, log_std = self.network(features)[0].unbind(1)
        return Prediction(mean, bounded(log_std).exp(), torch.zeros_like(mean))
