from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.integrate import solve_ivp

from mlgen.cards import AlphaSCard
from mlgen.core import RunningCoupling
from mlgen.errors import CardError
from mlgen.physics.alpha_s import AlphaS, beta_0

MZ = 91.188


def integrate(card: AlphaSCard, scale: float) -> float:
    """alpha_s by numerical integration of the renormalisation-group equation.

    In the normalisation of hep-ph/9706430: a = alpha_s / pi,
    da / d ln mu² = -(11 - 2 n_f/3)/4 a² - (102 - 38 n_f/3)/16 a³.
    """
    thresholds = [card.charm_threshold_gev, card.bottom_threshold_gev]
    if card.top_threshold_gev is not None:
        thresholds.append(card.top_threshold_gev)
    start = card.reference_scale_gev
    between = sorted(t for t in thresholds if min(start, scale) < t < max(start, scale))
    if scale < start:
        between.reverse()
    a = card.at_z_mass / math.pi
    for low, high in zip([start, *between], [*between, scale], strict=True):
        n_f = 3 + sum(t < math.sqrt(low * high) for t in thresholds)
        first, second = (11 - 2 * n_f / 3) / 4, (102 - 38 * n_f / 3) / 16 * (card.loops == 2)

        def slope(
            _: float,
            y: npt.NDArray[np.float64],
            first: float = first,
            second: float = second,
        ) -> npt.NDArray[np.float64]:
            return -first * y**2 - second * y**3

        solution = solve_ivp(
            slope,
            (2 * math.log(low), 2 * math.log(high)),
            [a],
            method="DOP853",
            rtol=1e-13,
            atol=1e-15,
        )
        a = float(solution.y[0, -1])
    return math.pi * a


@pytest.mark.parametrize(
    "card",
    [
        AlphaSCard(),
        AlphaSCard(loops=1),
        AlphaSCard(at_z_mass=0.118, top_threshold_gev=173.0),
        AlphaSCard(at_z_mass=0.35, reference_scale_gev=1.777, top_threshold_gev=173.0),
        AlphaSCard(at_z_mass=0.09, reference_scale_gev=1000.0, top_threshold_gev=173.0),
        AlphaSCard(at_z_mass=0.5, reference_scale_gev=1.0),
    ],
)
def test_the_running_solves_the_renormalisation_group_equation(card: AlphaSCard) -> None:
    scales = [1.0, 1.3, 2.0, 4.7, 30.0, MZ, 173.0, 500.0, 14_000.0]
    coupling: RunningCoupling = AlphaS(card)
    got = coupling(torch.tensor(scales, dtype=torch.float64) ** 2)
    expected = torch.tensor([integrate(card, scale) for scale in scales], dtype=torch.float64)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)


def test_it_is_madgraphs_number_at_the_top_mass() -> None:
    at_top = float(AlphaS(AlphaSCard())(torch.tensor(173.0**2, dtype=torch.float64)))
    assert abs(at_top - 0.1174755) < 1e-7


def test_the_reference_value_is_reproduced_in_any_shape() -> None:
    q2 = torch.full((3, 2), MZ**2, dtype=torch.float64)
    torch.testing.assert_close(
        AlphaS(AlphaSCard())(q2), torch.full_like(q2, 0.130), rtol=1e-14, atol=0
    )


def test_it_is_continuous_at_the_thresholds_and_its_slope_is_not() -> None:
    coupling = AlphaS(AlphaSCard())
    q2 = 4.7**2 * torch.tensor([1 - 2e-6, 1 - 1e-6, 1.0, 1 + 1e-6], dtype=torch.float64)
    below, near, at, above = coupling(q2).tolist()
    assert near == pytest.approx(at, rel=1e-6)
    assert (near - below) / (above - at) == pytest.approx(beta_0(4) / beta_0(5), rel=0.03)


@pytest.mark.parametrize("loops", [1, 2])
def test_it_grows_towards_the_landau_pole_and_is_nan_below(loops: int) -> None:
    coupling = AlphaS(AlphaSCard(loops=loops))
    values = coupling(torch.logspace(-3, 4, 400, dtype=torch.float64))
    n_below = int(values.isnan().sum())
    assert 0 < n_below < 200
    assert bool(values[:n_below].isnan().all())
    assert bool((values[n_below:].diff() < 0).all())
    assert bool((values[n_below:] > 0).all())


def test_it_computes_on_the_device_of_its_input() -> None:
    # The device `meta` has no values, but refuses to be mixed with another one.
    assert AlphaS(AlphaSCard())(torch.full((3,), 100.0, device="meta")).is_meta


def test_thresholds_that_do_not_rise_are_refused() -> None:
    with pytest.raises(CardError, match=r"alpha_s.bottom_threshold_gev = 1.0: expected a scale ab"):
        AlphaS(AlphaSCard(bottom_threshold_gev=1.0))
