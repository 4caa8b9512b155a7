"""How much faster two-stage unweighting makes events, with surrogates of known quality.

    python benchmarks/two_stage.py [--cards pp_to_eej ...] [--exact-us 10000] [--surrogate-us 5]
        [--training-s 120] [--set SECTION.KEY=VALUE ...] [--json FILE]

An exact |M|² is accounted with so many microseconds, a surrogate's with so many; the time that they really
take here is left out. All else is CPU time, as measured: phase space, cuts, densities, sampler, the choice
of points, the picks of events. One torch thread. `gain` is the CPU time of an effective event, (sum u)² /
sum u² of them, in one stage over that in two; for so many events it holds the estimates of both and the
training of the surrogate too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.distorted import Distorted, ErrorOf, corner, humble_corner, waves, worse_forward
from mlgen.build import Process, build
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.cards import RunCard
from mlgen.core import Amplitude, AmplitudeValue
from mlgen.diagnostics.progress import SilentProgress
from mlgen.events.two_stage import effective_gain
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Candidate
from mlgen.integration.generate import Chunk, EventSource
from mlgen.integration.integrator import integrate
from mlgen.integration.trust import Trust
from mlgen.integration.two_stage import SurrogateIntegrand, TwoStageSource
from mlgen.integration.two_stage_estimate import TwoStageEstimate, estimate_two_stage

QUALITIES: dict[str, tuple[ErrorOf, Trust]] = {
    "0.1 %": (waves(0.001), Trust()),
    "1 %": (waves(0.01), Trust()),
    "3 %": (waves(0.03), Trust()),
    "10 %": (waves(0.1), Trust()),
    "30 %": (waves(0.3), Trust()),
    "1 to 50 %": (worse_forward(0.01), Trust()),
    "1 to 50 %, s without its std": (worse_forward(0.01), Trust(n_std=0.0)),
    "factor 3 in a corner": (corner, Trust()),
    "factor 3 in a corner, known": (humble_corner, Trust()),
    "factor 3 in a corner, not asked": (humble_corner, Trust(max_relative_std=0.5)),
}
N_EVENTS = (100_000, 1_000_000)


class Timed:
    """An amplitude that knows how many points it was asked for, and how long they took."""

    def __init__(self, amplitude: Amplitude) -> None:
        self.amplitude = amplitude
        self.n_points, self.cpu_s = 0, 0.0

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        started = time.process_time()
        found = self.amplitude(momenta, alpha_s, group)
        self.cpu_s += time.process_time() - started
        self.n_points += len(momenta)
        return found


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Accounted seconds a point."""

    exact_s: float
    surrogate_s: float


class Bill:
    """Collects what something costs: CPU time but that of amplitudes, which are accounted."""

    def __init__(self, prices: Prices, exact: Timed, surrogate: Timed | None = None) -> None:
        self.amplitudes = [(exact, prices.exact_s)]
        if surrogate is not None:
            self.amplitudes.append((surrogate, prices.surrogate_s))

    def of(self, work: Callable[[], None]) -> float:
        """Seconds for this work."""
        before = [(one.n_points, one.cpu_s) for one, _ in self.amplitudes]
        started = time.process_time()
        work()
        total = time.process_time() - started
        for (one, price), (n_points, cpu_s) in zip(self.amplitudes, before, strict=True):
            total += price * (one.n_points - n_points) - (one.cpu_s - cpu_s)
        return total


@dataclass(frozen=True, kw_only=True)
class Made:
    """Chunks of events, and their price."""

    n_points: int
    n_calls: int
    n_events: int
    n_effective: float
    s: float

    @property
    def s_per_event(self) -> float:
        return self.s / self.n_effective


def make(source: EventSource | TwoStageSource, n_chunks: int, bill: Bill) -> Made:
    chunks: list[Chunk] = []

    def work() -> None:
        chunks.extend(source.chunk(index) for index in range(n_chunks))

    total = bill.of(work)
    u = torch.cat([chunk.events.weight for chunk in chunks])
    return Made(
        n_points=sum(chunk.summary.n_points for chunk in chunks),
        n_calls=sum(chunk.summary.n_calls for chunk in chunks),
        n_events=len(u),
        n_effective=float(u.sum()) ** 2 / float(u.square().sum()),
        s=total,
    )


@dataclass(frozen=True, kw_only=True)
class OneStage:
    """A sampler without a surrogate, the yardstick."""

    process: Process
    exact: Timed
    candidate: Candidate
    run: RunCard
    made: Made
    eps_full: float
    """Of the points inside the cuts, which are those that cost."""
    estimate_s: float

    @property
    def share_inside(self) -> float:
        return self.made.n_calls / self.made.n_points


def one_stage(process: Process, candidate: Candidate, n_chunks: int, prices: Prices) -> OneStage:
    exact = Timed(process.integrand.amplitude)
    timed = replace(process, integrand=replace(process.integrand, amplitude=exact))
    source = EventSource(
        integrand=timed.integrand,
        pick=process.picker,
        proposal=candidate.proposal_for(weighted=False),
        w_max=candidate.measured.w_max,
        run=process.card.run,
    )
    made = make(source, n_chunks, Bill(prices, exact))
    measured = candidate.measured
    return OneStage(
        process=timed,
        exact=exact,
        candidate=candidate,
        run=process.card.run,
        made=made,
        eps_full=measured.kept * made.n_points / made.n_calls,
        estimate_s=measured.n_calls * prices.exact_s,
    )


def two_stages(
    alone: OneStage, quality: str, n_chunks: int, prices: Prices, training_s: float
) -> dict[str, Any]:
    """One surrogate, on top of one sampler."""
    error, trust = QUALITIES[quality]
    surrogate = Timed(Distorted(amplitude=alone.process.picker.amplitude, error=error))
    integrand = SurrogateIntegrand(
        integrand=alone.process.integrand, surrogate=surrogate, trust=trust
    )
    bill = Bill(prices, alone.exact, surrogate)
    estimates: list[TwoStageEstimate] = []
    proposal = alone.candidate.proposal
    bare_s = alone.made.s / alone.made.n_points - prices.exact_s * alone.share_inside
    cost_ratio = (bare_s / alone.share_inside + prices.surrogate_s) / prices.exact_s

    def work() -> None:
        estimates.append(
            estimate_two_stage(
                integrand, proposal, alone.run, "benchmark", SilentProgress(), cost_ratio=cost_ratio
            )
        )

    estimate_s = bill.of(work)
    measured = estimates[0]
    source = TwoStageSource(
        integrand=integrand,
        pick=alone.process.picker,
        proposal=replace(proposal, fractions=measured.maxima.fractions),
        maxima=measured.maxima,
        run=alone.run,
    )
    n_asked = surrogate.n_points
    made = make(source, n_chunks, bill)
    share_inside = (surrogate.n_points - n_asked) / made.n_points
    efficiency = replace(measured.efficiency, eps_1=measured.efficiency.eps_1 / share_inside)
    rest_s = made.s - made.n_calls * prices.exact_s
    t_s = rest_s / (made.n_points * share_inside)
    t_f = alone.made.s / alone.made.n_calls
    whole = {
        n: (alone.estimate_s + n * alone.made.s_per_event)
        / (estimate_s + training_s + n * made.s_per_event)
        for n in N_EVENTS
    }
    return {
        "surrogate": quality,
        "eps_full": alone.eps_full,
        "efficiency": asdict(efficiency),
        "eps_2_made": made.n_events / made.n_calls,
        "overweight_on_fresh_points": measured.overweight_on_fresh_points,
        "t_surrogate_us": 1e6 * t_s,
        "t_full_us": 1e6 * t_f,
        "gain_by_formula": effective_gain(efficiency, alone.eps_full, t_s / t_f),
        "gain": alone.made.s_per_event / made.s_per_event,
        "gain_for": whole,
        "estimate_s": estimate_s,
        "n_estimate_calls": measured.n_calls,
    }


def measure(name: str, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """All surrogates on top of VEGAS and of the flow."""
    card = read_card(find_card(name), ("run.sampler=flow", *chosen.set))
    process = build(card, SilentProgress())
    found = integrate(process.integrand, card, Aids(progress=SilentProgress(), clock=StepClock()))
    # As the integrator says them: the channels that were dropped are dropped here too.
    integrand = process.integrand.without(found.dropped)
    run = replace(card.run, n_estimate=len(found.candidates[0].measured.weights))
    process = replace(process, integrand=integrand, card=replace(card, run=run))
    prices = Prices(exact_s=1e-6 * chosen.exact_us, surrogate_s=1e-6 * chosen.surrogate_us)
    rows = []
    for candidate in found.candidates:
        alone = one_stage(process, candidate, chosen.chunks, prices)
        for quality in QUALITIES:
            row = two_stages(alone, quality, chosen.chunks, prices, chosen.training_s)
            rows.append({"card": name, "sampler": candidate.name} | row)
            print(show(rows[-1]), flush=True)
    return rows


def show(row: dict[str, Any]) -> str:
    e, whole = row["efficiency"], row["gain_for"]
    gains = "".join(f"{whole[n]:9.2f}" for n in N_EVENTS)
    return (
        f"{row['card']:11} {row['sampler']:6}{row['surrogate']:32}{row['eps_full']:7.3f}"
        f"{e['eps_1']:7.3f}{e['eps_2']:7.3f}{e['alpha']:9.5f}"
        f"{row['overweight_on_fresh_points']:10.5f}{row['gain_by_formula']:9.2f}{row['gain']:7.2f}"
        f"{row['gain'] * row['eps_full']:8.3f}{gains}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cards", nargs="+", default=["pp_to_eej", "uux_to_eegg"])
    parser.add_argument("--exact-us", type=float, default=10_000.0)
    parser.add_argument("--surrogate-us", type=float, default=5.0)
    parser.add_argument("--training-s", type=float, default=120.0, help="of the surrogate")
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], help="overrides a key of every card")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(
        f"{'card':11} {'on':6}{'surrogate':32}{'eps':>7}{'eps_1':>7}{'eps_2':>7}{'alpha':>9}"
        f"{'excess':>10}{'formula':>9}{'gain':>7}{'x eps':>8}"
        + "".join(f"{f'for {n:.0e}':>9}" for n in N_EVENTS)
    )
    rows = []
    for name in chosen.cards:
        rows += measure(name, chosen)
        if chosen.json:
            chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
