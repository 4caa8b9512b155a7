from __future__ import annotations

import torch
from torch import Tensor, nn

from mlgen.soap import BETA, AveragedSoap
from mlgen.surrogates.networks import ParallelMlp


class Product(nn.Module):
    """A matrix to be found from its products with vectors of very different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 6))
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def ill_conditioned(seed: int = 1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=rng))
    x = torch.randn(512, 8, generator=rng) * torch.logspace(-2, 0, 8) @ turn
    return x, x @ torch.randn(8, 6, generator=rng) + 1


def fit_with_soap(n_steps: int) -> tuple[Product, float]:
    model = Product()
    optimizer = AveragedSoap(model)
    x, y = ill_conditioned()
    loss = torch.zeros(())
    with optimizer.stepping():
        for step in range(n_steps):
            loss = (model(x) - y).square().mean()
            optimizer.step(loss, 0.1 * (1 - step / n_steps))
    return model, float(loss.detach())


def fit_with_adam(n_steps: int) -> float:
    model = Product()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x, y = ill_conditioned()
    loss = torch.zeros(())
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / n_steps)
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_an_ill_conditioned_problem_is_solved_where_adam_has_not_arrived() -> None:
    _, loss = fit_with_soap(300)
    assert loss < 0.1 * fit_with_adam(300)


def test_the_same_steps_lead_to_the_same_place() -> None:
    (one, _), (two, _) = fit_with_soap(50), fit_with_soap(50)
    assert torch.equal(one.weight, two.weight)


def test_plain_parameters_are_stepped_by_adam_each_at_its_rate() -> None:
    ours, theirs = Product(), Product()
    optimizer = AveragedSoap(ours, {ours.weight: 0.5}, plain=ours.parameters())
    groups = [{"params": [theirs.weight], "lr": 0.05}, {"params": [theirs.bias], "lr": 0.1}]
    adam = torch.optim.Adam(groups, betas=(BETA, BETA))
    x, y = ill_conditioned()
    with optimizer.stepping():
        for _ in range(20):
            # Small enough not to be clipped.
            optimizer.step(0.1 * (ours(x) - y).square().mean(), 0.1)
            adam.zero_grad()
            (0.1 * (theirs(x) - y).square().mean()).backward()
            adam.step()
        torch.testing.assert_close(ours.weight, theirs.weight)
        torch.testing.assert_close(ours.bias, theirs.bias)


def test_outside_of_steps_the_module_has_the_mean() -> None:
    model = Product()
    optimizer = AveragedSoap(model)
    x, y = ill_conditioned()
    seen = []
    with optimizer.stepping():
        for _ in range(5):
            optimizer.step((model(x) - y).square().mean(), 0.1)
            seen.append(model.bias.detach().clone())
    # The first five have equal shares but for the start, which is forgotten.
    torch.testing.assert_close(model.bias.detach(), expected_mean(seen))
    with optimizer.stepping():
        assert torch.equal(model.bias, seen[-1])


def expected_mean(seen: list[Tensor]) -> Tensor:
    mean = torch.zeros_like(seen[0])
    for step, values in enumerate(seen, start=1):
        mean = mean + (values - mean) * 5 / (step + 4)
    return mean


def test_networks_side_by_side_do_not_touch_each_other() -> None:
    def second_of_two(first_seed: int) -> list[Tensor]:
        networks = ParallelMlp([3, 8, 8, 2], 2, torch.Generator().manual_seed(1))
        other = ParallelMlp([3, 8, 8, 2], 1, torch.Generator().manual_seed(first_seed))
        with torch.no_grad():
            for layer, of_other in zip(networks.layers, other.layers, strict=True):
                layer[:1] = of_other
        rng = torch.Generator().manual_seed(2)
        x, target = torch.randn(64, 3, generator=rng), torch.randn(64, 2, generator=rng)
        optimizer = AveragedSoap(networks)
        with optimizer.stepping():
            for _ in range(30):
                # Small gradients: the norm that is clipped is of all networks together.
                optimizer.step(0.1 * (networks(x) - target).square().mean((1, 2)).sum(), 0.01)
        return [layer[1].detach() for layer in networks.layers]

    for one, two in zip(second_of_two(3), second_of_two(4), strict=True):
        assert torch.equal(one, two)
