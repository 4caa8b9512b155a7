"""What a sample of events leaves behind: its file, and its part of the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlgen.build import Process
from mlgen.campaign.chunk_files import EventsOfChunks
from mlgen.campaign.pack import Pack
from mlgen.campaign.run_record import (
    ChannelRecord,
    FileRecord,
    GroupRecord,
    RunRecord,
    VariationRecord,
    card_table,
    describe_file,
    portable_card,
    versions,
)
from mlgen.campaign.shard import Shard
from mlgen.campaign.workers import InProcess, LocalWorkers, Workers
from mlgen.card_files import card_to_toml
from mlgen.core import Progress, SampleInfo
from mlgen.events.writing import FileWeights
from mlgen.integration.estimate import ChannelSums, ratios_of_means
from mlgen.integration.generate import ChunkSummary, Totals
from mlgen.jobs.generation import Job, weights_of, write_event_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A sample whose chunks are made."""

    job: Job
    chunks: Sequence[ChunkSummary]
    """In their order."""

    @property
    def process(self) -> Process:
        return self.job.process

    @property
    def pack(self) -> Pack:
        return self.job.pack

    @property
    def totals(self) -> Totals:
        return Totals.of(self.chunks)

    @property
    def sums(self) -> ChannelSums:
        """Every fresh point of the sampler: those that measured it, and those of the events."""
        return self.pack.chosen.estimate.sums + self.totals.sums

    @property
    def n_events(self) -> int:
        """As many as were asked for; of a shard, all that its chunks hold."""
        found = sum(chunk.n_events for chunk in self.chunks)
        return found if self.job.chunks is not None else min(found, self.job.plan.n_events)

    @property
    def events(self) -> EventsOfChunks:
        return self.job.files.events(self.chunks, self.n_events)

    @property
    def info(self) -> SampleInfo:
        """What its file says of itself."""
        process, sums, eps_uw = self.process, self.sums, self.pack.chosen.estimate.eps_uw
        card = process.card
        notes = (
            ("matrix_element", process.provider),
            ("sampler", self.pack.sampler),
            ("surrogate", "yes" if self.pack.surrogate else "no"),
            ("seed", str(card.run.seed)),
            (
                "eps_uw",
                f"{eps_uw.value:.6g} +- {eps_uw.error:.2g} (N = {eps_uw.n}, t = {eps_uw.t:g})",
            ),
            ("overweight_fraction", f"{self.totals.overweight_fraction:.6g}"),
        )
        return SampleInfo(
            beams=process.beams,
            cross_section_pb=sums.mean,
            cross_section_error_pb=sums.error,
            weighted=card.run.weighted,
            process=card.process.definition,
            card=card_to_toml(portable_card(card)),
            variations=process.picker.reweighting.variations,
            notes=notes,
        )

    def blocks(self, weights: FileWeights) -> tuple[tuple[str, str], ...]:
        """What a part says of itself, so that it can be joined with the others."""
        job = self.job
        if job.chunks is None:
            return ()
        shard = Shard(
            source=job.files.source,
            n_events=job.plan.n_events,
            n_chunks=job.plan.n_planned,
            factor=weights.factor,
            measured=self.pack.chosen.estimate.sums,
            chunks=self.chunks,
        )
        return (shard.block,)


def write_sample(
    path: Path, sample: Sample, workers: Workers, progress: Progress
) -> tuple[FileRecord, FileWeights]:
    """Write the events of a sample to a file; what the file is, and how weights stand in it.

    Raises:
        EventFileError: it cannot be written.
    """
    events, info = sample.events, sample.info
    # Processes elsewhere do not see this disk.
    near = workers if isinstance(workers, LocalWorkers) else InProcess()
    weights = FileWeights.of(weights_of(events, near), info)
    info = replace(info, blocks=sample.blocks(weights))
    write_event_file(path, events, info, weights, near, progress)
    return describe_file(path), weights


def record_of(sample: Sample, weights: FileWeights) -> RunRecord:
    """The record of a sample; times, files and what led to its sampler are still to be filled in."""
    process, totals, sums = sample.process, sample.totals, sample.sums
    packed = sample.pack.chosen
    return RunRecord(
        status="complete",
        process=process.card.process.definition,
        seed=process.card.run.seed,
        sampler=sample.pack.sampler,
        cross_section_pb=sums.mean,
        cross_section_error_pb=sums.error,
        n_events=sample.n_events,
        eps_uw=packed.estimate.eps_uw,
        ess=packed.estimate.ess,
        kish_effective_size=weights.kish_effective_size,
        overweight_fraction=totals.overweight_fraction,
        n_matrix_element_calls=totals.n_calls,
        groups=_group_records(process, sums),
        channels=_channel_records(sample),
        variations=_variation_records(sample),
        notes=notes_on(process),
        card=card_table(process.card),
        versions=versions(),
    )


def _group_records(process: Process, sums: ChannelSums) -> tuple[GroupRecord, ...]:
    groups, channels = process.integrand.groups, process.integrand.phase_space.channels
    means, variances = [0.0] * len(groups), [0.0] * len(groups)
    for channel, mean, variance in zip(
        channels, sums.means.tolist(), sums.variances.tolist(), strict=True
    ):
        means[channel.group] += mean
        variances[channel.group] += variance
    return tuple(
        GroupRecord(name=group.name, cross_section_pb=mean, cross_section_error_pb=variance**0.5)
        for group, mean, variance in zip(groups, means, variances, strict=True)
    )


def _channel_records(sample: Sample) -> tuple[ChannelRecord, ...]:
    process, sums, packed = sample.process, sample.sums, sample.pack.chosen
    drawn = sample.pack.drawn(process.card.run.weighted)
    columns = zip(
        process.integrand.phase_space.channels,
        sums.means.tolist(),
        sums.variances.tolist(),
        drawn,
        packed.fraction,
        strict=True,
    )
    return tuple(
        ChannelRecord(
            group=process.integrand.groups[channel.group].name,
            topology=channel.topology,
            cross_section_pb=mean,
            cross_section_error_pb=variance**0.5,
            fraction=share,
            n_members=channel.n_members,
            is_dropped=fraction == 0,
        )
        for channel, mean, variance, share, fraction in columns
    )


def _variation_records(sample: Sample) -> tuple[VariationRecord, ...]:
    """The cross section times the mean ratio of the weights of the events."""
    variations = sample.process.picker.reweighting.variations
    if not variations:
        return ()
    ratios, errors = ratios_of_means(sample.events)
    sums = sample.sums
    return tuple(
        VariationRecord(
            name=variation.name,
            group=variation.group,
            cross_section_pb=sums.mean * ratio,
            cross_section_error_pb=math.hypot(sums.error * ratio, sums.mean * error),
        )
        for variation, ratio, error in zip(
            variations, ratios.tolist(), errors.tolist(), strict=True
        )
    )


def notes_on(process: Process) -> tuple[str, ...]:
    """What users of the events should know."""
    model = process.picker.model
    final = {p for g in process.integrand.groups for ids in g.pdg_ids for p in ids[2:]}
    unstable = sorted((p for p in final if model.width_gev(p) > 0), key=lambda p: (abs(p), -p))
    if not unstable:
        return ()
    names = ", ".join(model.particles[p].name for p in unstable)
    return (
        f"{names}: undecayed, on the mass shell. A shower decays them without spin correlations; "
        "for those, ask for the decay products in the process itself",
    )
