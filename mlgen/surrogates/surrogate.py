"""A learned amplitude: `core.Amplitude` with the standard deviation that was learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mlgen.core import AmplitudeValue, Progress, SubprocessGroup
from mlgen.errors import PackError
from mlgen.physics.model import Model
from mlgen.surrogates.group_surrogate import GroupSurrogate, train_group
from mlgen.surrogates.sample import AmplitudeSample
from mlgen.surrogates.settings import SurrogateSettings
from mlgen.surrogates.training import TrainingRecord

LARGEST_LOG = 600.0
"""Of |M|²: beyond, a power of alpha_s more would leave the range of float64."""


class Surrogate:
    """The learned |M|² of each group of a process: an `Amplitude`."""

    def __init__(
        self,
        groups: Sequence[SubprocessGroup],
        learned: Sequence[GroupSurrogate],
        settings: SurrogateSettings,
    ) -> None:
        """Take one `GroupSurrogate` for each group."""
        self._groups = tuple(groups)
        self._learned = tuple(learned)
        self.settings = settings

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        """|M|² and its standard deviation, to first order that of ln |M|² times |M|².

        That is infinite where the training sample had no such point: there the value means nothing,
        but it is finite and positive.
        """
        prediction = self._learned[group].predict(momenta)
        log_coupling = self._groups[group].qcd_order * alpha_s.log()
        log_value = prediction.log_value.clamp(-LARGEST_LOG, LARGEST_LOG) + log_coupling
        value = log_value.exp()
        std = torch.where(prediction.is_covered, value * prediction.std, torch.inf)
        return AmplitudeValue(value=value, std=std)

    def covers(self, momenta: Tensor, group: int) -> Tensor:
        """Where the surrogate has seen points like these momenta (n, n_ext, 4), GeV: bool (n,).

        Elsewhere the exact matrix element is to be called: outside of the range of the training
        sample's features, or where the standard deviation is larger than any it was calibrated with.
        """
        return self._learned[group].predict(momenta).is_covered

    def state(self) -> dict[str, Tensor]:
        """All that was learned: named tensors on the CPU that share no memory."""
        return {
            f"{index}.{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for index, learned in enumerate(self._learned)
            for name, tensor in learned.state_dict().items()
        }


def train_surrogate(
    samples: Sequence[AmplitudeSample],
    groups: Sequence[SubprocessGroup],
    model: Model,
    settings: SurrogateSettings,
    seed: int,
    progress: Progress,
) -> tuple[Surrogate, tuple[TrainingRecord, ...]]:
    """Learn |M|² of each group from a sample of its own.

    Raises:
        CardError: no such method.
        TrainingFailed: a sample is too small, or a loss is not finite.
    """
    trained = [
        train_group(sample, group, model, settings, seed, progress)
        for sample, group in zip(samples, groups, strict=True)
    ]
    learned, records = zip(*trained, strict=True)
    return Surrogate(groups, learned, settings), records


def restore_surrogate(
    groups: Sequence[SubprocessGroup],
    model: Model,
    settings: SurrogateSettings,
    state: Mapping[str, Tensor],
) -> Surrogate:
    """The surrogate that `Surrogate.state` was taken from.

    Raises:
        CardError: no such method.
        PackError: the state is not one of this process with these settings.
    """
    learned = []
    for index, group in enumerate(groups):
        surrogate = GroupSurrogate(group, model, settings)
        prefix = f"{index}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        try:
            surrogate.load_state_dict(own)
        except RuntimeError as error:
            raise PackError(
                f"the state of the surrogate of {group.name} does not fit its settings: {error}"
            ) from error
        learned.append(surrogate)
    return Surrogate(groups, learned, settings)
