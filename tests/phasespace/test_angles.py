from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mlgen.phasespace.angles import AngleMap, Collinear, Isotropic, Parent, Spacelike
from mlgen.phasespace.vectors import back_to_back, from_rest, transverse_mass
from mlgen.physics.kinematics import mass_squared, rapidity
from tests.laws import check_angle_map, check_frequencies

BEAM_GEV = 3000.0


def uniform(n: int, n_columns: int, seed: int = 4) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n_columns, n, generator=rng, dtype=torch.float64)


def parents(n: int, m1: float = 0.0, m2: float = 0.0, max_y: float = 2.0) -> Parent:
    """Systems of many masses, transverse momenta and rapidities, and of parts with the masses given."""
    u = uniform(n, 4)
    mass, transverse = (m1 + m2 + 20) * 10 ** u[0], 500 ** u[1]
    y, azimuth = max_y * (2 * u[2] - 1), 2 * math.pi * u[3]
    m_t = torch.hypot(mass, transverse)
    energy, p = back_to_back(mass.square(), *(torch.full_like(mass, m * m) for m in (m1, m2)))
    momentum = [m_t * y.cosh(), transverse * azimuth.cos(), transverse * azimuth.sin()]
    return Parent(
        momentum=torch.stack([*momentum, m_t * y.sinh()]),
        mass=mass,
        energy=energy,
        p=p,
        s_first=torch.full_like(mass, m1 * m1),
        second_beam=torch.full_like(mass, BEAM_GEV),
    )


def products(angle: AngleMap, parent: Parent, r: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts, (4, n) each, in the laboratory."""
    direction, _ = angle.forward(r, phi, parent)
    at_rest = torch.cat([parent.energy[None], parent.p * direction])
    first = from_rest(at_rest, parent.momentum, parent.mass)
    return first, parent.momentum - first


ANGLES: dict[str, AngleMap] = {
    "isotropic": Isotropic(),
    "isotropic within a cut": Isotropic(2.5),
    "massless spacelike": Spacelike(0.0),
    "massive spacelike": Spacelike(80.0),
    "collinear": Collinear(),
    "collinear, first soft": Collinear(least_first_gev=1.0, soft_first=True),
    "collinear, second soft": Collinear(least_second_gev=1.0, soft_second=True),
    "collinear, both soft": Collinear(1.0, 2.0, soft_first=True, soft_second=True),
}


@pytest.mark.parametrize("name", ANGLES)
def test_an_angle_map_is_one(name: str) -> None:
    parent = parents(500)
    check_angle_map(ANGLES[name], parent, lambda r, phi: products(ANGLES[name], parent, r, phi)[0])


@pytest.mark.parametrize("name", ["isotropic", "massless spacelike", "massive spacelike"])
def test_an_angle_map_is_one_for_massive_parts(name: str) -> None:
    parent = parents(500, 80.0, 5.0)
    check_angle_map(ANGLES[name], parent, lambda r, phi: products(ANGLES[name], parent, r, phi)[0])


class Wrong(Isotropic):
    """It forgets that it does not cover the whole range."""

    def forward(self, r: Tensor, phi: Tensor, parent: Parent) -> tuple[Tensor, Tensor]:
        direction, log_jac = super().forward(r, phi, parent)
        return direction, torch.full_like(log_jac, math.log(2))


def test_the_law_finds_a_wrong_jacobian() -> None:
    parent = parents(500)
    with pytest.raises(AssertionError, match="at 99 %"):
        check_angle_map(Wrong(2.5), parent, lambda r, phi: products(Wrong(2.5), parent, r, phi)[0])


# --- isotropic -------------------------------------------------------------------------------


def test_an_isotropic_decay_is() -> None:
    n = 100_000
    r, phi = uniform(n, 2)
    direction, log_jac = Isotropic().forward(r, 2 * math.pi * phi, parents(n))
    torch.testing.assert_close(log_jac, torch.full_like(r, math.log(2)))
    for component in direction:  # by Archimedes each is uniform
        counts = torch.histc(component, 20, -1, 1)
        check_frequencies(counts, torch.ones_like(counts))


def test_what_an_isotropic_decay_leaves_out_does_not_pass_the_cut() -> None:
    """And most of what it keeps does."""
    n, max_rapidity = 20_000, 2.5
    r, phi = uniform(n, 2)
    parent = parents(n, max_y=3.0)
    every = products(Isotropic(), parent, r, 2 * math.pi * phi)
    passes = torch.stack([rapidity(p.T).abs() < max_rapidity for p in every]).all(0)
    r_found, _, log_jac = Isotropic(max_rapidity).inverse(every[0], parent)
    assert float(passes.double().mean()) > 0.3
    assert bool(((r_found > -1e-9) & (r_found < 1 + 1e-9))[passes].all())
    assert bool(log_jac[passes].isfinite().all())
    kept = products(Isotropic(max_rapidity), parent, r, 2 * math.pi * phi)
    inside = torch.stack([rapidity(p.T).abs() < max_rapidity + 1e-6 for p in kept]).all(0)
    assert float(inside.double().mean()) > float(passes.double().mean()) + 0.1


# --- spacelike -------------------------------------------------------------------------------


@pytest.mark.parametrize("mass", [1.0, 80.0, 500.0])
@pytest.mark.parametrize(("m1", "m2"), [(0.0, 0.0), (80.0, 0.0), (80.0, 173.0)])
def test_a_spacelike_propagator_is_flattened(mass: float, m1: float, m2: float) -> None:
    """ln(m² - t) is uniform between the ends of t = s_R - 2 E (E_R -+ p), the beam at rest in E."""
    n = 2000
    parent = parents(n, m1, m2)
    r, phi = uniform(n, 2)
    _, rest = products(Spacelike(mass, regulator=0.0), parent, r, 2 * math.pi * phi)
    beam = torch.tensor([BEAM_GEV, 0.0, 0.0, -BEAM_GEV], dtype=torch.float64)[:, None]
    distance = mass**2 - mass_squared((beam - rest).T)
    in_rest_frame = BEAM_GEV * (parent.momentum[0] + parent.momentum[3]) / parent.mass
    energy = parent.mass - parent.energy
    near, far = (
        mass**2 - m2**2 + 2 * in_rest_frame * (energy + sign * parent.p) for sign in (-1, 1)
    )
    exists = near > 1e-8 * far  # not where masses let t exceed m²
    expected = near * (far / near) ** r
    torch.testing.assert_close(distance[exists], expected[exists], rtol=1e-5, atol=0)
    assert float(exists.double().mean()) > 0.2


def test_the_remains_of_a_spacelike_decay_follow_the_second_beam() -> None:
    n = 20_000
    r, phi = uniform(n, 2)
    first, rest = products(Spacelike(0.0), parents(n), r, 2 * math.pi * phi)
    assert float((rapidity(rest.T) < rapidity(first.T)).double().mean()) > 0.8


def test_the_azimuth_around_a_spacelike_line_is_uniform() -> None:
    n = 100_000
    r, phi = uniform(n, 2)
    parent = parents(n)
    direction, _ = Spacelike(80.0).forward(r, 2 * math.pi * phi, parent)
    r_found, phi_found, _ = Spacelike(80.0).inverse(
        products(Spacelike(80.0), parent, r, 2 * math.pi * phi)[0], parent
    )
    torch.testing.assert_close(r_found, r, rtol=0, atol=1e-6)
    counts = torch.histc(torch.remainder(phi_found, 2 * math.pi), 20, 0, 2 * math.pi)
    check_frequencies(counts, torch.ones_like(counts))
    assert bool(direction.isfinite().all())


# --- collinear -------------------------------------------------------------------------------


def share(parent: Parent, first: Tensor) -> Tensor:
    """The share of its parent's transverse mass that the first part has, where the parent has no rapidity."""
    cosh, sinh = (
        parent.momentum[i] / transverse_mass(parent.momentum, parent.mass.square()) for i in (0, 3)
    )
    energy = cosh * first[0] - sinh * first[3]
    return energy / transverse_mass(parent.momentum, parent.mass.square())


@pytest.mark.parametrize("name", [name for name in ANGLES if "soft" in name])
def test_a_soft_part_gets_its_share_of_transverse_mass_by_its_pole(name: str) -> None:
    """1/z, 1/(1 - z) or both: the density of cos θ over the pole is the same along each decay."""
    angle = ANGLES[name]
    assert isinstance(angle, Collinear)
    parent = parents(1)
    n = 1000
    many = Parent(*(part.expand(*part.shape[:-1], n) for part in parent))
    r, phi = uniform(n, 2)
    _, log_jac = angle.forward(r, phi, many)
    z = share(many, products(angle, many, r, phi)[0])
    pole = angle.soft_first / z + angle.soft_second / (1 - z)
    flat = log_jac + pole.log()
    torch.testing.assert_close(flat, flat[:1].expand(n), rtol=0, atol=1e-6)
    assert float(z.max() - z.min()) > 0.5


def test_a_collinear_decay_leaves_out_only_what_is_too_soft() -> None:
    n = 20_000
    r, phi = uniform(n, 2)
    parent = parents(n)
    angle = Collinear(5.0, 10.0, soft_first=True, soft_second=True)
    every = products(Isotropic(), parent, r, 2 * math.pi * phi)
    hard = torch.stack([torch.hypot(p[1], p[2]) for p in every])
    passes = (hard[0] > 5.0) & (hard[1] > 10.0)
    assert float(passes.double().mean()) > 0.3
    r_found, _, log_jac = angle.inverse(every[0], parent)
    assert bool(((r_found > -1e-9) & (r_found < 1 + 1e-9))[passes].all())
    assert bool(log_jac[passes].isfinite().all())
