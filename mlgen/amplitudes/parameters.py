"""The parameters of a model by the names that generators of matrix elements know."""

from __future__ import annotations

from mlgen.physics.model import Model, StandardModel

REFERENCE_ALPHA_S = 0.118
"""Where matrix elements are made to be evaluated; |M|² at another alpha_s follows from its power."""

WIDTHS = ("WZ", "WW", "WT", "WH")
"""Those of the Standard Model's parameters that are widths."""


def named_parameters(model: Model) -> dict[str, float]:
    """The external parameters of a model; the strong coupling, where it is one, at the reference.

    Those of the built-in Standard Model are named as in MadGraph's `sm`; a UFO model has its own.
    """
    if not isinstance(model, StandardModel):
        parameters = model.external_parameters()
        return parameters | {"aS": REFERENCE_ALPHA_S} if "aS" in parameters else parameters
    inputs = model.inputs
    return {
        "aEWM1": inputs.inverse_alpha_em,
        "Gf": inputs.fermi_constant_per_gev2,
        "aS": REFERENCE_ALPHA_S,
        "MZ": inputs.z_mass_gev,
        "MT": inputs.top_mass_gev,
        "MB": inputs.bottom_mass_gev,
        "MTA": inputs.tau_mass_gev,
        "MH": inputs.higgs_mass_gev,
        "ymt": inputs.top_mass_gev,
        "ymb": inputs.bottom_mass_gev,
        "ymtau": inputs.tau_mass_gev,
        "WZ": inputs.z_width_gev,
        "WW": inputs.w_width_gev,
        "WT": inputs.top_width_gev,
        "WH": inputs.higgs_width_gev,
    }
