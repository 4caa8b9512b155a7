"""Which numbers of an event of a hard object and jets are shown and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mlgen.physics.kinematics import delta_phi, delta_r, eta, mass, pt, rapidity
from mlgen.radiation.jets import JetEvents

MAX_PAIRED = 3
"""Of the hardest jets, so many are paired with one another; later ones with the one before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JetObservable:
    """A number that each event with enough jets has."""

    name: str
    """For captions and records: `pt of jet 2`."""
    symbol: str
    """For axes, mathtext without its dollars: `p_{T,2}`."""
    unit: Literal["GeV", ""]
    of: Callable[[JetEvents], Tensor]
    """Its value, (n,), for events that all have the jets it needs."""


def jet_observables(n_jets: int) -> Iterator[JetObservable]:
    """Those of events with n_jets jets or more."""
    yield JetObservable(name="pt of the hard object", symbol="p_{T,0}", unit="GeV", of=_hard_pt)
    yield JetObservable(
        name="rapidity of the hard object", symbol="y_0", unit="", of=lambda e: rapidity(e.hard)
    )
    for i in range(n_jets):
        yield from _of_jet(i)
    for i in range(n_jets):
        for j in range(i + 1, n_jets):
            if j < MAX_PAIRED or j == i + 1:
                yield _distance(i, j)
    if n_jets > 0:
        yield JetObservable(name="sum of pt of jets", symbol="H_T", unit="GeV", of=_scalar_sum)
        yield JetObservable(
            name="pt of all together", symbol=r"|\sum \vec{p}_T|", unit="GeV", of=_total_pt
        )


def _of_jet(i: int) -> Iterator[JetObservable]:
    label = f"jet {i + 1}"
    yield JetObservable(
        name=f"pt of {label}", symbol=f"p_{{T,{i + 1}}}", unit="GeV", of=lambda e: pt(e.jets[:, i])
    )
    yield JetObservable(
        name=f"pseudorapidity of {label}",
        symbol=rf"\eta_{i + 1}",
        unit="",
        of=lambda e: eta(e.jets[:, i]),
    )
    yield JetObservable(
        name=f"mass of {label}", symbol=f"m_{i + 1}", unit="GeV", of=lambda e: mass(e.jets[:, i])
    )
    yield JetObservable(
        name=f"azimuth between {label} and the hard object",
        symbol=rf"|\Delta\phi_{{0,{i + 1}}}|",
        unit="",
        of=lambda e: delta_phi(e.jets[:, i], e.hard).abs(),
    )


def _distance(i: int, j: int) -> JetObservable:
    return JetObservable(
        name=f"delta_r of jets {i + 1} and {j + 1}",
        symbol=rf"\Delta R_{{{i + 1},{j + 1}}}",
        unit="",
        of=lambda e: delta_r(e.jets[:, i], e.jets[:, j]),
    )


def _hard_pt(events: JetEvents) -> Tensor:
    return pt(events.hard)


def _scalar_sum(events: JetEvents) -> Tensor:
    return pt(events.jets).sum(1)


def _total_pt(events: JetEvents) -> Tensor:
    return pt(events.hard + events.jets.sum(1))
