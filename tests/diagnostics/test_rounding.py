from __future__ import annotations

import math

import pytest

from mlgen.diagnostics.rounding import with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        # The three examples of the Particle Data Group's rule (Review of Particle Physics,
        # Introduction, section 5.3).
        (0.827, 0.119, "0.83 ± 0.12"),
        (0.827, 0.367, "0.8 ± 0.4"),
        (0.827, 0.967, "0.8 ± 1.0"),
        (212.04, 0.354, "212.04 ± 0.35"),
        (212.04, 0.355, "212.0 ± 0.4"),
        (211.6, 0.949, "211.6 ± 0.9"),
        (-212.0412, 0.1234, "-212.04 ± 0.12"),
        (12345, 123, "12340 ± 120"),
        (212.04, 0, "212.04"),
        (0, 0.01, "0.000 ± 0.010"),
        (3.14159e-7, 2.6e-9, "(3.142 ± 0.026) × 10⁻⁷"),
        (3.14159e12, 2.6e9, "(3.1416 ± 0.0026) × 10¹²"),
    ],
)
def test_an_error_keeps_the_digits_that_it_knows(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


def test_what_is_not_finite_is_shown_as_it_is() -> None:
    assert with_error(math.nan, 1.0) == "nan"
    assert with_error(1.0, math.inf) == "1"
