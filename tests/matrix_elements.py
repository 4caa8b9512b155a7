"""Functions that stand for |M|² where the test is of everything else: `provider = "python"`."""

from __future__ import annotations

from torch import Tensor

from mlgen.physics.kinematics import pt

SMOOTH = (
    "matrix_element.provider=python",
    "matrix_element.function=tests.matrix_elements:smooth",
)
"""What a card is overridden with; no matrix element is made."""


def smooth(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    """Of the dimension of |M|², falling with the transverse momenta, and no narrower than that."""
    sqrt_s = 2 * (momenta[:, 0, 0] * momenta[:, 1, 0]).sqrt()
    soft = 1 / (1 + pt(momenta[:, 2:]) / 50.0)
    return soft.prod(1) * sqrt_s ** (8 - 2 * momenta.shape[1])
