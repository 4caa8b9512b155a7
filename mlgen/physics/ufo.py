"""Models in the Universal FeynRules Output, arXiv:1108.2040."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from mlgen.cards import ModelCard
from mlgen.errors import ModelError
from mlgen.physics.model import Model, Particle, StandardModel, Vertex
from mlgen.physics.ufo_expressions import Functions, evaluate
from mlgen.physics.ufo_source import UfoObject, read_ufo_objects

Orders = tuple[tuple[str, int], ...]


def read_model(card: ModelCard) -> Model:
    """The model that a card names: a UFO folder, or without one the Standard Model.

    Raises:
        ModelError: the folder cannot be read, or lacks a parameter that the card sets.
    """
    if card.ufo_folder:
        return UfoModel(card.ufo_folder, card.parameters)
    if card.parameters:
        raise ModelError(
            f"model.parameters = {dict(card.parameters)}: expected model.ufo_folder, whose "
            "parameters these are; those of the Standard Model have keys of their own"
        )
    return StandardModel(card)


@dataclass(frozen=True, kw_only=True, slots=True)
class UfoVertex:
    """A vertex of physical particles, before its couplings have values."""

    particles: tuple[int, ...]
    """PDG ids, all flowing in."""
    couplings: Mapping[Orders, tuple[tuple[str, str], ...]]
    """For each set of coupling orders: the colour and Lorentz structures, and the formulas of their couplings."""


@dataclass(frozen=True, kw_only=True)
class UfoDefinition:
    """What a UFO folder says, whatever the values of its parameters."""

    folder: str
    particles: Mapping[int, Particle]
    masses: Mapping[int, str]
    """The parameter that is each particle's mass."""
    widths: Mapping[int, str]
    external: Mapping[str, float]
    """The parameters that may be chosen, and the values that the model has for them."""
    internal: Mapping[str, str | float]
    """The parameters that follow, and their formulas."""
    vertices: tuple[UfoVertex, ...]
    hierarchy: Mapping[str, int]
    functions: Functions


@cache
def read_ufo(folder: str) -> UfoDefinition:
    """Read a UFO folder; its Python is never run, and its restriction cards are not applied.

    Raises:
        ModelError: it is none, or holds what is not understood.
    """
    if not Path(folder).is_dir():
        raise ModelError(f"model.ufo_folder = {folder!r}: expected a folder with a UFO model")
    objects = read_ufo_objects(Path(folder))
    try:
        return _definition(folder, objects)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"model.ufo_folder = {folder!r}: expected a UFO model ({type(error).__name__}: {error})"
        ) from error


def _definition(folder: str, objects: Mapping[str, list[UfoObject]]) -> UfoDefinition:
    physical = {p["pdg_code"]: p for p in objects["Particle"] if _is_physical(p)}
    parameters = objects["Parameter"]
    hierarchy = {
        order["name"]: int(order.get("hierarchy", 1)) for order in objects["CouplingOrder"]
    }
    for vertex in objects["Vertex"]:
        for coupling in _couplings(vertex):
            for order in coupling[1]["order"]:
                hierarchy.setdefault(order, 1)
    return UfoDefinition(
        folder=folder,
        particles={pdg_id: _particle(p) for pdg_id, p in physical.items()},
        masses={pdg_id: p["mass"]["name"] for pdg_id, p in physical.items()},
        widths={pdg_id: p["width"]["name"] for pdg_id, p in physical.items()},
        external={p["name"]: float(p["value"]) for p in parameters if p["nature"] == "external"},
        internal={p["name"]: p["value"] for p in parameters if p["nature"] != "external"},
        vertices=tuple(
            _vertex(vertex)
            for vertex in objects["Vertex"]
            if all(_is_physical(p) for p in vertex["particles"])
        ),
        hierarchy=hierarchy,
        functions={
            f["name"]: (tuple(f["arguments"]), f["expression"]) for f in objects["Function"]
        },
    )


def _is_physical(particle: UfoObject) -> bool:
    """No ghost (spin -1), and no Goldstone boson, which propagators in unitary gauge contain."""
    goldstone = particle.get("goldstoneboson") or particle.get("GoldstoneBoson")
    return particle["spin"] > 0 and not goldstone and not particle.get("goldstone")


def _particle(particle: UfoObject) -> Particle:
    return Particle(
        pdg_id=particle["pdg_code"],
        name=particle["name"],
        spin=particle["spin"],
        colour=particle["color"],
        charge=float(particle["charge"]),
        is_self_conjugate=particle["name"] == particle["antiname"],
    )


def _vertex(vertex: UfoObject) -> UfoVertex:
    couplings: dict[Orders, list[tuple[str, str]]] = defaultdict(list)
    for (colour, lorentz), coupling in _couplings(vertex):
        structure = f"{vertex['color'][colour]} {vertex['lorentz'][lorentz]['name']}"
        orders = tuple(sorted((name, power) for name, power in coupling["order"].items() if power))
        couplings[orders].append((structure, str(coupling["value"])))
    return UfoVertex(
        particles=tuple(p["pdg_code"] for p in vertex["particles"]),
        couplings={orders: tuple(sorted(found)) for orders, found in couplings.items()},
    )


def _couplings(vertex: UfoObject) -> list[tuple[tuple[int, int], Any]]:
    """Each coupling with its place; a place may hold several."""
    found = []
    for place, couplings in vertex["couplings"].items():
        several = couplings if isinstance(couplings, (list, tuple)) else [couplings]
        found += [(place, coupling) for coupling in several]
    return found


class UfoModel:
    """A UFO model at given values of its external parameters."""

    def __init__(self, folder: str, parameters: Mapping[str, float] | None = None) -> None:
        """Take the model's own values for all parameters that are not given.

        Raises:
            ModelError: the folder cannot be read, or lacks a parameter.
        """
        self._definition = read_ufo(folder)
        chosen = dict(parameters or {})
        for name, value in chosen.items():
            if name not in self._definition.external:
                raise ModelError(
                    f"model.parameters.{name} = {value}: no external parameter of {folder!r}; "
                    f"known: {', '.join(self._definition.external)}"
                )
        self._external = dict(self._definition.external) | chosen
        self._values: dict[str, complex] = dict(self._external)
        # A parameter that needs itself ends in this rather than in endless recursion.
        self._in_progress: set[str] = set()

    @property
    def ufo_folder(self) -> str:
        return self._definition.folder

    @property
    def particles(self) -> Mapping[int, Particle]:
        return self._definition.particles

    @property
    def hierarchy(self) -> Mapping[str, int]:
        return self._definition.hierarchy

    @cached_property
    def alpha_em(self) -> float:
        """From aEWM1, aEW or ee, whichever the model has; 0 where it has none of them."""
        known = {*self._definition.external, *self._definition.internal}
        if "aEWM1" in known:
            return 1 / self.parameter("aEWM1").real
        if "aEW" in known:
            return self.parameter("aEW").real
        return self.parameter("ee").real ** 2 / (4 * math.pi) if "ee" in known else 0.0

    def conjugate(self, pdg_id: int) -> int:
        """The antiparticle."""
        return pdg_id if self.particles[pdg_id].is_self_conjugate else -pdg_id

    def mass_gev(self, pdg_id: int) -> float:
        """The mass of a particle, GeV."""
        return abs(self.parameter(self._definition.masses[pdg_id]).real)

    def width_gev(self, pdg_id: int) -> float:
        """The width of a particle, GeV."""
        return abs(self.parameter(self._definition.widths[pdg_id]).real)

    def parameter(self, name: str) -> complex:
        """The value of a parameter, external or internal.

        Raises:
            ModelError: there is none, or its formula has no value.
        """
        if name not in self._values:
            if name not in self._definition.internal or name in self._in_progress:
                raise ModelError(f"model.ufo_folder = {self.ufo_folder!r}: no parameter {name!r}")
            self._in_progress.add(name)
            self._values[name] = self._evaluate(str(self._definition.internal[name]))
        return self._values[name]

    def vertices(self) -> tuple[Vertex, ...]:
        """The vertices of physical particles whose couplings do not all vanish."""
        found = []
        for vertex in self._definition.vertices:
            for orders, couplings in vertex.couplings.items():
                values = tuple((structure, self._evaluate(f)) for structure, f in couplings)
                if any(value for _, value in values):
                    found.append(
                        Vertex(particles=vertex.particles, couplings=values, orders=orders)
                    )
        return tuple(found)

    def external_parameters(self) -> dict[str, float]:
        """All external parameters by their names, with their values here."""
        return dict(self._external)

    def varied(self, rng: random.Random) -> UfoModel:
        """The same model with each external parameter larger by up to a half, at random."""
        changed = {name: value * rng.uniform(1, 1.5) for name, value in self._external.items()}
        return UfoModel(self.ufo_folder, changed)

    def _evaluate(self, formula: str) -> complex:
        try:
            return complex(evaluate(formula, self.parameter, self._definition.functions))
        except ModelError as error:
            raise ModelError(f"model.ufo_folder = {self.ufo_folder!r}: {error}") from error
