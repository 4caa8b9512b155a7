"""The transverse momentum that a hard object gets from all radiation, given its rapidity and mass.

At lowest order a Z has none. Radiation gives it some before the jets are known, and they follow it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.core import Progress, random_stream
from mlgen.errors import PackError, TrainingFailed
from mlgen.radiation.conditionals import Gaussians
from mlgen.radiation.linear import Linear
from mlgen.radiation.representation import ETA, LOG_M2, LOG_PT

N_HIDDEN = 32
N_COMPONENTS = 8
N_STEPS = 1000
BATCH_SIZE = 512
LEARNING_RATE = 3e-3


class HardPt(nn.Module):
    """A mixture of normal densities of the first column of hard objects, given the third and fourth."""

    def __init__(self, rng: torch.Generator) -> None:
        """Start at random."""
        super().__init__()
        self._mixture = Gaussians(N_COMPONENTS)
        self.first = Linear(2, N_HIDDEN, rng)
        self.second = Linear(N_HIDDEN, N_HIDDEN, rng)
        self.last = Linear(N_HIDDEN, self._mixture.n_parameters, rng, scale=0.1)
        with torch.no_grad():
            self.last.bias.copy_(self._mixture.first_parameters())

    def log_prob(self, columns: Tensor) -> Tensor:
        """ln of the density of the first column of hard objects (n, 4): (n,)."""
        columns = columns.to(self.last.weight.dtype)
        value = columns[:, LOG_PT]
        return self._mixture.log_prob(self._mixture_at(columns), value)

    @torch.no_grad()
    def sample(self, columns: Tensor, rng: torch.Generator) -> Tensor:
        """Hard objects (n, 4) with a first column drawn, whatever they had."""
        parameters = self._mixture_at(columns.to(self.last.weight.dtype))
        found = columns.clone()
        found[:, LOG_PT] = self._mixture.sample(parameters, rng)
        return found

    def state(self) -> dict[str, Tensor]:
        """All that was learned, by name."""
        return dict(self.state_dict())

    @classmethod
    def restore(cls, state: Mapping[str, Tensor]) -> HardPt:
        """The network that `state` is of.

        Raises:
            PackError: names, shapes or numbers are not those of such a network.
        """
        network = cls(torch.Generator().manual_seed(0))
        wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
        if {name: tensor.shape for name, tensor in state.items()} != wanted:
            raise PackError(f"tensors of the hard object's pt: expected {wanted}")
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise PackError("tensors of the hard object's pt: expected finite numbers")
        network.load_state_dict(dict(state))
        return network.eval()

    def _mixture_at(self, columns: Tensor) -> Tensor:
        seen = columns[:, [ETA, LOG_M2]]
        hidden = F.silu(self.second(F.silu(self.first(seen))))
        found: Tensor = self.last(hidden)
        return found


def learn_hard_pt(columns: Tensor, seed: int, progress: Progress) -> HardPt:
    """Maximise the likelihood of hard objects (n, 4), as columns of a `Representation`.

    Raises:
        TrainingFailed: the loss is not finite.
    """
    network = HardPt(random_stream(seed, "start hard pt", 0))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_STEPS)
    rng = random_stream(seed, "train hard pt", 0)
    with progress.step("training the pt of the hard object", N_STEPS) as advance:
        for step in range(N_STEPS):
            index = torch.randint(len(columns), (min(BATCH_SIZE, len(columns)),), generator=rng)
            loss = -network.log_prob(columns[index]).mean()
            if not bool(loss.isfinite()):
                raise TrainingFailed(
                    f"loss = {float(loss)} at step {step} of the hard object's pt: expected a finite number"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            advance(1, "")
    return network.eval()
