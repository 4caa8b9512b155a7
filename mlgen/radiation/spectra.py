"""Distributions of true and of generated events, with their errors and what a model says of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from scipy import stats
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.observables import JetObservable, jet_observables

MIN_EVENTS = 100
"""Of either kind; of fewer events no spectrum is made."""
MIN_ENTRIES = 8.0
"""A bin with fewer effective entries in either sample has no pull: its error is not known well enough."""
ONE_SIGMA = math.erf(1 / math.sqrt(2))
"""The probability of a normal number within one standard deviation."""
EVENTS_PER_BIN = 60
N_BINS = (5, 25)
"""Fewest and most."""
BEYOND = 1e-3
"""The share of true events on either side that bins leave out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratedEvents:
    """Events with the weights that they count with, and those that members of an ensemble give them.

    A member's weight is its density over the one that the events were drawn from. Where members drew
    events of their own, it is 1 for these and 0 for others.
    """

    events: JetEvents
    weight: Tensor
    """(n,), 0 or more."""
    members: Tensor
    """(n, n_members), likewise; (n, 0) where there is no ensemble."""

    def __post_init__(self) -> None:
        n = len(self.events)
        for name, got, fits in (
            ("weight", self.weight, self.weight.shape == (n,)),
            ("members", self.members, self.members.dim() == 2 and len(self.members) == n),
        ):
            if not fits:
                raise MlgenError(
                    f"{name} = a tensor {tuple(got.shape)}: expected one row an event, of {n}"
                )
            if not bool((got.isfinite() & (got >= 0)).all()):
                raise MlgenError(
                    f"{name} = {float(got.min()):g} at least: expected finite numbers of 0 or more"
                )

    @classmethod
    def of(
        cls, events: JetEvents, weight: Tensor | None = None, members: Tensor | None = None
    ) -> Self:
        """With weights of 1, and without an ensemble, unless they are given."""
        one = torch.ones(len(events), dtype=torch.float64)
        return cls(
            events=events,
            weight=one if weight is None else weight.double(),
            members=one[:, None][:, :0] if members is None else members.double(),
        )

    def __len__(self) -> int:
        return len(self.weight)

    def select(self, index: Tensor) -> Self:
        """The events at an index or mask."""
        return type(self)(
            events=self.events.select(index), weight=self.weight[index], members=self.members[index]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimates:
    """Several numbers, their statistical errors, and how much members of an ensemble differ."""

    value: tuple[float, ...]
    error: tuple[float, ...]
    band: tuple[float, ...] = ()
    """`spread` over members, of spectra `shared_spread`; empty without an ensemble."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spectrum:
    """The distribution of one observable among the events of one multiplicity."""

    observable: str
    symbol: str
    unit: str
    n_jets: int
    and_more: bool
    """Whether events with more jets are in it."""
    edges: tuple[float, ...]
    """In the observable's unit."""
    log_bins: bool
    truth: Estimates
    """The share of the events of this multiplicity in each bin."""
    generated: Estimates
    entries: tuple[float, ...]
    """Effective entries of each bin, in the sample that has fewer."""

    @property
    def pulls(self) -> tuple[float, ...]:
        """(generated - truth) / error of each bin, statistical and predicted; NaN where there are few entries."""
        return pulls(self.truth, self.generated, self.entries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """The pulls of all bins of the spectra of one multiplicity."""

    n_jets: int
    and_more: bool
    n_truth: int
    n_generated: int
    n_bins: int
    """With enough entries for a pull."""
    pull_width: float
    """Root of the mean squared pull: 1 where predicted errors are what they are said to be."""
    pull_width_error: float
    """For independent bins; those of spectra of the same events are less than that."""
    band_share: float
    """The mean share of the predicted variance that is the ensemble's; the rest is statistical."""


def pulls(truth: Estimates, generated: Estimates, entries: Sequence[float]) -> tuple[float, ...]:
    """(generated - truth) / error; NaN where there are fewer entries than `MIN_ENTRIES`."""
    band = generated.band or (0.0,) * len(generated.value)
    rows = zip(
        truth.value, truth.error, generated.value, generated.error, band, entries, strict=True
    )
    return tuple(
        (g - t) / math.hypot(t_error, g_error, spread) if n >= MIN_ENTRIES else math.nan
        for t, t_error, g, g_error, spread, n in rows
    )


def spectra(
    truth: JetEvents, generated: GeneratedEvents, n_jets: int, and_more: bool
) -> Iterator[Spectrum]:
    """The spectra of events with n_jets jets, or with these at least; none where there are too few events."""
    theirs = generated.events.n_jets
    is_true = truth.n_jets >= n_jets if and_more else truth.n_jets == n_jets
    is_made = theirs >= n_jets if and_more else theirs == n_jets
    true, made = truth.select(is_true), generated.select(is_made)
    if min(len(true), len(made)) < MIN_EVENTS or not bool((made.weight > 0).any()):
        return
    for observable in jet_observables(n_jets):
        yield _spectrum(observable, true, made, n_jets, and_more)


def _spectrum(
    observable: JetObservable,
    truth: JetEvents,
    generated: GeneratedEvents,
    n_jets: int,
    and_more: bool,
) -> Spectrum:
    true, made = observable.of(truth), observable.of(generated.events)
    edges, log_bins = _edges(true, min(len(true), len(made)), observable.unit == "GeV")
    in_true, in_made = _bins(true, edges), _bins(made, edges)
    n_bins = len(edges) - 1
    one = torch.ones_like(true)
    entries = torch.minimum(
        _effective(in_true, one, n_bins), _effective(in_made, generated.weight, n_bins)
    )
    return Spectrum(
        observable=observable.name,
        symbol=observable.symbol,
        unit=observable.unit,
        n_jets=n_jets,
        and_more=and_more,
        edges=tuple(edges.tolist()),
        log_bins=log_bins,
        truth=shares(in_true, one, one[:, None][:, :0], n_bins),
        generated=shares(
            in_made, generated.weight, generated.members, n_bins, spread_of=shared_spread
        ),
        entries=tuple(entries.tolist()),
    )


def spread(members: Tensor) -> Tensor:
    """The error of the mean of members (n_members, n), as their scatter has it: (n,).

    Members that learn from their own draws of the same events scatter around what these events say as that
    scatters around the truth. With their standard deviation s, the mean is within
    t s sqrt(1 + 1 / n_members) of the truth in 68 % of all cases, t being Student's: of few members, s
    is not well known.
    """
    n = len(members)
    return _student(n - 1) * math.sqrt(1 + 1 / n) * members.std(0)


def shared_spread(members: Tensor) -> Tensor:
    """`spread` for the bins of one spectrum, (n_members, n_bins), whose scatters are of one kind: (n_bins,).

    Few members know the variance of one bin badly; where they happen to agree, the error is much too
    small. So half of it is the bin's own and half what all bins have in the mean, in proportion to
    their shares, as that of counts is: a moderated variance (G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3
    (2004) 3) of twice as many degrees of freedom.
    """
    n = len(members)
    share, own = members.mean(0), members.var(0)
    known = share > 0
    common = share * (own[known] / share[known]).mean() if bool(known.any()) else own
    return _student(2 * (n - 1)) * ((1 + 1 / n) * 0.5 * (own + common)).sqrt()


def _student(n_freedom: int) -> float:
    """What 68 % of Student's t are within."""
    return float(stats.t.ppf(0.5 + 0.5 * ONE_SIGMA, n_freedom))


def shares(
    bins: Tensor,
    weight: Tensor,
    members: Tensor,
    n_bins: int,
    spread_of: Callable[[Tensor], Tensor] = spread,
) -> Estimates:
    """The share of the weight in each bin, with the error of a ratio of sums.

    With p = sum of w in the bin over the sum of all w, its variance is the sum of w² (1_bin - p)² over the
    square of the sum of all w: p (1 - p) / n where all weights are alike.

    Args:
        bins: (n,), which bin each event is in; n_bins for none.
        weight: (n,).
        members: (n, n_members).
        spread_of: what error members (n_members, n_bins) have.
    """
    total, squares = _sum(bins, weight, n_bins), _sum(bins, weight.square(), n_bins)
    norm = weight.sum()
    p = total / norm
    variance = (squares * (1 - 2 * p) + p.square() * weight.square().sum()) / norm.square()
    band: tuple[float, ...] = ()
    if members.shape[1] > 1:
        each = torch.stack([_sum(bins, column, n_bins) / column.sum() for column in members.T])
        band = tuple(spread_of(each).tolist())
    return Estimates(
        value=tuple(p.tolist()), error=tuple(variance.clamp(min=0).sqrt().tolist()), band=band
    )


def agreement(found: Sequence[Spectrum], n_truth: int, n_generated: int) -> Agreement:
    """What all spectra of one multiplicity say together.

    Args:
        found: one or more, of the same multiplicity.
        n_truth, n_generated: how many events they are of.
    """
    columns: list[tuple[float, float]] = []
    for spectrum in found:
        truth, made = spectrum.truth, spectrum.generated
        band = made.band or (0.0,) * len(made.value)
        for k, pull in enumerate(spectrum.pulls):
            if math.isfinite(pull):
                statistical = math.hypot(truth.error[k], made.error[k])
                share = band[k] ** 2 / (band[k] ** 2 + statistical**2)
                columns.append((pull, share))
    if not columns:
        columns.append((math.nan, math.nan))
    pull, share = torch.tensor(columns, dtype=torch.float64).T
    width = float(pull.square().mean().sqrt())
    n_bins = int(pull.isfinite().sum())
    return Agreement(
        n_jets=found[0].n_jets,
        and_more=found[0].and_more,
        n_truth=n_truth,
        n_generated=n_generated,
        n_bins=n_bins,
        pull_width=width,
        pull_width_error=width / math.sqrt(2 * max(n_bins, 1)),
        band_share=float(share.mean()),
    )


def _edges(values: Tensor, n: int, is_scale: bool) -> tuple[Tensor, bool]:
    """Edges of bins that hold nearly all values, and whether they are equal in the logarithm."""
    n_bins = min(max(n // EVENTS_PER_BIN, N_BINS[0]), N_BINS[1])
    ordered = values.sort().values
    cut = int(BEYOND * len(values))
    low, high = float(ordered[cut]), float(ordered[len(values) - 1 - cut])
    if is_scale and 0 < 4 * low < high:
        logs = torch.linspace(math.log(low), math.log(high), n_bins + 1, dtype=torch.float64)
        return logs.exp(), True
    return torch.linspace(low, max(high, low + 1e-9), n_bins + 1, dtype=torch.float64), False


def _bins(values: Tensor, edges: Tensor) -> Tensor:
    """The bin of each value, (n,); that after the last for none."""
    found = torch.searchsorted(edges, values, right=True) - 1
    return torch.where((found < 0) | (found >= len(edges) - 1), len(edges) - 1, found)


def _sum(bins: Tensor, weight: Tensor, n_bins: int) -> Tensor:
    return torch.bincount(bins, weight, minlength=n_bins + 1)[:n_bins]


def _effective(bins: Tensor, weight: Tensor, n_bins: int) -> Tensor:
    squares = _sum(bins, weight.square(), n_bins)
    return torch.where(squares > 0, _sum(bins, weight, n_bins).square() / squares, 0.0)
