"""What is known of |M|² where unstable particles decay to the final legs: their Breit-Wigner peaks.

Each diagram has as factors the propagators of its resonances, and of the photons in their places,

    |P(s)|² = 1 / [(s - m²)² + m² Γ²],

which a network that sees ln s cannot follow: a Z is 3 % wide. Couplings and interference are left to
the network; next to a peak the largest propagator is all that matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlgen.core import SubprocessGroup
from mlgen.physics.diagrams import Diagram, Propagator, group_diagrams
from mlgen.physics.model import Model
from mlgen.surrogates.invariants import Virtualities

MAX_TERMS = 64
"""With more terms than these the sum costs more than the network."""


class Line(NamedTuple):
    """A propagator that final legs come from."""

    legs: tuple[int, ...]
    mass_gev: float
    width_gev: float
    """0 of a photon, or another massless boson without colour."""

    @property
    def is_resonance(self) -> bool:
        """Whether it has a peak of finite width."""
        return self.width_gev > 0


def decay_lines(group: SubprocessGroup, model: Model) -> list[tuple[Line, ...]]:
    """The resonances and photons of each diagram, each set once; none where there is no resonance.

    A resonance is heavier than its decay products together.
    """
    known = {tuple(sorted(vertex.particles)) for vertex in model.vertices()}
    diagrams = [
        diagram
        for diagram in group_diagrams(group, model.ufo_folder)
        if known.issuperset(diagram.vertices)  # others vanish at these parameters
    ]
    masses = [model.mass_gev(pdg_id) for pdg_id in group.pdg_ids[0]]
    sets = dict.fromkeys(_lines_of(diagram, masses, model) for diagram in diagrams)
    found = sorted(sets, key=lambda lines: (len(lines), lines))
    return found if any(line.is_resonance for lines in found for line in lines) else []


def _lines_of(diagram: Diagram, masses: Sequence[float], model: Model) -> tuple[Line, ...]:
    lines = (_line(propagator, masses, model) for propagator in diagram.propagators)
    return tuple(sorted(line for line in lines if line is not None))


def _line(propagator: Propagator, masses: Sequence[float], model: Model) -> Line | None:
    if propagator.is_spacelike:
        return None
    legs = tuple(sorted(propagator.legs))
    mass, width = model.mass_gev(propagator.pdg_id), model.width_gev(propagator.pdg_id)
    particle = model.particles[propagator.pdg_id]
    is_photon = mass == 0 and particle.colour == 1 and particle.spin % 2 == 1
    is_resonance = width > 0 and sum(masses[leg] for leg in legs) < mass
    return Line(legs, mass, width) if is_photon or is_resonance else None


class Resonances(nn.Module):
    """Features that resolve peaks, and ln of a sum over diagrams of products of propagators."""

    squared_mass: Tensor
    mass_width: Tensor
    terms: Tensor

    def __init__(self, diagrams: Sequence[tuple[Line, ...]], masses: Sequence[float]) -> None:
        """Take what `decay_lines` finds, and the masses of all legs, GeV."""
        super().__init__()
        lines = _distinct(line for term in diagrams for line in term)
        self.n_resonances = sum(line.is_resonance for line in lines)
        self.virtualities = Virtualities([line.legs for line in lines], masses)
        squared = torch.tensor([line.mass_gev**2 for line in lines], dtype=torch.float64)
        width = torch.tensor([line.mass_gev * line.width_gev for line in lines]).double()
        kept = diagrams if len(diagrams) <= MAX_TERMS else [()]
        terms = [[float(line in term) for line in lines] for term in kept]
        self.register_buffer("squared_mass", squared[:, None])
        self.register_buffer("mass_width", width[:, None])
        self.register_buffer("terms", torch.tensor(terms, dtype=torch.float64))

    def forward(self, products: Tensor) -> tuple[Tensor, Tensor]:
        """Two features of each resonance (2 n_resonances, n), and ln of the propagators (n,).

        The features are ln of [(s - m²)² + m² Γ²] / m⁴ and the cosine of the propagator's phase,
        (s - m²) |P(s)|. Each propagator is multiplied with s for its decay and with s_hat, so that
        it has no dimension.

        Args:
            products: of pairs of legs, (n_pairs, n), GeV².
        """
        virtuality = self.virtualities(products)
        offset = virtuality - self.squared_mass
        modulus_square = offset.square() + self.mass_width.square()
        log_inverse = modulus_square.log()
        log_propagators = (virtuality * products[0]).log() - log_inverse
        log_sum = (self.terms @ log_propagators).logsumexp(0)
        own = slice(self.n_resonances)
        heights = log_inverse[own] - 2 * self.squared_mass[own].log()
        # Not its arc tangent, which ONNX Runtime lacks in double precision (1.31).
        phases = offset[own] / modulus_square[own].sqrt()
        return torch.cat([heights, phases]), log_sum


def _distinct(lines: Iterable[Line]) -> list[Line]:
    """Each line once, resonances first."""
    return sorted(set(lines), key=lambda line: (not line.is_resonance, line))
