"""Points whose matrix element was computed, kept in the run folder until a surrogate has learned from them.

A file for each batch, so that a run which goes on after a stop learns from the same points.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from mlgen.campaign.archive import Archive, ArchiveKind, write_archive
from mlgen.errors import PackError
from mlgen.integration.exact_points import ExactPoints
from mlgen.integration.learner import Round

POINTS_FOLDER = "points"

STAGES = ("adapt", "adapt_again", "estimate vegas", "train")
"""Those that come first, in their order."""

_KIND = ArchiveKind(
    title="batch of points",
    index="points.json",
    schema="mlgen-points",
    schema_version=1,
    folder="columns",
)


@dataclass(frozen=True, slots=True)
class PointFiles:
    """A folder of batches of points."""

    folder: Path

    def write(self, stage: str, index: int, points: ExactPoints) -> None:
        """Keep a batch, in the place of one that is there already.

        Raises:
            MlgenError: the file cannot be written.
        """
        self.folder.mkdir(exist_ok=True)
        columns = {field.name: getattr(points, field.name) for field in fields(points)}
        name = f"{_rank(stage)}-{stage.replace(' ', '_')}-{index:06}.zip"
        write_archive(self.folder / name, _KIND, {}, {"points": columns})

    def read(self, before: Round | None = None) -> Iterator[ExactPoints]:
        """All that is kept, by stage, then by number; up to a round, if it is given.

        Raises:
            PackError: a file is damaged. Its points are not drawn again, as the learner that drew them
                has moved on; those of estimates are, before they are read.
        """
        for path in sorted(self.folder.glob("*.zip")):
            if before is None or _place(path) < (_rank(before[0]), before[1]):
                yield _read(path)

    def remove(self) -> None:
        """Nothing is left to learn."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: Path) -> ExactPoints:
    try:
        return Archive(path, _KIND).assemble(_assemble)
    except PackError as error:
        raise PackError(
            f"{error}; delete this file to go on without its points, with events that are as exact, or "
            "run the card again into another folder for the same events"
        ) from error


def _assemble(archive: Archive) -> ExactPoints:
    return ExactPoints(**archive.tensors("points"))


def _place(path: Path) -> tuple[int, int]:
    """The rank of its stage, and its number."""
    parts = path.stem.split("-")
    return int(parts[0]), int(parts[-1])


def _rank(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES)
