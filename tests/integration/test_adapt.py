from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlgen.cards import VegasCard
from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import GenerationError
from mlgen.events.unweighting import effective_sample_size
from mlgen.integration.adapt import MIN_SHARE, adapt_grid, share_of_points
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.samplers.vegas import VegasGrid
from tests.integration.toys import Toy, nothing, peaks
from tests.laws import check_estimate

CARD = VegasCard(n_points=6000, n_iterations=6, n_bins=32)


def adapted(toy: Toy, seed: int = 1) -> tuple[VegasGrid, Tensor, int]:
    return adapt_grid(toy, CARD, seed, SilentProgress())


def test_the_integral_on_an_adapted_grid_is_the_true_one() -> None:
    toy = peaks()
    grid, fractions, _ = adapted(toy)
    batch, _ = draw(
        toy, Proposal(sampler=grid, fractions=fractions), 50_000, random_stream(2, "x", 0)
    )
    sums = ChannelSums.of(batch, 3)
    check_estimate(sums.mean, sums.error, toy.integral, max_relative_error=0.002)
    for c in range(3):
        check_estimate(
            float(sums.means[c]), float(sums.variances[c].sqrt()), toy.integrals[c], 0.01
        )


def test_adaptation_raises_the_effective_sample_size() -> None:
    toy = peaks()
    grid, fractions, _ = adapted(toy)
    uniform = VegasGrid.uniform(3, 2, 32)
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    sizes = []
    for sampler, shares in ((uniform, even), (grid, fractions)):
        proposal = Proposal(sampler=sampler, fractions=shares)
        batch, _ = draw(toy, proposal, 20_000, random_stream(2, "x", 0))
        sizes.append(effective_sample_size(channel_weight(batch) / batch.fraction))
    assert sizes[0] < 0.3
    assert sizes[1] > 0.9


def test_calls_are_counted_and_each_iteration_has_as_many_points_as_the_card_says() -> None:
    toy = peaks()
    _, _, n_calls = adapted(toy)
    assert toy.sizes == [6000] * 6
    assert 0 < n_calls <= 36_000


def test_fractions_add_up_to_one_and_no_channel_starves() -> None:
    _, fractions, _ = adapted(peaks())
    assert float(fractions.sum()) == pytest.approx(1, rel=1e-12)
    assert float(fractions.min()) >= MIN_SHARE / 3
    starved = share_of_points(torch.tensor([0.0, 3.0, 1.0], dtype=torch.float64))
    assert starved.tolist() == pytest.approx(
        [MIN_SHARE / 3, 0.675 + MIN_SHARE / 3, 0.225 + MIN_SHARE / 3]
    )


def test_a_channel_that_is_zero_everywhere_keeps_a_grid_and_few_points() -> None:
    toy = Toy(functions=(lambda r: 3 * r[:, 0] ** 2, lambda r: 0 * r[:, 0]), integrals=(1.0, 0.0))
    grid, fractions, _ = adapted(toy)
    assert float(fractions[1]) == pytest.approx(MIN_SHARE / 2)
    torch.testing.assert_close(grid.edges[1], VegasGrid.uniform(2, 2, 32).edges[1])
    assert not torch.allclose(grid.edges[0, 0], grid.edges[1, 0])


def test_an_integrand_that_is_zero_everywhere_is_an_error() -> None:
    with pytest.raises(
        GenerationError, match="none of 6000 points passes the cuts: expected cuts that leave"
    ):
        adapted(nothing())


def test_a_seed_fixes_the_grid_and_another_seed_gives_another() -> None:
    first, again, other = (adapted(peaks(), seed) for seed in (1, 1, 2))
    assert torch.equal(first[0].edges, again[0].edges)
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0].edges, other[0].edges)
