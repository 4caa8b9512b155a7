from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from mlgen.cards import ScalesCard
from mlgen.physics.scales import CardScales

TOPS_AND_JET = torch.tensor(
    [
        [
            [500.0, 0.0, 0.0, 500.0],
            [400.0, 0.0, 0.0, -400.0],
            [math.sqrt(173**2 + 50**2 + 10**2), 30.0, 40.0, 10.0],
            [math.sqrt(173**2 + 30**2 + 70**2), -30.0, 0.0, 70.0],
            [math.hypot(40.0, 20.0), 0.0, -40.0, 20.0],
        ]
    ],
    dtype=torch.float64,
)
H_T = math.hypot(173, 50) + math.hypot(173, 30) + 40


@pytest.mark.parametrize(("choice", "expected"), [("ht", H_T), ("half_ht", H_T / 2)])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_dynamical_scale_is_the_sum_of_transverse_masses(
    choice: Literal["ht", "half_ht"], expected: float, factor: float
) -> None:
    scales = CardScales(ScalesCard(choice=choice, factor=factor, mu_r_gev=1.0))
    mu_r, mu_f = scales(TOPS_AND_JET, 0)
    assert float(mu_r) == pytest.approx(factor * expected, rel=1e-14)
    assert torch.equal(mu_r, mu_f)


def test_fixed_scales_are_those_of_the_card_for_each_event() -> None:
    scales = CardScales(ScalesCard(choice="fixed", mu_r_gev=173.0, mu_f_gev=91.188, factor=2.0))
    mu_r, mu_f = scales(TOPS_AND_JET.expand(3, 5, 4), 0)
    assert mu_r.tolist() == [346.0] * 3
    assert mu_f.tolist() == [182.376] * 3
    assert mu_r.dtype == torch.float64


def test_no_events_have_no_scales() -> None:
    for choice in ("fixed", "ht"):
        mu_r, mu_f = CardScales(ScalesCard(choice=choice))(TOPS_AND_JET[:0], 0)
        assert len(mu_r) == len(mu_f) == 0
