"""Records of surrogates whose errors are known, for tests of what is said of them."""

from __future__ import annotations

import torch

from mlgen.fitting import TrainingRecord
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.accuracy import NEAR_CUTS, RegionAccuracy, region_accuracy, statistical_pull
from mlgen.surrogates.group_surrogate import LogPrediction
from mlgen.surrogates.learning_curve import LearningPoint
from mlgen.surrogates.record import GroupRecord, SurrogateRecord, TwoStageRecord

TRAINING = TrainingRecord(
    n_training=78_000,
    n_steps=12_000,
    cpu_s=123.4,
    best_step=11_700,
    validation_losses=tuple(-6 + 5 * 0.85**k for k in range(40)),
)


def known_region(n: int, size: float, too_narrow_by: float = 1.0, seed: int = 1) -> RegionAccuracy:
    """Normal errors around a size, and standard deviations that are too small by a factor."""
    rng = torch.Generator().manual_seed(seed)
    spread, noise = torch.randn(2, n, generator=rng, dtype=torch.float64)
    scatter = torch.randn(3, n, generator=rng, dtype=torch.float64)
    std = size * spread.exp()
    error = std * noise
    predicted = LogPrediction(
        error, 0.9 * std / too_narrow_by, 0.436 * std / too_narrow_by, spread < 3
    )
    pulls = statistical_pull(0.436 * std * scatter, predicted.statistical)
    return region_accuracy(predicted, torch.zeros_like(error), pulls.flatten())


def known_regions(n: int, size: float) -> dict[str, RegionAccuracy]:
    return {
        "all": known_region(n, size),
        "top 1 %": known_region(n // 100, 3 * size, too_narrow_by=1.1, seed=2),
        "top 0.1 %": known_region(n // 1000, 5 * size, too_narrow_by=1.2, seed=3),
        NEAR_CUTS: known_region(n // 7, 2 * size, seed=4),
    }


def known_group(name: str = "g g > t t~ g g", n: int = 100_000) -> GroupRecord:
    return GroupRecord(
        name=name,
        n_sample=100_000,
        n_test=n,
        us_per_point=4.2,
        training=TRAINING,
        regions=known_regions(n, 1e-3),
        learning_curve=tuple(
            LearningPoint(n=size, training=TRAINING, regions=known_regions(n // 10, 30 / size**0.9))
            for size in (6_250, 25_000, 100_000)
        ),
    )


def known_record(*groups: GroupRecord) -> SurrogateRecord:
    return SurrogateRecord(
        process="g g > t t~ g g",
        seed=4711,
        sampler="flow",
        settings=SurrogateCard(method="repulsive"),
        groups=groups or (known_group(),),
        two_stage=(
            TwoStageRecord(
                sampler="vegas", eps_full=0.145, eps_1=0.15, eps_2=0.82, alpha=0.9996, f_eff=3.1
            ),
            TwoStageRecord(
                sampler="flow", eps_full=0.446, eps_1=0.47, eps_2=0.84, alpha=0.9997, f_eff=1.4
            ),
        ),
        versions={"mlgen": "0.1.0", "torch": "2.13.0"},
    )
