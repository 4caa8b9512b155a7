"""A classifier between true and generated events of one multiplicity, and the weights that it gives.

A network that is trained to tell the two apart learns D(x), from which w(x) = D / (1 - D) is the ratio of
their densities, truth over generated: section 5 of arXiv:2412.12074; what its tails say is told in
arXiv:2305.16774. Each half of the events is judged by a network that was trained on the other half.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.core import random_stream
from mlgen.cut_cards import require
from mlgen.errors import TrainingFailed
from mlgen.radiation.auc import Auc, area_under_curve
from mlgen.radiation.linear import Linear

CHECKS = 20
"""How often the loss on held-out events is computed; more often in the beginning, where few events lead no further."""
AVERAGING = 0.02
"""The share of a step in the running mean of the parameters."""
FIRST_SHARES = 5
"""Before, step n has the share 5 / (n + 4): the mean forgets where it came from."""
N_FOLDS = 2
TILE = 16384
"""Events that are judged at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierSettings:
    """The network, and how it is trained."""

    n_hidden: int = 64
    n_layers: int = 3
    """Of hidden layers."""
    n_steps: int = 300
    """Of the optimizer, at most."""
    max_epochs: float = 40.0
    """Where there are few events, each is seen so often at most."""
    batch_size: int = 1024
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    n_networks: int = 4
    """Of which each learns from all but one part of the training half; the rest tells when to stop."""
    max_events: int = 100_000
    """Of either kind; what is beyond is not used."""
    min_events: int = 400
    """Of either kind; with fewer there is no statement."""

    def __post_init__(self) -> None:
        for key in ("n_hidden", "n_layers", "n_steps", "batch_size"):
            value = getattr(self, key)
            require(value >= 1, f"classifier.{key}", value, "at least 1")
        require(self.min_events >= 20, "classifier.min_events", self.min_events, "at least 20")
        require(self.n_networks >= 2, "classifier.n_networks", self.n_networks, "at least 2")

    def steps_for(self, n_events: int) -> int:
        """How many steps a network takes, for so many events of both kinds."""
        n_learned = n_events * (1 - 1 / self.n_networks)
        epoch = max(1.0, n_learned / self.batch_size)
        return min(self.n_steps, math.ceil(self.max_epochs * epoch))


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a classifier says of events that its network has not seen."""

    auc: Auc
    """The mean over the halves."""
    truth_log_weight: Tensor
    """(n,), ln w of true events, in no particular order."""
    generated_log_weight: Tensor
    """(m,), likewise; of these, w has the mean 1 where D is calibrated."""
    generated_weight: Tensor
    """(m,), what the events brought with them, with a mean of 1."""
    best_steps: tuple[int, ...]
    """Of each half, the step at which the loss on held-out events was least."""


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Events of both kinds, those of either with the same total weight."""

    features: Tensor
    """(n, n_features), float32, standardised."""
    is_truth: Tensor
    """(n,), 0 or 1, float32."""
    weight: Tensor
    """(n,), float32, with a mean of 1."""

    def select(self, index: Tensor) -> _Labelled:
        return _Labelled(self.features[index], self.is_truth[index], self.weight[index])

    def __len__(self) -> int:
        return len(self.weight)


def judge(
    truth: Tensor,
    generated: Tensor,
    settings: ClassifierSettings,
    seed: int,
    generated_weight: Tensor | None = None,
) -> Judgement:
    """Train a classifier on each half of the events, and judge the other half with it.

    Args:
        truth, generated: features, (n, n_features) and (m, n_features).
        generated_weight: (m,), 0 or more; None: all alike.

    Raises:
        TrainingFailed: there are too few events, or the loss is not finite.
    """
    m = len(generated)
    for name, features in (("true", truth), ("generated", generated)):
        if len(features) < settings.min_events:
            raise TrainingFailed(
                f"{name} events = {len(features)}: expected at least {settings.min_events} for a classifier"
            )
    weight = generated.new_ones(m) if generated_weight is None else generated_weight
    true_folds = _folds(len(truth), settings, random_stream(seed, "split truth", 0))
    made_folds = _folds(m, settings, random_stream(seed, "split generated", 0))
    aucs: list[Auc] = []
    judged: list[tuple[Tensor, Tensor, Tensor]] = []
    best_steps = []
    for fold in range(N_FOLDS):
        ours, theirs = true_folds[fold], made_folds[fold]
        committee, step = _train(
            truth[ours], generated[theirs], weight[theirs], settings, seed, fold
        )
        ours, theirs = true_folds[1 - fold], made_folds[1 - fold]
        log_w, log_w_made = (
            committee.log_weight(truth[ours]),
            committee.log_weight(generated[theirs]),
        )
        judged.append((log_w, log_w_made, weight[theirs]))
        aucs.append(area_under_curve(log_w, log_w_made, background_weight=weight[theirs]))
        best_steps.append(step)
    log_w, log_w_made, used = (torch.cat(part) for part in zip(*judged, strict=True))
    return Judgement(
        auc=Auc(
            sum(auc.value for auc in aucs) / N_FOLDS,
            math.hypot(*(auc.error for auc in aucs)) / N_FOLDS,
        ),
        truth_log_weight=log_w,
        generated_log_weight=log_w_made,
        generated_weight=used / used.mean(),
        best_steps=tuple(best_steps),
    )


def _folds(n: int, settings: ClassifierSettings, rng: torch.Generator) -> tuple[Tensor, ...]:
    order = torch.randperm(n, generator=rng)[: settings.max_events]
    return tuple(order[fold::N_FOLDS] for fold in range(N_FOLDS))


class _Network(nn.Module):
    """A perceptron with SiLU; it starts from what is to be said of samples that are alike."""

    def __init__(self, n_columns: int, settings: ClassifierSettings, rng: torch.Generator) -> None:
        super().__init__()
        widths = [n_columns, *[settings.n_hidden] * settings.n_layers]
        self.hidden = nn.ModuleList(Linear(a, b, rng) for a, b in itertools.pairwise(widths))
        self.last = Linear(widths[-1], 1, rng, scale=0.0)

    def forward(self, standardised: Tensor) -> Tensor:
        """ln w, (n,)."""
        x = standardised
        for layer in self.hidden:
            x = F.silu(layer(x))
        found: Tensor = self.last(x)[:, 0]
        return found


class _Committee:
    """Networks whose mean ln w counts; each was held back from another part of the events."""

    def __init__(self, mean: Tensor, std: Tensor, networks: Sequence[_Network]) -> None:
        self._mean, self._std, self._networks = mean, std, networks

    @torch.no_grad()
    def log_weight(self, features: Tensor) -> Tensor:
        """ln w of features as they are: float64 (n,)."""
        tiles = torch.split(((features - self._mean) / self._std).float(), TILE)
        every = [torch.stack([network(tile) for network in self._networks]) for tile in tiles]
        return torch.cat(every, dim=1).double().mean(0)


def _train(
    truth: Tensor,
    generated: Tensor,
    generated_weight: Tensor,
    settings: ClassifierSettings,
    seed: int,
    fold: int,
) -> tuple[_Committee, int]:
    """Networks with the least loss, together, on what each has not seen, and after how many steps that was.

    Every event is held out once: what one part alone says of when to stop is mostly chance where
    samples are nearly alike.
    """
    both = torch.cat([truth, generated])
    mean, std = both.mean(0), both.std(0)
    # A number that all events share says nothing.
    std = torch.where(std > 1e-9, std, math.inf)
    n, m = len(truth), len(generated)
    of_truth = torch.full((n,), (n + m) / (2 * n))
    of_generated = (generated_weight / generated_weight.sum() * (n + m) / 2).float()
    labelled = _Labelled(
        ((both - mean) / std).float(),
        torch.cat([torch.ones(n), torch.zeros(m)]),
        torch.cat([of_truth, of_generated]),
    )
    rng = random_stream(seed, "train classifier", fold)
    parts = torch.randperm(n + m, generator=rng).tensor_split(settings.n_networks)
    networks, trails = [], []
    for k, part in enumerate(parts):
        learned = torch.cat([other for j, other in enumerate(parts) if j != k])
        network = _Network(both.shape[1], settings, rng)
        trails.append(
            _descend(network, labelled.select(learned), labelled.select(part), settings, rng)
        )
        networks.append(network)
    totals = {step: sum(trail[step].loss for trail in trails) for step in trails[0]}
    best = min(totals, key=totals.__getitem__)
    for network, trail in zip(networks, trails, strict=True):
        network.load_state_dict(trail[best].state)
    return _Committee(mean, std, networks), best


class _Checked(NamedTuple):
    """Where a training stood."""

    loss: float
    """On all held-out events together."""
    state: dict[str, Tensor]


def _descend(
    network: _Network,
    learned: _Labelled,
    held_out: _Labelled,
    settings: ClassifierSettings,
    rng: torch.Generator,
) -> dict[int, _Checked]:
    """AdamW along a cosine; what is checked, by step, is a running mean of the parameters."""
    size = min(settings.batch_size, len(learned))
    n_steps = settings.steps_for(len(learned) + len(held_out))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    averaged = copy.deepcopy(network)
    checks = {math.ceil(n_steps * (k / CHECKS) ** 2) for k in range(1, CHECKS + 1)}
    trail: dict[int, _Checked] = {}
    order = torch.empty(0, dtype=torch.int64)
    for step in range(1, n_steps + 1):
        if len(order) < size:
            order = torch.randperm(len(learned), generator=rng)
        batch, order = learned.select(order[:size]), order[size:]
        optimizer.zero_grad()
        _loss(network, batch).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            share = max(AVERAGING, FIRST_SHARES / (step + FIRST_SHARES - 1))
            for mean, latest in zip(averaged.parameters(), network.parameters(), strict=True):
                mean.lerp_(latest, share)
            if step in checks:
                loss = len(held_out) * float(_loss(averaged, held_out))
                if not math.isfinite(loss):
                    raise TrainingFailed(f"loss = {loss} of a classifier: expected a finite number")
                state = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
                trail[step] = _Checked(loss, state)
    return trail


def _loss(network: _Network, labelled: _Labelled) -> Tensor:
    """The cross entropy."""
    return F.binary_cross_entropy_with_logits(
        network(labelled.features), labelled.is_truth, weight=labelled.weight
    )
