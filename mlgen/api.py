"""What scripts and notebooks call: a card goes in, a cross section or a folder of events comes out.

import mlgen
result = mlgen.run("pp_to_eej", n_events=10_000)
print(result.record.cross_section_pb, result.folder)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mlgen.build import build
from mlgen.campaign.run_record import RECORD_FILE, RunRecord, StepClock, card_table, versions
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.core import EventBatch, Progress
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, MlgenError
from mlgen.integration.candidates import Integration
from mlgen.integration.generate import generate
from mlgen.integration.integrator import Aids
from mlgen.integration.integrator import integrate as _integrate
from mlgen.integration.reference import reference_sample
from mlgen.outputs import Outcome, describe, write_events_and_pack, write_run_report

if TYPE_CHECKING:
    from mlgen.diagnostics.comparison import ComparisonResult, ComparisonSettings

N_REFERENCE = 20_000
"""Weighted points that the plots compare the events with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What a run left: its record, its events, and the folder that holds the files."""

    record: RunRecord
    events: EventBatch
    folder: Path


def integrate(
    card: Card | Path | str, *, seed: int | None = None, progress: Progress | None = None
) -> Integration:
    """The cross section of a card, with the samplers that were adapted to it.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        seed: overrides the card's.

    Raises:
        MlgenError: one of its children says what is wrong.
    """
    card = _chosen_card(card, None, seed)
    progress = progress or SilentProgress()
    with _one_thread():
        return _integrate(
            build(card, progress).integrand, card, Aids(progress=progress, clock=StepClock())
        )


def run(
    card: Card | Path | str,
    folder: Path | str | None = None,
    *,
    n_events: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Generate the events of a card into a folder: events, record, report and sampler pack.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        folder: a new or empty one; None: `runs/NAME`, or the next free `runs/NAME-2`, ...
        n_events, seed: override the card's.

    Raises:
        MlgenError: one of its children says what is wrong; `run.json` in the folder says so too.
    """
    card = _chosen_card(card, n_events, seed)
    target = _new_folder(folder, card)
    clock = StepClock()
    try:
        with _one_thread():
            return _run(card, target, progress or SilentProgress(), clock)
    except MlgenError as error:
        _record_failure(error, card, target, clock)
        raise


def compare(
    card: Card | Path | str,
    settings: ComparisonSettings | None = None,
    progress: Progress | None = None,
) -> ComparisonResult:
    """mlgen's samplers beside the vegas package and madnis, on the integrand of a card.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        settings: how much is compared; None: the defaults.

    Raises:
        MlgenError: one of its children says what is wrong.
    """
    from mlgen.diagnostics import comparison

    settings = settings or comparison.ComparisonSettings()
    comparison.check_installed(settings.samplers)
    card = _chosen_card(card, None, None)
    progress = progress or SilentProgress()
    with _one_thread():
        integrand = build(card, progress).integrand
        return comparison.compare_samplers(
            integrand, card, settings, progress, card.process.definition, "pb"
        )


def _run(card: Card, folder: Path, progress: Progress, clock: StepClock) -> RunResult:
    with clock.step("prepare"):
        process = build(card, progress)
    integration = _integrate(process.integrand, card, Aids(progress=progress, clock=clock))
    vegas, chosen = integration.candidates[0], integration.chosen
    with clock.step("generate"):
        proposal = chosen.proposal_for(card.run.weighted)
        made = generate(
            process.integrand, proposal, chosen.measured, process.picker, card.run, progress
        )
    with clock.step("write"):
        reference = reference_sample(vegas, process.picker, card.run, N_REFERENCE)
        outcome = Outcome(
            process=process, integration=integration, generated=made, reference=reference
        )
        files = write_events_and_pack(outcome, folder)
        # The report shows the times up to here; the record, those with the report.
        record = replace(describe(outcome), files=files, cpu_s=clock.cpu_s, wall_s=clock.wall_s)
        files |= write_run_report(outcome, record, folder)
    record = replace(record, files=files, cpu_s=clock.cpu_s, wall_s=clock.wall_s)
    record.write(folder / RECORD_FILE)
    return RunResult(record=record, events=made.events, folder=folder)


def _record_failure(error: MlgenError, card: Card, folder: Path, clock: StepClock) -> None:
    failed = RunRecord(
        status="failed",
        error=str(error),
        process=card.process.definition,
        seed=card.run.seed,
        sampler=card.run.sampler,
        card=card_table(card),
        versions=versions(),
        cpu_s=clock.cpu_s,
        wall_s=clock.wall_s,
    )
    failed.write(folder / RECORD_FILE)


def _chosen_card(card: Card | Path | str, n_events: int | None, seed: int | None) -> Card:
    if not isinstance(card, Card):
        card = read_card(find_card(card))
    run_card = card.run
    if n_events is not None:
        run_card = replace(run_card, n_events=n_events)
    if seed is not None:
        run_card = replace(run_card, seed=seed)
    return replace(card, run=run_card)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one torch thread: results then do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _new_folder(folder: Path | str | None, card: Card) -> Path:
    if folder is None:
        runs, name = Path("runs"), card.process.name
        target, count = runs / name, 1
        while target.exists():
            count += 1
            target = runs / f"{name}-{count}"
    else:
        target = Path(folder)
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise CardError(f"--output {target}: expected a new or an empty folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MlgenError(f"{target}: cannot be made ({error.strerror})") from error
    return target
