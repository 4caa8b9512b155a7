"""`radiation_control.json`: true and generated events side by side, multiplicity by multiplicity."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torch import Tensor

from mlgen.core import Progress
from mlgen.cut_cards import require
from mlgen.errors import MlgenError
from mlgen.json_tables import table_of
from mlgen.radiation.classifier import ClassifierSettings, judge
from mlgen.radiation.classifier_features import classifier_features
from mlgen.radiation.classifier_weights import (
    QUANTILES,
    THRESHOLDS,
    WEIGHT_RANGE,
    ClassifierRecord,
)
from mlgen.radiation.closeness import Closeness, closeness
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.multiplicities import Multiplicities, multiplicities
from mlgen.radiation.representation import Representation
from mlgen.radiation.spectra import (
    MIN_EVENTS,
    Agreement,
    GeneratedEvents,
    Spectrum,
    agreement,
    spectra,
)

N_MORE_SEEN = 1
"""Of events with n jets or more, the momenta of n and so many more jets are seen by a classifier."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlSettings:
    """What generated events are compared with, and how."""

    pt_min: float
    """GeV, of jets."""
    n_trained: int
    """The most jets that the model learned from."""
    n_max: int = 8
    """The most jets that are looked at apart; with more, events are taken together."""
    seed: int = 1
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)

    def __post_init__(self) -> None:
        require(self.pt_min > 0, "control.pt_min", self.pt_min, "a positive pt in GeV")
        require(self.n_trained >= 1, "control.n_trained", self.n_trained, "at least 1")
        require(self.n_max >= 1, "control.n_max", self.n_max, "at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightBinning:
    """What the counts and quantiles of classifiers are of."""

    weight_range: tuple[float, float] = WEIGHT_RANGE
    quantiles: tuple[float, ...] = QUANTILES
    thresholds: tuple[float, ...] = THRESHOLDS


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlRecord:
    """All that `radiation_control.json` says."""

    schema: Literal["mlgen-radiation-control"] = "mlgen-radiation-control"
    schema_version: int = 2
    process: str = ""
    """For people: where the true events are from."""
    settings: ControlSettings
    n_truth: int
    n_generated: int
    n_members: int
    """Of the ensemble behind the predicted errors; 0: there is none."""
    cpu_s: float
    multiplicities: Multiplicities
    classifiers: tuple[ClassifierRecord, ...]
    """By multiplicity, where there are enough events."""
    agreements: tuple[Agreement, ...]
    """Likewise, of all spectra."""
    closeness: tuple[Closeness, ...]
    """Likewise, of each kind of spectra."""
    spectra: tuple[Spectrum, ...]
    binning: WeightBinning = field(default_factory=WeightBinning)
    notes: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    """What the model is and what it learned from."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def is_trained(self, n_jets: int, and_more: bool) -> bool:
        """Whether the model learned from all events of a multiplicity."""
        return n_jets <= self.settings.n_trained and not and_more

    def to_table(self) -> dict[str, Any]:
        """The record as JSON has it: lists for tuples, None for numbers that are not finite."""
        return table_of(self)


def control(
    truth: JetEvents, generated: GeneratedEvents, settings: ControlSettings, progress: Progress
) -> ControlRecord:
    """Compare generated events with true ones that the model did not learn from.

    What the model is, `process`, `model` and `versions`, is for the caller to fill in.

    Raises:
        MlgenError: there are too few events, or events that no model can have (`check_jet_events`).
        TrainingFailed: the loss of a classifier is not finite.
    """
    started = time.process_time()
    for name, n in (("true", len(truth)), ("generated", len(generated))):
        if n < MIN_EVENTS:
            raise MlgenError(f"{name} events = {n}: expected at least {MIN_EVENTS} to compare")
    representation = Representation.of(truth, settings.pt_min)
    groups = list(_groups(truth, generated, settings.n_max))
    classifiers: list[ClassifierRecord] = []
    agreements: list[Agreement] = []
    close: list[Closeness] = []
    every: list[Spectrum] = []
    with progress.step("comparing events", float(len(groups))) as advance:
        for group in groups:
            found = list(spectra(truth, generated, group.n_jets, group.and_more))
            true = truth.select(group.of(truth.n_jets))
            made = generated.select(group.of(generated.events.n_jets))
            if found:
                every += found
                agreements.append(agreement(found, len(true), len(made)))
                close += closeness(found)
            if min(len(true), len(made)) >= settings.classifier.min_events:
                classifiers.append(_classified(true, made, group, representation, settings))
            advance(1.0, str(group))
    return ControlRecord(
        settings=settings,
        n_truth=len(truth),
        n_generated=len(generated),
        n_members=generated.members.shape[1],
        cpu_s=time.process_time() - started,
        multiplicities=multiplicities(truth, generated),
        classifiers=tuple(classifiers),
        agreements=tuple(agreements),
        closeness=tuple(close),
        spectra=tuple(every),
    )


class _Group(NamedTuple):
    """Events with n_jets jets, or with so many at least."""

    n_jets: int
    and_more: bool

    def of(self, n_jets: Tensor) -> Tensor:
        """Which of the events with so many jets are in it."""
        return n_jets >= self.n_jets if self.and_more else n_jets == self.n_jets

    def __str__(self) -> str:
        return multiplicity_name(self.n_jets, self.and_more)


def multiplicity_name(n_jets: int, and_more: bool) -> str:
    """`1 jet`, `≥ 5 jets`."""
    return f"{'≥ ' if and_more else ''}{n_jets} jet{'s' if n_jets != 1 or and_more else ''}"


def _groups(truth: JetEvents, generated: GeneratedEvents, n_max: int) -> Iterator[_Group]:
    """Each multiplicity with enough events of both kinds, then all beyond together."""
    for n_jets in range(n_max + 1):
        group = _Group(n_jets, False)
        counts = (int(group.of(n).sum()) for n in (truth.n_jets, generated.events.n_jets))
        if min(counts) < MIN_EVENTS:
            # Without events of no jets, such as where there is one at least, there may be more.
            if n_jets == 0:
                continue
            yield _Group(n_jets, True)
            return
        yield group
    yield _Group(n_max + 1, True)


def _classified(
    truth: JetEvents,
    generated: GeneratedEvents,
    group: _Group,
    representation: Representation,
    settings: ControlSettings,
) -> ClassifierRecord:
    n_seen = group.n_jets + N_MORE_SEEN * group.and_more
    judgement = judge(
        classifier_features(truth, representation, n_seen),
        classifier_features(generated.events, representation, n_seen),
        settings.classifier,
        settings.seed,
        generated.weight,
    )
    return ClassifierRecord.of(judgement, group.n_jets, group.and_more)
