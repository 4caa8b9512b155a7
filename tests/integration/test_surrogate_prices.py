"""What a surrogate would cost: arithmetic, and a clock that moves only where work is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from torch import Tensor

from mlgen.core import Amplitude, AmplitudeValue
from mlgen.integration import surrogate_prices
from mlgen.integration.surrogate_prices import N_PROBED, Prices
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates import surrogate
from mlgen.surrogates.surrogate import time_of_training
from tests.integration.surrogates import prepared
from tests.integration.toys import process

PRICES = Prices(
    us_per_point=2.0,
    us_per_squared=30.0,
    us_per_prediction=4.0,
    share_inside=0.25,
    training_s=60.0,
)


def test_the_matrix_element_of_a_point_inside_costs_more_than_that_of_any_point() -> None:
    assert PRICES.us_per_call == 30.0 / 0.25


def test_a_point_with_a_surrogate_is_paid_in_matrix_elements_of_points_inside() -> None:
    assert PRICES.cost_ratio == (2.0 + 4.0) / 120.0


def test_times_that_were_settled_take_the_place_of_measured_ones() -> None:
    stored = {"guide.us_per_squared": 7.0, "guide.training_s": 8.0, "surrogate.us_per_point": 9.0}
    asked = []

    def settle(name: str, measured: float) -> float:
        asked.append(name)
        return stored.get(name, measured)

    expected = replace(PRICES, us_per_squared=7.0, training_s=8.0)
    assert PRICES.settled(settle, "guide") == expected
    times = ("us_per_point", "us_per_squared", "us_per_prediction", "training_s")
    assert {f"guide.{name}" for name in times} <= set(asked)


# --- measured ---------------------------------------------------------------------------------


@dataclass
class Clock:
    """Stands for `time.perf_counter`; moves where something says what it costs."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def spend_us(self, us: float) -> None:
        self.now_s += 1e-6 * us


@dataclass
class Priced:
    """An amplitude that costs so many microseconds a point."""

    amplitude: Amplitude
    clock: Clock
    us: float
    asked: list[int] = field(default_factory=list)
    """The points of each call."""

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        self.asked.append(len(momenta))
        self.clock.spend_us(self.us * len(momenta))
        return self.amplitude(momenta, alpha_s, group)


@dataclass(frozen=True)
class PricedCut:
    """A cut that costs so many microseconds a point, as all that is done at each point."""

    cut: Callable[[Tensor, int], Tensor]
    clock: Clock
    us: float

    def __call__(self, momenta: Tensor, group: int) -> Tensor:
        self.clock.spend_us(self.us * len(momenta))
        return self.cut(momenta, group)


def test_prices_are_those_of_each_part_for_each_point_that_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, clock = prepared("ee_to_uug"), Clock()
    integrand = made.process.integrand
    exact = Priced(integrand.amplitude, clock, 50.0)
    predicting = Priced(integrand.amplitude, clock, 3.0)
    priced = replace(integrand, amplitude=exact, cut=PricedCut(integrand.cut, clock, 2.0))
    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(surrogate_prices, "untrained_surrogate", lambda *_: predicting)
    monkeypatch.setattr(surrogate_prices, "time_of_training", lambda *_: 11.0)
    card, model = made.process.card, made.process.picker.model
    prices, n_calls = Prices.measured(priced, made.proposal, card, model)
    share, error = made.measured.share_inside
    assert 0.1 < share < 0.95
    assert prices.share_inside == pytest.approx(share, abs=5 * error * (40_000 / N_PROBED) ** 0.5)
    assert prices.us_per_point == pytest.approx(2.0)
    assert prices.us_per_call == pytest.approx(50.0)
    assert prices.us_per_squared == pytest.approx(50.0 * prices.share_inside)
    assert prices.us_per_prediction == pytest.approx(3.0 * prices.share_inside)
    assert prices.training_s == 11.0
    # What is asked of the exact amplitude is counted; the first points only fill caches.
    assert n_calls == sum(exact.asked) == 256 + round(N_PROBED * prices.share_inside)


def test_to_measure_prices_twice_gives_the_same_points() -> None:
    """From a stream of their own: what is learned and estimated draws from others."""
    made = prepared("ee_to_uug")
    arguments = made.process.integrand, made.proposal, made.process.card, made.process.picker.model
    (first, n_first), (again, n_again) = Prices.measured(*arguments), Prices.measured(*arguments)
    assert (first.share_inside, n_first) == (again.share_inside, n_again)


@pytest.mark.parametrize(
    ("max_cpu_s", "expected"), [(float("inf"), 6 * 500 * 0.25), (60.0, 6 * 60.0)]
)
def test_training_takes_its_steps_for_each_group_or_as_long_as_it_may(
    max_cpu_s: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = process("pp_to_eej")
    monkeypatch.setattr(surrogate, "seconds_a_step", lambda *_: 0.25)
    card = SurrogateCard(n_steps=500, n_hidden=8, batch_size=16, max_cpu_s=max_cpu_s)
    groups = made.integrand.groups
    assert len(groups) == 6
    assert time_of_training(groups, made.picker.model, card) == expected
