"""A classifier between true and generated events of one multiplicity, and the weights that it gives.

A network that is trained to tell the two apart learns D(x), from which w(x) = D / (1 - D) is the ratio of
their densities, truth over generated: section 5 of arXiv:2412.12074; what its tails say is told in
arXiv:2305.16774. Each half of the events is judged by a network that was trained on the other half.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.core import random_stream
from mlgen.cut_cards import require
from mlgen.errors import TrainingFailed
from mlgen.radiation.auc import Auc, area_under_curve
from mlgen.radiation.linear import Linear

CHECKS = 25
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
    n_steps: int = 600
    """Of the optimizer, at most."""
    max_epochs: float = 40.0
    """Where there are few events, each is seen so often at most."""
    batch_size: int = 1024
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    validation_share: float = 0.2
    """The part of the training half that tells when to stop."""
    max_events: int = 100_000
    """Of either kind; what is beyond is not used."""
    min_events: int = 400
    """Of either kind; with fewer there is no statement."""

    def __post_init__(self) -> None:
        for key in ("n_hidden", "n_layers", "n_steps", "batch_size"):
            value = getattr(self, key)
            require(value >= 1, f"classifier.{key}", value, "at least 1")
        require(self.min_events >= 20, "classifier.min_events", self.min_events, "at least 20")
        share = self.validation_share
        require(0 < share < 0.9, "classifier.validation_share", share, "a share between 0 and 0.9")


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
    """Of each network, the step at which the loss on held-out events was least."""


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
        network, step = _train(truth[ours], generated[theirs], weight[theirs], settings, seed, fold)
        ours, theirs = true_folds[1 - fold], made_folds[1 - fold]
        log_w, log_w_made = network.log_weight(truth[ours]), network.log_weight(generated[theirs])
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
    """A perceptron with SiLU, for columns as they are."""

    def __init__(
        self, mean: Tensor, std: Tensor, settings: ClassifierSettings, rng: torch.Generator
    ) -> None:
        super().__init__()
        self._mean, self._std = mean, std
        widths = [len(mean), *[settings.n_hidden] * settings.n_layers]
        hidden = [Linear(n_in, n_out, rng) for n_in, n_out in itertools.pairwise(widths)]
        self.hidden = nn.ModuleList(hidden)
        # It starts from what is to be said of samples that are alike.
        self.last = Linear(widths[-1], 1, rng, scale=0.0)

    def standardised(self, features: Tensor) -> Tensor:
        return ((features - self._mean) / self._std).float()

    def forward(self, standardised: Tensor) -> Tensor:
        """ln w, (n,)."""
        x = standardised
        for layer in self.hidden:
            x = F.silu(layer(x))
        found: Tensor = self.last(x)[:, 0]
        return found

    @torch.no_grad()
    def log_weight(self, features: Tensor) -> Tensor:
        """The same for features as they are; float64."""
        tiles = torch.split(self.standardised(features), TILE)
        return torch.cat([self(tile) for tile in tiles]).double()


def _train(
    truth: Tensor,
    generated: Tensor,
    generated_weight: Tensor,
    settings: ClassifierSettings,
    seed: int,
    fold: int,
) -> tuple[_Network, int]:
    """The network with the least loss on held-out events, and after how many steps that was."""
    rng = random_stream(seed, "train classifier", fold)
    both = torch.cat([truth, generated])
    std = both.std(0)
    # A number that all events share says nothing.
    network = _Network(both.mean(0), torch.where(std > 1e-9, std, math.inf), settings, rng)
    n, m = len(truth), len(generated)
    labelled = _Labelled(
        network.standardised(both),
        torch.cat([torch.ones(n), torch.zeros(m)]),
        torch.cat(
            [
                torch.full((n,), (n + m) / (2 * n)),
                (generated_weight / generated_weight.sum() * (n + m) / 2).float(),
            ]
        ),
    )
    order = torch.randperm(n + m, generator=rng)
    n_held_out = round(settings.validation_share * (n + m))
    held_out, learned = labelled.select(order[:n_held_out]), labelled.select(order[n_held_out:])
    return network, _descend(network, learned, held_out, settings, rng)


def _descend(
    network: _Network,
    learned: _Labelled,
    held_out: _Labelled,
    settings: ClassifierSettings,
    rng: torch.Generator,
) -> int:
    """AdamW along a cosine; what is kept is a running mean of the parameters, where it does best."""
    size = min(settings.batch_size, len(learned))
    n_steps = min(settings.n_steps, math.ceil(settings.max_epochs * len(learned) / size))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    averaged = copy.deepcopy(network)
    best_loss, best_step, best = math.inf, 0, dict[str, Tensor]()
    checks = {math.ceil(n_steps * (k / CHECKS) ** 2) for k in range(1, CHECKS + 1)}
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
            with torch.no_grad():
                loss = float(_loss(averaged, held_out))
            if not math.isfinite(loss):
                raise TrainingFailed(f"loss = {loss} of a classifier: expected a finite number")
            if loss < best_loss:
                best_loss, best_step = loss, step
                best = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
    network.load_state_dict(best)
    return best_step


def _loss(network: _Network, labelled: _Labelled) -> Tensor:
    """The cross entropy."""
    return F.binary_cross_entropy_with_logits(
        network(labelled.features), labelled.is_truth, weight=labelled.weight
    )
