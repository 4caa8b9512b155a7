"""What more training points are worth: one surrogate for each of several sizes, and the same test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mlgen.core import Progress, SubprocessGroup
from mlgen.errors import MlgenError
from mlgen.fitting import TrainingRecord
from mlgen.physics.model import Model
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.accuracy import RegionAccuracy, accuracy
from mlgen.surrogates.group_surrogate import LEAST_TRAINING, GroupSurrogate, train_group
from mlgen.surrogates.sample import AmplitudeSample

SHRINKING = (16, 4, 1)
"""The sizes of a curve: a sample's size over these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningPoint:
    """What was learned from so many points."""

    n: int
    """All points that were given: those for validation and calibration count."""
    training: TrainingRecord
    regions: Mapping[str, RegionAccuracy]
    """On points of their own: see `accuracy.accuracy`."""


def learning_curve(
    sample: AmplitudeSample,
    test: AmplitudeSample,
    group: SubprocessGroup,
    model: Model,
    settings: SurrogateCard,
    seed: int,
    progress: Progress,
    sizes: Sequence[int] | None = None,
    near_cuts: Tensor | None = None,
    n_repeats: int = 1,
) -> tuple[LearningPoint, ...]:
    """Train on the first points of a sample, anew for each size, and test on other points.

    Args:
        sample: in random order.
        test: independent of it.
        sizes: `curve_sizes` by default.
        near_cuts: (n_test,), bool: see `accuracy.accuracy`.
        n_repeats: as many surrogates are trained, each on points of its own, where the sample has so
            many: their scatter gives the statistical pulls of the first.

    Raises:
        MlgenError: the sample has fewer points than a size.
        CardError, TrainingFailed: as `train_group` does.
    """
    if sizes is None:
        sizes = curve_sizes(len(sample), settings)
    for size in sizes:
        if not 0 < size <= len(sample):
            raise MlgenError(f"size = {size}: expected 1 to {len(sample)} points of the sample")
    points = []
    for size in sizes:
        parts = [slice(k * size, (k + 1) * size) for k in range(len(sample) // size)][:n_repeats]
        trained = [
            train_group(sample.select(part), group, model, settings, seed + k, progress)
            for k, part in enumerate(parts)
        ]
        (learned, record), *others = trained
        scattered = [other for other, _ in others]
        points.append(learning_point(size, learned, record, test, near_cuts, scattered))
    return tuple(points)


def learning_point(
    n: int,
    surrogate: GroupSurrogate,
    training: TrainingRecord,
    test: AmplitudeSample,
    near_cuts: Tensor | None = None,
    others: Sequence[GroupSurrogate] = (),
) -> LearningPoint:
    """A point of a learning curve, of a surrogate that was trained already; see `accuracy.accuracy`."""
    regions = accuracy(surrogate, test, near_cuts, others)
    return LearningPoint(n=n, training=training, regions=regions)


def curve_sizes(n: int, settings: SurrogateCard) -> tuple[int, ...]:
    """The sizes of the curve of n points, without those that leave too few for training."""
    kept = 1 - settings.validation_share - settings.calibration_share
    return tuple(n // by for by in SHRINKING if kept * (n // by) >= LEAST_TRAINING + 1)
