"""How a hard object stands once all radiation is there, given what a hard process says of it.

At lowest order a Z has no transverse momentum, and beside one parton it balances that parton exactly.
Jets are learned given the hard object as it is in the end. These small densities lead from the one to the
other: its mass and rapidity stay; its transverse momentum and, beside a jet, the angle to it are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.core import Progress, random_stream
from mlgen.errors import PackError, TrainingFailed
from mlgen.radiation.conditionals import Gaussians, VonMises
from mlgen.radiation.linear import Linear
from mlgen.radiation.representation import ETA, LOG_M2, LOG_PT, PHI

N_HIDDEN = 32
N_COMPONENTS = 8
N_STEPS = 1500
BATCH_SIZE = 512
LEARNING_RATE = 3e-3


class Perceptron(nn.Module):
    """Two hidden layers, to the parameters of a mixture."""

    def __init__(self, n_in: int, first: Tensor, rng: torch.Generator) -> None:
        """Start at random, near the parameters `first`."""
        super().__init__()
        self.first = Linear(n_in, N_HIDDEN, rng)
        self.second = Linear(N_HIDDEN, N_HIDDEN, rng)
        self.last = Linear(N_HIDDEN, len(first), rng, scale=0.1)
        with torch.no_grad():
            self.last.bias.copy_(first)

    def forward(self, seen: Tensor) -> Tensor:
        """Parameters (n, n_parameters) at what is seen (n, n_in)."""
        found: Tensor = self.last(F.silu(self.second(F.silu(self.first(seen.float())))))
        return found


class HardObject(nn.Module):
    """Densities of columns of the hard object and of the first jet: see `Representation`."""

    def __init__(self, rng: torch.Generator) -> None:
        """Start at random."""
        super().__init__()
        self._pt, self._angle = Gaussians(N_COMPONENTS), VonMises(N_COMPONENTS)
        self.alone = Perceptron(2, self._pt.first_parameters(), rng)
        self.beside_jet = Perceptron(4, self._pt.first_parameters(), rng)
        self.to_jet = Perceptron(5, self._angle.first_parameters(), rng)

    def log_prob_alone(self, hard: Tensor) -> Tensor:
        """ln of the density of the first column of hard objects (n, 4), given the others: (n,)."""
        return self._pt.log_prob(self.alone(_own(hard)), hard[:, LOG_PT].float())

    def log_prob_beside(self, hard: Tensor, jet: Tensor) -> Tensor:
        """ln of the density of that and of the azimuth of first jets (n, 4), given all else: (n,)."""
        seen = _beside(hard, jet)
        log_pt = self._pt.log_prob(self.beside_jet(seen), hard[:, LOG_PT].float())
        parameters = self.to_jet(torch.cat([seen, hard[:, LOG_PT : LOG_PT + 1]], dim=1))
        return log_pt + self._angle.log_prob(parameters, jet[:, PHI].float())

    @torch.no_grad()
    def sample_alone(self, hard: Tensor, rng: torch.Generator) -> Tensor:
        """Hard objects (n, 4) with a first column drawn, whatever they had."""
        found = hard.clone()
        found[:, LOG_PT] = self._pt.sample(self.alone(_own(hard)), rng)
        return found

    @torch.no_grad()
    def sample_beside(
        self, hard: Tensor, jet: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The same beside first jets (n, 4), with the azimuth between them drawn."""
        hard, jet, seen = hard.clone(), jet.clone(), _beside(hard, jet)
        hard[:, LOG_PT] = self._pt.sample(self.beside_jet(seen), rng)
        parameters = self.to_jet(torch.cat([seen, hard[:, LOG_PT : LOG_PT + 1]], dim=1))
        jet[:, PHI] = self._angle.sample(parameters, rng)
        return hard, jet

    def state(self) -> dict[str, Tensor]:
        """All that was learned, by name."""
        return dict(self.state_dict())

    @classmethod
    def restore(cls, state: Mapping[str, Tensor]) -> Self:
        """What `state` is of.

        Raises:
            PackError: names, shapes or numbers are not those of such a network.
        """
        network = cls(torch.Generator().manual_seed(0))
        wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
        if {name: tensor.shape for name, tensor in state.items()} != wanted:
            raise PackError(f"tensors of the hard object: expected {wanted}")
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise PackError("tensors of the hard object: expected finite numbers")
        network.load_state_dict(dict(state))
        return network.eval()


def learn_hard_object(columns: Tensor, n_jets: Tensor, seed: int, progress: Progress) -> HardObject:
    """Maximise the likelihood of the hard objects and first jets of events.

    Args:
        columns: (n, 1 + n_max, 4), of a `Representation`.
        n_jets: (n,).

    Raises:
        TrainingFailed: the loss is not finite.
    """
    network = HardObject(random_stream(seed, "start hard object", 0))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_STEPS)
    rng = random_stream(seed, "train hard object", 0)
    hard, with_jet = columns[:, 0], n_jets.nonzero()[:, 0]
    with progress.step("training the hard object", N_STEPS) as advance:
        for step in range(N_STEPS):
            loss = -network.log_prob_alone(hard[_some(len(hard), rng)]).mean()
            if len(with_jet):
                index = with_jet[_some(len(with_jet), rng)]
                loss = loss - network.log_prob_beside(hard[index], columns[index, 1]).mean()
            if not bool(loss.isfinite()):
                raise TrainingFailed(
                    f"loss = {float(loss)} at step {step} of the hard object: expected a finite number"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            advance(1, "")
    return network.eval()


def _some(n: int, rng: torch.Generator) -> Tensor:
    """Indices of a batch of n."""
    return torch.randint(n, (min(BATCH_SIZE, n),), generator=rng)


def _own(hard: Tensor) -> Tensor:
    """What stays of hard objects (n, 4): (n, 2)."""
    return hard[:, [ETA, LOG_M2]]


def _beside(hard: Tensor, jet: Tensor) -> Tensor:
    """That, and what stays of first jets (n, 4): (n, 4)."""
    return torch.cat([_own(hard), jet[:, [LOG_PT, ETA]]], dim=1)
