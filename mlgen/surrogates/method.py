"""What each way to learn an uncertainty has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """What a network says of its target, in the units of the target."""

    mean: Tensor
    """(n,)."""
    systematic: Tensor
    """(n,), a standard deviation: what the network cannot resolve, however many points it is given."""
    statistical: Tensor
    """(n,), a standard deviation: what the training sample leaves open."""


class Trainee(nn.Module, ABC):
    """Networks, and the loss that trains them."""

    title: str
    """Of the progress bar."""

    @abstractmethod
    def loss(self, features: Tensor, target: Tensor, n_training: int) -> Tensor:
        """What training minimises, a scalar.

        Args:
            features: (n, n_columns), a batch of what the networks see.
            target: (n,) or (n, n_targets).
            n_training: the size of the training sample that the batch is from.
        """

    @abstractmethod
    def errors(self, features: Tensor, target: Tensor) -> Tensor:
        """How wrong the networks are at other points, (n,): at the least mean they are kept."""

    @abstractmethod
    def spread(self, features: Tensor) -> Tensor:
        """How well points are described, (n,): boosting repeats those with the largest."""


class Method(Trainee):
    """A way to learn an uncertainty; what it predicts is always the same at a point."""

    title = "training the surrogate"

    @abstractmethod
    def forward(self, features: Tensor) -> Prediction:
        """The prediction at features (n, n_columns)."""

    def errors(self, features: Tensor, target: Tensor) -> Tensor:
        """-ln of the prediction as one Gaussian, whatever trains the method."""
        mean, systematic, statistical = self(features)
        log_std = torch.hypot(systematic, statistical).log()
        return gaussian_loss(mean, log_std, target)

    def spread(self, features: Tensor) -> Tensor:
        """The standard deviation."""
        _, systematic, statistical = self(features)
        return torch.hypot(systematic, statistical)


LOG_STD_RANGE = (-15.0, 5.0)
"""ln of a standard deviation, standardised: beyond, single precision has nothing to say."""


def bounded(log_std: Tensor) -> Tensor:
    """ln of a standard deviation from a network's output."""
    return log_std.clamp(*LOG_STD_RANGE)


def gaussian_loss(mean: Tensor, log_std: Tensor, target: Tensor) -> Tensor:
    """-ln of a normal density at the target, elementwise, without its constant: eq. (14) of arXiv:2206.14831."""
    return 0.5 * ((target - mean) * (-log_std).exp()).square() + log_std
