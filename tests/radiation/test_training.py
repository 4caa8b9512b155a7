"""Training on the analytic shower, and what stops it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, TrainingFailed
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.learned import LearnedRadiation, learn
from mlgen.radiation.oracle import AnalyticShower
from mlgen.radiation.representation import Particles
from mlgen.radiation.settings import NetworkSettings, TrainingSettings
from mlgen.radiation.training import train
from tests.radiation.networks import SMALL, random_particles

SHOWER = AnalyticShower()
NETWORK = NetworkSettings(n_channels=32, n_blocks=2, n_heads=4, n_components=5)
QUICK = TrainingSettings(n_epochs=2, batch_size=64)


def learn_shower(variant: str) -> LearnedRadiation:
    events = SHOWER.sample(6000, random_stream(31, "events", 0))
    settings = TrainingSettings(variant=variant, n_max=2, n_epochs=5, batch_size=128)
    return learn(events, SHOWER.pt_min, NETWORK, settings, 32, SilentProgress()).radiation


@pytest.fixture(scope="module")
def truncated() -> LearnedRadiation:
    return learn_shower("truncated")


def log_ratio(learned: LearnedRadiation, events: JetEvents) -> torch.Tensor:
    """ln of the true density over the learned one, given the hard object: (n,)."""
    truth = SHOWER.log_likelihood(events) - SHOWER.log_kinematics(events)[:, 0]
    return truth - learned.density(events).log_prob


def test_a_shower_is_learned(truncated: LearnedRadiation) -> None:
    events = SHOWER.sample(5000, random_stream(33, "events", 0))
    for n_jets, limit in ((0, 0.03), (1, 0.2), (2, 0.4)):
        # All three are known: after two jets the event may go on, as far as training has seen.
        found = log_ratio(learned=truncated, events=events.select(events.n_jets == n_jets))
        assert abs(float(found.mean())) < limit


def ratio_beyond(learned: LearnedRadiation) -> float:
    """Events with three jets, one more than training has seen, over those with two."""
    hard = SHOWER.sample(20_000, random_stream(34, "events", 0)).hard
    drawn = learned.sample(hard, random_stream(34, "jets", 0))
    counts = torch.bincount(drawn.n_jets, minlength=4)
    return float(counts[3] / counts[2])


def test_truncated_goes_on_beyond_what_was_seen_and_plain_does_not(
    truncated: LearnedRadiation,
) -> None:
    multiplicities = SHOWER.multiplicities(3)
    exact = float(multiplicities[3] / multiplicities[2])
    assert abs(ratio_beyond(truncated) / exact - 1) < 0.3
    # A longer training would leave nothing.
    assert ratio_beyond(learn_shower("plain")) < 0.4 * exact


def quick(particles: Particles, settings: TrainingSettings, seed: int) -> torch.Tensor:
    network, record = train(particles, SMALL, settings, seed, SilentProgress())
    assert all(map(math.isfinite, record.validation_losses))
    assert min(record.validation_losses) < record.validation_losses[0]
    assert 0 < record.best_step <= record.n_steps
    return network.log_prob(particles)


@pytest.mark.parametrize("variant", ["truncated", "bootstrap", "override"])
def test_a_seed_decides_what_is_learned(variant: str) -> None:
    particles = random_particles(500, seed=35)
    settings = replace(QUICK, variant=variant)
    found = [quick(particles, settings, seed) for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    "network", [replace(SMALL, variational="last"), replace(SMALL, variational="all")]
)
def test_distributions_of_weights_are_learned(network: NetworkSettings) -> None:
    found, record = train(random_particles(500, seed=35), network, QUICK, 1, SilentProgress())
    assert record.validation_losses[-1] < record.validation_losses[0]
    spreads = {
        name: float(t.std()) for name, t in found.state().items() if name.endswith("log_std")
    }
    # Before the first number of a jet, there is none to read.
    assert all(std > 0 or name == "read_number.0.log_std" for name, std in spreads.items())
    assert len(spreads) >= 5


def test_training_ends_in_time() -> None:
    settings = replace(QUICK, n_epochs=1e6, max_cpu_s=0.5)
    _, record = train(random_particles(300, seed=36), SMALL, settings, 1, SilentProgress())
    assert record.cpu_s < 5


def test_a_loss_that_is_no_number_is_told() -> None:
    particles = random_particles(300, seed=37)
    columns = particles.columns.clone()
    columns[:, 0, 0] = math.inf
    with pytest.raises(
        TrainingFailed, match="loss = nan at training step 0 of radiation: expected"
    ):
        train(replace(particles, columns=columns), SMALL, QUICK, 1, SilentProgress())


def test_too_few_events_are_told() -> None:
    with pytest.raises(TrainingFailed, match="events = 3: expected some to learn from and some"):
        train(random_particles(3, seed=38), SMALL, QUICK, 1, SilentProgress())


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("n_max", 0, "at least 1"),
        ("n_epochs", 0.0, "a positive number"),
        ("learning_rate", math.nan, "a positive number"),
        ("max_cpu_s", 0.0, "a positive number, or inf"),
        ("validation_share", 0.5, "a share between 0 and 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: float, expected: str) -> None:
    with pytest.raises(CardError, match=rf"radiation\.{key} = {value!r}: expected {expected}"):
        replace(TrainingSettings(), **{key: value})  # type: ignore[arg-type]  # of one type each


@pytest.mark.parametrize(
    ("n_events", "expected"), [(1000, 16.0), (500_000, 8.0), (1_000_000, 4.0), (10_000_000, 4.0)]
)
def test_few_events_are_seen_more_often(n_events: int, expected: float) -> None:
    assert TrainingSettings().epochs(n_events) == expected
    assert TrainingSettings(n_epochs=3).epochs(n_events) == 3
