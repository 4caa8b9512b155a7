"""A number with its error, as people write it."""

from __future__ import annotations

import math

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def with_error(value: float, error: float) -> str:
    """The value and its error, rounded as the Particle Data Group does.

    Of the error's three leading digits, 100 to 354 keeps two digits, 355 to 949 one, and 950 to
    999 becomes 1000 with two kept; the value has as many decimals as the error.

    >>> with_error(212.0412, 0.1234)
    '212.04 ± 0.12'
    >>> with_error(212.0412, 0.0683)
    '212.04 ± 0.07'
    >>> with_error(3.14159e-7, 2.6e-9)
    '(3.142 ± 0.026) × 10⁻⁷'

    Args:
        value: any finite number.
        error: its standard deviation; where it is not positive, the value stands alone.
    """
    if not (math.isfinite(error) and error > 0 and math.isfinite(value)):
        return f"{value:.6g}"
    size = math.floor(math.log10(max(abs(value), error)))
    if not -4 <= size < 6:
        exponent = str(size).translate(_SUPERSCRIPTS)
        scale = 10.0**-size
        return f"({with_error(value * scale, error * scale)}) × 10{exponent}"
    decimals = _decimals(error)
    value, error = round(value, decimals), round(error, decimals)
    shown = max(decimals, 0)
    return f"{value:.{shown}f} ± {error:.{shown}f}"


def _decimals(error: float) -> int:
    """Decimals to keep; negative where tens or hundreds are rounded away."""
    exponent = math.floor(math.log10(error))
    leading = round(error * 10.0 ** (2 - exponent))
    if leading > 949:
        return -exponent
    return 1 - exponent if leading <= 354 else -exponent
