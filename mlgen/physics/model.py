"""Parameters of the Standard Model at tree level, and the particles it names."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlgen.errors import CardError


@dataclass(frozen=True, kw_only=True, slots=True)
class StandardModel:
    """Input parameters in the (alpha(MZ), G_F, MZ) scheme; the rest follows at tree level.

    The defaults are those of MadGraph's `sm`: four massless quarks, diagonal CKM matrix.
    """

    inverse_alpha_em: float = 132.507
    """1 / alpha at the Z mass."""
    fermi_constant_per_gev2: float = 1.16639e-5
    z_mass_gev: float = 91.188
    z_width_gev: float = 2.441404
    w_width_gev: float = 2.0476
    top_mass_gev: float = 173.0
    top_width_gev: float = 1.4915
    bottom_mass_gev: float = 4.7
    tau_mass_gev: float = 1.777
    higgs_mass_gev: float = 125.0
    higgs_width_gev: float = 0.006382339

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            positive = value >= 0 if name.endswith("_width_gev") else value > 0
            if not (math.isfinite(value) and positive):
                raise CardError(f"model.{name} = {value}: expected a positive number")
        if self._mixing >= 1:
            raise CardError(
                f"model.z_mass_gev = {self.z_mass_gev}: expected a mass in GeV for which "
                "M_W² = M_Z²/2 [1 + sqrt(1 - sqrt(8) pi alpha / (G_F M_Z²))] is real"
            )

    @property
    def alpha_em(self) -> float:
        return 1 / self.inverse_alpha_em

    @property
    def _mixing(self) -> float:
        scale = self.fermi_constant_per_gev2 * self.z_mass_gev**2
        return math.sqrt(8) * math.pi * self.alpha_em / scale

    @property
    def electric_charge(self) -> float:
        """e = sqrt(4 pi alpha)."""
        return math.sqrt(4 * math.pi * self.alpha_em)

    @property
    def w_mass_gev(self) -> float:
        """M_W² = M_Z²/2 [1 + sqrt(1 - sqrt(8) pi alpha / (G_F M_Z²))]."""
        return self.z_mass_gev * math.sqrt((1 + math.sqrt(1 - self._mixing)) / 2)

    @property
    def sin2_theta_w(self) -> float:
        """sin² of the weak mixing angle, 1 - M_W² / M_Z²."""
        return 1 - self.w_mass_gev**2 / self.z_mass_gev**2

    def mass_gev(self, pdg_id: int) -> float:
        """The mass of a particle, GeV; 0 for those that the model has massless."""
        masses = {
            5: self.bottom_mass_gev,
            6: self.top_mass_gev,
            15: self.tau_mass_gev,
            23: self.z_mass_gev,
            24: self.w_mass_gev,
            25: self.higgs_mass_gev,
        }
        return masses.get(abs(pdg_id), 0.0)

    def width_gev(self, pdg_id: int) -> float:
        """The width of a particle, GeV; 0 for those that the model has stable."""
        widths = {
            6: self.top_width_gev,
            23: self.z_width_gev,
            24: self.w_width_gev,
            25: self.higgs_width_gev,
        }
        return widths.get(abs(pdg_id), 0.0)
