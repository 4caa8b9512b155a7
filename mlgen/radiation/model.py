"""The likelihood of jets that follow a hard object, factorised: arXiv:2305.10475, section 2 of arXiv:2412.12074.

    ln p(x_1 ... x_n | x_0) = sum_i ln p_kin(x_i | x_0 ... x_(i-1))
                            + sum_(i < n) ln P_split(x_0 ... x_i) + ln [1 - P_split(x_0 ... x_n)]

One causal transformer reads particles. Its output at particle i gives P_split, and is what a second one
starts from, which reads the four numbers of particle i + 1 in turn: each is drawn from a mixture that
depends on those before. All likelihoods of an event take one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.errors import PackError
from mlgen.radiation.conditionals import UNBOUNDED, Conditional, Gaussians, VonMises
from mlgen.radiation.linear import VariationalLinear, linear
from mlgen.radiation.representation import LOG_PT, N_COLUMNS, PHI, Particles
from mlgen.radiation.settings import NetworkSettings
from mlgen.radiation.transformer import Transformer


class Terms(NamedTuple):
    """What a likelihood is made of."""

    log_kin: Tensor
    """(n, n_max), ln p_kin of each jet; 0 for filler."""
    split: Tensor
    """(n, 1 + n_max), the logit of P_split after each particle; anything for filler."""


class RadiationNetwork(nn.Module):
    """The two transformers. Single precision inside, columns of `Representation` outside."""

    def __init__(self, settings: NetworkSettings, rng: torch.Generator) -> None:
        """Start at random."""
        super().__init__()
        self.settings = settings
        n_channels = settings.n_channels
        size = (n_channels, settings.n_blocks, settings.n_heads)
        all_layers, last = settings.variational == "all", settings.variational != "none"
        # Inputs: azimuths as their cosine and sine.
        self.read_hard = linear(N_COLUMNS + 1, n_channels, rng, variational=all_layers)
        self.read_jet = linear(N_COLUMNS + 1, n_channels, rng, variational=all_layers)
        self.particles = Transformer(*size, rng, all_layers)
        self.split = linear(n_channels, 1, rng, scale=0.1, variational=last)
        self.read_number = nn.ModuleList(
            linear(n_in, n_channels, rng, variational=all_layers) for n_in in (1, 1, 2, 1)
        )
        self.numbers = Transformer(*size, rng, all_layers)
        self.conditionals: list[Conditional] = [
            (VonMises if column == PHI else Gaussians)(settings.n_components)
            for column in range(N_COLUMNS)
        ]
        self.mixtures = nn.ModuleList()
        for conditional in self.conditionals:
            head = linear(n_channels, conditional.n_parameters, rng, scale=0.1, variational=last)
            with torch.no_grad():
                head.bias.copy_(conditional.first_parameters())
            self.mixtures.append(head)

    def log_prob(self, particles: Particles) -> Tensor:
        """ln p of the jets in columns, given the hard object, and of there being no more: float64 (n,)."""
        terms: Terms = self(particles.columns, particles.n_jets)
        counts = torch.arange(terms.split.shape[1], device=terms.split.device)
        split = terms.split.double()
        goes_on = torch.where(counts < particles.n_jets[:, None], F.logsigmoid(split), 0.0)
        stops = F.logsigmoid(-split.gather(1, particles.n_jets[:, None])[:, 0])
        found: Tensor = terms.log_kin.double().sum(-1) + goes_on.sum(-1) + stops
        return found

    def forward(self, columns: Tensor, n_jets: Tensor) -> Terms:
        """The terms of the likelihood of columns (n, 1 + n_max, 4) with n_jets (n,)."""
        columns, n_max = columns.float(), columns.shape[1] - 1
        context = self.particles(self.embed(columns))
        split = self.split(context)[..., 0]
        is_jet = torch.arange(n_max, device=n_jets.device) < n_jets[:, None]
        upper = columns[:, :-1, LOG_PT].clone()
        upper[:, :1] = UNBOUNDED
        found = self.log_kin(context[:, :-1][is_jet], columns[:, 1:][is_jet], upper[is_jet])
        log_kin = found.new_zeros(is_jet.shape).masked_scatter(is_jet, found)
        return Terms(log_kin, split)

    def embed(self, columns: Tensor) -> Tensor:
        """What the first transformer sees of particles (n, 1 + n_max, 4)."""
        hard = self.embed_hard(columns[:, 0])[:, None]
        return torch.cat([hard, self.embed_jet(columns[:, 1:])], dim=1)

    def embed_hard(self, columns: Tensor) -> Tensor:
        """(n, n_channels) of hard objects (n, 4)."""
        found: Tensor = self.read_hard(_with_angles(columns.float()))
        return found

    def embed_jet(self, columns: Tensor) -> Tensor:
        """(..., n_channels) of jets (..., 4)."""
        found: Tensor = self.read_jet(_with_angles(columns.float()))
        return found

    def embed_number(self, context: Tensor, column: int, value: Tensor | None) -> Tensor:
        """What the second transformer sees before a column is drawn: (n, n_channels).

        Args:
            context: (n, n_channels), what the first one says of all particles before.
            value: (n,), the column before this one; None for the first one.
        """
        if value is None:
            value = torch.zeros_like(context[:, 0])
        seen = value.float()[:, None]
        seen = _with_angles(seen) if column == PHI + 1 else seen
        found: Tensor = context + self.read_number[column](seen)
        return found

    def log_kin(self, context: Tensor, columns: Tensor, upper: Tensor) -> Tensor:
        """ln p_kin (n,) of jets (n, 4), given what was read before them (n, n_channels).

        Args:
            upper: (n,), what the first column stays below.
        """
        before = [None, *columns.unbind(-1)[:-1]]
        rows = [self.embed_number(context, column, x) for column, x in enumerate(before)]
        hidden = self.numbers(torch.stack(rows, dim=1))
        total = torch.zeros_like(upper)
        for column, conditional in enumerate(self.conditionals):
            parameters = self.mixtures[column](hidden[:, column])
            end = upper if column == LOG_PT else None
            total = total + conditional.log_prob(parameters, columns[:, column], end)
        return total

    def divergence(self) -> Tensor:
        """KL of the distributions of weights from their priors, a scalar; 0 where there are none."""
        layers = [m for m in self.modules() if isinstance(m, VariationalLinear)]
        return torch.stack([torch.zeros(()), *(layer.divergence() for layer in layers)]).sum()

    def state(self) -> dict[str, Tensor]:
        """All that was learned, by name."""
        return dict(self.state_dict())

    @classmethod
    def restore(cls, settings: NetworkSettings, state: Mapping[str, Tensor]) -> RadiationNetwork:
        """The network that `state` is of.

        Raises:
            PackError: names, shapes or numbers are not those of such a network.
        """
        network = cls(settings, torch.Generator().manual_seed(0))
        wanted = network.state_dict()
        for name in sorted(wanted.keys() | state.keys()):
            got, shape = state.get(name), wanted.get(name)
            if got is None or shape is None or got.shape != shape.shape:
                found, expected = ("none" if t is None else tuple(t.shape) for t in (got, shape))
                raise PackError(f"tensor {name} = {found}: expected {expected}")
            if not bool(got.isfinite().all()):
                raise PackError(f"tensor {name} = NaN or infinite: expected finite numbers")
        network.load_state_dict(dict(state))
        return network.eval()


def _with_angles(columns: Tensor) -> Tensor:
    """(..., k + 1) of columns (..., k): the azimuth, the second or the only one, as cosine and sine."""
    at = min(PHI, columns.shape[-1] - 1)
    azimuth = columns[..., at : at + 1]
    parts = [columns[..., :at], azimuth.cos(), azimuth.sin(), columns[..., at + 1 :]]
    return torch.cat(parts, dim=-1)
