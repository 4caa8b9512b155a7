"""A learned amplitude: `core.Amplitude` with the standard deviation that was learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mlgen.core import AmplitudeValue, Progress, SubprocessGroup
from mlgen.errors import PackError, TrainingFailed
from mlgen.fitting import TrainingRecord
from mlgen.physics.model import Model
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.group_surrogate import LEAST_TRAINING, GroupSurrogate, train_group
from mlgen.surrogates.sample import AmplitudeSample
from mlgen.surrogates.training import TrainingSet, seconds_a_step

LARGEST_LOG = 600.0
"""Of |M|²: beyond, a power of alpha_s more would leave the range of float64."""


class Surrogate:
    """The learned |M|² of each group of a process: an `Amplitude`."""

    def __init__(
        self,
        groups: Sequence[SubprocessGroup],
        learned: Sequence[GroupSurrogate | None],
        settings: SurrogateCard,
    ) -> None:
        """Take one `GroupSurrogate` for each group, None where there were too few points."""
        self._groups = tuple(groups)
        self._learned = tuple(learned)
        self.settings = settings

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        """|M|² and its standard deviation, to first order that of ln |M|² times |M|².

        That is infinite where the training sample had no such point: there the value means nothing,
        but it is finite and not negative.
        """
        learned = self._learned[group]
        if learned is None:
            nothing = torch.zeros_like(alpha_s)
            return AmplitudeValue(value=nothing, std=torch.full_like(nothing, torch.inf))
        prediction = learned.predict(momenta)
        log_coupling = self._groups[group].qcd_order * alpha_s.log()
        log_value = prediction.log_value.clamp(-LARGEST_LOG, LARGEST_LOG) + log_coupling
        value = log_value.exp()
        std = torch.where(prediction.is_covered, value * prediction.std, torch.inf)
        return AmplitudeValue(value=value, std=std)

    def covers(self, momenta: Tensor, group: int) -> Tensor:
        """Where the surrogate has seen points like these momenta (n, n_ext, 4), GeV: bool (n,).

        Elsewhere the exact matrix element is to be called: outside of the range of the training
        sample's features or values, or where the standard deviation is larger than any it was
        calibrated with, or that of ln |M|² larger than 1.
        """
        learned = self._learned[group]
        if learned is None:
            return torch.zeros(len(momenta), dtype=torch.bool, device=momenta.device)
        return learned.predict(momenta).is_covered

    @property
    def of_groups(self) -> tuple[GroupSurrogate | None, ...]:
        """What was learned of each group; None: nothing."""
        return self._learned

    def state(self) -> dict[str, Tensor]:
        """All that was learned: named tensors on the CPU that share no memory."""
        return {
            f"{index}.{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for index, learned in enumerate(self._learned)
            if learned is not None
            for name, tensor in learned.state_dict().items()
        }


def train_surrogate(
    samples: Sequence[AmplitudeSample],
    groups: Sequence[SubprocessGroup],
    model: Model,
    settings: SurrogateCard,
    seed: int,
    progress: Progress,
) -> tuple[Surrogate, tuple[TrainingRecord, ...]]:
    """Learn |M|² of each group from a sample of its own; groups with few points stay unlearned.

    Returns:
        surrogate: that says of the others that it has seen nothing like them.
        records: of the groups that were learned.

    Raises:
        CardError: no such method.
        TrainingFailed: all samples are too small, or a loss is not finite.
    """
    kept = 1 - settings.validation_share - settings.calibration_share
    least = math.ceil((LEAST_TRAINING + 1) / kept)
    if not any(len(sample) >= least for sample in samples):
        raise TrainingFailed(
            f"surrogate: {max(map(len, samples), default=0)} points of a group: expected at least "
            f"{least}"
        )
    learned: list[GroupSurrogate | None] = []
    records = []
    for sample, group in zip(samples, groups, strict=True):
        if len(sample) < least:
            learned.append(None)
            continue
        found, record = train_group(sample, group, model, settings, seed, progress)
        learned.append(found)
        records.append(record)
    return Surrogate(groups, learned, settings), tuple(records)


def untrained_surrogate(
    groups: Sequence[SubprocessGroup], model: Model, settings: SurrogateCard
) -> Surrogate:
    """One that has learned nothing, but takes as long as one that has.

    Raises:
        CardError: no such method.
    """
    return Surrogate(groups, [GroupSurrogate(g, model, settings) for g in groups], settings)


def time_of_training(
    groups: Sequence[SubprocessGroup], model: Model, settings: SurrogateCard
) -> float:
    """Wall-clock seconds that training all groups would take, from a few steps on noise.

    Raises:
        CardError: no such method.
    """
    total = 0.0
    rng = torch.Generator().manual_seed(0)
    for group in groups:
        surrogate = GroupSurrogate(group, model, settings)
        shape = settings.batch_size, surrogate.inputs.n_columns
        features, target = torch.randn(shape, generator=rng), torch.randn(shape[0], generator=rng)
        noise = TrainingSet(features=features, target=target)
        per_step = seconds_a_step(surrogate.method, noise, settings.learning_rate)
        total += settings.n_steps * per_step
    return min(total, len(groups) * settings.max_cpu_s)


def restore_surrogate(
    groups: Sequence[SubprocessGroup],
    model: Model,
    settings: SurrogateCard,
    state: Mapping[str, Tensor],
) -> Surrogate:
    """The surrogate that `Surrogate.state` was taken from.

    Raises:
        CardError: no such method.
        PackError: the state is not one of this process with these settings.
    """
    known = {key.partition(".")[0] for key in state}
    if not known or not known <= {str(index) for index in range(len(groups))}:
        raise PackError(
            f"a surrogate of the groups {sorted(known)}: expected some of {len(groups)}, from 0"
        )
    learned: list[GroupSurrogate | None] = []
    for index, group in enumerate(groups):
        prefix = f"{index}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not own:
            learned.append(None)
            continue
        surrogate = GroupSurrogate(group, model, settings)
        try:
            surrogate.load_state_dict(own)
        except RuntimeError as error:
            raise PackError(
                f"the state of the surrogate of {group.name} does not fit its settings: {error}"
            ) from error
        learned.append(surrogate)
    return Surrogate(groups, learned, settings)
