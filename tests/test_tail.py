from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.tail import N_CHUNK, fresh, mixed
from benchmarks.toys import Toy
from mlgen.core import TrainingBatch
from mlgen.integration.proposal import Proposal
from mlgen.samplers.vegas import VegasGrid

N_BINS, N_NODES = 8, 200


def _corner(r: Tensor) -> Tensor:
    return 4 * r.prod(dim=1)


def _points(sampler: VegasGrid, seed: int) -> TrainingBatch:
    proposal = Proposal(sampler=sampler, fractions=torch.ones(1, dtype=torch.float64))
    return fresh(Toy(function=_corner, n_dim=2), proposal, 5 * N_CHUNK, seed)


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_the_points_of_a_mixture_are_weighted_by_the_density_of_both(share: float) -> None:
    uniform = VegasGrid.uniform(1, 2, N_BINS)
    steep = VegasGrid(torch.linspace(0, 1, N_BINS + 1, dtype=torch.float64).sqrt().expand(1, 2, -1))
    got = mixed(steep, uniform, share, (_points(steep, seed=1), _points(uniform, seed=2)))
    # The midpoint rule: 1 / ess is the integral of f² / q where that of f is 1.
    nodes = (torch.arange(N_NODES, dtype=torch.float64) + 0.5) / N_NODES
    r = torch.cartesian_prod(nodes, nodes)
    channel = torch.zeros(len(r), dtype=torch.int64)
    q = (1 - share) * steep.log_prob(r, channel).exp() + share
    assert got["ess"] == pytest.approx(1 / float((_corner(r).square() / q).mean()), abs=0.005)
