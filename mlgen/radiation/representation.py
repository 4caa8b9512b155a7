"""Events as networks see them: four numbers a particle, the hard object first, then the jets.

The choice of section 4 of arXiv:2305.10475 and section 3 of arXiv:2412.12074: ln(pt - pt_min), the azimuth
relative to the hard object, pseudorapidity and ln m², all but the azimuth standardised. This is the
only place that knows it, in both directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.physics.kinematics import eta, mass_squared, phi, pt, rapidity
from mlgen.radiation.jets import JetEvents, check_jet_events, from_cylindrical, from_rapidity

N_COLUMNS = 4
LOG_PT, PHI, ETA, LOG_M2 = range(N_COLUMNS)
"""The columns of a particle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Particles:
    """A batch of events as columns; the azimuth of the hard object is apart, since nothing depends on it."""

    columns: Tensor
    """(n, 1 + n_max, 4), float64: the hard object, whose second column is 0, then jets; 0 beyond `n_jets`."""
    n_jets: Tensor
    """(n,), int64."""
    azimuth: Tensor
    """(n,), phi of the hard object in (-pi, pi]."""

    def __len__(self) -> int:
        return len(self.n_jets)

    @property
    def is_particle(self) -> Tensor:
        """Which rows are no filler: bool (n, 1 + n_max)."""
        n_rows = self.columns.shape[1]
        return torch.arange(n_rows, device=self.n_jets.device) <= self.n_jets[:, None]

    def select(self, index: Tensor | slice) -> Self:
        """The events at an index, mask or slice."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Standard:
    """Location and scale of each column of a kind of particle; (0, 1) for the azimuth."""

    mean: tuple[float, float, float, float]
    std: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        for name, std in zip(("pt", "phi", "eta", "mass"), self.std, strict=True):
            if not (math.isfinite(std) and std > 0):
                raise MlgenError(f"spread of {name} = {std}: expected a positive number")

    @classmethod
    def of(cls, columns: Tensor) -> Self:
        """Of the columns (n, 4) of particles that models are to learn from."""
        mean, std = columns.mean(0), columns.std(0)
        mean[PHI], std[PHI] = 0, 1
        return cls(mean=tuple(mean.tolist()), std=tuple(std.tolist()))

    def apply(self, columns: Tensor) -> Tensor:
        return (columns - columns.new_tensor(self.mean)) / columns.new_tensor(self.std)

    def undo(self, columns: Tensor) -> Tensor:
        return columns * columns.new_tensor(self.std) + columns.new_tensor(self.mean)

    @property
    def log_scale(self) -> float:
        """ln of the product of the scales."""
        return sum(map(math.log, self.std))


class Scales(NamedTuple):
    """What relates columns to each other: numbers, or tensors of one."""

    pt_min: float
    """GeV, of jets."""
    hard_mean: float
    hard_std: float
    """Location and scale of ln pt of the hard object."""
    mass_mean: float
    mass_std: float
    """Of its ln m²."""
    mean: float
    std: float
    """Of ln(pt - pt_min) of jets."""
    eta_std: float
    """Scale of pseudorapidity of jets."""
    radius: float
    """Of jets, see `Representation`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Representation:
    """An invertible map between events and columns; for JSON, `dataclasses.asdict` has all of it.

    The hard object has no pt_min, and rapidity in place of pseudorapidity, which diverges at small pt.
    All jets share one standardisation, so that one more than was ever seen is no other kind of thing.
    """

    pt_min: float
    """GeV, of jets."""
    hard: Standard
    jets: Standard
    radius: float = 0.0
    """Of anti-kt jets, which are hardly ever nearer to each other; 0: any distance."""

    @property
    def scales(self) -> Scales:
        """What relates columns to each other."""
        hard, jets = self.hard, self.jets
        return Scales(
            self.pt_min,
            hard.mean[LOG_PT],
            hard.std[LOG_PT],
            hard.mean[LOG_M2],
            hard.std[LOG_M2],
            jets.mean[LOG_PT],
            jets.std[LOG_PT],
            jets.std[ETA],
            self.radius,
        )

    @classmethod
    def of(cls, events: JetEvents, pt_min: float, radius: float = 0.0) -> Self:
        """Standardised by the events that models are to learn from, whose jets have a radius.

        Raises:
            MlgenError: see `check_jet_events`; there are too few events or jets for a spread.
        """
        check_jet_events(events, pt_min)
        hard, jets = _hard_columns(events), _jet_columns(events, pt_min)
        for name, found in (("events", hard), ("jets", jets)):
            if len(found) < 2:
                raise MlgenError(f"{name} = {len(found)}: expected at least two to learn from")
        standards = {"hard": Standard.of(hard), "jets": Standard.of(jets)}
        return cls(pt_min=pt_min, radius=radius, **standards)

    def encode(self, events: JetEvents) -> Particles:
        """The columns of events.

        Raises:
            MlgenError: see `check_jet_events`.
        """
        check_jet_events(events, self.pt_min)
        columns = events.jets.new_zeros(len(events), 1 + events.n_max, N_COLUMNS)
        columns[:, 0] = self.hard.apply(_hard_columns(events))
        columns[:, 1:][events.is_jet] = self.jets.apply(_jet_columns(events, self.pt_min))
        return Particles(columns=columns, n_jets=events.n_jets, azimuth=phi(events.hard))

    def decode(self, particles: Particles) -> JetEvents:
        """The events that columns describe, jets in the order that they have."""
        azimuth = particles.azimuth
        columns = self.hard.undo(particles.columns[:, 0].double())
        mass = (0.5 * columns[:, LOG_M2]).exp()
        hard = from_rapidity(columns[:, LOG_PT].exp(), azimuth, columns[:, ETA], mass)
        is_jet = particles.is_particle[:, 1:]
        columns = self.jets.undo(particles.columns[:, 1:].double()[is_jet])
        jet_azimuth = columns[:, PHI] + azimuth[:, None].expand_as(is_jet)[is_jet]
        jets = hard.new_zeros(*is_jet.shape, 4)
        jets[is_jet] = from_cylindrical(
            self.pt_min + columns[:, LOG_PT].exp(),
            jet_azimuth,
            columns[:, ETA],
            (0.5 * columns[:, LOG_M2]).exp(),
        )
        return JetEvents(hard=hard, jets=jets, n_jets=particles.n_jets)

    def log_jac(self, particles: Particles) -> Tensor:
        """ln |d columns / d physical variables| of each particle: (n, 1 + n_max), 0 for filler.

        Physical are pt, y and m of the hard object; pt, phi, eta and m of a jet. To ln of a density in
        columns this is added for that in physical variables.
        """
        hard = self.hard.undo(particles.columns[:, :1].double())
        jets = self.jets.undo(particles.columns[:, 1:].double())
        # d ln(pt - pt_min) / d pt = 1 / (pt - pt_min), and d ln m² / dm = 2 / m.
        log_jac = [
            math.log(2) - 0.5 * kind[..., LOG_M2] - kind[..., LOG_PT] - standard.log_scale
            for kind, standard in ((hard, self.hard), (jets, self.jets))
        ]
        return torch.where(particles.is_particle, torch.cat(log_jac, dim=1), 0.0)


def _hard_columns(events: JetEvents) -> Tensor:
    """(n, 4), before they are standardised."""
    p = events.hard
    return torch.stack(
        [pt(p).log(), torch.zeros_like(p[:, 0]), rapidity(p), mass_squared(p).log()], dim=-1
    )


def _jet_columns(events: JetEvents, pt_min: float) -> Tensor:
    """(n_jets of all events, 4), before they are standardised."""
    p = events.jets[events.is_jet]
    azimuth = phi(events.hard)[:, None].expand_as(events.is_jet)[events.is_jet]
    relative = torch.remainder(phi(p) - azimuth + math.pi, 2 * math.pi) - math.pi
    return torch.stack([(pt(p) - pt_min).log(), relative, eta(p), mass_squared(p).log()], dim=-1)
