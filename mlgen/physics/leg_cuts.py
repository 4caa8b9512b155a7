"""Which cuts of a card hold for which legs: each particle's window, each pair's, and the event's."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeVar

from mlgen.core import SubprocessGroup
from mlgen.cut_cards import CutsCard, PairCutsCard, ParticleCutsCard
from mlgen.physics.cut_functions import find_cut_function
from mlgen.physics.model import Model
from mlgen.physics.process import GLUON, LEPTONS, LIGHT_QUARKS, NEUTRINOS, process_name

Kind = Literal["jet", "lepton", "photon", "bottom"]
CutsT = TypeVar("CutsT", ParticleCutsCard, PairCutsCard)

BOTTOM, PHOTON = 5, 22


@dataclass(frozen=True, kw_only=True, slots=True)
class ParticleKinds:
    """What a model's particles are to cuts and scales; the default is the Standard Model with a massive b."""

    jets: frozenset[int] = frozenset((GLUON, *LIGHT_QUARKS, *(-q for q in LIGHT_QUARKS)))
    """PDG ids of the massless coloured particles, antiparticles included."""
    coloured: frozenset[int] = frozenset((GLUON, *range(1, 7), *range(-6, 0)))
    """PDG ids of all coloured particles, antiparticles included."""

    def of(self, pdg_id: int) -> Kind | None:
        """The kind of a particle, None for those that only lists can name; a massless b is a jet."""
        if pdg_id in self.jets:
            return "jet"
        if abs(pdg_id) in LEPTONS:
            return "lepton"
        if pdg_id == PHOTON:
            return "photon"
        return "bottom" if abs(pdg_id) == BOTTOM else None


STANDARD_KINDS = ParticleKinds()


def particle_kinds(model: Model) -> ParticleKinds:
    """The kinds of a model: whatever is coloured, stable and without mass is a jet."""
    coloured = frozenset(p for p, particle in model.particles.items() if particle.colour != 1)
    return ParticleKinds(
        jets=frozenset(p for p in coloured if model.mass_gev(p) == model.width_gev(p) == 0),
        coloured=coloured,
    )


def particle_cuts(
    pdg_id: int, card: CutsCard, kinds: ParticleKinds = STANDARD_KINDS
) -> ParticleCutsCard:
    """All that a card asks of one final particle: of its kind, and of the lists that name it."""
    by_kind = {
        "jet": card.jets,
        "lepton": card.leptons,
        "photon": card.photons,
        "bottom": card.bottoms,
        None: ParticleCutsCard(),
    }
    cuts = by_kind[kinds.of(pdg_id)]
    for listed in card.particles:
        if pdg_id in listed.pdg_ids:
            cuts = _both(ParticleCutsCard, cuts, listed)
    return cuts


def pair_cuts(
    a: int, b: int, card: CutsCard, kinds: ParticleKinds = STANDARD_KINDS
) -> PairCutsCard:
    """All that a card asks of a pair of different final particles, given their PDG ids."""
    by_kinds: dict[frozenset[Kind | None], PairCutsCard] = {
        frozenset({"jet"}): card.jet_jet,
        frozenset({"jet", "lepton"}): card.jet_lepton,
        frozenset({"jet", "photon"}): card.jet_photon,
        frozenset({"jet", "bottom"}): card.jet_bottom,
        frozenset({"lepton"}): card.lepton_lepton,
        frozenset({"lepton", "photon"}): card.lepton_photon,
        frozenset({"lepton", "bottom"}): card.lepton_bottom,
        frozenset({"photon"}): card.photon_photon,
        frozenset({"photon", "bottom"}): card.photon_bottom,
        frozenset({"bottom"}): card.bottom_bottom,
    }
    pair = frozenset({kinds.of(a), kinds.of(b)})
    cuts = by_kinds.get(pair, PairCutsCard())
    if pair == {"lepton"} and a != -b:
        no_mass = PairCutsCard()
        cuts = dataclasses.replace(
            cuts, mass_min_gev=no_mass.mass_min_gev, mass_max_gev=no_mass.mass_max_gev
        )
    for listed in card.pairs:
        if (a in listed.first and b in listed.second) or (b in listed.first and a in listed.second):
            cuts = _both(PairCutsCard, cuts, listed)
    return cuts


def _both(cls: type[CutsT], a: CutsT, b: CutsT) -> CutsT:
    """The window that is inside of both."""
    bounds = {}
    for item in dataclasses.fields(cls):
        tighter = max if "_min" in item.name else min
        bounds[item.name] = tighter(getattr(a, item.name), getattr(b, item.name))
    return cls(**bounds)


@dataclass(frozen=True, kw_only=True, slots=True)
class LegCuts:
    """The cuts of a card on the legs of one flavour assignment, counted from the first final one."""

    particles: tuple[tuple[int, ParticleCutsCard], ...]
    """A leg, and what is asked of it; legs of which nothing is asked are left out."""
    pairs: tuple[tuple[int, int, PairCutsCard], ...]
    jets: tuple[int, ...]
    """The legs that H_T sums, b included; none where the card does not ask for H_T."""
    neutrinos: tuple[int, ...]
    """Those whose momentum is missing; none where the card does not ask for it."""


def leg_cuts(
    pdg_ids: Sequence[int], card: CutsCard, kinds: ParticleKinds = STANDARD_KINDS
) -> LegCuts:
    """The cuts of a card for one flavour assignment, two incoming particles first."""
    final = pdg_ids[2:]
    particles = [(leg, particle_cuts(p, card, kinds)) for leg, p in enumerate(final)]
    pairs = [
        (a, b, pair_cuts(final[a], final[b], card, kinds))
        for a, b in combinations(range(len(final)), 2)
    ]
    nothing = type(card.event)()
    event = card.event
    h_t = (event.ht_min_gev, event.ht_max_gev) != (nothing.ht_min_gev, nothing.ht_max_gev)
    missing = (event.missing_pt_min_gev, event.missing_pt_max_gev) != (
        nothing.missing_pt_min_gev,
        nothing.missing_pt_max_gev,
    )
    legs = range(len(final))
    return LegCuts(
        particles=tuple((leg, cuts) for leg, cuts in particles if cuts != ParticleCutsCard()),
        pairs=tuple((a, b, cuts) for a, b, cuts in pairs if cuts != PairCutsCard()),
        jets=tuple(i for i in legs if h_t and kinds.of(final[i]) in ("jet", "bottom")),
        neutrinos=tuple(i for i in legs if missing and abs(final[i]) in NEUTRINOS),
    )


def cut_key(
    pdg_ids: Sequence[int], card: CutsCard, kinds: ParticleKinds = STANDARD_KINDS
) -> Hashable:
    """What two flavour assignments must have in common for their legs to be cut alike.

    Flavours that share one |M|² belong to one group only where this is equal too.

    Raises:
        CardError: there is no cut function of the card's name.
    """
    apart = bool(card.function) and find_cut_function(card.function).tells_flavours_apart
    return leg_cuts(pdg_ids, card, kinds), tuple(pdg_ids[2:]) if apart else ()


def split_by_cuts(
    groups: Sequence[SubprocessGroup], card: CutsCard, model: Model
) -> tuple[SubprocessGroup, ...]:
    """The groups, each divided where a card cuts some of its flavours differently.

    Raises:
        CardError: there is no cut function of the card's name.
    """
    kinds = particle_kinds(model)
    divided = []
    for group in groups:
        alike: dict[Hashable, list[tuple[int, ...]]] = {}
        for pdg_ids in group.pdg_ids:
            alike.setdefault(cut_key(pdg_ids, card, kinds), []).append(pdg_ids)
        divided += [
            dataclasses.replace(group, name=process_name(ids[0], model), pdg_ids=tuple(ids))
            for ids in alike.values()
        ]
    return tuple(divided)
