"""One matrix element serves every order of its legs, and the charge-conjugated process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Relabelling:
    """How the legs of a process stand for those of another one with the same |M|².

    Where CP is a symmetry, a process and the one with each particle replaced by its antiparticle
    share |M|² at momenta mirrored in space, each helicity with the other sign.
    """

    pdg_ids: tuple[int, ...]
    """Of the other process, (n_ext,)."""
    order: tuple[int, ...]
    """Leg i of the other process is leg order[i] of this one."""
    is_conjugated: bool

    def momenta(self, momenta: Tensor) -> Tensor:
        """The momenta (n, n_ext, 4) at which to evaluate the other process."""
        moved = momenta[:, list(self.order)]
        return moved * moved.new_tensor([1.0, -1.0, -1.0, -1.0]) if self.is_conjugated else moved

    def helicities(self, helicities: Tensor) -> Tensor:
        """The helicities (n_helicities, n_ext) of the other process as those of this one."""
        moved = helicities[:, self._inverse()]
        return -moved if self.is_conjugated else moved

    def colour_flows(self, flows: Tensor) -> Tensor:
        """The flows (n_flows, n_ext, 2) of the other process as those of this one."""
        moved = flows[:, self._inverse()]
        return moved.flip(2) if self.is_conjugated else moved

    def _inverse(self) -> list[int]:
        return torch.tensor(self.order).argsort().tolist()


def canonical_relabelling(
    pdg_ids: Sequence[int], self_conjugate: frozenset[int], has_cp: bool
) -> Relabelling:
    """To the process that stands for all that differ by the order of legs, or by conjugation.

    Args:
        pdg_ids: (n_ext,), two incoming first.
        self_conjugate: the particles that are their own antiparticles.
        has_cp: whether CP is a symmetry.
    """
    found = [_ordered(pdg_ids, is_conjugated=False)]
    if has_cp:
        conjugated = [pdg if pdg in self_conjugate else -pdg for pdg in pdg_ids]
        found.append(_ordered(conjugated, is_conjugated=True))
    # Particles rather than antiparticles: `g u > g u` rather than `g u~ > g u~`.
    return max(found, key=lambda relabelling: (relabelling.pdg_ids, not relabelling.is_conjugated))


def _ordered(pdg_ids: Sequence[int], is_conjugated: bool) -> Relabelling:
    incoming = sorted((0, 1), key=lambda leg: -pdg_ids[leg])
    outgoing = sorted(range(2, len(pdg_ids)), key=lambda leg: (-abs(pdg_ids[leg]), -pdg_ids[leg]))
    order = (*incoming, *outgoing)
    return Relabelling(
        pdg_ids=tuple(pdg_ids[leg] for leg in order), order=order, is_conjugated=is_conjugated
    )
