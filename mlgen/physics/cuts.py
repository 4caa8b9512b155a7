"""Which points pass the cuts of a card.

Cheap cuts come first. The distance in (eta, phi), the only one that needs transcendental functions,
is first bounded by products of momenta, and computed for the few points that this leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.cut_cards import CutsCard, EventCutsCard, PairCutsCard, ParticleCutsCard
from mlgen.errors import CardError
from mlgen.physics.cut_functions import find_cut_function
from mlgen.physics.kinematics import delta_r
from mlgen.physics.leg_cuts import STANDARD_KINDS, LegCuts, ParticleKinds, cut_key, leg_cuts
from mlgen.physics.process import process_name

LARGEST_ETA = 700.0
"""sinh and cosh overflow beyond; no momentum in double precision comes near."""


def is_jet(pdg_id: int) -> bool:
    """Whether cuts take a particle of the Standard Model for a jet: massless partons."""
    return STANDARD_KINDS.of(pdg_id) == "jet"


def is_lepton(pdg_id: int) -> bool:
    """Whether cuts take a particle for a charged lepton."""
    return STANDARD_KINDS.of(pdg_id) == "lepton"


class CardCuts:
    """The cuts of a card, for the groups of a process: a `Cut`.

    Raises:
        CardError: flavours of one group would be cut differently, nothing can pass, or there is no
            such cut function.
    """

    def __init__(
        self,
        card: CutsCard,
        groups: Sequence[SubprocessGroup],
        kinds: ParticleKinds = STANDARD_KINDS,
    ) -> None:
        for group in groups:
            _check_flavours(card, group, kinds)
        _check_event(card.event, groups, kinds)
        self._event = card.event
        self._legs = [leg_cuts(group.pdg_ids[0], card, kinds) for group in groups]
        self._function = UserCut(card.function, groups) if card.function else None

    def __call__(self, momenta: Tensor, group: int) -> Tensor:
        rows, legs = _Rows(momenta), self._legs[group]
        passed = torch.ones(len(momenta), dtype=torch.bool, device=momenta.device)
        for leg, particle in legs.particles:
            _keep(passed, _particle_masks(rows, leg, particle))
        _keep(passed, _event_masks(rows, legs, self._event))
        for a, b, pair in legs.pairs:
            _keep(passed, _mass_masks(rows, a, b, pair))
        for a, b, pair in legs.pairs:
            _keep(passed, _distance_masks(rows, a, b, pair, passed))
        if self._function is not None:
            passed &= self._function(momenta, group)
        return passed


class UserCut:
    """A user's registered function, for the groups of a process: a `Cut`."""

    N_COMPARED = 256
    """Points of each call at which all flavours of a group must get the same answer."""

    def __init__(self, name: str, groups: Sequence[SubprocessGroup]) -> None:
        self._name = name
        self._function = find_cut_function(name).function
        self._pdg_ids = [list(dict.fromkeys(ids[2:] for ids in group.pdg_ids)) for group in groups]

    def __call__(self, momenta: Tensor, group: int) -> Tensor:
        final = momenta[:, 2:]
        first, *others = self._pdg_ids[group]
        passed = self._call(final, first)
        for other in others:
            few = self._call(final[: self.N_COMPARED], other)
            if not torch.equal(few, passed[: self.N_COMPARED]):
                raise CardError(
                    f"cuts.function = {self._name!r}: expected the same answer for {first} and "
                    f"{other}, which share one |M|²; a function that is to tell them apart has the "
                    "attribute `tells_flavours_apart = True`"
                )
        return passed

    def _call(self, final: Tensor, pdg_ids: tuple[int, ...]) -> Tensor:
        passed = self._function(final, pdg_ids)
        is_mask = isinstance(passed, Tensor) and passed.dtype == torch.bool
        if not is_mask or passed.shape != final.shape[:1]:
            got = f"{passed.dtype} {tuple(passed.shape)}" if isinstance(passed, Tensor) else passed
            raise CardError(
                f"cuts.function = {self._name!r}: got {got}: expected a tensor of "
                f"{len(final)} truth values, one for each point"
            )
        return passed


def _check_flavours(card: CutsCard, group: SubprocessGroup, kinds: ParticleKinds) -> None:
    first, *others = group.pdg_ids
    for other in others:
        if cut_key(other, card, kinds) != cut_key(first, card, kinds):
            raise CardError(
                f"cuts: {process_name(other)} and {process_name(first)} are cut differently, but "
                "share one |M|²: expected lists of PDG ids that name both flavours or none"
            )


def _check_event(
    event: EventCutsCard, groups: Sequence[SubprocessGroup], kinds: ParticleKinds
) -> None:
    legs = [leg_cuts(group.pdg_ids[0], CutsCard(event=event), kinds) for group in groups]
    for key, least, summed, expected in (
        ("ht_min_gev", event.ht_min_gev, [of.jets for of in legs], "jets or b"),
        (
            "missing_pt_min_gev",
            event.missing_pt_min_gev,
            [of.neutrinos for of in legs],
            "neutrinos",
        ),
    ):
        if least > 0 and not any(summed):
            raise CardError(
                f"cuts.event.{key} = {least}: expected 0 GeV in a process without {expected}"
            )


def _keep(passed: Tensor, masks: Iterable[Tensor]) -> None:
    for mask in masks:
        passed &= mask


class _Rows:
    """The components of the final legs, and what several cuts make of them, each once.

    A contiguous row for each component: arithmetic on strided columns is several times slower.
    """

    def __init__(self, momenta: Tensor) -> None:
        self.momenta = momenta[:, 2:]
        rows = self.momenta.permute(1, 2, 0).contiguous()
        self._rows = [row.unbind() for row in rows.unbind()]
        self._pt2: dict[int, Tensor] = {}
        self._pt: dict[int, Tensor] = {}
        self._momentum: dict[int, Tensor] = {}

    def __getitem__(self, leg: int) -> tuple[Tensor, ...]:
        """(E, px, py, pz), each (n,)."""
        return self._rows[leg]

    def pt2(self, leg: int) -> Tensor:
        """The transverse momentum squared, (n,)."""
        if leg not in self._pt2:
            _, px, py, _ = self[leg]
            self._pt2[leg] = torch.addcmul(px * px, py, py)
        return self._pt2[leg]

    def pt(self, leg: int) -> Tensor:
        """The transverse momentum, (n,)."""
        if leg not in self._pt:
            self._pt[leg] = self.pt2(leg).sqrt()
        return self._pt[leg]

    def momentum(self, leg: int) -> Tensor:
        """The absolute value of the three-momentum, (n,)."""
        if leg not in self._momentum:
            pz = self[leg][3]
            self._momentum[leg] = torch.addcmul(self.pt2(leg), pz, pz).sqrt()
        return self._momentum[leg]


def _within(value: Tensor, low: float, high: float) -> Iterator[Tensor]:
    """Which values (n,), zero or more, lie in a window; a bound that all of them pass costs nothing."""
    if low > 0:
        yield value >= low
    if high < math.inf:
        yield value <= high


def _particle_masks(rows: _Rows, leg: int, cuts: ParticleCutsCard) -> Iterator[Tensor]:
    """Which points (n,) pass each cut on one particle."""
    energy, _, _, pz = rows[leg]
    low, high = cuts.pt_min_gev, cuts.pt_max_gev
    yield from _within(rows.pt2(leg), low * low, high * high)
    if cuts.abs_eta_min > 0 or cuts.abs_eta_max < math.inf:
        forward, transverse = pz.abs(), rows.pt(leg)
        # |eta| <= Y is |pz| <= pt sinh Y, and |y| <= Y is |pz| <= E tanh Y.
        if cuts.abs_eta_min > 0:
            yield forward >= transverse * math.sinh(min(cuts.abs_eta_min, LARGEST_ETA))
        if cuts.abs_eta_max < math.inf:
            yield forward <= transverse * math.sinh(min(cuts.abs_eta_max, LARGEST_ETA))
    if cuts.abs_y_min > 0:
        yield pz.abs() >= energy * math.tanh(cuts.abs_y_min)
    if cuts.abs_y_max < math.inf:
        yield pz.abs() <= energy * math.tanh(cuts.abs_y_max)
    yield from _within(energy, cuts.energy_min_gev, cuts.energy_max_gev)


def _event_masks(rows: _Rows, legs: LegCuts, cuts: EventCutsCard) -> Iterator[Tensor]:
    """Which points (n,) pass the cuts on sums over legs."""
    zero = torch.zeros_like(rows[0][0])
    h_t = sum((rows.pt(leg) for leg in legs.jets), start=zero)
    yield from _within(h_t, cuts.ht_min_gev, cuts.ht_max_gev)
    px = sum((rows[leg][1] for leg in legs.neutrinos), start=zero)
    py = sum((rows[leg][2] for leg in legs.neutrinos), start=zero)
    low, high = cuts.missing_pt_min_gev, cuts.missing_pt_max_gev
    yield from _within(px * px + py * py, low * low, high * high)


def _mass_masks(rows: _Rows, a: int, b: int, cuts: PairCutsCard) -> Iterator[Tensor]:
    """Which points (n,) pass the window of a pair's invariant mass."""
    low, high = cuts.mass_min_gev, cuts.mass_max_gev
    if low > 0 or high < math.inf:
        energy, px, py, pz = (of_a + of_b for of_a, of_b in zip(rows[a], rows[b], strict=True))
        s = (energy - pz) * (energy + pz) - torch.addcmul(px * px, py, py)
        yield from _within(s, low * low, high * high)


def _distance_masks(
    rows: _Rows, a: int, b: int, cuts: PairCutsCard, wanted: Tensor
) -> Iterator[Tensor]:
    """Which of the wanted points (n,) pass the window of Delta R = sqrt(Delta eta² + Delta phi²).

    |p_a| |p_b| - p_a · p_b = pt_a pt_b (cosh Delta eta - cos Delta phi), whose bracket lies within
    `separation_range` where Delta R is given.
    """
    low, high = cuts.delta_r_min, cuts.delta_r_max
    if low <= 0 and high == math.inf:
        return
    if wanted.device.type != "cpu":
        # Elsewhere a shortlist makes the host wait, which costs more than what it saves.
        yield from _within(delta_r(rows.momenta[:, a], rows.momenta[:, b]), low, high)
        return
    _, a_x, a_y, a_z = rows[a]
    _, b_x, b_y, b_z = rows[b]
    product = rows.momentum(a) * rows.momentum(b)
    separation = product - torch.addcmul(torch.addcmul(a_x * b_x, a_y, b_y), a_z, b_z)
    unit = rows.pt(a) * rows.pt(b)
    # Far above what rounding does to a difference of terms of this size.
    slack = 1e-13 * product
    for bound, is_least in ((low, True), (high, False)):
        if bound == (0 if is_least else math.inf):
            continue
        nearest, farthest = separation_range(bound)
        beyond = separation > torch.add(slack, unit, alpha=farthest)
        within = torch.add(separation, slack) < unit * nearest
        passed = beyond if is_least else within
        (open_,) = (wanted & ~(beyond | within)).nonzero(as_tuple=True)
        distance = delta_r(rows.momenta[open_, a], rows.momenta[open_, b])
        passed[open_] = distance >= bound if is_least else distance <= bound
        yield passed


def separation_range(delta_r: float) -> tuple[float, float]:
    """The least and the largest cosh Delta eta - cos Delta phi at a given Delta R, |Delta phi| <= pi.

    It grows with Delta eta² at fixed Delta R, as sinh x / x >= 1 >= sin x / x, so that the ends
    are the smallest and the largest Delta eta.
    """
    delta_eta = math.sqrt(max(0.0, delta_r**2 - math.pi**2))
    least = math.cosh(min(delta_eta, LARGEST_ETA)) - math.cos(min(delta_r, math.pi))
    return least, math.cosh(min(delta_r, LARGEST_ETA)) - 1
