"""What the cuts of a card leave to phase space: bounds on momenta and on invariant masses.

Each one follows from the cuts alone, so that sampling inside of it loses no point that passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from mlgen.cut_cards import CutsCard
from mlgen.physics.cuts import separation_range
from mlgen.physics.leg_cuts import STANDARD_KINDS, ParticleKinds, leg_cuts, pair_cuts, particle_cuts
from mlgen.physics.process import NEUTRINOS

Legs = tuple[int, ...]
"""Some of a list of final particles, by their position in it."""


@dataclass(frozen=True, slots=True)
class CutBounds:
    """Bounds that follow from a card's cuts on final particles; GeV."""

    card: CutsCard
    kinds: ParticleKinds = STANDARD_KINDS

    def min_pt(self, pdg_id: int) -> float:
        """The least transverse momentum of a particle."""
        return particle_cuts(pdg_id, self.card, self.kinds).pt_min_gev

    def max_rapidity(self, pdg_id: int) -> float:
        """The largest |y| of a particle, of any mass as |y| <= |eta|; may be infinite."""
        cuts = particle_cuts(pdg_id, self.card, self.kinds)
        return min(cuts.abs_eta_max, cuts.abs_y_max)

    def min_pair_mass(self, a: int, b: int, mass_a: float, mass_b: float) -> float:
        """The least invariant mass of two particles, given their PDG ids and masses.

        By Cauchy and Schwarz, E_a E_b >= |p_a| |p_b| + m_a m_b, so that m² >= (m_a + m_b)²
        + 2 pt_a pt_b (cosh Delta eta - cos Delta phi), and the bracket is at least 1 - cos R at a
        distance R < pi: `separation_range`. Where both are massless, some points reach the bound.
        """
        cuts = pair_cuts(a, b, self.card, self.kinds)
        least, _ = separation_range(cuts.delta_r_min)
        apart = 2 * self.min_pt(a) * self.min_pt(b) * least
        return max(cuts.mass_min_gev, math.sqrt((mass_a + mass_b) ** 2 + apart))

    def max_pair_mass(self, a: int, b: int) -> float:
        """The largest invariant mass of two particles, from its window; may be infinite."""
        return pair_cuts(a, b, self.card, self.kinds).mass_max_gev

    def min_mass(self, pdg_ids: Sequence[int], masses_gev: Sequence[float]) -> float:
        """The least invariant mass of a system of particles.

        The larger of M² = sum of m_ij² - (n - 2) sum of m_i², each pair at its least, and of the
        sums of the least masses of two parts.
        """
        return self._subset_masses(tuple(pdg_ids), tuple(masses_gev))[tuple(range(len(pdg_ids)))]

    def min_event_mass(self, pdg_ids: Sequence[int], masses_gev: Sequence[float]) -> float:
        """The least partonic centre-of-mass energy, given all final particles.

        Without transverse momentum in total, it is at least the sum of the transverse masses of
        the systems that the particles are divided into, whichever way: the best one counts.
        """
        masses = self._subset_masses(tuple(pdg_ids), tuple(masses_gev))
        momenta: dict[Legs, float] = {(i,): self.min_pt(p) for i, p in enumerate(pdg_ids)}
        neutrinos = tuple(i for i, pdg_id in enumerate(pdg_ids) if abs(pdg_id) in NEUTRINOS)
        missing = self.card.event.missing_pt_min_gev
        momenta[neutrinos] = max(missing, momenta.get(neutrinos, 0.0))
        jets = leg_cuts((0, 0, *pdg_ids), self.card, self.kinds).jets
        h_t = self.card.event.ht_min_gev if jets else 0.0
        if len(jets) == 1:
            momenta[jets] = max(h_t, momenta[jets])
        of_jets = math.hypot(sum(masses[jet,] for jet in jets), h_t)
        found = [of_jets]
        for parts in _partitions(tuple(range(len(pdg_ids)))):
            found.append(_sum_of_transverse_masses(parts, masses, momenta))
            if all((jet,) in parts for jet in jets):
                others = [part for part in parts if part[0] not in jets]
                found.append(
                    of_jets + sum(math.hypot(masses[p], momenta.get(p, 0.0)) for p in others)
                )
        return max(found)

    def _subset_masses(
        self, pdg_ids: tuple[int, ...], masses: tuple[float, ...]
    ) -> dict[Legs, float]:
        """The least mass of each set of legs."""
        pairs: dict[Legs, float] = {
            (i, j): self.min_pair_mass(pdg_ids[i], pdg_ids[j], masses[i], masses[j])
            for i, j in combinations(range(len(pdg_ids)), 2)
        }
        found: dict[Legs, float] = {(i,): mass for i, mass in enumerate(masses)}
        found.update(pairs)
        for n_legs in range(3, len(pdg_ids) + 1):
            for legs in combinations(range(len(pdg_ids)), n_legs):
                squared = sum(pairs[pair] ** 2 for pair in combinations(legs, 2))
                squared -= (n_legs - 2) * sum(masses[leg] ** 2 for leg in legs)
                sums = (found[a] + found[b] for a, b in _halves(legs))
                found[legs] = max(math.sqrt(max(squared, 0.0)), *sums)
        return found


def _sum_of_transverse_masses(
    parts: tuple[Legs, ...], masses: Mapping[Legs, float], momenta: Mapping[Legs, float]
) -> float:
    """The least sum over systems with given least masses and transverse momenta, GeV."""
    transverse = [math.hypot(masses[part], momenta.get(part, 0.0)) for part in parts]
    total = sum(masses[part] for part in parts)
    # What recoils against one system has its transverse momentum, and at least its own masses.
    recoils = (
        m_t + math.hypot(total - masses[part], momenta.get(part, 0.0))
        for part, m_t in zip(parts, transverse, strict=True)
    )
    return max(sum(transverse), *recoils) if len(parts) > 1 else transverse[0]


def _halves(legs: Legs) -> Iterator[tuple[Legs, Legs]]:
    """Each way to divide some legs in two."""
    first, *rest = legs
    for n_with in range(len(rest)):
        for chosen in combinations(rest, n_with):
            yield (first, *chosen), tuple(leg for leg in rest if leg not in chosen)


@cache
def _partitions(legs: Legs) -> tuple[tuple[Legs, ...], ...]:
    """Each way to divide some legs into systems."""
    if not legs:
        return ((),)
    found: list[tuple[Legs, ...]] = [(legs,)]
    for part, rest in _halves(legs):
        found += [(part, *others) for others in _partitions(rest)]
    return tuple(found)
