"""What scripts and notebooks call: a card goes in, a cross section or a folder of events comes out.

    import mlgen
    result = mlgen.run("pp_to_eej", n_events=10_000)
    print(result.record.cross_section_pb, result.folder)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mlgen.build import Process, build
from mlgen.campaign.pack import SUFFIX, Pack, PackedSampler, write_pack
from mlgen.campaign.run_record import (
    ChannelRecord,
    Decision,
    Efficiency,
    GroupRecord,
    RunRecord,
    SamplerRecord,
    StepClock,
    card_table,
    describe_file,
    portable_card,
    versions,
)
from mlgen.cards import Card, card_to_toml, find_card, read_card
from mlgen.core import EventBatch, Progress, SampleInfo
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, MlgenError
from mlgen.events.lhe import write_lhe
from mlgen.events.unweighting import overweight_excess
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.generate import Generated, generate
from mlgen.integration.integrator import Candidate, Integration
from mlgen.integration.integrator import integrate as _integrate
from mlgen.integration.proposal import Proposal
from mlgen.samplers.registry import sampler_state

EVENTS_FILE = "events.lhe.gz"
RECORD_FILE = "run.json"
REPORT_FILE = "report.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What a run left: its record, its events, and the folder that holds the files."""

    record: RunRecord
    events: EventBatch
    folder: Path


def integrate(
    card: Card | Path | str, *, seed: int | None = None, progress: Progress | None = None
) -> Integration:
    """The cross section of a card, with the samplers that were adapted to it.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        seed: overrides the card's.

    Raises:
        MlgenError: one of its children says what is wrong.
    """
    card = _with_seed(_as_card(card), seed)
    process = build(card, progress or SilentProgress())
    with _one_thread():
        return _integrate(process.integrand, card, progress or SilentProgress(), StepClock())


def run(
    card: Card | Path | str,
    folder: Path | str | None = None,
    *,
    n_events: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Generate the events of a card into a folder: events, record, report and sampler pack.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        folder: a new or empty one; None: `runs/NAME`, or the next free `runs/NAME-2`, ...
        n_events, seed: override the card's.

    Raises:
        MlgenError: one of its children says what is wrong; `run.json` in the folder says so too.
    """
    card = _with_seed(_as_card(card), seed)
    if n_events is not None:
        card = replace(card, run=replace(card.run, n_events=n_events))
    progress = progress or SilentProgress()
    target = _new_folder(folder, card)
    clock = StepClock()
    try:
        with _one_thread():
            return _run(card, target, progress, clock)
    except (MlgenError, OSError) as error:
        failed = RunRecord(
            status="failed",
            error=str(error),
            process=card.process.definition,
            seed=card.run.seed,
            sampler=card.run.sampler,
            card=card_table(card),
            versions=versions(),
            cpu_s=clock.cpu_s,
            wall_s=clock.wall_s,
        )
        failed.write(target / RECORD_FILE)
        raise


def _run(card: Card, folder: Path, progress: Progress, clock: StepClock) -> RunResult:
    with clock.step("prepare"):
        process = build(card, progress)
    integration = _integrate(process.integrand, card, progress, clock)
    chosen = integration.chosen
    with clock.step("generate"):
        proposal = chosen.proposal if card.run.weighted else chosen.for_unweighting
        made = generate(
            process.integrand, proposal, chosen.measured, process.picker, card.run, progress
        )
    sums = chosen.measured.sums + made.sums
    with clock.step("write"):
        info = _sample_info(process, integration, sums, made)
        write_lhe(folder / EVENTS_FILE, [made.events], info)
        pack = folder / (card.process.name + SUFFIX)
        write_pack(pack, _pack(card, integration, sums))
    files = {path.name: describe_file(path) for path in (folder / EVENTS_FILE, pack)}
    record = dataclasses.replace(
        _record(process, integration, sums, made),
        cpu_s=clock.cpu_s,
        wall_s=clock.wall_s,
        files=files,
    )
    record.write(folder / RECORD_FILE)
    return RunResult(record=record, events=made.events, folder=folder)


def _as_card(card: Card | Path | str) -> Card:
    return card if isinstance(card, Card) else read_card(find_card(card))


def _with_seed(card: Card, seed: int | None) -> Card:
    return card if seed is None else replace(card, run=replace(card.run, seed=seed))


class _one_thread:
    """Compute with one torch thread: results then do not depend on the number of cores."""

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *raised: object) -> None:
        torch.set_num_threads(self._before)


def _new_folder(folder: Path | str | None, card: Card) -> Path:
    if folder is not None:
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise CardError(f"--output {target}: expected a new or an empty folder")
    else:
        runs, name = Path("runs"), card.process.name
        target, count = runs / name, 1
        while target.exists():
            count += 1
            target = runs / f"{name}-{count}"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MlgenError(f"{target}: cannot be made ({error.strerror})") from error
    return target


def _sample_info(
    process: Process, integration: Integration, sums: ChannelSums, made: Generated
) -> SampleInfo:
    card, measured = process.card, integration.chosen.measured
    eps_uw = measured.eps_uw
    notes = [
        ("matrix_element", process.provider),
        ("sampler", integration.chosen.name),
        ("seed", str(card.run.seed)),
        ("n_events", str(len(made.events))),
        ("eps_uw", f"{eps_uw.value:.6g} +- {eps_uw.error:.2g} (N = {eps_uw.n}, t = {eps_uw.t:g})"),
        ("overweight_fraction", f"{made.overweight_fraction:.6g}"),
    ]
    return SampleInfo(
        beams=process.beams,
        cross_section_pb=sums.mean,
        cross_section_error_pb=sums.error,
        weighted=card.run.weighted,
        process=card.process.definition,
        card=card_to_toml(portable_card(card)),
        notes=tuple(notes),
    )


def _pack(card: Card, integration: Integration, sums: ChannelSums) -> Pack:
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
        cross_section_pb=sums.mean,
        cross_section_error_pb=sums.error,
        tables={"versions": versions()},
    )


def _record(
    process: Process, integration: Integration, sums: ChannelSums, made: Generated
) -> RunRecord:
    card, chosen = process.card, integration.chosen
    channels, groups = process.integrand.phase_space.channels, process.integrand.groups
    means, variances = sums.means.tolist(), sums.variances.tolist()
    in_group = [[i for i, c in enumerate(channels) if c.group == g] for g in range(len(groups))]
    decisions = [
        Decision(name="matrix_element.provider", choice=process.provider, reason="the first that serves the process")
    ] if card.matrix_element.provider == "auto" else []
    if card.run.sampler == "auto":
        decisions.append(Decision(name="run.sampler", choice=chosen.name, reason=integration.reason))
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
        samplers={c.name: _sampler_record(c, made if c is chosen else None) for c in integration.candidates},
        groups=tuple(
            GroupRecord(
                name=group.name,
                cross_section_pb=sum(means[i] for i in mine),
                cross_section_error_pb=sum(variances[i] for i in mine) ** 0.5,
            )
            for group, mine in zip(groups, in_group, strict=True)
        ),
        channels=tuple(
            ChannelRecord(
                group=groups[channel.group].name,
                topology=channel.topology,
                cross_section_pb=mean,
                cross_section_error_pb=variance**0.5,
                fraction=fraction,
            )
            for channel, mean, variance, fraction in zip(
                channels, means, variances, chosen.measured.unweighting_fractions.tolist(), strict=True
            )
        ),
        decisions=tuple(decisions),
        card=card_table(card),
        versions=versions(),
    )


def _efficiency(candidate: Candidate) -> Efficiency:
    eps_uw = candidate.measured.eps_uw
    return Efficiency(value=eps_uw.value, error=eps_uw.error, n=eps_uw.n, t=eps_uw.t)
