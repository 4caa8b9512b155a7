"""Accepted points become events: flavours, helicities and a colour flow are picked for each."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlgen.core import (
    EventBatch,
    PhaseSpacePoints,
    PicksHelicity,
    ResolvedAmplitude,
    RunningCoupling,
)
from mlgen.events.record import Picks, assemble
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.second_step import ALL, ExactSquared
from mlgen.physics.model import Model
from mlgen.physics.variations import Reweighting


@dataclass(frozen=True, kw_only=True, slots=True)
class EventPicker:
    """What it takes to complete an event beside its momenta."""

    integrand: ProcessIntegrand
    amplitude: ResolvedAmplitude
    model: Model
    reweighting: Reweighting = field(default_factory=Reweighting)
    """What the further weights of each event are."""

    def __call__(
        self,
        points: PhaseSpacePoints,
        weight: Tensor,
        rng: torch.Generator,
        known: ExactSquared | None = None,
    ) -> EventBatch:
        """The events of accepted points, in their order.

        Flavours are picked in proportion to their part of the weight, the helicities in
        proportion to their part of the full-colour |M|², and the colour flow, given those, in
        proportion to its leading-colour |M|². The further weights of the event follow from its
        flavours.

        Args:
            points: n accepted points.
            weight: (n,), relative or in pb: see `EventBatch.weight`.
            known: the exact |M|² of the n points, some of which may have their helicity by it; None:
                it is computed where it is needed.

        Raises:
            MatrixElementError: the helicities of a point do not sum to its |M|².
        """
        batches, indices = [], []
        first_alike = self._first_alike().to(points.channel.device)[points.channel]
        for channel in torch.unique(first_alike).tolist():
            at = (first_alike == channel).nonzero()[:, 0]
            mine = None if known is None else known.select(at)
            batches.append(self._of_channel(channel, points.select(at), weight[at], rng, mine))
            indices.append(at)
        if not batches:
            n_variations = len(self.reweighting.variations)
            return _no_events(points.momenta.shape[1], n_variations, points.momenta.device)
        return EventBatch.concatenate(batches).select(torch.cat(indices).argsort())

    def _first_alike(self) -> Tensor:
        """For each channel the first of its group with its resonances, int64 (n_channels,).

        Their points are completed together: matrix elements want many points at a time.
        """
        channels = self.integrand.phase_space.channels
        kinds: dict[Hashable, int] = {}
        firsts = [
            kinds.setdefault((channel.group, channel.resonances), index)
            for index, channel in enumerate(channels)
        ]
        return torch.tensor(firsts)

    def _of_channel(
        self,
        index: int,
        points: PhaseSpacePoints,
        weight: Tensor,
        rng: torch.Generator,
        known: ExactSquared | None,
    ) -> EventBatch:
        channel = self.integrand.phase_space.channels[index]
        group = self.integrand.groups[channel.group]
        scales = self.integrand.scales(points.momenta, channel.group)
        mu_r, mu_f = scales
        coupling: RunningCoupling = self.integrand.coupling
        alpha_s = coupling(mu_r.square())
        momenta, amplitude = points.momenta, self.amplitude
        flavour = _pick(self.integrand.flavour_weights(points, channel.group), rng)
        helicity = _helicity(amplitude, momenta, alpha_s, known, channel.group, rng)
        flow = _pick(amplitude.colour_flow_values(momenta, alpha_s, helicity, channel.group), rng)
        ratios = self.reweighting.ratios(group, flavour, points.x, scales, coupling)
        picks = Picks(
            flavour=flavour,
            helicity=amplitude.helicities(channel.group).to(momenta.device)[helicity],
            colour=amplitude.colour_flows(channel.group).to(momenta.device)[flow],
            weight=weight,
            variations=weight[:, None] * ratios,
            scale=mu_f,
            alpha_s=alpha_s,
        )
        masses = [0.0, 0.0, *(self.model.mass_gev(p) for p in group.pdg_ids[0][2:])]
        return assemble(
            points,
            group,
            picks,
            momenta.new_tensor(masses),
            self.model.alpha_em,
            channel.resonances,
        )


def _helicity(
    amplitude: ResolvedAmplitude,
    momenta: Tensor,
    alpha_s: Tensor,
    known: ExactSquared | None,
    group: int,
    rng: torch.Generator,
) -> Tensor:
    """An index into the configurations of the group for each point, (n,), picked where it is not known."""
    if known is None:
        return pick_helicity(amplitude, momenta, alpha_s, None, group, rng)
    at = (known.helicity == ALL).nonzero()[:, 0]
    picked = pick_helicity(amplitude, momenta[at], alpha_s[at], known.value[at], group, rng)
    return known.helicity.index_put((at,), picked)


def pick_helicity(
    amplitude: ResolvedAmplitude,
    momenta: Tensor,
    alpha_s: Tensor,
    squared: Tensor | None,
    group: int,
    rng: torch.Generator,
) -> Tensor:
    """An index into the configurations of a group for each point, (n,), in proportion to their |M|².

    Args:
        squared: (n,), the exact |M|²; None: it is computed where it is needed.

    Raises:
        MatrixElementError: the helicities of a point do not sum to its |M|².
    """
    if not isinstance(amplitude, PicksHelicity):
        return _pick(amplitude.helicity_values(momenta, alpha_s, group), rng)
    total = amplitude(momenta, alpha_s, group).value if squared is None else squared
    uniform = torch.rand(len(momenta), generator=rng, dtype=torch.float64).to(momenta.device)
    return amplitude.pick_helicity(momenta, alpha_s, total, uniform, group)


def _pick(values: Tensor, rng: torch.Generator) -> Tensor:
    """One column of each row (n, k), with probability in proportion to its value: (n,).

    A value of the other sign than its row's sum, as a fitted density may have where it is tiny, is
    never picked.
    """
    if values.shape[1] == 1:
        return torch.zeros(len(values), dtype=torch.int64, device=values.device)
    shares = (values * values.sum(1, keepdim=True).sign()).clamp(min=0)
    cumulative = shares.cumsum(1)
    uniform = torch.rand((len(values), 1), generator=rng, dtype=torch.float64).to(values.device)
    threshold = uniform * cumulative[:, -1:]
    # A column of value 0 has the edge of the one before it, and so is never the first above.
    return (cumulative <= threshold).sum(1).clamp(max=values.shape[1] - 1)


def _no_events(n_ext: int, n_variations: int, device: torch.device) -> EventBatch:
    integers = torch.zeros((0, n_ext), dtype=torch.int64, device=device)
    pairs = torch.zeros((0, n_ext, 2), dtype=torch.int64, device=device)
    reals = torch.zeros((0, n_ext), dtype=torch.float64, device=device)
    per_event = torch.zeros(0, dtype=torch.float64, device=device)
    return EventBatch(
        pdg_id=integers,
        status=integers,
        mothers=pairs,
        colour=pairs,
        momenta=torch.zeros((0, n_ext, 4), dtype=torch.float64, device=device),
        mass=reals,
        spin=reals,
        weight=per_event,
        scale=per_event,
        alpha_em=per_event,
        alpha_s=per_event,
        variations=torch.zeros((0, n_variations), dtype=torch.float64, device=device),
    )
