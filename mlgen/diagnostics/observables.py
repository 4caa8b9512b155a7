"""Which distributions show an event sample, and how two samples of them compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlgen.core import EventBatch
from mlgen.physics.cuts import is_jet, is_lepton
from mlgen.physics.kinematics import delta_r, eta, mass, pt, rapidity
from mlgen.physics.process import particle_name

FINAL = 1
"""Status of an outgoing particle in the Les Houches accord."""
MAX_PER_ROLE = 3
"""Of one kind of particle, so many are shown, hardest first."""
Z_WINDOW_GEV = (71.0, 111.0)
"""A lepton pair is also shown here, where that holds a fifth of the events or more."""
MIN_ENTRIES = 8
"""A bin with fewer effective entries in either sample is left out of the chi-squared."""

_SYMBOLS = {
    -11: "e^+", 11: "e^-", -13: r"\mu^+", 13: r"\mu^-", -15: r"\tau^+", 15: r"\tau^-",
    -5: r"\bar{b}", 5: "b", -6: r"\bar{t}", 6: "t", 22: r"\gamma", 23: "Z", 24: "W^+", -24: "W^-",
    25: "H", 12: r"\nu_e", -12: r"\bar{\nu}_e", 14: r"\nu_\mu", -14: r"\bar{\nu}_\mu",
    16: r"\nu_\tau", -16: r"\bar{\nu}_\tau",
}  # fmt: skip

Momenta = Callable[[EventBatch], Tensor]
"""Picks a four-momentum of each event, (n, 4); NaN where an event has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observable:
    """A number that each event has."""

    name: str
    """For captions: `transverse momentum of e+`."""
    symbol: str
    """For axes, mathtext without its dollars: `p_T(e^+)`."""
    unit: Literal["GeV", ""]
    of: Callable[[EventBatch], Tensor]
    """Its value for each event, (n,); NaN where an event has none."""
    window: tuple[float, float] | None = None
    """A fixed range with linear bins; None: where the events are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Binned cross sections of one observable in two samples that have the same total."""

    observable: Observable
    edges: NDArray[np.float64]
    """(n_bins + 1,)."""
    log_bins: bool
    events: NDArray[np.float64]
    """d sigma / d observable in pb per unit, (n_bins,), of the written events."""
    events_error: NDArray[np.float64]
    reference: NDArray[np.float64]
    reference_error: NDArray[np.float64]
    chi2: float
    """Over the bins where both samples are well populated."""
    n_dof: int

    @property
    def p_value(self) -> float:
        """The chance of a chi-squared this large or larger between samples of one distribution."""
        if self.n_dof < 1:
            return math.nan
        halves = torch.tensor([self.n_dof, self.chi2], dtype=torch.float64) / 2
        return float(torch.special.gammaincc(halves[0], halves[1]))


def observables(events: EventBatch) -> tuple[Observable, ...]:
    """What to plot for the particles that these events have, from their final states."""
    return tuple(_observables(events))


def compare(
    observable: Observable, events: EventBatch, reference: EventBatch, cross_section_pb: float
) -> Comparison | None:
    """Histogram an observable of two samples, each scaled to the same cross section.

    The bins cover all but a thousandth of the events. Errors are sqrt(sum w²) in each bin.

    Returns:
        The comparison, or None where the observable has one value only (the pair mass at
        fixed energy, the pt of a pair that recoils against nothing).
    """
    values, others = _numpy(observable.of(events)), _numpy(observable.of(reference))
    binning = _binning(observable, values, others, _numpy(events.momenta[..., 0]).max())
    if binning is None:
        return None
    edges, log_bins = binning
    mine, mine_error = _spectrum(values, _numpy(events.weight), edges, cross_section_pb)
    theirs, theirs_error = _spectrum(others, _numpy(reference.weight), edges, cross_section_pb)
    with np.errstate(divide="ignore", invalid="ignore"):
        populated = np.minimum((mine / mine_error) ** 2, (theirs / theirs_error) ** 2)
        pulls = (mine - theirs) / np.hypot(mine_error, theirs_error)
    used = populated >= MIN_ENTRIES
    return Comparison(
        observable=observable,
        edges=edges,
        log_bins=log_bins,
        events=mine,
        events_error=mine_error,
        reference=theirs,
        reference_error=theirs_error,
        chi2=float((pulls[used] ** 2).sum()),
        n_dof=max(int(used.sum()) - 1, 0),
    )


def _observables(events: EventBatch) -> Iterator[Observable]:
    roles = _roles(events)
    for label, symbol, momenta in roles.values():
        yield Observable(
            name=f"transverse momentum of {label}",
            symbol=rf"p_T({symbol})",
            unit="GeV",
            of=_after(pt, momenta),
        )
        yield Observable(
            name=f"pseudorapidity of {label}",
            symbol=rf"\eta({symbol})",
            unit="",
            of=_after(eta, momenta),
        )
    hardest = [(pdg_id, role) for (pdg_id, rank), role in roles.items() if rank == 0]
    for (one, (label, symbol, momenta)), (other, antiparticle) in combinations(hardest, 2):
        if one == -other:
            pair = _Pair(f"{label} {antiparticle[0]}", f"{symbol}{antiparticle[1]}")
            yield from _pair_observables(events, pair, _sum(momenta, antiparticle[2]), one)
    if (0, 1) in roles:
        (_, _, first), (_, _, second) = roles[0, 0], roles[0, 1]
        yield Observable(
            name="mass of the two hardest jets",
            symbol="m(j_1 j_2)",
            unit="GeV",
            of=_after(mass, _sum(first, second)),
        )
        yield Observable(
            name="distance of the two hardest jets",
            symbol=r"\Delta R(j_1, j_2)",
            unit="",
            of=lambda batch: delta_r(first(batch), second(batch)),
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    symbol: str


def _pair_observables(
    events: EventBatch, pair: _Pair, momenta: Momenta, pdg_id: int
) -> Iterator[Observable]:
    of_mass = _after(mass, momenta)
    name, symbol = f"mass of {pair.name}", f"m({pair.symbol})"
    yield Observable(name=name, symbol=symbol, unit="GeV", of=of_mass)
    low, high = Z_WINDOW_GEV
    masses = of_mass(events)
    in_window = (masses > low) & (masses < high)
    if is_lepton(pdg_id) and float(in_window.double().mean()) >= 0.2:
        yield Observable(
            name=f"{name} around the Z", symbol=symbol, unit="GeV", of=of_mass, window=Z_WINDOW_GEV
        )
    yield Observable(
        name=f"transverse momentum of {pair.name}",
        symbol=rf"p_T({pair.symbol})",
        unit="GeV",
        of=_after(pt, momenta),
    )
    yield Observable(
        name=f"rapidity of {pair.name}",
        symbol=f"y({pair.symbol})",
        unit="",
        of=_after(rapidity, momenta),
    )


def _roles(events: EventBatch) -> dict[tuple[int, int], tuple[str, str, Momenta]]:
    """Name, symbol and momenta by (PDG id, rank in pt), as records order them, jets last.

    The id of a jet is 0.
    """
    final_ids = torch.where(events.status == FINAL, events.pdg_id, 0)
    found = [int(p) for p in torch.unique(final_ids) if p != 0]
    jets = [p for p in found if is_jet(p)]
    column = {p: int((final_ids == p).any(0).nonzero()[0]) for p in found}
    members = {p: [p] for p in sorted(found, key=column.__getitem__) if p not in jets}
    if jets:
        members[0] = jets
    roles = {}
    for pdg_id, ids in members.items():
        counts = torch.isin(final_ids, torch.tensor(ids, device=final_ids.device)).sum(1)
        n_max = min(int(counts.max()), MAX_PER_ROLE)
        name, symbol = ("jet", "j") if pdg_id == 0 else _name_and_symbol(pdg_id)
        for rank in range(n_max):
            label = name if n_max == 1 else f"{name} {rank + 1}"
            mark = symbol if n_max == 1 else f"{symbol}_{rank + 1}"
            roles[pdg_id, rank] = label, mark, _ranked(tuple(ids), rank)
    return roles


def _name_and_symbol(pdg_id: int) -> tuple[str, str]:
    name = particle_name(pdg_id)
    return name, _SYMBOLS.get(pdg_id, rf"\mathrm{{{name}}}")


def _ranked(ids: tuple[int, ...], rank: int) -> Momenta:
    def momenta(batch: EventBatch) -> Tensor:
        wanted = torch.tensor(ids, device=batch.pdg_id.device)
        mine = (batch.status == FINAL) & torch.isin(batch.pdg_id, wanted)
        if mine.shape[1] <= rank:
            return batch.momenta.new_full((len(batch), 4), math.nan)
        order = torch.where(mine, pt(batch.momenta), -1.0).argsort(dim=1, descending=True)
        position = order[:, rank]
        chosen = batch.momenta[torch.arange(len(batch), device=position.device), position]
        return torch.where((mine.sum(1) > rank)[:, None], chosen, math.nan)

    return momenta


def _after(
    quantity: Callable[[Tensor], Tensor], momenta: Momenta
) -> Callable[[EventBatch], Tensor]:
    return lambda batch: quantity(momenta(batch))


def _sum(first: Momenta, second: Momenta) -> Momenta:
    return lambda batch: first(batch) + second(batch)


def _binning(
    observable: Observable,
    values: NDArray[np.float64],
    others: NDArray[np.float64],
    energy_scale: float,
) -> tuple[NDArray[np.float64], bool] | None:
    """Bin edges, and whether they are logarithmic; None where there is nothing to resolve."""
    values, others = values[np.isfinite(values)], others[np.isfinite(others)]
    if len(values) == 0 or len(others) == 0:
        return None
    n_bins = int(np.clip(1.4 * len(values) ** (1 / 3), 8, 30))
    if observable.window:
        return np.linspace(*observable.window, n_bins + 1), False
    low, high = np.quantile(values, [0.0005, 0.9995])
    resolution = 1e-6 * (energy_scale if observable.unit == "GeV" else 1.0)
    if high - low < resolution:
        return None
    lowest = min(values.min(), others.min())
    if observable.unit == "GeV":
        # A cut on this observable shows as a sharp lower end: let the first bin begin there.
        low = lowest if lowest > low / 2 else low
        if low > 0 and high > 4 * low:
            return np.geomspace(low, high, n_bins + 1), True
        return np.linspace(low, high, n_bins + 1), False
    if low < 0 < high:
        high = max(-low, high)
        low = -high
    return np.linspace(low, high, n_bins + 1), False


def _spectrum(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    edges: NDArray[np.float64],
    cross_section_pb: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    widths = np.diff(edges)
    scale = cross_section_pb / weights.sum()
    values, weights = values[np.isfinite(values)], weights[np.isfinite(values)]
    total, _ = np.histogram(values, edges, weights=weights)
    squares, _ = np.histogram(values, edges, weights=weights**2)
    return scale * total / widths, abs(scale) * np.sqrt(squares) / widths


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().cpu().double().numpy()
    return array
