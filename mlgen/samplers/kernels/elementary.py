"""exp and log in float32, and what is made of them, for loops that are to be vectorised.

expf and logf of the Cephes library (S. L. Moshier, netlib.org/cephes, single precision); numba
finds no vectorised ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlgen.samplers.kernels.jit import inner

F0, F1, HALF = np.float32(0), np.float32(1), np.float32(0.5)

LOG2_E = np.float32(1 / math.log(2))
LN2, LN2_HIGH, LN2_LOW = (
    np.float32(math.log(2)),
    np.float32(0.693359375),
    np.float32(-2.12194440e-4),
)
LOWEST_EXPONENT = np.float32(-87)
ROUNDING = np.float32(1.5 * 2**23)
"""Added to a small number, it leaves the nearest integer in the last bits."""
X0, X1, X2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
X3, X4, X5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
L0, L1, L2 = np.float32(7.0376836292e-2), np.float32(-1.1514610310e-1), np.float32(1.1676998740e-1)
L3, L4, L5 = np.float32(-1.2420140846e-1), np.float32(1.4249322787e-1), np.float32(-1.6668057665e-1)
L6, L7, L8 = np.float32(2.0000714765e-1), np.float32(-2.4999993993e-1), np.float32(3.3333331174e-1)
LEAST, GREATEST, NAN = np.float32(2**-126), np.finfo(np.float32).max, np.float32(np.nan)
EXPONENT_BITS, BIAS = np.int32(23), np.int32(127)
SQRT_HALF_BITS = np.int32(0x3F3504F3)
"""sqrt(1/2) as an integer."""


@inner
def exp(x: Any) -> Any:
    """e^x for x <= 0; below -87, where float32 ends, e^-87."""
    x = LOWEST_EXPONENT if x < LOWEST_EXPONENT else x
    rounded = np.float32(x * LOG2_E + ROUNDING)
    r = x - (rounded - ROUNDING) * LN2
    rr = r * r
    p = ((X0 * r + X1) * rr + (X2 * r + X3)) * rr + (X4 * r + X5)
    power = np.int32(np.int32(rounded.view(np.int32) + BIAS) << EXPONENT_BITS)
    return (p * rr + (r + F1)) * power.view(np.float32)


@inner
def log(x: Any) -> Any:
    """ln x for normal x > 0, and NaN for all else."""
    bits = np.float32(x).view(np.int32)
    e = np.int32(np.int32(bits - SQRT_HALF_BITS) >> EXPONENT_BITS)
    r = np.int32(bits - np.int32(e << EXPONENT_BITS)).view(np.float32) - F1
    n, rr = np.float32(e), r * r
    p = (((((((L0 * r + L1) * r + L2) * r + L3) * r + L4) * r + L5) * r + L6) * r + L7) * r + L8
    result = r * rr * p + n * LN2_LOW - HALF * rr + r + n * LN2_HIGH
    return result if LEAST <= x <= GREATEST else NAN


@inner
def softplus(x: Any) -> Any:
    """ln(1 + e^x)."""
    e = exp(-abs(x))
    above = F1 + e
    # The second term is what rounding took from 1 + e.
    return (F0 if x < F0 else x) + log(above) + (e - (above - F1)) / above


@inner
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    e = exp(-abs(x))
    return (e if x < F0 else F1) / (F1 + e)
