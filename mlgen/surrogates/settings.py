"""How a surrogate is built and trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlgen.errors import CardError


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateSettings:
    """Of the network, its uncertainty and its training.

    Raises:
        CardError: a value is out of range.
    """

    method: str = "gaussian"
    """How the uncertainty is learned: one of `mlgen.surrogates.methods.METHODS`."""
    n_hidden: int = 128
    """The width of a layer."""
    n_layers: int = 3
    """Hidden layers."""
    n_members: int = 4
    """Networks of an ensemble, samples of a Bayesian network, components of a mixture."""
    n_steps: int = 12_000
    """Optimizer steps."""
    max_cpu_s: float | None = None
    """A training ends within so many CPU-seconds; with this the result depends on the machine."""
    batch_size: int = 512
    batch_growth: float = 1.0
    """The last batches are so many times larger than the first ones."""
    learning_rate: float = 2e-3
    boost: float = 2.0
    """How much more often badly described points are used in the second half of the training."""
    validation_share: float = 0.02
    """The part of the sample that tells when the training is at its best."""
    calibration_share: float = 0.2
    """The part of the sample that the uncertainties are calibrated with."""

    def __post_init__(self) -> None:
        for key in ("n_hidden", "n_layers", "n_members", "n_steps", "batch_size"):
            value = getattr(self, key)
            if value < 1:
                raise CardError(f"surrogate.{key} = {value}: expected at least 1")
        for key in ("learning_rate", "max_cpu_s"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise CardError(f"surrogate.{key} = {value}: expected a positive number")
        for key in ("validation_share", "calibration_share"):
            value = getattr(self, key)
            if not 0 < value < 0.5:
                raise CardError(f"surrogate.{key} = {value}: expected a share between 0 and 0.5")
        if self.batch_growth < 1:
            raise CardError(f"surrogate.batch_growth = {self.batch_growth}: expected at least 1")
        if not 0 <= self.boost < math.inf:
            raise CardError(f"surrogate.boost = {self.boost}: expected 0 or more")
