"""The running of the strong coupling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlgen.cards import AlphaSCard
from mlgen.errors import CardError

_N_NEWTON_STEPS = 4
"""Each about squares the error; after three it is below 2e-12 at any scale above the pole."""


def beta_0(n_flavours: int) -> float:
    """The first coefficient of da/d ln Q² = -beta_0 a² (1 + b_1 a), a = alpha_s.

    (33 - 2 n_f) / (12 pi): eq. (9.3) of the Review of Particle Physics 2022.
    """
    return (33 - 2 * n_flavours) / (12 * math.pi)


def b_1(n_flavours: int) -> float:
    """The second coefficient of da/d ln Q² = -beta_0 a² (1 + b_1 a), a = alpha_s.

    (153 - 19 n_f) / (2 pi (33 - 2 n_f)): from eq. (9.3) of the Review of Particle Physics 2022.
    """
    return (153 - 19 * n_flavours) / (2 * math.pi * (33 - 2 * n_flavours))


def run_one_loop(start: Tensor, first: Tensor, log_ratio: Tensor) -> Tensor:
    """The solution of da/dt = -first a² with a(0) = start, at t = log_ratio = ln(Q² / Q_0²).

    Elementwise; NaN below the Landau pole.
    """
    inverse = 1 / start + first * log_ratio
    return 1 / inverse.where(inverse > 0, math.nan)


def run_two_loops(start: Tensor, first: Tensor, second: Tensor, log_ratio: Tensor) -> Tensor:
    """The solution of da/dt = -first a² (1 + second a) with a(0) = start, at t = log_ratio.

    With z = 1 + 1 / (second a) the equation integrates to
    z - ln z = z_0 - ln z_0 + first t / second, which is the solution in terms of Lambert's W of
    hep-ph/9911456 with z = -W_{-1}; solved by Newton's steps to the last digits of float64.
    Elementwise; NaN below the Landau pole.
    """
    z_0 = 1 + 1 / (second * start)
    target = z_0 - z_0.log() + first * log_ratio / second
    # z - ln z is 1 + (z - 1)²/2 near the pole and z far from it: this start suits both. Below the
    # pole the target is less than 1, and the root NaN.
    z = target + (1 + (2 * (target - 1)).sqrt()).log()
    for _ in range(_N_NEWTON_STEPS):
        z = z * (z.log() + target - 1) / (z - 1)
    return 1 / (second * (z - 1))


class AlphaS:
    """alpha_s(Q²) by the exact solution of the truncated renormalisation-group equation.

    Three flavours below the charm threshold, one more above each threshold, where alpha_s is
    continuous.

    Raises:
        CardError: the thresholds do not rise.
    """

    def __init__(self, card: AlphaSCard) -> None:
        thresholds = {
            "charm": card.charm_threshold_gev,
            "bottom": card.bottom_threshold_gev,
            "top": card.top_threshold_gev,
        }
        lowest = 0.0
        for name, scale in thresholds.items():
            if scale is not None and not lowest < scale < math.inf:
                raise CardError(
                    f"alpha_s.{name}_threshold_gev = {scale}: expected a scale above {lowest:g} GeV"
                )
            lowest = scale or lowest
        scales = [scale for scale in thresholds.values() if scale is not None]
        self._loops = card.loops
        self._thresholds_q2 = torch.tensor([s**2 for s in scales], dtype=torch.float64)
        n_flavours = range(3, 4 + len(scales))
        self._beta_0 = torch.tensor([beta_0(n) for n in n_flavours], dtype=torch.float64)
        self._b_1 = torch.tensor([b_1(n) for n in n_flavours], dtype=torch.float64)

        # Each range of flavours runs from a scale within it or at its end: the reference scale,
        # else the threshold on the side of the reference scale.
        home = sum(scale <= card.reference_scale_gev for scale in scales)
        anchors = [*scales[:home], card.reference_scale_gev, *scales[home:]]
        self._anchor_q2 = torch.tensor([s**2 for s in anchors], dtype=torch.float64)
        self._anchor_value = torch.full_like(self._anchor_q2, card.at_z_mass)
        for i in (*range(home + 1, len(anchors)), *range(home - 1, -1, -1)):
            towards_home = i - 1 if i > home else i + 1
            self._anchor_value[i] = self._run(self._anchor_q2[i], torch.tensor(towards_home))

    def __call__(self, q2: Tensor) -> Tensor:
        """alpha_s at q2 in GeV², elementwise; NaN below the Landau pole."""
        return self._run(q2, torch.bucketize(q2, self._thresholds_q2.to(q2.device), right=True))

    def _run(self, q2: Tensor, n_crossed: Tensor) -> Tensor:
        """alpha_s at q2, in the range of flavours above `n_crossed` thresholds."""
        anchor_q2, start, first, second = (
            table.to(q2.device)[n_crossed]
            for table in (self._anchor_q2, self._anchor_value, self._beta_0, self._b_1)
        )
        log_ratio = (q2 / anchor_q2).log()
        if self._loops == 1:
            return run_one_loop(start, first, log_ratio)
        return run_two_loops(start, first, second, log_ratio)
