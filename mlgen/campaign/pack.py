"""The sampler pack: what a run has learned, in one file from which events can be made.

It plays the role of a gridpack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mlgen
from mlgen.campaign.archive import Archive, ArchiveKind, write_archive
from mlgen.campaign.fingerprint import Fingerprint
from mlgen.campaign.run_record import Efficiency
from mlgen.errors import PackError
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.measure import Estimate

SCHEMA_VERSION = 4
SUFFIX = ".mlgen.zip"

_SURROGATE, _HELICITIES = "surrogate", "helicities"
"""The names of their tensors."""

_KIND = ArchiveKind(
    title="sampler pack",
    index="pack.json",
    schema="mlgen-pack",
    schema_version=SCHEMA_VERSION,
    folder="samplers",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedEstimate:
    """What fresh points said of a sampler."""

    n_points: tuple[float, ...]
    """In each channel, as `ChannelSums` has it; likewise the next two."""
    total: tuple[float, ...]
    total_squares: tuple[float, ...]
    kept: float
    """The share of the points that unweighting keeps."""
    inside: float
    """The share of the points that have a weight."""
    inside_error: float
    eps_uw: Efficiency
    ess: float
    overweight_fraction: float
    """On points that w_max was not found on."""

    def __post_init__(self) -> None:
        lengths = {len(self.n_points), len(self.total), len(self.total_squares)}
        if len(lengths) > 1:
            raise PackError(f"estimate of {sorted(lengths)} channels: expected one number")

    @classmethod
    def of(cls, measured: Estimate) -> PackedEstimate:
        sums, eps_uw = measured.sums, measured.eps_uw
        inside, inside_error = measured.share_inside
        return cls(
            n_points=tuple(sums.n_points.tolist()),
            total=tuple(sums.total.tolist()),
            total_squares=tuple(sums.total_squares.tolist()),
            kept=measured.kept,
            inside=inside,
            inside_error=inside_error,
            eps_uw=Efficiency(value=eps_uw.value, error=eps_uw.error, n=eps_uw.n, t=eps_uw.t),
            ess=measured.ess,
            overweight_fraction=measured.overweight_on_fresh_points,
        )

    @property
    def sums(self) -> ChannelSums:
        columns = (self.n_points, self.total, self.total_squares)
        n_points, total, squares = (torch.tensor(c, dtype=torch.float64) for c in columns)
        return ChannelSums(n_points=n_points, total=total, total_squares=squares)

    def yield_of(self, weighted: bool) -> tuple[float, float]:
        """The share of the points that become events, and its error."""
        return (self.inside, self.inside_error) if weighted else (self.kept, self.eps_uw.error)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSampler:
    """A frozen sampler, and what its points are unweighted with."""

    config: Mapping[str, Any]
    """How to build it again: texts, numbers, lists and tables, as JSON has them."""
    tensors: Mapping[str, Tensor]
    """Its state."""
    fraction: tuple[float, ...]
    """The share of the points that is drawn in each channel; 0 for one that was dropped, so that the
    integrand is that without it."""
    w_max: tuple[float, ...]
    """pb, for each channel."""
    estimate: PackedEstimate

    def __post_init__(self) -> None:
        if len(self.fraction) != len(self.w_max):
            raise PackError(
                f"w_max has {len(self.w_max)} channels, fraction {len(self.fraction)}: expected one of each a channel"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSurrogate:
    """A learned |M|² that chooses points for the chosen sampler, and what its two steps compare with."""

    tensors: Mapping[str, Tensor]
    """Its state; the card says how to build it again."""
    trust: Mapping[str, float]
    """Of `integration.trust.Trust`."""
    floor: tuple[float, ...]
    """pb, for each channel; likewise the next."""
    s_max: tuple[float, ...]
    x_max: tuple[float, ...]
    kept: float
    """The share of the points that become events, and its error."""
    kept_error: float
    n_draws: int = 0
    """Helicities that are drawn for each survivor; 0: all of them are computed."""
    helicities: Mapping[str, Tensor] = field(default_factory=dict)
    """The state of the learned shares that they are drawn from."""

    def __post_init__(self) -> None:
        lengths = {len(self.floor), len(self.s_max), len(self.x_max)}
        if len(lengths) > 1:
            raise PackError(f"surrogate of {sorted(lengths)} channels: expected one number")
        if min(*self.floor, *self.s_max) < 0 or max(self.s_max) <= 0 or min(self.x_max) <= 0:
            raise PackError("surrogate: expected positive s_max and x_max, and no negative floor")
        if self.n_draws < 0:
            raise PackError(f"surrogate.n_draws = {self.n_draws}: expected 0 or more")

    @property
    def fraction(self) -> tuple[float, ...]:
        """The share of the points of each channel for which its events come out right."""
        products = [s * x for s, x in zip(self.s_max, self.x_max, strict=True)]
        return tuple(product / sum(products) for product in products)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pack:
    """All that is needed to make more events."""

    process: str
    """The process string of the card."""
    card: str
    """The whole card, TOML."""
    seed: int
    sampler: str
    """Which of the samplers makes the events."""
    samplers: Mapping[str, PackedSampler]
    provider: str
    """Of the matrix element."""
    fingerprint: Fingerprint
    """Of the integrand."""
    surrogate: PackedSurrogate | None = None
    """None: events are made with the exact |M|² alone."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping, as JSON has it: versions, efficiencies."""
    mlgen_version: str = mlgen.__version__
    """The version that wrote the pack."""

    def __post_init__(self) -> None:
        for taken in (_SURROGATE, _HELICITIES):
            if taken in self.samplers:
                raise PackError(f"samplers.{taken}: expected another name: the surrogate has it")
        if self.sampler not in self.samplers:
            raise PackError(f"sampler = {self.sampler}: expected one of {', '.join(self.samplers)}")
        n_channels = len(self.chosen.fraction)
        if self.surrogate is not None and len(self.surrogate.s_max) != n_channels:
            raise PackError(
                f"surrogate of {len(self.surrogate.s_max)} channels: expected {n_channels}, as the "
                "sampler has"
            )

    @property
    def chosen(self) -> PackedSampler:
        """The sampler that makes the events."""
        return self.samplers[self.sampler]

    def drawn(self, weighted: bool) -> tuple[float, ...]:
        """The share of the points of events that is drawn in each channel."""
        if weighted:
            return self.chosen.fraction
        if self.surrogate is not None:
            return self.surrogate.fraction
        total = sum(self.chosen.w_max)
        return tuple(w_max / total for w_max in self.chosen.w_max)

    def yield_of(self, weighted: bool) -> tuple[float, float]:
        """The share of the points that become events, and its error."""
        if weighted or self.surrogate is None:
            return self.chosen.estimate.yield_of(weighted)
        return self.surrogate.kept, self.surrogate.kept_error


def write_pack(path: Path, pack: Pack) -> None:
    """Write a pack; the file has its name only when it is whole.

    Raises:
        PackError: a sampler's name cannot be the name of a file.
        MlgenError: a number is NaN or infinite, or the file cannot be written.
    """
    sums = pack.chosen.estimate.sums
    table = {
        "mlgen_version": pack.mlgen_version,
        "process": pack.process,
        "seed": pack.seed,
        "sampler": pack.sampler,
        "cross_section_pb": sums.mean,
        "cross_section_error_pb": sums.error,
        "provider": pack.provider,
        "fingerprint": dataclasses.asdict(pack.fingerprint),
        "samplers": {
            name: {
                "config": sampler.config,
                "fraction": list(sampler.fraction),
                "w_max": list(sampler.w_max),
                "estimate": dataclasses.asdict(sampler.estimate),
                "tensors": _KIND.member(name),
            }
            for name, sampler in pack.samplers.items()
        },
        "surrogate": None,
        "tables": pack.tables,
        "card": pack.card,
    }
    tensors = {name: sampler.tensors for name, sampler in pack.samplers.items()}
    if pack.surrogate is not None:
        columns = {f.name: getattr(pack.surrogate, f.name) for f in fields(PackedSurrogate)}
        tensors[_SURROGATE] = columns.pop("tensors")
        tensors[_HELICITIES] = columns.pop("helicities")
        table["surrogate"] = columns
    write_archive(path, _KIND, table, tensors)


def read_pack(path: Path) -> Pack:
    """Read a pack, and check every byte of it that is used.

    Raises:
        PackError: the file cannot be read, is no pack, is damaged, or was written by a newer
            mlgen in a form that this one does not know.
    """
    return Archive(path, _KIND).assemble(_assemble)


def _assemble(archive: Archive) -> Pack:
    index = archive.index
    samplers = {
        name: PackedSampler(
            config=entry["config"],
            tensors=archive.tensors(name),
            fraction=tuple(entry["fraction"]),
            w_max=tuple(entry["w_max"]),
            estimate=_estimate(entry["estimate"]),
        )
        for name, entry in index["samplers"].items()
    }
    return Pack(
        process=index["process"],
        card=index["card"],
        seed=index["seed"],
        sampler=index["sampler"],
        samplers=samplers,
        provider=index["provider"],
        fingerprint=Fingerprint(**index["fingerprint"]),
        surrogate=_surrogate(index["surrogate"], archive),
        tables=index["tables"],
        mlgen_version=index["mlgen_version"],
    )


def _surrogate(entry: Mapping[str, Any] | None, archive: Archive) -> PackedSurrogate | None:
    if entry is None:
        return None
    columns = {name: tuple(entry[name]) for name in ("floor", "s_max", "x_max")}
    return PackedSurrogate(
        tensors=archive.tensors(_SURROGATE),
        trust=entry["trust"],
        **columns,
        kept=entry["kept"],
        kept_error=entry["kept_error"],
        n_draws=entry["n_draws"],
        helicities=archive.tensors(_HELICITIES),
    )


def _estimate(entry: Mapping[str, Any]) -> PackedEstimate:
    sums = {name: tuple(entry[name]) for name in ("n_points", "total", "total_squares")}
    return PackedEstimate(**{**entry, **sums, "eps_uw": Efficiency(**entry["eps_uw"])})
