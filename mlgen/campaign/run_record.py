"""`run.json`: what a run was asked for, what came out, and what it cost.

The keys are promised: new ones are added, none change their meaning. Nothing in the record
names a machine, a user or a place in the file system.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import mlgen
from mlgen.campaign.whole_files import checksum, json_text, write_json_atomically
from mlgen.cards import Card
from mlgen.errors import CardError, MlgenError

RECORD_FILE = "run.json"

_PACKAGES = ("torch", "numpy", "scipy", "normflows", "safetensors", "orjson", "isal", "h5py")
_EXTRAS = ("numba", "pyamplicol", "pythia8mc", "vegas")


@dataclass(frozen=True, kw_only=True, slots=True)
class Efficiency:
    """`eps_uw(N, t)`, the unweighting efficiency of a sample."""

    value: float
    error: float
    """Bootstrap standard deviation."""
    n: int
    """Points of the sample, zeros counted."""
    t: float
    """The overweight budget that fixed w_max."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerRecord:
    """What one sampler reached, on fresh points."""

    eps_uw: Efficiency
    cross_section_pb: float
    cross_section_error_pb: float
    ess: float
    """(sum w)² / (N sum w²)."""
    overweight_fraction: float
    """The overweight excess, sum of (|w| - w_max)+ over sum of |w|, realised on fresh points."""
    us_per_point: float
    """Wall-clock microseconds for a point: sampling, phase space and matrix element."""
    n_points: int
    """Fresh points behind these numbers, zeros counted."""
    channel_weights: Literal["prior", "learned"] = "prior"
    """What shares the integrand of a group among its channels: see docs/channels.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRecord:
    """The share of one subprocess group."""

    name: str
    """Its first flavour assignment: `u u~ > e+ e- g`."""
    cross_section_pb: float
    cross_section_error_pb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelRecord:
    """The share of one channel."""

    group: str
    topology: str
    cross_section_pb: float
    cross_section_error_pb: float
    fraction: float
    """The share of the points that was drawn in this channel."""
    n_members: int = 1
    """How many maps it stands for: those that the exchange of identical particles relates."""
    is_dropped: bool = False
    """Whether it was left out, and others of its group took over: see docs/channels.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VariationRecord:
    """What a further weight of the events makes of the cross section."""

    name: str
    """Of the weight in the event file: `MUR=0.5__MUF=1__LHAPDF=247000`."""
    group: str
    """`scale_variations` or `pdf_members`."""
    cross_section_pb: float
    cross_section_error_pb: float
    """Statistical; most of it is shared with the nominal cross section."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRecord:
    """Wall-clock seconds that a sampler takes: expected, or spent."""

    sampler: str
    n_steps: int
    """Optimizer steps of its training."""
    training_s: float
    goal_s: float
    """To make the events once it is trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A choice that the run made by itself, so that it can be understood and replayed."""

    name: str
    """What was decided: `sampler`."""
    choice: str
    reason: str
    expected: tuple[CostRecord, ...] = ()
    """What the choice rests on: each alternative, before anything was trained."""
    outcome: CostRecord | None = None
    """What it took in the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """How training went, in at most 100 entries of each list."""

    sampler: str
    n_steps: int
    """Optimizer steps that were made."""
    steps: tuple[float, ...]
    """How many of them came before the points of an entry were drawn, on average."""
    eps_uw: tuple[float, ...]
    """Of those points, which nothing was trained on yet: fewer than the N of `eps_uw` above."""
    loss: tuple[float, ...]
    """The mean of what was minimised, up to the next entry; none where a training ended before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateRecord:
    """A learned |M|², and what two-stage unweighting reaches with it, on fresh points."""

    method: str
    is_used: bool
    """Whether it chose the points of the events."""
    helicities: str = ""
    """Why the exact |M|² of a survivor was computed from all helicities, or from a few."""
    n_training: int
    """Points that it learned from, those that calibrated it included."""
    eps_1: float
    """Survivors of the first step over points."""
    eps_2: float
    """Events over survivors."""
    alpha: float
    """The Kish factor of the events' weights."""
    overweight_fraction: float
    """On fresh points."""
    gain: float
    """f_eff, by wall-clock time, as measured and without the training: how many times faster events come than with the exact |M|² alone."""
    us_per_point: float
    """Wall-clock microseconds for a point, with what the surrogate says of it."""
    us_per_survivor: float
    """Wall-clock microseconds for the exact weight of a survivor."""
    cross_section_pb: float
    """By the points that measured it, which count for nothing else."""
    cross_section_error_pb: float
    n_points: int
    n_survivors: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStartRecord:
    """The pack that training began from."""

    file: str
    """Its name, without its folder."""
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """A file that the run left."""

    sha256: str
    n_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """All that `run.json` says. What a failed run did not reach is None or empty."""

    schema: Literal["mlgen-run"] = "mlgen-run"
    schema_version: int = 1
    status: Literal["complete", "failed", "interrupted"]
    error: str = ""
    """The one line that a failed or interrupted run ended with."""
    process: str
    """The process string of the card."""
    seed: int
    sampler: str
    """The sampler that made the events."""
    cross_section_pb: float | None = None
    cross_section_error_pb: float | None = None
    n_events: int = 0
    """Events written."""
    eps_uw: Efficiency | None = None
    ess: float | None = None
    kish_effective_size: float | None = None
    """(sum w)² / sum w² of the events: as many of equal weight have the same statistical error."""
    overweight_fraction: float | None = None
    """Of the events: the overweight excess realised while they were made."""
    n_matrix_element_calls: int = 0
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    """By step, worker processes included: `StepClock.cpu_s`."""
    wall_s: Mapping[str, float] = field(default_factory=dict)
    samplers: Mapping[str, SamplerRecord] = field(default_factory=dict)
    """Each sampler that was tried."""
    groups: tuple[GroupRecord, ...] = ()
    channels: tuple[ChannelRecord, ...] = ()
    variations: tuple[VariationRecord, ...] = ()
    """The further weights of the events, those with the nominal scales and densities included."""
    decisions: tuple[Decision, ...] = ()
    settled: Mapping[str, float] = field(default_factory=dict)
    """Measured times that decisions rest on, by name: with the same ones the same is decided."""
    shard: str = ""
    """Which part of a sample this is: `2/5`; empty: all of it."""
    training: TrainingRecord | None = None
    """None where nothing was trained."""
    surrogate: SurrogateRecord | None = None
    """None where none was trained."""
    warm_start: WarmStartRecord | None = None
    n_resumed: int = 0
    """How many times the run was interrupted and went on from its checkpoint."""
    warnings: tuple[str, ...] = ()
    """What went wrong, and what was done instead: the events are right, but not made as planned."""
    notes: tuple[str, ...] = ()
    """What users of the events should know."""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    """By path relative to the run folder: `describe_file`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, Any]
    """The whole card: `card_table`."""

    def __post_init__(self) -> None:
        for name in self.files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise MlgenError(f"files.{name}: expected a path relative to the run folder")

    def to_table(self) -> dict[str, Any]:
        """The record as JSON has it: what the report is made from."""
        table: dict[str, Any] = json.loads(json_text(dataclasses.asdict(self), "run.json"))
        return table

    def write(self, path: Path) -> None:
        """Write `run.json`; see `write_json_atomically`."""
        write_json_atomically(path, self.to_table())


def read_settled(path: Path) -> dict[str, float]:
    """The measured times that the decisions of an earlier run rest on, from its `run.json`.

    Raises:
        CardError: it is no complete record of a run.
    """
    try:
        settled = json.loads(path.read_text(encoding="utf-8"))["settled"]
        found = {str(name): float(value) for name, value in settled.items()}
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise CardError(f"--decisions {path}: expected the run.json of a complete run") from error
    if not found:
        raise CardError(f"--decisions {path}: settled = {found}: expected measured times")
    for name, value in found.items():
        is_count = name.rpartition(".")[-1].startswith("n_")
        if not math.isfinite(value) or value < 0 or (value == 0 and not is_count):
            expected = "a number of points" if is_count else "a positive number"
            raise CardError(f"--decisions {path}: settled: {name} = {value}: expected {expected}")
    return found


def portable_card(card: Card) -> Card:
    """The card without folders of one user: that of matrix elements, which changes no number, and
    that of the pack which training starts from."""
    matrix_element = dataclasses.replace(card.matrix_element, cache_folder="")
    flow = dataclasses.replace(card.flow, start_from=Path(card.flow.start_from).name)
    return dataclasses.replace(card, matrix_element=matrix_element, flow=flow)


def card_table(card: Card) -> dict[str, Any]:
    """The portable card as a JSON table; infinity, which JSON lacks, is "inf" as in TOML."""
    table: dict[str, Any] = _without_infinity(dataclasses.asdict(portable_card(card)))
    return table


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinity(item) for key, item in value.items()}
    return repr(value) if isinstance(value, float) and math.isinf(value) else value


def versions() -> dict[str, str]:
    """Versions of mlgen, Python and the packages that can change a number; none is imported."""
    found = {"mlgen": mlgen.__version__, "python": platform.python_version()}
    for name in _PACKAGES + _EXTRAS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_file(path: Path) -> FileRecord:
    """Checksum and size of a finished file."""
    return FileRecord(sha256=checksum(path), n_bytes=path.stat().st_size)
