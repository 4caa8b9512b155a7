"""The error of a whole integration is honest: adapted, trained, frozen, estimated, again and again."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from mlgen.campaign.run_record import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.integrator import Aids, integrate
from tests.integration.toys import ridges

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
SETTINGS = {
    "vegas": ("run.sampler=vegas",),
    "flow": ("run.sampler=flow",),
    "every option": ("run.sampler=flow", "flow.reuse=8", "flow.patience=1", "flow.renyi_order=20"),
}


@cache
def runs(name: str) -> tuple[Tensor, Tensor]:
    """Values and errors of independent integrations, (N_RUNS,) each."""
    values, errors = [], []
    for seed in range(N_RUNS):
        card = read_card(find_card("ee_to_mumu"), (*SMALL, *SETTINGS[name], f"run.seed={seed}"))
        aids = Aids(progress=SilentProgress(), clock=StepClock())
        sums = integrate(ridges(), card, aids).chosen.measured.sums
        values.append(sums.mean)
        errors.append(sums.error)
    return torch.tensor(values, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)


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
