"""Events from a pack, in a folder: `mlgen generate`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import mlgen
from mlgen.build import build
from mlgen.campaign.chunk_files import CHUNKS_FOLDER
from mlgen.campaign.conforming import check_conforms
from mlgen.campaign.pack import read_pack
from mlgen.campaign.run_record import RECORD_FILE
from mlgen.campaign.step_clock import StepClock
from mlgen.campaign.whole_files import checksum, write_json_atomically
from mlgen.campaign.workers import Workers
from mlgen.cards import RunCard
from mlgen.core import Progress
from mlgen.errors import PackError
from mlgen.jobs.generation import Job, card_of
from mlgen.jobs.stages import RunResult, check_format, make_sample, one_thread, write_files
from mlgen.jobs.stops import JOB_FILE, KeepingChunks, recording


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
    with recording(folder, card, clock, KeepingChunks(folder)), one_thread():
        with clock.step("prepare"):
            process = build(card, progress)
        job = Job.of(pack, asked.pack_sha256, process, folder / CHUNKS_FOLDER)
        if asked.shard is not None:
            job = job.shard(*asked.shard)
        sample = make_sample(job, workers, clock, progress)
        record = write_files(folder, sample, workers, clock, progress)
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
        check_conforms(stored)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PackError(f"{path}: cannot be read: {error}") from error
    if version != mlgen.__version__:
        raise PackError(f"{path}: written by mlgen {version}: expected {mlgen.__version__}")
    return stored
