from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from mlgen.phasespace.invariants import BreitWigner, PowerLaw
from mlgen.phasespace.production import (
    LeptonProduction,
    PartonicProduction,
    Produced,
    Production,
    TransverseProduction,
    boost_along_beam,
)
from mlgen.physics.kinematics import kallen, mass_squared, pt, rapidity
from tests.laws import check_estimate

S = 13000.0**2
SHAPES = {"power law": PowerLaw(1.5), "Z": BreitWigner(91.188, 2.441404)}
PRODUCTIONS: dict[str, Production] = {
    "lepton": LeptonProduction(s=500.0**2),
    "boosted lepton": LeptonProduction(s=500.0**2, rapidity=0.7),
    "partonic": PartonicProduction(s=S, invariant=PowerLaw(1.5)),
    "resonant": PartonicProduction(s=S, invariant=SHAPES["Z"], min_mass_gev=50.0),
    "transverse": TransverseProduction(s=S, min_pt_gev=20.0),
    "central": TransverseProduction(s=S, min_pt_gev=20.0, max_rapidities=(2.5, 4.0)),
}


def uniform_r(n: int, n_dim: int) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    return torch.rand(n, n_dim, generator=rng, dtype=torch.float64)


def masses_squared(n: int) -> tuple[Tensor, Tensor]:
    """Two systems of up to 200 GeV, another for each point."""
    s1, s2 = (200 * uniform_r(n, 2)).square().unbind(1)
    return s1, s2


def where_allowed(produced: Produced) -> Tensor:
    return produced.log_jac > -math.inf


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_two_systems_of_the_given_masses_use_up_the_energy_of_the_partons(name: str) -> None:
    production = PRODUCTIONS[name]
    s1, s2 = masses_squared(2000)
    produced = production.forward(uniform_r(2000, production.n_dim), s1, s2)
    allowed = where_allowed(produced)
    assert float(allowed.double().mean()) > 0.9
    x, first, second = produced.x[allowed], produced.first[allowed], produced.second[allowed]
    for momentum, s in ((first, s1), (second, s2)):
        torch.testing.assert_close(mass_squared(momentum), s[allowed], rtol=1e-6, atol=1e-4)
        assert float(momentum[:, 2].abs().max()) == 0
    assert float(first[:, 1].min()) >= 0
    assert bool(((x > 0) & (x <= 1)).all())
    assert isinstance(production, LeptonProduction | PartonicProduction | TransverseProduction)
    beam_energy = math.sqrt(production.s) / 2
    total = first + second
    y = production.rapidity if isinstance(production, LeptonProduction) else 0.0
    for x_i, sign in ((x[:, 0], 1), (x[:, 1], -1)):
        light_cone = total[:, 0] + sign * total[:, 3]
        expected = 2 * x_i * beam_energy * math.exp(sign * y)
        torch.testing.assert_close(light_cone, expected, rtol=1e-10, atol=0)
    assert float(total[:, 1].abs().max()) < 1e-9


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_a_production_inverts(name: str) -> None:
    production = PRODUCTIONS[name]
    s1, s2 = masses_squared(2000)
    r = uniform_r(2000, production.n_dim)
    produced = production.forward(r, s1, s2)
    allowed = where_allowed(produced)
    x, first, second = (t[allowed] for t in (produced.x, produced.first, produced.second))
    r_back, log_jac = production.inverse(x, first, second, s1[allowed], s2[allowed])
    torch.testing.assert_close(r_back, r[allowed], rtol=0, atol=1e-9)
    torch.testing.assert_close(log_jac, -produced.log_jac[allowed], rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", [n for n in PRODUCTIONS if "lepton" not in n])
def test_the_jacobian_is_autograds(name: str) -> None:
    """dx1 dx2 dPhi_2 = lambda^(1/2) / (16 pi s_hat) dx1 dx2 dcos θ, the angle in the partons' frame."""
    production = PRODUCTIONS[name]
    s1, s2 = masses_squared(500)
    r = uniform_r(500, 3).requires_grad_()
    produced = production.forward(r, s1, s2)
    y = 0.5 * (produced.x[:, 0] / produced.x[:, 1]).log()
    at_rest = boost_along_beam(produced.first, -y)
    cos_theta = at_rest[:, 3] / torch.hypot(at_rest[:, 3], at_rest[:, 1])
    variables = [*produced.x.unbind(1), cos_theta]
    rows = [torch.autograd.grad(v.sum(), r, retain_graph=True)[0] for v in variables]
    log_det = torch.linalg.slogdet(torch.stack(rows, dim=1)).logabsdet
    s_hat = produced.x.detach().prod(1) * S
    log_two_body = 0.5 * kallen(s_hat, s1, s2).log() - (16 * math.pi * s_hat).log()
    allowed = where_allowed(produced)
    expected = (log_det + log_two_body)[allowed]
    torch.testing.assert_close(produced.log_jac.detach()[allowed], expected, rtol=0, atol=1e-7)


def test_what_is_drawn_keeps_to_the_bounds_of_the_cuts() -> None:
    production = PRODUCTIONS["central"]
    s1, s2 = masses_squared(5000)
    produced = production.forward(uniform_r(5000, 3), s1, s2)
    allowed = where_allowed(produced)
    first, second = produced.first[allowed], produced.second[allowed]
    assert float(pt(first).min()) >= 20 * (1 - 1e-12)
    assert float(rapidity(first).abs().max()) <= 2.5 * (1 + 1e-9)
    assert float(rapidity(second).abs().max()) <= 4.0 * (1 + 1e-9)
    resonant = PRODUCTIONS["resonant"].forward(uniform_r(5000, 3), 0 * s1, 0 * s2)
    assert float((resonant.x.prod(1) * S).min()) >= 50.0**2 * (1 - 1e-12)


S_0 = 300.0**2
"""Where the test integrand ends, GeV²."""
MIN_PT = 20.0
TRANSVERSE = TransverseProduction(s=S, min_pt_gev=MIN_PT, transverse=PowerLaw(1.2))


def integrand(produced: Produced) -> Tensor:
    """exp(-s_hat / s0) where the pt is large enough and |y| below 2 and 3, times the Jacobian."""
    inside = pt(produced.first) >= MIN_PT
    inside &= rapidity(produced.first).abs() < 2
    inside &= rapidity(produced.second).abs() < 3
    value = (-produced.x.prod(1) * S / S_0).exp() * produced.log_jac.exp()
    return torch.where(inside, value, 0.0)


def integrate(production: Production, m1: float, m2: float) -> tuple[float, float]:
    n = 200_000
    s1, s2 = (torch.full((n,), m**2, dtype=torch.float64) for m in (m1, m2))
    value = integrand(production.forward(uniform_r(n, production.n_dim), s1, s2))
    return float(value.mean()), float(value.std()) / n**0.5


@pytest.mark.parametrize(("m1", "m2"), [(0.0, 0.0), (91.188, 0.0)])
def test_hadronic_productions_agree_on_an_integral_within_cuts(m1: float, m2: float) -> None:
    transverse, error = integrate(TRANSVERSE, m1, m2)
    for other in (
        TransverseProduction(
            s=S, min_pt_gev=15.0, max_rapidities=(2.0, 3.0), transverse=PowerLaw(1.5)
        ),
        PartonicProduction(s=S, invariant=PowerLaw(1.5), min_mass_gev=2 * MIN_PT),
        PartonicProduction(s=S, invariant=BreitWigner(300.0, 300.0)),
    ):
        value, other_error = integrate(other, m1, m2)
        check_estimate(value, math.hypot(error, other_error), transverse, 0.01)


def one_dimensional(m1: float, m2: float) -> float:
    """The integral of exp(-s_hat/s0) over pt > MIN_PT, all rapidities: dx1 dx2 = dtau ln(1/tau)."""

    def of_root(root_s: float) -> float:
        s = root_s**2
        p2 = (s - (m1 + m2) ** 2) * (s - (m1 - m2) ** 2) / (4 * s)
        if p2 <= MIN_PT**2:
            return 0.0
        two_body = 2 * math.sqrt(p2) / (16 * math.pi * root_s) * 2 * math.sqrt(1 - MIN_PT**2 / p2)
        return 2 * root_s / S * math.log(S / s) * math.exp(-s / S_0) * two_body

    low = math.hypot(m1, MIN_PT) + math.hypot(m2, MIN_PT)
    return float(quad(of_root, low, 3000.0, limit=200)[0])


@pytest.mark.parametrize(("m1", "m2"), [(0.0, 0.0), (173.0, 91.188)])
def test_a_hadronic_integral_is_that_of_a_quadrature(m1: float, m2: float) -> None:
    n = 100_000
    s1, s2 = (torch.full((n,), m**2, dtype=torch.float64) for m in (m1, m2))
    partonic = PartonicProduction(s=S, invariant=PowerLaw(1.5), min_mass_gev=2 * MIN_PT)
    for production in (TRANSVERSE, partonic):
        produced = production.forward(uniform_r(n, 3), s1, s2)
        value = (-produced.x.prod(1) * S / S_0).exp() * produced.log_jac.exp()
        value = torch.where(pt(produced.first) >= MIN_PT, value, 0.0)
        check_estimate(
            float(value.mean()), float(value.std()) / n**0.5, one_dimensional(m1, m2), 0.01
        )


def test_the_comparison_finds_a_jacobian_that_is_five_percent_too_large() -> None:
    value, error = integrate(TRANSVERSE, 0.0, 0.0)
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(1.05 * value, error, value, 0.01)


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_the_largest_invariant_is_where_the_other_system_and_the_cut_leave_nothing(
    name: str,
) -> None:
    production = PRODUCTIONS[name]
    assert isinstance(production, LeptonProduction | PartonicProduction | TransverseProduction)
    rest = torch.tensor([100.0], dtype=torch.float64)
    largest = production.max_invariant(rest)
    transverse = production.min_pt_gev if isinstance(production, TransverseProduction) else 0.0
    energy = torch.hypot(rest, torch.tensor(transverse))
    energy = energy + (largest + transverse**2).sqrt()
    torch.testing.assert_close(energy.square(), torch.full_like(energy, production.s))
    too_heavy = torch.full_like(rest, 2 * math.sqrt(production.s))
    assert float(production.max_invariant(too_heavy)) <= 0


def test_a_bound_on_s_hat_above_the_beams_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves no energy of the beams"):
        PartonicProduction(s=100.0**2, invariant=PowerLaw(1.5), min_mass_gev=101.0)


def test_where_the_bounds_leave_no_rapidity_there_is_no_point() -> None:
    """A pt near the limit needs both systems at rest in y, but y1 may be anywhere before y2 is drawn."""
    production = TransverseProduction(s=100.0**2, min_pt_gev=10.0, max_rapidities=(9.0, 0.1))
    zero = torch.zeros(20_000, dtype=torch.float64)
    produced = production.forward(uniform_r(20_000, 3), zero, zero)
    impossible = ~where_allowed(produced)
    assert bool(impossible.any())
    assert not bool(produced.log_jac.isnan().any())
    assert bool(produced.x[~impossible].amax() <= 1)


@pytest.mark.parametrize("rapidity_of_frame", [-1.2, 0.7])
def test_a_boost_along_the_beam_adds_rapidity(rapidity_of_frame: float) -> None:
    first = PRODUCTIONS["lepton"].forward(uniform_r(10, 1), *masses_squared(10)).first
    boosted = boost_along_beam(first, torch.full((10,), rapidity_of_frame, dtype=torch.float64))
    torch.testing.assert_close(rapidity(boosted), rapidity(first) + rapidity_of_frame)
    torch.testing.assert_close(mass_squared(boosted), mass_squared(first))
    assert torch.equal(boosted[:, 1:3], first[:, 1:3])
    several = torch.stack([first, boosted], dim=1)
    there = boost_along_beam(several, torch.ones(10, dtype=torch.float64))
    torch.testing.assert_close(rapidity(there), rapidity(several) + 1)
