"""How samplers are found, started and restored: the entry points of the group `mlgen.samplers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoints, entry_points

import torch
from torch import Tensor

from mlgen.cards import SamplingCard
from mlgen.errors import CardError, PackError
from mlgen.samplers.channel_weights import ResidualWeights
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.vegas import VegasGrid

SamplerFactory = Callable[[VegasGrid, SamplingCard, torch.Generator], SamplerModule]
"""Starts a sampler from an adapted grid, a card and the randomness of its first weights.

The shapes of what it learns follow from the grid's shape and the card alone.
"""


@cache
def _registered() -> EntryPoints:
    # To search what is installed takes tens of milliseconds.
    return entry_points(group="mlgen.samplers")


def sampler_names() -> tuple[str, ...]:
    """The registered samplers."""
    return tuple(sorted(_registered().names))


def check_sampler_name(name: str) -> None:
    """Say so early where a sampler does not exist.

    Raises:
        CardError: no such sampler.
    """
    if name not in sampler_names():
        known = ", ".join(("auto", *sampler_names()))
        raise CardError(f"run.sampler = {name!r}: expected one of {known}")


def start_sampler(
    name: str, grid: VegasGrid, card: SamplingCard, rng: torch.Generator
) -> SamplerModule:
    """The registered sampler of a name, as yet untrained.

    Raises:
        CardError: no such sampler.
    """
    check_sampler_name(name)
    factory: SamplerFactory = _registered()[name].load()
    return factory(grid, card, rng)


def sampler_state(sampler: SamplerModule) -> dict[str, Tensor]:
    """All that a sampler has learned: named tensors on the CPU that share no memory."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in sampler.state_dict().items()
    }


def restore_sampler(
    name: str, card: SamplingCard, n_channels: int, n_dim: int, state: Mapping[str, Tensor]
) -> SamplerModule:
    """The sampler that `sampler_state` was taken from, rebuilt with its card.

    Raises:
        CardError: no such sampler.
        PackError: the state is not one of this sampler with this card.
    """
    grid = VegasGrid.uniform(n_channels, n_dim, card.vegas.n_bins)
    sampler = start_sampler(name, grid, card, torch.Generator())
    prefix = "learned_weights."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    try:
        if weights:
            sampler.learned_weights = ResidualWeights.from_state(weights)
        sampler.load_state_dict(dict(state))
    except (KeyError, RuntimeError) as error:
        raise PackError(f"the state of sampler {name!r} does not fit its card: {error}") from error
    return sampler
