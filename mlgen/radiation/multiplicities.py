"""How many jets events have: shares, and ratios of neighbouring multiplicities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.radiation.jets import JetEvents
from mlgen.radiation.spectra import Estimates, GeneratedEvents, pulls, shares, spread

MIN_COUNT = 20
"""True events, and effective generated ones, without which a multiplicity is left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Numbers of true and of generated events; entry k is of multiplicity k."""

    truth: Estimates
    generated: Estimates

    @property
    def pulls(self) -> tuple[float, ...]:
        """(generated - truth) / error, statistical and predicted."""
        return pulls(self.truth, self.generated, (float("inf"),) * len(self.truth.value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """The two patterns of n-jet scaling, fitted to exclusive ratios: arXiv:1208.3676."""

    staircase: float
    """R, the same for each multiplicity."""
    staircase_chi2: float
    poisson: float
    """The mean number of jets of R_(n+1)/n = mean / (n + 1)."""
    poisson_chi2: float
    n_ratios: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Multiplicities:
    """Numbers of jets of true and of generated events, as far as there are events of both."""

    share: Compared
    """Of the events with n jets: all that are left out have more."""
    exclusive: Compared
    """R_(n+1)/n = sigma_(n+1) / sigma_n, of events with exactly so many jets; entry n."""
    inclusive: Compared
    """The same of events with so many jets at least."""
    truth_scaling: Scaling | None
    """None where there are fewer than two ratios."""


def multiplicities(truth: JetEvents, generated: GeneratedEvents) -> Multiplicities:
    """Shares and ratios, with errors of ratios of weighted sums and the spread of an ensemble."""
    one = torch.ones(len(truth), dtype=torch.float64)
    none = one[:, None][:, :0]
    n = _n_seen(truth, generated)
    theirs = generated.events.n_jets
    true = truth.n_jets, one, none
    made = theirs, generated.weight, generated.members
    exclusive = Compared(truth=_ratios(*true, n, False), generated=_ratios(*made, n, False))
    return Multiplicities(
        share=Compared(
            truth=shares(truth.n_jets.clamp(max=n), one, none, n),
            generated=shares(theirs.clamp(max=n), generated.weight, generated.members, n),
        ),
        exclusive=exclusive,
        inclusive=Compared(truth=_ratios(*true, n, True), generated=_ratios(*made, n, True)),
        truth_scaling=scaling(exclusive.truth),
    )


def scaling(ratios: Estimates) -> Scaling | None:
    """Both patterns, fitted to exclusive ratios; None where there are fewer than two.

    Neighbouring ratios share a multiplicity, which moves them against each other; chi-squared leaves
    that out, and is there to tell one pattern from the other.
    """
    value, error = (
        torch.tensor(column, dtype=torch.float64) for column in (ratios.value, ratios.error)
    )
    if len(value) < 2 or not bool((error > 0).all()):
        return None
    found = []
    for factor in (torch.ones_like(value), torch.arange(1, len(value) + 1, dtype=torch.float64)):
        scaled, weight = factor * value, (factor * error) ** -2
        mean = (weight * scaled).sum() / weight.sum()
        found += [float(mean), float((weight * (scaled - mean).square()).sum())]
    return Scaling(
        staircase=found[0],
        staircase_chi2=found[1],
        poisson=found[2],
        poisson_chi2=found[3],
        n_ratios=len(value),
    )


def _n_seen(truth: JetEvents, generated: GeneratedEvents) -> int:
    """The number of multiplicities 0, 1, ... of which there are enough events of both kinds, at least 1."""
    weight, theirs = generated.weight, generated.events.n_jets
    most = 1 + max(int(truth.n_jets.max()), int(theirs.max()))
    total, squares = (torch.bincount(theirs, w, minlength=most) for w in (weight, weight.square()))
    effective = torch.where(squares > 0, total.square() / squares, 0.0)
    enough = (torch.bincount(truth.n_jets, minlength=most) >= MIN_COUNT) & (effective >= MIN_COUNT)
    return max(1, int(enough.long().cumprod(0).sum()))


def _ratios(n_jets: Tensor, weight: Tensor, members: Tensor, n: int, and_more: bool) -> Estimates:
    """R_(k+1)/k for k + 1 < n, with n of the multiplicities seen.

    For R = A / B, sums of weights, the variance is the sum of w² (1_A - R 1_B)² over B²: R² (1/A + 1/B)
    for counts of different events, and binomial where those of A are among those of B.
    """

    def sums(w: Tensor) -> Tensor:
        counts = torch.bincount(n_jets, w, minlength=n)
        return counts.flip(0).cumsum(0).flip(0)[:n] if and_more else counts[:n]

    total, squares = sums(weight), sums(weight.square())
    below, above = total[:-1], total[1:]
    ratio = above / below
    # The square of 1_A - R 1_B: where A lies in B, an event of A has (1 - R)².
    cross = squares[1:] if and_more else torch.zeros_like(ratio)
    variance = (squares[1:] + ratio.square() * squares[:-1] - 2 * ratio * cross) / below.square()
    band: tuple[float, ...] = ()
    if members.shape[1] > 1:
        each = torch.stack([sums(column) for column in members.T])
        band = tuple(spread(each[:, 1:] / each[:, :-1]).tolist())
    return Estimates(
        value=tuple(ratio.tolist()), error=tuple(variance.clamp(min=0).sqrt().tolist()), band=band
    )
