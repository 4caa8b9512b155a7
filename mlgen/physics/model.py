"""What follows at tree level from the inputs of the Standard Model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mlgen.cards import ModelCard


@dataclass(frozen=True, slots=True)
class StandardModel:
    """The Standard Model in the (alpha(MZ), G_F, MZ) scheme, with fixed widths."""

    inputs: ModelCard = field(default_factory=ModelCard)

    @property
    def alpha_em(self) -> float:
        return 1 / self.inputs.inverse_alpha_em

    @property
    def electric_charge(self) -> float:
        """e = sqrt(4 pi alpha)."""
        return math.sqrt(4 * math.pi * self.alpha_em)

    @property
    def w_mass_gev(self) -> float:
        """M_W² = M_Z²/2 [1 + sqrt(1 - sqrt(8) pi alpha / (G_F M_Z²))]."""
        inputs = self.inputs
        ratio = math.sqrt(8) * math.pi * self.alpha_em
        ratio /= inputs.fermi_constant_per_gev2 * inputs.z_mass_gev**2
        return inputs.z_mass_gev * math.sqrt((1 + math.sqrt(1 - ratio)) / 2)

    @property
    def sin2_theta_w(self) -> float:
        """sin² of the weak mixing angle, 1 - M_W² / M_Z²."""
        return 1 - self.w_mass_gev**2 / self.inputs.z_mass_gev**2

    def mass_gev(self, pdg_id: int) -> float:
        """The mass of a particle, GeV; 0 for those that the model has massless."""
        masses = {
            5: self.inputs.bottom_mass_gev,
            6: self.inputs.top_mass_gev,
            15: self.inputs.tau_mass_gev,
            23: self.inputs.z_mass_gev,
            24: self.w_mass_gev,
            25: self.inputs.higgs_mass_gev,
        }
        return masses.get(abs(pdg_id), 0.0)

    def width_gev(self, pdg_id: int) -> float:
        """The width of a particle, GeV; 0 for those that the model has stable."""
        widths = {
            6: self.inputs.top_width_gev,
            23: self.inputs.z_width_gev,
            24: self.inputs.w_width_gev,
            25: self.inputs.higgs_width_gev,
        }
        return widths.get(abs(pdg_id), 0.0)
