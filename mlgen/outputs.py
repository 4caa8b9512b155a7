"""What a run leaves behind: from an integration and its events to files and their contents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mlgen.build import Process
from mlgen.campaign.pack import SUFFIX, Pack, PackedSampler, write_pack
from mlgen.campaign.run_record import (
    ChannelRecord,
    CostRecord,
    Decision,
    Efficiency,
    FileRecord,
    GroupRecord,
    RunRecord,
    SamplerRecord,
    TrainingRecord,
    VariationRecord,
    WarmStartRecord,
    card_table,
    describe_file,
    portable_card,
    versions,
)
from mlgen.campaign.warm_start import WarmStart
from mlgen.card_files import card_to_toml
from mlgen.core import EventBatch, SampleInfo
from mlgen.diagnostics.plots import WeightSample
from mlgen.diagnostics.report import ReportInput, write_report
from mlgen.events.formats import write_events
from mlgen.integration.candidates import Candidate, Expectation, Integration, TrainingCurve
from mlgen.integration.estimate import ChannelSums, ratios_of_means
from mlgen.integration.generate import Generated
from mlgen.integration.training import STEPS_PER_ROUND, WATCHED_ROUNDS
from mlgen.samplers.registry import sampler_state

EVENTS_FILE = "events.lhe.gz"
REPORT_FILE = "report.html"

MOST_ENTRIES = 100
"""Of the curve of a training, in the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """All that a run has found out."""

    process: Process
    integration: Integration
    generated: Generated
    reference: EventBatch
    """Weighted points that no event comes from, for the plots."""
    warm_start: WarmStart | None = None
    """What training began from, where that was no grid."""
    n_resumed: int = 0
    """How many times the run went on after a stop."""

    @property
    def sums(self) -> ChannelSums:
        """Every fresh point of the chosen sampler: those that measured it, and those of the events."""
        return self.integration.chosen.measured.sums + self.generated.sums


def write_events_and_pack(outcome: Outcome, folder: Path) -> dict[str, FileRecord]:
    """Write the event file and the sampler pack; what they are, by name."""
    pack = folder / (outcome.process.card.process.name + SUFFIX)
    write_events(folder / EVENTS_FILE, [outcome.generated.events], _sample_info(outcome))
    write_pack(pack, _pack(outcome))
    return {path.name: describe_file(path) for path in (folder / EVENTS_FILE, pack)}


def write_run_report(outcome: Outcome, record: RunRecord, folder: Path) -> dict[str, FileRecord]:
    """Write the report of a complete run; what it is, by name."""
    integration, card = outcome.integration, outcome.process.card
    weights = {
        candidate.name: WeightSample(
            weight=candidate.measured.weights,
            channel=candidate.measured.channel,
            w_max=candidate.measured.w_max,
        )
        for candidate in integration.candidates
    }
    report = ReportInput(
        record=record.to_table(),
        card=card_to_toml(portable_card(card)),
        weights=weights,
        loss=integration.curve.losses if integration.curve else (),
        loss_name=f"Rényi divergence, order to {card.flow.renyi_order:g}",
        events=outcome.generated.events,
        reference=outcome.reference,
    )
    path = folder / REPORT_FILE
    write_report(path, report)
    return {path.name: describe_file(path)}


def _sample_info(outcome: Outcome) -> SampleInfo:
    process, integration, made = outcome.process, outcome.integration, outcome.generated
    card, eps_uw = process.card, integration.chosen.measured.eps_uw
    notes = (
        ("matrix_element", process.provider),
        ("sampler", integration.chosen.name),
        ("seed", str(card.run.seed)),
        ("eps_uw", f"{eps_uw.value:.6g} +- {eps_uw.error:.2g} (N = {eps_uw.n}, t = {eps_uw.t:g})"),
        ("overweight_fraction", f"{made.overweight_fraction:.6g}"),
    )
    return SampleInfo(
        beams=process.beams,
        cross_section_pb=outcome.sums.mean,
        cross_section_error_pb=outcome.sums.error,
        weighted=card.run.weighted,
        process=card.process.definition,
        card=card_to_toml(portable_card(card)),
        variations=process.picker.reweighting.variations,
        notes=notes,
    )


def _pack(outcome: Outcome) -> Pack:
    card, integration = outcome.process.card, outcome.integration
    samplers = {
        candidate.name: PackedSampler(
            config={
                "n_channels": candidate.sampler.n_channels,
                "n_dim": candidate.sampler.n_dim,
            },
            tensors=sampler_state(candidate.sampler),
            fraction=tuple(candidate.proposal.fractions.tolist()),
            w_max=tuple(candidate.measured.w_max.tolist()),
        )
        for candidate in integration.candidates
    }
    return Pack(
        process=card.process.definition,
        card=card_to_toml(portable_card(card)),
        seed=card.run.seed,
        sampler=integration.chosen.name,
        samplers=samplers,
        cross_section_pb=outcome.sums.mean,
        cross_section_error_pb=outcome.sums.error,
        tables={"versions": versions()},
    )


def describe(outcome: Outcome, wall_s: Mapping[str, float]) -> RunRecord:
    """The record of a complete run; CPU times and files are still to be filled in.

    Args:
        wall_s: by step, up to now.
    """
    warm = outcome.warm_start
    process, integration, made = outcome.process, outcome.integration, outcome.generated
    card, chosen, sums = process.card, integration.chosen, outcome.sums
    return RunRecord(
        status="complete",
        process=card.process.definition,
        seed=card.run.seed,
        sampler=chosen.name,
        cross_section_pb=sums.mean,
        cross_section_error_pb=sums.error,
        n_events=len(made.events),
        eps_uw=_efficiency(chosen),
        ess=chosen.measured.ess,
        overweight_fraction=made.overweight_fraction,
        n_matrix_element_calls=integration.n_calls + made.n_calls,
        samplers={c.name: _sampler_record(c) for c in integration.candidates},
        groups=_group_records(process, sums),
        channels=_channel_records(process, integration, sums),
        variations=_variation_records(process, made.events, sums),
        decisions=_decisions(process, integration, wall_s),
        training=_training_record(integration.curve),
        warm_start=WarmStartRecord(file=warm.file, sha256=warm.sha256) if warm else None,
        n_resumed=outcome.n_resumed,
        warnings=integration.warnings,
        notes=notes_on(process) + (warm.notes if warm else ()),
        wall_s=wall_s,
        card=card_table(card),
        versions=versions(),
    )


def _efficiency(candidate: Candidate) -> Efficiency:
    eps_uw = candidate.measured.eps_uw
    return Efficiency(value=eps_uw.value, error=eps_uw.error, n=eps_uw.n, t=eps_uw.t)


def _sampler_record(candidate: Candidate) -> SamplerRecord:
    measured = candidate.measured
    return SamplerRecord(
        eps_uw=_efficiency(candidate),
        cross_section_pb=measured.sums.mean,
        cross_section_error_pb=measured.sums.error,
        ess=measured.ess,
        overweight_fraction=measured.overweight_on_fresh_points,
        us_per_point=measured.us_per_point,
        n_points=len(measured.weights),
        channel_weights="learned" if candidate.sampler.channel_weights else "prior",
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


def _channel_records(
    process: Process, integration: Integration, sums: ChannelSums
) -> tuple[ChannelRecord, ...]:
    drawn_from = integration.chosen.proposal_for(process.card.run.weighted)
    columns = zip(
        process.integrand.phase_space.channels,
        sums.means.tolist(),
        sums.variances.tolist(),
        drawn_from.fractions.tolist(),
        strict=True,
    )
    return tuple(
        ChannelRecord(
            group=process.integrand.groups[channel.group].name,
            topology=channel.topology,
            cross_section_pb=mean,
            cross_section_error_pb=variance**0.5,
            fraction=fraction,
            n_members=channel.n_members,
            is_dropped=number in integration.dropped,
        )
        for number, (channel, mean, variance, fraction) in enumerate(columns)
    )


def _variation_records(
    process: Process, events: EventBatch, sums: ChannelSums
) -> tuple[VariationRecord, ...]:
    """The cross section times the mean ratio of the weights of the events."""
    ratios, errors = ratios_of_means(events.variations, events.weight)
    return tuple(
        VariationRecord(
            name=variation.name,
            group=variation.group,
            cross_section_pb=sums.mean * ratio,
            cross_section_error_pb=math.hypot(sums.error * ratio, sums.mean * error),
        )
        for variation, ratio, error in zip(
            process.picker.reweighting.variations, ratios.tolist(), errors.tolist(), strict=True
        )
    )


def _decisions(
    process: Process, integration: Integration, wall_s: Mapping[str, float]
) -> tuple[Decision, ...]:
    """What the card left to the run."""
    found = []
    card = process.card
    if card.matrix_element.provider == "auto":
        reason = "the first provider that serves the process"
        found.append(
            Decision(name="matrix_element.provider", choice=process.provider, reason=reason)
        )
    if card.run.sampler == "auto":
        curve = integration.curve
        spent = CostRecord(
            sampler=integration.chosen.name,
            n_steps=len(curve.losses) if curve else 0,
            training_s=wall_s["train"],
            goal_s=wall_s["generate"],
        )
        found.append(
            Decision(
                name="run.sampler",
                choice=integration.chosen.name,
                reason=integration.reason,
                expected=tuple(map(_cost_record, integration.expected)),
                outcome=spent,
            )
        )
    return tuple(found)


def _cost_record(expected: Expectation) -> CostRecord:
    return CostRecord(
        sampler=expected.sampler,
        n_steps=expected.n_steps,
        training_s=expected.training_s,
        goal_s=expected.goal_s,
    )


def _training_record(curve: TrainingCurve | None) -> TrainingRecord | None:
    """The curve, thinned out."""
    if curve is None or not curve.losses:
        return None
    n_rounds = len(curve.efficiencies)
    every = math.ceil(n_rounds / MOST_ENTRIES)
    shown = range(0, n_rounds, every)
    starts = [STEPS_PER_ROUND * i for i in shown]
    losses = [curve.losses[a:b] for a, b in pairwise([*starts, len(curve.losses)])]
    return TrainingRecord(
        sampler=curve.sampler,
        n_steps=len(curve.losses),
        # The points are those of the rounds that are kept, this one the last of them.
        steps=tuple(STEPS_PER_ROUND * (i - (min(i + 1, WATCHED_ROUNDS) - 1) / 2) for i in shown),
        eps_uw=tuple(curve.efficiencies[i] for i in shown),
        loss=tuple(sum(part) / len(part) for part in losses if part),
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
