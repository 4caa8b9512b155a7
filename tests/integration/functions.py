"""Functions with known integrals, as users write them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlgen.campaign.step_clock import StepClock
from mlgen.cards import FlowCard, VegasCard
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.domain import Domain
from mlgen.integration.function_integral import (
    FunctionIntegral,
    FunctionSettings,
    integrate_function,
)
from mlgen.integration.user_function import Backend, UserFunction

Array = NDArray[Any]

SMALL_VEGAS = VegasCard(n_points=2000, n_iterations=4, n_bins=32)
SMALL_FLOW = FlowCard(n_bins=6, n_hidden=16, batch_size=512, n_steps=64, learning_rate=0.01)


SMALL = FunctionSettings(
    sampler="vegas", vegas=SMALL_VEGAS, flow=SMALL_FLOW, n_estimate=8000, chunk_size=4000
)


def integrated(
    function: Callable[..., Any],
    of: FunctionSettings,
    *,
    backend: Backend = "numpy",
    **domain: Any,
) -> FunctionIntegral:
    """The integral of a function on the domain that `Domain.of` makes of the arguments."""
    user = UserFunction(
        function=function,
        domain=Domain.of(**domain),
        backend=backend,
        max_points=of.chunk_size,
    )
    return integrate_function(user, of, SilentProgress(), StepClock())


def camel(r: Array) -> Array:
    """Two Gaussians of width 0.2 / sqrt(2) in each of the dimensions."""
    humps: Array = sum(np.exp(-np.square(r - c).sum(1) / 0.2**2) for c in (1 / 3, 2 / 3))
    return humps


def camel_integral(n_dim: int) -> float:
    near, far = math.erf((1 / 3) / 0.2), math.erf((2 / 3) / 0.2)
    return float(2 * (0.2 * math.sqrt(math.pi) / 2 * (near + far)) ** n_dim)


def ridge(r: Array) -> Array:
    """A tube round the diagonal of the square: exp(-(r1 - r2)² / (2 0.1²))."""
    tube: Array = np.exp(-np.square(r[:, 0] - r[:, 1]) / (2 * 0.1**2))
    return tube


def ridge_integral() -> float:
    band = 0.1 * math.sqrt(math.pi / 2) * math.erf(1 / (0.1 * math.sqrt(2)))
    return float(2 * (band - 0.1**2 * (1 - math.exp(-1 / (2 * 0.1**2)))))


def waves(r: Array) -> Array:
    """A product of sines over a full period of each dimension: its integral is 0."""
    product: Array = np.sin(2 * np.pi * r).prod(1)
    return product


def step(r: Array) -> Array:
    """-1 below 0.3 of the first dimension, 1 above: True and False are numbers too."""
    return 2 * (r[:, 0] > 0.3) - 1


N_VALUES = (2, 3)
SERIES = ((1.0, 0.0, 1e-4), (100.0, 0.0, -10.0))
"""The integral of each combination of `series`."""


def series(r: Array, k: Array) -> Array:
    """Of very different sizes for the combinations k, the middle one of which is 0."""
    size: Array = np.array(SERIES)[k[:, 0], k[:, 1]]
    values: Array = size * (1 + k[:, 1]) * r[:, 0] ** k[:, 1] * 2 * r[:, 1]
    return values
