"""Several networks for one density: what an event's density would be, had other events been seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.core import random_stream
from mlgen.radiation.linear import VariationalLinear
from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.representation import Particles
from mlgen.radiation.sampling import sample

TILE = 4096
"""Events that are drawn or evaluated at once."""


class Density(NamedTuple):
    """What several networks say of the density of events."""

    log_prob: Tensor
    """(n,), ln of the mean of the members' densities, which is the density that samples have."""
    std: Tensor
    """(n,), the standard deviation of the members' densities over their mean: 0 for one member."""
    weights: Tensor
    """(n_members, n), each member's density over the mean: reweights a sample to what one member draws."""


class Ensemble:
    """Members alike: each event is drawn from one of them, and its density is the mean of theirs.

    The scatter over members of a weighted histogram is its error, all correlations included.
    """

    def __init__(self, members: Sequence[RadiationNetwork]) -> None:
        self.members = tuple(members)

    @torch.no_grad()
    def density(self, particles: Particles) -> Density:
        """In columns, given the hard objects."""
        every = torch.stack([self._log_prob(member, particles) for member in self.members])
        log_prob = every.logsumexp(0) - math.log(len(every))
        weights = (every - log_prob).exp()
        return Density(log_prob, (weights - 1).square().mean(0).sqrt(), weights)

    def sample(self, given: Particles, rng: torch.Generator, max_jets: int = 10) -> Particles:
        """Draw jets; see `sampling.sample`. The member is drawn for each event."""
        n = len(given)
        member = torch.randint(len(self.members), (n,), generator=rng)
        columns = torch.zeros(n, 1 + max_jets, given.columns.shape[-1], dtype=torch.float64)
        n_jets = torch.zeros(n, dtype=torch.int64)
        for number, network in enumerate(self.members):
            for index in torch.split((member == number).nonzero()[:, 0], TILE):
                drawn = sample(network, given.select(index), rng, max_jets)
                columns[index, : drawn.columns.shape[1]] = drawn.columns
                n_jets[index] = drawn.n_jets
        most = int(n_jets.max()) if n > 0 else 0
        return replace(given, columns=columns[:, : 1 + most], n_jets=n_jets)

    @staticmethod
    def _log_prob(network: RadiationNetwork, particles: Particles) -> Tensor:
        found = torch.empty(len(particles), dtype=torch.float64)
        # Events with as many jets go together, so that there is little filler.
        for index in torch.split(particles.n_jets.argsort(), TILE):
            tile = particles.select(index)
            most = int(tile.n_jets.max()) if len(index) > 0 else 0
            found[index] = network.log_prob(replace(tile, columns=tile.columns[:, : 1 + most]))
        return found


def posterior_members(network: RadiationNetwork, n_members: int, seed: int) -> Ensemble:
    """Networks with weights drawn from the distributions that a variational one has learned."""
    settings = replace(network.settings, variational="none")
    deviations = {
        f"{name}.weight": layer.log_std.detach().exp()
        for name, layer in network.named_modules()
        if isinstance(layer, VariationalLinear)
    }
    members = []
    for number in range(n_members):
        rng = random_stream(seed, "posterior of radiation", number)
        state = {k: v.clone() for k, v in network.state().items() if not k.endswith("log_std")}
        for name, std in deviations.items():
            state[name] += std * torch.randn(std.shape, generator=rng)
        members.append(RadiationNetwork.restore(settings, state))
    return Ensemble(members)
