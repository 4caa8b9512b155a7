from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.physics.kinematics import minkowski_product
from mlgen.surrogates.features import PointFeatures
from mlgen.surrogates.invariants import Virtualities, pair_products, pairs_of, propagator_legs
from tests.laws import boost_and_rotate
from tests.surrogates.toys import GGG, MODEL, ZGG, flat_points, products

ZGG_MASSES = [MODEL.mass_gev(pdg_id) for pdg_id in ZGG.pdg_ids[0]]
TTGG = SubprocessGroup(name="g g > t t~ g g", pdg_ids=((21, 21, 6, -6, 21, 21),), qcd_order=4)


def exact_product(a: Tensor, b: Tensor) -> float:
    """2 p_a · p_b of light legs, whose energies follow from their momenta, without rounding.

    With (2 p_a·p_b)/2 = |a||b| - a·b = (a x b)² / (|a||b| + a·b), the numerator is exact.
    """
    x, y = ([Fraction(float(v)) for v in p[1:]] for p in (a, b))
    cross = [x[i] * y[j] - x[j] * y[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    sizes = math.sqrt(float(sum(v * v for v in x)) * float(sum(v * v for v in y)))
    dot = float(sum(v * w for v, w in zip(x, y, strict=True)))
    squared_cross = float(sum(v * v for v in cross))
    return 2 * squared_cross / (sizes + dot)


@pytest.mark.parametrize("angle", [1e-1, 1e-4, 1e-7])
def test_collinear_products_keep_their_digits(angle: float) -> None:
    spatial = torch.tensor([[3.0, 2.0, 40.0], [7.0, 5.0 + angle, 90.0]], dtype=torch.float64)
    spatial[1] = 2.5 * spatial[0] + angle * torch.tensor([1.0, 2.0, -0.3])
    momenta = torch.cat([spatial.norm(dim=1)[:, None], spatial], dim=1)
    found = float(pair_products(momenta.T[..., None], (0.0, 0.0)))
    expected = exact_product(momenta[0], momenta[1])
    assert found == pytest.approx(expected, rel=3e-15 / angle)
    plain = float(products(momenta[None])[0, 1])
    if angle < 1e-6:
        # The control: E E - p·p has lost them all.
        assert abs(plain / expected - 1) > 1e-3


def test_products_of_massive_legs_are_the_plain_ones() -> None:
    momenta = flat_points(ZGG, 500, seed=1)
    found = pair_products(momenta.permute(2, 1, 0), ZGG_MASSES)
    for row, pair in enumerate(pairs_of(5)):
        torch.testing.assert_close(found[row], products(momenta)[pair], rtol=1e-9, atol=0)


def test_virtualities_are_squared_sums_of_momenta() -> None:
    masses = [MODEL.mass_gev(pdg_id) for pdg_id in (21, 21, 6, -6, 21, 21)]
    momenta = flat_points(TTGG, 200, seed=1)
    sets = propagator_legs(masses)
    assert {(0, 2), (2, 4), (0, 2, 4), (0, 4, 5)} < set(sets)
    found = Virtualities(sets, masses)(pair_products(momenta.permute(2, 1, 0), masses))
    for row, legs in zip(found, sets, strict=True):
        signs = torch.tensor([-1.0 if leg < 2 else 1.0 for leg in legs], dtype=torch.float64)
        summed = (signs[:, None] * momenta[:, legs]).sum(1)
        expected = minkowski_product(summed, summed).abs()
        torch.testing.assert_close(row, expected, rtol=1e-9, atol=1e-6)


def test_features_have_mean_0_and_width_1_and_are_invariant() -> None:
    momenta = flat_points(ZGG, 2000, seed=2)
    features = PointFeatures(ZGG, MODEL)
    features.fit(momenta)
    seen, log_ansatz = features(momenta)
    varies = seen.std(0) > 0.1
    # s_hat alone is fixed.
    assert varies.tolist() == [False] + [True] * (len(varies) - 1)
    torch.testing.assert_close(seen.mean(0), torch.zeros(len(varies)), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        seen[:, varies].std(0), torch.ones(int(varies.sum())), rtol=1e-3, atol=0
    )
    there, log_ansatz_there = features(boost_and_rotate(momenta, seed=3))
    torch.testing.assert_close(there, seen, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_ansatz_there, log_ansatz, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("group", "order"),
    [(ZGG, [0, 1, 2, 4, 3])]
    + [(GGG, [0, 1, *order]) for order in itertools.permutations((2, 3, 4))]
    + [(GGG, [1, 0, 3, 2, 4])],
)
def test_features_do_not_depend_on_the_order_of_identical_legs(
    group: SubprocessGroup, order: list[int]
) -> None:
    momenta = flat_points(group, 1000, seed=4)
    features = PointFeatures(group, MODEL)
    for here, there in zip(features(momenta), features(momenta[:, order]), strict=True):
        torch.testing.assert_close(there, here, rtol=0, atol=1e-6)


def test_features_tell_different_legs_apart() -> None:
    momenta = flat_points(ZGG, 100, seed=5)
    features = PointFeatures(ZGG, MODEL)
    here, there = features(momenta)[0], features(momenta[:, [1, 0, 2, 3, 4]])[0]
    assert float((here - there).abs().max()) > 0.1
