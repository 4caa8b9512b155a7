"""What scripts and notebooks call: a card goes in, a cross section or a folder of events comes out.

import mlgen
result = mlgen.run("pp_to_eej", n_events=10_000)
print(result.record.cross_section_pb, result.folder)
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from mlgen.build import build
from mlgen.campaign.checkpoint import CHECKPOINT_FILE, RunCheckpoint, StoredRun, read_checkpoint
from mlgen.campaign.run_folder import check_resumable, new_folder, remove_unfinished, sole_use
from mlgen.campaign.run_record import RECORD_FILE, RunRecord, StepClock, card_table, versions
from mlgen.campaign.warm_start import read_warm_start
from mlgen.card_files import card_from_table, card_to_toml, find_card, read_card
from mlgen.cards import Card
from mlgen.core import EventBatch, Progress
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, GenerationError, MlgenError
from mlgen.integration.candidates import Integration
from mlgen.integration.domain import Domain
from mlgen.integration.function_integral import (
    FunctionIntegral,
    FunctionSettings,
    integrate_function,
)
from mlgen.integration.generate import generate
from mlgen.integration.integrator import Aids
from mlgen.integration.integrator import integrate as _integrate
from mlgen.integration.reference import reference_sample
from mlgen.integration.user_function import Backend, UserFunction
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


@overload
def integrate(
    card: Card | Path | str, /, *, seed: int | None = None, progress: Progress | None = None
) -> Integration: ...


@overload
def integrate(
    function: Callable[..., Any],
    /,
    n_dim: int | None = None,
    *,
    bounds: Sequence[tuple[float, float]] | None = None,
    n_values: Sequence[int] = (),
    backend: Backend = "numpy",
    settings: FunctionSettings | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> FunctionIntegral: ...


def integrate(
    what: Card | Path | str | Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Integration | FunctionIntegral:
    """The cross section of a card, or the integral of a function; with the samplers that were adapted to it.

    >>> found = integrate(lambda r: r[:, 0] * r[:, 1], 2)
    >>> abs(found.value - 0.25) < 5 * found.error < 0.002
    True

    Args:
        what: a card, the path of one, or the name of one that comes with mlgen; or f(points), which
            gives n real numbers, of either sign, for points (n, n_dim), float64, all at once; with
            discrete dimensions f(points, k), with k (n, len(n_values)), int64.
        n_dim: of a function: its continuous dimensions; None: as many as there are bounds.
        bounds: of a function: lower and upper end of each of them; None: 0 and 1.
        n_values: of a function: how many values each discrete dimension has, from 0; the integral is
            summed over all combinations.
        backend: of a function: whether it is called with "numpy" arrays or "torch" tensors.
        settings: of a function: the error to reach, the sampler; None: the defaults.
        seed: overrides that of the card or of the settings.

    Raises:
        MlgenError: one of its children says what is wrong.
        Exception: what the function raises.
    """
    with _one_thread():
        if isinstance(what, Card | Path | str):
            return _integrate_card(what, *args, **kwargs)
        if not callable(what):
            raise CardError(f"integrate({what!r}): expected a card or a function")
        return _integrate_function(what, *args, **kwargs)


def _integrate_card(
    card: Card | Path | str, *, seed: int | None = None, progress: Progress | None = None
) -> Integration:
    card = _chosen_card(card, None, seed)
    progress = progress or SilentProgress()
    warm = read_warm_start(card)
    integrand = build(card, progress).integrand
    start = warm.sampler_for(integrand) if warm else None
    aids = Aids(progress=progress, clock=StepClock(), start=start)
    return _integrate(integrand, card, aids)


def _integrate_function(
    function: Callable[..., Any],
    n_dim: int | None = None,
    *,
    bounds: Sequence[tuple[float, float]] | None = None,
    n_values: Sequence[int] = (),
    backend: Backend = "numpy",
    settings: FunctionSettings | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> FunctionIntegral:
    settings = settings or FunctionSettings()
    if seed is not None:
        settings = replace(settings, seed=seed)
    user = UserFunction(
        function=function,
        domain=Domain.of(n_dim, bounds, n_values),
        backend=backend,
        max_points=settings.chunk_size,
    )
    return integrate_function(user, settings, progress or SilentProgress(), StepClock())


def run(
    card: Card | Path | str,
    folder: Path | str | None = None,
    *,
    n_events: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Generate the events of a card into a folder: events, record, report and sampler pack.

    What is learned is stored in the folder every few seconds: see `resume`.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        folder: a new or empty one; None: `runs/NAME`, or the next free `runs/NAME-2`, ...
        n_events, seed: override the card's.

    Raises:
        MlgenError: one of its children says what is wrong; `run.json` in the folder says so too.
    """
    card = _chosen_card(card, n_events, seed)
    target = new_folder(folder, card.process.name)
    with sole_use(target):
        stored = StoredRun(card=card_to_toml(card))
        return _run_in(target, card, stored, progress or SilentProgress())


def resume(folder: Path | str, *, progress: Progress | None = None) -> RunResult:
    """Go on with a run that was interrupted, from what it had learned and decided.

    The events are those that it would have made.

    Args:
        folder: that of the run.

    Raises:
        CardError: no run is there, or none that was interrupted.
        PackError: what was stored is damaged, of another version of mlgen, or of another integrand.
        MlgenError: as `run`.
    """
    target = Path(folder)
    check_resumable(target)
    with sole_use(target):
        remove_unfinished(target)
        stored = read_checkpoint(target / CHECKPOINT_FILE)
        card = card_from_table(tomllib.loads(stored.card))
        stored = replace(stored, n_resumed=stored.n_resumed + 1)
        return _run_in(target, card, stored, progress or SilentProgress())


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


def _run_in(folder: Path, card: Card, stored: StoredRun, progress: Progress) -> RunResult:
    """Run a card in its folder, from what is stored there."""
    clock = StepClock(stored.cpu_s, stored.wall_s)
    checkpoint = RunCheckpoint(folder / CHECKPOINT_FILE, stored, clock)
    checkpoint.write()
    try:
        with _one_thread():
            result = _run(card, folder, progress, checkpoint)
    except MlgenError as error:
        _stopped(card, clock, "failed", str(error)).write(folder / RECORD_FILE)
        # The same random numbers would lead to the same failure to generate.
        if isinstance(error, GenerationError) or not checkpoint.has_learned:
            checkpoint.remove()
        else:
            error.add_note(f"what was learned is kept: `mlgen run --resume {folder}` goes on")
        raise
    except KeyboardInterrupt as stop:
        checkpoint.write()
        _stopped(card, clock, "interrupted", "interrupted").write(folder / RECORD_FILE)
        stop.add_note(f"`mlgen run --resume {folder}` goes on with this run")
        raise
    checkpoint.remove()
    return result


def _run(card: Card, folder: Path, progress: Progress, checkpoint: RunCheckpoint) -> RunResult:
    clock = checkpoint.clock
    with clock.step("prepare"):
        warm = read_warm_start(card)
        process = build(card, progress)
        checkpoint.bind(process.integrand, warm.sha256 if warm else "")
        start = warm.sampler_for(process.integrand) if warm else None
    aids = Aids(progress=progress, clock=clock, checkpoints=checkpoint, start=start)
    integration = _integrate(process.integrand, card, aids)
    checkpoint.catch_up()
    vegas, chosen = integration.candidates[0], integration.chosen
    with clock.step("generate"):
        proposal = chosen.proposal_for(card.run.weighted)
        integrand = process.integrand.without(integration.dropped)
        made = generate(integrand, proposal, chosen.measured, process.picker, card.run, progress)
    with clock.step("write"):
        reference = reference_sample(vegas, process.picker, card.run, N_REFERENCE)
        outcome = Outcome(
            process=process,
            integration=integration,
            generated=made,
            reference=reference,
            warm_start=warm,
            n_resumed=checkpoint.n_resumed,
        )
        files = write_events_and_pack(outcome, folder)
        # The report shows the times up to here; the record, those with the report.
        record = replace(describe(outcome, clock.wall_s), files=files, cpu_s=clock.cpu_s)
        files |= write_run_report(outcome, record, folder)
    record = replace(record, files=files, cpu_s=clock.cpu_s, wall_s=clock.wall_s)
    record.write(folder / RECORD_FILE)
    return RunResult(record=record, events=made.events, folder=folder)


def _stopped(
    card: Card, clock: StepClock, status: Literal["failed", "interrupted"], error: str
) -> RunRecord:
    return RunRecord(
        status=status,
        error=error,
        process=card.process.definition,
        seed=card.run.seed,
        sampler=card.run.sampler,
        card=card_table(card),
        versions=versions(),
        cpu_s=clock.cpu_s,
        wall_s=clock.wall_s,
    )


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
