"""What becomes of a run that stops before its end: what is kept, and what it says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mlgen.campaign.checkpoint import RunCheckpoint
from mlgen.campaign.chunk_files import CHUNKS_FOLDER
from mlgen.campaign.run_record import RECORD_FILE, RunRecord, card_table, versions
from mlgen.campaign.step_clock import StepClock
from mlgen.cards import Card
from mlgen.errors import CardError, GenerationError, MlgenError

JOB_FILE = "job.json"
"""What `mlgen generate` was asked for, while it is not done."""


class Stops(Protocol):
    """What is done where a run stops before its end."""

    @property
    def command(self) -> str:
        """What goes on with it."""

    def __call__(self, error: BaseException) -> bool:
        """Whether there is anything to go on from."""


@dataclass(frozen=True, slots=True)
class Keeping:
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
class KeepingChunks:
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
def recording(folder: Path, card: Card, clock: StepClock, stops: Stops) -> Iterator[None]:
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
