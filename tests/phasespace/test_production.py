from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mlgen.phasespace.production import LeptonProduction, PartonicProduction, Production
from mlgen.physics.kinematics import mass_squared, rapidity

S = 13000.0**2
PRODUCTIONS: dict[str, Production] = {
    "lepton": LeptonProduction(s=500.0**2),
    "boosted lepton": LeptonProduction(s=500.0**2, rapidity=0.7),
    "partonic": PartonicProduction(s=S),
    "central": PartonicProduction(s=S, max_rapidity=2.5),
}


def uniform(n: int, n_columns: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(3)
    return list(torch.rand(n_columns, n, generator=rng, dtype=torch.float64))


def masses_squared(name: str, n: int) -> Tensor:
    """Of the system: that of the beams where they have no structure."""
    production = PRODUCTIONS[name]
    if isinstance(production, LeptonProduction):
        return torch.full((n,), production.s, dtype=torch.float64)
    return (50 + 2000 * uniform(n, 3)[2]).square()


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_one_system_has_the_energy_of_the_partons(name: str) -> None:
    production, s = PRODUCTIONS[name], masses_squared(name, 2000)
    x, (system,), _ = production.forward(uniform(2000, production.n_dim), [s])
    torch.testing.assert_close(mass_squared(system.T), s, rtol=1e-9, atol=0)
    assert float(system[1:3].abs().max()) == 0
    assert bool(((x > 0) & (x <= 1)).all())
    y = production.rapidity if isinstance(production, LeptonProduction) else 0.0
    for x_i, sign in zip(x, (1, -1), strict=True):
        light_cone = system[0] + sign * system[3]
        expected = x_i * math.sqrt(production.s) * math.exp(sign * y)
        torch.testing.assert_close(light_cone, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_a_production_of_one_system_inverts(name: str) -> None:
    production, s = PRODUCTIONS[name], masses_squared(name, 2000)
    r = uniform(2000, production.n_dim)
    produced = production.forward(r, [s])
    r_back, log_jac = production.inverse(produced.x, produced.systems, [s])
    assert len(r_back) == len(r)
    for got, expected in zip(r_back, r, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_jac, -produced.log_jac, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["partonic", "central"])
def test_the_jacobian_is_autograds(name: str) -> None:
    """That of dx1 dx2 / (dr ds), times 2 pi."""
    production, s = PRODUCTIONS[name], masses_squared(name, 500).requires_grad_()
    r = uniform(500, 1)[0].requires_grad_()
    x, _, log_jac = production.forward([r], [s])
    rows = [torch.stack(torch.autograd.grad(x_i.sum(), (r, s), retain_graph=True)) for x_i in x]
    log_det = torch.linalg.slogdet(torch.stack(rows).permute(2, 0, 1)).logabsdet
    expected = log_det + math.log(2 * math.pi)
    torch.testing.assert_close(log_jac.detach(), expected.detach(), rtol=0, atol=1e-9)


def test_the_rapidity_fills_its_range() -> None:
    for name, most in (("partonic", math.inf), ("central", 2.5)):
        s = masses_squared(name, 2000)
        _, (system,), _ = PRODUCTIONS[name].forward(uniform(2000, 1), [s])
        y_max = (0.5 * (S / s).log()).clamp(max=most)
        y = rapidity(system.T)
        r = uniform(2000, 1)[0]
        torch.testing.assert_close(y, (2 * r - 1) * y_max, rtol=0, atol=1e-9)


def test_one_system_has_nothing_beside_its_azimuth() -> None:
    for production in PRODUCTIONS.values():
        assert production.n_systems == 1
        assert production.leading == 0
        assert production.across is None
