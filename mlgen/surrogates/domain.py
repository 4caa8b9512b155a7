"""Points that a network has seen the like of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-3
"""Directions in which standardised features vary less are constraints, such as that of momentum."""

MARGIN = 1e-3
"""What the box is wider at each end: features that are constant vary by their rounding."""


class TrainingDomain(nn.Module):
    """The box of all features in the training sample, and an ellipsoid round them.

    In many dimensions a box has corners that no point was near; the ellipsoid, of the sample's
    covariance, cuts them off.
    """

    low: Tensor
    high: Tensor
    axes: Tensor
    largest_distance: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.full((n_features,), -torch.inf))
        self.register_buffer("high", torch.full((n_features,), torch.inf))
        self.register_buffer("axes", torch.zeros(n_features, n_features))
        self.register_buffer("largest_distance", torch.tensor(torch.inf))

    def fit(self, features: Tensor) -> None:
        """The domain of a sample's features (n, n_features), which have mean 0."""
        self.low, self.high = features.amin(0) - MARGIN, features.amax(0) + MARGIN
        variances, directions = torch.linalg.eigh(features.double().T.cov())
        is_free = variances > LEAST_VARIANCE
        scale = torch.where(is_free, variances.clamp(min=LEAST_VARIANCE).rsqrt(), 0.0)
        self.axes = (directions * scale).float()
        self.largest_distance = (1 + MARGIN) * self._distance(features).amax()

    def forward(self, features: Tensor) -> Tensor:
        """Which features (n, n_features) lie inside: bool (n,)."""
        in_box = ((features >= self.low) & (features <= self.high)).all(1)
        return in_box & (self._distance(features) <= self.largest_distance)

    def _distance(self, features: Tensor) -> Tensor:
        """The square of the distance from the mean, in standard deviations: (n,)."""
        return (features @ self.axes).square().sum(1)
