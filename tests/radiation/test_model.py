"""The likelihood: causal, normalised, and the sum of its terms."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mlgen.errors import CardError, PackError
from mlgen.radiation.model import EXACT, RadiationNetwork
from mlgen.radiation.sampling import sample
from mlgen.radiation.settings import NetworkSettings
from tests.laws import check_estimate
from tests.radiation.networks import (
    SMALL,
    hard_objects,
    moved,
    random_network,
    random_particles,
)


@torch.no_grad()
def test_a_particle_changes_no_term_before_it() -> None:
    network, particles = random_network(1), random_particles(200, seed=1)
    particles = particles.select(particles.n_jets == 4)
    found = network(particles.columns, particles.n_jets)
    for changed in range(5):
        columns = particles.columns.clone()
        # All but the first one, below whose value later jets stay.
        columns[:, changed, 1:] += 0.3
        other = network(columns, particles.n_jets)
        jets = (other.log_kin - found.log_kin).abs().amax(0) > 1e-6
        splits = (other.split - found.split).abs().amax(0) > 1e-6
        assert jets.tolist() == [jet >= changed for jet in range(1, 5)]
        assert splits.tolist() == [row >= changed for row in range(5)]


@torch.no_grad()
def test_filler_changes_nothing() -> None:
    network, particles = random_network(1), random_particles(200, seed=2)
    wider = replace(particles, columns=F.pad(particles.columns, (0, 0, 0, 3)))
    expected = network.log_prob(particles)
    torch.testing.assert_close(network.log_prob(wider), expected, rtol=0, atol=1e-4)
    columns = torch.where(particles.is_particle[..., None], particles.columns, 1.7)
    other = network.log_prob(replace(particles, columns=columns))
    torch.testing.assert_close(other, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_likelihood_is_the_sum_of_its_terms() -> None:
    network, particles = random_network(2), random_particles(50, seed=3)
    terms = network(particles.columns, particles.n_jets)
    found = network.log_prob(particles)
    for event in range(50):
        n = int(particles.n_jets[event])
        p_split = terms.split[event].double().sigmoid()
        expected = float(terms.log_kin[event, :n].sum())
        expected += float(p_split[:n].log().sum()) + float((1 - p_split[n]).log())
        assert abs(float(found[event]) - expected) < 1e-4


def two_networks() -> tuple[RadiationNetwork, RadiationNetwork]:
    """Different, but not so much that the ratio of their densities has no mean to speak of."""
    network = random_network(3)
    return network, moved(network, 0.03, seed=4)


class Ratios(NamedTuple):
    """Of samples that one network drew."""

    weights: Tensor
    """The other network's density over its own."""
    n_jets: Tensor
    stops: Tensor
    """The other network's probability that there is no further jet."""


@torch.no_grad()
def ratios(p: RadiationNetwork, q: RadiationNetwork) -> Ratios:
    drawn = sample(p, hard_objects(15_000, seed=4), torch.Generator().manual_seed(5), 30)
    stops = -q(drawn.columns, drawn.n_jets).split.gather(1, drawn.n_jets[:, None])[:, 0]
    weights = (q.log_prob(drawn) - p.log_prob(drawn)).exp()
    return Ratios(weights, drawn.n_jets, stops.double().sigmoid())


@pytest.fixture(scope="module")
def of_one() -> Ratios:
    return ratios(*two_networks())


def check_mean(values: Tensor, expected: float) -> None:
    error = float(values.std()) / len(values) ** 0.5
    check_estimate(float(values.mean()), error, expected, max_relative_error=0.05)


def test_the_likelihood_integrates_to_one(of_one: Ratios) -> None:
    # The mean of q / p over samples of p is the integral of q, over all jets and multiplicities.
    assert int(of_one.n_jets.max()) >= 4
    assert float(of_one.weights.std()) > 0.1, "the two are alike"
    check_mean(of_one.weights, 1.0)


def test_without_stopping_the_likelihood_integrates_to_more(of_one: Ratios) -> None:
    with pytest.raises(AssertionError, match="pull"):
        check_mean(of_one.weights / of_one.stops, 1.0)


def test_each_multiplicity_has_its_probability(of_one: Ratios) -> None:
    p, q = two_networks()
    n_jets_of_q = ratios(q, p).n_jets
    for n in range(4):
        # Row by row, from the same random numbers: the difference has its own error.
        difference = of_one.weights * (of_one.n_jets == n) - (n_jets_of_q == n).double()
        check_mean(difference + 1, 1.0)


def test_gradients_are_finite_and_reach_every_parameter() -> None:
    network, particles = random_network(5), random_particles(100, seed=6)
    network.log_prob(particles).mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        # Nothing comes before the first number of a jet.
        assert name == "read_number.0.weight" or bool(parameter.grad.any()), name


@torch.no_grad()
def test_a_state_comes_back() -> None:
    settings = replace(SMALL, variational="last")
    network, particles = random_network(7, settings), random_particles(100, seed=7)
    back = RadiationNetwork.restore(settings, network.state())
    assert torch.equal(back.log_prob(particles), network.log_prob(particles))
    rounded = {
        name: tensor if name in EXACT else tensor.half() for name, tensor in network.state().items()
    }
    half = RadiationNetwork.restore(settings, rounded).log_prob(particles)
    torch.testing.assert_close(half, network.log_prob(particles), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("split.bias", lambda t: None, r"tensor split.bias = none: expected \(1,\)"),
        ("split.bias", lambda t: t[None], r"tensor split.bias = \(1, 1\): expected \(1,\)"),
        ("split.bias", lambda t: t / 0, "tensor split.bias = NaN or infinite: expected finite"),
        ("other", lambda t: torch.ones(2), r"tensor other = \(2,\): expected none"),
    ],
)
def test_damaged_states_are_refused(name: str, change: object, message: str) -> None:
    state = random_network(8).state()
    assert callable(change)
    changed = change(state.get(name))
    state = {k: v for k, v in state.items() if k != name}
    if changed is not None:
        state[name] = changed
    with pytest.raises(PackError, match=message):
        RadiationNetwork.restore(SMALL, state)


def test_heads_divide_channels() -> None:
    with pytest.raises(CardError, match=r"radiation\.n_heads = 3: expected a divisor of 64"):
        NetworkSettings(n_heads=3)
