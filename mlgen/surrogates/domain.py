"""Points that a network has seen the like of, and predictions like what it was told."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-3
"""Directions in which standardised features vary less are constraints, such as that of momentum."""

MARGIN = 1e-3
"""What the box is wider at each end: features that are constant vary by their rounding."""

BEYOND = 0.5
"""How far, in standard deviations of all targets, a prediction may lie outside of their range."""


class TrainingDomain(nn.Module):
    """The box of all features in the training sample, and an ellipsoid round them.

    In many dimensions a box has corners that no point was near; the ellipsoid, of the sample's
    covariance, cuts them off.
    """

    centre: Tensor
    reach: Tensor
    axes: Tensor
    largest_distance: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_features))
        self.register_buffer("reach", torch.full((n_features,), torch.inf))
        self.register_buffer("axes", torch.zeros(n_features, n_features))
        self.register_buffer("largest_distance", torch.tensor(torch.inf))

    def fit(self, features: Tensor) -> None:
        """The domain of a sample's features (n, n_features), which have mean 0."""
        low, high = features.amin(0), features.amax(0)
        self.centre, self.reach = (low + high) / 2, (high - low) / 2 + MARGIN
        variances, directions = torch.linalg.eigh(features.double().T.cov())
        is_free = variances > LEAST_VARIANCE
        scale = torch.where(is_free, variances.clamp(min=LEAST_VARIANCE).rsqrt(), 0.0)
        self.axes = (directions * scale).float()
        self.largest_distance = (1 + MARGIN) * self._distance(features).amax()

    def forward(self, features: Tensor) -> Tensor:
        """Which features (n, n_features) lie inside: bool (n,)."""
        # Rows of one feature each, as `PointFeatures` makes them: sums run along memory.
        offset = (features.T - self.centre[:, None]).abs() / self.reach[:, None]
        return (offset.amax(0) <= 1) & (self._distance(features) <= self.largest_distance)

    def _distance(self, features: Tensor) -> Tensor:
        """The square of the distance from the mean, in standard deviations: (n,)."""
        return (self.axes.T @ features.T).square().sum(0)


class TargetRange(nn.Module):
    """The range of the targets in the training sample, a little widened.

    Between the points that it was trained on a network may rise to any height, and its uncertainty
    need not know.
    """

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(-torch.inf))
        self.register_buffer("high", torch.tensor(torch.inf))

    def fit(self, target: Tensor) -> None:
        """The range of a sample's targets (n,), which have width 1."""
        self.low, self.high = target.amin() - BEYOND, target.amax() + BEYOND

    def forward(self, prediction: Tensor) -> Tensor:
        """Which predictions (n,), standardised as targets are, lie inside: bool (n,)."""
        return (prediction >= self.low) & (prediction <= self.high)
