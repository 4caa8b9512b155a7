"""What all jobs do: make a sample, write its file, and say what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mlgen.campaign.run_record import RunRecord
from mlgen.campaign.step_clock import Step, StepClock
from mlgen.campaign.workers import Workers
from mlgen.cards import Card
from mlgen.core import EventBatch, Progress
from mlgen.errors import CardError
from mlgen.events.formats import format_names, read_events
from mlgen.jobs.generation import Job
from mlgen.jobs.sample import Sample, record_of, write_sample

EVENTS_STEM = "events"
"""The event file's name, without the end that says its format."""


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread: results then do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_format(card: Card) -> None:
    """Refuse a format that no writer has, before anything is computed.

    Raises:
        CardError: says which there are.
    """
    known = format_names()
    if card.run.format not in known:
        names = ", ".join(known)
        raise CardError(f"run.format = {card.run.format!r}: expected one of {names}")


def make_sample(job: Job, workers: Workers, clock: StepClock, progress: Progress) -> Sample:
    """Make the chunks of a sample that are not there yet.

    Raises:
        MlgenError: as `Job.make`.
    """
    with clock.step("generate"), _charging(workers, clock, "generate"):
        return Sample(job=job, chunks=job.make(workers, progress))


def write_files(
    folder: Path, sample: Sample, workers: Workers, clock: StepClock, progress: Progress
) -> RunRecord:
    """Write the event file; the record of the sample.

    Raises:
        EventFileError: it cannot be written.
    """
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
