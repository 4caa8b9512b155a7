"""From a pack to an event file: a frozen source of events, its chunks, and the file that holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch

from mlgen.build import Process, build
from mlgen.campaign.chunk_files import ChunkFiles, EventsOfChunks, chunk_bytes
from mlgen.campaign.pack import Pack, PackedSurrogate
from mlgen.campaign.workers import InProcess, Workers
from mlgen.card_files import card_from_toml, card_to_toml
from mlgen.cards import Card, RunCard
from mlgen.core import OneHelicity, Progress, SampleInfo
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, PackError
from mlgen.events.formats import open_writer
from mlgen.events.writing import EVENTS_PER_PIECE, EventEncoder, FileWeights, in_pieces
from mlgen.integration.generate import ChunkPlan, ChunkSource, ChunkSummary, EventSource
from mlgen.integration.helicity_prices import configurations
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.proposal import Proposal
from mlgen.integration.second_step import AllHelicities, DrawnHelicities, SecondStep
from mlgen.integration.trust import Trust
from mlgen.integration.two_stage import Maxima, SurrogateIntegrand, TwoStageSource
from mlgen.samplers.registry import restore_sampler
from mlgen.surrogates.helicity_shares import restore_shares
from mlgen.surrogates.surrogate import restore_surrogate

EVENTS_PER_TASK = 16 * EVENTS_PER_PIECE
"""Whole pieces of a file, which a worker makes together."""

T = TypeVar("T")


def card_of(pack: Pack, run: RunCard | None = None, cache_folder: str = "") -> Card:
    """The card of a pack; its paths are those of the machine that wrote it.

    Args:
        run: instead of its own.
        cache_folder: of matrix elements; empty: the usual one.

    Raises:
        PackError: this mlgen does not understand it.
    """
    try:
        card = card_from_toml(pack.card)
    except CardError as error:
        raise PackError(f"the pack's card cannot be read: {error}") from error
    matrix_element = replace(card.matrix_element, cache_folder=cache_folder)
    return replace(card, run=run or card.run, matrix_element=matrix_element)


def source_of(pack: Pack, process: Process) -> ChunkSource:
    """What a pack draws the events of `process.card.run` from.

    Raises:
        PackError: the pack is of another integrand than the process has here, or is damaged.
    """
    packed, card = pack.chosen, process.card
    fractions = torch.tensor(packed.fraction, dtype=torch.float64)
    if len(fractions) != process.integrand.n_channels:
        raise PackError(
            f"the pack has {len(fractions)} channels: expected {process.integrand.n_channels}, as "
            "the process has"
        )
    w_max = torch.tensor(packed.w_max, dtype=torch.float64)
    if float(fractions.min()) < 0 or float(fractions.sum()) <= 0 or float(w_max.min()) < 0:
        raise PackError(
            "the pack is damaged: expected no negative w_max, and shares that add up to 1"
        )
    dropped = (fractions == 0).nonzero()[:, 0].tolist()
    try:
        integrand = process.integrand.without(dropped)
    except ValueError as error:
        raise PackError(f"the pack is damaged: {error}") from error
    if difference := pack.fingerprint.difference(integrand):
        raise PackError(f"the pack is of {difference}: expected what the process has here")
    shape = integrand.n_channels, integrand.n_dim
    sampler = restore_sampler(pack.sampler, card, *shape, packed.tensors)
    drawn = torch.tensor(pack.drawn(card.run.weighted), dtype=torch.float64)
    proposal = Proposal(sampler=sampler, fractions=drawn)
    if pack.surrogate is not None and not card.run.weighted:
        return _two_stage_source(pack.surrogate, process, integrand, proposal)
    return EventSource(
        integrand=integrand, pick=process.picker, proposal=proposal, w_max=w_max, run=card.run
    )


def _two_stage_source(
    packed: PackedSurrogate, process: Process, integrand: ProcessIntegrand, proposal: Proposal
) -> TwoStageSource:
    """Events of a pack with a surrogate.

    Raises:
        PackError: the pack is damaged.
    """
    try:
        trust = Trust(**packed.trust)
    except TypeError as error:
        raise PackError(f"the pack's surrogate cannot be read: {error}") from error
    floor, s_max, x_max = (
        torch.tensor(column, dtype=torch.float64)
        for column in (packed.floor, packed.s_max, packed.x_max)
    )
    settings, model = process.card.surrogate, process.picker.model
    surrogate = restore_surrogate(integrand.groups, model, settings, packed.tensors)
    second = _second_step(packed, process, integrand)
    return TwoStageSource(
        integrand=SurrogateIntegrand(
            integrand=integrand, surrogate=surrogate, trust=trust, second=second
        ),
        pick=process.picker,
        proposal=proposal,
        maxima=Maxima(floor=floor, s_max=s_max, x_max=x_max),
        run=process.card.run,
    )


def _second_step(
    packed: PackedSurrogate, process: Process, integrand: ProcessIntegrand
) -> SecondStep:
    """What a pack corrects the points of its surrogate with.

    Raises:
        PackError: the pack is damaged, or the matrix element has no single helicities here.
    """
    if packed.n_draws == 0:
        return AllHelicities()
    amplitude = integrand.amplitude
    if not isinstance(amplitude, OneHelicity):
        raise PackError(
            f"the pack draws helicities: expected a matrix element that has them, not that of "
            f"{process.provider}"
        )
    known = configurations(integrand, amplitude)
    model = process.picker.model
    shares = restore_shares(integrand.groups, model, known, packed.helicities)
    return DrawnHelicities(amplitude=amplitude, shares=shares, n_draws=packed.n_draws)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewChunk:
    """A chunk on its way to its file."""

    n_events: int
    summary: ChunkSummary
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class MakeChunks:
    """Makes chunks of events from a pack, wherever it is opened."""

    pack: Pack
    card: str
    """TOML, with the folders of this machine."""
    source: str
    """What the chunks are said to be made from."""

    def open(self) -> Callable[[int], NewChunk]:
        card = card_from_toml(self.card)
        return chunk_maker(source_of(self.pack, build(card, SilentProgress())), self.source)


def chunk_maker(source: ChunkSource, name: str) -> Callable[[int], NewChunk]:
    """The function that makes a chunk from its index."""

    def make(index: int) -> NewChunk:
        chunk = source.chunk(index)
        return NewChunk(
            n_events=len(chunk.events), summary=chunk.summary, content=chunk_bytes(chunk, name)
        )

    return make


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedHere:
    """A task that this process has opened already: no other can."""

    function: Callable[[int], NewChunk]

    def open(self) -> Callable[[int], NewChunk]:
        return self.function


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A sample that is to be made: what from, how much, and where its chunks lie meanwhile."""

    pack: Pack
    process: Process
    """Of the pack's card, with the `run` section of this sample."""
    files: ChunkFiles
    plan: ChunkPlan
    chunks: range | None = None
    """Of a shard: the chunks that it makes; None: all."""

    @classmethod
    def of(cls, pack: Pack, sha256: str, process: Process, folder: Path) -> Job:
        """The whole sample of a pack that the run card of the process asks for.

        Args:
            sha256: of the pack.
            folder: where chunks are stored.
        """
        run = process.card.run
        plan = ChunkPlan.of(run, *pack.yield_of(run.weighted))
        kind = "weighted" if run.weighted else "unweighted"
        source = f"{sha256} seed {run.seed} {run.chunk_size} points {kind}"
        return cls(pack=pack, process=process, files=ChunkFiles(folder, source), plan=plan)

    def shard(self, number: int, of: int) -> Job:
        """The part `number` (from 1) of so many: neighbouring chunks of those that are planned.

        Raises:
            CardError: there is no such part, or fewer chunks than parts.
        """
        n_planned = self.plan.n_planned
        if not 1 <= number <= of:
            raise CardError(f"--shard {number}/{of}: expected I/K with 1 <= I <= K")
        if of > n_planned:
            raise CardError(
                f"--shard {number}/{of}: expected at most {n_planned} parts, as many as there are "
                f"chunks of run.chunk_size = {self.plan.chunk_size} points"
            )
        bounds = [n_planned * i // of for i in (number - 1, number)]
        return replace(self, chunks=range(*bounds))

    def make(self, workers: Workers, progress: Progress) -> list[ChunkSummary]:
        """Make the chunks that are not there yet; the summaries of all, in their order.

        Raises:
            GenerationError: too many points gave too few events.
            MlgenError: a chunk cannot be made or written.
        """
        made = self.files.summaries()
        wanted = self.plan.n_events
        if self.chunks is not None:
            wanted = round(wanted * len(self.chunks) / self.plan.n_planned)
        task = self._task(workers)
        with progress.step("generating", wanted) as advance:
            advance(sum(chunk.n_events for chunk in made.values()), _chunks(len(made)))
            while missing := self._missing(made):
                for index, new in workers.compute(task, missing):
                    self.files.write(index, new.content)
                    made[index] = new.summary
                    advance(new.n_events, _chunks(len(made)))
        return _first(made) if self.chunks is None else [made[index] for index in self.chunks]

    def _missing(self, made: dict[int, ChunkSummary]) -> list[int]:
        if self.chunks is not None:
            return [index for index in self.chunks if index not in made]
        planned = [index for index in self.plan.missing([]) if index not in made]
        return planned or list(self.plan.missing(_first(made)))

    def _task(self, workers: Workers) -> MakeChunks | OpenedHere:
        if isinstance(workers, InProcess):
            source = source_of(self.pack, self.process)
            return OpenedHere(function=chunk_maker(source, self.files.source))
        card = card_to_toml(self.process.card)
        return MakeChunks(pack=self.pack, card=card, source=self.files.source)


def _chunks(n: int) -> str:
    return f"{n} chunks" if n != 1 else "1 chunk"


def _first(made: dict[int, ChunkSummary]) -> list[ChunkSummary]:
    """The chunks from the first one on, up to one that is not there."""
    found: list[ChunkSummary] = []
    while len(found) in made:
        found.append(made[len(found)])
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodePieces:
    """Makes pieces of an event file from chunks on the disk."""

    events: EventsOfChunks
    encode: EventEncoder[bytes]

    def open(self) -> Callable[[int], list[bytes]]:
        def make(index: int) -> list[bytes]:
            events = self.events.between(index * EVENTS_PER_TASK, (index + 1) * EVENTS_PER_TASK)
            return [self.encode(piece) for piece in in_pieces(events)]

        return make


def write_event_file(
    path: Path,
    events: EventsOfChunks,
    info: SampleInfo,
    weights: FileWeights,
    workers: Workers,
    progress: Progress,
) -> None:
    """Write the events of chunks to a file.

    Args:
        weights: how theirs stand there.
        workers: encode the events; the file is written here.

    Raises:
        EventFileError: it cannot be written.
    """
    n_tasks = -(-events.n_events // EVENTS_PER_TASK)
    with (
        progress.step(f"writing {path.name}", events.n_events) as advance,
        open_writer(path, info, weights) as writer,
    ):
        task = EncodePieces(events=events, encode=writer.encode)
        for pieces in in_order(workers.compute(task, range(n_tasks))):
            for piece in pieces:
                writer.append(piece)
            advance(min(len(pieces) * EVENTS_PER_PIECE, events.n_events), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadWeights:
    """Reads the weights of events from chunks on the disk."""

    events: EventsOfChunks

    def open(self) -> Callable[[int], Sequence[float]]:
        def read(index: int) -> Sequence[float]:
            batches = self.events.between(index * EVENTS_PER_TASK, (index + 1) * EVENTS_PER_TASK)
            return [weight for batch in batches for weight in batch.weight.tolist()]

        return read


def weights_of(events: EventsOfChunks, workers: Workers) -> Iterator[float]:
    """The weights of events, one by one, as workers read them."""
    n_tasks = -(-events.n_events // EVENTS_PER_TASK)
    parts = in_order(workers.compute(ReadWeights(events=events), range(n_tasks)))
    return chain.from_iterable(parts)


def in_order(results: Iterable[tuple[int, T]]) -> Iterator[T]:
    """Results in the order of their indices 0, 1, ..., as soon as each one's turn has come."""
    waiting: dict[int, T] = {}
    following = 0
    for index, result in results:
        waiting[index] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1
