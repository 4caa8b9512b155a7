"""A network whose last layer is a distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.method import Method, Prediction, bounded, gaussian_loss
from mlgen.surrogates.networks import Inputs, affine, silu, start_network

PRIOR_STD = 1.0
"""Of each weight of the last layer."""
FIRST_STD = 1e-2


class BayesianLastLayer(Method):
    """The mean is h·w with w normal, of any covariance S: all integrals have closed forms.

    With the hidden layer h and the learned std, the evidence lower bound (arXiv:2404.11599; for
    amplitudes section 3 of arXiv:2206.14831) of a point is

        ln N(t; h·m, std) - h·S h / (2 std²),

    less KL(N(m, S), prior) / n_training. The statistical variance is h·S h, so that a prediction
    needs no samples.
    """

    def __init__(self, inputs: Inputs, settings: SurrogateCard, rng: torch.Generator) -> None:
        super().__init__()
        n_hidden = settings.n_hidden
        self.network = start_network(inputs, settings, n_hidden, rng, is_hidden=True)
        self.last = nn.Parameter(0.1 * torch.randn(n_hidden + 1, 2, generator=rng) / n_hidden**0.5)
        # ln of the diagonal, and below it the elements, of the Cholesky factor of S.
        self.factor = nn.Parameter(math.log(FIRST_STD) * torch.eye(n_hidden + 1))

    def loss(self, features: Tensor, target: Tensor, n_training: int) -> Tensor:
        mean, log_std, variance = self._moments(features)
        expected = gaussian_loss(mean, log_std, target) + 0.5 * variance * (-2 * log_std).exp()
        return expected.mean() + self.divergence() / n_training

    def forward(self, features: Tensor) -> Prediction:
        mean, log_std, variance = self._moments(features)
        return Prediction(mean, log_std.exp(), variance.sqrt())

    def divergence(self) -> Tensor:
        """KL of the last layer's distribution from its prior, a scalar."""
        mean, factor = self.last[:, 0], self._cholesky()
        squares = (factor.square().sum() + mean.square().sum()) / PRIOR_STD**2
        log_det = 2 * self.factor.diagonal().sum()
        return 0.5 * (squares - len(mean) * (1 - 2 * math.log(PRIOR_STD)) - log_det)

    def _moments(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean, ln std and the variance of the mean, (n,) each."""
        hidden = silu(self.network(features)[0]).T
        # The last row of both matrices is that of the bias.
        mean, log_std = affine(self.last, hidden).unbind(0)
        return mean, bounded(log_std), affine(self._cholesky(), hidden).square().sum(0)

    def _cholesky(self) -> Tensor:
        return self.factor.tril(-1) + self.factor.diagonal().exp().diag()
