from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mlgen.core import random_stream
from mlgen.integration.proposal import Proposal, channel_weight, draw, draw_channels
from mlgen.samplers.vegas import VegasGrid
from tests.integration.toys import peaks
from tests.laws import check_frequencies


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_seed_purpose_and_chunk_has_a_stream_of_its_own() -> None:
    keys = list(itertools.product(range(8), ("adapt", "train", "generating"), range(50)))
    seeds = {random_stream(*key).initial_seed() for key in keys}
    assert len(seeds) == len(keys)


def test_the_same_key_gives_the_same_numbers() -> None:
    first, again = (torch.rand(10, generator=random_stream(3, "adapt", 7)) for _ in range(2))
    assert torch.equal(first, again)


def test_neighbouring_streams_are_not_correlated() -> None:
    n = 100_000
    streams = [(1, "adapt", 0), (1, "adapt", 1), (2, "adapt", 0), (1, "train", 0)]
    numbers = torch.stack(
        [torch.rand(n, generator=random_stream(*key), dtype=torch.float64) for key in streams]
    )
    correlation = torch.corrcoef(numbers) - torch.eye(4, dtype=torch.float64)
    assert float(correlation.abs().max()) < 5 / n**0.5


@pytest.mark.parametrize("n", [1, 7, 1000, 16_384])
@pytest.mark.parametrize(
    "shares", [[1.0], [0.5, 0.5], [0.1, 0.2, 0.3, 0.4], [1 / 3] * 3, [1e-6, 1 - 1e-6]]
)
def test_each_channel_is_drawn_as_often_as_its_fraction_says_within_one(
    n: int, shares: list[float]
) -> None:
    fractions = torch.tensor(shares, dtype=torch.float64)
    for seed in range(20):
        channel = draw_channels(fractions, n, stream(seed))
        counts = channel.bincount(minlength=len(shares)).to(torch.float64)
        assert len(channel) == n
        assert float((counts - n * fractions).abs().max()) < 1 + 1e-9


@pytest.mark.parametrize(
    "shares", [[0.0, 1.0], [1.0, 0.0], [0.3, 0.0, 0.7, 0.0, 0.0], [0.0, 0.1, 0.2, 0.7, 0.0]]
)
def test_a_channel_without_a_fraction_is_never_drawn(shares: list[float]) -> None:
    fractions = torch.tensor(shares, dtype=torch.float64)
    for seed in range(200):
        channel = draw_channels(fractions, 100, stream(seed))
        assert bool((fractions[channel] > 0).all())


def test_no_channel_is_lost_where_rounding_leaves_the_fractions_short_of_one() -> None:
    fractions = torch.full((49,), 1 / 49, dtype=torch.float64) * (1 - 1e-12)
    channel = draw_channels(fractions, 4900, stream(1))
    assert channel.bincount(minlength=49).tolist() == [100] * 49


def mean_counts(n: int, n_draws: int, fractions: Tensor) -> Tensor:
    draws = [draw_channels(fractions, n, random_stream(5, "counts", i)) for i in range(n_draws)]
    return torch.cat(draws).bincount(minlength=len(fractions)).to(torch.float64) / n_draws


def test_the_expected_number_of_points_of_a_channel_is_exact() -> None:
    fractions = torch.tensor([0.07, 0.58, 0.35], dtype=torch.float64)
    n, n_draws = 5, 4000
    # A count takes one of two neighbouring values: its spread is at most 1/2.
    error = 0.5 / n_draws**0.5
    assert float((mean_counts(n, n_draws, fractions) - n * fractions).abs().max()) < 5 * error


def first_ten(in_random_order: bool) -> Tensor:
    """How often each channel is among the first ten of a hundred points."""
    fractions = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    counts = torch.zeros(3, dtype=torch.int64)
    for i in range(500):
        channel = draw_channels(fractions, 100, random_stream(6, "prefix", i))
        if not in_random_order:
            channel = channel.sort().values
        counts += channel[:10].bincount(minlength=3)
    return counts


def test_the_first_points_are_a_fair_sample_of_the_channels() -> None:
    fractions = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    check_frequencies(first_ten(in_random_order=True), fractions)


def test_the_test_above_notices_channels_in_order() -> None:
    fractions = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(first_ten(in_random_order=False), fractions)


def test_a_batch_says_what_a_loss_needs_to_know_of_its_points() -> None:
    toy = peaks()
    fractions = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    grid = VegasGrid.uniform(n_channels=3, n_dim=2, n_bins=8)
    batch, evaluation = draw(toy, Proposal(sampler=grid, fractions=fractions), 1000, stream(8))
    assert (len(batch), toy.sizes) == (1000, [1000])
    assert torch.equal(batch.value, evaluation.value)
    assert torch.equal(batch.fraction, fractions[batch.channel])
    assert torch.equal(batch.log_q, grid.log_prob(batch.r, batch.channel))
    flat = torch.zeros(1000, 1, dtype=torch.float64)
    again = toy(torch.cat([batch.r, flat], dim=1), batch.channel)
    assert torch.equal(batch.value, again.value)
    assert torch.equal(channel_weight(batch), batch.value / batch.log_q.exp())
