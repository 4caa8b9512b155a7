"""A surrogate on its own, in a folder: `mlgen surrogate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mlgen.build import Process, build
from mlgen.campaign.run_record import card_table, portable_card, versions
from mlgen.campaign.step_clock import StepClock
from mlgen.campaign.surrogate_file import (
    SUFFIX,
    StoredSurrogate,
    read_surrogate,
    write_surrogate,
)
from mlgen.campaign.whole_files import write_bytes_atomically, write_json_atomically
from mlgen.card_files import card_from_toml, card_to_toml
from mlgen.cards import Card
from mlgen.core import Progress
from mlgen.diagnostics.surrogate_report import render_surrogate_report
from mlgen.errors import CardError, GenerationError, PackError, ProcessError
from mlgen.events.two_stage import effective_gain
from mlgen.fitting import TrainingRecord
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Candidate, Integration
from mlgen.integration.exact_points import draw_exact, samples_of
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.integrator import integrate
from mlgen.integration.stand_in import CEILING, N_SURVIVORS
from mlgen.integration.surrogate_prices import Prices
from mlgen.integration.two_stage import SurrogateIntegrand
from mlgen.integration.two_stage_estimate import estimate_two_stage
from mlgen.jobs.stages import one_thread
from mlgen.physics.leg_cuts import particle_kinds, split_by_cuts
from mlgen.physics.near_cuts import NearCuts
from mlgen.physics.process import read_process
from mlgen.physics.ufo import read_model
from mlgen.plugins.onnx_surrogate import export_surrogate
from mlgen.surrogates.accuracy import accuracy
from mlgen.surrogates.group_surrogate import GroupSurrogate
from mlgen.surrogates.learning_curve import curve_sizes, learning_curve, learning_point
from mlgen.surrogates.record import GroupRecord, SurrogateRecord, TwoStageRecord
from mlgen.surrogates.sample import AmplitudeSample
from mlgen.surrogates.surrogate import Surrogate, restore_surrogate, train_surrogate

RECORD_FILE, REPORT_FILE = "surrogate.json", "surrogate.html"

ALPHA_S = 0.118
"""At which exported files are compared: any would do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateOrder:
    """What is wanted of `mlgen surrogate`.

    Raises:
        CardError: a number of points is not positive.
    """

    n_points: int = 100_000
    """To learn from, all groups together, those for validation and calibration included."""
    n_test: int = 100_000
    """That the report is made of."""
    with_curve: bool = True
    """Whether smaller samples are learned from, too."""
    with_onnx: bool = False
    """Whether an ONNX file of each group is written."""

    def __post_init__(self) -> None:
        for option, value in (("--points", self.n_points), ("--tests", self.n_test)):
            if value < 1:
                raise CardError(f"{option} {value}: expected a positive number of points")


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateResult:
    """What was learned, and the files that hold it."""

    surrogate: Surrogate
    record: SurrogateRecord
    folder: Path
    path: Path
    """Of the surrogate."""


def make_surrogate(
    folder: Path, card: Card, order: SurrogateOrder, progress: Progress
) -> SurrogateResult:
    """Draw points by the sampler of a card, learn their |M|², and say how well.

    Raises:
        CardError, MissingExtra, MatrixElementError: as `build` does.
        GenerationError: too few points, or none that can be learned from.
        TrainingFailed: a loss is not finite.
        MlgenError: a file cannot be written.
    """
    with one_thread():
        process = build(card, progress)
        aids = Aids(progress=progress, clock=StepClock())
        found = integrate(process.integrand, card, aids)
        work = _Work(process, found, order, progress)
        surrogate, records = work.learned()
        record = work.record(surrogate, records)
        path = folder / (card.process.name + SUFFIX)
        toml = card_to_toml(portable_card(card))
        names = tuple(group.name for group in process.integrand.groups)
        write_surrogate(path, StoredSurrogate(card=toml, groups=names, tensors=surrogate.state()))
        write_json_atomically(folder / RECORD_FILE, record.to_table())
        write_bytes_atomically(folder / REPORT_FILE, render_surrogate_report(record, toml).encode())
        if order.with_onnx:
            work.export(surrogate, folder)
    return SurrogateResult(surrogate=surrogate, record=record, folder=folder, path=path)


def open_surrogate(path: Path) -> Surrogate:
    """The surrogate in a file, for the groups of its card.

    Raises:
        PackError: the file is damaged, or of other groups than its card has here.
    """
    stored = read_surrogate(path)
    try:
        card = card_from_toml(stored.card)
        model = read_model(card.model)
        groups = split_by_cuts(
            read_process(card.process, card.beams.particles, model), card.cuts, model
        )
    except (CardError, ProcessError) as error:
        raise PackError(f"{path}: its card cannot be read: {error}") from error
    names = tuple(group.name for group in groups)
    if names != stored.groups:
        raise PackError(f"{path}: of the groups {stored.groups}: expected {names}, as its card has")
    return restore_surrogate(groups, model, card.surrogate, stored.tensors)


class _Work:
    """The points of a process, and what is learned from them."""

    def __init__(
        self, process: Process, found: Integration, order: SurrogateOrder, progress: Progress
    ) -> None:
        self._process, self._found, self._order = process, found, order
        self._card, self._progress = process.card, progress
        self._integrand: ProcessIntegrand = process.integrand.without(found.dropped)
        self._groups, self._model = process.integrand.groups, process.picker.model
        self._training = self._drawn(order.n_points, "drawing points to learn from")
        self._tests = self._drawn(order.n_test, "drawing points to test with")

    def _drawn(self, n: int, title: str) -> list[AmplitudeSample]:
        proposal = self._found.chosen.proposal
        points = draw_exact(self._integrand, proposal, n, self._card.run, title, self._progress)
        return samples_of([points], self._integrand, n)

    def learned(self) -> tuple[Surrogate, list[TrainingRecord]]:
        card = self._card
        surrogate, records = train_surrogate(
            self._training, self._groups, self._model, card.surrogate, card.run.seed, self._progress
        )
        return surrogate, list(records)

    def record(self, surrogate: Surrogate, records: Sequence[TrainingRecord]) -> SurrogateRecord:
        card, waiting = self._card, list(records)
        groups = [
            self._group_record(index, learned, waiting.pop(0))
            for index, learned in enumerate(surrogate.of_groups)
            if learned is not None
        ]
        unlearned = [
            group.name
            for group, learned in zip(self._groups, surrogate.of_groups, strict=True)
            if learned is None
        ]
        notes = [f"{name}: too few points to learn from" for name in unlearned]
        return SurrogateRecord(
            process=card.process.definition,
            seed=card.run.seed,
            sampler=self._found.chosen.name,
            settings=card.surrogate,
            groups=tuple(groups),
            two_stage=tuple(self._gain(one, surrogate) for one in self._found.candidates),
            notes=tuple(notes),
            versions=versions(),
            card=card_table(card),
        )

    def _group_record(
        self, index: int, learned: GroupSurrogate, training: TrainingRecord
    ) -> GroupRecord:
        group, sample, test = self._groups[index], self._training[index], self._tests[index]
        card = self._card
        if not len(test):
            raise GenerationError(
                f"{group.name}: none of {self._order.n_test} points to test with: expected more"
            )
        near = NearCuts(card.cuts, self._groups, particle_kinds(self._model))
        near_cuts = near(test.momenta, index)
        started = time.process_time()
        learned.predict(test.momenta)
        us_per_point = 1e6 * (time.process_time() - started) / len(test)
        curve = []
        if self._order.with_curve:
            smaller = curve_sizes(len(sample), card.surrogate)[:-1]
            curve = list(
                learning_curve(
                    sample,
                    test,
                    group,
                    self._model,
                    card.surrogate,
                    card.run.seed,
                    self._progress,
                    smaller,
                    near_cuts,
                )
            )
            curve.append(learning_point(len(sample), learned, training, test, near_cuts))
        return GroupRecord(
            name=group.name,
            n_sample=len(sample),
            n_test=len(test),
            us_per_point=us_per_point,
            training=training,
            regions=accuracy(learned, test, near_cuts),
            learning_curve=tuple(curve),
        )

    def _gain(self, candidate: Candidate, surrogate: Surrogate) -> TwoStageRecord:
        """What two-stage unweighting gains on top of a sampler."""
        card, integrand = self._card, self._integrand
        prices, _ = Prices.measured(integrand, candidate.proposal, card, self._model)
        estimate = estimate_two_stage(
            SurrogateIntegrand(integrand=integrand, surrogate=surrogate),
            candidate.proposal,
            replace(card.run, n_estimate=len(candidate.measured.weights)),
            f"{candidate.name} with the surrogate",
            self._progress,
            N_SURVIVORS,
            prices.cost_ratio,
            CEILING * candidate.measured.w_max,
        )
        efficiency = estimate.efficiency
        inside = candidate.measured.share_inside[0]
        # Of the points inside the cuts, which are those that cost a matrix element.
        eps_full = candidate.measured.kept / inside
        of_inside = replace(efficiency, eps_1=efficiency.eps_1 / inside)
        cost_ratio = estimate.us_per_point / candidate.measured.us_per_point
        return TwoStageRecord(
            sampler=candidate.name,
            eps_full=eps_full,
            eps_1=of_inside.eps_1,
            eps_2=efficiency.eps_2,
            alpha=efficiency.alpha,
            f_eff=effective_gain(of_inside, eps_full, cost_ratio),
        )

    def export(self, surrogate: Surrogate, folder: Path) -> None:
        """Write an ONNX file of each group."""
        for index, (group, learned) in enumerate(
            zip(self._groups, surrogate.of_groups, strict=True)
        ):
            if learned is None:
                continue
            momenta = self._tests[index].momenta
            name = f"{self._card.process.name}.{index}.onnx"
            alpha_s = torch.full((len(momenta),), ALPHA_S, dtype=torch.float64)
            export_surrogate(learned, group, folder / name, momenta, alpha_s)
