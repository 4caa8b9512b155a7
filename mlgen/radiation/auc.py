"""The area under the ROC curve of a score, and its statistical error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Auc(NamedTuple):
    """How well a score tells two samples apart: 0.5 for not at all, 1 for always."""

    value: float
    error: float


def area_under_curve(
    signal: Tensor,
    background: Tensor,
    signal_weight: Tensor | None = None,
    background_weight: Tensor | None = None,
) -> Auc:
    """The chance that a signal event has the larger score, ties counting one half.

    The error is that of DeLong et al., Biometrics 44 (1988) 837, by ranks (IEEE Signal Process. Lett. 21
    (2014) 1389): it makes no assumption on how scores are distributed. It is that of the events that are
    scored; what the training of the score adds is not in it.

    Args:
        signal, background: scores, (n,) and (m,).
        signal_weight, background_weight: likewise; None: all alike.
    """
    w_signal = torch.ones_like(signal) if signal_weight is None else signal_weight
    w_background = torch.ones_like(background) if background_weight is None else background_weight
    of_signal = _share_below(signal, background, w_background)
    of_background = 1 - _share_below(background, signal, w_signal)
    value = float((w_signal * of_signal).sum() / w_signal.sum())
    variance = sum(
        float((weight * (part - value)).square().sum() / weight.sum().square())
        for weight, part in ((w_signal, of_signal), (w_background, of_background))
    )
    return Auc(value, variance**0.5)


def _share_below(scores: Tensor, others: Tensor, weight: Tensor) -> Tensor:
    """The share of the others' weight below each score, half of what is at it: (n,)."""
    ordered, order = others.sort()
    below = torch.cat([weight.new_zeros(1), weight[order].cumsum(0)])
    left = below[torch.searchsorted(ordered, scores)]
    right = below[torch.searchsorted(ordered, scores, right=True)]
    return 0.5 * (left + right) / below[-1]
