from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Literal, get_args

import pytest
import torch
from torch import Tensor

from mlgen.card_files import card_names
from mlgen.core import PhaseSpacePoints
from mlgen.cut_cards import CutsCard, ParticleCutsCard
from mlgen.phasespace.multichannel import MultiChannel
from mlgen.physics.kinematics import mass_squared, pt
from tests.laws import check_estimate, check_shares_add_up
from tests.phasespace.wired import Wired, points_of, uniform_r, wire_card, wire_process

CENTRAL = CutsCard(
    jets=ParticleCutsCard(pt_min_gev=20.0, abs_eta_max=5.0),
    leptons=ParticleCutsCard(pt_min_gev=10.0, abs_eta_max=2.5),
)
Prior = Literal["densities", "propagators"]
PRIORS: tuple[Prior, ...] = get_args(Prior)


def exchanges(wired: Wired, group: int) -> list[tuple[int, ...]]:
    """All orders of the legs of a group that its identical particles allow."""
    pdg_ids = wired.groups[group].pdg_ids[0]
    orders = itertools.permutations(range(2, len(pdg_ids)))
    return [
        (0, 1, *order)
        for order in orders
        if all(pdg_ids[leg] == pdg_ids[place + 2] for place, leg in enumerate(order))
    ]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", card_names())
def test_the_shares_of_a_group_add_up_to_one(name: str, prior: Prior) -> None:
    wired = wire_card(name).with_prior(prior)
    groups = {wired.phase_space.channels[c].group for c in wired.unlike_channels}
    for group in groups:
        points = wired.inside(group)
        assert len(points) > 100
        channels, orders = wired.channels_of(group), exchanges(wired, group)
        check_shares_add_up(wired.phase_space, points, channels, orders)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("definition", ["g g > g g g g", "u u~ > e+ e- e+ e-"])
def test_the_shares_of_two_pairs_of_identical_particles_add_up_to_one(
    definition: str, prior: Prior
) -> None:
    """Either pair balances the other, and there are several ways to make two pairs."""
    wired = wire_process(definition, CENTRAL).with_prior(prior)
    assert any(name in ("(g g) (g g)", "(e+ e-)z (e+ e-)z") for name in wired.topologies())
    points = wired.inside(n=20)
    assert len(points) > 100
    check_shares_add_up(wired.phase_space, points, wired.channels_of(0), exchanges(wired, 0))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", ["ee_to_mumu", "gg_to_ggg", "uux_to_zggg", "pp_to_eejj"])
def test_the_shares_of_all_channels_are_those_of_each_in_every_order_of_identical_legs(
    name: str, prior: Prior
) -> None:
    wired = wire_card(name).with_prior(prior)
    group = wired.phase_space.channels[-1].group
    points, channels = wired.inside(group, 20), wired.channels_of(group)
    own, every = wired.phase_space.log_shares(points)
    assert torch.equal(own, wired.phase_space.log_prior(points))
    assert every.shape == (len(points), wired.phase_space.n_shares)
    torch.testing.assert_close(every.exp().sum(1), torch.ones_like(own), rtol=0, atol=1e-12)
    for channel in channels:
        here = replace(points, channel=torch.full_like(points.channel, channel))
        orders = [
            wired.phase_space.log_prior(replace(here, momenta=here.momenta[:, list(order)])).exp()
            for order in exchanges(wired, group)
        ]
        expected = torch.stack(orders).mean(0)
        mine = every[:, channel - channels[0]].exp()
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prior", PRIORS)
def test_two_identical_systems_alone_are_one_channel_that_takes_everything(prior: Prior) -> None:
    wired = wire_process("g g > g g", CENTRAL).with_prior(prior)
    assert wired.topologies() == ["g g"]
    points = wired.inside()
    zero = torch.zeros(len(points), dtype=torch.float64)
    assert torch.equal(wired.phase_space.log_prior(points), zero)


@pytest.mark.parametrize("prior", PRIORS)
def test_without_the_number_of_its_members_a_channel_takes_too_little(prior: Prior) -> None:
    wired = wire_card("uux_to_eegg").with_prior(prior)
    wrong = forgets_a_member(wired)
    with pytest.raises(AssertionError, match="not close"):
        check_shares_add_up(wrong, wired.inside(), wired.channels_of(0), exchanges(wired, 0))


class Forgetful(MultiChannel):
    """A channel that stands for several, one with each gluon, takes half of its share."""

    forgotten: int

    def log_prior(self, points: PhaseSpacePoints) -> Tensor:
        one = (points.channel == self.forgotten).to(points.log_jac)
        return super().log_prior(points) - math.log(2) * one


def forgets_a_member(wired: Wired) -> MultiChannel:
    wrong = Forgetful.__new__(Forgetful)
    wrong.__dict__.update(wired.phase_space.__dict__)
    balanced_by_a_gluon = ("g* g g", "g* (e+ e-)z g")
    names = wired.topologies()
    (wrong.forgotten,) = [i for i, name in enumerate(names) if name in balanced_by_a_gluon]
    return wrong


@pytest.mark.parametrize("prior", PRIORS)
def test_an_exchange_that_leaves_a_structure_alone_leaves_its_share(prior: Prior) -> None:
    """Two gluons of one cluster, or of the rest; not those of which one balances the rest."""
    wired = wire_card("uux_to_eegg").with_prior(prior)
    points = wired.inside()
    exchanged = replace(points, momenta=points.momenta[:, [0, 1, 2, 3, 5, 4]])
    symmetric = {True: 0, False: 0}
    for index, name in enumerate(wired.topologies()):
        channel = torch.full_like(points.channel, index)
        here, there = (
            wired.phase_space.log_prior(replace(p, channel=channel)) for p in (points, exchanged)
        )
        stays = not name.startswith("g*")
        assert torch.allclose(here, there, rtol=0, atol=1e-9) is stays
        symmetric[stays] += 1
    assert min(symmetric.values()) > 0


@pytest.mark.parametrize("name", ["ee_to_uug", "pp_to_eejj", "pp_to_jjj", "pp_to_ttjj"])
def test_shares_from_densities_are_those_of_the_maps(name: str) -> None:
    """In groups without identical legs."""
    wired = wire_card(name).with_prior("densities")
    n_tested = 0
    for group in {wired.phase_space.channels[c].group for c in wired.unlike_channels}:
        channels = wired.channels_of(group)
        if len(channels) == 1 or len(exchanges(wired, group)) > 1:
            continue
        n_tested += 1
        points = wired.inside(group)
        seen = [replace(points, channel=torch.full_like(points.channel, c)) for c in channels]
        log_density = torch.stack([wired.phase_space.inverse(p)[1] for p in seen], dim=1)
        shares = torch.stack([wired.phase_space.log_prior(p).exp() for p in seen], dim=1)
        torch.testing.assert_close(shares, log_density.softmax(1), rtol=0, atol=1e-9)
    assert n_tested > 0


@pytest.mark.parametrize("name", ["ee_to_uug", "uux_to_eegg", "pp_to_jjj"])
def test_the_density_of_a_point_of_its_own_is_that_with_which_it_was_drawn(name: str) -> None:
    wired = wire_card(name)
    for channel in wired.unlike_channels:
        group = wired.phase_space.channels[channel].group
        points = wired.passing(points_of(wired.phase_space, 500, channel), group)
        log_density = wired.phase_space.inverse(points)[1]
        torch.testing.assert_close(log_density, -points.log_jac, rtol=0, atol=1e-6)


# --- integrals -------------------------------------------------------------------------------

Function = Callable[[PhaseSpacePoints], Tensor]


def integral(
    wired: Wired, phase_space: MultiChannel, function: Function, n: int
) -> tuple[float, float]:
    """Of a function inside the cuts, by all channels, n points each; and its error."""
    means, variances = [], []
    for index in wired.channels_of(0):
        points = points_of(phase_space, n, index)
        value = torch.zeros_like(points.log_jac)
        inside = wired.cuts(points.momenta, 0) & (points.log_jac > -math.inf)
        chosen = points.select(inside)
        log_weight = chosen.log_jac + phase_space.log_prior(chosen)
        value[inside] = function(chosen) * log_weight.exp()
        means.append(float(value.mean()))
        variances.append(float(value.var()) / n)
    return sum(means), math.sqrt(sum(variances))


@cache
def flat_integral(name: str, function: Function) -> tuple[float, float]:
    """The same for a card by RAMBO."""
    wired, n = wire_card(name), 400_000
    flat = wired.flat(min_mass_gev=150.0)
    points = flat.forward(uniform_r(n, flat), torch.zeros(n, dtype=torch.int64))
    value = torch.zeros_like(points.log_jac)
    inside = wired.cuts(points.momenta, 0)
    chosen = points.select(inside)
    value[inside] = function(chosen) * chosen.log_jac.exp()
    return float(value.mean()), float(value.std()) / n**0.5


def s_hat(points: PhaseSpacePoints) -> Tensor:
    return 4 * points.momenta[:, :2, 0].prod(1)


def smooth(points: PhaseSpacePoints) -> Tensor:
    """It falls with s_hat, above 200 GeV, and that is all."""
    s = s_hat(points)
    return torch.where(s > 200.0**2, (-s / 500.0**2).exp(), 0.0)


def peaked(points: PhaseSpacePoints) -> Tensor:
    """It has collinear and soft peaks of all pairs of massless legs."""
    final = points.momenta[:, 2:]
    result = smooth(points) / pt(final).prod(1)
    massless = [i for i in range(final.shape[1]) if float(mass_squared(final[0, i])) < 1]
    inverse_masses = [
        1 / mass_squared(final[:, i] + final[:, j]) for i, j in itertools.combinations(massless, 2)
    ]
    return result * torch.stack(inverse_masses).sum(0)


@pytest.mark.parametrize("function", [smooth, peaked])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", ["gg_to_ggg", "gg_to_ttgg"])
def test_all_channels_together_integrate_what_flat_phase_space_does(
    name: str, prior: Prior, function: Function
) -> None:
    wired = wire_card(name).with_prior(prior)
    expected, flat_error = flat_integral(name, function)
    n_points = 200_000 // len(wired.channels_of(0))
    value, error = integral(wired, wired.phase_space, function, n_points)
    check_estimate(value, math.hypot(error, flat_error), expected, 0.05)


def test_the_integral_finds_a_channel_that_takes_too_little() -> None:
    wired = wire_card("gg_to_ggg")
    expected, flat_error = flat_integral("gg_to_ggg", smooth)
    value, error = integral(wired, forgets_a_member(wired), smooth, 100_000)
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(value, math.hypot(error, flat_error), expected, 0.05)


@pytest.mark.parametrize("definition", ["e+ e- > u u~ g g", "e+ e- > w+ w- z"])
def test_the_channels_of_lepton_beams_integrate_what_flat_phase_space_does(definition: str) -> None:
    wired = wire_process(definition, energy_gev=250.0, beam="e")

    def function(points: PhaseSpacePoints) -> Tensor:
        """A cut keeps away from the poles."""
        final = points.momenta[:, 2:]
        pairs = [
            final[:, i] + final[:, j] for i, j in itertools.combinations(range(final.shape[1]), 2)
        ]
        masses = torch.stack([mass_squared(pair) for pair in pairs])
        return torch.where(masses.amin(0) > 20.0**2, (1e4 / masses).sum(0), 0.0)

    flat = wired.flat()
    points = flat.forward(uniform_r(200_000, flat), torch.zeros(200_000, dtype=torch.int64))
    weight = function(points) * points.log_jac.exp()
    expected, flat_error = float(weight.mean()), float(weight.std()) / len(weight) ** 0.5
    value, error = integral(wired, wired.phase_space, function, 20_000)
    check_estimate(value, math.hypot(error, flat_error), expected, 0.02)
