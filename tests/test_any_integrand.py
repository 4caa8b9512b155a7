"""What users call for their own functions, and the example of it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

import mlgen
from mlgen.errors import CardError
from tests.integration.functions import SMALL, camel, camel_integral
from tests.laws import check_estimate

EXAMPLE = Path(__file__).parents[1] / "examples" / "any_integrand.py"


def test_a_function_is_integrated_with_settings_and_another_seed() -> None:
    found = [mlgen.integrate(camel, 2, settings=SMALL, seed=seed) for seed in (1, 2)]
    for one in found:
        check_estimate(one.value, one.error, camel_integral(2), max_relative_error=0.001)
    assert found[0].value != found[1].value


def test_what_is_neither_a_card_nor_a_function_is_an_error() -> None:
    with pytest.raises(CardError, match=r"integrate\(7\): expected a card or a function"):
        mlgen.integrate(7)  # type: ignore[call-overload]  # the error of those who do not check types


def test_a_card_has_no_dimensions_of_its_own() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        mlgen.integrate("pp_to_eej", 3)  # type: ignore[call-overload]  # as above


def test_the_example_agrees_with_quadrature_in_both_ways(
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = runpy.run_path(str(EXAMPLE))

    def along(x1: float) -> float:
        point = np.array([[x1, 0.0]] * 3)
        return float(example["interference"](point, np.arange(3)[:, None]).sum())

    expected = quad(along, 0, 1, points=[0.3, 0.6], limit=200)[0] * (1 - np.exp(-5))
    example["by_mlgen"]()
    example["from_elsewhere"]()
    said = re.findall(r"([\d.]+) ± ([\d.]+) (?:with|from)", capsys.readouterr().out)
    assert len(said) == 2
    for value, error in said:
        check_estimate(float(value), float(error), expected, max_relative_error=0.002)
