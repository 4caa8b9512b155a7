"""What the weights of a classifier say: where generated events are too few or too many, and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mlgen.radiation.classifier import Judgement

WEIGHT_RANGE = (1e-2, 1e2)
N_WEIGHT_BINS = 200
"""Of equal width in ln w; what lies outside counts in the first and the last."""
QUANTILES = (0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999)
THRESHOLDS = (1.5, 2.0, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """What lies beyond a factor, in either direction."""

    threshold: float
    weight_above: float
    """The share of the sum of w, over generated events, that those with w > threshold have: what a model misses."""
    generated_below: float
    """The share of generated events with w < 1 / threshold: what it makes too much of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierRecord:
    """How well a classifier tells true from generated events of one multiplicity."""

    n_jets: int
    and_more: bool
    """Whether events with more jets are among them."""
    n_truth: int
    """Events of which the classifier learned, and which it judged."""
    n_generated: int
    auc: float
    auc_error: float
    mean_weight: float
    """Of w over generated events: 1 where D is calibrated."""
    ess: float
    """(sum w)² / (n sum w²) of generated events that are reweighted by w, the weights they came with included."""
    quantiles: tuple[float, ...]
    """Of w over generated events, at `QUANTILES`."""
    truth_quantiles: tuple[float, ...]
    """The same over true events."""
    tails: tuple[Tail, ...]
    """At `THRESHOLDS`."""
    counts: tuple[float, ...]
    """The share of generated events in each of `N_WEIGHT_BINS`, over `WEIGHT_RANGE`."""
    truth_counts: tuple[float, ...]
    best_steps: tuple[int, ...]
    """Of each half of the events, the step at which the loss on held-out ones was least."""

    @classmethod
    def of(cls, judgement: Judgement, n_jets: int, and_more: bool) -> Self:
        """The record of a judgement."""
        w, weight = judgement.generated_log_weight.exp(), judgement.generated_weight
        truth_w = judgement.truth_log_weight.exp()
        one = torch.ones_like(truth_w)
        return cls(
            n_jets=n_jets,
            and_more=and_more,
            n_truth=len(truth_w),
            n_generated=len(w),
            auc=judgement.auc.value,
            auc_error=judgement.auc.error,
            mean_weight=float((w * weight).mean()),
            ess=float((w * weight).sum().square() / (len(w) * (w * weight).square().sum())),
            quantiles=_quantiles(w, weight),
            truth_quantiles=_quantiles(truth_w, one),
            tails=tuple(_tail(w, weight, threshold) for threshold in THRESHOLDS),
            counts=_counts(w, weight),
            truth_counts=_counts(truth_w, one),
            best_steps=judgement.best_steps,
        )


def weight_edges() -> Tensor:
    """Edges of the bins of w: (N_WEIGHT_BINS + 1,)."""
    low, high = map(math.log, WEIGHT_RANGE)
    return torch.linspace(low, high, N_WEIGHT_BINS + 1, dtype=torch.float64).exp()


def _quantiles(w: Tensor, weight: Tensor) -> tuple[float, ...]:
    ordered, order = w.sort()
    reached = weight[order].cumsum(0) / weight.sum()
    index = torch.searchsorted(reached, torch.tensor(QUANTILES, dtype=torch.float64))
    return tuple(ordered[index.clamp(max=len(w) - 1)].tolist())


def _tail(w: Tensor, weight: Tensor, threshold: float) -> Tail:
    every = w * weight
    return Tail(
        threshold=threshold,
        weight_above=float(every[w > threshold].sum() / every.sum()),
        generated_below=float(weight[w < 1 / threshold].sum() / weight.sum()),
    )


def _counts(w: Tensor, weight: Tensor) -> tuple[float, ...]:
    index = torch.searchsorted(weight_edges(), w) - 1
    counts = torch.bincount(
        index.clamp(0, N_WEIGHT_BINS - 1), weight.double(), minlength=N_WEIGHT_BINS
    )
    return tuple((counts / weight.sum()).tolist())
