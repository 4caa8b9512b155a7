from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, distributions

from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.bayesian import BayesianLastLayer
from mlgen.surrogates.method import gaussian_loss
from mlgen.surrogates.networks import Inputs, silu
from mlgen.surrogates.variational import BayesianNetwork

SMALL = SurrogateCard(n_hidden=12, n_layers=2)
N_WEIGHTS = 13
"""Of the mean in the last layer, its bias included."""
NOISE = 0.3
"""The width of a known noise."""


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def last_layer() -> BayesianLastLayer:
    return BayesianLastLayer(Inputs(3), SMALL, torch.Generator().manual_seed(1))


def whole_network(std: float) -> BayesianNetwork:
    """With weights that are known to so much, larger and smaller by a factor of about 2."""
    method = BayesianNetwork(Inputs(3), SMALL, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for index, log_std in enumerate(method.log_stds):
            log_std.copy_(math.log(std) + 0.7 * normal(*log_std.shape, seed=index))
            # Networks start with biases of 0 and a small last layer.
            method.means.layers[index].add_(0.3 * normal(*log_std.shape, seed=10 + index))
    return method


def drawn(method: BayesianNetwork, seed: int) -> BayesianNetwork:
    """A network with one draw of all weights, and no uncertainty of them."""
    one = copy.deepcopy(method)
    with torch.no_grad():
        for index, (mean, log_std) in enumerate(zip(one.means.layers, one.log_stds, strict=True)):
            mean.add_(log_std.exp() * normal(*mean.shape, seed=100 * seed + index))
            log_std.fill_(-30.0)
    return one


def posterior(hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the precision of a linear model's weights, for the prior N(0, 1)."""
    precision = hidden.T @ hidden / NOISE**2 + torch.eye(hidden.shape[1])
    return torch.linalg.solve(precision, hidden.T @ target / NOISE**2), precision


def with_bias(hidden: Tensor) -> Tensor:
    return torch.nn.functional.pad(hidden, (0, 1), value=1.0)


def test_the_last_layer_ends_at_the_posterior_of_a_linear_model() -> None:
    method = last_layer()
    features, target = normal(200, 3), normal(200, seed=2)
    with torch.no_grad():
        hidden = with_bias(silu(method.network(features)[0]))
        mean, precision = posterior(hidden, target)
        factor = torch.linalg.cholesky(torch.linalg.inv(precision))
        method.last[:, 0], method.last[:, 1] = mean, 0.0
        method.last[-1, 1] = math.log(NOISE)
        method.factor.copy_(factor.tril(-1) + factor.diagonal().log().diag())

    def gradients() -> tuple[Tensor, Tensor]:
        loss = method.loss(features, target, len(features))
        last, factor = torch.autograd.grad(loss, [method.last, method.factor])
        return last[:, 0], factor

    for gradient in gradients():
        assert float(gradient.abs().max()) < 1e-4
    predicted = method(features)
    expected = distributions.MultivariateNormal(mean, precision_matrix=precision)
    variance = (hidden @ expected.covariance_matrix * hidden).sum(1)
    torch.testing.assert_close(predicted.statistical.square(), variance, rtol=1e-3, atol=0)
    # The control: twice as sure is no optimum.
    with torch.no_grad():
        method.factor.diagonal().sub_(math.log(2))
    assert float(gradients()[1].abs().max()) > 1e-3


def test_all_layers_end_at_the_best_independent_weights_of_a_linear_model() -> None:
    method = whole_network(std=1e-12)
    features, target = normal(200, 3), normal(200, seed=2)
    means, log_stds = method.means.layers[-1], method.log_stds[-1]
    with torch.no_grad():
        hidden = features.T
        for index in (0, 1):
            layer = method.means.layers[index][0]
            hidden = silu(layer[:-1].T @ hidden + layer[-1:].T)
        hidden = with_bias(hidden.T)
        mean, precision = posterior(hidden, target)
        means[0, :, 0], means[0, :, 1] = mean, 0.0
        means[0, -1, 1] = math.log(NOISE)
        # The independent normal distribution with the least KL to a normal one has its mean, and
        # the inverse of the diagonal of its precision as variances.
        log_stds[0, :, 0] = -0.5 * precision.diagonal().log()

    def gradients(n_draws: int) -> tuple[Tensor, Tensor]:
        """The mean and its error, (2 N_WEIGHTS,) each."""
        found = []
        for _ in range(n_draws):
            loss = method.loss(features, target, len(features))
            pair = torch.autograd.grad(loss, [means, log_stds])
            found.append(torch.cat([part[0, :, 0] for part in pair]))
        each = torch.stack(found)
        return each.mean(0), each.std(0) / n_draws**0.5

    gradient, error = gradients(1000)
    assert len(gradient) == 2 * N_WEIGHTS
    assert float((gradient.abs() / error).max()) < 5
    # The control: twice as sure is no optimum.
    with torch.no_grad():
        log_stds[0, :, 0] -= math.log(2)
    gradient, error = gradients(1000)
    assert float((gradient.abs() / error).max()) > 20


def test_both_divergences_are_those_of_normal_distributions() -> None:
    last, whole = last_layer(), whole_network(std=0.1)
    with torch.no_grad():
        last.factor.add_(0.1 * normal(N_WEIGHTS, N_WEIGHTS))
    found = distributions.MultivariateNormal(last.last[:, 0], scale_tril=last._cholesky())
    prior = distributions.MultivariateNormal(torch.zeros(N_WEIGHTS), torch.eye(N_WEIGHTS))
    torch.testing.assert_close(last.divergence(), distributions.kl_divergence(found, prior))
    expected = torch.zeros(())
    for mean, log_std in zip(whole.means.layers, whole.log_stds, strict=True):
        weights = distributions.Normal(mean, log_std.exp())
        standard = distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        expected = expected + distributions.kl_divergence(weights, standard).sum()
    torch.testing.assert_close(whole.divergence(), expected)


def mean_and_error(numbers: list[Tensor]) -> tuple[float, float]:
    each = torch.stack(numbers)
    return float(each.mean()), float(each.std()) / len(each) ** 0.5


@pytest.mark.parametrize("n_training", [20, 10**9])
def test_the_loss_of_all_layers_is_the_evidence_bound(n_training: int) -> None:
    method = whole_network(std=0.05)
    features, target = normal(20, 3), normal(20, seed=2)
    with torch.no_grad():
        losses = [method.loss(features, target, n_training) for _ in range(2000)]
        expected = []
        for seed in range(2000):
            mean, log_std = drawn(method, seed).means(features)[0].unbind(1)
            expected.append(gaussian_loss(mean, log_std, target).mean())
        divergence = float(method.divergence()) / n_training
    found, error = mean_and_error(losses)
    wanted, its_error = mean_and_error(expected)
    assert math.hypot(error, its_error) < 0.02 * abs(wanted)
    assert abs(found - divergence - wanted) < 5 * math.hypot(error, its_error)


def test_the_spread_of_a_network_is_that_of_its_draws() -> None:
    method = whole_network(std=0.003)
    features = normal(50, 3)
    with torch.no_grad():
        predicted = method(features)
        means = torch.stack([drawn(method, seed)(features).mean for seed in range(4000)])
    spread = means.std(0)
    torch.testing.assert_close(predicted.statistical, spread, rtol=0.05, atol=0)
    error = spread / len(means) ** 0.5
    assert float(((predicted.mean - means.mean(0)) / error).abs().max()) < 5
    # The control: spreads differ from point to point by more than that.
    assert float(spread.max() / spread.min()) > 1.3


def test_a_draw_is_another_one_each_time_and_the_same_for_the_same_seed() -> None:
    features, target = normal(20, 3), normal(20, seed=2)
    one, other = whole_network(std=0.1), whole_network(std=0.1)
    first, second = (float(one.loss(features, target, 100).detach()) for _ in range(2))
    assert first != second
    assert float(other.loss(features, target, 100).detach()) == first
