from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import TrainingFailed
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.gaussian import Gaussian
from mlgen.surrogates.networks import Inputs
from mlgen.surrogates.training import TrainingSet, train

SETTINGS = SurrogateCard(n_hidden=16, n_layers=2, n_steps=120, learning_rate=0.02, boost=0.0)


def some_noise(n: int, seed: int) -> TrainingSet:
    """Nothing to learn, from few points: a network that learns it does worse on others."""
    rng = torch.Generator().manual_seed(seed)
    return TrainingSet(
        features=torch.randn(n, 3, generator=rng), target=torch.randn(n, generator=rng)
    )


def started() -> Gaussian:
    return Gaussian(Inputs(3), SETTINGS, torch.Generator().manual_seed(1))


def test_what_does_best_on_other_points_is_kept() -> None:
    record = train(started(), some_noise(64, 1), some_noise(500, 2), SETTINGS, 1, SilentProgress())
    losses = record.validation_losses
    assert losses[-1] > min(losses) + 0.1, "it must have learned noise"
    assert record.best_step < record.n_steps
    again = started()
    train(again, some_noise(64, 1), some_noise(500, 2), SETTINGS, 1, SilentProgress())
    validation = some_noise(500, 2)
    with torch.no_grad():
        mean, std, _ = again(validation.features)
        loss = (0.5 * ((validation.target - mean) / std).square() + std.log()).mean()
    assert float(loss) == pytest.approx(min(losses), rel=1e-4)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    broken = some_noise(64, 1)
    broken.target[3] = torch.nan
    with pytest.raises(TrainingFailed, match=r"loss = nan at training step \d+ of the surrogate"):
        train(started(), broken, some_noise(500, 2), SETTINGS, 1, SilentProgress())


def test_batches_may_grow_and_never_exceed_the_sample() -> None:
    settings = replace(SETTINGS, batch_size=32, batch_growth=4.0, n_steps=50)
    record = train(started(), some_noise(64, 1), some_noise(500, 2), settings, 1, SilentProgress())
    assert record.n_steps == 50
    assert record.n_training == 64
