"""Channels that are dropped: what stays takes over, and nothing is lost."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from mlgen.build import build
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.cards import VegasCard
from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Integration
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.integrator import integrate
from mlgen.integration.proposal import Proposal, draw
from mlgen.phasespace.multichannel import MultiChannel
from mlgen.samplers.vegas import VegasGrid
from tests.laws import check_shares_add_up
from tests.matrix_elements import SMOOTH
from tests.phasespace.test_priors import PRIORS, Prior, exchanges
from tests.phasespace.wired import Wired, wire_card

CARDS = ["ee_to_uug", "uux_to_zggg", "pp_to_eejj"]


def every_other(wired: Wired) -> list[int]:
    """Half of the channels of each group, the first of each among those that stay."""
    groups = range(len(wired.groups))
    return [channel for group in groups for channel in wired.channels_of(group)[1::2]]


def staying(wired: Wired, group: int) -> list[int]:
    return wired.channels_of(group)[::2]


def groups_to_check(wired: Wired) -> set[int]:
    return {wired.phase_space.channels[c].group for c in wired.unlike_channels}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", CARDS)
def test_the_shares_of_the_channels_that_stay_add_up_to_one(name: str, prior: Prior) -> None:
    wired = wire_card(name).with_prior(prior)
    fewer = wired.phase_space.without(every_other(wired))
    for group in groups_to_check(wired):
        points, orders = wired.inside(group, 20), exchanges(wired, group)
        check_shares_add_up(fewer, points, staying(wired, group), orders)
        every = fewer.log_shares(points)[1].exp()
        torch.testing.assert_close(every.sum(1), torch.ones(len(points)).double())


@pytest.mark.parametrize("prior", PRIORS)
def test_without_new_shares_something_is_lost(prior: Prior) -> None:
    wired = wire_card("uux_to_zggg").with_prior(prior)
    with pytest.raises(AssertionError, match="not close"):
        check_shares_add_up(
            wired.phase_space, wired.inside(), staying(wired, 0), exchanges(wired, 0)
        )


@pytest.mark.parametrize("prior", PRIORS)
def test_channels_that_stay_keep_the_ratios_of_their_shares(prior: Prior) -> None:
    wired = wire_card("uux_to_zggg").with_prior(prior)
    points, (first, second, *_) = wired.inside(), staying(wired, 0)

    def log_ratio(phase_space: MultiChannel) -> torch.Tensor:
        one, other = (
            phase_space.log_prior(replace(points, channel=torch.full_like(points.channel, c)))
            for c in (first, second)
        )
        return one - other

    fewer = wired.phase_space.without(every_other(wired))
    torch.testing.assert_close(log_ratio(fewer), log_ratio(wired.phase_space))


def test_a_group_keeps_a_channel() -> None:
    phase_space = wire_card("uux_to_zggg").phase_space
    with pytest.raises(ValueError, match="expected a channel that stays in each group"):
        phase_space.without(range(len(phase_space.channels)))
    with pytest.raises(ValueError, match="expected no channel"):
        wire_card("uux_to_zggg").flat(min_mass_gev=150.0).without([0])


# --- in an integrand -------------------------------------------------------------------------

DROPS = ("phase_space.drop_below=0.1", "vegas.n_iterations=3", "run.n_estimate=65536")


@cache
def integrand_of(*overrides: str) -> ProcessIntegrand:
    card = read_card(find_card("uux_to_zggg"), (*SMOOTH, *overrides))
    return build(card, SilentProgress()).integrand


@cache
def adapted_grid() -> VegasGrid:
    card = VegasCard(n_bins=32, n_points=20_000, n_iterations=4)
    return adapt_grid(integrand_of(), card, 1, SilentProgress())[0]


def sums_of(integrand: ProcessIntegrand, dropped: list[int]) -> ChannelSums:
    n_channels = integrand.n_channels
    fractions = torch.ones(n_channels, dtype=torch.float64)
    fractions[dropped] = 0
    proposal = Proposal(sampler=adapted_grid(), fractions=fractions / fractions.sum())
    batch, _ = draw(integrand, proposal, 100_000, random_stream(4, "fresh", 0))
    return ChannelSums.of(batch, n_channels)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_cross_section_is_the_same_with_fewer_channels(prior: Prior) -> None:
    integrand, dropped = integrand_of(f"phase_space.prior={prior}"), [1, 3, 4]
    whole, fewer = sums_of(integrand, []), sums_of(integrand.without(dropped), dropped)
    error = math.hypot(whole.error, fewer.error)
    assert error < 0.03 * whole.mean
    assert abs(fewer.mean - whole.mean) < 5 * error
    # Not to draw them, and to leave the shares as they were, is to lose their part.
    assert sums_of(integrand, dropped).mean < whole.mean - 5 * error


def test_points_of_channels_that_were_dropped_weigh_nothing() -> None:
    integrand = integrand_of().without([1])
    r = torch.rand(1000, integrand.n_dim + integrand.n_flat, dtype=torch.float64)
    assert not bool(integrand(r, torch.ones(1000, dtype=torch.int64)).value.any())


def test_small_channels_are_those_below_the_threshold_but_for_the_largest_of_a_group() -> None:
    card = read_card(find_card("pp_to_eejj"), (*SMOOTH, "phase_space.drop_below=0.1"))
    integrand = build(card, SilentProgress()).integrand
    group = torch.tensor([channel.group for channel in integrand.phase_space.channels])
    largest = {int((group == g).nonzero()[-1, 0]) for g in range(len(integrand.groups))}
    integrals = torch.full((integrand.n_channels,), 1e-3, dtype=torch.float64)
    integrals[list(largest)] = 2e-3
    integrals[0] = -1.0  # large, whatever its sign
    stay = largest - {max(c for c in largest if group[c] == 0)} | {0}
    dropped = integrand.small_channels(integrals)
    assert set(dropped) == set(range(integrand.n_channels)) - stay
    assert len(integrand.without(dropped).phase_space.channels) == integrand.n_channels
    assert replace(integrand, drop_below=0.0).small_channels(integrals) == ()


def integrated(*overrides: str) -> Integration:
    card = read_card(find_card("uux_to_zggg"), (*SMOOTH, "run.sampler=vegas", *overrides))
    aids = Aids(progress=SilentProgress(), clock=StepClock())
    return integrate(build(card, SilentProgress()).integrand, card, aids)


def test_an_integration_drops_small_channels_and_keeps_the_cross_section() -> None:
    fewer, whole = integrated(*DROPS), integrated(*DROPS, "phase_space.drop_below=0")
    assert fewer.dropped
    assert (fewer.chosen.proposal.fractions == 0).nonzero()[:, 0].tolist() == list(fewer.dropped)
    assert not whole.dropped
    assert bool((whole.chosen.proposal.fractions > 0).all())
    ours, theirs = fewer.chosen.measured.sums, whole.chosen.measured.sums
    error = math.hypot(ours.error, theirs.error)
    assert error < 0.02 * theirs.mean
    assert abs(ours.mean - theirs.mean) < 5 * error
    assert fewer.chosen.measured.w_max[list(fewer.dropped)].tolist() == [0.0] * len(fewer.dropped)


@pytest.mark.parametrize("value", ["-0.1", "0.2"])
def test_a_threshold_out_of_range_is_an_error(value: str) -> None:
    with pytest.raises(CardError, match=r"phase_space.drop_below = .*: expected a fraction in \[0"):
        read_card(find_card("uux_to_zggg"), [f"phase_space.drop_below={value}"])
