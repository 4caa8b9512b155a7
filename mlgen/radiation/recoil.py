"""Momentum conservation once jets are added: what recoils, and which partons come in.

The hard object takes all the recoil: it keeps its mass and its rapidity, and its transverse momentum
becomes minus that of the jets. The partons that come in are massless, along the beams, and carry the
total energy and longitudinal momentum. What a model generates for the transverse momentum of the hard
object differs from that by radiation too soft to be a jet, which is not written.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlgen.physics.kinematics import boost, boost_back


@dataclass(frozen=True, kw_only=True, slots=True)
class Recoil:
    """What becomes of a hard object and of the partons that come in."""

    incoming: Tensor
    """(n, 2, 4), GeV: along +z, along -z."""
    lorentz: Tensor
    """(n, 4, 4): what the hard object and everything in it is multiplied with."""
    fits: Tensor
    """(n,), bool: whether no incoming parton has more energy than its beam."""

    def apply(self, momenta: Tensor) -> Tensor:
        """What becomes of momenta (n, k, 4), GeV, inside the hard object."""
        return momenta @ self.lorentz.mT


def recoil(hard: Tensor, jets: Tensor, beam_energies: tuple[float, float]) -> Recoil:
    """Let the hard object recoil against jets.

    What is inside keeps its momenta in the rest frame of the hard object that a boost along z, then one
    across, leads to: the new momenta are one boost across and one along z away from it.

    Args:
        hard: (n, 4), (E, px, py, pz) in GeV, timelike.
        jets: (n, m, 4), GeV, zeros for filler.
        beam_energies: GeV, of the beams along +z and -z.
    """
    jet_sum = jets.sum(1)
    along = hard.clone()
    along[:, 1:3] = 0
    upright = boost_back(hard, along)
    across = torch.zeros_like(hard)
    across[:, 1:3] = -jet_sum[:, 1:3]
    mass_squared = upright[:, 0].square() - upright[:, 1:].square().sum(1)
    across[:, 0] = (mass_squared + across[:, 1:3].square().sum(1)).sqrt()
    # Boosts are linear: what they make of the unit vectors is all that they do.
    units = torch.eye(4, dtype=hard.dtype, device=hard.device).expand(len(hard), 4, 4)
    resting = boost_back(boost_back(units, along[:, None]), upright[:, None])
    lorentz = boost(boost(resting, across[:, None]), along[:, None]).mT
    total = (lorentz @ hard[..., None])[..., 0] + jet_sum
    plus, minus = 0.5 * (total[:, 0] + total[:, 3]), 0.5 * (total[:, 0] - total[:, 3])
    nothing = torch.zeros_like(plus)
    upwards = torch.stack([plus, nothing, nothing, plus], dim=1)
    downwards = torch.stack([minus, nothing, nothing, -minus], dim=1)
    fits = (plus <= beam_energies[0]) & (minus <= beam_energies[1])
    return Recoil(incoming=torch.stack([upwards, downwards], dim=1), lorentz=lorentz, fits=fits)
