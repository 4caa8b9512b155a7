from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlgen.physics.kinematics import boost_back, mass_squared, minkowski_product, pt, rapidity
from mlgen.radiation.jets import from_cylindrical
from mlgen.radiation.recoil import recoil

BEAMS = (6500.0, 6500.0)


def muon_pairs(n: int, pt_max: float) -> Tensor:
    """Pairs of massless momenta (n, 2, 4), GeV, of a pair with pt up to a largest one."""
    rng = torch.Generator().manual_seed(1)
    uniform = torch.rand(6, n, generator=rng, dtype=torch.float64)
    angle, cosine = 6.28 * uniform[0], 2 * uniform[1] - 1
    sine = (1 - cosine.square()).sqrt()
    direction = torch.stack([sine * angle.cos(), sine * angle.sin(), cosine], dim=1)
    half = 45.6 * torch.ones(n, dtype=torch.float64)
    decay = torch.stack(
        [
            torch.cat([half[:, None], half[:, None] * direction], dim=1),
            torch.cat([half[:, None], -half[:, None] * direction], dim=1),
        ],
        dim=1,
    )
    pair = from_cylindrical(
        0.01 + pt_max * uniform[2], 6 * uniform[3], 4 * uniform[4] - 2, 91.2 * torch.ones_like(half)
    )
    backwards = pair.clone()
    backwards[:, 1:] *= -1
    return boost_back(decay, backwards[:, None])


def some_jets(n: int, m: int) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    uniform = torch.rand(4, n, m, generator=rng, dtype=torch.float64)
    jets = from_cylindrical(
        20 + 80 * uniform[0], 6 * uniform[1], 6 * uniform[2] - 3, 10 * uniform[3]
    )
    return jets * (torch.arange(m) <= torch.arange(n)[:, None] % (m + 1))[..., None]


@pytest.mark.parametrize("pt_max", [0.0, 100.0])
@pytest.mark.parametrize("n_jets", [0, 1, 4])
def test_momentum_is_conserved_and_the_partons_that_come_in_are_massless(
    n_jets: int, pt_max: float
) -> None:
    products, jets = muon_pairs(200, pt_max), some_jets(200, n_jets)
    found = recoil(products.sum(1), jets, BEAMS)
    total = found.apply(products).sum(1) + jets.sum(1)
    torch.testing.assert_close(found.incoming.sum(1), total, rtol=1e-12, atol=1e-9)
    assert float(mass_squared(found.incoming).abs().max()) < 1e-6
    assert bool((found.incoming[:, 0, 3] > 0).all() and (found.incoming[:, 1, 3] < 0).all())
    assert bool(found.fits.all())


def test_the_hard_object_keeps_its_mass_and_rapidity_and_balances_the_jets() -> None:
    products, jets = muon_pairs(200, 100.0), some_jets(200, 3)
    before = products.sum(1)
    after = recoil(before, jets, BEAMS).apply(before[:, None])[:, 0]
    torch.testing.assert_close(mass_squared(after), mass_squared(before), rtol=1e-9, atol=0)
    torch.testing.assert_close(rapidity(after), rapidity(before), rtol=0, atol=1e-9)
    torch.testing.assert_close(after[:, 1:3], -jets.sum(1)[:, 1:3], rtol=1e-9, atol=1e-9)


def test_products_keep_their_masses_and_the_decay_its_shape() -> None:
    products, jets = muon_pairs(200, 100.0), some_jets(200, 3)
    after = recoil(products.sum(1), jets, BEAMS).apply(products)
    inner = minkowski_product(after[:, 0], after[:, 1])
    expected = minkowski_product(products[:, 0], products[:, 1])
    torch.testing.assert_close(inner, expected, rtol=1e-9, atol=0)
    assert float(mass_squared(after).abs().max()) < 1e-6


def test_jets_that_balance_the_hard_object_already_leave_it_where_it_is() -> None:
    products = muon_pairs(200, 100.0)
    pair = products.sum(1)
    jet = pair.clone()
    jet[:, 1:] *= -1
    after = recoil(pair, jet[:, None], BEAMS).apply(products)
    torch.testing.assert_close(after, products, rtol=1e-9, atol=1e-9)


def test_what_the_beams_cannot_pay_for_does_not_fit() -> None:
    products, jets = muon_pairs(200, 100.0), some_jets(200, 4)
    found = recoil(products.sum(1), jets, (300.0, 300.0))
    expected = (found.incoming[:, 0, 0] <= 300) & (found.incoming[:, 1, 0] <= 300)
    assert 0 < int(found.fits.sum()) < 200
    assert torch.equal(found.fits, expected)
    assert float(pt(found.incoming).max()) == 0
