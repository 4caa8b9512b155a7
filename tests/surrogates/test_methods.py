from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, distributions

from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.bayesian import BayesianLastLayer
from mlgen.surrogates.calibration import ONE_SIGMA
from mlgen.surrogates.evidential import evidential_loss
from mlgen.surrogates.method import gaussian_loss
from mlgen.surrogates.methods import METHODS, start_method
from mlgen.surrogates.mixture import GaussianMixture
from mlgen.surrogates.networks import Inputs
from mlgen.surrogates.repulsive import repulsion
from mlgen.surrogates.training import TrainingSet, train

LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
SMALL = SurrogateCard(
    n_hidden=24, n_layers=2, n_members=3, n_steps=400, batch_size=256, learning_rate=0.01
)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_gaussian_loss_is_a_normal_density() -> None:
    mean, log_std, target = normal(3, 50).unbind(0)
    expected = -distributions.Normal(mean, log_std.exp()).log_prob(target) - LOG_ROOT_2PI  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.testing.assert_close(gaussian_loss(mean, log_std, target), expected)


def test_the_mixture_loss_is_a_mixture_of_normal_densities() -> None:
    method = GaussianMixture(Inputs(3), SMALL, torch.Generator().manual_seed(1))
    features, target = normal(40, 3), normal(40, seed=2)
    logit, mean, log_std = method.network(features)[0].chunk(3, dim=1)
    mixture = distributions.MixtureSameFamily(
        distributions.Categorical(logits=logit), distributions.Normal(mean, log_std.exp())
    )
    expected = -mixture.log_prob(target).mean() - LOG_ROOT_2PI  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.testing.assert_close(method.loss(features, target, 40), expected)
    predicted = method(features)
    torch.testing.assert_close(predicted.mean, mixture.mean)
    torch.testing.assert_close(predicted.systematic, mixture.stddev)


def test_the_evidential_loss_is_students_t() -> None:
    error = normal(50).double()
    nu, alpha, beta = (
        normal(3, 50, seed=2).double().exp() + torch.tensor([0.0, 1, 0])[:, None]
    ).unbind(0)
    # Eq. (7) of arXiv:1910.02600, by its own definition.
    scale = (beta * (1 + nu) / (nu * alpha)).sqrt()
    expected = -distributions.StudentT(2 * alpha, 0.0, scale).log_prob(error)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.testing.assert_close(evidential_loss(error, nu, alpha, beta), expected)


def test_the_bayesian_loss_is_the_evidence_bound() -> None:
    method = BayesianLastLayer(Inputs(3), SMALL, torch.Generator().manual_seed(1))
    with torch.no_grad():
        method.factor.add_(0.1 * normal(25, 25))
    posterior = distributions.MultivariateNormal(
        method.last[:, 0].double(), scale_tril=method._cholesky().double()
    )
    prior = distributions.MultivariateNormal(torch.zeros(25).double(), torch.eye(25).double())
    divergence = distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(method.divergence().double(), divergence, rtol=1e-5, atol=0)
    features, target = normal(20, 3), normal(20, seed=2)
    loss = float(method.loss(features, target, 100).detach())
    drawn = []
    torch.manual_seed(1)
    for _ in range(2000):
        with torch.no_grad():
            hidden = torch.nn.functional.silu(method.network(features)[0])
            hidden = torch.nn.functional.pad(hidden, (0, 1), value=1.0)
            mean = hidden @ posterior.sample().float()
            drawn.append(gaussian_loss(mean, (hidden @ method.last)[:, 1], target).mean())
    losses = torch.stack(drawn)
    error = float(losses.std()) / len(losses) ** 0.5
    expected = float(losses.mean()) + float(divergence.detach()) / 100
    assert error < 0.02 * abs(expected)
    assert abs(loss - expected) < 5 * error


def test_members_repel_each_other_as_the_kernel_says() -> None:
    functions = normal(2, 7).double().requires_grad_()
    (gradient,) = torch.autograd.grad(repulsion(functions), functions)
    difference = (functions[0] - functions[1]).detach()
    distance = difference.square().sum()
    width = distance / math.log(2)
    kernel = (-distance / width).exp()
    expected = -2 * difference / width * kernel / (1 + kernel)
    torch.testing.assert_close(gradient[0], expected)
    torch.testing.assert_close(gradient[1], -expected)
    # Against the gradient is away from each other.
    assert float((gradient[0] * difference).sum()) < 0


def noisy_line(n: int, seed: int) -> tuple[TrainingSet, Tensor]:
    """t = sin 3x with normal noise whose width grows from 0.05 to 0.4 with x; and that width."""
    x = 2 * torch.rand(n, generator=torch.Generator().manual_seed(seed)) - 1
    width = 0.05 + 0.175 * (1 + x)
    target = (3 * x).sin() + width * normal(n, seed=seed + 1)
    return TrainingSet(features=x[:, None], target=target), width


@pytest.mark.parametrize(
    "settings",
    [
        *(replace(SMALL, method=name) for name in sorted(METHODS)),
        replace(SMALL, method="bayesian", variational="all"),
    ],
    ids=lambda settings: f"{settings.method}, {settings.variational}",
)
def test_known_noise_is_learned_as_such(settings: SurrogateCard) -> None:
    training, _ = noisy_line(6000, seed=1)
    validation, _ = noisy_line(1000, seed=3)
    test, width = noisy_line(20_000, seed=5)
    method = start_method(Inputs(1), settings, torch.Generator().manual_seed(1))
    train(method, training, validation, settings, 1, SilentProgress())
    with torch.no_grad():
        mean, systematic, statistical = method(test.features)
    truth = (3 * test.features[:, 0]).sin()
    assert float((mean - truth).abs().mean()) < 0.03
    std = torch.hypot(systematic, statistical)
    assert float((std / width - 1).abs().mean()) < 0.15
    assert coverage(test.target - mean, std) == pytest.approx(ONE_SIGMA, abs=0.03)
    if settings.method != "evidential":  # whose likelihood does not tell the two apart
        # What the sample leaves open is much less than the noise: there are thousands of points.
        assert float((statistical / systematic).mean()) < 0.3
    # The control: one width for all points covers neither end.
    ends = test.features[:, 0].abs() > 0.8
    alike = std.square().mean().sqrt().expand_as(std)
    low, high = ends & (test.features[:, 0] < 0), ends & (test.features[:, 0] > 0)
    error = test.target - mean
    assert coverage(error[low], alike[low]) > 0.9
    assert coverage(error[high], alike[high]) < 0.6


def coverage(error: Tensor, std: Tensor) -> float:
    return float((error.abs() < std).double().mean())


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(CardError, match=r"surrogate\.method = 'oracle': expected one of bayesian"):
        start_method(Inputs(1), SurrogateCard(method="oracle"), torch.Generator())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "surrogate.n_steps = 0: expected at least 1"),
        ({"learning_rate": -1.0}, "surrogate.learning_rate = -1.0: expected a positive number"),
        ({"calibration_share": 0.7}, "surrogate.calibration_share = 0.7: expected a share"),
        ({"boost": -1.0}, "surrogate.boost = -1.0: expected 0 or more"),
        ({"batch_growth": 0.5}, "surrogate.batch_growth = 0.5: expected at least 1"),
    ],
)
def test_settings_out_of_range_are_errors(changes: dict[str, float], message: str) -> None:
    with pytest.raises(CardError, match=message):
        SurrogateCard(**changes)  # type: ignore[arg-type]  # of several fields
