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
class Recoiled:
    """Events whose momenta add up."""

    incoming: Tensor
    """(n, 2, 4), GeV: along +z, along -z."""
    products: Tensor
    """(n, k, 4), GeV: of the hard object."""
    fits: Tensor
    """(n,), bool: whether no incoming parton has more energy than its beam."""


def recoil(products: Tensor, jets: Tensor, beam_energies: tuple[float, float]) -> Recoiled:
    """Let the hard object recoil against jets.

    The products keep their momenta in the rest frame of the hard object that a boost along z, then one
    across, leads to: the new momenta are one boost across and one along z away from it.

    Args:
        products: (n, k, 4), (E, px, py, pz) in GeV, which the hard object decays to; itself where k = 1.
        jets: (n, m, 4), GeV, zeros for filler.
        beam_energies: GeV, of the beams along +z and -z.
    """
    before, jet_sum = products.sum(1), jets.sum(1)
    along = _along_z(before)
    upright = boost_back(before, along)
    resting = boost_back(boost_back(products, along[:, None]), upright[:, None])
    mass_squared = upright[:, 0].square() - upright[:, 1:].square().sum(1)
    across = torch.zeros_like(before)
    across[:, 1:3] = -jet_sum[:, 1:3]
    across[:, 0] = (mass_squared + across[:, 1:3].square().sum(1)).sqrt()
    moved = boost(boost(resting, across[:, None]), along[:, None])
    total = moved.sum(1) + jet_sum
    plus, minus = 0.5 * (total[:, 0] + total[:, 3]), 0.5 * (total[:, 0] - total[:, 3])
    nothing = torch.zeros_like(plus)
    incoming = torch.stack(
        [
            torch.stack([plus, nothing, nothing, plus], dim=1),
            torch.stack([minus, nothing, nothing, -minus], dim=1),
        ],
        dim=1,
    )
    fits = (plus <= beam_energies[0]) & (minus <= beam_energies[1])
    return Recoiled(incoming=incoming, products=moved, fits=fits)


def _along_z(momenta: Tensor) -> Tensor:
    """A frame (n, 4) that moves along z with the rapidity of momenta (n, 4): (E, 0, 0, pz)."""
    frame = momenta.clone()
    frame[:, 1:3] = 0
    return frame
