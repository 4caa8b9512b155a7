"""`run.json`: what a run was asked for, what came out, and what it cost.

The keys are promised: new ones are added, none change their meaning. Nothing in the record
names a machine, a user or a place in the file system.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import mlgen
from mlgen.cards import Card
from mlgen.errors import CardError, MlgenError

Step = Literal["prepare", "adapt", "train", "estimate", "generate", "write"]
STEPS: tuple[Step, ...] = get_args(Step)

RECORD_FILE = "run.json"

_PACKAGES = ("torch", "numpy", "scipy", "normflows", "pylhe", "safetensors")
_EXTRAS = ("pyamplicol", "pythia8mc", "vegas")


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CardError(f"--decisions {path}: expected the run.json of a complete run") from error
    if not found or not all(math.isfinite(value) and value > 0 for value in found.values()):
        raise CardError(f"--decisions {path}: settled = {found}: expected positive times")
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


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> FileRecord:
    """Checksum and size of a finished file."""
    return FileRecord(sha256=checksum(path), n_bytes=path.stat().st_size)


def json_text(table: Mapping[str, Any], name: str) -> str:
    """The table as indented JSON.

    Raises:
        MlgenError: a number is NaN or infinite, which JSON cannot hold; the message says which.
    """
    for key, value in _leaves(table, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise MlgenError(f"{name}: {key} = {value}: expected a finite number")
    return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{key}[{position}]")
    else:
        yield key, value


def write_json_atomically(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table as JSON; the file has its name only when it is whole.

    Raises:
        MlgenError: a number is NaN or infinite; no file is touched then.
    """
    write_bytes_atomically(path, json_text(table, path.name).encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, flush to the disk, then rename.

    Raises:
        MlgenError: it cannot be written: the disk is full, say.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise MlgenError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


class StepClock:
    """Collects CPU and wall-clock time by step.

    A step inside a step takes its time away from the outer one, so that the sum over steps is
    the time that passed. Worker processes count in the step in which they end: the operating
    system adds their CPU time to ours only then.

        clock = StepClock()
        with clock.step("adapt"):
            ...
        record = RunRecord(cpu_s=clock.cpu_s, wall_s=clock.wall_s, ...)
    """

    def __init__(
        self, cpu_s: Mapping[str, float] | None = None, wall_s: Mapping[str, float] | None = None
    ) -> None:
        """Begin with what each step has cost before, in an interrupted run; None: nothing."""
        self._cpu_s = {step: (cpu_s or {}).get(step, 0.0) for step in STEPS}
        self._wall_s = {step: (wall_s or {}).get(step, 0.0) for step in STEPS}
        self._open: list[Step] = []
        self._charged_at = _now()

    @contextmanager
    def step(self, name: Step) -> Iterator[None]:
        """Charge what happens inside to this step.

        Raises:
            ValueError: the name is not one of `STEPS`.
        """
        if name not in STEPS:
            raise ValueError(f"step = {name!r}: expected one of {', '.join(STEPS)}")
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def move(self, cpu_s: float, source: Step | None, target: Step) -> None:
        """Charge CPU time to another step than it was charged to; None: to none, till now."""
        if source is not None:
            self._cpu_s[source] -= cpu_s
        self._cpu_s[target] += cpu_s

    def _charge(self) -> None:
        cpu_s, wall_s = _now()
        if self._open:
            self._cpu_s[self._open[-1]] += cpu_s - self._charged_at[0]
            self._wall_s[self._open[-1]] += wall_s - self._charged_at[1]
        self._charged_at = cpu_s, wall_s

    @property
    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each step so far, 0 for one that did not run."""
        return _rounded(self._cpu_s)

    @property
    def wall_s(self) -> dict[str, float]:
        """Wall-clock seconds of each step so far, 0 for one that did not run."""
        return _rounded(self._wall_s)


def _now() -> tuple[float, float]:
    # os.times rather than resource.getrusage: the same numbers, and it exists on Windows too.
    times = os.times()
    return sum(times[:4]), time.monotonic()


def _rounded(seconds: Mapping[Step, float]) -> dict[str, float]:
    return {step: round(value, 3) for step, value in seconds.items()}
