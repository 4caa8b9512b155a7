"""One bin of a rational-quadratic spline: eqs. (4)-(8) of arXiv:1906.04032, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlgen.samplers.kernels.jit import inner

F0, F1, F2, F4 = (np.float32(number) for number in (0, 1, 2, 4))


@inner
def evaluate_bin(x: Any, x0: Any, w: Any, y0: Any, h: Any, d0: Any, d1: Any) -> Any:
    """y and dy/dx, eqs. (4) and (5) of arXiv:1906.04032, in a bin of size (w, h) at (x0, y0)."""
    s = h / w
    t = (x - x0) / w
    t = F1 if t > F1 else t
    u = F1 - t
    tt = t * u
    denominator = s + (d0 + d1 - F2 * s) * tt
    g = s / denominator
    y = y0 + h * (s * t * t + d0 * tt) / denominator
    return y, g * g * (d1 * t * t + F2 * s * tt + d0 * u * u)


@inner
def solve_bin(y: Any, x0: Any, w: Any, y0: Any, h: Any, d0: Any, d1: Any) -> Any:
    """The x with y(x) = y, and dy/dx, eqs. (6)-(8) of arXiv:1906.04032; see `evaluate_bin`."""
    s = h / w
    q = d0 + d1 - F2 * s
    above = y - y0
    a = h * (s - d0) + above * q
    b = h * d0 - above * q
    c = s * above
    radicand = b * b + F4 * a * c
    radicand = F0 * radicand if radicand < F0 else radicand
    t = F2 * c / (b + np.sqrt(radicand))
    t = F1 if t > F1 else t
    u = F1 - t
    tt = t * u
    g = s / (s + q * tt)
    return x0 + t * w, g * g * (d1 * t * t + F2 * s * tt + d0 * u * u)


@inner
def gradient_in_bin(
    x: Any, x0: Any, w: Any, h: Any, d0: Any, d1: Any, of_y: Any, of_log: Any
) -> Any:
    """Gradients towards x, w, h, d0 and d1, given those of y and of ln dy/dx.

    That towards x0 is minus the one towards x, and that towards y0 is that of y.
    """
    s = h / w
    t = (x - x0) / w
    t = F1 if t > F1 else t
    u = F1 - t
    tt = t * u
    q = d0 + d1 - F2 * s
    # y = y0 + h top / denominator, ln dy/dx = 2 ln s - 2 ln denominator + ln slope
    denominator = s + q * tt
    top = s * t * t + d0 * tt
    slope = d1 * t * t + F2 * s * tt + d0 * u * u
    of_h = of_y * top / denominator
    of_top = of_y * h / denominator
    of_denominator = -(of_h * h + F2 * of_log) / denominator
    of_slope = of_log / slope
    of_q = of_denominator * tt
    of_tt = of_top * d0 + of_denominator * q + F2 * of_slope * s
    of_t = F2 * (of_top * s * t + of_slope * (d1 * t - d0 * u)) + of_tt * (u - t)
    of_d0 = of_top * tt + of_slope * u * u + of_q
    of_d1 = of_slope * t * t + of_q
    of_s = F2 * of_log / s + of_top * t * t + of_denominator + F2 * (of_slope * tt - of_q)
    of_x = of_t / w
    return of_x, -(of_s * s + of_t * t) / w, of_h + of_s / w, of_d0, of_d1
