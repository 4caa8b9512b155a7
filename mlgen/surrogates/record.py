"""`surrogate.json`: what was learned, how well it is known, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlgen.fitting import TrainingRecord
from mlgen.json_tables import as_json, table_of
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.accuracy import RegionAccuracy
from mlgen.surrogates.distributions import (
    DELTA_QUANTILES,
    DELTA_RANGE,
    PULL_QUANTILES,
    PULL_RANGE,
)
from mlgen.surrogates.learning_curve import LearningPoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Binning:
    """What the counts and quantiles of a record are of."""

    pull_range: tuple[float, float] = PULL_RANGE
    """Of bins of equal width."""
    pull_quantiles: tuple[float, ...] = PULL_QUANTILES
    delta_range: tuple[float, float] = DELTA_RANGE
    """Of bins of equal width in the logarithm."""
    delta_quantiles: tuple[float, ...] = DELTA_QUANTILES


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStageRecord:
    """What two-stage unweighting gains with the surrogate, on top of one sampler."""

    sampler: str
    eps_full: float
    """The efficiency in one stage, of the points inside the cuts."""
    eps_1: float
    eps_2: float
    alpha: float
    """The Kish factor of the events."""
    f_eff: float
    """The time of an event in one stage over that in two, for events of equal worth."""
    n_events: int | None = None
    """What f_eff counts training and estimates for; None: it leaves them out."""

    @property
    def bound(self) -> float:
        """What f_eff is with a surrogate that costs nothing: eps_2 / eps_full."""
        return self.eps_2 / self.eps_full


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRecord:
    """The surrogate of one subprocess group."""

    name: str
    """Its first flavour assignment: `u u~ > e+ e- g`."""
    n_sample: int
    """Points that it was learned from: those for validation and calibration count."""
    n_test: int
    """Points behind all numbers here, which taught it nothing."""
    us_per_point: float
    """CPU microseconds of a prediction."""
    training: TrainingRecord
    regions: Mapping[str, RegionAccuracy]
    """`accuracy.accuracy`."""
    learning_curve: tuple[LearningPoint, ...] = ()
    """The smallest size first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateRecord:
    """All that `surrogate.json` says."""

    schema: Literal["mlgen-surrogate"] = "mlgen-surrogate"
    schema_version: int = 1
    process: str
    """The process string of the card."""
    seed: int
    sampler: str
    """What drew the points: `flow`."""
    settings: SurrogateCard
    groups: tuple[GroupRecord, ...]
    two_stage: tuple[TwoStageRecord, ...] = ()
    """On top of each sampler that was tried."""
    binning: Binning = field(default_factory=Binning)
    notes: tuple[str, ...] = ()
    """What users of the surrogate should know."""
    versions: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    """The whole card."""

    def to_table(self) -> dict[str, Any]:
        """The record as JSON has it: lists for tuples, None for numbers that are not finite."""
        table = table_of(self)
        for row, record in zip(table["two_stage"], self.two_stage, strict=True):
            row["bound"] = as_json(record.bound)
        return table
