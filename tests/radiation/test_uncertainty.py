"""Several networks for one density."""

from __future__ import annotations

from dataclasses import replace

import torch

from mlgen.radiation.model import RadiationNetwork
from mlgen.radiation.uncertainty import Ensemble, posterior_members
from tests.laws import check_estimate
from tests.radiation.networks import SMALL, hard_objects, moved, random_network, random_particles


def three() -> Ensemble:
    network = random_network(41)
    return Ensemble([network, moved(network, 0.03, seed=42), moved(network, 0.03, seed=43)])


def test_one_member_is_certain() -> None:
    network, particles = random_network(41), random_particles(300, seed=44)
    log_prob, std, weights = Ensemble([network]).density(particles)
    with torch.no_grad():
        torch.testing.assert_close(log_prob, network.log_prob(particles))
    assert not bool(std.any())
    assert bool((weights == 1).all())


def test_the_density_is_the_mean_of_the_members() -> None:
    ensemble, particles = three(), random_particles(300, seed=44)
    log_prob, std, weights = ensemble.density(particles)
    with torch.no_grad():
        every = torch.stack([member.log_prob(particles) for member in ensemble.members]).exp()
    torch.testing.assert_close(log_prob, every.mean(0).log())
    torch.testing.assert_close(std, every.std(0, correction=0) / every.mean(0))
    torch.testing.assert_close(weights.mean(0), torch.ones_like(std))


def test_samples_have_the_density_of_the_ensemble() -> None:
    # With p the mean of the members' densities, the mean of q / p over samples is 1 for any q.
    ensemble, rng = three(), torch.Generator().manual_seed(45)
    drawn = ensemble.sample(hard_objects(20_000, seed=46), rng, 30)
    for weights in ensemble.density(drawn).weights:
        assert float(weights.std()) > 0.05
        check_estimate(float(weights.mean()), float(weights.std()) / len(drawn) ** 0.5, 1.0, 0.02)


def test_no_event_is_an_answer_too() -> None:
    ensemble, none = three(), hard_objects(0, seed=46)
    assert ensemble.density(none).weights.shape == (3, 0)
    assert len(ensemble.sample(none, torch.Generator().manual_seed(45))) == 0


def variational(log_std: float) -> RadiationNetwork:
    settings = replace(SMALL, variational="all")
    network = random_network(47, settings)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("log_std"):
                parameter.fill_(log_std)
    return network


def test_wider_distributions_of_weights_are_less_certain() -> None:
    particles = random_particles(300, seed=48)
    stds = [
        float(posterior_members(variational(log_std), 5, seed=1).density(particles).std.mean())
        for log_std in (-20.0, -5.0, -4.0)
    ]
    assert stds[0] < 1e-4
    assert 0.01 < stds[1] < stds[2]


def test_members_without_width_are_the_mean() -> None:
    network, particles = variational(-30.0), random_particles(100, seed=49)
    (member,) = posterior_members(network, 1, seed=1).members
    with torch.no_grad():
        assert torch.equal(member.log_prob(particles), network.log_prob(particles))


def test_layers_drawn_in_training_scatter_as_drawn_weights_do() -> None:
    network, particles = variational(-4.0), random_particles(20, seed=50)
    columns = particles.columns[:1].expand(20_000, -1, -1)
    network.train()
    with torch.no_grad():
        # One layer alone: after it, weights that rows share make them differ.
        drawn = network.read_hard(torch.cat([columns[:, 0], columns[:, 0, :1]], dim=1).float())
    std = drawn.std(0)
    x = torch.cat([columns[0, 0], columns[0, 0, :1]]).float()
    expected = (x.square().sum() * torch.tensor(-8.0).exp()).sqrt()
    torch.testing.assert_close(std, expected.expand_as(std), rtol=0.03, atol=0)
