"""What a run does in its folder: learn, pack, make events, write them; and go on after a stop."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, Protocol

import torch

import mlgen
from mlgen.build import build
from mlgen.campaign.checkpoint import CHECKPOINT_FILE, RunCheckpoint, StoredRun, read_checkpoint
from mlgen.campaign.chunk_files import CHUNKS_FOLDER
from mlgen.campaign.pack import SUFFIX, Pack, read_pack, write_pack
from mlgen.campaign.run_folder import check_resumable, remove_unfinished, sole_use
from mlgen.campaign.run_record import (
    RECORD_FILE,
    RunRecord,
    Step,
    StepClock,
    card_table,
    checksum,
    describe_file,
    versions,
    write_json_atomically,
)
from mlgen.campaign.warm_start import read_warm_start
from mlgen.campaign.workers import Workers
from mlgen.card_files import card_from_table
from mlgen.cards import Card, RunCard
from mlgen.core import EventBatch, Progress
from mlgen.errors import CardError, GenerationError, MlgenError, PackError
from mlgen.events.formats import format_names, read_events
from mlgen.integration.candidates import Integration
from mlgen.integration.integrator import Aids, integrate
from mlgen.integration.reference import reference_sample
from mlgen.jobs.generation import Job, card_of
from mlgen.jobs.outputs import Learned, pack_of, with_learning, write_run_report
from mlgen.jobs.sample import Sample, record_of, write_sample

EVENTS_STEM = "events"
"""The event file's name, without the end that says its format."""

JOB_FILE = "job.json"
"""What `mlgen generate` was asked for, while it is not done."""

N_REFERENCE = 20_000
"""Weighted points that the plots compare the events with."""
N_PLOTTED = 200_000
"""Events that are plotted: the first ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What a run left: its record, and the folder that holds the files."""

    record: RunRecord
    folder: Path

    @property
    def events(self) -> EventBatch:
        """The events, read from their file: weights are in pb, unless all of them are 1.

        Raises:
            EventFileError: the file is not there any more, or damaged.
        """
        return read_events(self.events_path)[1]

    @property
    def events_path(self) -> Path:
        """The event file."""
        return self.folder / next(n for n in self.record.files if n.startswith(EVENTS_STEM))


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What was learned, and the pack that holds it."""

    path: Path
    pack: Pack
    integration: Integration


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread: results then do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- from a card -----------------------------------------------------------------------------


def run_card(
    folder: Path, card: Card, stored: StoredRun, workers: Workers, progress: Progress
) -> RunResult:
    """Run a card in its folder, from what is stored there.

    Raises:
        MlgenError: one of its children says what is wrong; `run.json` in the folder says so too.
    """
    check_format(card)
    checkpoint = _begun(folder, stored)
    clock = checkpoint.clock
    with _recording(folder, card, clock, _Keeping(checkpoint, folder)), one_thread():
        learned = _learn(card, progress, checkpoint)
        pack, pack_path = pack_of(learned), folder / (card.process.name + SUFFIX)
        with clock.step("write"):
            write_pack(pack_path, pack)
        job = Job.of(pack, checksum(pack_path), learned.process, folder / CHUNKS_FOLDER)
        sample = _made(job, workers, clock, progress)
        record = _written(folder, sample, workers, clock, progress)
        with clock.step("write"):
            vegas, picker = learned.integration.candidates[0], learned.process.picker
            reference = reference_sample(vegas, picker, card.run, N_REFERENCE)
            files = {**record.files, pack_path.name: describe_file(pack_path)}
            # The report shows the times up to here; the record, those with the report.
            record = with_learning(record, learned, clock.wall_s)
            record = replace(record, files=files, cpu_s=clock.cpu_s)
            plotted = EventBatch.concatenate(list(sample.events.between(0, N_PLOTTED)))
            files |= write_run_report(learned, record, plotted, reference, folder)
        record = replace(record, files=files, cpu_s=clock.cpu_s, wall_s=clock.wall_s)
        record.write(folder / RECORD_FILE)
    job.files.remove()
    checkpoint.remove()
    return RunResult(record=record, folder=folder)


def train_card(folder: Path, card: Card, stored: StoredRun, progress: Progress) -> TrainResult:
    """Learn from a card in a folder, which is removed once the pack stands under its name.

    Args:
        stored: says how the pack is called.

    Raises:
        MlgenError: as `run_card`.
    """
    checkpoint = _begun(folder, stored)
    clock, path = checkpoint.clock, Path(stored.pack)
    with _recording(folder, card, clock, _Keeping(checkpoint, folder, "train")), one_thread():
        learned = _learn(card, progress, checkpoint)
        pack = pack_of(learned)
        with clock.step("write"):
            write_pack(path, pack)
    shutil.rmtree(folder, ignore_errors=True)
    return TrainResult(path=path, pack=pack, integration=learned.integration)


def _begun(folder: Path, stored: StoredRun) -> RunCheckpoint:
    clock = StepClock(stored.cpu_s, stored.wall_s)
    checkpoint = RunCheckpoint(folder / CHECKPOINT_FILE, stored, clock)
    checkpoint.write()
    return checkpoint


def _learn(card: Card, progress: Progress, checkpoint: RunCheckpoint) -> Learned:
    clock = checkpoint.clock
    with clock.step("prepare"):
        warm = read_warm_start(card)
        process = build(card, progress)
        checkpoint.bind(process.integrand, warm.sha256 if warm else "")
        start = warm.sampler_for(process.integrand) if warm else None
    aids = Aids(progress=progress, clock=clock, checkpoints=checkpoint, start=start)
    integration = integrate(process.integrand, card, aids)
    checkpoint.catch_up()
    return Learned(
        process=process,
        integration=integration,
        warm_start=warm,
        settled=checkpoint.settled,
        n_resumed=checkpoint.n_resumed,
    )


# --- from a pack -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredJob:
    """What `mlgen generate` was asked for."""

    pack: str
    """Where it lies."""
    pack_sha256: str
    n_events: int
    seed: int
    format: str
    shard: tuple[int, int] | None = None
    """Number, from 1, and of how many."""
    cache_folder: str = ""
    """Of matrix elements; empty: the usual one."""

    def run_of(self, run: RunCard) -> RunCard:
        """The section of the card that asks for it."""
        asked = {"n_events": self.n_events, "seed": self.seed, "format": self.format}
        return replace(run, **asked)  # type: ignore[arg-type]  # of the types of the fields


def run_job(folder: Path, asked: StoredJob, workers: Workers, progress: Progress) -> RunResult:
    """Make the events of a pack in a folder, with the chunks that are there already.

    Raises:
        PackError: the pack is damaged, foreign, or not the one that the chunks were made from.
        MlgenError: as `run_card`.
    """
    path = Path(asked.pack)
    pack = read_pack(path)
    if checksum(path) != asked.pack_sha256:
        raise PackError(f"{path}: another pack than before: expected sha256 {asked.pack_sha256}")
    run = asked.run_of(card_of(pack).run)
    card = card_of(pack, run, asked.cache_folder)
    check_format(card)
    clock = StepClock()
    table = {**asdict(asked), "schema": "mlgen-job", "mlgen_version": mlgen.__version__}
    write_json_atomically(folder / JOB_FILE, table)
    with _recording(folder, card, clock, _KeepingChunks(folder)), one_thread():
        with clock.step("prepare"):
            process = build(card, progress)
        job = Job.of(pack, asked.pack_sha256, process, folder / CHUNKS_FOLDER)
        if asked.shard is not None:
            job = job.shard(*asked.shard)
        sample = _made(job, workers, clock, progress)
        record = _written(folder, sample, workers, clock, progress)
        shard = "{}/{}".format(*asked.shard) if asked.shard else ""
        record = replace(record, shard=shard, cpu_s=clock.cpu_s, wall_s=clock.wall_s)
        record.write(folder / RECORD_FILE)
    job.files.remove()
    (folder / JOB_FILE).unlink()
    return RunResult(record=record, folder=folder)


def read_job(path: Path) -> StoredJob:
    """What an interrupted `mlgen generate` was asked for.

    Raises:
        PackError: it cannot be read, or is of another version of mlgen.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        version, shard = table["mlgen_version"], table["shard"]
        known = {field.name: table[field.name] for field in fields(StoredJob)}
        stored = StoredJob(**{**known, "shard": tuple(shard) if shard else None})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackError(f"{path}: cannot be read: {error}") from error
    if version != mlgen.__version__:
        raise PackError(f"{path}: written by mlgen {version}: expected {mlgen.__version__}")
    return stored


# --- both ------------------------------------------------------------------------------------


def resume_run(folder: Path, workers: Workers, progress: Progress) -> RunResult:
    """Go on with a run, or with the events of a pack, that was interrupted in a folder.

    Raises:
        CardError: no such thing is there.
        PackError: what was stored is damaged, of another version of mlgen, or of another integrand.
        MlgenError: as `run_card`.
    """
    if (folder / JOB_FILE).is_file():
        with sole_use(folder):
            remove_unfinished(folder)
            return run_job(folder, read_job(folder / JOB_FILE), workers, progress)
    with _stored_run(folder) as (card, stored):
        if stored.pack:
            raise CardError(
                f"--resume {folder}: a training: expected `mlgen train --resume {folder}`"
            )
        return run_card(folder, card, stored, workers, progress)


def resume_training(folder: Path, progress: Progress) -> TrainResult:
    """Go on with a training that was interrupted in a folder.

    Raises:
        CardError, PackError, MlgenError: as `resume_run`.
    """
    with _stored_run(folder) as (card, stored):
        if not stored.pack:
            raise CardError(f"--resume {folder}: a run: expected `mlgen run --resume {folder}`")
        return train_card(folder, card, stored, progress)


@contextmanager
def _stored_run(folder: Path) -> Iterator[tuple[Card, StoredRun]]:
    """What is stored in a folder, which is ours alone meanwhile."""
    check_resumable(folder)
    with sole_use(folder):
        remove_unfinished(folder)
        stored = read_checkpoint(folder / CHECKPOINT_FILE)
        card = card_from_table(tomllib.loads(stored.card))
        yield card, replace(stored, n_resumed=stored.n_resumed + 1)


def check_format(card: Card) -> None:
    """Refuse a format that no writer has, before anything is computed.

    Raises:
        CardError: says which there are.
    """
    known = format_names()
    if card.run.format not in known:
        names = ", ".join(known)
        raise CardError(f"run.format = {card.run.format!r}: expected one of {names}")


def _made(job: Job, workers: Workers, clock: StepClock, progress: Progress) -> Sample:
    with clock.step("generate"), _charging(workers, clock, "generate"):
        return Sample(job=job, chunks=job.make(workers, progress))


def _written(
    folder: Path, sample: Sample, workers: Workers, clock: StepClock, progress: Progress
) -> RunRecord:
    """The event file, and the record of the sample."""
    path = folder / f"{EVENTS_STEM}.{sample.process.card.run.format}"
    with clock.step("write"), _charging(workers, clock, "write"):
        file, weights = write_sample(path, sample, workers, progress)
    with clock.step("generate"):
        workers.release()
    losses = tuple(
        f"a worker ended by {loss.cause}; chunk {loss.index} was made again"
        for loss in workers.losses
    )
    return replace(record_of(sample, weights), files={path.name: file}, warnings=losses)


@contextmanager
def _charging(workers: Workers, clock: StepClock, step: Step) -> Iterator[None]:
    """Charge what workers compute inside to a step.

    The system counts processes of this machine when they end, where that is charged to generating.
    """
    before = workers.cpu_s
    yield
    source: Step | None = "generate" if workers.are_children else None
    if source != step:
        clock.move(workers.cpu_s - before, source, step)


class _Stops(Protocol):
    """What is done where a run stops before its end."""

    @property
    def command(self) -> str:
        """What goes on with it."""

    def __call__(self, error: BaseException) -> bool:
        """Whether there is anything to go on from."""


@dataclass(frozen=True, slots=True)
class _Keeping:
    """Keep what was learned, and the chunks that are done."""

    checkpoint: RunCheckpoint
    folder: Path
    command: str = "run"

    def __call__(self, error: BaseException) -> bool:
        if isinstance(error, KeyboardInterrupt):
            self.checkpoint.write()
            return True
        # The same random numbers would lead to the same failure to generate.
        if isinstance(error, GenerationError) or not self.checkpoint.has_learned:
            self.checkpoint.remove()
            shutil.rmtree(self.folder / CHUNKS_FOLDER, ignore_errors=True)
            return False
        return True


@dataclass(frozen=True, slots=True)
class _KeepingChunks:
    """Keep the chunks that are done."""

    folder: Path
    command: str = "run"

    def __call__(self, error: BaseException) -> bool:
        if isinstance(error, GenerationError | CardError):
            (self.folder / JOB_FILE).unlink(missing_ok=True)
            shutil.rmtree(self.folder / CHUNKS_FOLDER, ignore_errors=True)
            return False
        return True


@contextmanager
def _recording(folder: Path, card: Card, clock: StepClock, stops: _Stops) -> Iterator[None]:
    """Say in `run.json` how a run ended, if it did not end well, and how to go on."""
    try:
        yield
    except Exception as error:  # also one of no family of ours: what was done is kept all the same
        with suppress(MlgenError):  # of a full disk, say; the first error tells more
            _stopped(card, clock, "failed", str(error)).write(folder / RECORD_FILE)
        if stops(error):
            error.add_note(
                f"what was done is kept: `mlgen {stops.command} --resume {folder}` goes on"
            )
        raise
    except KeyboardInterrupt as stop:
        with suppress(MlgenError):
            stops(stop)
            _stopped(card, clock, "interrupted", "interrupted").write(folder / RECORD_FILE)
        stop.add_note(f"`mlgen {stops.command} --resume {folder}` goes on with this run")
        raise


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
