"""Surrogates of known quality: the exact |M|² times a function of the momenta."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.core import Amplitude, AmplitudeValue
from mlgen.physics.kinematics import pt

ErrorOf = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Of momenta (n, n_ext, 4): ln of surrogate over exact value (n,), and its standard deviation (n,)."""


@dataclass(frozen=True, kw_only=True)
class Distorted:
    """An amplitude times the exponential of an error."""

    amplitude: Amplitude
    error: ErrorOf

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        log_ratio, relative_std = self.error(momenta)
        value = self.amplitude(momenta, alpha_s, group).value * log_ratio.exp()
        return AmplitudeValue(value=value, std=value * relative_std)


def waves(size: float) -> ErrorOf:
    """An error that oscillates too quickly for any histogram to resolve, and is as large as it says."""

    def error(momenta: Tensor) -> tuple[Tensor, Tensor]:
        of_final = momenta[:, 2:, 1:].flatten(1)
        phase = of_final @ torch.arange(1, 1 + of_final.shape[1]).to(of_final)
        return 2**0.5 * size * (0.7 * phase).sin(), torch.full_like(phase, size)

    return error


def worse_forward(size: float) -> ErrorOf:
    """Like waves of this size in the centre, and up to 50 % off where the first final particle is forward."""

    def error(momenta: Tensor) -> tuple[Tensor, Tensor]:
        wave, _ = waves(1.0)(momenta)
        std = size + 0.5 * (momenta[:, 2, 3] / momenta[:, 2, 0]) ** 6
        return std * wave, std

    return error


def corner(momenta: Tensor) -> tuple[Tensor, Tensor]:
    """Sure of itself, and a factor 3 too small where the first final particle is forward; up to 35 % off elsewhere."""
    first = momenta[:, 2]
    is_forward = first[:, 3] > 0.6 * first[:, 0]
    wrong = torch.where(is_forward, -1.1, 0.3 * (pt(first) / 20).sin())
    return wrong, torch.full_like(wrong, 0.01)


def humble_corner(momenta: Tensor) -> tuple[Tensor, Tensor]:
    """The same, but it knows where it is wrong."""
    wrong, std = corner(momenta)
    return wrong, std.where(wrong > -1, torch.ones_like(std))


def far_off(momenta: Tensor) -> tuple[Tensor, Tensor]:
    """Wrong by up to a factor 6 either way."""
    wrong = 1.8 * (momenta[:, 2, 1] / 9 + momenta[:, 2, 3] / 50).sin()
    return wrong, torch.full_like(wrong, 0.3)
