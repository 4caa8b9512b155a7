"""How well amplitude surrogates do, by process, method and training size.

    python benchmarks/surrogates.py --cache FOLDER [--process ddx_to_zgg] [--sampler flat] [--sizes 10000 100000]
        [--methods gaussian] [--seeds 1 2 3] [--own-samples] [--json FILE] [--report FOLDER]

`ddx_to_zgg` is d d~ > z g g at 1 TeV with the cuts of uux_to_zggg: pt > 20 GeV, |eta| < 5, distances above
0.4. Any card with one subprocess group will do. Points are flat in phase space, or those that an adapted
VEGAS or a trained flow draws. The sizes are of all points that training needs: validation and calibration
count. Each surrogate is tested on the same further points. With several seeds their scatter is compared with
the statistical part of the uncertainty; with --own-samples each learns from points of its own. One torch
thread, CPU time.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mlgen.amplitudes.provider import AmplitudeRequest, provide
from mlgen.build import build
from mlgen.campaign.run_record import versions
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.core import Amplitude, AmplitudeValue, SubprocessGroup, random_stream
from mlgen.diagnostics.progress import RichProgress
from mlgen.diagnostics.surrogate_report import render_surrogate_report
from mlgen.fitting import TrainingRecord
from mlgen.integration.aids import Aids
from mlgen.integration.integrator import integrate
from mlgen.integration.proposal import draw
from mlgen.phasespace.rambo import build_rambo
from mlgen.physics.cuts import CardCuts
from mlgen.physics.leg_cuts import particle_kinds
from mlgen.physics.model import Model
from mlgen.physics.near_cuts import NearCuts
from mlgen.physics.process import read_process
from mlgen.physics.ufo import read_model
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.accuracy import RegionAccuracy, accuracy
from mlgen.surrogates.group_surrogate import GroupSurrogate, train_group
from mlgen.surrogates.learning_curve import LearningPoint
from mlgen.surrogates.record import GroupRecord, SurrogateRecord
from mlgen.surrogates.sample import AmplitudeSample

BATCH = 65_536
BEAM_ENERGY_GEV = 500.0
ALPHA_S = 0.118


@dataclass(frozen=True, kw_only=True)
class Task:
    """One process, and its points: those to learn from first, then those for tests."""

    card: Card
    model: Model
    group: SubprocessGroup
    sampler: str
    training: AmplitudeSample
    test: AmplitudeSample
    near_cuts: Tensor


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One surrogate."""

    seed: int
    learned: GroupSurrogate
    record: TrainingRecord
    cpu_s: float
    """Of training and calibration."""


class Recorded:
    """An amplitude that keeps what it was asked for, without its powers of alpha_s."""

    def __init__(self, amplitude: Amplitude, group: SubprocessGroup) -> None:
        self._amplitude, self._group = amplitude, group
        self.samples: list[AmplitudeSample] = []

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        found = self._amplitude(momenta, alpha_s, group)
        self.samples.append(AmplitudeSample.of(momenta, found.value, alpha_s, self._group))
        return found


def named_card(name: str, changes: Sequence[str]) -> Card:
    """The card of this name; d d~ > z g g has the cuts of uux_to_zggg."""
    if name != "ddx_to_zgg":
        return read_card(find_card(name), changes)
    card = read_card(find_card("uux_to_zggg"), changes)
    return replace(card, process=replace(card.process, name=name, definition="d d~ > z g g"))


def flat_points(
    card: Card, group: SubprocessGroup, model: Model, folder: Path
) -> Iterator[AmplitudeSample]:
    """Points of flat phase space at 1 TeV inside the cuts, with their matrix elements."""
    request = AmplitudeRequest(
        groups=(group,), model=model, cache_folder=folder, function="", library=""
    )
    _, amplitude = provide("pyamplicol", request, RichProgress())
    energies = BEAM_ENERGY_GEV, BEAM_ENERGY_GEV
    phase_space = build_rambo([group], model, energies, hadronic=False)
    cut = CardCuts(card.cuts, [group])
    rng = random_stream(1, "surrogate benchmark", 0)
    while True:
        r = torch.rand((BATCH, phase_space.n_dim + 1), generator=rng, dtype=torch.float64)
        points = phase_space.forward(r, torch.zeros(BATCH, dtype=torch.int64))
        momenta = points.momenta[cut(points.momenta, 0)]
        alpha_s = torch.full((len(momenta),), ALPHA_S, dtype=torch.float64)
        yield AmplitudeSample.of(momenta, amplitude(momenta, alpha_s, 0).value, alpha_s, group)


def sampled_points(card: Card, group: SubprocessGroup, sampler: str) -> Iterator[AmplitudeSample]:
    """Points that the project's own sampler draws once it has learned, in random order."""
    card = replace(card, run=replace(card.run, sampler=sampler))
    process = build(card, RichProgress())
    found = integrate(process.integrand, card, Aids(progress=RichProgress(), clock=StepClock()))
    integrand = process.integrand.without(found.dropped)
    recorded = Recorded(integrand.amplitude, group)
    integrand = replace(integrand, amplitude=recorded)
    rng = random_stream(1, "surrogate benchmark", 0)
    while True:
        draw(integrand, found.chosen.proposal, BATCH, rng)
        yield from recorded.samples
        recorded.samples.clear()


def cached_points(
    path: Path, n: int, points: Callable[[], Iterator[AmplitudeSample]]
) -> AmplitudeSample:
    """n points from a file; drawn, and written to it, where it has fewer or is not there."""
    if path.exists():
        sample = AmplitudeSample(**load_file(path))
        if len(sample) >= n:
            return sample
    parts: list[AmplitudeSample] = []
    for part in points():
        parts.append(part)
        if sum(map(len, parts)) >= n:
            break
    momenta = torch.cat([part.momenta for part in parts])[:n].contiguous()
    value = torch.cat([part.value for part in parts])[:n].contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"momenta": momenta, "value": value}, path)
    return AmplitudeSample(momenta=momenta, value=value)


def prepare(options: argparse.Namespace) -> Task:
    """Read the card, and draw the points or read them."""
    folder = options.cache / "matrix_elements"
    changes = (f"matrix_element.cache_folder={folder}", *options.card)
    card = named_card(options.process, changes)
    model = read_model(card.model)
    groups = read_process(card.process, card.beams.particles, model)
    if len(groups) != 1:
        raise SystemExit(f"{options.process}: {len(groups)} groups: expected a card with one")
    group = groups[0]
    if options.sampler == "flat":
        path, points = (
            f"{options.process}.safetensors",
            partial(flat_points, card, group, model, folder),
        )
    else:
        path = f"{options.process}-{options.sampler}.safetensors"
        points = partial(sampled_points, card, group, options.sampler)
    n_needed = max(options.sizes) * (len(options.seeds) if options.own_samples else 1)
    sample = cached_points(options.cache / path, n_needed + options.tests, points)
    test = sample.select(slice(len(sample) - options.tests, None))
    near = NearCuts(card.cuts, [group], particle_kinds(model))
    return Task(
        card=card,
        model=model,
        group=group,
        sampler=options.sampler,
        training=sample.select(slice(n_needed)),
        test=test,
        near_cuts=near(test.momenta, 0),
    )


def train(task: Task, part: slice, settings: SurrogateCard, seed: int) -> Trained:
    sample = task.training.select(part)
    started = time.process_time()
    learned, record = train_group(sample, task.group, task.model, settings, seed, RichProgress())
    return Trained(seed=seed, learned=learned, record=record, cpu_s=time.process_time() - started)


def measure(
    task: Task, size: int, settings: SurrogateCard, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One surrogate for each seed, all tested on the same points."""
    trained = [
        train(
            task,
            slice(k * size, (k + 1) * size) if options.own_samples else slice(size),
            settings,
            seed,
        )
        for k, seed in enumerate(options.seeds)
    ]
    rows = []
    for one in trained:
        others = [other.learned for other in trained if other is not one]
        started = time.process_time()
        one.learned.predict(task.test.momenta)
        microseconds = 1e6 * (time.process_time() - started) / len(task.test)
        regions = accuracy(one.learned, task.test, task.near_cuts, others)
        point = LearningPoint(n=size, training=one.record, regions=regions)
        rows.append(
            {
                "process": options.process,
                "sampler": options.sampler,
                "method": settings.method,
                "size": size,
                "seed": one.seed,
                "own_samples": options.own_samples,
                "cpu_s": one.cpu_s,
                "us_a_point": microseconds,
                "point": point,
                "settings": settings,
            }
        )
        print_row(rows[-1])
    return rows


def print_row(row: dict[str, Any]) -> None:
    point: LearningPoint = row["point"]
    head = f"{row['process']} {row['method']:10} {row['size']:7} seed {row['seed']} {row['cpu_s']:5.0f} s"
    print(f"{head} {row['us_a_point']:5.2f} us, best step {point.training.best_step}")
    for name, of in point.regions.items():
        quantiles = " ".join(f"{q:.1e}" for q in of.delta_quantiles)
        widths = ", ".join(f"{part} {pull.width:.3f}" for part, pull in of.pulls.items())
        print(
            f"    {name:13} |Delta| < 0.1 %: {100 * of.precise_share:5.1f} %, quantiles {quantiles}, "
            f"pull widths {widths}, coverage {of.coverage_68:.3f} {of.coverage_95:.3f}, "
            f"seen {of.covered_share:.4f}",
            flush=True,
        )


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """A line of Markdown for each method and size: means over seeds, and their scatter."""
    print(
        "\n| method, size | CPU s | |Delta| < 0.1 % | pull width | 68 %, all | top 1 % | top 0.1 % |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for method, size in dict.fromkeys((row["method"], row["size"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["size"]) == (method, size)]
        points: list[LearningPoint] = [row["point"] for row in mine]

        def over_seeds(
            number: Callable[[RegionAccuracy], float], region: str, of: list[LearningPoint] = points
        ) -> str:
            values = torch.tensor([number(point.regions[region]) for point in of]).double()
            scatter = f" ± {float(values.std()):.3f}" if len(of) > 1 else ""
            return f"{float(values.mean()):.3f}{scatter}"

        cells = [
            f"{math.fsum(row['cpu_s'] for row in mine) / len(mine):.0f}",
            over_seeds(lambda of: of.precise_share, "all"),
            over_seeds(lambda of: of.pull_width, "all"),
            *(
                over_seeds(lambda of: of.coverage_68, region)
                for region in list(points[0].regions)[:3]
            ),
        ]
        print(f"| {method}, {size:,} | " + " | ".join(cells) + " |")


def write_reports(task: Task, rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """A page and a record for each method, of the first seed: its largest size, and the curve."""
    folder.mkdir(parents=True, exist_ok=True)
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method and row["seed"] == rows[0]["seed"]]
        mine.sort(key=lambda row: row["size"])
        curve = tuple(row["point"] for row in mine)
        last = mine[-1]
        record = SurrogateRecord(
            process=task.card.process.definition,
            seed=last["seed"],
            sampler="flat phase space" if task.sampler == "flat" else task.sampler,
            settings=last["settings"],
            groups=(
                GroupRecord(
                    name=task.group.name,
                    n_sample=last["size"],
                    n_test=len(task.test),
                    us_per_point=last["us_a_point"],
                    training=curve[-1].training,
                    regions=curve[-1].regions,
                    learning_curve=curve,
                ),
            ),
            versions=versions(),
        )
        stem = f"{task.card.process.name}-{task.sampler}-{method}"
        (folder / f"{stem}.html").write_text(render_surrogate_report(record), encoding="utf-8")
        table = json.dumps(record.to_table(), indent=1)
        (folder / f"{stem}.json").write_text(table, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--process", default="ddx_to_zgg", help="or the name of a card")
    parser.add_argument("--sampler", default="flat", choices=["flat", "vegas", "flow"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 400_000])
    parser.add_argument("--tests", type=int, default=1_000_000, help="further points")
    parser.add_argument("--methods", nargs="+", default=["gaussian", "repulsive"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--own-samples", action="store_true", help="for each seed other points")
    parser.add_argument("--set", nargs="*", default=[], help="settings: n_steps=12000 ...")
    parser.add_argument("--card", nargs="*", default=[], help="keys: flow.n_steps=600 ...")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--report", type=Path, help="a folder")
    options = parser.parse_args(arguments)
    if options.process == "ddx_to_zgg" and options.sampler != "flat":
        parser.error("--process ddx_to_zgg: expected --sampler flat")
    torch.set_num_threads(1)
    task = prepare(options)
    changes = {
        key: json.loads(value) for key, _, value in (item.partition("=") for item in options.set)
    }
    rows: list[dict[str, Any]] = []
    for method in options.methods:
        for size in options.sizes:
            settings = SurrogateCard(method=method, **changes)
            rows += measure(task, size, settings, options)
            if options.json:
                tables = [row | {k: asdict(row[k]) for k in ("point", "settings")} for row in rows]
                options.json.write_text(json.dumps(tables, indent=1))
    print_table(rows)
    if options.report:
        write_reports(task, rows, options.report)


if __name__ == "__main__":
    main()
