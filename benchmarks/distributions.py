"""Distributions of unweighted events beside an independent integration: VEGAS on flat phase space.

    python benchmarks/distributions.py [--cards pp_to_eej pp_to_ttj] [--events 100000] [--json FILE]

The events come from channels made of Feynman diagrams; the reference is a weighted sum over RAMBO
points, which knows nothing of them. One torch thread.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from mlgen.build import build
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.core import EventBatch, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.aids import Aids
from mlgen.integration.generate import ChunkPlan, EventSource, generate
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.integrator import integrate
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.physics.cuts import is_jet
from mlgen.physics.kinematics import delta_r, eta, mass, pt, rapidity
from mlgen.physics.process import particle_name

N_BINS = 24
CHUNK = 65_536
MIN_ENTRIES = 25
"""Bins with fewer effective entries in either sample are joined with their neighbours."""
RAMBO = ("phase_space.maps=rambo", "run.sampler=vegas", "vegas.n_iterations=15")

Legs = Mapping[str, Tensor]
"""The momenta (n, 4), GeV, of each final particle, by its name: `e+`, `t~`, `j`."""


def observables(names: Sequence[str]) -> dict[str, Callable[[Legs], Tensor]]:
    """pt and eta of each particle; mass, delta_r and y of each pair; mass and y of all."""
    found: dict[str, Callable[[Legs], Tensor]] = {}
    for name in names:
        found[f"pt({name})"] = partial(of_sum, pt, (name,))
        found[f"eta({name})"] = partial(of_sum, eta, (name,))
    for a, b in combinations(names, 2):
        found[f"m({a} {b})"] = partial(of_sum, mass, (a, b))
        found[f"delta_r({a} {b})"] = partial(distance, a, b)
        found[f"y({a} {b})"] = partial(of_sum, rapidity, (a, b))
    found["m(all)"] = partial(of_sum, mass, tuple(names))
    found["y(all)"] = partial(of_sum, rapidity, tuple(names))
    return found


def of_sum(quantity: Callable[[Tensor], Tensor], names: Sequence[str], legs: Legs) -> Tensor:
    """A quantity of the sum of some particles, (n,)."""
    return quantity(torch.stack([legs[name] for name in names]).sum(0))


def distance(a: str, b: str, legs: Legs) -> Tensor:
    """In eta and azimuth, (n,)."""
    return delta_r(legs[a], legs[b])


def name_of(pdg_id: int) -> str:
    """What a final particle is called here: jets have no flavour."""
    return "j" if is_jet(pdg_id) else particle_name(pdg_id)


def legs_of_events(events: EventBatch) -> Legs:
    """The final particles of events that have each kind once."""
    is_final = events.status == 1
    first = events.pdg_id[0][is_final[0]].tolist()
    legs = {}
    for name in sorted(map(name_of, first)):
        named = [p for p in torch.unique(events.pdg_id).tolist() if p and name_of(p) == name]
        mine = is_final & torch.isin(events.pdg_id, torch.tensor(named))
        if not bool((mine.sum(1) == 1).all()):
            raise ValueError(f"expected one {name} in each event")
        legs[name] = events.momenta[mine]
    return legs


@dataclass
class Spectra:
    """Sums of weights in the bins of each observable, those beyond the first and last edge in them."""

    edges: Mapping[str, Tensor]
    totals: dict[str, Tensor] = field(default_factory=dict)
    squares: dict[str, Tensor] = field(default_factory=dict)

    def add(self, legs: Legs, weight: Tensor) -> None:
        """Count points with weights (n,)."""
        for name, value_of in observables(list(legs)).items():
            inner = self.edges[name][1:-1].contiguous()
            index = torch.bucketize(value_of(legs).contiguous(), inner)
            for sums, powers in ((self.totals, weight), (self.squares, weight.square())):
                found = index.bincount(powers, minlength=len(inner) + 1)
                sums[name] = sums[name] + found if name in sums else found


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One observable of two samples, each normalised to itself."""

    observable: str
    chi2: float
    n_dof: int

    @property
    def p_value(self) -> float:
        return float(stats.chi2.sf(self.chi2, self.n_dof))


def compare(mine: Spectra, theirs: Spectra) -> list[Comparison]:
    """Chi-squared of each observable, with the errors of both samples."""
    found = []
    for name in mine.totals:
        columns = [s[name] for sample in (mine, theirs) for s in (sample.totals, sample.squares)]
        columns = _joined(columns)
        (p, p_variance), (q, q_variance) = _shares(*columns[:2]), _shares(*columns[2:])
        chi2 = float(((p - q).square() / (p_variance + q_variance)).sum())
        # The variances are those of independent bins: as in Pearson's sum, that the shares of a
        # sample add up to 1 takes one degree of freedom.
        found.append(Comparison(observable=name, chi2=chi2, n_dof=len(p) - 1))
    return found


def _shares(total: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each bin and its variance for independent bins."""
    return total / total.sum(), squares / total.sum().square()


def _joined(columns: Sequence[Tensor]) -> list[Tensor]:
    """Neighbouring bins joined until each has enough effective entries in both samples."""
    rows = torch.stack([*columns], dim=1)
    kept: list[Tensor] = []
    waiting = torch.zeros_like(rows[0])
    for row in rows:
        waiting = waiting + row
        mine, mine_squares, theirs, their_squares = waiting.tolist()
        if mine**2 > MIN_ENTRIES * mine_squares and theirs**2 > MIN_ENTRIES * their_squares:
            kept.append(waiting)
            waiting = torch.zeros_like(waiting)
    kept[-1] = kept[-1] + waiting
    return list(torch.stack(kept, dim=1).unbind())


@dataclass(frozen=True)
class Weighted:
    """VEGAS on RAMBO: how to draw, and a pilot sample that fixes the bins."""

    integrand: ProcessIntegrand
    proposal: Proposal
    seed: int

    def chunk(self, purpose: str, index: int, n: int) -> tuple[Legs, Tensor]:
        """Final momenta and weights, pb, of n points, those outside the cuts left out."""
        rng = random_stream(self.seed, purpose, index)
        batch, evaluation = draw(self.integrand, self.proposal, n, rng)
        inside = (batch.value != 0).nonzero()[:, 0]
        weight = (channel_weight(batch) / batch.fraction)[inside]
        momenta = evaluation.points.momenta[inside, 2:]
        names = [name_of(p) for p in self.integrand.groups[0].pdg_ids[0][2:]]
        return {name: momenta[:, names.index(name)] for name in sorted(names)}, weight

    def edges(self, n: int) -> dict[str, Tensor]:
        """Bins of about equal cross section, from points that are not counted."""
        legs, weight = self.chunk("pilot", 0, n)
        found = {}
        for name, value_of in observables(list(legs)).items():
            value, order = value_of(legs).sort()
            share = weight[order].cumsum(0) / weight.sum()
            wanted = torch.linspace(0, 1, N_BINS + 1, dtype=torch.float64)
            found[name] = value[torch.searchsorted(share, wanted).clamp(max=len(value) - 1)]
        return found


def weighted_sample(card_name: str, *overrides: str) -> Weighted:
    """The independent integration, adapted."""
    card = read_card(find_card(card_name), (*RAMBO, *overrides))
    integrand = build(card, SilentProgress()).integrand
    grid, fractions, _ = adapt_grid(integrand, card.vegas, card.run.seed, SilentProgress())
    return Weighted(integrand, Proposal(sampler=grid, fractions=fractions), card.run.seed)


def unweighted_events(card_name: str, *overrides: str) -> EventBatch:
    """Events of a card as a run makes them."""
    card = read_card(find_card(card_name), overrides)
    process = build(card, SilentProgress())
    chosen = integrate(
        process.integrand, card, Aids(progress=SilentProgress(), clock=StepClock())
    ).chosen
    source = EventSource(
        integrand=process.integrand,
        pick=process.picker,
        proposal=chosen.proposal_for(weighted=False),
        w_max=chosen.measured.w_max,
        run=card.run,
    )
    plan = ChunkPlan.from_estimate(card.run, chosen.measured)
    made = generate(source, plan, SilentProgress())
    return made.events


@dataclass(frozen=True)
class Reference:
    """Spectra of the independent integration, and what they are worth."""

    spectra: Spectra
    cross_section_pb: float
    cross_section_error_pb: float
    ess: float
    """(sum w)² / sum w², in points."""


def reference(sample: Weighted, n_points: int, n_pilot: int = CHUNK) -> Reference:
    """Fill the spectra with that many points, zeros from cuts counted."""
    spectra = Spectra(sample.edges(n_pilot))
    n, total, squares = 0, 0.0, 0.0
    while n < n_points:
        legs, weight = sample.chunk("reference", n // CHUNK, CHUNK)
        spectra.add(legs, weight)
        total, squares, n = total + float(weight.sum()), squares + float(weight @ weight), n + CHUNK
    mean = total / n
    error = math.sqrt((squares / n - mean**2) / n)
    return Reference(spectra, mean, error, total**2 / squares)


def spectra_of(events: EventBatch, edges: Mapping[str, Tensor]) -> Spectra:
    """Those of unweighted events, overweight ones with their weight."""
    spectra = Spectra(edges)
    spectra.add(legs_of_events(events), events.weight)
    return spectra


def measure(
    card_name: str, n_events: int, n_points: int, overrides: Sequence[str], shift: Sequence[str]
) -> dict[str, Any]:
    """Both samples of a card, compared; the shift is for the events alone."""
    theirs = reference(weighted_sample(card_name, "vegas.n_points=400_000", *overrides), n_points)
    events = unweighted_events(card_name, f"run.n_events={n_events}", *overrides, *shift)
    rows = compare(spectra_of(events, theirs.spectra.edges), theirs.spectra)
    return {
        "card": card_name,
        "n_events": n_events,
        "n_points": n_points,
        "reference_pb": theirs.cross_section_pb,
        "reference_error_pb": theirs.cross_section_error_pb,
        "reference_ess": theirs.ess,
        "observables": [asdict(row) | {"p_value": row.p_value} for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cards", nargs="+", default=["pp_to_eej", "pp_to_ttj"])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=8_000_000, help="of the reference")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the cards: key=value")
    parser.add_argument(
        "--shift", nargs="*", default=[], help="overrides of the events alone: a control that fails"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for card_name in options.cards:
        found = measure(card_name, options.events, options.points, options.set, options.shift)
        results.append(found)
        sigma = f"{found['reference_pb']:.2f} ± {found['reference_error_pb']:.2f} pb"
        print(
            f"{card_name}: {options.events} events; reference {sigma}, ESS {found['reference_ess']:.3g}"
        )
        for row in found["observables"]:
            ratio = f"{row['chi2']:.1f} / {row['n_dof']}"
            print(f"  {row['observable']:18} {ratio:>14}  p = {row['p_value']:.3f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
