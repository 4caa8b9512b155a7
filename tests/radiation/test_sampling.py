"""Drawing jets: with and without the cache, in order, and as many as there may be."""

from __future__ import annotations

import pytest
import torch

from mlgen.radiation.representation import LOG_PT, Particles
from mlgen.radiation.sampling import CachedReader, ReaderFactory, RecomputingReader, sample
from tests.laws import check_frequencies
from tests.radiation.networks import hard_objects, random_network, random_particles


def draw(
    n: int, seed: int = 1, reader: ReaderFactory = CachedReader, max_jets: int = 20
) -> Particles:
    rng = torch.Generator().manual_seed(seed)
    return sample(random_network(11), hard_objects(n, seed=2), rng, max_jets, reader)


def test_the_cache_changes_nothing() -> None:
    quick, slow = draw(2000), draw(2000, reader=RecomputingReader)
    assert torch.equal(quick.n_jets, slow.n_jets)
    assert int(quick.n_jets.max()) >= 4
    torch.testing.assert_close(quick.columns, slow.columns, rtol=0, atol=1e-5)


def test_a_generator_decides_what_is_drawn() -> None:
    assert torch.equal(draw(100).columns, draw(100).columns)
    assert not torch.equal(draw(100).n_jets, draw(100, seed=3).n_jets)


def test_jets_fall_in_pt() -> None:
    drawn = draw(2000)
    log_pt = drawn.columns[:, 1:, LOG_PT]
    falls = log_pt.diff(dim=1) <= 0
    assert bool((falls | ~drawn.is_particle[:, 2:]).all())
    assert not bool(drawn.columns[~drawn.is_particle].any())


def test_no_event_has_more_jets_than_it_may() -> None:
    few, many = draw(2000, max_jets=2), draw(2000)
    assert few.columns.shape[1] == 3
    assert int(many.n_jets.max()) > 2
    shares = torch.bincount(many.n_jets.clamp(max=2)).double()
    check_frequencies(torch.bincount(few.n_jets), shares)


def test_the_first_jet_is_as_probable_as_the_network_says() -> None:
    network, hard = random_network(11), hard_objects(1, seed=4)
    with torch.no_grad():
        p_split = network(hard.columns, hard.n_jets).split.sigmoid().item()
    many = hard.select(torch.zeros(20_000, dtype=torch.int64))
    drawn = sample(network, many, torch.Generator().manual_seed(5))
    counts = torch.bincount(drawn.n_jets.clamp(max=1))
    check_frequencies(counts, torch.tensor([1 - p_split, p_split]))
    other = p_split + 0.03
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(counts, torch.tensor([1 - other, other]))


def test_jets_that_are_given_stay_and_others_follow() -> None:
    particles = random_particles(3000, seed=6, n_max=2)
    given = particles.select(particles.n_jets == 2)
    network = random_network(11)
    drawn = sample(network, given, torch.Generator().manual_seed(7), 10)
    assert torch.equal(drawn.columns[:, :3], given.columns)
    assert int(drawn.n_jets.min()) == 2
    with torch.no_grad():
        p_split = network(given.columns, given.n_jets).split[:, 2].sigmoid().double()
    more = (drawn.n_jets > 2).double()
    error = (p_split * (1 - p_split)).sum().sqrt()
    assert abs(float((more - p_split).sum() / error)) < 5
    slow = sample(network, given, torch.Generator().manual_seed(7), 10, RecomputingReader)
    torch.testing.assert_close(drawn.columns, slow.columns, rtol=0, atol=1e-5)


def test_no_event_is_an_answer_too() -> None:
    drawn = draw(0)
    assert drawn.columns.shape == (0, 1, 4)
