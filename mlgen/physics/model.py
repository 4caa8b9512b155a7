"""What a model of particles answers, and what follows at tree level in the Standard Model."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, Self

from mlgen.cards import ModelCard


@dataclass(frozen=True, kw_only=True, slots=True)
class Particle:
    """A particle or antiparticle; what changes with the parameters is asked of the model."""

    pdg_id: int
    name: str
    """As process strings have it."""
    spin: int
    """The number of states 2s + 1 of a massive particle with this spin."""
    colour: int
    """Its representation of SU(3): 1, 3, -3, 8, as UFO counts them."""
    charge: float
    """Electric, in units of e."""
    is_self_conjugate: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Vertex:
    """A vertex, its particles flowing in, in the order that its couplings refer to."""

    particles: tuple[int, ...]
    couplings: tuple[tuple[str, complex], ...]
    """The structure that each coupling multiplies, and the coupling."""
    orders: tuple[tuple[str, int], ...]
    """`(("QED", 1),)`: powers of the coupling constants."""


class Model(Protocol):
    """Particles and couplings, at one point of the space of their parameters."""

    @property
    def ufo_folder(self) -> str:
        """Where the model is defined; empty for the built-in Standard Model."""

    @property
    def particles(self) -> Mapping[int, Particle]:
        """All particles and antiparticles that may be external, by their PDG ids."""

    @property
    def hierarchy(self) -> Mapping[str, int]:
        """How much each coupling order counts where a process asks for the lowest ones."""

    @property
    def alpha_em(self) -> float:
        """The electromagnetic coupling e² / (4 pi)."""

    def conjugate(self, pdg_id: int) -> int:
        """The antiparticle."""

    def mass_gev(self, pdg_id: int) -> float:
        """The mass of a particle, GeV."""

    def width_gev(self, pdg_id: int) -> float:
        """The width of a particle, GeV; 0 for those that the model has stable."""

    def vertices(self) -> tuple[Vertex, ...]:
        """All vertices of physical particles that do not vanish."""

    def external_parameters(self) -> dict[str, float]:
        """The parameters that a UFO model leaves to be chosen, by their names there."""

    def varied(self, rng: random.Random) -> Self:
        """The same model at another point: each input that is not zero made larger, at random."""


def _standard_model_particles() -> dict[int, Particle]:
    found = {}

    def add(pdg_id: int, name: str, antiname: str, spin: int, colour: int, charge: float) -> None:
        self_conjugate = name == antiname
        found[pdg_id] = Particle(
            pdg_id=pdg_id,
            name=name,
            spin=spin,
            colour=colour,
            charge=charge,
            is_self_conjugate=self_conjugate,
        )
        if not self_conjugate:
            anticolour = -3 if colour == 3 else colour
            found[-pdg_id] = replace(
                found[pdg_id], pdg_id=-pdg_id, name=antiname, colour=anticolour, charge=-charge
            )

    for index, quark in enumerate("duscbt"):
        add(index + 1, quark, f"{quark}~", 2, 3, 2 / 3 if quark in "uct" else -1 / 3)
    for index, lepton in enumerate(("e", "mu", "ta")):
        add(11 + 2 * index, f"{lepton}-", f"{lepton}+", 2, 1, -1.0)
        add(12 + 2 * index, f"v{lepton[0]}", f"v{lepton[0]}~", 2, 1, 0.0)
    add(21, "g", "g", 3, 8, 0.0)
    add(22, "a", "a", 3, 1, 0.0)
    add(23, "z", "z", 3, 1, 0.0)
    add(24, "w+", "w-", 3, 1, 1.0)
    add(25, "h", "h", 1, 1, 0.0)
    return found


STANDARD_PARTICLES: Mapping[int, Particle] = _standard_model_particles()
"""The particles of the Standard Model, with MadGraph's names."""

_QUARKS = (1, 2, 3, 4, 5, 6)
_DOUBLETS = ((2, 1), (4, 3), (6, 5), (12, 11), (14, 13), (16, 15))
_G, _A, _Z, _W, _H = 21, 22, 23, 24, 25


@dataclass(frozen=True, slots=True)
class StandardModel:
    """The Standard Model in the (alpha(MZ), G_F, MZ) scheme, with fixed widths."""

    inputs: ModelCard = field(default_factory=ModelCard)

    @property
    def ufo_folder(self) -> str:
        """There is none."""
        return ""

    @property
    def particles(self) -> Mapping[int, Particle]:
        return STANDARD_PARTICLES

    @property
    def hierarchy(self) -> Mapping[str, int]:
        return {"QCD": 1, "QED": 2}

    @property
    def alpha_em(self) -> float:
        return 1 / self.inputs.inverse_alpha_em

    @property
    def electric_charge(self) -> float:
        """e = sqrt(4 pi alpha)."""
        return math.sqrt(4 * math.pi * self.alpha_em)

    @property
    def w_mass_gev(self) -> float:
        """M_W² = M_Z²/2 [1 + sqrt(1 - sqrt(8) pi alpha / (G_F M_Z²))]."""
        inputs = self.inputs
        ratio = math.sqrt(8) * math.pi * self.alpha_em
        ratio /= inputs.fermi_constant_per_gev2 * inputs.z_mass_gev**2
        return inputs.z_mass_gev * math.sqrt((1 + math.sqrt(1 - ratio)) / 2)

    @property
    def sin2_theta_w(self) -> float:
        """sin² of the weak mixing angle, 1 - M_W² / M_Z²."""
        return 1 - self.w_mass_gev**2 / self.inputs.z_mass_gev**2

    def conjugate(self, pdg_id: int) -> int:
        """The antiparticle."""
        return pdg_id if self.particles[pdg_id].is_self_conjugate else -pdg_id

    def mass_gev(self, pdg_id: int) -> float:
        """The mass of a particle, GeV; 0 for those that the model has massless."""
        masses = {
            5: self.inputs.bottom_mass_gev,
            6: self.inputs.top_mass_gev,
            15: self.inputs.tau_mass_gev,
            23: self.inputs.z_mass_gev,
            24: self.w_mass_gev,
            25: self.inputs.higgs_mass_gev,
        }
        return masses.get(abs(pdg_id), 0.0)

    def width_gev(self, pdg_id: int) -> float:
        """The width of a particle, GeV; 0 for those that the model has stable."""
        widths = {
            6: self.inputs.top_width_gev,
            23: self.inputs.z_width_gev,
            24: self.inputs.w_width_gev,
            25: self.inputs.higgs_width_gev,
        }
        return widths.get(abs(pdg_id), 0.0)

    def vertices(self) -> tuple[Vertex, ...]:
        """The vertices in unitary gauge, with a diagonal CKM matrix and g_s = 1.

        Couplings as in appendix A of arXiv:0709.1075, times e for each power of QED; fermions
        couple with "L" and "R" to the left- and right-handed part, charges are those of the
        particle, not the antiparticle.
        """
        found = [*self._fermion_vertices(), *self._boson_vertices()]
        return tuple(vertex for vertex in found if any(value for _, value in vertex.couplings))

    def external_parameters(self) -> dict[str, float]:
        """None: a UFO model has them."""
        return {}

    def varied(self, rng: random.Random) -> StandardModel:
        """The same model with each input larger by up to a half, at random.

        Larger only: M_W² stays real when 1 / alpha, G_F and M_Z grow.
        """
        numbers = {
            item.name: getattr(self.inputs, item.name) * rng.uniform(1, 1.5)
            for item in fields(self.inputs)
            if isinstance(getattr(self.inputs, item.name), float)
        }
        return StandardModel(replace(self.inputs, **numbers))

    def _fermion_vertices(self) -> list[Vertex]:
        e = self.electric_charge
        s = math.sqrt(self.sin2_theta_w)
        c = math.sqrt(1 - self.sin2_theta_w)
        found = [_vertex((-q, q, _G), QCD=1, L=1.0, R=1.0) for q in _QUARKS]
        for doublet in _DOUBLETS:
            for f, isospin in zip(doublet, (0.5, -0.5), strict=True):
                q = STANDARD_PARTICLES[f].charge
                right = -e * q * s / c
                found.append(_vertex((-f, f, _A), QED=1, L=-e * q, R=-e * q))
                found.append(_vertex((-f, f, _Z), QED=1, L=e * isospin / (s * c) + right, R=right))
                yukawa = -e * self.mass_gev(f) / (2 * s * self.w_mass_gev)
                found.append(_vertex((-f, f, _H), QED=1, L=yukawa, R=yukawa))
            up, down = doublet
            charged = ((-up, down, _W), (-down, up, -_W))
            found += [_vertex(particles, QED=1, L=e / (math.sqrt(2) * s)) for particles in charged]
        return found

    def _boson_vertices(self) -> list[Vertex]:
        e, w_mass = self.electric_charge, self.w_mass_gev
        s = math.sqrt(self.sin2_theta_w)
        c = math.sqrt(1 - self.sin2_theta_w)
        higgs = self.inputs.higgs_mass_gev**2
        pair = (_W, -_W)
        return [
            _vertex((_G, _G, _G), QCD=1, V=1.0),
            _vertex((_G, _G, _G, _G), QCD=2, V=1.0),
            _vertex((_A, *pair), QED=1, V=e),
            _vertex((_Z, *pair), QED=1, V=-e * c / s),
            _vertex((*pair, *pair), QED=2, V=e**2 / s**2),
            _vertex((*pair, _Z, _Z), QED=2, V=-((e * c / s) ** 2)),
            _vertex((*pair, _A, _Z), QED=2, V=e**2 * c / s),
            _vertex((*pair, _A, _A), QED=2, V=-(e**2)),
            _vertex((_H, *pair), QED=1, V=e * w_mass / s),
            _vertex((_H, _Z, _Z), QED=1, V=e * w_mass / (s * c**2)),
            _vertex((_H, _H, *pair), QED=2, V=e**2 / (2 * s**2)),
            _vertex((_H, _H, _Z, _Z), QED=2, V=e**2 / (2 * s**2 * c**2)),
            _vertex((_H, _H, _H), QED=1, S=-3 * e * higgs / (2 * s * w_mass)),
            _vertex((_H, _H, _H, _H), QED=2, S=-3 * e**2 * higgs / (4 * s**2 * w_mass**2)),
        ]


def _vertex(
    particles: tuple[int, ...], *, QCD: int = 0, QED: int = 0, **couplings: float
) -> Vertex:
    orders = tuple((name, power) for name, power in (("QCD", QCD), ("QED", QED)) if power)
    values = tuple((structure, complex(value)) for structure, value in couplings.items())
    return Vertex(particles=particles, couplings=values, orders=orders)
