"""The likelihood of jets that follow a hard object, factorised: arXiv:2305.10475, section 2 of arXiv:2412.12074.

    ln p(x_1 ... x_n | x_0) = sum_i ln p_kin(x_i | x_0 ... x_(i-1))
                            + sum_(i < n) ln P_split(x_0 ... x_i) + ln [1 - P_split(x_0 ... x_n)]

One causal transformer reads particles. Its output at particle i gives P_split, and is what a second one
starts from, which reads the four numbers of particle i + 1 in turn: each is drawn from a mixture that
depends on those before. All likelihoods of an event take one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlgen.errors import PackError
from mlgen.radiation.conditionals import Conditional, Gaps, Gaussians, VonMises, in_turn
from mlgen.radiation.linear import VariationalLinear, linear
from mlgen.radiation.past import (
    N_BALANCE,
    N_CENTRES,
    N_NEIGHBOUR,
    Past,
    balance,
    centres,
    directions,
    gaps,
    neighbours,
    sizes,
    transverse_sums,
    upper_ends,
)
from mlgen.radiation.representation import ETA, LOG_M2, LOG_PT, N_COLUMNS, PHI, Particles, Scales
from mlgen.radiation.settings import NetworkSettings
from mlgen.radiation.transformer import Transformer

SCALES = Scales(20.0, 2.5, 1.0, 9.0, 1.0, 2.5, 1.0, 2.0, 0.4)
"""`Representation.scales` of a network that nobody trains."""
EXACT = ("scales",)
"""What of a network's state must not be rounded: where densities end depends on it."""
FIRST_OVERLAP = -3.0
"""ln of the density of jets within the radius of others over what it would be without them, about."""


class Terms(NamedTuple):
    """What a likelihood is made of."""

    log_kin: Tensor
    """(n, n_max), ln p_kin of each jet; 0 for filler."""
    split: Tensor
    """(n, 1 + n_max), the logit of P_split after each particle; anything for filler."""


class Neighbours(nn.Module):
    """The sum over earlier jets of what each is to the next one, whatever their number and order."""

    def __init__(self, n_channels: int, rng: torch.Generator, variational: bool) -> None:
        super().__init__()
        self.first = linear(N_NEIGHBOUR, n_channels, rng, variational=variational)
        self.second = linear(n_channels, n_channels, rng, 0.5, variational)

    def forward(self, seen: Tensor, is_jet: Tensor) -> Tensor:
        """(n, n_channels) of `neighbours` (n, n_rows, N_NEIGHBOUR), of which is_jet (n, n_rows) count."""
        hidden = F.silu(self.first(seen)).masked_fill(~is_jet[..., None], 0.0)
        found: Tensor = self.second(hidden.sum(1))
        return found


class RadiationNetwork(nn.Module):
    """The two transformers. Single precision inside, columns of `Representation` outside."""

    scales: Tensor
    """(9,), `Representation.scales`: with these, transverse momenta can be added."""

    def __init__(
        self, settings: NetworkSettings, rng: torch.Generator, scales: Sequence[float] = SCALES
    ) -> None:
        """Start at random."""
        super().__init__()
        self.settings = settings
        self.register_buffer("scales", torch.tensor(scales, dtype=torch.float32))
        n_channels = settings.n_channels
        size = (n_channels, settings.n_blocks, settings.n_heads)
        all_layers, last = settings.variational == "all", settings.variational != "none"
        # Inputs: azimuths as their cosine and sine.
        self.read_hard = linear(N_COLUMNS + 1, n_channels, rng, variational=all_layers)
        self.read_jet = linear(N_COLUMNS + 1 + N_BALANCE, n_channels, rng, variational=all_layers)
        self.particles = Transformer(*size, rng, all_layers)
        self.split = linear(n_channels, 1, rng, scale=0.1, variational=last)
        self.read_number = nn.ModuleList(
            linear(n_in, n_channels, rng, variational=all_layers) for n_in in (1, 1, 2, 1)
        )
        self.near = nn.ModuleList(Neighbours(n_channels, rng, all_layers) for _ in (ETA, LOG_M2))
        self.numbers = Transformer(*size, rng, all_layers)
        n = settings.n_components
        self.conditionals: list[Conditional] = [
            Gaussians(n),
            VonMises(n),
            Gaussians(n, N_CENTRES),
            Gaussians(n),
        ]
        self.overlap = nn.Parameter(torch.full((1,), FIRST_OVERLAP))
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
        context = self._contexts(columns, n_jets)
        split = self.split(context)[..., 0]
        is_jet = torch.arange(n_max, device=n_jets.device) < n_jets[:, None]
        event, number = is_jet.nonzero(as_tuple=True)
        past = Past(columns[event], number + 1)
        found = self.log_kin(context[:, :-1][is_jet], columns[:, 1:][is_jet], past)
        log_kin = found.new_zeros(is_jet.shape).masked_scatter(is_jet, found)
        return Terms(log_kin, split)

    def _contexts(self, columns: Tensor, n_jets: Tensor) -> Tensor:
        """What the first transformer says at each particle, (n, 1 + n_max, n_channels); 0 for some filler."""
        has_jets = n_jets > 0
        alone = self.particles(self.embed(columns[~has_jets, :1]))
        beside = self.particles(self.embed(columns[has_jets]))
        found = beside.new_zeros(*columns.shape[:2], beside.shape[-1])
        found[:, :1] = found[:, :1].index_put((~has_jets,), alone)
        together: Tensor = found.index_put((has_jets,), beside)
        return together

    def embed(self, columns: Tensor) -> Tensor:
        """What the first transformer sees of particles (n, 1 + n_max, 4): (n, 1 + n_max, n_channels)."""
        columns = columns.float()
        hard = self.read_hard(_with_angles(columns[:, :1]))
        sums = transverse_sums(columns, self.scales)[:, 1:]
        jets = self.read_jet(torch.cat([_with_angles(columns[:, 1:]), balance(sums)], dim=-1))
        return torch.cat([hard, jets], dim=1)

    def embed_number(
        self, context: Tensor, column: int, before: Sequence[Tensor], past: Past
    ) -> Tensor:
        """What the second transformer sees before a column is drawn: (n, n_channels).

        Args:
            context: (n, n_channels), what the first one says of all particles before.
            before: (n,) each, the columns before this one.
        """
        value = before[-1] if before else torch.zeros_like(context[:, 0])
        seen = value.float()[:, None]
        seen = _with_angles(seen) if column == PHI + 1 else seen
        found: Tensor = context + self.read_number[column](seen)
        if column >= ETA:
            found = found + self.near[column - ETA](neighbours(past, before).float(), past.is_jet)
        return found

    def mixture(self, column: int, hidden: Tensor, before: Sequence[Tensor], past: Past) -> Tensor:
        """Parameters of the density of a column: (n, n_parameters).

        Some components of pt are around what balances all or the scale of the hard object, some of the
        azimuth around directions of others, some of eta around jets that are near.

        Args:
            hidden: (n, n_channels), what the second transformer says.
        """
        found: Tensor = self.mixtures[column](hidden)
        if column == LOG_PT:
            found = self.conditionals[column].moved(found, sizes(past, self.scales))
        if column == PHI:
            found = self.conditionals[column].moved(found, directions(past, self.scales))
        if column == ETA:
            found = self.conditionals[column].moved(found, centres(past, before[PHI]))
        return found

    def limits(
        self, column: int, before: Sequence[Tensor], past: Past
    ) -> tuple[Tensor | None, Gaps | None]:
        """Where components of pt end, (n, n_components), and where jets would overlap with others."""
        if column == LOG_PT:
            ends = upper_ends(past, sizes(past, self.scales))
            return in_turn(ends, self.settings.n_components), None
        if column == ETA:
            return None, gaps(past, before[PHI], self.scales, F.logsigmoid(self.overlap)[0])
        return None, None

    def log_kin(self, context: Tensor, columns: Tensor, past: Past) -> Tensor:
        """ln p_kin (n,) of jets (n, 4), given what was read before them (n, n_channels)."""
        drawn = columns.unbind(-1)
        rows = [self.embed_number(context, k, drawn[:k], past) for k in range(N_COLUMNS)]
        hidden = self.numbers(torch.stack(rows, dim=1))
        total = torch.zeros_like(drawn[0])
        for column, conditional in enumerate(self.conditionals):
            parameters = self.mixture(column, hidden[:, column], drawn[:column], past)
            limits = self.limits(column, drawn[:column], past)
            total = total + conditional.log_prob(parameters, drawn[column], *limits)
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
