"""Ways to train for more jets than are seen: section 4 of arXiv:2412.12074, one class each.

Of each event the first n_max jets are seen. What follows is not, so that an event with n_max jets stands
for those with n_max or more. The variants differ in what they make of the splitting term after jet n_max,
and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.errors import CardError
from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.representation import Particles
from mlgen.radiation.sampling import sample

TILE = 4096
"""Events that are continued at once."""


class Splitting(NamedTuple):
    """What the splitting terms are trained on: the cross entropy with a target, times a weight."""

    target: Tensor
    """(n, n_rows), of P_split after each particle."""
    weight: Tensor
    """(n, n_rows), 0 for what is unknown, and for filler."""


class Variant:
    """What is known of the splitting after each particle: all that is seen, unless a variant says otherwise."""

    renews_at: tuple[float, ...] = ()
    """The parts of the training after which its events are renewed."""

    def __init__(self, n_max: int) -> None:
        self.n_max = n_max

    def splitting(self, network: RadiationNetwork, columns: Tensor, n_jets: Tensor) -> Splitting:
        """What the splitting terms of a batch are trained on: columns (n, n_rows, 4), n_jets (n,)."""
        counts = torch.arange(columns.shape[1], device=n_jets.device)
        target = (counts < n_jets[:, None]).to(columns.dtype)
        weight = (counts <= n_jets[:, None]).to(columns.dtype)
        return Splitting(target, weight)

    def renew(self, network: RadiationNetwork, seen: Particles, rng: torch.Generator) -> Particles:
        """The events of the rest of the training, from those that are seen."""
        return seen


class Plain(Variant):
    """An event with n_max jets ends there, as all that is seen says: there will never be more."""


class Truncated(Variant):
    """What follows n_max jets is not known, and has no term: the likelihood of events that were cut off.

    P_split beyond is what the network makes of fewer jets.
    """

    def splitting(self, network: RadiationNetwork, columns: Tensor, n_jets: Tensor) -> Splitting:
        target, weight = super().splitting(network, columns, n_jets)
        weight[:, self.n_max :] = 0
        return Splitting(target, weight)


class Bootstrap(Truncated):
    """From half of the training on, the network's own jets follow those of events with n_max.

    Each event with n_max jets is continued by at most N_MORE of them, afresh at each renewal, and is then
    trained on as a whole. That is expectation maximisation of the truncated likelihood: what is missing
    is filled in as the network has it, each event with the same weight as before.
    """

    N_MORE = 2
    renews_at = (0.5, 0.65, 0.8)

    def __init__(self, n_max: int) -> None:
        super().__init__(n_max)
        self._n_seen = n_max

    def renew(self, network: RadiationNetwork, seen: Particles, rng: torch.Generator) -> Particles:
        self.n_max = self._n_seen + self.N_MORE
        open_ = (seen.n_jets == self._n_seen).nonzero()[:, 0]
        columns = torch.nn.functional.pad(seen.columns, (0, 0, 0, self.N_MORE))
        n_jets = seen.n_jets.clone()
        for index in torch.split(open_, TILE):
            longer = sample(network, seen.select(index), rng, self.n_max)
            columns[index, : longer.columns.shape[1]] = longer.columns.to(columns.dtype)
            n_jets[index] = longer.n_jets
        return replace(seen, columns=columns, n_jets=n_jets)


class Override(Variant):
    """After n_max jets, the target is P_split of the same event without its first jet.

    Jets are taken to radiate alike, however many there were before (universality): with fewer of them
    P_split is known. The target is no constant, and no gradient passes it.
    """

    def splitting(self, network: RadiationNetwork, columns: Tensor, n_jets: Tensor) -> Splitting:
        target, weight = super().splitting(network, columns, n_jets)
        full = n_jets == self.n_max
        with torch.no_grad():
            fewer = torch.cat([columns[full, :1], columns[full, 2 : 1 + self.n_max]], dim=1)
            context = network.particles(network.embed(fewer))
            known = network.split(context[:, -1])[:, 0].sigmoid()
        target[full, self.n_max] = known.to(target.dtype)
        return Splitting(target, weight)


VARIANTS: Mapping[str, type[Variant]] = {
    "bootstrap": Bootstrap,
    "override": Override,
    "plain": Plain,
    "truncated": Truncated,
}


def start_variant(name: str, n_max: int) -> Variant:
    """The variant of a name.

    Raises:
        CardError: there is none of this name.
    """
    if name not in VARIANTS:
        raise CardError(f"radiation.variant = {name!r}: expected one of {', '.join(VARIANTS)}")
    return VARIANTS[name](n_max)
