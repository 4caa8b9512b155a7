"""Integrands with known integrals, and the processes that several tests of integration share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from mlgen.build import Process, build
from mlgen.card_files import find_card, read_card
from mlgen.core import Evaluation
from mlgen.diagnostics.progress import SilentProgress


@dataclass(frozen=True, kw_only=True)
class Toy:
    """An `Integrand` with one function for each channel, which counts the points it is asked for."""

    functions: tuple[Callable[[Tensor], Tensor], ...]
    """Of the adapted columns of r: (n, n_dim) to (n,)."""
    integrals: tuple[float, ...]
    n_dim: int = 2
    n_flat: int = 1
    us_per_point: float = 0.0
    """How long a point takes at least, microseconds of wall-clock time."""
    sizes: list[int] = field(default_factory=list)
    """The number of points of each call so far."""

    @property
    def n_channels(self) -> int:
        return len(self.functions)

    @property
    def integral(self) -> float:
        return sum(self.integrals)

    def __call__(self, r: Tensor, channel: Tensor) -> Evaluation:
        assert r.shape == (len(channel), self.n_dim + self.n_flat)
        self.sizes.append(len(channel))
        time.sleep(self.us_per_point * 1e-6 * len(channel))
        values = torch.stack([f(r[:, : self.n_dim]) for f in self.functions], dim=1)
        value = values.gather(1, channel[:, None])[:, 0]
        return Evaluation(value=value, n_calls=int((value != 0).sum()))


def gaussian(centre: float, width: float, norm: float) -> Callable[[Tensor], Tensor]:
    """norm times a product of Gaussians of the columns."""

    def value(r: Tensor) -> Tensor:
        return norm * torch.exp(-(r - centre).square().sum(dim=1) / (2 * width**2))

    return value


def gaussian_integral(centre: float, width: float, norm: float, n_dim: int = 2) -> float:
    scale = width * math.sqrt(2)
    erfs = math.erf((1 - centre) / scale) + math.erf(centre / scale)
    return float(norm * (math.sqrt(math.pi) / 2 * scale * erfs) ** n_dim)


def peaks() -> Toy:
    """Three channels: two peaks of different heights, and a constant with half of it cut away."""
    shapes = ((0.3, 0.1, 5.0), (0.7, 0.2, 40.0))
    return Toy(
        functions=(*(gaussian(*shape) for shape in shapes), lambda r: 2.0 * (r[:, 0] < 0.5)),
        integrals=(*(gaussian_integral(*shape) for shape in shapes), 1.0),
    )


def ridges(width: float = 0.1) -> Toy:
    """A tube along each diagonal of the square: no product of densities is like it."""
    band = width * math.sqrt(math.pi / 2) * math.erf(1 / (width * math.sqrt(2)))
    area = 2 * (band - width**2 * (1 - math.exp(-1 / (2 * width**2))))

    def along(r: Tensor) -> Tensor:
        return torch.exp(-(r[:, 0] - r[:, 1]).square() / (2 * width**2))

    def across(r: Tensor) -> Tensor:
        return 3 * torch.exp(-(r[:, 0] + r[:, 1] - 1).square() / (2 * width**2))

    return Toy(functions=(along, across), integrals=(area, 3 * area))


def nothing() -> Toy:
    """No point passes."""
    return Toy(functions=(lambda r: 0 * r[:, 0],), integrals=(0.0,))


@cache
def process(name: str, *overrides: str) -> Process:
    """A card that comes with mlgen, with the closed-form matrix element."""
    provider = "matrix_element.provider=closed_form"
    return build(read_card(find_card(name), (provider, *overrides)), SilentProgress())
