from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mlgen.integration.optimizer import AveragedAdam

N_STEPS, RATE = 30, 0.01


class TwoPrecisions(nn.Module):
    """A module whose parameters are not all of one precision, nor all used at each step."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.matrix = nn.Parameter(torch.randn(3, 4, generator=rng))
        self.vector = nn.Parameter(torch.randn(4, generator=rng, dtype=torch.float64))
        self.unused = nn.Parameter(torch.randn(2, generator=rng))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.matrix + self.vector).square().mean()


def inputs() -> list[Tensor]:
    rng = torch.Generator().manual_seed(7)
    return [torch.randn(16, 3, generator=rng) for _ in range(N_STEPS)]


def trained(module: TwoPrecisions, x: list[Tensor]) -> AveragedAdam:
    adam = AveragedAdam(module)
    with adam.stepping():
        for one in x:
            adam.step(module(one), RATE)
    return adam


def test_a_step_is_that_of_the_library_with_clipped_gradients() -> None:
    ours = TwoPrecisions(1)
    theirs = copy.deepcopy(ours)
    adam, reference = AveragedAdam(ours), torch.optim.Adam(theirs.parameters(), lr=RATE)
    with adam.stepping():
        for x in inputs():
            adam.step(1000 * ours(x), RATE)
            reference.zero_grad()
            (1000 * theirs(x)).backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 5.0)
            reference.step()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_between_steps_the_module_has_a_running_mean_of_its_parameters() -> None:
    module = TwoPrecisions(1)
    adam = AveragedAdam(module)
    mean = torch.zeros(4, dtype=torch.float64)
    with adam.stepping():
        for n, x in enumerate(inputs(), start=1):
            adam.step(module(x), RATE)
            now = module.vector.detach().clone()
            mean = mean + (now - mean) * 5 / (n + 4)
    torch.testing.assert_close(module.vector.detach(), mean, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(mean, now, atol=1e-3)


def test_an_error_inside_leaves_the_mean() -> None:
    module = TwoPrecisions(1)
    adam = trained(module, inputs())
    before = module.matrix.detach().clone()
    with adam.stepping():
        assert not torch.equal(module.matrix.detach(), before)
    with pytest.raises(ZeroDivisionError), adam.stepping():
        raise ZeroDivisionError
    assert torch.equal(module.matrix.detach(), before)


def test_an_optimizer_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    x = inputs()
    whole, first, second = (TwoPrecisions(1) for _ in range(3))
    trained(whole, x)
    state = {name: value.clone() for name, value in trained(first, x[:10]).state().items()}
    again = AveragedAdam(second)
    again.restore(state)
    with again.stepping():
        for one in x[10:]:
            again.step(second(one), RATE)
    for mine, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_gradient_of_zero_changes_nothing() -> None:
    module = TwoPrecisions(1)
    before = module.unused.detach().clone()
    trained(module, inputs())
    assert torch.equal(module.unused.detach(), before)
