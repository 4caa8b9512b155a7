"""Jets of final particles, by anti-kt (arXiv:0802.1189) from FastJet (arXiv:1111.6097), many events at once."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlgen.errors import CardError, MissingExtra
from mlgen.radiation.jets import JetEvents, from_cylindrical, from_rapidity

MASSLESS = 0.1
"""GeV: a smaller mass is one of rounding, or of two photons."""
SINGLE_LOG_MASS = (math.log(0.6), 0.4)
"""Mean and standard deviation of ln m, m in GeV, that jets of one particle are given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JetDefinition:
    """Which jets an event has."""

    radius: float = 0.4
    pt_min_gev: float = 20.0
    abs_eta_max: float = 5.0

    def __post_init__(self) -> None:
        for option, value in (
            ("--radius", self.radius),
            ("--pt-min", self.pt_min_gev),
            ("--eta-max", self.abs_eta_max),
        ):
            if not (math.isfinite(value) and value > 0):
                raise CardError(f"{option} {value:g}: expected a positive number")


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactEvents:
    """Hard objects and jets in float32, without filler.

    As pt, phi, rapidity (of a jet: pseudorapidity) and m; the mass cannot be had from E and p in
    float32, whose rounding is larger than the mass of most jets.
    """

    hard: Tensor
    """(n, 4), pt and m in GeV."""
    jets: Tensor
    """(n_jets of all events, 4), likewise, those of an event in falling pt."""
    n_jets: Tensor
    """(n,), uint8."""

    def __len__(self) -> int:
        return len(self.n_jets)

    def to_events(self) -> JetEvents:
        """The same as four-momenta in float64."""
        n_jets = self.n_jets.long()
        n_max = int(n_jets.max()) if len(n_jets) else 0
        jets = torch.zeros(len(n_jets), n_max, 4, dtype=torch.float64)
        jets[torch.arange(n_max) < n_jets[:, None]] = from_cylindrical(*self.jets.double().T)
        return JetEvents(hard=from_rapidity(*self.hard.double().T), jets=jets, n_jets=n_jets)


def cluster(
    hard: np.ndarray[Any, Any], particles: Any, definition: JetDefinition, rng: torch.Generator
) -> CompactEvents:
    """The jets of events beside their hard objects.

    A jet of a single parton has the mass of that, one of a few numbers, which no density describes: it
    is given one at random, of the size that it would have after hadronisation. It carries no physics.

    Args:
        hard: (n, 4), (E, px, py, pz) in GeV.
        particles: what is clustered, as an awkward array of n lists with fields px, py, pz and E.
        rng: for masses of jets of a single particle.

    Raises:
        MissingExtra: fastjet is not installed.
    """
    momenta, n_particles, event = _anti_kt(particles, definition)
    columns = _columns(momenta, _masses(momenta, n_particles, rng), is_hard=False)
    is_jet = columns[:, 0] > definition.pt_min_gev
    is_jet &= columns[:, 2].abs() < definition.abs_eta_max
    columns, event = columns[is_jet], event[is_jet]
    # By pt, then by event, where the sort by event keeps the order.
    by_pt = columns[:, 0].argsort(descending=True, stable=True)
    order = by_pt[event[by_pt].argsort(stable=True)]
    systems = torch.from_numpy(hard)
    return CompactEvents(
        hard=_columns(systems, _mass(systems), is_hard=True),
        jets=columns[order],
        n_jets=torch.bincount(event, minlength=len(hard)).to(torch.uint8),
    )


def _anti_kt(particles: Any, definition: JetDefinition) -> tuple[Tensor, Tensor, Tensor]:
    """Jets of all events: momenta (k, 4), how many particles each is made of (k,), and its event (k,)."""
    import awkward as ak

    fastjet = _fastjet()
    sequence = fastjet.ClusterSequence(
        particles, fastjet.JetDefinition(fastjet.antikt_algorithm, definition.radius)
    )
    # A little below, so that rounding to float32 decides once, and for what is stored.
    lower = definition.pt_min_gev * (1 - 1e-6)
    found = sequence.inclusive_jets(min_pt=lower)
    n_found = ak.to_numpy(ak.num(found))
    n_particles = ak.flatten(ak.num(sequence.constituent_index(min_pt=lower), axis=2))
    columns = [ak.to_numpy(ak.flatten(found[name])) for name in ("E", "px", "py", "pz")]
    event = np.repeat(np.arange(len(n_found)), n_found)
    momenta = torch.from_numpy(np.stack(columns, axis=-1))
    return momenta, torch.from_numpy(ak.to_numpy(n_particles)), torch.from_numpy(event)


def _columns(momenta: Tensor, mass: Tensor, is_hard: bool) -> Tensor:
    """pt, phi, rapidity or pseudorapidity, and m: (n, 4), float32."""
    energy, x, y, z = momenta.unbind(-1)
    pt = torch.hypot(x, y)
    along = torch.atanh(z / energy) if is_hard else torch.asinh(z / pt)
    return torch.stack([pt, torch.atan2(y, x), along, mass], dim=-1).float()


def _mass(momenta: Tensor) -> Tensor:
    m2 = momenta[:, 0].square() - momenta[:, 1:].square().sum(-1)
    return m2.clamp(min=0).sqrt()


def _masses(momenta: Tensor, n_particles: Tensor, rng: torch.Generator) -> Tensor:
    mean, std = SINGLE_LOG_MASS
    # torch 2.13: randn gives another beginning where there are more numbers, rand does not.
    uniform = torch.rand(len(momenta), generator=rng, dtype=torch.float64)
    drawn = (mean + std * torch.special.ndtri(uniform)).exp()
    mass = _mass(momenta)
    return torch.where((n_particles == 1) | (mass < MASSLESS), drawn, mass)


def _fastjet() -> Any:
    """FastJet, without its banner: standard output is for results, and the documentation cites it."""
    if importlib.util.find_spec("fastjet") is None:
        raise MissingExtra("fastjet is not installed: pip install 'mlgen-hep[radiation]'")
    import fastjet
    from fastjet import _swig  # 3.5.2: the banner can be turned off nowhere else

    _swig.ClusterSequence.set_fastjet_banner_stream(None)
    return fastjet
