"""An ensemble whose members repel each other as functions."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.method import Method, Prediction, bounded, gaussian_loss
from mlgen.surrogates.networks import Inputs, start_network


class RepulsiveEnsemble(Method):
    """Members with a Gaussian likelihood each, that sample the posterior of functions.

    The loss of arXiv:2412.12069, eq. (31), after arXiv:2106.11642: for each member i

        - mean over the batch of ln p_i + (1 / N) sum_j k(f_i, f_j) / sum_j k(f_i, f_j),

    gradients only through the numerator's f_i, with k = exp(-|f_i - f_j|² / h) of the means on the
    batch, and h = median of |f_i - f_j|² / ln(n_members). Their spread is the statistical part; the
    systematic one is the root mean square of their own standard deviations.

    Four members of width 96 say as much as four of 128 (100k points of d d~ > z g g), for 4.2 instead of
    6 us a point on a CPU; with 64 they take 2.8, and are wrong by 1.6 times as much.
    """

    def __init__(self, inputs: Inputs, settings: SurrogateCard, rng: torch.Generator) -> None:
        super().__init__()
        self.network = start_network(inputs, settings, 2, rng, settings.n_members)

    def loss(self, features: Tensor, target: Tensor, n_training: int) -> Tensor:
        mean, log_std = self.network(features).unbind(2)
        likelihood = gaussian_loss(mean, bounded(log_std), target).mean(1).sum()
        return likelihood + repulsion(mean) / n_training

    def forward(self, features: Tensor) -> Prediction:
        mean, log_std = self.network(features).unbind(2)
        variance = (2 * bounded(log_std)).exp().mean(0)
        return Prediction(mean.mean(0), variance.sqrt(), _spread(mean))


def repulsion(functions: Tensor) -> Tensor:
    """The sum over members of sum_j k(f_i, f_j) / sum_j k(f_i, f_j): its value is n_members, its gradient repels.

    Args:
        functions: (n_members, n), each member's values on a batch.
    """
    fixed = functions.detach()
    distance = (functions[:, None] - fixed).square().sum(2)
    n_members = len(functions)
    if n_members == 1:
        return distance.sum()
    others = ~torch.eye(n_members, dtype=torch.bool, device=functions.device)
    width = distance.detach()[others].median() / max(torch.tensor(n_members).log().item(), 0.5)
    kernel = (-distance / width.clamp(min=1e-30)).exp()
    return (kernel.sum(1) / kernel.detach().sum(1)).sum()


def _spread(mean: Tensor) -> Tensor:
    """The standard deviation of members (n_members, n), an unbiased variance: (n,)."""
    centred = mean - mean.mean(0)
    return (centred.square().sum(0) / max(len(mean) - 1, 1)).sqrt()
