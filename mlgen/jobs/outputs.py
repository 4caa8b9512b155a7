"""What a run leaves behind beside its events: the pack, the record of how it was learned, the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from mlgen.build import Process
from mlgen.campaign.fingerprint import Fingerprint
from mlgen.campaign.pack import Pack, PackedEstimate, PackedSampler, PackedSurrogate
from mlgen.campaign.run_record import (
    CostRecord,
    Decision,
    Efficiency,
    FileRecord,
    RunRecord,
    SamplerRecord,
    SurrogateRecord,
    TrainingRecord,
    WarmStartRecord,
    describe_file,
    portable_card,
    versions,
)
from mlgen.campaign.warm_start import WarmStart
from mlgen.campaign.whole_files import write_bytes_atomically
from mlgen.card_files import card_to_toml
from mlgen.core import EventBatch
from mlgen.diagnostics.plots import WeightSample
from mlgen.diagnostics.report import ReportInput, render_report
from mlgen.integration.candidates import Candidate, Expectation, Integration, TrainingCurve
from mlgen.integration.second_step import DrawnHelicities
from mlgen.integration.stand_in import StandIn
from mlgen.integration.training import STEPS_PER_ROUND, WATCHED_ROUNDS
from mlgen.samplers.registry import sampler_state

REPORT_FILE = "report.html"

MOST_ENTRIES = 100
"""Of the curve of a training, in the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """What a run has found out before it makes events."""

    process: Process
    integration: Integration
    stand_in: StandIn
    warm_start: WarmStart | None = None
    """What training began from, where that was no grid."""
    settled: Mapping[str, float]
    """Measured times that decisions rest on."""
    n_resumed: int = 0
    """How many times the run went on after a stop."""


def pack_of(learned: Learned) -> Pack:
    """All that is needed to make events."""
    process, integration = learned.process, learned.integration
    card = process.card
    samplers = {
        candidate.name: PackedSampler(
            config={
                "n_channels": candidate.sampler.n_channels,
                "n_dim": candidate.sampler.n_dim,
            },
            tensors=sampler_state(candidate.sampler),
            fraction=tuple(candidate.proposal.fractions.tolist()),
            w_max=tuple(candidate.measured.w_max.tolist()),
            estimate=PackedEstimate.of(candidate.measured),
        )
        for candidate in integration.candidates
    }
    integrand = process.integrand.without(integration.dropped)
    proposal = integration.chosen.proposal
    return Pack(
        process=card.process.definition,
        card=card_to_toml(portable_card(card)),
        seed=card.run.seed,
        sampler=integration.chosen.name,
        samplers=samplers,
        provider=process.provider,
        fingerprint=Fingerprint.of(integrand, proposal, card.run.seed),
        surrogate=_packed_surrogate(learned.stand_in),
        tables={
            "versions": versions(),
            "warnings": [*integration.warnings, *learned.stand_in.warnings],
        },
    )


def _packed_surrogate(found: StandIn) -> PackedSurrogate | None:
    if found.integrand is None or found.surrogate is None or found.measured is None:
        return None
    maxima, (kept, kept_error) = found.measured.maxima, found.measured.kept
    second = found.integrand.second
    return PackedSurrogate(
        tensors=found.surrogate.state(),
        trust=asdict(found.integrand.trust),
        floor=tuple(maxima.floor.tolist()),
        s_max=tuple(maxima.s_max.tolist()),
        x_max=tuple(maxima.x_max.tolist()),
        kept=kept,
        kept_error=kept_error,
        n_draws=second.n_draws if isinstance(second, DrawnHelicities) else 0,
        helicities=second.shares.state() if isinstance(second, DrawnHelicities) else {},
    )


def with_learning(record: RunRecord, learned: Learned, wall_s: Mapping[str, float]) -> RunRecord:
    """The record of a sample, with how its sampler was learned.

    Args:
        wall_s: by step, up to now.
    """
    integration, warm = learned.integration, learned.warm_start
    n_calls = integration.n_calls + learned.stand_in.n_calls
    return replace(
        record,
        n_matrix_element_calls=n_calls + record.n_matrix_element_calls,
        surrogate=_surrogate_record(learned.stand_in),
        samplers={c.name: _sampler_record(c) for c in integration.candidates},
        decisions=_decisions(learned, wall_s),
        settled=learned.settled,
        training=_training_record(integration.curve),
        warm_start=WarmStartRecord(file=warm.file, sha256=warm.sha256) if warm else None,
        n_resumed=learned.n_resumed,
        warnings=(*integration.warnings, *learned.stand_in.warnings, *record.warnings),
        notes=(*record.notes, *(warm.notes if warm else ())),
        wall_s=wall_s,
    )


def write_run_report(
    learned: Learned,
    record: RunRecord,
    events: EventBatch,
    reference: EventBatch,
    folder: Path,
) -> dict[str, FileRecord]:
    """Write the report of a complete run; what it is, by name.

    Args:
        events: those that are plotted.
        reference: weighted points that no event comes from.

    Raises:
        MlgenError: it cannot be written.
    """
    integration, card = learned.integration, learned.process.card
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
        events=events,
        reference=reference,
    )
    path = folder / REPORT_FILE
    write_bytes_atomically(path, render_report(report).encode())
    return {path.name: describe_file(path)}


def _sampler_record(candidate: Candidate) -> SamplerRecord:
    measured = candidate.measured
    eps_uw = measured.eps_uw
    return SamplerRecord(
        eps_uw=Efficiency(value=eps_uw.value, error=eps_uw.error, n=eps_uw.n, t=eps_uw.t),
        cross_section_pb=measured.sums.mean,
        cross_section_error_pb=measured.sums.error,
        ess=measured.ess,
        overweight_fraction=measured.overweight_on_fresh_points,
        us_per_point=measured.us_per_point,
        n_points=len(measured.weights),
        channel_weights="learned" if candidate.sampler.channel_weights else "prior",
    )


def _surrogate_record(found: StandIn) -> SurrogateRecord | None:
    if found.surrogate is None or found.measured is None:
        return None
    measured, efficiency = found.measured, found.measured.efficiency
    return SurrogateRecord(
        method=found.surrogate.settings.method,
        is_used=found.integrand is not None,
        helicities=found.helicities,
        n_training=found.n_points,
        eps_1=efficiency.eps_1,
        eps_2=efficiency.eps_2,
        alpha=efficiency.alpha,
        overweight_fraction=measured.overweight_on_fresh_points,
        gain=found.gain,
        us_per_point=measured.us_per_point,
        us_per_survivor=measured.us_per_survivor,
        cross_section_pb=measured.sums.mean,
        cross_section_error_pb=measured.sums.error,
        n_points=measured.n_points,
        n_survivors=measured.n_survivors,
    )


def _decisions(learned: Learned, wall_s: Mapping[str, float]) -> tuple[Decision, ...]:
    """What the card left to the run."""
    found = []
    process, integration = learned.process, learned.integration
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
    if card.run.surrogate == "auto":
        stand_in = learned.stand_in
        found.append(
            Decision(
                name="run.surrogate",
                choice="never" if stand_in.integrand is None else "always",
                reason=stand_in.reason,
                expected=tuple(map(_cost_record, stand_in.expected)),
                outcome=CostRecord(
                    sampler=integration.chosen.name,
                    n_steps=card.surrogate.n_steps if stand_in.surrogate else 0,
                    training_s=wall_s["surrogate"],
                    goal_s=wall_s["generate"],
                ),
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
