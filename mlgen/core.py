"""The types that the rooms of mlgen meet in, in the order in which an event flows through them.

    u (n, d) uniform -> Sampler -> r, log_q -> PhaseSpace -> momenta, log_jac -> Cut
    -> PartonDensity -> Amplitude = weight (pb) -> estimate, unweight -> EventBatch -> a file

Units are GeV, radians and pb; kinematics, densities and weights are float64 tensors, batched
over the first axis, on the device of their input. Incoming particles come first. A *channel*
is a pair (subprocess group, topology); its index is what samplers are conditioned on.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

GEV2_PB = 0.389379372e9
"""(ħc)² in GeV² pb (CODATA 2018): dsigma[pb] = GEV2_PB * dsigma[GeV^-2]."""


def random_stream(seed: int, purpose: str, chunk: int, device: str = "cpu") -> torch.Generator:
    """The random numbers of one chunk of work, keyed by (seed, purpose, chunk).

    Two chunks never share a stream, whichever worker computes them and in whichever order.
    """
    key = hashlib.blake2b(f"{seed}/{purpose}/{chunk}".encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(key, "little") >> 1)


# --- what is generated -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SubprocessGroup:
    """Flavour assignments that share one |M|², as a function of the momenta of its legs.

    The first leg is not always the parton from the first beam: where the beams are alike, the
    mirrored assignment is the same event turned by pi about the x axis, so that its first leg
    moves along -z. `n_orientations` counts the two.
    """

    name: str
    """The first flavour assignment, for people: `u u~ > e+ e- g`."""
    pdg_ids: tuple[tuple[int, ...], ...]
    """Each assignment's PDG ids, (n_flavours, n_ext), two incoming first; the provider computes the first."""
    n_orientations: int = 1
    """2 where the mirrored beam assignment belongs to the group, else 1."""
    qcd_order: int = 0
    """The power of g_s in the amplitude: |M|² goes as alpha_s to this power."""
    qed_order: int = 0
    """The power of e in the amplitude."""

    @property
    def n_ext(self) -> int:
        return len(self.pdg_ids[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Resonance:
    """An intermediate particle that decays to some of the final legs."""

    pdg_id: int
    legs: tuple[int, ...]
    """Indices of its decay products among the external legs, incoming first."""
    mass_gev: float
    width_gev: float
    colour: int = 1
    """Its representation of SU(3): 1, 3, -3 (an antitriplet) or 8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """One map of the unit cube to phase space, for the points of one group."""

    group: int
    topology: str
    """The order in which the final state is built up, for people: `(e+ e-)Z g`."""
    n_members: int = 1
    """How many maps it stands for: those that the exchange of identical particles relates."""
    resonances: tuple[Resonance, ...] = ()


# --- u -> r -> momenta -----------------------------------------------------------------------


class ChannelWeights(Protocol):
    """Learned shares of the channels of a group in the integrand."""

    def __call__(self, features: Tensor, channel: Tensor) -> Tensor:
        """ln of the learned share over the prior one, for points in the channels (n,): (n,).

        Args:
            features: (n, k), what the integrand shows of each point; see `Evaluation.features`.
        """


class Sampler(ABC):
    """A normalised density on the unit cube, one for each channel: a map, nothing about training."""

    n_dim: int
    n_channels: int

    @property
    def channel_weights(self) -> ChannelWeights | None:
        """What the integrand of each channel is multiplied with for this sampler; None: nothing."""
        return None

    @abstractmethod
    def forward(self, u: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """Map uniform u (n, n_dim) to r (n, n_dim) in the channels (n,); also ln |dr/du| (n,)."""

    @abstractmethod
    def inverse(self, r: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """Map r (n, n_dim) back to u (n, n_dim); also ln |du/dr| (n,), the log-density of r."""

    def sample(self, channel: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw r (n, n_dim), one point for each entry of channel (n,), and log_q (n,), float64."""
        u = torch.rand(
            len(channel), self.n_dim, generator=rng, dtype=torch.float64, device=rng.device
        ).to(channel.device)
        r, log_jac = self.forward(u, channel)
        return r, -log_jac

    def log_prob(self, r: Tensor, channel: Tensor) -> Tensor:
        """ln q(r | channel), shape (n,)."""
        return self.inverse(r, channel)[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseSpacePoints:
    """A batch of points in phase space."""

    momenta: Tensor
    """(n, n_ext, 4), (E, px, py, pz) in GeV, the order of the group's legs, laboratory frame."""
    x: Tensor
    """(n, 2), the momentum fractions of the two incoming legs; 1 for a lepton beam."""
    channel: Tensor
    """(n,), int64."""
    log_jac: Tensor
    """(n,), ln |dx1 dx2 dPhi_n / dr|, dPhi_n with its (2 pi)^(4-3n); -inf where there is no such point."""

    def __len__(self) -> int:
        return len(self.channel)

    def select(self, index: Tensor) -> Self:
        """The points at an index or mask."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})


class PhaseSpace(ABC):
    """Maps of the unit cube to momenta, one for each channel, and their inverses."""

    n_dim: int
    """Numbers that a sampler may adapt: the first columns of r."""
    n_flat: int
    """Numbers on which the integrand does not depend (azimuth, orientation): the last columns of r."""
    channels: tuple[Channel, ...]

    @abstractmethod
    def forward(self, r: Tensor, channel: Tensor) -> PhaseSpacePoints:
        """Map r (n, n_dim + n_flat) in the channels (n,) to points."""

    @abstractmethod
    def inverse(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        """Map points back to r (n, n_dim + n_flat); also ln |dr / dx1 dx2 dPhi_n| (n,)."""

    @abstractmethod
    def log_prior(self, points: PhaseSpacePoints) -> Tensor:
        """ln of the share of the integrand that a point's own channel takes, (n,).

        Over the channels of a group, the shares of one point of phase space add up to 1; a
        channel that stands for several, related by the exchange of identical particles, has its
        share multiplied by their number.
        """

    @property
    @abstractmethod
    def n_shares(self) -> int:
        """The number of channels of the group that has most."""

    @abstractmethod
    def log_shares(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor]:
        """`log_prior` (n,), and ln of the shares of all channels of each point's group (n, n_shares).

        The latter do not depend on the channel of the point, nor on the order of identical
        particles: a channel that stands for several has their shares together. At each point they
        add up to 1; columns that a group has no channel for are -inf.
        """

    @abstractmethod
    def without(self, channels: Sequence[int]) -> PhaseSpace:
        """The same maps under the same numbers, with shares of 0 for these channels.

        The others of a group take over at each point. That is exact where every map reaches all of
        phase space inside the cuts.

        Raises:
            ValueError: nothing is left of a group.
        """


class Cut(Protocol):
    """A selection of events."""

    def __call__(self, momenta: Tensor, group: int) -> Tensor:
        """Which of the momenta (n, n_ext, 4), GeV, of one group pass: bool (n,)."""


# --- what a point weighs ---------------------------------------------------------------------


class Scales(Protocol):
    """The renormalisation and factorisation scales of an event."""

    def __call__(self, momenta: Tensor, group: int) -> tuple[Tensor, Tensor]:
        """mu_r and mu_f in GeV, each (n,), of the momenta (n, n_ext, 4) of one group."""


class PartonDensity(Protocol):
    """Parton densities of a beam particle."""

    def xfx(self, pdg_ids: Sequence[int], x: Tensor, q2: Tensor) -> Tensor:
        """x f(x, q2) of each parton: (n, len(pdg_ids)), for x (n,) and q2 (n,) in GeV²."""


class RunningCoupling(Protocol):
    """The strong coupling."""

    def __call__(self, q2: Tensor) -> Tensor:
        """alpha_s at q2 in GeV², elementwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AmplitudeValue:
    """|M|² of a batch of points."""

    value: Tensor
    """(n,), GeV^(8 - 2 n_ext): summed over final, averaged over initial helicities and colours, 1/n! for identical particles included."""
    std: Tensor
    """(n,), standard deviation of value; 0 where it is exact."""


@runtime_checkable
class Amplitude(Protocol):
    """|M|², exact or learned. Consumers read `std`, and never ask for a class."""

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        """|M|² at the momenta (n, n_ext, 4), GeV, with the couplings alpha_s (n,), of one group."""


@runtime_checkable
class ResolvedAmplitude(Amplitude, Protocol):
    """An amplitude whose helicities and colour flows can be told apart; asked for accepted events only."""

    def helicities(self, group: int) -> Tensor:
        """The helicity of each leg in each configuration: int64 (n_helicities, n_ext), in units of 1/2 for fermions and 1 for bosons, as in SPINUP."""

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        """|M|² of each configuration, full colour, (n, n_helicities); the rows sum to a constant times |M|²."""

    def colour_flows(self, group: int) -> Tensor:
        """ICOLUP of each leg in each flow: int64 (n_flows, n_ext, 2), tags from 501, 0 for none."""

    def colour_flow_values(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        """Leading-colour |M|² of each flow at the given configurations: (n, n_flows) for helicity (n,), an index into `helicities`."""


@runtime_checkable
class PicksHelicity(ResolvedAmplitude, Protocol):
    """One that picks a configuration for each point in less time than it takes to compute them all."""

    def pick_helicity(
        self, momenta: Tensor, alpha_s: Tensor, total: Tensor, uniform: Tensor, group: int
    ) -> Tensor:
        """An index into `helicities` (n,), in proportion to their values: for total = |M|² (n,) and uniform (n,) in [0, 1)."""


@runtime_checkable
class OneHelicity(ResolvedAmplitude, Protocol):
    """One that computes a single configuration in less time than all of them."""

    def helicity_value(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        """|M|² of a configuration at each point, (n,), for helicity (n,), an index into `helicities`: over all of them it sums to |M|²."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An integrand's values at a batch of r."""

    value: Tensor
    """(n,), the integrand with the Jacobian of its own maps; pb for a physics process; 0 outside cuts."""
    n_calls: int = 0
    """How many matrix elements were computed."""
    features: Tensor | None = None
    """(n, k), what channel weights may depend on; anything where value is 0; None where nothing asks for it."""


EvaluationT = TypeVar("EvaluationT", bound=Evaluation, covariant=True)


class Integrand(Protocol[EvaluationT]):
    """What is integrated over the unit cube, summed over channels."""

    @property
    def n_dim(self) -> int:
        """Numbers that a sampler may adapt: the first columns of r."""

    @property
    def n_flat(self) -> int:
        """Numbers on which the integrand does not depend: the last columns of r."""

    @property
    def n_channels(self) -> int: ...

    def __call__(self, r: Tensor, channel: Tensor) -> EvaluationT:
        """The integrand at r (n, n_dim + n_flat) in the channels (n,)."""


def _no_columns() -> Tensor:
    return torch.empty(0, 0, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingBatch:
    """Points that were paid for, and all that a loss may need of them."""

    r: Tensor
    """(n, n_dim)."""
    channel: Tensor
    """(n,), int64."""
    value: Tensor
    """(n,), the integrand times the Jacobian of its maps."""
    log_q: Tensor
    """(n,), ln of the density that drew r, within its channel."""
    fraction: Tensor
    """(n,), the share of the points that was drawn in this channel."""
    features: Tensor = field(default_factory=_no_columns)
    """(n, k), see `Evaluation.features`; (n, 0) by default."""
    log_share: Tensor = field(default_factory=_no_columns)
    """(n,), ln of the learned share over the prior one, which `value` contains; 0 by default."""

    def __post_init__(self) -> None:
        # The only way to set a field of a frozen dataclass.
        if self.features.shape == (0, 0):
            object.__setattr__(self, "features", self.value.new_empty((len(self), 0)))
        if self.log_share.shape == (0, 0):
            object.__setattr__(self, "log_share", torch.zeros_like(self.value))

    def __len__(self) -> int:
        return len(self.channel)

    def select(self, index: Tensor) -> Self:
        """The points at an index or mask."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})


# --- from weights to files -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """A further weight of each event: that of other scales, or of other parton densities."""

    name: str
    """As in arXiv:2203.08230: `MUR=0.5__MUF=1__LHAPDF=247000`."""
    group: str
    """What it is to be compared with, for people: `scale_variations`."""
    mu_r_factor: float = 1.0
    mu_f_factor: float = 1.0
    pdf_id: int = 0
    """LHAPDF id of the density of both beams; 0 for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EventBatch:
    """Events as the Les Houches record has them; rows shorter than n_max are filled with pdg_id 0."""

    pdg_id: Tensor
    """(n, n_max), int64."""
    status: Tensor
    """(n, n_max), int64: -1 incoming, 2 intermediate, 1 final, 0 filler."""
    mothers: Tensor
    """(n, n_max, 2), int64, counted from 1; 0 for none."""
    colour: Tensor
    """(n, n_max, 2), int64, ICOLUP."""
    momenta: Tensor
    """(n, n_max, 4), (E, px, py, pz) in GeV."""
    mass: Tensor
    """(n, n_max), GeV: the generated mass, PUP(5)."""
    spin: Tensor
    """(n, n_max), float64, SPINUP: the helicity, 9 for unknown."""
    weight: Tensor
    """(n,), u: 1 for an ordinary unweighted event, more for an overweight one, negative for a negative one; for weighted events the weight in pb."""
    scale: Tensor
    """(n,), SCALUP, GeV."""
    alpha_em: Tensor
    """(n,), AQEDUP."""
    alpha_s: Tensor
    """(n,), AQCDUP."""
    variations: Tensor = field(default_factory=_no_columns)
    """(n, n_variations), in the unit of `weight`: what each variation gives instead; (n, 0) by default."""

    def __post_init__(self) -> None:
        if self.variations.shape == (0, 0):
            # The only way to set a field of a frozen dataclass.
            object.__setattr__(self, "variations", self.weight.new_empty((len(self), 0)))

    def __len__(self) -> int:
        return len(self.weight)

    def select(self, index: Tensor | slice) -> Self:
        """The events at an index, mask or slice."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """The batches joined in their order; shorter records are filled up."""
        n_max = max(batch.pdg_id.shape[1] for batch in batches)
        joined = {}
        for column in fields(cls):
            parts = [getattr(batch, column.name) for batch in batches]
            if parts[0].dim() > 1 and column.name != "variations":
                padded = []
                for part in parts:
                    filler = part.new_zeros((len(part), n_max - part.shape[1], *part.shape[2:]))
                    padded.append(torch.cat([part, filler], dim=1))
                parts = padded
            joined[column.name] = torch.cat(parts)
        return cls(**joined)


@dataclass(frozen=True, kw_only=True, slots=True)
class BeamInfo:
    """One beam, as the init block of an event file has it."""

    pdg_id: int
    energy_gev: float
    pdf_id: int
    """LHAPDF id of its density; 0 for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleInfo:
    """What an event file says of itself, beside its events."""

    beams: tuple[BeamInfo, BeamInfo]
    cross_section_pb: float
    cross_section_error_pb: float
    weighted: bool
    """Whether `EventBatch.weight` is a weight in pb rather than a relative one."""
    process: str
    card: str
    """The card that made the sample, as TOML."""
    variations: tuple[Variation, ...] = ()
    """What each column of `EventBatch.variations` is."""
    notes: tuple[tuple[str, str], ...] = ()
    """Further `key = value` lines for the header, in their order."""
    blocks: tuple[tuple[str, str], ...] = ()
    """Further elements of the header that hold text alone, as (tag, text), in their order."""


# --- people ----------------------------------------------------------------------------------


class Progress(Protocol):
    """Where long steps say how far they are."""

    def step(
        self, title: str, total: float
    ) -> AbstractContextManager[Callable[[float, str], None]]:
        """A bar of the given length; call what it yields with (how much more is done, a note)."""


class Clock(Protocol):
    """Where the parts of a run say what their time is spent on."""

    def step(
        self, name: Literal["adapt", "train", "estimate", "surrogate"]
    ) -> AbstractContextManager[None]:
        """Charge what happens inside to this step."""
