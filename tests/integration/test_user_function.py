from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mlgen.core import Evaluation
from mlgen.errors import CardError, GenerationError, NonFiniteWeight
from mlgen.integration.domain import MAX_COMBINATIONS, Domain
from mlgen.integration.user_function import Backend, Function, UserFunction
from tests.integration.functions import Array


def evaluated(
    function: Function, n: int = 10, backend: Backend = "numpy", **domain: Any
) -> Evaluation:
    """The function at random points of random combinations."""
    user = UserFunction(
        function=function, domain=Domain.of(**domain), backend=backend, max_points=4
    )
    rng = torch.Generator().manual_seed(1)
    r = torch.rand(n, user.n_dim, generator=rng, dtype=torch.float64)
    return user(r, torch.arange(n) % user.n_channels)


def test_points_fill_the_box_and_never_leave_it() -> None:
    domain = Domain.of(bounds=[(-1, 2), (0.1, 0.3), (1e5, 1e5 + 1)])
    ends = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    assert domain.points(ends).tolist() == [[-1, 0.1, 1e5], [2, 0.3, 1e5 + 1]]
    assert domain.points(torch.full_like(ends, 0.5))[0].tolist() == pytest.approx(
        [0.5, 0.2, 1e5 + 0.5], rel=1e-15
    )
    assert domain.volume == pytest.approx(0.6, rel=1e-12)


def test_values_get_the_volume_of_the_box() -> None:
    value = evaluated(lambda x: np.ones(len(x)), bounds=[(-1, 2), (0, 4)]).value
    assert value.tolist() == pytest.approx([12.0] * 10)


def test_each_combination_of_discrete_values_is_a_channel() -> None:
    domain = Domain.of(1, n_values=(3, 1, 2))
    assert domain.n_channels == 6
    k = domain.combinations(torch.arange(6)).tolist()
    assert k == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [2, 0, 0], [2, 0, 1]]
    value = evaluated(lambda x, k: 10 * k[:, 0] + k[:, 1], 6, n_dim=1, n_values=(3, 2)).value
    assert value.tolist() == [0, 1, 10, 11, 20, 21]


def test_a_domain_without_discrete_dimensions_has_one_channel() -> None:
    domain = Domain.of(3)
    assert domain.n_channels == 1
    assert domain.combinations(torch.zeros(5, dtype=torch.int64)).shape == (5, 0)


def test_a_function_gets_float64_in_arrays_of_its_backend_and_at_most_so_many_points() -> None:
    seen: list[tuple[type, Any, tuple[int, ...]]] = []

    def watched(x: Any, k: Any) -> Any:
        seen.append((type(x), x.dtype, tuple(x.shape)))
        seen.append((type(k), k.dtype, tuple(k.shape)))
        return x.sum(1)

    evaluated(watched, 6, n_dim=2, n_values=(3,))
    assert seen == [
        (np.ndarray, np.float64, (4, 2)),
        (np.ndarray, np.int64, (4, 1)),
        (np.ndarray, np.float64, (2, 2)),
        (np.ndarray, np.int64, (2, 1)),
    ]
    seen.clear()
    evaluated(watched, 4, backend="torch", n_dim=2, n_values=(3,))
    assert seen == [(Tensor, torch.float64, (4, 2)), (Tensor, torch.int64, (4, 1))]


def test_numpy_and_torch_functions_give_the_same() -> None:
    ours = evaluated(lambda x: np.exp(x).prod(1), n_dim=3).value
    theirs = evaluated(lambda x: x.exp().prod(1), n_dim=3, backend="torch").value
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)


def test_a_function_that_changes_its_arguments_changes_nothing_else() -> None:
    def spoils(x: Array) -> Array:
        x[:] = np.nan
        return np.ones(len(x))

    r = torch.full((3, 2), 0.25, dtype=torch.float64)
    user = UserFunction(function=spoils, domain=Domain.of(2))
    assert user(r, torch.zeros(3, dtype=torch.int64)).value.tolist() == [1, 1, 1]
    assert bool((r == 0.25).all())


@pytest.mark.parametrize(
    "values",
    [
        lambda x: x[:, 0] > 0.5,
        lambda x: (4 * x[:, 0]).astype(np.int32),
        lambda x: x[:, 0].astype(np.float32),
        lambda x: x[::-1, 0],
        lambda x: list(x[:, 0]),
    ],
)
def test_any_real_numbers_are_values(values: Function) -> None:
    found = evaluated(values, 4, n_dim=1).value
    assert found.dtype == torch.float64
    points = torch.rand(4, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert found.tolist() == [float(v) for v in values(points.numpy())]


def test_all_points_are_calls_those_of_value_zero_too() -> None:
    assert evaluated(lambda x: 0 * x[:, 0], n_dim=1).n_calls == 10


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, "f has the shape (4, 2): expected (4,)"),
        (lambda x: x[:, :1], "f has the shape (4, 1): expected (4,)"),
        (lambda x: x.sum(), "f has the shape (): expected (4,)"),
        (lambda x: x[1:, 0], "f has the shape (3,): expected (4,)"),
        (lambda x: 1j * x[:, 0], "f has the dtype torch.complex128: expected real numbers"),
        (lambda x: None, "f: expected 4 real numbers"),
        (lambda x: ["a"] * len(x), "f: expected 4 real numbers"),
        (
            lambda x: torch.from_numpy(x[:, 0]),
            "f = a Tensor with backend = 'numpy': expected a NumPy array",
        ),
    ],
)
def test_what_is_not_one_real_number_a_point_is_an_error(function: Function, message: str) -> None:
    with pytest.raises(GenerationError, match=re.escape(message)):
        evaluated(function, n_dim=2)


def test_a_torch_function_that_returns_an_array_is_an_error() -> None:
    message = "f = a ndarray with backend = 'torch': expected a torch tensor"
    with pytest.raises(GenerationError, match=message):
        evaluated(lambda x: x[:, 0].numpy(), n_dim=2, backend="torch")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_error_with_its_point(bad: float) -> None:
    def spoilt(x: Array, k: Array) -> Array:
        return np.where(k[:, 0] == 2, bad, 1.0)

    message = rf"f\[2\] = {bad} at point = \[[\d.]+, [\d.]+\], k = \[2\]: expected a finite number"
    with pytest.raises(NonFiniteWeight, match=message):
        evaluated(spoilt, n_dim=2, n_values=(4,))


def test_what_the_function_raises_comes_through_and_says_what_it_was_called_with() -> None:
    def fails(x: Array, k: Array) -> Array:
        raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError, match="of the user") as caught:
        evaluated(fails, n_dim=2, n_values=(4, 2))
    assert caught.value.__notes__ == ["mlgen called the function with numpy arrays (4, 2), (4, 2)"]


TOO_MANY = (
    f"n_values = (40, 40): expected at most {MAX_COMBINATIONS} combinations, not 1600: sum over some "
    "of the discrete dimensions inside the function, or take k = floor(n r) of a continuous one"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "n_dim = None: expected a number of dimensions, or bounds"),
        ({"n_dim": 0}, "n_dim = 0: expected at least 1"),
        ({"n_dim": 2.5}, "n_dim = 2.5: expected a whole number"),
        ({"bounds": []}, "n_dim = 0: expected at least 1"),
        ({"n_dim": 3, "bounds": [(0, 1)]}, "bounds = 1 pairs: expected n_dim = 3 of them"),
        ({"bounds": [(0, 1), (1, 1)]}, "bounds[1] = (1.0, 1.0): expected two finite numbers"),
        ({"bounds": [(2, 1)]}, "bounds[0] = (2.0, 1.0): expected two finite numbers"),
        ({"bounds": [(0, np.inf)]}, "bounds[0] = (0.0, inf): expected two finite numbers"),
        ({"bounds": [(0, 1, 2)]}, "bounds[0] = (0, 1, 2): expected two numbers"),
        ({"bounds": [0, 1]}, "bounds[0] = 0: expected two numbers"),
        ({"n_dim": 1, "n_values": (3, 0)}, "n_values[1] = 0: expected at least 1"),
        ({"n_dim": 1, "n_values": (2.0,)}, "n_values[0] = 2.0: expected a whole number"),
        ({"n_dim": 1, "n_values": (40, 40)}, TOO_MANY),
    ],
)
def test_a_domain_that_makes_no_sense_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=re.escape(message)):
        Domain.of(**arguments)
