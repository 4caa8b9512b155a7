"""Learned channel weights: a residual on the prior shares of the channels of a group.

Any shares alpha_c that add up to 1 at each point leave an integral as it is, and the variance of
each channel depends on them, so that they can be trained with the sampler (arXiv:2212.06172; as a
residual: arXiv:2311.01548). With prior shares P_c, in which a channel has those of all that it
stands for, and a network l_c that starts as 0,

    alpha_c = P_c exp(l_c) / sum over c' of P_c' exp(l_c').

Where l does not depend on the order of identical particles, a channel that stands for several needs
no more than this: each of them has its own part of P_c multiplied by the same number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_HIDDEN = 64
LOG_FLOOR = -12.0
"""Prior shares below exp of this look alike to the network."""


class ResidualWeights(nn.Module):
    """`ChannelWeights` that multiply the prior shares."""

    group_of_channel: Tensor

    def __init__(
        self, group_of_channel: Tensor, n_shares: int, n_features: int, rng: torch.Generator
    ) -> None:
        """Start as the prior.

        Args:
            group_of_channel: (n_channels,), the channels of a group next to each other.
            n_shares: the number of channels of the group that has most.
            n_features: columns of the features: ln of the prior shares first, then anything that
                does not depend on the order of identical particles, of the order of 1.
        """
        super().__init__()
        self.n_shares = n_shares
        self.register_buffer("group_of_channel", group_of_channel.clone())
        n_groups = int(group_of_channel.max()) + 1
        self.first = nn.Parameter(torch.empty(N_HIDDEN, n_features))
        self.of_group = nn.Parameter(torch.empty(n_groups, N_HIDDEN))
        self.second = nn.Parameter(torch.empty(N_HIDDEN, N_HIDDEN))
        self.bias = nn.Parameter(torch.zeros(N_HIDDEN))
        self.last = nn.Parameter(torch.zeros(n_shares, N_HIDDEN))
        self.last_bias = nn.Parameter(torch.zeros(n_shares))
        for weight in (self.first, self.second):
            nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=rng)
        nn.init.uniform_(self.of_group, -1, 1, generator=rng)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """The weights whose `state_dict` this is.

        Raises:
            KeyError, RuntimeError: it is none of theirs.
        """
        shape = len(state["last"]), state["first"].shape[1]
        weights = cls(state["group_of_channel"], *shape, torch.Generator())
        weights.load_state_dict(dict(state))
        return weights

    def is_like(self, other: ResidualWeights) -> bool:
        """Whether the other ones are for the same channels and features."""
        return (
            torch.equal(self.group_of_channel, other.group_of_channel)
            and self.last.shape == other.last.shape
            and self.first.shape == other.first.shape
        )

    def forward(self, features: Tensor, channel: Tensor) -> Tensor:
        """ln of alpha_c / P_c in the channels (n,), given the features (n, n_features): (n,)."""
        log_shares = features[:, : self.n_shares]
        residual = self._residual(features, channel).to(features.dtype)
        own = residual.gather(1, self._number_in_group()[channel][:, None])[:, 0]
        return own - (log_shares + residual).logsumexp(1)

    def _residual(self, features: Tensor, channel: Tensor) -> Tensor:
        """l of each channel of each point's group: (n, n_shares)."""
        seen = features.to(self.first.dtype).clamp(min=LOG_FLOOR)
        hidden = seen @ self.first.T + F.embedding(self.group_of_channel[channel], self.of_group)
        hidden = F.leaky_relu(torch.addmm(self.bias, F.leaky_relu(hidden), self.second.T))
        return torch.addmm(self.last_bias, hidden, self.last.T)

    def _number_in_group(self) -> Tensor:
        group = self.group_of_channel
        n_groups = int(group.max()) + 1
        first = torch.searchsorted(group, torch.arange(n_groups, device=group.device))
        return torch.arange(len(group), device=group.device) - first[group]
