"""Matrix elements that fit on a page: a quark or lepton pair, a lepton pair, and at most a gluon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.core import AmplitudeValue, Progress, ResolvedAmplitude, SubprocessGroup
from mlgen.errors import UnsupportedProcess
from mlgen.physics.model import StandardModel

_N_COLOURS = 3
_CASIMIR = (_N_COLOURS**2 - 1) / (2 * _N_COLOURS)
"""C_F, the colour charge squared of a quark."""
_LEADING_CASIMIR = _N_COLOURS / 2
"""C_F without its term 1/N_c²."""

_GLUON = 21
_UP_TYPE = (2, 4)
_DOWN_TYPE = (1, 3)
_QUARKS = _UP_TYPE + _DOWN_TYPE
_LEPTONS = (11, 13)

_SERVES = (
    "it serves l+ l- > l'+ l'-, q q~ > l+ l- and q q~ > l+ l- g with their crossings, "
    "for massless quarks (u d s c) and massless leptons (e mu), l and l' of different flavours"
)


def provide(request: AmplitudeRequest, progress: Progress) -> ResolvedAmplitude:
    """The closed-form amplitude of a process; there is next to nothing to prepare.

    Raises:
        UnsupportedProcess: a group has no closed form here, or the model is another one.
    """
    model = request.model
    if not isinstance(model, StandardModel):
        raise UnsupportedProcess("closed_form knows the Standard Model alone")
    exchanges = []
    with progress.step("preparing the matrix element", len(request.groups)) as advance:
        for group in request.groups:
            exchanges.append(_exchange_of(group, model))
            advance(1, f"{group.name} (closed form)")
    return ClosedForm(tuple(exchanges))


class ClosedForm:
    """The amplitude of a process whose groups are all neutral-current exchanges."""

    def __init__(self, exchanges: tuple[NeutralCurrentExchange, ...]) -> None:
        self._exchanges = exchanges

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        value = self._exchanges[group].value(momenta, alpha_s)
        return AmplitudeValue(value=value, std=torch.zeros_like(value))

    def helicities(self, group: int) -> Tensor:
        return self._exchanges[group].helicities()

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        return self._exchanges[group].helicity_values(momenta, alpha_s)

    def helicity_value(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        return self.helicity_values(momenta, alpha_s, group).gather(1, helicity[:, None])[:, 0]

    def colour_flows(self, group: int) -> Tensor:
        return self._exchanges[group].colour_flow()[None]

    def colour_flow_values(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        exchange = self._exchanges[group]
        values = exchange.helicity_values(momenta, alpha_s).gather(1, helicity[:, None])
        return values if exchange.gluon is None else values * (_LEADING_CASIMIR / _CASIMIR)


@dataclass(frozen=True, kw_only=True, slots=True)
class NeutralCurrentExchange:
    """f f~ F F~ with a photon or Z between the pairs, and maybe a gluon from a quark pair f f~.

    Legs are named by what they are if all particles are outgoing: an incoming u is the antifermion
    of its pair. All are massless, so each choice of the chiralities X of f and Y of F and of the
    gluon's helicity leaves one spinor product, as in hep-ph/9708239; summed over colours,

        |M|² = 4 N |P_XY|² s_ij²                                          without a gluon,
        |M|² = 8 N C_F g_s² |P_XY|² |s_FF~| s_ij² / |s_fg s_gf~|          with a gluon,

    N being 3 for quarks f and 1 for leptons. i and j are a leg of each pair with one helicity,
    which is opposite to that of the gluon if there is one. With fixed widths

        P_XY = e² [Q_f Q_F / s_FF~ + g_X^f g_Y^F / (s_FF~ - M_Z² + i M_Z Γ_Z)].
    """

    model: StandardModel
    pdg_ids: tuple[int, ...]
    """Of the group's legs, the two incoming ones first."""
    fermion: int
    """Index of f among the legs; the quark, where there is one."""
    antifermion: int
    other_fermion: int
    other_antifermion: int
    gluon: int | None

    def value(self, momenta: Tensor, alpha_s: Tensor) -> Tensor:
        """|M|² (n,), summed over final and averaged over initial helicities and colours."""
        p = momenta.unbind(1)
        s_exchange = self._s_exchange(p)
        alike = self._couplings_squared(s_exchange, (_LL, _RR))
        unlike = self._couplings_squared(s_exchange, (_LR, _RL))
        s_alike = _two_p_p(p[self.fermion], p[self.other_fermion]) ** 2
        s_unlike = _two_p_p(p[self.fermion], p[self.other_antifermion]) ** 2
        if self.gluon is not None:
            # The other helicity of the gluon.
            s_alike += _two_p_p(p[self.antifermion], p[self.other_antifermion]) ** 2
            s_unlike += _two_p_p(p[self.antifermion], p[self.other_fermion]) ** 2
        return self._prefactor(p, alpha_s, s_exchange) * (alike * s_alike + unlike * s_unlike)

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor) -> Tensor:
        """The terms of `value`, (n, n_helicities), in the order of `helicities`."""
        p = momenta.unbind(1)
        s_exchange = self._s_exchange(p)
        terms = []
        for x, y, gluon in self._configurations():
            if x == gluon:
                i, j = self.antifermion, self._other_leg(-x, y)
            else:
                i, j = self.fermion, self._other_leg(x, y)
            couplings = self._couplings_squared(s_exchange, ((x, y),))
            terms.append(couplings * _two_p_p(p[i], p[j]) ** 2)
        return self._prefactor(p, alpha_s, s_exchange)[:, None] * torch.stack(terms, dim=1)

    def helicities(self) -> Tensor:
        """Physical helicities, int64 (n_helicities, n_ext)."""
        table = torch.zeros(len(self._configurations()), len(self.pdg_ids), dtype=torch.int64)
        for row, (x, y, gluon) in zip(table, self._configurations(), strict=True):
            row[self.fermion], row[self.antifermion] = x, -x
            row[self.other_fermion], row[self.other_antifermion] = y, -y
            if self.gluon is not None:
                row[self.gluon] = gluon
        # An incoming particle has the opposite helicity of the outgoing antiparticle.
        table[:, :2] *= -1
        return table

    def colour_flow(self) -> Tensor:
        """ICOLUP of each leg in the only flow, int64 (n_ext, 2)."""
        flow = torch.zeros(len(self.pdg_ids), 2, dtype=torch.int64)
        if abs(self.pdg_ids[self.fermion]) not in _QUARKS:
            return flow
        flow[self.fermion, 0] = 501
        flow[self.antifermion, 1] = 501 if self.gluon is None else 502
        if self.gluon is not None:
            flow[self.gluon] = torch.tensor([502, 501])
        # An incoming colour is an outgoing anticolour.
        flow[:2] = flow[:2].flip(1)
        return flow

    def _configurations(self) -> list[tuple[int, int, int]]:
        """The helicities of f, F and the gluon, as if outgoing; 0 for no gluon."""
        return list(product((-1, 1), (-1, 1), (0,) if self.gluon is None else (-1, 1)))

    def _other_leg(self, helicity: int, y: int) -> int:
        """The leg with a helicity of the pair F F~, where F has the helicity y."""
        return self.other_fermion if helicity == y else self.other_antifermion

    def _s_exchange(self, p: Sequence[Tensor]) -> Tensor:
        """(p_F + p_F~)², GeV²: negative where one of them is incoming and the other outgoing."""
        n_incoming = (self.other_fermion < 2) + (self.other_antifermion < 2)
        s = _two_p_p(p[self.other_fermion], p[self.other_antifermion])
        return -s if n_incoming == 1 else s

    def _couplings_squared(self, s: Tensor, chiralities: tuple[tuple[int, int], ...]) -> Tensor:
        """The sum of |P_XY|² over some chiralities (X, Y), GeV^-4."""
        flavour, other = abs(self.pdg_ids[self.fermion]), abs(self.pdg_ids[self.other_fermion])
        charges = electric_charge(flavour) * electric_charge(other)
        sin2_theta_w = self.model.sin2_theta_w
        z_couplings = [
            z_coupling(flavour, x, sin2_theta_w) * z_coupling(other, y, sin2_theta_w)
            for x, y in chiralities
        ]
        mass, width = self.model.mass_gev(23), self.model.width_gev(23)
        above_pole = s - mass**2
        z_squared = 1 / (above_pole**2 + (mass * width) ** 2)
        photon = 1 / s
        total = len(chiralities) * charges**2 * photon**2
        total += 2 * charges * sum(z_couplings) * photon * above_pole * z_squared
        total += sum(g**2 for g in z_couplings) * z_squared
        return self.model.electric_charge**4 * total

    def _prefactor(self, p: Sequence[Tensor], alpha_s: Tensor, s_exchange: Tensor) -> Tensor:
        """All of |M|² but |P_XY|² and s_ij², averages included."""
        n_colours = _N_COLOURS if abs(self.pdg_ids[self.fermion]) in _QUARKS else 1
        constant = 4 * n_colours / math.prod(_n_states(pdg_id) for pdg_id in self.pdg_ids[:2])
        if self.gluon is None:
            return torch.full_like(s_exchange, constant)
        s_fg = _two_p_p(p[self.fermion], p[self.gluon])
        s_gf = _two_p_p(p[self.gluon], p[self.antifermion])
        coupling_squared = 4 * math.pi * alpha_s
        return 2 * _CASIMIR * constant * coupling_squared * (s_exchange / (s_fg * s_gf)).abs()


_LL, _LR, _RL, _RR = product((-1, 1), (-1, 1))
"""Chiralities of f and F."""


def electric_charge(pdg_id: int) -> float:
    """The electric charge of a quark or charged lepton, in units of the positron's."""
    return -1.0 if pdg_id in _LEPTONS else 2 / 3 if pdg_id in _UP_TYPE else -1 / 3


def z_coupling(pdg_id: int, chirality: int, sin2_theta_w: float) -> float:
    """The coupling of a fermion to the Z, in units of e: (T_3 - Q s²) / (s c), for chirality -1 (left).

    T_3 is 0 for chirality 1 (right). g^- and g^+ of appendix A of arXiv:0709.1075.
    """
    isospin = (0.5 if pdg_id in _UP_TYPE else -0.5) if chirality < 0 else 0.0
    normalisation = math.sqrt(sin2_theta_w * (1 - sin2_theta_w))
    return (isospin - electric_charge(pdg_id) * sin2_theta_w) / normalisation


def _n_states(pdg_id: int) -> int:
    """How many helicities and colours an incoming particle is averaged over."""
    if pdg_id == _GLUON:
        return 2 * (_N_COLOURS**2 - 1)
    return 2 * _N_COLOURS if abs(pdg_id) in _QUARKS else 2


def _two_p_p(p: Tensor, q: Tensor) -> Tensor:
    """2 p·q of two legs, (n, 4) each."""
    energy, x, y, z = (p * q).unbind(1)
    return 2 * (energy - x - y - z)


def _exchange_of(group: SubprocessGroup, model: StandardModel) -> NeutralCurrentExchange:
    pdg_ids = group.pdg_ids[0]
    # As if all were outgoing; the gluon is its own antiparticle.
    outgoing = [
        -pdg_id if leg < 2 and pdg_id != _GLUON else pdg_id for leg, pdg_id in enumerate(pdg_ids)
    ]
    quarks = [i for i in outgoing if i in _QUARKS]
    leptons = [i for i in outgoing if i in _LEPTONS]
    n_gluons = outgoing.count(_GLUON)
    pairs = quarks + leptons
    expected = sorted([*pairs, *(-i for i in pairs), *[_GLUON] * n_gluons])
    served = (
        sorted(outgoing) == expected
        and len(set(pairs)) == len(pairs) == 2
        and len(quarks) <= 1
        and n_gluons <= len(quarks)
        and all(model.mass_gev(i) == 0 for i in pairs)
    )
    if not served:
        raise UnsupportedProcess(f"closed_form has no {group.name}: {_SERVES}")
    return NeutralCurrentExchange(
        model=model,
        pdg_ids=pdg_ids,
        fermion=outgoing.index(pairs[0]),
        antifermion=outgoing.index(-pairs[0]),
        other_fermion=outgoing.index(pairs[1]),
        other_antifermion=outgoing.index(-pairs[1]),
        gluon=outgoing.index(_GLUON) if n_gluons else None,
    )
