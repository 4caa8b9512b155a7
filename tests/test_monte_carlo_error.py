"""The error of a many-channel integration is honest, and its value that of flat phase space."""

from __future__ import annotations

import math
from functools import cache, reduce
from operator import add

import pytest
import torch
from torch import Tensor

from mlgen.build import build
from mlgen.card_files import find_card, read_card
from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.proposal import Proposal, draw
from tests.laws import check_estimate, check_pulls
from tests.matrix_elements import SMOOTH

N_REPEATS, N_POINTS = 256, 800
"""Integrations, and points of each, all channels together."""
SEVERAL = [("gg_to_ttgg", "densities"), ("uux_to_zggg", "propagators")]
"""Processes with identical particles and three channels or more; what their priors are made of."""


@cache
def estimates(name: str, n_repeats: int, n_points: int, *overrides: str) -> tuple[ChannelSums, ...]:
    """Independent integrations with fresh points, the proposal adapted before."""
    card = read_card(find_card(name), (*SMOOTH, "vegas.n_points=10_000", *overrides))
    integrand = build(card, SilentProgress()).integrand
    grid, fractions, _ = adapt_grid(integrand, card.vegas, card.run.seed, SilentProgress())
    proposal = Proposal(sampler=grid, fractions=fractions)
    found = []
    for index in range(n_repeats):
        batch, _ = draw(integrand, proposal, n_points, random_stream(3, "repeat", index))
        found.append(ChannelSums.of(batch, integrand.n_channels))
    return tuple(found)


def flat(name: str) -> ChannelSums:
    """The same by flat phase space, precisely."""
    return reduce(add, estimates(name, 4, 60_000, "phase_space.maps=rambo"))


def pulls(sums: tuple[ChannelSums, ...], expected: float, lost: int | None = None) -> Tensor:
    """(value - expected) / error of each integration; without one channel, where it is lost."""
    kept = [i for i in range(len(sums[0].n_points)) if i != lost]
    value = torch.stack([mine.means[kept].sum() for mine in sums])
    error = torch.stack([mine.variances[kept].sum().sqrt() for mine in sums])
    return (value - expected) / error


@pytest.mark.parametrize(("name", "prior"), SEVERAL)
def test_the_value_is_that_of_flat_phase_space(name: str, prior: str) -> None:
    sums = estimates(name, N_REPEATS, N_POINTS, f"phase_space.prior={prior}")
    assert len(sums[0].n_points) >= 3
    ours, theirs = reduce(add, sums), flat(name)
    error = math.hypot(ours.error, theirs.error)
    check_estimate(ours.mean, error, theirs.mean, max_relative_error=0.005)


@pytest.mark.parametrize(("name", "prior"), SEVERAL)
def test_pulls_of_repeated_integrations_have_mean_0_and_width_1(name: str, prior: str) -> None:
    sums = estimates(name, N_REPEATS, N_POINTS, f"phase_space.prior={prior}")
    expected = reduce(add, sums).mean
    check_pulls(pulls(sums, expected))
    with pytest.raises(AssertionError, match="width"):
        check_pulls(1.4 * pulls(sums, expected))


@pytest.mark.parametrize(("name", "prior"), SEVERAL)
def test_a_channel_that_is_lost_is_noticed(name: str, prior: str) -> None:
    sums = estimates(name, N_REPEATS, N_POINTS, f"phase_space.prior={prior}")
    smallest = int(reduce(add, sums).means.argmin())
    with pytest.raises(AssertionError, match="mean pull"):
        check_pulls(pulls(sums, flat(name).mean, lost=smallest))
