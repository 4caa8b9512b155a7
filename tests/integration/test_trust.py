from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mlgen.core import Amplitude, AmplitudeValue
from mlgen.integration.trust import EXACT_SHARE, GuidedAmplitude, Trust

N = 160


def momenta(n: int = N) -> Tensor:
    """Points that are known by their number."""
    return torch.arange(n, dtype=torch.float64)[:, None, None].expand(n, 4, 4)


class Exact:
    """-2 at each point, which is remembered."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        self.asked += momenta[:, 0, 0].int().tolist()
        value = torch.full_like(alpha_s, -2.0)
        return AmplitudeValue(value=value, std=torch.zeros_like(value))


class Says:
    """What a surrogate says of each point."""

    def __init__(self, value: float, std: float) -> None:
        self.value, self.std = value, std

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        return AmplitudeValue(
            value=torch.full_like(alpha_s, self.value), std=torch.full_like(alpha_s, self.std)
        )


def guided(surrogate: Amplitude) -> tuple[AmplitudeValue, list[int]]:
    exact = Exact()
    amplitude = GuidedAmplitude(surrogate=surrogate, exact=exact, trust=Trust(max_relative_std=0.5))
    return amplitude(momenta(), torch.full((N,), 0.1, dtype=torch.float64), 0), exact.asked


@pytest.mark.parametrize("std", [0.0, 0.1, 0.5])
def test_a_surrogate_that_is_trusted_is_followed_but_at_one_point_in_sixteen(std: float) -> None:
    found, asked = guided(Says(1.0, std))
    assert EXACT_SHARE == 16
    assert asked == list(range(0, N, 16))
    is_exact = found.value == -2
    assert is_exact.nonzero()[:, 0].tolist() == asked
    assert bool((found.value[~is_exact] == 1).all())
    # What says 0 is counted as a matrix element, and kept to learn from.
    assert torch.equal(found.std == 0, is_exact)


@pytest.mark.parametrize(
    ("value", "std"),
    [(1.0, 0.51), (1.0, math.inf), (0.0, 0.0), (math.nan, 0.1), (1.0, math.nan), (math.inf, 1.0)],
)
def test_where_a_surrogate_is_not_to_be_trusted_the_amplitude_is_exact(
    value: float, std: float
) -> None:
    found, asked = guided(Says(value, std))
    assert asked == list(range(N))
    assert bool((found.value == -2).all())
    assert not bool(found.std.any())


def test_trust_looks_at_the_size_of_a_negative_value() -> None:
    trust = Trust(max_relative_std=0.5)
    value = torch.tensor([-1.0, -1.0], dtype=torch.float64)
    std = torch.tensor([0.4, 0.6], dtype=torch.float64)
    assert trust.is_followed(AmplitudeValue(value=value, std=std)).tolist() == [True, False]
