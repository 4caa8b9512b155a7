"""e+ e- > mu+ mu- by the textbook formula: photon and Z with vector and axial couplings.

As in chapter 1 of the LEP and SLD report on the Z resonance, hep-ex/0509008, but without radiative
corrections and with a fixed width. The inputs are numbers of tests/reference/xsec.json, the W mass
that MadGraph derives among them; none comes from mlgen.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

XSEC: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "reference/xsec.json").read_text(encoding="utf-8")
)
HBAR_C_SQUARED_GEV2_PB = 0.3893793721e9
"""CODATA 2018."""


@dataclass(frozen=True)
class MuonPairs:
    """dsigma / dcos θ = pi alpha² / (2 s) [even (1 + cos² θ) + odd cos θ], θ between e- and mu-."""

    sqrt_s_gev: float

    def _terms(self) -> tuple[float, float]:
        p = XSEC["parameters"]
        m_z, width, m_w = p["MZ"], p["WZ"], float(p["MW"].split()[0])
        sine2 = 1 - (m_w / m_z) ** 2
        normalisation = 2 * math.sqrt(sine2 * (1 - sine2))
        axial = -0.5 / normalisation
        vector = (-0.5 + 2 * sine2) / normalisation
        s = self.sqrt_s_gev**2
        chi = s / complex(s - m_z**2, m_z * width)
        even = 1 + 2 * vector**2 * chi.real + (vector**2 + axial**2) ** 2 * abs(chi) ** 2
        odd = 4 * axial**2 * chi.real + 8 * vector**2 * axial**2 * abs(chi) ** 2
        return even, odd

    @property
    def cross_section_pb(self) -> float:
        alpha = 1 / XSEC["parameters"]["aEWM1"]
        born = 4 * math.pi * alpha**2 / (3 * self.sqrt_s_gev**2) * HBAR_C_SQUARED_GEV2_PB
        return float(born * self._terms()[0])

    @property
    def mean_cos_theta(self) -> float:
        even, odd = self._terms()
        return odd / (4 * even)
