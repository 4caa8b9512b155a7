from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from mlgen.phasespace.production import Produced
from mlgen.phasespace.transverse import TransverseProduction, TransverseSystem
from mlgen.physics.kinematics import mass_squared, pt, rapidity
from tests.laws import check_estimate, check_frequencies
from tests.phase_space_volumes import hadronic_volume, massive_volume

S = 13000.0**2
HARD = TransverseSystem(min_transverse_mass_gev=20.0)
SOFT = TransverseSystem(soft_gev=10.0)
CENTRAL = TransverseSystem(min_transverse_mass_gev=20.0, max_rapidity=2.5)
HEAVY = TransverseSystem()
PRODUCTIONS = {
    "two": TransverseProduction(s=S, systems=(HARD, HARD)),
    "central": TransverseProduction(s=S, systems=(CENTRAL, HARD)),
    "soft": TransverseProduction(s=S, systems=(SOFT, SOFT)),
    "three": TransverseProduction(s=S, systems=(HEAVY, HARD, CENTRAL)),
    "three, a light one balances": TransverseProduction(s=S, systems=(HARD, HEAVY, CENTRAL)),
    "four": TransverseProduction(s=S, systems=(CENTRAL, HEAVY, HARD, HARD)),
}


def uniform(n: int, n_columns: int, seed: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n_columns, n, generator=rng, dtype=torch.float64)


def masses_squared(n: int, n_systems: int) -> list[Tensor]:
    """Systems of 10 to 200 GeV, others for each point."""
    return list((10 + 190 * uniform(n, n_systems, seed=6)).square())


def fixed_masses(n: int, *masses_gev: float) -> list[Tensor]:
    return [torch.full((n,), mass**2, dtype=torch.float64) for mass in masses_gev]


def produced_by(name: str, n: int) -> tuple[Produced, list[Tensor], list[Tensor], Tensor]:
    """What a production makes; r, the masses squared, and where there are points."""
    production = PRODUCTIONS[name]
    r, s = list(uniform(n, production.n_dim)), masses_squared(n, production.n_systems)
    produced = production.forward(r, s)
    return produced, r, s, produced.log_jac > -math.inf


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_systems_of_the_given_masses_use_up_the_energy_of_the_partons(name: str) -> None:
    produced, _, s, exists = produced_by(name, 2000)
    assert float(exists.double().mean()) > 0.8
    systems = [system[:, exists] for system in produced.systems]
    for system, s_i in zip(systems, s, strict=True):
        torch.testing.assert_close(mass_squared(system.T), s_i[exists], rtol=1e-6, atol=1e-3)
    production, x = PRODUCTIONS[name], produced.x[:, exists]
    leading = systems[production.leading]
    assert float(leading[2].abs().max()) < 1e-12
    assert float(leading[1].min()) >= 0
    if production.across is not None:
        assert float(systems[production.across][2].min()) >= 0
    total = torch.stack(systems).sum(0)
    assert float(total[1:3].abs().max()) < 1e-9
    assert bool(((x > 0) & (x <= 1)).all())
    for x_i, sign in zip(x, (1, -1), strict=True):
        light_cone = total[0] + sign * total[3]
        torch.testing.assert_close(light_cone, x_i * math.sqrt(S), rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_a_production_of_systems_inverts(name: str) -> None:
    produced, r, s, exists = produced_by(name, 2000)
    systems = [system[:, exists] for system in produced.systems]
    found, log_jac = PRODUCTIONS[name].inverse(
        produced.x[:, exists], systems, [s_i[exists] for s_i in s]
    )
    expected = torch.stack(r)[:, exists]
    torch.testing.assert_close(torch.stack(found), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_jac, -produced.log_jac[exists], rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", PRODUCTIONS)
def test_the_jacobian_is_autograds(name: str) -> None:
    """dx1 dx2 dPhi_m = 2/s (2 pi)^(4-3m) prod of d²pt over all but the first, prod dy / 2."""
    production, n = PRODUCTIONS[name], 500
    m = production.n_systems
    r = uniform(n, production.n_dim).requires_grad_()
    s = masses_squared(n, m)
    _, systems, log_jac = production.forward(list(r), s)
    # The first azimuth is the event's, and covers 2 pi: d²pt = dpt² / 2 times that.
    variables = [systems[1][1].square()]
    variables += [system[j] for system in systems[2:] for j in (1, 2)]
    variables += [rapidity(system.T) for system in systems]
    rows = [torch.autograd.grad(v.sum(), r, retain_graph=True)[0] for v in variables]
    log_det = torch.linalg.slogdet(torch.stack(rows).permute(2, 0, 1)).logabsdet
    constant = math.log(2 / S) + (4 - 3 * m) * math.log(2 * math.pi) - m * math.log(2)
    # The azimuth between two systems takes half a turn: reflected events are the other half.
    constant += math.log(math.pi) + (math.log(2) if m > 2 else 0.0)
    exists = log_jac.detach() > -math.inf
    expected = (log_det + constant).detach()[exists]
    torch.testing.assert_close(log_jac.detach()[exists], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["three", "three, a light one balances", "four"])
def test_the_density_does_not_depend_on_the_order_of_the_systems_after_the_first(name: str) -> None:
    """Which one balances the others it does depend on."""
    production = PRODUCTIONS[name]
    produced, _, s, exists = produced_by(name, 2000)

    def log_density(order: tuple[int, ...]) -> Tensor:
        reordered = replace(production, systems=tuple(production.systems[i] for i in order))
        systems = [produced.systems[i][:, exists] for i in order]
        return reordered.inverse(produced.x[:, exists], systems, [s[i][exists] for i in order])[1]

    expected = log_density(tuple(range(production.n_systems)))
    for order in itertools.permutations(range(production.n_systems)):
        found = log_density(order)
        assert torch.allclose(found, expected, rtol=0, atol=1e-9) is (order[0] == 0)


# --- distributions and bounds ----------------------------------------------------------------


def test_what_is_drawn_keeps_to_the_bounds_of_the_cuts() -> None:
    production, n = PRODUCTIONS["four"], 5000
    s = fixed_masses(n, 0.0, 91.0, 0.0, 0.0)
    produced = production.forward(list(uniform(n, production.n_dim)), s)
    exists = produced.log_jac > -math.inf
    for i, (system, momentum) in enumerate(zip(production.systems, produced.systems, strict=True)):
        if i > 0:
            transverse_mass = torch.hypot(pt(momentum[:, exists].T), s[i][exists].sqrt())
            assert float(transverse_mass.min()) >= system.min_transverse_mass_gev * (1 - 1e-12)
        largest = float(rapidity(momentum[:, exists].T).abs().max())
        assert largest <= system.max_rapidity * (1 + 1e-9)


def test_the_transverse_mass_of_a_light_system_keeps_to_its_bound() -> None:
    n = 5000
    s = fixed_masses(n, 5.0, 5.0)
    produced = PRODUCTIONS["two"].forward(list(uniform(n, 3)), s)
    for system in produced.systems:
        assert float((s[0] + pt(system.T).square()).min()) >= 20.0**2 * (1 - 1e-12)


def test_azimuths_are_uniform() -> None:
    n = 50_000
    production = PRODUCTIONS["four"]
    _, systems, _ = production.forward(
        list(uniform(n, production.n_dim)), fixed_masses(n, 0.0, 91.0, 0.0, 0.0)
    )
    for i, width in ((2, math.pi), (3, 2 * math.pi)):
        phi = torch.remainder(torch.atan2(systems[i][2], systems[i][1]), 2 * math.pi)
        counts = torch.histc(phi, 20, 0, width)
        check_frequencies(counts, torch.ones_like(counts))


def test_the_spectrum_of_transverse_momentum_falls_as_it_should() -> None:
    """As 1 / m_T^4 from the cut on; all the more 1 / (pt² + soft²)² without one."""
    n = 100_000
    for name, masses, offset, low in (("two", 0.0, 0.0, 400.0), ("soft", 0.0, 100.0, 0.0)):
        _, systems, _ = PRODUCTIONS[name].forward(
            list(uniform(n, 3)), fixed_masses(n, masses, masses)
        )
        value = pt(systems[1].T).square() + offset
        start, end = low + offset, S / 4 + offset
        edges = torch.linspace(0, 1, 21, dtype=torch.float64)
        bins = 1 / (1 / start + edges * (1 / end - 1 / start))
        counts = torch.bucketize(value, bins[1:-1]).bincount(minlength=20).double()
        check_frequencies(counts, torch.ones_like(counts))


@pytest.mark.parametrize("name", PRODUCTIONS)
@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_the_faces_of_the_cube_have_points_or_none_but_never_nonsense(
    name: str, edge: float
) -> None:
    production = PRODUCTIONS[name]
    s = masses_squared(50, production.n_systems)
    for column in range(production.n_dim):
        r = uniform(50, production.n_dim)
        r[column] = edge
        produced = production.forward(list(r), s)
        assert not bool(produced.log_jac.isnan().any())
        assert not bool((produced.log_jac == math.inf).any())
        exists = produced.log_jac > -math.inf
        assert all(bool(system[:, exists].isfinite().all()) for system in produced.systems)


# --- integrals -------------------------------------------------------------------------------

S_0 = 300.0**2
"""Where the test integrand ends, GeV²."""
MIN_PT = 20.0


def integrand(produced: Produced) -> Tensor:
    """exp(-s_hat / s0) where the pt is large enough, times the Jacobian."""
    value = (-produced.x.prod(0) * S / S_0 + produced.log_jac).exp()
    return torch.where(pt(produced.systems[0].T) >= MIN_PT, value, 0.0)


def one_dimensional(m1: float, m2: float) -> float:
    """The integral over pt > MIN_PT and all rapidities by quadrature: dx1 dx2 = dtau ln(1/tau)."""

    def of_root(root_s: float) -> float:
        s = root_s**2
        p2 = (s - (m1 + m2) ** 2) * (s - (m1 - m2) ** 2) / (4 * s)
        if p2 <= MIN_PT**2:
            return 0.0
        two_body = 2 * math.sqrt(p2) / (16 * math.pi * root_s) * 2 * math.sqrt(1 - MIN_PT**2 / p2)
        return 2 * root_s / S * math.log(S / s) * math.exp(-s / S_0) * two_body

    low = math.hypot(m1, MIN_PT) + math.hypot(m2, MIN_PT)
    return float(quad(of_root, low, 3000.0, limit=200)[0])


@pytest.mark.parametrize("name", ["two", "soft"])
@pytest.mark.parametrize(("m1", "m2"), [(0.0, 0.0), (173.0, 91.188)])
def test_a_hadronic_integral_is_that_of_a_quadrature(name: str, m1: float, m2: float) -> None:
    n = 400_000
    value = integrand(PRODUCTIONS[name].forward(list(uniform(n, 3)), fixed_masses(n, m1, m2)))
    expected, error = one_dimensional(m1, m2), float(value.std()) / n**0.5
    check_estimate(float(value.mean()), error, expected, 0.02)
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(1.1 * float(value.mean()), error, expected, 0.02)


@pytest.mark.parametrize(
    "masses", [(173.0, 91.188, 20.0), (20.0, 173.0, 91.188), (173.0, 91.188, 125.0, 20.0)]
)
def test_all_of_phase_space_at_a_low_energy_is_filled(masses: tuple[float, ...]) -> None:
    """To where both fractions are 1: the others may leave no room for each other there."""
    n, sqrt_s = 500_000, 700.0
    production = TransverseProduction(s=sqrt_s**2, systems=(HEAVY,) * len(masses))
    produced = production.forward(list(uniform(n, production.n_dim)), fixed_masses(n, *masses))
    exists = produced.log_jac > -math.inf
    assert float((~exists).double().mean()) > 0.02
    assert torch.equal(exists, (produced.x <= 1).all(0))
    value = produced.log_jac.exp()
    window = sum(masses), sqrt_s
    expected = hadronic_volume(sqrt_s, lambda mass: massive_volume(mass, masses), window)
    error = float(value.std()) / n**0.5
    check_estimate(float(value.mean()), error, expected, 0.02)
    # A negative control: points beyond that are not counted as points of weight 0.
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(float(value[exists].mean()), error, expected, 0.02)


@pytest.mark.parametrize("bound", [1.0, 3.0])
def test_a_bound_on_rapidity_loses_nothing_inside_of_it(bound: float) -> None:
    n = 400_000

    def inside(systems: tuple[TransverseSystem, TransverseSystem]) -> tuple[float, float]:
        production = TransverseProduction(s=S, systems=systems)
        produced = production.forward(list(uniform(n, 3)), fixed_masses(n, 0.0, 0.0))
        y = torch.stack([rapidity(system.T) for system in produced.systems])
        value = torch.where((y.abs() < bound).all(0), integrand(produced), 0.0)
        return float(value.mean()), float(value.std()) / n**0.5

    expected, error = inside((HARD, HARD))
    central = TransverseSystem(min_transverse_mass_gev=20.0, max_rapidity=bound)
    for systems in ((central, HARD), (HARD, central), (central, central)):
        value, other_error = inside(systems)
        check_estimate(value, math.hypot(error, other_error), expected, 0.03)


def near_the_edge(
    n: int, n_systems: int, distance: float
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """x, systems and their masses squared, made without a map: any momenta, scaled and boosted.

    One fraction is 1 - distance, and in half of the points the other one, too.
    """
    rng = torch.Generator().manual_seed(n_systems)
    across = torch.randn(n_systems, n, generator=rng, dtype=torch.complex128)
    across = across - across.mean(0)
    across = across * across[1].conj() / across[1].abs()  # the leading system along x
    if n_systems > 2:
        across = torch.where(across[2].imag < 0, across.conj(), across)
    mass_squared, y = torch.randn(2, n_systems, n, generator=rng, dtype=torch.float64)
    mass_squared = 0.1 * mass_squared.square()
    m_t = (mass_squared + across.abs().square()).sqrt()
    plus, minus = (m_t * y.exp()).sum(0), (m_t / y.exp()).sum(0)
    other = torch.rand(n, generator=rng, dtype=torch.float64).clamp(max=0.5) * 2
    x = (1 - distance) * torch.stack([torch.ones_like(other), other])
    scale = (x.prod(0) * S / (plus * minus)).sqrt()
    y = y + 0.5 * (x[0] * minus / (x[1] * plus)).log()
    momenta = torch.stack([m_t * y.cosh(), across.real, across.imag, m_t * y.sinh()])
    return x, list((scale * momenta).unbind(1)), list(scale.square() * mass_squared)


@pytest.mark.parametrize("distance", [1e-1, 1e-6, 1e-12])
@pytest.mark.parametrize("n_systems", [2, 3, 4])
def test_systems_that_take_nearly_all_of_a_beam_are_within_reach(
    n_systems: int, distance: float
) -> None:
    x, systems, s = near_the_edge(2000, n_systems, distance)
    production = TransverseProduction(s=S, systems=(SOFT,) * n_systems)
    columns, log_jac = production.inverse(x, systems, s)
    r = torch.stack(columns)
    assert bool(log_jac.isfinite().all())
    assert bool(((r > -1e-6) & (r < 1 + 1e-6)).all())


def test_where_the_bounds_leave_no_rapidity_there_is_no_point() -> None:
    """A pt near the limit needs both systems at rest in y, but the first may be anywhere before."""
    narrow = TransverseSystem(min_transverse_mass_gev=10.0, max_rapidity=0.1)
    wide = TransverseSystem(min_transverse_mass_gev=10.0, max_rapidity=9.0)
    production = TransverseProduction(s=100.0**2, systems=(wide, narrow))
    produced = production.forward(list(uniform(20_000, 3)), fixed_masses(20_000, 0.0, 0.0))
    impossible = produced.log_jac == -math.inf
    assert bool(impossible.any())
    assert not bool(produced.log_jac.isnan().any())
    assert float(produced.x[:, ~impossible].amax()) <= 1
