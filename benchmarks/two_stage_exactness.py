"""Do two-stage events have the distributions and the cross section of one-stage ones?

    python benchmarks/two_stage_exactness.py [--repeats 50] [--chunks 4] [--json FILE]

p p > e+ e- j with a grid: in each repeat independent samples, made in one stage and in two with surrogates
of several qualities, and 30 distributions of each pair by chi-squared. For one of them the second step draws a
helicity of each point, from shares of an untrained network. The last surrogate is bad and believed: without
a second step. For each there are the lowest of 30 p-values of chi-squared summed over
the repeats, and of chi-squared of all repeats as one sample, in which a bias would add up; the share of
the 30 p-values of each repeat that are below 1 %; and mean and width of the pulls of the cross section.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from benchmarks.distorted import Distorted, ErrorOf, corner, far_off, humble_corner, waves
from benchmarks.distributions import Comparison, Legs, Spectra, compare, legs_of_events, observables
from mlgen.build import Process, build
from mlgen.card_files import find_card, read_card
from mlgen.core import EventBatch, OneHelicity
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.adapt import adapt_grid
from mlgen.integration.generate import EventSource, Totals
from mlgen.integration.helicity_prices import configurations
from mlgen.integration.measure import Estimate, estimate
from mlgen.integration.proposal import Proposal
from mlgen.integration.second_step import DrawnHelicities
from mlgen.integration.trust import Trust
from mlgen.integration.two_stage import SurrogateIntegrand, TwoStageSource
from mlgen.integration.two_stage_estimate import TwoStageEstimate, estimate_two_stage
from mlgen.physics.kinematics import eta
from mlgen.surrogates.helicity_shares import HelicityShares, start_shares

CARD = ("pp_to_eej", ("matrix_element.provider=closed_form",))
N_BINS = 24
QUALITIES: dict[str, tuple[ErrorOf, Trust]] = {
    "3 %": (waves(0.03), Trust()),
    "30 %": (waves(0.3), Trust()),
    "factor 3 in a corner": (corner, Trust()),
    "factor 3 in a corner, not asked": (humble_corner, Trust(max_relative_std=0.5)),
    "factor 6 anywhere": (far_off, Trust()),
}
DRAWN = "3 %, one helicity drawn"
CONTROL = "factor 3 in a corner, believed"


def values(legs: Legs) -> Mapping[str, Tensor]:
    """30 observables of e+ e- j: 17, and energies, azimuths, longitudinal momenta, distances in eta, an angle."""
    found = {name: of(legs) for name, of in observables(list(legs)).items()}
    azimuth = {name: torch.atan2(p[:, 2], p[:, 1]) for name, p in legs.items()}
    for name, p in legs.items():
        found[f"E({name})"], found[f"pz({name})"] = p[:, 0], p[:, 3]
    for a, b in combinations(legs, 2):
        turn = (azimuth[a] - azimuth[b]).abs()
        found[f"delta_phi({a} {b})"] = turn.minimum(2 * math.pi - turn)
        found[f"delta_eta({a} {b})"] = eta(legs[a]) - eta(legs[b])
    first = next(iter(legs))
    found[f"phi({first})"] = azimuth[first]
    return found


def spectra(events: EventBatch, edges: Mapping[str, Tensor]) -> Spectra:
    found = Spectra(edges)
    weight = events.weight
    for name, value in values(legs_of_events(events)).items():
        index = torch.bucketize(value.contiguous(), edges[name][1:-1].contiguous())
        found.totals[name] = index.bincount(weight, minlength=N_BINS)
        found.squares[name] = index.bincount(weight.square(), minlength=N_BINS)
    return found


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A process with an adapted grid, and what it takes for samples in one stage."""

    process: Process
    proposal: Proposal
    measured: Estimate

    def one_stage(self, seed: int) -> EventSource:
        return EventSource(
            integrand=self.process.integrand,
            pick=self.process.picker,
            proposal=replace(self.proposal, fractions=self.measured.unweighting_fractions),
            w_max=self.measured.w_max,
            run=replace(self.process.card.run, seed=seed),
        )


def sampled() -> Sampled:
    process = build(read_card(find_card(CARD[0]), CARD[1]), SilentProgress())
    card = replace(process.card, run=replace(process.card.run, n_estimate=131_072))
    process = replace(process, card=card)
    grid, fractions, _ = adapt_grid(process.integrand, card.vegas, 1, SilentProgress())
    proposal = Proposal(sampler=grid, fractions=fractions)
    measured = estimate(process.integrand, proposal, card.run, "one stage", SilentProgress())
    return Sampled(process=process, proposal=proposal, measured=measured)


@dataclass(frozen=True, kw_only=True)
class TwoStages:
    """A surrogate, and what it takes for samples in two stages."""

    integrand: SurrogateIntegrand
    measured: TwoStageEstimate

    def source(self, base: Sampled, seed: int) -> TwoStageSource:
        return TwoStageSource(
            integrand=self.integrand,
            pick=base.process.picker,
            proposal=replace(base.proposal, fractions=self.measured.maxima.fractions),
            maxima=self.measured.maxima,
            run=replace(base.process.card.run, seed=seed),
            title="two stages",
        )


def unlearned_helicities(base: Sampled) -> DrawnHelicities:
    """Draws from shares that nothing was learned of."""
    integrand, amplitude = base.process.integrand, base.process.integrand.amplitude
    if not isinstance(amplitude, OneHelicity):
        raise TypeError(f"{amplitude}: expected a matrix element of single helicities")
    groups, model = integrand.groups, base.process.picker.model
    shares = HelicityShares(start_shares(groups, model, configurations(integrand, amplitude), 1))
    return DrawnHelicities(amplitude=amplitude, shares=shares)


def surrogates(base: Sampled) -> dict[str, TwoStages]:
    exact = base.process.integrand
    found = {}
    for name, (error, trust) in QUALITIES.items():
        surrogate = Distorted(amplitude=exact.amplitude, error=error)
        integrand = SurrogateIntegrand(integrand=exact, surrogate=surrogate, trust=trust)
        measured = estimate_two_stage(
            integrand, base.proposal, base.process.card.run, name, SilentProgress()
        )
        found[name] = TwoStages(integrand=integrand, measured=measured)
    drawn = replace(found["3 %"].integrand, second=unlearned_helicities(base))
    measured = estimate_two_stage(
        drawn, base.proposal, base.process.card.run, DRAWN, SilentProgress()
    )
    found[DRAWN] = TwoStages(integrand=drawn, measured=measured)
    bad = found["factor 3 in a corner"]
    believed = replace(exact, amplitude=bad.integrand.surrogate)
    found[CONTROL] = replace(bad, integrand=replace(bad.integrand, integrand=believed))
    return found


@dataclass(frozen=True, kw_only=True)
class Sample:
    spectra: Spectra
    cross_section: tuple[float, float]
    """pb, with its error."""
    n_events: int


def sample(
    source: EventSource | TwoStageSource, n_chunks: int, edges: Mapping[str, Tensor]
) -> Sample:
    chunks = [source.chunk(index) for index in range(n_chunks)]
    sums = Totals.of([chunk.summary for chunk in chunks]).sums
    events = EventBatch.concatenate([chunk.events for chunk in chunks])
    return Sample(
        spectra=spectra(events, edges),
        cross_section=(sums.mean, sums.error),
        n_events=len(events),
    )


def judge(name: str, pairs: list[tuple[Sample, Sample]]) -> dict[str, Any]:
    """What the samples of one surrogate (second) say beside those without (first)."""
    compared = [compare(mine.spectra, theirs.spectra) for theirs, mine in pairs]
    p_of = {found[0].observable: _p_of_sum(found) for found in zip(*compared, strict=True)}
    together = compare(_joined([mine for _, mine in pairs]), _joined([their for their, _ in pairs]))
    every = [one.p_value for found in compared for one in found]
    pulls = torch.tensor(
        [
            (mine.cross_section[0] - theirs.cross_section[0])
            / math.hypot(mine.cross_section[1], theirs.cross_section[1])
            for theirs, mine in pairs
        ],
        dtype=torch.float64,
    )
    return {
        "surrogate": name,
        "n_events": sum(mine.n_events for _, mine in pairs) / len(pairs),
        "p_of_distributions": p_of,
        "p_of_all_as_one": {one.observable: one.p_value for one in together},
        "below_1_percent": sum(p < 0.01 for p in every) / len(every),
        "pull_mean": float(pulls.mean()),
        "pull_width": float(pulls.std()),
    }


def _joined(samples: list[Sample]) -> Spectra:
    """The spectra of all of them together."""
    first = samples[0].spectra
    totals, squares = (
        {name: sum(getattr(one.spectra, of)[name] for one in samples) for name in first.totals}
        for of in ("totals", "squares")
    )
    return Spectra(first.edges, totals, squares)


def _p_of_sum(found: tuple[Comparison, ...]) -> float:
    """That of all repeats of one distribution."""
    return float(stats.chi2.sf(sum(c.chi2 for c in found), sum(c.n_dof for c in found)))


def show(row: dict[str, Any]) -> str:
    p = row["p_of_distributions"]
    all_as_one = row["p_of_all_as_one"]
    worst = min(all_as_one, key=all_as_one.__getitem__)
    return (
        f"{row['surrogate']:32}{row['n_events']:8.0f}{min(p.values()):10.3g}{all_as_one[worst]:10.3g}"
        f"{row['below_1_percent']:8.4f}{row['pull_mean']:8.2f}{row['pull_width']:7.2f}  {worst}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the first repeat")
    parser.add_argument("--chunks", type=int, default=4, help="of points, for each sample")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    base = sampled()
    pilot = base.one_stage(10_000).chunk(0).events
    steps = torch.linspace(0, 1, N_BINS + 1, dtype=torch.float64)
    edges = {name: v.quantile(steps) for name, v in values(legs_of_events(pilot)).items()}
    two_stages = surrogates(base)
    pairs: dict[str, list[tuple[Sample, Sample]]] = {name: [] for name in two_stages}
    for seed in range(chosen.seed, chosen.seed + chosen.repeats):
        alone = sample(base.one_stage(seed), chosen.chunks, edges)
        for name, one in two_stages.items():
            pairs[name].append((alone, sample(one.source(base, seed), chosen.chunks, edges)))
    print(
        f"{len(edges)} distributions\n{'surrogate':32}{'events':>8}{'lowest p':>10}{'as one':>10}"
        f"{'< 1 %':>8}{'pull':>8}{'width':>7}  lowest of all as one"
    )
    rows = [judge(name, found) for name, found in pairs.items()]
    for row in rows:
        print(show(row))
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
