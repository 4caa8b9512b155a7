"""Variants of training: what each makes of the splitting after the last jet that is seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlgen.errors import CardError
from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.representation import LOG_PT, Particles
from mlgen.radiation.training import batch_loss, first_jets
from mlgen.radiation.variants import VARIANTS, Bootstrap, Splitting, start_variant
from tests.radiation.networks import random_network, random_particles

N_MAX = 3


def seen_events() -> Particles:
    return first_jets(random_particles(400, seed=21), N_MAX)


def splitting(name: str, network: RadiationNetwork, seen: Particles) -> Splitting:
    return start_variant(name, N_MAX).splitting(network, seen.columns, seen.n_jets)


def test_only_the_first_jets_are_seen() -> None:
    particles = random_particles(400, seed=21)
    seen = first_jets(particles, N_MAX)
    assert seen.columns.shape[1] == 1 + N_MAX
    assert torch.equal(seen.n_jets, particles.n_jets.clamp(max=N_MAX))
    assert bool((particles.n_jets > N_MAX).any())


@pytest.mark.parametrize("name", VARIANTS)
def test_before_the_last_jet_all_variants_are_alike(name: str) -> None:
    network, seen = random_network(22), seen_events()
    found, plain = splitting(name, network, seen), splitting("plain", network, seen)
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one[:, :N_MAX], other[:, :N_MAX])
    # An event goes on after each of its jets but the last one, where it ends.
    assert torch.equal(plain.target.sum(1).long(), seen.n_jets)
    assert torch.equal(plain.weight.sum(1).long(), seen.n_jets + 1)


def after_the_last(name: str) -> tuple[Tensor, Tensor]:
    """Target and weight of the splitting after jet n_max, of events that have so many."""
    network, seen = random_network(22), seen_events()
    full = seen.select(seen.n_jets == N_MAX)
    target, weight = splitting(name, network, full)
    return target[:, N_MAX], weight[:, N_MAX]


def test_plain_ends_every_event_where_no_more_is_seen() -> None:
    target, weight = after_the_last("plain")
    assert bool((target == 0).all() and (weight == 1).all())


@pytest.mark.parametrize("name", ["truncated", "bootstrap"])
def test_truncated_says_nothing_where_no_more_is_seen(name: str) -> None:
    _, weight = after_the_last(name)
    assert not bool(weight.any())


def test_override_takes_what_it_knows_of_one_jet_less() -> None:
    network, seen = random_network(22), seen_events()
    full = seen.select(seen.n_jets == N_MAX)
    target, weight = after_the_last("override")
    fewer = full.columns[:, [0, 2, 3]]
    with torch.no_grad():
        expected = network(fewer, full.n_jets - 1).split[:, -1].sigmoid()
    torch.testing.assert_close(target, expected.to(target.dtype), rtol=1e-5, atol=1e-6)
    assert float(target.std()) > 0
    assert bool((weight == 1).all())


def test_losses_differ_by_one_term_alone() -> None:
    network, seen = random_network(22), seen_events()
    with torch.no_grad():
        loss = {
            name: batch_loss(network, start_variant(name, N_MAX), seen.columns, seen.n_jets)
            for name in VARIANTS
        }
        logit = network(seen.columns, seen.n_jets).split[seen.n_jets == N_MAX, N_MAX].double()
    assert loss["truncated"] == loss["bootstrap"]
    target, _ = after_the_last("override")
    for name, p_split in (("plain", torch.zeros_like(logit)), ("override", target.double())):
        log_split, log_stop = -torch.nn.functional.softplus(torch.stack([-logit, logit]))
        term = -(p_split * log_split + (1 - p_split) * log_stop).sum() / len(seen)
        assert abs(float(loss[name] - loss["truncated"] - term)) < 1e-4


def test_bootstrap_continues_the_events_that_are_open() -> None:
    network, seen = random_network(22), seen_events()
    variant = Bootstrap(N_MAX)
    renewed = variant.renew(network, seen, torch.Generator().manual_seed(23))
    assert len(renewed) == len(seen)
    assert torch.equal(renewed.columns[:, : 1 + N_MAX], seen.columns)
    is_open = seen.n_jets == N_MAX
    assert torch.equal(renewed.n_jets[~is_open], seen.n_jets[~is_open])
    more = renewed.n_jets[is_open] - N_MAX
    assert set(more.tolist()) == set(range(Bootstrap.N_MORE + 1))
    log_pt = renewed.columns[..., LOG_PT]
    falls = log_pt[:, 1:].diff(dim=1) <= 0
    assert bool((falls | ~renewed.is_particle[:, 2:]).all())
    # Now the splitting is known up to there.
    _, weight = variant.splitting(network, renewed.columns, renewed.n_jets)
    expected = (renewed.n_jets + 1).clamp(max=N_MAX + Bootstrap.N_MORE)
    assert torch.equal(weight.sum(1).long(), expected)


def test_bootstrap_starts_from_what_is_seen_each_time() -> None:
    network, seen = random_network(22), seen_events()
    variant = Bootstrap(N_MAX)
    first, second = (
        variant.renew(network, seen, torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    assert torch.equal(first.columns[:, : 1 + N_MAX], second.columns[:, : 1 + N_MAX])
    assert not torch.equal(first.n_jets, second.n_jets)


def test_unknown_variants_are_refused() -> None:
    with pytest.raises(CardError, match=r"radiation\.variant = 'mine': expected one of bootstrap,"):
        start_variant("mine", N_MAX)
