from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from mlgen.amplitudes.cross_checks import cross_check
from mlgen.amplitudes.pyamplicol_runtime import Array
from mlgen.errors import MatrixElementError

PDG_IDS = (2, -2, 21, 21)
WIDTHS = {"WZ": 2.4}


def unchanged(value: Array, momenta: Array) -> Array:
    return value


@dataclass
class GluonPairs:
    """q q~ > g g with spins summed, up to a constant, and one of its values corrupted."""

    corrupted: Callable[[Array, Array], Array] = unchanged
    helicities_lack: float = 0.0
    width: float = WIDTHS["WZ"]
    frame_dependence: float = 0.0

    def totals(self, momenta: Array) -> Array:
        a, b, c, d = np.moveaxis(momenta, 1, 0)
        t, u, s = (square(p) for p in (a - c, a - d, a + b))
        value = (t**2 + u**2) / (t * u) * (1 - 9 / 4 * t * u / s**2)
        value *= 1 + self.width * self.frame_dependence * a[:, 0] / np.sqrt(s)
        return self.corrupted(np.asarray(value), momenta)

    def by_helicity(self, momenta: Array) -> Array:
        shares = np.array([0.25, 0.75 - self.helicities_lack])
        return np.asarray(self.totals(momenta)[:, None] * shares)

    def set_parameters(self, parameters: Mapping[str, float]) -> None:
        self.width = parameters.get("WZ", self.width)


def square(p: Array) -> Array:
    return np.asarray(p[:, 0] ** 2 - (p[:, 1:] ** 2).sum(axis=1))


def check(evaluator: GluonPairs, full: GluonPairs | None = None) -> dict[str, float]:
    return cross_check(evaluator, "u u~ > g g", PDG_IDS, [0.0] * 4, WIDTHS, full)


def test_a_right_matrix_element_passes_and_its_deviations_are_told() -> None:
    found = check(GluonPairs(), GluonPairs())
    assert found.pop("leading over full colour") == 1
    assert set(found) == {
        "the sum over helicities",
        "the exchange of identical particles",
        "Lorentz invariance",
    }
    assert max(found.values()) < 1e-12


def test_what_a_width_does_to_lorentz_invariance_is_no_error_and_the_width_is_put_back() -> None:
    evaluator = GluonPairs(frame_dependence=1e-3)
    assert check(evaluator)["Lorentz invariance"] < 1e-12
    assert evaluator.width == WIDTHS["WZ"]


def one_negative(value: Array, momenta: Array) -> Array:
    return np.where(np.arange(len(value)) == 2, -value, value)


def one_nan(value: Array, momenta: Array) -> Array:
    return np.where(np.arange(len(value)) == 1, np.nan, value)


def frame_dependent(value: Array, momenta: Array) -> Array:
    return value * (1 + 1e-6 * np.log(momenta[:, 0, 0]))


def unsymmetric(value: Array, momenta: Array) -> Array:
    t = square(momenta[:, 0] - momenta[:, 2])
    return value * (1 + 1e-6 * t / square(momenta[:, 0] + momenta[:, 1]))


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (GluonPairs(corrupted=one_negative), "expected positive numbers"),
        (GluonPairs(corrupted=one_nan), "nan.*expected positive numbers"),
        (GluonPairs(corrupted=frame_dependent), "by Lorentz invariance, within 1e-07"),
        (GluonPairs(corrupted=unsymmetric), "by the exchange of identical particles"),
        (GluonPairs(helicities_lack=1e-6), "by the sum over helicities"),
    ],
)
def test_each_law_that_is_broken_is_named_with_the_numbers(
    evaluator: GluonPairs, message: str
) -> None:
    with pytest.raises(MatrixElementError, match=rf"u u~ > g g: \|M\|² = .*{message}.*in GeV ="):
        check(evaluator)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_leading_colour_far_from_full_colour_is_refused(factor: float) -> None:
    leading = GluonPairs(corrupted=lambda value, momenta: factor * value)
    with pytest.raises(MatrixElementError, match=rf"over full colour = {factor:g}: expected 0.33"):
        check(leading, GluonPairs())
