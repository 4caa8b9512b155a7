"""Samplers side by side on one integrand: mlgen's, the vegas package's, madnis.

Each learns from the same number of calls of the integrand, is frozen, and draws fresh points, which
are all judged by the same functions. docs/compare.md says how each is set up.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlgen.cards import Card
from mlgen.core import Evaluation, Integrand, Progress, random_stream
from mlgen.diagnostics.compare_madnis import import_madnis, learn_madnis
from mlgen.diagnostics.compare_mlgen import learn_mlgen
from mlgen.diagnostics.compare_vegas import import_vegas, learn_vegas
from mlgen.diagnostics.contenders import Contender, Cost, FreshPoints, Meter
from mlgen.errors import CardError, GenerationError, MissingExtra, MlgenError, NonFiniteWeight
from mlgen.events.unweighting import (
    UnweightingEfficiency,
    effective_sample_size,
    unweighting_efficiency,
)
from mlgen.integration.integrator import VEGAS

SCHEMA = "mlgen-comparison"

OURS = ("grid", "flow")
NAMES = ("vegas-classic", "vegas-stratified", "grid", "flow", "madnis")
BUDGETS = (0.001, 0.01)
"""The overweight budgets t that efficiencies are quoted for; times are for the first."""
N_EVENTS = (10_000, 100_000, 1_000_000)
"""Unweighted events that times are quoted for."""
MAX_PULL = 4.0
"""Two cross sections further apart are an alarm."""
_NEEDS = {
    "vegas-classic": import_vegas,
    "vegas-stratified": import_vegas,
    "madnis": import_madnis,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonSettings:
    """How much is compared."""

    n_calls: int = 1_000_000
    """Calls of the integrand that each sampler learns from."""
    n_points: int = 100_000
    """Fresh points of each, N of eps_uw(N, t)."""
    seed: int = 1
    samplers: tuple[str, ...] = ()
    """Of `NAMES`; empty: all whose packages are installed."""

    def __post_init__(self) -> None:
        for option, value in (("--calls", self.n_calls), ("--points", self.n_points)):
            if value < 1000:
                raise CardError(f"{option} {value}: expected at least 1000")
        if self.seed < 0:
            raise CardError(f"--seed {self.seed}: expected zero or a positive number")
        for name in self.samplers:
            if name not in NAMES:
                raise CardError(f"--samplers {name}: expected one of {', '.join(NAMES)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What is found of one sampler."""

    name: str
    title: str
    settings: Mapping[str, str | float]
    learning: Cost
    sampling: Cost
    points: FreshPoints
    relative_std: float
    """Error of the cross section over its value, times the root of the number of points."""
    eps_uw: tuple[UnweightingEfficiency, ...]
    """For each of `BUDGETS`."""
    ess: float
    notes: tuple[str, ...] = ()

    @property
    def us_per_point(self) -> float:
        """CPU microseconds, the integrand's included."""
        return 1e6 * self.sampling.cpu_s / self.sampling.n_points

    @property
    def us_per_event(self) -> float:
        """CPU microseconds of an unweighted event; infinite where none comes."""
        efficiency = self.eps_uw[0].value
        return self.us_per_point / efficiency if efficiency > 0 else math.inf

    def cpu_s_for(self, n_events: float) -> float:
        """CPU seconds to so many unweighted events, learning included."""
        return self.learning.cpu_s + 1e-6 * n_events * self.us_per_event


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonResult:
    """All samplers, and what was left out."""

    title: str
    unit: str
    """Of the cross section: `pb`, or nothing for a mere integral."""
    settings: ComparisonSettings
    results: tuple[Result, ...]
    notes: tuple[str, ...]


def compare_samplers(
    integrand: Integrand[Evaluation],
    card: Card,
    settings: ComparisonSettings,
    progress: Progress,
    title: str,
    unit: str,
) -> ComparisonResult:
    """Let each sampler learn and draw, one after the other.

    mlgen's own come first. Nobody else gets fewer calls than they took.

    Args:
        card: gives the settings of mlgen's own samplers.

    Raises:
        MissingExtra: a sampler was asked for by name whose package is not installed.
        GenerationError, NonFiniteWeight: no sampler got through; where one did, the notes hold
            what the others failed of.
    """
    contenders, absent = _contenders(card, settings.samplers)
    meter = Meter(integrand)
    n_calls = settings.n_calls
    found: dict[str, Result] = {}
    failures: dict[str, MlgenError] = {}
    for contender in sorted(contenders, key=lambda c: c.name not in OURS):
        budget = replace(settings, n_calls=settings.n_calls if contender.name in OURS else n_calls)
        try:
            found[contender.name] = result = measure(contender, meter, budget, progress)
        except (GenerationError, NonFiniteWeight) as error:
            failures[contender.title] = error
            continue
        if contender.name in OURS:
            n_calls = max(n_calls, result.learning.n_calls)
    if not found:
        raise next(iter(failures.values()))
    return ComparisonResult(
        title=title,
        unit=unit,
        settings=settings,
        results=tuple(found[name] for name in NAMES if name in found),
        notes=(
            *absent,
            *(f"{contender} FAILED: {error}" for contender, error in failures.items()),
            *(note for result in found.values() for note in result.notes),
        ),
    )


def measure(
    contender: Contender, integrand: Meter, settings: ComparisonSettings, progress: Progress
) -> Result:
    """Let one sampler learn, and judge its fresh points."""
    seed = settings.seed
    learned = contender.learn(integrand, settings.n_calls, seed, progress)
    before = integrand.spent
    with progress.step(f"drawing from {contender.title}", 1.0) as advance:
        points = learned.draw(settings.n_points)
        advance(1.0, f"{points.cross_section:.5g} ± {points.error:.2g}")
    sampling = integrand.spent - before
    if not bool(points.weight.any()):
        raise GenerationError(f"none of {len(points.weight)} points passes the cuts")
    rng = random_stream(seed, f"compare bootstrap {contender.name}", 0)
    # Each point counts as its channel does in the cross section.
    share = points.channel.bincount(minlength=integrand.n_channels) / len(points.channel)
    relative = points.error / abs(points.cross_section)
    return Result(
        name=contender.name,
        title=contender.title,
        settings=learned.settings,
        learning=learned.cost,
        sampling=sampling,
        points=points,
        relative_std=relative * math.sqrt(points.n_points),
        eps_uw=tuple(
            unweighting_efficiency(points.weight, points.channel, budget, rng) for budget in BUDGETS
        ),
        ess=effective_sample_size(points.weight / share[points.channel]),
        notes=tuple(f"{contender.title}: {note}" for note in learned.notes),
    )


def check_installed(samplers: Sequence[str]) -> None:
    """Say so early where a package is not there.

    Raises:
        MissingExtra: what one of the samplers needs is not installed.
    """
    for name in samplers:
        if name in _NEEDS:
            _NEEDS[name]()


def _contenders(card: Card, wanted: Sequence[str]) -> tuple[tuple[Contender, ...], tuple[str, ...]]:
    """Those that are to be compared, and notes on those that cannot be."""
    check_installed(wanted)
    chosen, notes = [], []
    for contender in _everyone(card):
        if wanted and contender.name not in wanted:
            continue
        try:
            check_installed((contender.name,))
        except MissingExtra as error:
            notes.append(f"{contender.title}: left out, {error}")
            continue
        chosen.append(contender)
    return tuple(chosen), tuple(notes)


def _everyone(card: Card) -> Sequence[Contender]:
    return (
        Contender(name="vegas-classic", title="vegas, classic", learn=partial(learn_vegas, False)),
        Contender(
            name="vegas-stratified", title="vegas, stratified", learn=partial(learn_vegas, True)
        ),
        Contender(name="grid", title="mlgen grid", learn=partial(learn_mlgen, VEGAS, card)),
        Contender(name="flow", title="mlgen flow", learn=partial(learn_mlgen, "flow", card)),
        Contender(name="madnis", title="madnis", learn=learn_madnis),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pull:
    """How far apart two cross sections are."""

    first: str
    second: str
    value: float
    """The difference over its standard deviation."""


def largest_pull(results: Sequence[Result]) -> Pull | None:
    """Of all pairs; None for less than two samplers."""
    pulls = []
    for a, b in itertools.combinations(results, 2):
        error = math.hypot(a.points.error, b.points.error)
        difference = a.points.cross_section - b.points.cross_section
        value = difference / error if error > 0 else (0.0 if difference == 0 else math.inf)
        pulls.append(Pull(first=a.name, second=b.name, value=value))
    return max(pulls, key=lambda pull: abs(pull.value), default=None)


def cheapest(results: Sequence[Result]) -> tuple[tuple[float, str], ...]:
    """Which sampler takes least CPU time, learning included: (from how many events on, its name)."""
    able = [result for result in results if math.isfinite(result.us_per_event)]
    if not able:
        return ()
    best = min(able, key=lambda result: (result.cpu_s_for(0), result.us_per_event))
    found = [(0.0, best.name)]
    while True:
        crossings = [
            (
                1e6
                * (r.learning.cpu_s - best.learning.cpu_s)
                / (best.us_per_event - r.us_per_event),
                r,
            )
            for r in able
            if r.us_per_event < best.us_per_event
        ]
        if not crossings:
            return tuple(found)
        n_events, best = min(
            crossings, key=lambda crossing: (crossing[0], crossing[1].us_per_event)
        )
        found.append((n_events, best.name))


def to_table(comparison: ComparisonResult) -> dict[str, Any]:
    """All numbers, for JSON."""
    settings = comparison.settings
    pull = largest_pull(comparison.results)
    return {
        "schema": SCHEMA,
        "title": comparison.title,
        "unit": comparison.unit,
        "n_calls": settings.n_calls,
        "n_points": settings.n_points,
        "seed": settings.seed,
        "versions": _versions(),
        "samplers": {result.name: _row(result) for result in comparison.results},
        "largest_pull": None if pull is None else asdict(pull),
        "cheapest": [
            {"from_n_events": math.ceil(n_events), "sampler": name}
            for n_events, name in cheapest(comparison.results)
        ],
        "notes": list(comparison.notes),
    }


def write_json(comparison: ComparisonResult, path: Path) -> None:
    """All numbers, to a file that has its name only when it is whole."""
    partial_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        text = json.dumps(to_table(comparison), indent=2, allow_nan=False) + "\n"
        partial_path.write_text(text, encoding="utf-8")
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


def _row(result: Result) -> dict[str, Any]:
    return {
        "title": result.title,
        "settings": dict(result.settings),
        "cross_section": result.points.cross_section,
        "error": result.points.error,
        "relative_std": result.relative_std,
        "eps_uw": [asdict(efficiency) for efficiency in result.eps_uw],
        "ess": result.ess,
        "learning": asdict(result.learning),
        "sampling": asdict(result.sampling),
        "us_per_point": result.us_per_point,
        "us_per_unweighted_event": _finite(result.us_per_event),
        "cpu_s_to_events": {str(n): _finite(result.cpu_s_for(n)) for n in N_EVENTS},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _versions() -> dict[str, str]:
    found = {}
    for package in ("mlgen-hep", "torch", "numpy", "vegas", "madnis"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
