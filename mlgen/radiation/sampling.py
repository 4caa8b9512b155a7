"""Draw jets from a radiation network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.past import Past
from mlgen.radiation.representation import N_COLUMNS, Particles
from mlgen.radiation.transformer import Transformer


class Reader(ABC):
    """A transformer that is given one row after the other."""

    @abstractmethod
    def read(self, row: Tensor) -> Tensor:
        """Its output (n, n_channels) at the next row (n, n_channels)."""

    @abstractmethod
    def select(self, index: Tensor) -> None:
        """Go on with the sequences at an index alone."""


class CachedReader(Reader):
    """Keeps keys and values of all rows, so that each is read once."""

    def __init__(self, transformer: Transformer) -> None:
        self._transformer, self._memory = transformer, transformer.memory()

    def read(self, row: Tensor) -> Tensor:
        return self._transformer.step(row, self._memory)

    def select(self, index: Tensor) -> None:
        self._memory.select(index)


class RecomputingReader(Reader):
    """The obvious one: reads all rows again for each new one."""

    def __init__(self, transformer: Transformer) -> None:
        self._transformer = transformer
        self._rows: list[Tensor] = []

    def read(self, row: Tensor) -> Tensor:
        self._rows.append(row)
        found: Tensor = self._transformer(torch.stack(self._rows, dim=1))[:, -1]
        return found

    def select(self, index: Tensor) -> None:
        self._rows = [row[index] for row in self._rows]


ReaderFactory = Callable[[Transformer], Reader]


@torch.no_grad()
def sample(
    network: RadiationNetwork,
    given: Particles,
    rng: torch.Generator,
    max_jets: int = 10,
    reader: ReaderFactory = CachedReader,
) -> Particles:
    """Draw jets after those that events have until there are no more of them.

    Args:
        given: events without filler: each has as many jets as there is room for, mostly none.
        max_jets: an event that has so many gets no more, whatever the network says.
    Returns:
        With room for the most jets that an event has.
    """
    n, n_given = len(given), given.columns.shape[1] - 1
    columns = torch.zeros(n, 1 + max(n_given, max_jets), N_COLUMNS, dtype=torch.float64)
    columns[:, : 1 + n_given] = given.columns
    n_jets = torch.full((n,), n_given)
    particles = reader(network.particles)
    *earlier, row = network.embed(given.columns).unbind(1)
    for earlier_row in earlier:
        particles.read(earlier_row)
    alive = torch.arange(n)
    for count in range(n_given, max_jets):
        context = particles.read(row)
        splits = network.split(context)[:, 0].double().sigmoid()
        goes_on = torch.rand(len(alive), generator=rng, dtype=torch.float64) < splits
        alive, context = alive[goes_on], context[goes_on]
        if len(alive) == 0:
            break
        particles.select(goes_on)
        past = Past.all_of(columns[alive, : 1 + count])
        columns[alive, 1 + count] = sample_jet(network, context, past, rng, reader)
        n_jets[alive] = count + 1
        row = network.embed(columns[alive, : 2 + count])[:, -1]
    most = int(n_jets.max()) if n > 0 else n_given
    return replace(given, columns=columns[:, : 1 + most], n_jets=n_jets)


def sample_jet(
    network: RadiationNetwork,
    context: Tensor,
    past: Past,
    rng: torch.Generator,
    reader: ReaderFactory = CachedReader,
) -> Tensor:
    """One jet (n, 4), float64, given the particles before it and what was read of them (n, n_channels)."""
    numbers = reader(network.numbers)
    drawn: list[Tensor] = []
    for column, conditional in enumerate(network.conditionals):
        hidden = numbers.read(network.embed_number(context, column, drawn, past))
        parameters = network.mixture(column, hidden, drawn, past)
        limits = network.limits(column, drawn, past)
        drawn.append(conditional.sample(parameters, rng, *limits))
    return torch.stack(drawn, dim=-1)
