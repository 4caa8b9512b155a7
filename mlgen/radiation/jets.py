"""Events of a hard object and any number of jets: what radiation models learn from and generate.

The hard object stands first: one massive system, such as a pair of muons. Jets follow in falling pt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.physics.kinematics import mass_squared, pt


@dataclass(frozen=True, kw_only=True, slots=True)
class JetEvents:
    """A batch of events; rows with fewer than n_max jets are filled with zeros."""

    hard: Tensor
    """(n, 4), (E, px, py, pz) of the hard object in GeV, float64."""
    jets: Tensor
    """(n, n_max, 4), likewise, in falling pt; 0 beyond `n_jets`."""
    n_jets: Tensor
    """(n,), int64."""

    def __post_init__(self) -> None:
        n = len(self.n_jets)
        expected = {
            "hard": (tuple(self.hard.shape), (n, 4)),
            "jets": (tuple(self.jets.shape), (n, *self.jets.shape[1:2], 4)),
            "n_jets": (tuple(self.n_jets.shape), (n,)),
        }
        for name, (got, shape) in expected.items():
            if got != shape:
                raise MlgenError(f"{name} = a tensor {got}: expected {shape}")

    def __len__(self) -> int:
        return len(self.n_jets)

    @property
    def n_max(self) -> int:
        """How many jets there is room for."""
        return self.jets.shape[1]

    @property
    def is_jet(self) -> Tensor:
        """Which of the rows of `jets` are no filler: bool (n, n_max)."""
        return torch.arange(self.n_max, device=self.n_jets.device) < self.n_jets[:, None]

    def select(self, index: Tensor | slice) -> Self:
        """The events at an index, mask or slice."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def padded(self, n_max: int) -> Self:
        """The same events with room for n_max jets.

        Raises:
            MlgenError: an event has more.
        """
        most = int(self.n_jets.max()) if len(self) else 0
        if most > n_max:
            raise MlgenError(f"n_max = {n_max}: expected at least {most}, as an event has them")
        filler = self.jets.new_zeros(len(self), max(0, n_max - self.n_max), 4)
        return replace(self, jets=torch.cat([self.jets[:, :n_max], filler], dim=1))

    def up_to(self, n_max: int) -> Self:
        """The events that have at most n_max jets, with room for no more."""
        return self.select(self.n_jets <= n_max).padded(n_max)

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """The batches joined in their order, with room for the most jets that one of them has room for."""
        n_max = max(batch.n_max for batch in batches)
        padded = [batch.padded(n_max) for batch in batches]
        return cls(
            **{f.name: torch.cat([getattr(part, f.name) for part in padded]) for f in fields(cls)}
        )


def from_cylindrical(pt: Tensor, phi: Tensor, eta: Tensor, mass: Tensor) -> Tensor:
    """Momenta (..., 4) in GeV from pt (GeV), azimuth, pseudorapidity and mass (GeV)."""
    pz = pt * eta.sinh()
    energy = (pt.square() + pz.square() + mass.square()).sqrt()
    return torch.stack([energy, pt * phi.cos(), pt * phi.sin(), pz], dim=-1)


def from_rapidity(pt: Tensor, phi: Tensor, rapidity: Tensor, mass: Tensor) -> Tensor:
    """Momenta (..., 4) in GeV from pt (GeV), azimuth, rapidity and mass (GeV)."""
    transverse_mass = torch.hypot(pt, mass)
    energy, pz = transverse_mass * rapidity.cosh(), transverse_mass * rapidity.sinh()
    return torch.stack([energy, pt * phi.cos(), pt * phi.sin(), pz], dim=-1)


def check_jet_events(events: JetEvents, pt_min: float) -> None:
    """Refuse what no model of radiation can learn from.

    Raises:
        MlgenError: a number is not finite, a mass is not positive, a jet is not above pt_min (GeV) or
            harder than the one before, or filler is not 0; the message names the event.
    """
    is_jet, jet_pt = events.is_jet, pt(events.jets)
    outside = (events.n_jets < 0) | (events.n_jets > events.n_max)
    _refuse(outside, "n_jets", events.n_jets, f"0 to {events.n_max}")
    for name, momenta in (("hard", events.hard), ("jets", events.jets)):
        _refuse(~momenta.isfinite(), name, momenta, "a finite number of GeV")
    hard_pt, hard_m2 = pt(events.hard), mass_squared(events.hard)
    _refuse(hard_pt <= 0, "pt of hard", hard_pt, "a positive one (GeV)")
    _refuse(hard_m2 <= 0, "mass squared of hard", hard_m2, "a positive one (GeV²)")
    _refuse(is_jet & (jet_pt <= pt_min), "pt of jets", jet_pt, f"more than {pt_min:g} GeV")
    m2 = mass_squared(events.jets)
    _refuse(is_jet & (m2 <= 0), "mass squared of jets", m2, "a positive one (GeV²)")
    before = torch.nn.functional.pad(jet_pt, (1, 0), value=math.inf)[:, :-1]
    _refuse(is_jet & (jet_pt > before), "pt of jets", jet_pt, "falling pt")
    filled = events.jets.abs().sum(-1)
    _refuse(~is_jet & (filled > 0), "jets beyond n_jets", filled, "zeros")


def _refuse(wrong: Tensor, name: str, values: Tensor, expected: str) -> None:
    """Name the first of the wrong values."""
    if bool(wrong.any()):
        where = tuple(wrong.nonzero()[0].tolist())
        place = "".join(f"[{index}]" for index in where)
        raise MlgenError(f"{name}{place} = {float(values[where]):g}: expected {expected}")
