"""What a matrix element must satisfy whatever it is: checked once, after it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from mlgen.amplitudes.probe_points import probe_points
from mlgen.amplitudes.pyamplicol_runtime import Array
from mlgen.errors import MatrixElementError

_N_POINTS = 4
_ROUNDING = 1e-7
"""For cancellations between diagrams at an ordinary point."""
_WIDTHS = 1e-2
"""A width in a propagator breaks gauge invariance, and with it Lorentz invariance, by about Γ/m."""
_COLOUR_BOUNDS = (1 / 3, 3.0)
"""Of leading colour over full colour: 9/8 for each gluon, less or more by interferences of order 1/N_c."""


class Evaluator(Protocol):
    """A matrix element, as loaded."""

    def totals(self, momenta: Array) -> Array:
        """|M|² (n,) at the momenta (n, n_ext, 4), GeV."""

    def by_helicity(self, momenta: Array) -> Array:
        """Its parts (n, n_helicities)."""

    def set_parameters(self, parameters: Mapping[str, float]) -> None:
        """Change parameters of the model."""


def cross_check(
    evaluator: Evaluator,
    name: str,
    pdg_ids: Sequence[int],
    masses_gev: Sequence[float],
    widths: Mapping[str, float] | None,
    full_colour: Evaluator | None = None,
) -> dict[str, float]:
    """Check positivity, Lorentz invariance, symmetry, helicities and colour at a few points.

    Args:
        evaluator: what was made.
        name: what it is, for messages.
        pdg_ids, masses_gev: of the legs, (n_ext,), two incoming first.
        widths: parameters that are widths and their values, so that Lorentz invariance can be
            checked sharply without them; None where they are not known.
        full_colour: the same at full colour, where `evaluator` is at leading colour.

    Returns:
        the largest relative deviations, and leading over full colour.

    Raises:
        MatrixElementError: with the numbers, where one of them is too large.
    """
    points = probe_points(masses_gev, _N_POINTS).numpy()
    values = evaluator.totals(points)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise MatrixElementError(
            f"{name}: |M|² = {values.tolist()}: expected positive numbers; (E, px, py, pz) in GeV "
            f"= {points.tolist()}"
        )
    found: dict[str, float] = {}

    def compare(law: str, got: Array, expected: Array, tolerance: float) -> None:
        deviations = np.abs(got / expected - 1)
        found[law] = float(max(found.get(law, 0.0), deviations.max()))
        if not found[law] < tolerance:
            raise MatrixElementError(
                f"{name}: |M|² = {got.tolist()}: expected {expected.tolist()} by {law}, within "
                f"{tolerance:g}; (E, px, py, pz) in GeV = {points.tolist()}"
            )

    compare("the sum over helicities", evaluator.by_helicity(points).sum(axis=1), values, _ROUNDING)
    for i, j in _identical_pairs(pdg_ids):
        exchanged = points.copy()
        exchanged[:, [i, j]] = points[:, [j, i]]
        compare(
            "the exchange of identical particles", evaluator.totals(exchanged), values, _ROUNDING
        )
    _without_widths(
        evaluator,
        widths or {},
        lambda: compare(
            "Lorentz invariance",
            evaluator.totals(_moved(points)),
            evaluator.totals(points),
            _WIDTHS if widths is None else _ROUNDING,
        ),
    )
    if full_colour is not None:
        ratio = float(values.sum() / full_colour.totals(points).sum())
        found["leading over full colour"] = ratio
        if not _COLOUR_BOUNDS[0] < ratio < _COLOUR_BOUNDS[1]:
            raise MatrixElementError(
                f"{name}: leading over full colour = {ratio:.4g}: expected {_COLOUR_BOUNDS[0]:.2g} "
                f"to {_COLOUR_BOUNDS[1]:.2g}; (E, px, py, pz) in GeV = {points.tolist()}"
            )
    return found


def _identical_pairs(pdg_ids: Sequence[int]) -> list[tuple[int, int]]:
    """Exchanges of outgoing legs that make up all their permutations."""
    last: dict[int, int] = {}
    pairs = []
    for leg, pdg_id in enumerate(pdg_ids[2:], start=2):
        if pdg_id in last:
            pairs.append((last[pdg_id], leg))
        last[pdg_id] = leg
    return pairs


def _without_widths(
    evaluator: Evaluator, widths: Mapping[str, float], compare: Callable[[], None]
) -> None:
    evaluator.set_parameters(dict.fromkeys(widths, 0.0))
    try:
        compare()
    finally:
        evaluator.set_parameters(widths)


def _moved(points: Array) -> Array:
    """The points (n, n_ext, 4) in another frame: boosted along x and turned about two axes."""
    gamma, beta = 1.25, 0.6
    boost = np.eye(4)
    boost[:2, :2] = [[gamma, gamma * beta], [gamma * beta, gamma]]
    first, second = np.eye(4), np.eye(4)
    first[2:, 2:] = _rotation(0.7)
    second[1:3, 1:3] = _rotation(1.1)
    return np.asarray(points @ (first @ boost @ second).T)


def _rotation(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
