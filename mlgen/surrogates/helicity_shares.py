"""Each helicity configuration's share of |M|², learned: q(h | point), to draw a configuration from.

An event needs one configuration, and one costs far less than all of them. Drawn from q, with

    |M_h|² / q(h | point)  in place of  |M|²,

every mean is as it was, whatever q is, as long as it is positive: see `integration.second_step`.
It is learned from tables of all configurations: a helicity picked in proportion to |M_h|² at each point
says far less (in g g > t t~ g g, from 100k points, eps_2 was 0.41 instead of 0.59).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mlgen.core import Progress, SubprocessGroup, random_stream
from mlgen.errors import PackError, TrainingFailed
from mlgen.physics.model import Model
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.features import PointFeatures
from mlgen.surrogates.method import Trainee
from mlgen.surrogates.networks import ParallelMlp
from mlgen.surrogates.training import TrainingSet, seconds_a_step, tiles, train

FLOOR = 0.02
"""The part of q that is spread over all configurations evenly."""
ORDER = 8.0
"""Of the Rényi divergence that is minimised: large, so that no share is much too small. In g g > t t~ g g,
from 30k points, eps_2 with one drawn was 0.67 with order 1, 0.70 with 2, 0.74 with 4 and 0.76 with 8."""
WIDTHS = (128, 128, 128)
N_STEPS = 1000
LEARNING_RATE = 1.6e-2
"""In g g > t t~ g g, from 24k points, eps_2 with one drawn was 0.60 after so many steps with 2e-3, 0.70 with
4e-3, 0.76 with 8e-3, 0.81 with this; after 3000 steps with 2e-3 it was 0.71."""
VALIDATION_SHARE = 0.05
LEAST_POINTS = 2000
"""Of a group: with fewer there is nothing to learn from."""
_LEAST_SHARE = 1e-20


class GroupShares(Trainee):
    """q(h | point) of one group, a softmax with a floor.

    Its targets are shares (n, n_helicities) of points whose identical legs are in the order of
    `PointFeatures`, with the configurations relabelled accordingly.
    """

    title = "learning helicities"
    relabelled: Tensor
    orders: Tensor

    def __init__(
        self,
        group: SubprocessGroup,
        model: Model,
        helicities: Tensor,
        rng: torch.Generator | None = None,
    ) -> None:
        """Start untrained, for the configurations (n_helicities, n_ext) of `core.ResolvedAmplitude`."""
        super().__init__()
        self.n_helicities = len(helicities)
        self.features = PointFeatures(group, model)
        widths = [self.features.n_features, *WIDTHS, self.n_helicities]
        self.network = ParallelMlp(widths, 1, rng or torch.Generator())
        orders, relabelled = _relabelled(group.pdg_ids[0], helicities)
        self.register_buffer("orders", orders, persistent=False)
        self.register_buffer("relabelled", relabelled, persistent=False)

    def loss(self, features: Tensor, target: Tensor, n_training: int) -> Tensor:
        return self.errors(features, target).mean()

    def errors(self, features: Tensor, target: Tensor) -> Tensor:
        """The Rényi divergence of each point's shares from q, (n,)."""
        log_q, log_p = self._log_q(features), target.clamp(min=_LEAST_SHARE).log()
        return (ORDER * log_p + (1 - ORDER) * log_q).logsumexp(1) / (ORDER - 1)

    def spread(self, features: Tensor) -> Tensor:
        """The part of q that is not its largest."""
        return 1 - self._log_q(features).exp().amax(1)

    @torch.no_grad()
    def forward(self, momenta: Tensor) -> Tensor:
        """q (n, n_helicities), float64, at momenta (n, n_ext, 4), GeV: it adds up to 1."""
        parts = [self._log_q(self.features(momenta[tile])[0]).exp() for tile in tiles(len(momenta))]
        every = torch.cat([momenta.new_empty((0, self.n_helicities)), *parts]).double()
        in_order = every / every.sum(1, keepdim=True)
        return in_order.gather(1, self._index(momenta))

    def training_set(self, momenta: Tensor, shares: Tensor) -> TrainingSet:
        """What the network sees, and what it is to say, from shares (n, n_helicities)."""
        target = torch.empty_like(shares).scatter_(1, self._index(momenta), shares)
        parts = [self.features(momenta[tile])[0] for tile in tiles(len(momenta))]
        return TrainingSet(features=torch.cat(parts).contiguous(), target=target.float())

    def _log_q(self, features: Tensor) -> Tensor:
        learned = self.network(features)[0].log_softmax(1) + math.log1p(-FLOOR)
        floor = learned.new_tensor(math.log(FLOOR / self.n_helicities))
        return torch.logaddexp(learned, floor)

    def _index(self, momenta: Tensor) -> Tensor:
        """What each configuration of a point is called once its legs are in order: (n, n_helicities)."""
        code = _code(self.features.leg_order(momenta))
        return self.relabelled[torch.searchsorted(self.orders, code)]


class HelicityShares:
    """q(h | point) of each group of a process."""

    def __init__(self, learned: Sequence[GroupShares | None]) -> None:
        """Take one `GroupShares` for each group, None where there were too few points."""
        self._learned = tuple(learned)

    def __call__(self, momenta: Tensor, group: int) -> Tensor | None:
        """q (n, n_helicities) at momenta (n, n_ext, 4), GeV; None where nothing was learned."""
        learned = self._learned[group]
        if learned is None:
            return None
        shares: Tensor = learned(momenta)
        return shares

    def state(self) -> dict[str, Tensor]:
        """All that was learned: named tensors on the CPU that share no memory."""
        return {
            f"{index}.{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for index, learned in enumerate(self._learned)
            if learned is not None
            for name, tensor in learned.state_dict().items()
        }


def start_shares(
    groups: Sequence[SubprocessGroup],
    model: Model,
    helicities: Sequence[Tensor],
    seed: int = 0,
) -> list[GroupShares]:
    """Shares that nothing was learned of, for the configurations (n_helicities, n_ext) of each group."""
    return [
        GroupShares(group, model, configurations, random_stream(seed, "start helicities", index))
        for index, (group, configurations) in enumerate(zip(groups, helicities, strict=True))
    ]


def train_shares(
    learned: Sequence[GroupShares],
    tables: Sequence[tuple[Tensor, Tensor]],
    settings: SurrogateCard,
    seed: int,
    progress: Progress,
) -> HelicityShares:
    """Learn the shares of each group from a table of its own; groups with few points stay unlearned.

    Args:
        tables: for each group, momenta (n, n_ext, 4), GeV, and |M|² of each configuration there,
            (n, n_helicities).

    Raises:
        TrainingFailed: all tables are too small, or the loss is not finite.
    """
    if not any(len(momenta) >= LEAST_POINTS for momenta, _ in tables):
        raise TrainingFailed(
            f"helicities: {max(len(momenta) for momenta, _ in tables)} points of a group: expected "
            f"at least {LEAST_POINTS}"
        )
    found: list[GroupShares | None] = []
    for index, (shares, (momenta, values)) in enumerate(zip(learned, tables, strict=True)):
        if len(momenta) < LEAST_POINTS:
            found.append(None)
            continue
        shares.features.fit(momenta)
        every = shares.training_set(momenta, values / values.sum(1, keepdim=True))
        n = len(every) - round(VALIDATION_SHARE * len(every))
        rng = random_stream(seed, "split helicities", index)
        order = torch.randperm(len(every), generator=rng)
        parts = [
            TrainingSet(features=every.features[i], target=every.target[i])
            for i in (order[:n], order[n:])
        ]
        train(shares, parts[0], parts[1], _settings(settings), seed, progress)
        found.append(shares)
    return HelicityShares(found)


def restore_shares(
    groups: Sequence[SubprocessGroup],
    model: Model,
    helicities: Sequence[Tensor],
    state: Mapping[str, Tensor],
) -> HelicityShares:
    """The shares that `HelicityShares.state` was taken from.

    Raises:
        PackError: the state is not one of this process.
    """
    found: list[GroupShares | None] = []
    for index, shares in enumerate(start_shares(groups, model, helicities)):
        prefix = f"{index}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not own:
            found.append(None)
            continue
        try:
            shares.load_state_dict(own)
        except RuntimeError as error:
            raise PackError(
                f"the helicities of {groups[index].name} do not fit the process: {error}"
            ) from error
        found.append(shares)
    return HelicityShares(found)


def seconds_to_train(learned: Sequence[GroupShares], settings: SurrogateCard) -> float:
    """Wall-clock seconds that learning all groups would take, from a few steps on noise."""
    total = 0.0
    wanted = _settings(settings)
    rng = torch.Generator().manual_seed(0)
    for shares in learned:
        features = torch.randn(wanted.batch_size, shares.features.n_features, generator=rng)
        target = torch.rand(wanted.batch_size, shares.n_helicities, generator=rng)
        total += wanted.n_steps * seconds_a_step(
            shares, TrainingSet(features=features, target=target), wanted.learning_rate
        )
    return total


def _settings(settings: SurrogateCard) -> SurrogateCard:
    """Those of a surrogate, as shares are trained."""
    return replace(settings, n_steps=N_STEPS, boost=0.0, learning_rate=LEARNING_RATE)


def _relabelled(pdg_ids: Sequence[int], helicities: Tensor) -> tuple[Tensor, Tensor]:
    """What configurations are called when identical legs change places.

    Returns:
        orders: (n_orders,), ascending, of each order of the legs its `_code`.
        relabelled: (n_orders, n_helicities), for each configuration the index of the one whose leg i has
            the helicity of leg order[i]; as they are where there is no such one.
    """
    sides = (pdg_ids[:2], pdg_ids[2:])
    places: list[list[tuple[int, ...]]] = []
    for start, side in zip((0, 2), sides, strict=True):
        every = itertools.permutations(range(len(side)))
        kept = [
            order for order in every if all(side[i] == p for i, p in zip(order, side, strict=True))
        ]
        places.append([tuple(start + i for i in order) for order in kept])
    orders = torch.tensor([first + last for first, last in itertools.product(*places)])
    codes, ascending = _code(orders).sort()
    index_of = {tuple(labels): index for index, labels in enumerate(helicities.tolist())}
    rows = []
    for order in orders[ascending].tolist():
        row = [index_of.get(tuple(labels), -1) for labels in helicities[:, order].tolist()]
        rows.append(row if -1 not in row else list(range(len(row))))
    return codes, torch.tensor(rows)


def _code(order: Tensor) -> Tensor:
    """A number (n,) for each order of the legs (n, n_ext)."""
    n_ext = order.shape[1]
    return (order * n_ext ** torch.arange(n_ext, device=order.device)).sum(1)
