"""One group's |M|² learned: from momenta to ln |M|² and its two uncertainties."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlgen.core import Progress, SubprocessGroup, random_stream
from mlgen.errors import TrainingFailed
from mlgen.fitting import TrainingRecord
from mlgen.physics.model import Model
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.calibration import LEAST_STD, Recalibration
from mlgen.surrogates.domain import TargetRange, TrainingDomain
from mlgen.surrogates.features import PointFeatures
from mlgen.surrogates.methods import start_method
from mlgen.surrogates.momentum_columns import MomentumColumns
from mlgen.surrogates.networks import Inputs
from mlgen.surrogates.sample import AmplitudeSample
from mlgen.surrogates.training import TILE, TrainingSet, train

LEAST_TRAINING = 1000
"""Points: with fewer there is nothing to learn from."""
LARGEST_STD = 1.0
"""Of ln |M|²: beyond, |M|² is not known to a factor of e, nor is its standard deviation to first order."""
FREED_MAPPING = 2**24
"""Bytes: more than the hidden layers of a tile."""


class LogPrediction(NamedTuple):
    """What is predicted of ln |M|² without its powers of alpha_s."""

    log_value: Tensor
    """(n,)."""
    systematic: Tensor
    """(n,), a standard deviation."""
    statistical: Tensor
    """(n,), a standard deviation."""
    is_covered: Tensor
    """(n,), bool: whether the training sample had points, and values, like this one."""

    @property
    def std(self) -> Tensor:
        """(n,), of both parts together."""
        return torch.hypot(self.systematic, self.statistical)


class GroupSurrogate(nn.Module):
    """Features, networks, recalibration and the domain of one group.

    Everything that is learned or measured is in `state_dict`, whose shapes follow from the group,
    the model and the settings.
    """

    target_mean: Tensor
    target_scale: Tensor
    largest_std: Tensor

    def __init__(
        self,
        group: SubprocessGroup,
        model: Model,
        settings: SurrogateCard,
        rng: torch.Generator | None = None,
    ) -> None:
        """Start untrained.

        Raises:
            CardError: no such method.
        """
        super().__init__()
        self.features = PointFeatures(group, model)
        self.columns: MomentumColumns | None = None
        if settings.network == "lgatr":
            self.columns = MomentumColumns(group)
            self.inputs = self.columns.inputs
        else:
            self.inputs = Inputs(self.features.n_features)
        self.method = start_method(self.inputs, settings, rng or torch.Generator())
        self.recalibration = Recalibration()
        self.domain = TrainingDomain(self.features.n_features)
        self.target_range = TargetRange()
        self.register_buffer("target_mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("target_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("largest_std", torch.tensor(torch.inf, dtype=torch.float64))

    def forward(self, momenta: Tensor) -> LogPrediction:
        """The prediction at momenta (n, n_ext, 4), float64, GeV."""
        features, log_ansatz = self.features(momenta)
        prediction = self.method(self.seen(momenta, features))
        log_value = prediction.mean.double() * self.target_scale + self.target_mean + log_ansatz
        systematic = prediction.systematic.double() * self.target_scale
        statistical = prediction.statistical.double() * self.target_scale
        # Not hypot, which ONNX lacks (torch 2.13).
        std = (systematic.square() + statistical.square()).sqrt()
        log_std = std.clamp(min=LEAST_STD).log()
        factor, shift = self.recalibration(log_std, log_value)
        log_value = log_value - std * shift
        is_covered = self.domain(features) & self.target_range(prediction.mean)
        is_covered = is_covered & (std * factor <= self.largest_std)
        return LogPrediction(log_value, factor * systematic, factor * statistical, is_covered)

    def seen(self, momenta: Tensor, features: Tensor) -> Tensor:
        """What the networks see of points: (n, inputs.n_columns), float32."""
        if self.columns is None:
            return features
        columns: Tensor = self.columns(momenta, features)
        return columns

    @torch.no_grad()
    def predict(self, momenta: Tensor) -> LogPrediction:
        """`forward` in tiles, which stay in a processor's cache, and without gradients."""
        if len(momenta) <= TILE:
            prediction: LogPrediction = self(momenta)
            return prediction
        # glibc gives the top of its heap back to the system when it is twice as large as the largest
        # mapping ever freed: each tile would fault its pages in anew, a fifth of the time of all.
        torch.empty(FREED_MAPPING, dtype=torch.uint8)
        parts = [self(tile) for tile in torch.split(momenta, TILE)]
        return LogPrediction(*(torch.cat(column) for column in zip(*parts, strict=True)))


def train_group(
    sample: AmplitudeSample,
    group: SubprocessGroup,
    model: Model,
    settings: SurrogateCard,
    seed: int,
    progress: Progress,
) -> tuple[GroupSurrogate, TrainingRecord]:
    """Learn one group's |M|² from a sample, of which a part is held out for calibration.

    Raises:
        CardError: no such method.
        TrainingFailed: the sample is too small, or the loss is not finite.
    """
    shares = settings.validation_share, settings.calibration_share
    training, validation, calibration = sample.split(shares, seed)
    if len(training) < LEAST_TRAINING:
        raise TrainingFailed(
            f"surrogate: {len(sample)} points of {group.name}: expected at least "
            f"{LEAST_TRAINING} for training"
        )
    surrogate = GroupSurrogate(
        group, model, settings, random_stream(seed, f"start surrogate {group.name}", 0)
    )
    surrogate.features.fit(training.momenta)
    features, log_ratio = _features_and_ratio(surrogate, training)
    spread, surrogate.target_mean = torch.std_mean(log_ratio, correction=0)
    # A constant has nothing to be scaled with.
    surrogate.target_scale = spread.clamp(min=1e-9)
    surrogate.domain.fit(features)
    sets = [_training_set(surrogate, part) for part in (training, validation)]
    surrogate.target_range.fit(sets[0].target)
    record = train(surrogate.method, sets[0], sets[1], settings, seed, progress)
    recalibrate(surrogate, calibration)
    return surrogate, record


def recalibrate(surrogate: GroupSurrogate, sample: AmplitudeSample) -> None:
    """Fit the factor of the standard deviations to a sample that trained nothing.

    None that is larger than the sample's, or than LARGEST_STD, will be believed.
    """
    surrogate.recalibration = Recalibration()
    surrogate.largest_std.fill_(torch.inf)
    raw = surrogate.predict(sample.momenta)
    error = raw.log_value - sample.value.log()
    surrogate.recalibration.fit(error, raw.std.clamp(min=LEAST_STD).log(), raw.log_value)
    largest = surrogate.predict(sample.momenta).std.amax()
    surrogate.largest_std.copy_(largest.clamp(max=LARGEST_STD))


def _features_and_ratio(
    surrogate: GroupSurrogate, sample: AmplitudeSample
) -> tuple[Tensor, Tensor]:
    """The features, and ln of |M|² over the ansatz, of a sample."""
    parts = [surrogate.features(tile) for tile in torch.split(sample.momenta, TILE)]
    features, log_ansatz = (torch.cat(column) for column in zip(*parts, strict=True))
    return features, sample.value.log() - log_ansatz


def _training_set(surrogate: GroupSurrogate, sample: AmplitudeSample) -> TrainingSet:
    """What the networks see of a sample, and what they are to say of it."""
    features, log_ratio = _features_and_ratio(surrogate, sample)
    target = (log_ratio - surrogate.target_mean) / surrogate.target_scale
    seen = surrogate.seen(sample.momenta, features)
    return TrainingSet(features=seen.contiguous(), target=target.float())
