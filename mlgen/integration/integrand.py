"""What a phase-space point of a process weighs: cuts, luminosity and matrix element joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from mlgen.core import (
    GEV2_PB,
    Amplitude,
    AmplitudeValue,
    Cut,
    Evaluation,
    PartonDensity,
    PhaseSpace,
    PhaseSpacePoints,
    RunningCoupling,
    Scales,
    SubprocessGroup,
)
from mlgen.errors import NonFiniteWeight
from mlgen.integration.channel_features import ChannelFeatures
from mlgen.samplers.channel_weights import ResidualWeights


@dataclass(frozen=True, kw_only=True)
class ProcessEvaluation(Evaluation):
    """The values of a process, and where they were computed."""

    points: PhaseSpacePoints
    squared: AmplitudeValue | None = None
    """|M|² (n,) of each point, 0 outside the cuts; None where it was not computed."""


class One:
    """The amplitude with |M|² = 1."""

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        return AmplitudeValue(value=torch.ones_like(alpha_s), std=torch.zeros_like(alpha_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessIntegrand:
    """A process as an `Integrand`: dsigma / dr in pb, summed over the flavours of each group.

    sigma = sum over flavours of the integral of
    f_a(x1, mu_f) f_b(x2, mu_f) / (2 s_hat) |M|² dx1 dx2 dPhi_n.
    """

    groups: tuple[SubprocessGroup, ...]
    phase_space: PhaseSpace
    cut: Cut
    scales: Scales
    density: PartonDensity | None
    """Of either beam, which are alike where there is one; None for lepton beams."""
    coupling: RunningCoupling
    amplitude: Amplitude
    channel_features: ChannelFeatures | None = None
    """What learned channel weights see of a point; None where nothing is learned."""
    drop_below: float = 0.0
    """Channels with a smaller share of the cross section are dropped once a grid is adapted."""

    @property
    def n_dim(self) -> int:
        return self.phase_space.n_dim

    @property
    def n_flat(self) -> int:
        return self.phase_space.n_flat

    @property
    def n_channels(self) -> int:
        return len(self.phase_space.channels)

    def __call__(self, r: Tensor, channel: Tensor) -> ProcessEvaluation:
        return self.weight(self.phase_space.forward(r, channel), self.amplitude)

    def weight(self, points: PhaseSpacePoints, amplitude: Amplitude) -> ProcessEvaluation:
        """The integrand at given points, with a given amplitude.

        Raises:
            NonFiniteWeight: with the momenta, where a weight is NaN or infinite.
        """
        # A cut takes NaN for a point outside: look for it before.
        exists = points.log_jac != -torch.inf
        known = points.log_jac + points.momenta.sum((1, 2))
        self.check_finite(known.where(exists, torch.zeros_like(known)), points)
        passed = exists
        for group, at in self.by_group(points.channel):
            passed[at] &= self.cut(points.momenta[at], group)
        inside = passed.nonzero()[:, 0]
        value = torch.zeros_like(points.log_jac)
        chosen = points.select(inside)
        log_prior, seen = self._prior(chosen)
        squared, per_squared = self._inside(chosen, log_prior, amplitude)
        value[inside] = squared.value * per_squared
        self.check_finite(value, points)
        features = None
        if seen is not None:
            features = seen.new_zeros((len(points), seen.shape[1]))
            features[inside] = seen
        return ProcessEvaluation(
            value=value,
            points=points,
            n_calls=int((squared.std == 0).sum()),
            features=features,
            squared=_scattered(squared, inside, len(points)),
        )

    @property
    def per_squared(self) -> Self:
        """The same with |M|² = 1: what points weigh for each unit of their |M|², at no matrix element."""
        return replace(self, amplitude=One())

    def squared(self, points: PhaseSpacePoints, amplitude: Amplitude) -> AmplitudeValue:
        """|M|² at points inside the cuts, with a given amplitude and the couplings of the process."""
        value, std = torch.empty_like(points.log_jac), torch.empty_like(points.log_jac)
        for group, at in self.by_group(points.channel):
            momenta = points.momenta[at]
            found = amplitude(momenta, self.alpha_s(momenta, group), group)
            value[at], std[at] = found.value, found.std
        return AmplitudeValue(value=value, std=std)

    def alpha_s(self, momenta: Tensor, group: int) -> Tensor:
        """The strong coupling (n,) at the momenta (n, n_ext, 4), GeV, of one group."""
        mu_r, _ = self.scales(momenta, group)
        return self.coupling(mu_r.square())

    def _prior(self, points: PhaseSpacePoints) -> tuple[Tensor, Tensor | None]:
        """ln of the prior share of each point's channel (n,), and the features (n, k) if asked for."""
        if self.channel_features is None:
            return self.phase_space.log_prior(points), None
        own, every = self.phase_space.log_shares(points)
        group = self._group_of_channel(points.channel.device)[points.channel]
        return own, self.channel_features(points, group, every)

    def _inside(
        self, points: PhaseSpacePoints, log_prior: Tensor, amplitude: Amplitude
    ) -> tuple[AmplitudeValue, Tensor]:
        """|M|² at points inside the cuts, and the integrand (n,) for each unit of it."""
        luminosity = torch.empty_like(points.log_jac)
        value, std = torch.empty_like(luminosity), torch.empty_like(luminosity)
        for group, at in self.by_group(points.channel):
            mine = points.select(at)
            mu_r, mu_f = self.scales(mine.momenta, group)
            found = amplitude(mine.momenta, self.coupling(mu_r.square()), group)
            value[at], std[at] = found.value, found.std
            luminosity[at] = self._luminosities(mine, mu_f, group).sum(-1)
        s_hat = 4 * points.momenta[:, 0, 0] * points.momenta[:, 1, 0]
        density = (points.log_jac + log_prior).exp()
        per_squared = GEV2_PB * luminosity * density / (2 * s_hat)
        return AmplitudeValue(value=value, std=std), per_squared

    def start_weights(self, rng: torch.Generator) -> ResidualWeights | None:
        """Channel weights to be learned, which start as the prior; None where nothing is learned."""
        if self.channel_features is None:
            return None
        shape = self.channel_features.n_shares, self.channel_features.n_features
        return ResidualWeights(self._group_of_channel(torch.device("cpu")), *shape, rng)

    def small_channels(self, integrals: Tensor) -> tuple[int, ...]:
        """Channels whose share of the cross section is below `drop_below`, but for the largest of each group.

        Args:
            integrals: (n_channels,), pb.
        """
        share = integrals.abs() / integrals.abs().sum()
        group = self._group_of_channel(share.device)
        largest = share.new_zeros(len(self.groups)).scatter_reduce(0, group, share, "amax")
        is_small = (share < self.drop_below) & (share < largest[group])
        return tuple(is_small.nonzero()[:, 0].tolist())

    def without(self, channels: Sequence[int]) -> Self:
        """The same cross section, shared among the other channels; these have the value 0.

        No region is lost: the ranges of a map come from energies, masses and cuts, whatever its
        diagrams, so that each map reaches every point inside the cuts.
        """
        return replace(self, phase_space=self.phase_space.without(channels)) if channels else self

    def flavour_weights(self, points: PhaseSpacePoints, group: int) -> Tensor:
        """What each flavour assignment contributes, up to a common factor: (n, n_flavours)."""
        return self._luminosities(points, self.scales(points.momenta, group)[1], group)

    def _luminosities(self, points: PhaseSpacePoints, mu_f: Tensor, group: int) -> Tensor:
        """f_a(x1, mu_f) f_b(x2, mu_f) of each flavour assignment: (n, n_flavours)."""
        flavours = self.groups[group].pdg_ids
        if self.density is None:
            return mu_f.new_ones((len(points), len(flavours)))
        q2 = mu_f.square()
        per_beam = [
            self.density.xfx([ids[beam] for ids in flavours], points.x[:, beam].contiguous(), q2)
            for beam in (0, 1)
        ]
        return per_beam[0] * per_beam[1] / points.x.prod(-1, keepdim=True)

    def by_group(self, channel: Tensor) -> Sequence[tuple[int, Tensor]]:
        """Each group that occurs, with the indices of its points."""
        group = self._group_of_channel(channel.device)[channel]
        counts = group.bincount(minlength=len(self.groups)).tolist()
        parts = torch.split(group.argsort(stable=True), counts)
        return [(index, part) for index, part in enumerate(parts) if len(part)]

    def _group_of_channel(self, device: torch.device) -> Tensor:
        return torch.tensor([c.group for c in self.phase_space.channels], device=device)

    def check_finite(self, value: Tensor, points: PhaseSpacePoints) -> None:
        """See that all values (n,) of points are finite.

        Raises:
            NonFiniteWeight: with the momenta, where one is NaN or infinite.
        """
        finite = value.isfinite()
        if bool(finite.all()):
            return
        index = int((~finite).nonzero()[0])
        group = self.groups[self.phase_space.channels[int(points.channel[index])].group]
        raise NonFiniteWeight(
            f"weight = {float(value[index])}: expected a finite weight (pb); {group.name} at "
            f"(E, px, py, pz) in GeV = {points.momenta[index].tolist()}"
        )


def _scattered(squared: AmplitudeValue, inside: Tensor, n: int) -> AmplitudeValue:
    """The values of the points at an index, 0 for the others of n."""
    nothing = squared.value.new_zeros(n)
    return AmplitudeValue(
        value=nothing.index_put((inside,), squared.value),
        std=nothing.index_put((inside,), squared.std),
    )
