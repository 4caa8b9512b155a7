"""Tests of flat phase space against closed forms and quadratures that know nothing of the map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from scipy.special import betaincinv
from scipy.stats import beta
from torch import Tensor

from mlgen.core import Channel, PhaseSpacePoints, SubprocessGroup
from mlgen.errors import CardError
from mlgen.phasespace.rambo import RamboPhaseSpace, build_rambo
from mlgen.physics.kinematics import mass_squared
from mlgen.physics.model import StandardModel
from tests.laws import (
    check_frequencies,
    check_hadronic_volume,
    check_inverts,
    check_phase_space,
    check_phase_space_volume,
    massless_volume,
)
from tests.phase_space_volumes import hadronic_volume, massive_volume

LEPTON_ENERGY, HADRON_ENERGY = 500.0, 13000.0
LEGS = range(2, 9)
MASSES = (173.0, 4.7, 80.4, 0.0, 0.0, 10.0, 1.0, 1.0)
"""The first n of them are the masses of n legs, GeV."""


def lepton(*masses_gev: Sequence[float]) -> RamboPhaseSpace:
    return flat(masses_gev, (LEPTON_ENERGY / 2, LEPTON_ENERGY / 2), hadronic=False)


def hadron(
    *masses_gev: Sequence[float], min_mass_gev: float = 50.0, n_orientations: int = 1
) -> RamboPhaseSpace:
    energies = (HADRON_ENERGY / 2, HADRON_ENERGY / 2)
    return flat(masses_gev, energies, True, min_mass_gev, n_orientations)


def flat(
    masses_gev: Sequence[Sequence[float]],
    energies_gev: tuple[float, float],
    hadronic: bool,
    min_mass_gev: float = 0.0,
    n_orientations: int = 1,
) -> RamboPhaseSpace:
    return RamboPhaseSpace(
        [Channel(group=i, topology="flat") for i in range(len(masses_gev))],
        masses_gev,
        [n_orientations] * len(masses_gev),
        energies_gev=energies_gev,
        hadronic=hadronic,
        min_mass_gev=min_mass_gev,
    )


def uniform_r(n: int, phase_space: RamboPhaseSpace) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    n_columns = phase_space.n_dim + phase_space.n_flat
    return torch.rand(n, n_columns, generator=rng, dtype=torch.float64)


def points_of(phase_space: RamboPhaseSpace, r: Tensor) -> PhaseSpacePoints:
    return phase_space.forward(r, torch.zeros(len(r), dtype=torch.int64))


# --- the map ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_final", LEGS)
@pytest.mark.parametrize("masses", [(0.0,) * 8, MASSES], ids=["massless", "massive"])
def test_flat_phase_space_is_a_map(n_final: int, masses: tuple[float, ...]) -> None:
    chosen = masses[:n_final]
    unlike = flat([chosen], (900.0, 100.0), hadronic=False)
    assert unlike.n_dim + unlike.n_flat == 3 * n_final - 4
    check_phase_space(unlike, 0, 600.0, chosen)
    mirrored = hadron(chosen, n_orientations=2)
    assert mirrored.n_dim + mirrored.n_flat == 3 * n_final - 2
    check_phase_space(mirrored, 0, HADRON_ENERGY, chosen)
    unlike = flat([chosen], (920.0, 7000.0), hadronic=True, min_mass_gev=20.0, n_orientations=2)
    check_phase_space(unlike, 0, 2 * math.sqrt(920.0 * 7000.0), chosen)


@pytest.mark.parametrize("n_final", LEGS)
def test_all_but_one_point_in_100000_inverts_to_nine_digits(n_final: int) -> None:
    """Of 10^6 points at most 3 do not: there the last two legs, massless, are nearly collinear.

    Momenta hold few digits of a mass that is far below their energy.
    """
    light, heavy, equal = [0.0] * n_final, MASSES[:n_final], [50.0] * n_final
    check_inverts(lepton(light, heavy), 100_000)
    check_inverts(hadron(light, min_mass_gev=0.0), 100_000)
    check_inverts(hadron(light, heavy, equal, n_orientations=2), 100_000)


def test_close_to_the_threshold_it_inverts_as_well() -> None:
    for n_final in LEGS:
        masses = [LEPTON_ENERGY / n_final - 1e-4] * n_final
        # Their sum leaves seven digits of the kinetic energy in the beams' energy, all of them here.
        check_inverts(lepton(masses), 20_000)


class Wrong(RamboPhaseSpace):
    """One point in 1000 comes back displaced, as a bad branch of an inverse does it."""

    def inverse(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        r, log_jac = super().inverse(points)
        r[::1000, 0] += 1e-6
        return r, log_jac


def test_the_law_finds_a_few_points_that_do_not_invert() -> None:
    right = lepton([0.0] * 3)
    wrong = Wrong(right.channels, [[0.0] * 3], [1], energies_gev=(250.0, 250.0), hadronic=False)
    with pytest.raises(AssertionError, match="20 of 20000 points are off"):
        check_inverts(wrong, 20_000)


@pytest.mark.parametrize("n_final", range(3, 9))
def test_what_stays_with_the_rest_follows_the_inverse_of_the_beta_distribution(
    n_final: int,
) -> None:
    """The root of r = w^k (k + 1 - k w) to full precision, by the library's incomplete beta function."""
    phase_space = lepton([0.0] * n_final)
    r = uniform_r(2000, phase_space)
    r[:500, : n_final - 2] = torch.logspace(-12, -1, 500, dtype=torch.float64)[:, None]
    r[500:1000, : n_final - 2] = 1 - torch.logspace(-12, -1, 500, dtype=torch.float64)[:, None]
    final = points_of(phase_space, r).momenta[:, 2:]
    w = mass_squared(final[:, 1:].sum(1)) / LEPTON_ENERGY**2
    expected = torch.from_numpy(betaincinv(n_final - 2, 2, r[:, 0].numpy()))
    torch.testing.assert_close(w, expected, rtol=0, atol=1e-14)


# --- volumes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_final", LEGS)
def test_massless_volumes_are_those_of_the_closed_form_at_every_point(n_final: int) -> None:
    expected = massless_volume(LEPTON_ENERGY**2, n_final)
    check_phase_space_volume(lepton([0.0] * n_final), 0, expected, n_points=2000)
    with pytest.raises(AssertionError, match="constant weight"):
        check_phase_space_volume(lepton([0.0] * n_final), 0, (1 + 1e-9) * expected, n_points=2000)


@pytest.mark.parametrize("n_final", range(2, 7))
@pytest.mark.parametrize("masses", [MASSES, MASSES[::-1], (60.0,) * 8, (0, 173, 0, 173, 0, 80)])
def test_massive_volumes_are_those_of_the_quadrature(
    n_final: int, masses: tuple[float, ...]
) -> None:
    chosen = masses[:n_final]
    expected = massive_volume(LEPTON_ENERGY, chosen)
    check_phase_space_volume(lepton(chosen), 0, expected)


def test_the_law_finds_a_volume_that_is_two_per_cent_off() -> None:
    expected = massive_volume(LEPTON_ENERGY, MASSES[:4])
    with pytest.raises(AssertionError, match="pull"):
        check_phase_space_volume(lepton(MASSES[:4]), 0, 1.02 * expected)


@pytest.mark.parametrize("n_final", [2, 3, 4])
@pytest.mark.parametrize("masses", [(0.0,) * 4, MASSES], ids=["massless", "massive"])
def test_hadronic_volumes_are_those_of_the_quadrature(
    n_final: int, masses: tuple[float, ...]
) -> None:
    chosen, window = masses[:n_final], (400.0, 800.0)
    phase_space = hadron(chosen, min_mass_gev=300.0, n_orientations=2)
    for max_rapidity in (math.inf, 2.0):
        one = hadronic_volume(
            HADRON_ENERGY, lambda mass: massive_volume(mass, chosen), window, max_rapidity
        )
        check_hadronic_volume(phase_space, 0, 2 * one, window, max_rapidity, 200_000)
    with pytest.raises(AssertionError, match="pull"):
        check_hadronic_volume(phase_space, 0, 2 * 1.1 * one, window, max_rapidity, 200_000)


# --- distributions ---------------------------------------------------------------------------


def pair_masses(points: PhaseSpacePoints, a: int, b: int) -> Tensor:
    """s_ab / s of two final legs, (n,)."""
    final = points.momenta[:, 2:]
    return mass_squared(final[:, a] + final[:, b]) / LEPTON_ENERGY**2


def of_three(x: float) -> float:
    """How often s_ab / s is below x: the Dalitz plot is flat, and its width goes with 1 - x."""
    return 1 - (1 - x) ** 2


def of_four(x: float) -> float:
    """The same for four legs: the width goes with the volume of three legs, one of mass² x."""
    return 6 * x - 3 * x**2 - 2 * x**3 + (6 * x**2 * math.log(x) if x > 0 else 0)


def check_distribution(values: Tensor, cumulative: Callable[[float], float], high: float) -> None:
    edges = torch.linspace(0, high, 21, dtype=torch.float64)
    shares = torch.tensor([cumulative(float(x)) for x in edges], dtype=torch.float64).diff()
    counts = torch.histogram(values, edges).hist
    overflow = len(values) - counts.sum()
    rest = 1 - shares.sum()
    check_frequencies(torch.cat([counts, overflow[None]]), torch.cat([shares, rest[None]]))


@pytest.mark.parametrize(("n_final", "cumulative"), [(3, of_three), (4, of_four)])
def test_invariants_of_massless_legs_are_distributed_as_in_closed_form(
    n_final: int, cumulative: Callable[[float], float]
) -> None:
    phase_space = lepton([0.0] * n_final)
    r = uniform_r(100_000, phase_space)
    points = points_of(phase_space, r)
    for a in range(n_final):
        for b in range(a):
            check_distribution(pair_masses(points, a, b), cumulative, high=0.8)
    r[:, 0] = r[:, 0] ** 1.1
    with pytest.raises(AssertionError, match="chi2"):
        check_distribution(pair_masses(points_of(phase_space, r), 1, 2), cumulative, high=0.8)


@pytest.mark.parametrize("n_final", range(3, 9))
def test_energies_of_massless_legs_are_distributed_as_in_closed_form(n_final: int) -> None:
    """x = 2 E / sqrt(s) goes with x (1 - x)^(n-3): the recoil has the volume of n - 1 massless legs."""
    points = points_of(lepton([0.0] * n_final), uniform_r(50_000, lepton([0.0] * n_final)))
    high = float(beta.ppf(0.995, 2, n_final - 2))
    for leg in range(2, 2 + n_final):
        fraction = 2 * points.momenta[:, leg, 0] / LEPTON_ENERGY
        check_distribution(fraction, lambda x: float(beta.cdf(x, 2, n_final - 2)), high)


def test_each_leg_is_isotropic() -> None:
    points = points_of(lepton([0.0] * 5), uniform_r(50_000, lepton([0.0] * 5)))
    for leg in range(2, 7):
        energy, *spatial = points.momenta[:, leg].unbind(1)
        for component in spatial:
            check_distribution((component / energy + 1) / 2, lambda x: x, high=0.95)


# --- channels, beams, errors -----------------------------------------------------------------


def test_channels_in_one_batch_are_what_each_is_alone() -> None:
    masses = ([0.0, 0.0, 0.0], [173.0, 173.0, 0.0], [80.4, 4.7, 10.0])
    together = hadron(*masses)
    r = uniform_r(300, together)
    channel = torch.arange(300) % 3
    points = together.forward(r, channel)
    r_back, log_jac = together.inverse(points)
    for index, alone in enumerate(masses):
        at = channel == index
        expected = points_of(hadron(alone), r[at])
        torch.testing.assert_close(points.momenta[at], expected.momenta, rtol=1e-12, atol=1e-9)
        torch.testing.assert_close(points.log_jac[at], expected.log_jac, rtol=0, atol=1e-12)
    torch.testing.assert_close(r_back, r, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_jac, -points.log_jac, rtol=0, atol=1e-9)
    assert torch.equal(together.log_prior(points), torch.zeros(300, dtype=torch.float64))


def test_two_orientations_double_the_volume_and_turn_half_of_the_points_by_pi() -> None:
    masses = MASSES[:3]
    r = uniform_r(1000, hadron(masses))
    both = points_of(hadron(masses, n_orientations=2), r)
    folded = r.clone()
    folded[:, -1] = (2 * r[:, -1]) % 1
    alone = points_of(hadron(masses), folded)
    torch.testing.assert_close(both.log_jac, alone.log_jac + math.log(2))
    assert torch.equal(both.x, alone.x)
    mirrored = r[:, -1] >= 0.5
    turned = alone.momenta * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    expected = torch.where(mirrored[:, None, None], turned, alone.momenta)
    torch.testing.assert_close(both.momenta, expected, rtol=1e-12, atol=1e-9)


def test_the_flat_column_turns_the_event_around_the_beam() -> None:
    phase_space = hadron(MASSES[:4])
    r = uniform_r(100, phase_space)
    r[:, -1] = 0.0
    here = points_of(phase_space, r)
    assert float(here.momenta[:, 2, 2].abs().max()) == 0
    assert float(here.momenta[:, 2, 1].min()) >= 0
    r[:, -1] = 0.25
    there = points_of(phase_space, r)
    quarter = torch.tensor([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]).double()
    torch.testing.assert_close(there.momenta, here.momenta @ quarter.T, rtol=1e-12, atol=1e-9)
    assert torch.equal(there.log_jac, here.log_jac)


def test_a_moving_frame_changes_neither_invariants_nor_the_jacobian() -> None:
    masses = MASSES[:4]
    r = uniform_r(200, hadron(masses, n_orientations=2))
    resting = points_of(hadron(masses, n_orientations=2), r)
    y = 0.7
    energies = (HADRON_ENERGY / 2 * math.exp(y), HADRON_ENERGY / 2 * math.exp(-y))
    moving = points_of(flat([masses], energies, True, 50.0, 2), r)
    assert torch.equal(moving.x, resting.x)
    torch.testing.assert_close(moving.log_jac, resting.log_jac, rtol=0, atol=1e-9)
    plus, expected = ((p.momenta[..., 0] + p.momenta[..., 3]) for p in (moving, resting))
    torch.testing.assert_close(plus, expected * math.exp(y), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("edge", [0.0, 1.0])
@pytest.mark.parametrize("masses", [(0.0,) * 5, MASSES[:5]], ids=["massless", "massive"])
def test_the_faces_of_the_cube_have_points_or_none_but_never_nonsense(
    masses: tuple[float, ...], edge: float
) -> None:
    for phase_space in (lepton(masses), hadron(masses), hadron(masses, min_mass_gev=0.0)):
        for column in range(phase_space.n_dim + phase_space.n_flat):
            r = uniform_r(50, phase_space)
            r[:, column] = edge
            points = points_of(phase_space, r)
            assert not bool(points.log_jac.isnan().any())
            assert not bool((points.log_jac == math.inf).any())
            assert bool(points.momenta.isfinite().all())
            lost = points.momenta[:, :2].sum(1) - points.momenta[:, 2:].sum(1)
            assert float(lost.abs().max()) < 1e-9 * HADRON_ENERGY


def test_channels_need_the_same_number_of_legs_and_enough_energy() -> None:
    with pytest.raises(ValueError, match="length"):
        lepton([0.0, 0.0], [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="more energy than the beams have"):
        lepton([0.0, 0.0], [250.0, 250.0])


def test_groups_have_the_masses_of_the_model() -> None:
    model = StandardModel()
    groups = [
        SubprocessGroup(name="g g > t t~ g", pdg_ids=((21, 21, 6, -6, 21),)),
        SubprocessGroup(name="u u~ > e+ e- g", pdg_ids=((2, -2, -11, 11, 21),), n_orientations=2),
    ]
    phase_space = build_rambo(groups, model, (6500.0, 6500.0), hadronic=True, min_mass_gev=50.0)
    assert [channel.group for channel in phase_space.channels] == [0, 1]
    top = model.mass_gev(6)
    check_phase_space(phase_space, 0, HADRON_ENERGY, [top, top, 0.0])
    check_phase_space(phase_space, 1, HADRON_ENERGY, [0.0, 0.0, 0.0])
    with pytest.raises(
        CardError, match=r"^beams\.energies_gev = \[150\.0, 150\.0\]: expected enough"
    ):
        build_rambo(groups, model, (150.0, 150.0), hadronic=False)
    with pytest.raises(CardError, match=r"energy in GeV for g g > t t~ g inside the cuts$"):
        build_rambo(groups[:1], model, (250.0, 250.0), hadronic=True, min_mass_gev=500.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_points_on_a_gpu_are_those_on_the_processor() -> None:
    phase_space = hadron(MASSES[:4], [0.0] * 4, n_orientations=2)
    r, channel = uniform_r(1000, phase_space), torch.arange(1000) % 2
    here, there = phase_space.forward(r, channel), phase_space.forward(r.cuda(), channel.cuda())
    assert there.momenta.is_cuda
    torch.testing.assert_close(there.momenta.cpu(), here.momenta, rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(there.log_jac.cpu(), here.log_jac, rtol=0, atol=1e-9)
    r_back, log_jac = phase_space.inverse(there)
    torch.testing.assert_close(r_back.cpu(), r, rtol=0, atol=1e-8)
    torch.testing.assert_close(log_jac.cpu(), -here.log_jac, rtol=0, atol=1e-8)
