"""The error of a whole integration is honest: adapted, trained, frozen, estimated, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from mlgen.build import build
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.core import Evaluation, Integrand, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Integration
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.integrator import integrate
from mlgen.integration.proposal import Proposal, draw
from tests.integration.toys import ridges
from tests.matrix_elements import SMOOTH

N_RUNS = 200

SMALL = (
    "vegas.n_points=1000",
    "vegas.n_iterations=2",
    "vegas.n_bins=16",
    "flow.n_bins=4",
    "flow.n_hidden=8",
    "flow.batch_size=128",
    "flow.n_steps=24",
    "flow.learning_rate=0.01",
    "run.n_estimate=2000",
)
SETTINGS = {"vegas": ("run.sampler=vegas",), "flow": ("run.sampler=flow",)}
EVERY_OPTION = (
    "run.sampler=flow",
    "run.n_estimate=20_000",
    "vegas.n_points=3000",
    "vegas.n_iterations=4",
    "flow.n_blocks=2",
    "flow.n_steps=48",
    "flow.reuse=8",
    "flow.patience=1",
    "flow.offline=0.3",
    "flow.renyi_order=20",
    "flow.learning_rate=0.002",
    "phase_space.learned_weights=true",
    "phase_space.drop_below=0.1",
)
"""On a process, which has channels that can be weighted and dropped."""

Runs = tuple[Tensor, Tensor, list[Integration]]


def repeated(integrand: Integrand[Evaluation], name: str, settings: Sequence[str]) -> Runs:
    """Values and errors (N_RUNS,) of independent integrations, and these."""
    found = []
    for seed in range(N_RUNS):
        card = read_card(find_card(name), (*SMALL, *settings, f"run.seed={seed}"))
        aids = Aids(progress=SilentProgress(), clock=StepClock())
        found.append(integrate(integrand, card, aids))
    sums = [one.chosen.measured.sums for one in found]
    values, errors = ([getattr(one, of) for one in sums] for of in ("mean", "error"))
    as_tensor = partial(torch.tensor, dtype=torch.float64)
    return as_tensor(values), as_tensor(errors), found


@cache
def runs(name: str) -> tuple[Tensor, Tensor]:
    return repeated(ridges(), "ee_to_mumu", SETTINGS[name])[:2]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_pulls_of_many_small_runs_have_mean_0_and_deviation_1(name: str) -> None:
    values, errors = runs(name)
    pulls = (values - ridges().integral) / errors
    assert float(errors.mean()) < 0.05 * ridges().integral
    assert abs(float(pulls.mean())) < 0.25
    assert abs(float(pulls.std()) - 1) < 0.15


def test_errors_that_are_a_third_too_small_would_be_noticed() -> None:
    values, errors = runs("flow")
    pulls = (values - ridges().integral) / (errors * 2 / 3)
    assert float(pulls.std()) > 1.15


def test_a_bias_of_half_an_error_would_be_noticed() -> None:
    values, errors = runs("flow")
    pulls = (values + errors / 2 - ridges().integral) / errors
    assert float(pulls.mean()) > 0.25


def test_the_pulls_of_runs_with_every_option_have_mean_0_and_deviation_1() -> None:
    """Learned weights, dropped channels, points used again and training offline, all in one.

    The reference is an integration in flat phase space, without channels and without a flow.
    """
    card = read_card(find_card("uux_to_zggg"), (*SMOOTH, *EVERY_OPTION))
    values, errors, found = repeated(
        build(card, SilentProgress()).integrand, "uux_to_zggg", (*SMOOTH, *EVERY_OPTION)
    )
    reference = flat_phase_space("uux_to_zggg")
    assert reference.error < 0.1 * float(errors.mean())
    pulls = (values - reference.mean) / errors
    assert float(errors.mean()) < 0.05 * reference.mean
    assert abs(float(pulls.mean())) < 0.25
    assert abs(float(pulls.std()) - 1) < 0.15
    assert sum(one.chosen.name == "flow" for one in found) > 0.9 * N_RUNS
    assert all(one.dropped for one in found)
    flows = [one.chosen.sampler for one in found if one.chosen.name == "flow"]
    assert all(flow.learned_weights is not None for flow in flows)


def flat_phase_space(name: str) -> ChannelSums:
    """The sums over points of one RAMBO channel."""
    card = read_card(find_card(name), (*SMOOTH, "phase_space.maps=rambo"))
    integrand = build(card, SilentProgress()).integrand
    grid, fractions, _ = adapt_grid(integrand, card.vegas, 1, SilentProgress())
    proposal, sums = Proposal(sampler=grid, fractions=fractions), ChannelSums.empty(1)
    for chunk in range(40):
        batch, _ = draw(integrand, proposal, 50_000, random_stream(5, "reference", chunk))
        sums += ChannelSums.of(batch, 1)
    return sums
