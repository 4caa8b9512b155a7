"""What every sampler of this room is: a map whose learned numbers can be stored."""

from __future__ import annotations

from torch import nn

from mlgen.core import Sampler
from mlgen.samplers.channel_weights import ResidualWeights


class SamplerModule(Sampler, nn.Module):
    """A sampler whose `state_dict` is all that it has learned.

    A sampler that learns by gradient has parameters, and whoever trains it sees no more of it
    than those and `log_prob`; a VEGAS grid has none.
    """

    def __init__(self, n_dim: int, n_channels: int) -> None:
        super().__init__()
        self.n_dim = n_dim
        self.n_channels = n_channels
        self.learned_weights: ResidualWeights | None = None

    @property
    def channel_weights(self) -> ResidualWeights | None:
        return self.learned_weights
