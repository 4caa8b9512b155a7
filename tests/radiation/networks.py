"""Small networks that nobody trained, and columns for them."""

from __future__ import annotations

import torch

from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.representation import PHI, Particles, Representation
from mlgen.radiation.settings import NetworkSettings
from tests.radiation.samples import PT_MIN, random_events

SMALL = NetworkSettings(n_channels=16, n_blocks=2, n_heads=2, n_components=3)


def random_network(seed: int, settings: NetworkSettings = SMALL) -> RadiationNetwork:
    """One whose jets depend on those before."""
    start = RadiationNetwork(settings, torch.Generator().manual_seed(seed))
    return moved(start, 0.15, seed).eval()


def moved(network: RadiationNetwork, size: float, seed: int) -> RadiationNetwork:
    """Another one, each of its parameters so far away."""
    rng = torch.Generator().manual_seed(seed)
    state = {
        name: tensor + size * torch.randn(tensor.shape, generator=rng) * (not name.endswith("std"))
        for name, tensor in network.state().items()
    }
    return RadiationNetwork.restore(network.settings, state)


def random_particles(n: int, seed: int, n_max: int = 4) -> Particles:
    """Of all multiplicities alike."""
    events = random_events(n, seed, n_max)
    return Representation.of(events, PT_MIN).encode(events)


def hard_objects(n: int, seed: int) -> Particles:
    """Without jets, standardised columns normal."""
    rng = torch.Generator().manual_seed(seed)
    columns = torch.randn(n, 1, 4, generator=rng, dtype=torch.float64)
    columns[..., PHI] = 0
    no_jets = torch.zeros(n, dtype=torch.int64)
    return Particles(columns=columns, n_jets=no_jets, azimuth=columns[:, 0, 0])
