"""An analytic shower: jets whose likelihood, splitting probabilities and multiplicities are known exactly.

A model of radiation that has learned from its events can be compared with the truth at every
multiplicity, those beyond its training included. The hard object is drawn first. Then jets are emitted
in falling pt: with L = ln(m_T / pt), m_T being the transverse mass of the hard object, emission i + 1
comes at the rate c_i lambda(L) dL,

    lambda(L) = rate (1 + slope L),    c_i = 1 + growth i / (i + 1),

and the Sudakov factor exp(-c_i integral of lambda) says that there was none before; emission stops at
pt_min. Neither ratios of multiplicities (a staircase) nor their products with n (Poisson) are constant.
Directions and masses depend on the particle before, the first jet recoils against the hard object.
The likelihood factorises as in section 2 of arXiv:2412.12074: over i p_kin(x_i | x_<i) P_split(x_<i), then
1 - P_split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.physics.kinematics import delta_phi, eta, mass, phi, pt, rapidity, transverse_mass
from mlgen.radiation.jets import JetEvents, from_cylindrical, from_rapidity

HARD_LOG_PT = (math.log(30), 0.8)
"""Mean and standard deviation of ln pt of the hard object, pt in GeV."""
HARD_RAPIDITY = (0.0, 1.5)
HARD_LOG_MASS = (math.log(91.19), 0.02)
RECOIL_SPREAD = 0.5
"""Of the azimuth of the first jet, around that opposite to the hard object."""
PHI_SPREAD = 1.2
"""Of the azimuth of a later jet, around that of the one before."""
ETA_CORRELATION, ETA_SPREAD = 0.6, 1.1
"""Pseudorapidity is normal around so much of that of the particle before; of the hard object, rapidity counts."""
LOG_MASS = (math.log(0.12), 0.4)
"""Mean and standard deviation of ln(m / pt) of a jet."""
PT_MIN_LIMIT = 60.0
"""GeV; below any transverse mass that the hard object has."""
N_NODES = 64
"""Of Gauss-Hermite quadrature, for each variable of the hard object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalyticShower:
    """A shower that is known exactly; densities are in pt, y, m of the hard object and pt, phi, eta, m of jets.

    The azimuth of the hard object is uniform, and left out of densities, as representations leave it out.
    """

    pt_min: float = 20.0
    """GeV."""
    rate: float = 0.4
    slope: float = 0.3
    growth: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.pt_min <= PT_MIN_LIMIT:
            raise MlgenError(
                f"pt_min = {self.pt_min}: expected above 0, at most {PT_MIN_LIMIT:g} GeV"
            )
        for name, least in (("rate", 1e-6), ("slope", 0.0), ("growth", -0.9)):
            if not least <= getattr(self, name) < math.inf:
                raise MlgenError(f"{name} = {getattr(self, name)}: expected at least {least:g}")

    def sample(self, n: int, rng: torch.Generator) -> JetEvents:
        """Draw n events."""
        hard = self._sample_hard(n, rng)
        before = torch.zeros(n, dtype=torch.float64)
        goes_on = torch.ones(n, dtype=torch.bool)
        previous, along = hard, rapidity(hard)
        jets: list[Tensor] = []
        n_jets = torch.zeros(n, dtype=torch.int64)
        while True:
            exponential = -torch.rand(n, generator=rng, dtype=torch.float64).neg().log1p()
            before = before + exponential / self._strength(len(jets))
            jet_pt = transverse_mass(hard) * (-self._inverse(before)).exp()
            goes_on = goes_on & (jet_pt > self.pt_min)
            if not bool(goes_on.any()):
                break
            jet = _sample_jet(jet_pt, previous, along, is_first=not jets, rng=rng)
            jet = torch.where(goes_on[:, None], jet, 0.0)
            jets.append(jet)
            n_jets += goes_on
            previous, along = jet, eta(jet)
        stacked = torch.stack(jets, dim=1) if jets else hard.new_zeros(n, 0, 4)
        return JetEvents(hard=hard, jets=stacked, n_jets=n_jets)

    def log_likelihood(self, events: JetEvents) -> Tensor:
        """ln p of the hard object, of all jets, and of there being no more: (n,); -inf where it cannot be."""
        split = self.split_probability(events)
        goes_on = torch.where(events.is_jet, split[:, :-1].log(), 0.0).sum(-1)
        last = split.gather(1, events.n_jets[:, None])[:, 0]
        return self.log_kinematics(events).sum(-1) + goes_on + (-last).log1p()

    def log_kinematics(self, events: JetEvents) -> Tensor:
        """ln p_kin of each particle, given those before and that it exists: (n, 1 + n_max), 0 for filler."""
        passed, to_pass = self._passed(events)
        emitted = passed.diff(dim=1)
        # What is left to pass at the particle before decides whether there is a jet at all.
        left = to_pass[:, None] - passed[:, :-1]
        strength = self._strength(torch.arange(events.n_max))
        log_l = (transverse_mass(events.hard)[:, None] / pt(events.jets)).log()
        log_pt = (
            (strength * self.rate * (1 + self.slope * log_l)).log()
            - strength * emitted
            - pt(events.jets).log()
            - (-torch.expm1(-strength * left)).log()
        )
        is_possible = (emitted >= 0) & (pt(events.jets) > self.pt_min)
        log_pt = torch.where(is_possible, log_pt, -math.inf)
        log_jets = torch.where(events.is_jet, log_pt + _log_angles_and_mass(events), 0.0)
        return torch.cat([_log_hard(events.hard)[:, None], log_jets], dim=1)

    def split_probability(self, events: JetEvents) -> Tensor:
        """P_split, that there is one more jet, after the first 0, 1, ... ones: (n, 1 + n_max); 0 beyond `n_jets`."""
        passed, to_pass = self._passed(events)
        left = (to_pass[:, None] - passed).clamp(min=0)
        counts = torch.arange(1 + events.n_max)
        probability = -torch.expm1(-self._strength(counts) * left)
        return torch.where(counts <= events.n_jets[:, None], probability, 0.0)

    def multiplicities(self, n_max: int) -> Tensor:
        """The exact probabilities of 0 to n_max jets: (n_max + 1,)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(N_NODES)
        x, w = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
        log_pt, log_mass = (mean + std * x for mean, std in (HARD_LOG_PT, HARD_LOG_MASS))
        scale = torch.hypot(log_pt.exp()[:, None], log_mass.exp()).flatten()
        return (w[:, None] * w).flatten() @ self._multiplicities_at(scale, n_max)

    def multiplicities_of(self, hard: Tensor, n_max: int) -> Tensor:
        """The exact probabilities of 0 to n_max jets for given hard objects (n, 4): (n, n_max + 1)."""
        return self._multiplicities_at(transverse_mass(hard), n_max)

    def _multiplicities_at(self, scale: Tensor, n_max: int) -> Tensor:
        """Emission is a birth process in the integral of lambda: dP_n = (c_(n-1) P_(n-1) - c_n P_n)."""
        strength = self._strength(torch.arange(n_max + 1))
        rates = torch.diag(-strength) + torch.diag(strength[:-1], 1)
        to_pass = self._integral((scale / self.pt_min).log())
        return torch.matrix_exp(to_pass[:, None, None] * rates)[:, 0]

    def _passed(self, events: JetEvents) -> tuple[Tensor, Tensor]:
        """The integral of lambda from m_T down to each particle, (n, 1 + n_max), and to pt_min, (n,)."""
        scale = transverse_mass(events.hard)
        jet_pt = torch.where(events.is_jet, pt(events.jets), scale[:, None])
        log_l = (scale[:, None] / jet_pt).log()
        # Above m_T there is no emission; 1 + slope L may even be negative there.
        passed = torch.where(log_l >= 0, self._integral(log_l), -1.0)
        passed = torch.cat([torch.zeros_like(passed[:, :1]), passed], dim=1)
        return passed, self._integral((scale / self.pt_min).log())

    def _strength(self, n_emitted: int | Tensor) -> Tensor:
        """c_i."""
        i = torch.as_tensor(n_emitted, dtype=torch.float64)
        return 1 + self.growth * i / (i + 1)

    def _integral(self, log_l: Tensor) -> Tensor:
        """Of lambda from 0 to L."""
        return self.rate * log_l * (1 + 0.5 * self.slope * log_l)

    def _inverse(self, integral: Tensor) -> Tensor:
        """L, in a form that holds for no slope, too."""
        scaled = integral / self.rate
        return 2 * scaled / (1 + (1 + 2 * self.slope * scaled).sqrt())

    @staticmethod
    def _sample_hard(n: int, rng: torch.Generator) -> Tensor:
        log_pt, y, log_mass = (
            mean + std * torch.randn(n, generator=rng, dtype=torch.float64)
            for mean, std in (HARD_LOG_PT, HARD_RAPIDITY, HARD_LOG_MASS)
        )
        azimuth = math.pi * (2 * torch.rand(n, generator=rng, dtype=torch.float64) - 1)
        return from_rapidity(log_pt.exp(), azimuth, y, log_mass.exp())


def _sample_jet(
    jet_pt: Tensor, previous: Tensor, along: Tensor, is_first: bool, rng: torch.Generator
) -> Tensor:
    """Jets (n, 4) of given pt, the particles before them having momenta (n, 4) and (pseudo)rapidities (n,)."""
    turn, across, in_mass = torch.randn(3, len(jet_pt), generator=rng, dtype=torch.float64)
    azimuth = phi(previous) + (math.pi + RECOIL_SPREAD * turn if is_first else PHI_SPREAD * turn)
    jet_eta = ETA_CORRELATION * along + ETA_SPREAD * across
    log_ratio = LOG_MASS[0] + LOG_MASS[1] * in_mass
    return from_cylindrical(jet_pt, azimuth, jet_eta, jet_pt * log_ratio.exp())


def _log_hard(hard: Tensor) -> Tensor:
    """ln of the density of the hard object in pt, y and m, (n,)."""
    log_pt, log_mass = pt(hard).log(), mass(hard).log()
    return (
        _log_normal(log_pt, *HARD_LOG_PT)
        - log_pt
        + _log_normal(rapidity(hard), *HARD_RAPIDITY)
        + _log_normal(log_mass, *HARD_LOG_MASS)
        - log_mass
    )


def _log_angles_and_mass(events: JetEvents) -> Tensor:
    """ln of the density of phi, eta and m of jets, given pt and the particle before: (n, n_max)."""
    is_first = torch.arange(events.n_max) == 0
    before = torch.cat([events.hard[:, None], events.jets], dim=1)[:, :-1]
    along = torch.where(is_first, rapidity(before), eta(before))
    turn = delta_phi(events.jets, before) - math.pi * is_first
    spread = torch.where(is_first, RECOIL_SPREAD, PHI_SPREAD).double()
    windings = 2 * math.pi * torch.arange(-3, 4, dtype=torch.float64)
    log_phi = _log_normal(turn[..., None] + windings, 0.0, spread[:, None]).logsumexp(-1)
    log_eta = _log_normal(eta(events.jets), ETA_CORRELATION * along, ETA_SPREAD)
    log_mass = mass(events.jets).log()
    log_m = _log_normal(log_mass - pt(events.jets).log(), *LOG_MASS) - log_mass
    return log_phi + log_eta + log_m


def _log_normal(x: Tensor, mean: float | Tensor, std: float | Tensor) -> Tensor:
    """ln of the normal density."""
    scale = torch.as_tensor(std, dtype=torch.float64)
    return -0.5 * ((x - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
