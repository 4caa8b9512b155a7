"""Parts of a sample joined into one event file: each chunk once, and none missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlgen.campaign.shard import SHARD_BLOCK, Shard
from mlgen.core import EventBatch, Progress, SampleInfo
from mlgen.errors import CardError, EventFileError
from mlgen.events.formats import open_reader, open_writer
from mlgen.events.writing import FileWeights
from mlgen.integration.generate import Totals


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What was joined."""

    path: Path
    n_events: int
    cross_section_pb: float
    cross_section_error_pb: float
    kish_effective_size: float
    overweight_fraction: float
    n_matrix_element_calls: int
    """Without those that the sampler was learned and measured with."""


def merge(paths: Sequence[Path], output: Path, n_events: int | None, progress: Progress) -> Merged:
    """Join the parts of a sample, in any order, into one file; memory does not grow with them.

    Args:
        paths: files that `mlgen generate --shard` wrote; plain, compressed or LHEH5.
        output: the new file; its name says its format.
        n_events: the first so many; None: as many as the sample was to have.

    Raises:
        EventFileError: a file is no part, damaged, or of another sample; a chunk is there twice, or
            missing; there are fewer events than asked for.
        CardError: the output is there already.
    """
    if output.exists():
        raise CardError(f"--output {output}: expected a file that does not exist yet")
    parts = sorted((_Part.read(path) for path in paths), key=lambda part: part.first_chunk)
    _check_complete(parts)
    first, shards = parts[0], [part.shard for part in parts]
    wanted = shards[0].n_events if n_events is None else n_events
    chunks = [chunk for shard in shards for chunk in shard.chunks]
    there = sum(chunk.n_events for chunk in chunks)
    if wanted > there:
        raise EventFileError(
            f"{there} events in all parts: expected {wanted}; --n-events {there} takes those"
        )
    totals = Totals.of(chunks)
    sums = shards[0].measured + totals.sums
    notes = [note for note in first.info.notes if note[0] != "overweight_fraction"]
    notes.append(("overweight_fraction", f"{totals.overweight_fraction:.6g}"))
    info = replace(
        first.info,
        cross_section_pb=sums.mean,
        cross_section_error_pb=sums.error,
        # Of a file with IDWTUP = -4 the reader cannot tell; the weights say what they are.
        weighted=False,
        notes=tuple(notes),
        blocks=tuple(block for block in first.info.blocks if block[0] != SHARD_BLOCK),
    )
    weights = FileWeights.of(
        (w for batch in _events(parts, wanted) for w in batch.weight.tolist()), info
    )
    with (
        progress.step(f"writing {output.name}", wanted) as advance,
        open_writer(output, info, weights) as writer,
    ):
        for batch in _events(parts, wanted):
            writer.write(batch)
            advance(len(batch), "")
    return Merged(
        path=output,
        n_events=wanted,
        cross_section_pb=sums.mean,
        cross_section_error_pb=sums.error,
        kish_effective_size=weights.kish_effective_size,
        overweight_fraction=totals.overweight_fraction,
        n_matrix_element_calls=totals.n_calls,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """One of the files."""

    path: Path
    info: SampleInfo
    shard: Shard

    @classmethod
    def read(cls, path: Path) -> _Part:
        with open_reader(path) as reader:
            info = reader.info
        return cls(path=path, info=info, shard=Shard.of(info, str(path)))

    @property
    def first_chunk(self) -> int:
        return min((chunk.index for chunk in self.shard.chunks), default=0)

    def events(self) -> Iterator[EventBatch]:
        """Its events, with the weights that they were made with."""
        n_events, factor = 0, self.shard.factor
        with open_reader(self.path) as reader:
            for batch in reader:
                n_events += len(batch)
                yield replace(
                    batch, weight=batch.weight / factor, variations=batch.variations / factor
                )
        wanted = sum(chunk.n_events for chunk in self.shard.chunks)
        if n_events != wanted:
            raise EventFileError(f"{self.path}: {n_events} events: expected {wanted}")


def _events(parts: Sequence[_Part], n_events: int) -> Iterator[EventBatch]:
    """The first events of the parts together."""
    left = n_events
    for part in parts:
        for batch in part.events():
            # All are read, so that a damaged end is noticed whatever is kept.
            if left:
                kept = batch.select(slice(0, left))
                left -= len(kept)
                yield kept


def _check_complete(parts: Sequence[_Part]) -> None:
    """Refuse parts of different samples, chunks that are there twice, and chunks that are missing."""
    if not parts:
        raise CardError("Missing argument: expected the event files of the parts")
    first = parts[0]
    for part in parts[1:]:
        for name in ("source", "n_events", "n_chunks"):
            got, wanted = getattr(part.shard, name), getattr(first.shard, name)
            if got != wanted:
                raise EventFileError(
                    f"{part.path}: {name} = {got}: expected {wanted}, as in {first.path}"
                )
    indices = [chunk.index for part in parts for chunk in part.shard.chunks]
    twice = sorted(index for index, n in Counter(indices).items() if n > 1)
    if twice:
        owners = [str(p.path) for p in parts if twice[0] in {c.index for c in p.shard.chunks}]
        raise EventFileError(
            f"chunk {twice[0]} is there {len(owners)} times, in {' and '.join(owners)}: expected "
            "each part once"
        )
    missing = sorted(set(range(first.shard.n_chunks)) - set(indices))
    if missing:
        raise EventFileError(
            f"chunks {_spans(missing)} of {first.shard.n_chunks} are missing: expected all parts"
        )
    if indices != sorted(indices):
        raise EventFileError(
            "the chunks of the parts interleave: expected neighbouring ones in each"
        )


def _spans(numbers: Sequence[int]) -> str:
    """Ascending numbers for people: `3-7, 9`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)
