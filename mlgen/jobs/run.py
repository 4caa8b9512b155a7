"""What a run does in its folder: learn, pack, make events, write them; and go on after a stop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mlgen.build import build
from mlgen.campaign.checkpoint import CHECKPOINT_FILE, RunCheckpoint, StoredRun, read_checkpoint
from mlgen.campaign.chunk_files import CHUNKS_FOLDER
from mlgen.campaign.pack import SUFFIX, Pack, write_pack
from mlgen.campaign.point_files import POINTS_FOLDER, PointFiles
from mlgen.campaign.run_folder import check_resumable, remove_unfinished, sole_use
from mlgen.campaign.run_record import RECORD_FILE, describe_file
from mlgen.campaign.step_clock import StepClock
from mlgen.campaign.warm_start import read_warm_start
from mlgen.campaign.whole_files import checksum
from mlgen.campaign.workers import Workers
from mlgen.card_files import card_from_toml
from mlgen.cards import Card
from mlgen.core import EventBatch, Progress
from mlgen.errors import CardError
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Integration
from mlgen.integration.integrator import integrate
from mlgen.integration.learned_surrogate import SurrogateGuide
from mlgen.integration.reference import reference_sample
from mlgen.integration.stand_in import stand_in
from mlgen.jobs.generation import Job
from mlgen.jobs.outputs import Learned, pack_of, with_learning, write_run_report
from mlgen.jobs.pack_job import read_job, run_job
from mlgen.jobs.stages import RunResult, check_format, make_sample, one_thread, write_files
from mlgen.jobs.stops import JOB_FILE, Keeping, recording

N_REFERENCE = 20_000
"""Weighted points that the plots compare the events with."""
N_PLOTTED = 200_000
"""Events that are plotted: the first ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What was learned, and the pack that holds it."""

    path: Path
    pack: Pack
    integration: Integration


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
    with recording(folder, card, clock, Keeping(checkpoint, folder)), one_thread():
        learned = _learn(card, progress, checkpoint)
        pack, pack_path = pack_of(learned), folder / (card.process.name + SUFFIX)
        with clock.step("write"):
            write_pack(pack_path, pack)
        job = Job.of(pack, checksum(pack_path), learned.process, folder / CHUNKS_FOLDER)
        sample = make_sample(job, workers, clock, progress)
        record = write_files(folder, sample, workers, clock, progress)
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
    with recording(folder, card, clock, Keeping(checkpoint, folder, "train")), one_thread():
        learned = _learn(card, progress, checkpoint)
        pack = pack_of(learned)
        with clock.step("write"):
            write_pack(path, pack)
    shutil.rmtree(folder, ignore_errors=True)
    return TrainResult(path=path, pack=pack, integration=learned.integration)


def _begun(folder: Path, stored: StoredRun) -> RunCheckpoint:
    clock = StepClock(stored.cpu_s, stored.wall_s)
    run = card_from_toml(stored.card).run
    is_wanted = run.surrogate != "never" and not run.weighted
    points = PointFiles(folder / POINTS_FOLDER) if is_wanted else None
    checkpoint = RunCheckpoint(folder / CHECKPOINT_FILE, stored, clock, points=points)
    checkpoint.write()
    return checkpoint


def _learn(card: Card, progress: Progress, checkpoint: RunCheckpoint) -> Learned:
    clock = checkpoint.clock
    with clock.step("prepare"):
        warm = read_warm_start(card)
        process = build(card, progress)
        checkpoint.bind(process.integrand, warm.sha256 if warm else "")
        start = warm.sampler_for(process.integrand) if warm else None
    aids = Aids(
        progress=progress,
        clock=clock,
        checkpoints=checkpoint,
        start=start,
        guide=SurrogateGuide(card=card, model=process.picker.model),
    )
    integration = integrate(process.integrand, card, aids)
    integrand = process.integrand.without(integration.dropped)
    found = stand_in(integrand, integration.chosen, card, process.picker.model, aids)
    checkpoint.catch_up()
    return Learned(
        process=process,
        integration=integration,
        stand_in=found,
        warm_start=warm,
        settled=checkpoint.settled,
        n_resumed=checkpoint.n_resumed,
    )


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
        card = card_from_toml(stored.card)
        yield card, replace(stored, n_resumed=stored.n_resumed + 1)
