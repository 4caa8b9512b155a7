"""Event records with jets: from a hard process and what was radiated, to what is written.

A jet is no parton: it has neither flavour nor colour, and the partons that come in have none any more
either. All of them have the PDG number 93, which generators use for a jet or any parton among
themselves (81 to 100 are theirs). Such events are not to be showered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from mlgen.core import EventBatch
from mlgen.errors import MlgenError
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.recoil import recoil

JET = 93
"""The PDG number of a jet, and of an incoming parton whose flavour is not said."""
INCOMING, OUTGOING, RESONANCE = -1, 1, 2
UNKNOWN_SPIN = 9.0
LARGEST_QUARK, GLUON = 6, 21


@dataclass(frozen=True, kw_only=True, slots=True)
class HardEvents:
    """A hard process, seen as a hard object and partons."""

    events: EventBatch
    inside: Tensor
    """(n, n_max), bool: which rows are the hard object's products, or resonances that decay to some of them."""
    hard: Tensor
    """(n, 4), GeV: the hard object."""
    partons: Tensor
    """(n, n_partons, 4), GeV, in falling pt."""

    @classmethod
    def of(cls, events: EventBatch) -> Self:
        """The colourless final particles are the hard object; all events have as many partons.

        Raises:
            MlgenError: there is no hard object, a coloured resonance, or numbers of partons that differ.
        """
        is_coloured = (events.pdg_id.abs() <= LARGEST_QUARK) | (events.pdg_id == GLUON)
        is_coloured &= events.pdg_id != 0
        final = events.status == OUTGOING
        inside = (final | (events.status == RESONANCE)) & ~is_coloured
        products, partons = final & ~is_coloured, final & is_coloured
        if not bool(products.any(1).all()):
            raise MlgenError(
                "event without a colourless final particle: expected one to radiate from"
            )
        if bool(((events.status == RESONANCE) & is_coloured).any()):
            raise MlgenError("event with a coloured resonance: expected none, such as a top quark")
        counts = partons.sum(1)
        if len(counts) and int(counts.min()) != int(counts.max()):
            raise MlgenError(
                f"events with {int(counts.min())} to {int(counts.max())} partons: expected one number"
            )
        n_partons = int(counts[0]) if len(counts) else 0
        hard = (events.momenta * products[..., None]).sum(1)
        found = events.momenta[partons].reshape(len(events), n_partons, 4)
        falling = found[..., 1:3].norm(dim=-1).argsort(dim=1, descending=True)
        found = found.gather(1, falling[..., None].expand(-1, -1, 4))
        return cls(events=events, inside=inside, hard=hard, partons=found)

    def __len__(self) -> int:
        return len(self.events)

    def select(self, index: Tensor) -> Self:
        """The events at an index or mask."""
        return replace(
            self,
            events=self.events.select(index),
            inside=self.inside[index],
            hard=self.hard[index],
            partons=self.partons[index],
        )


def with_jets(
    process: HardEvents, radiated: JetEvents, beam_energies: tuple[float, float]
) -> tuple[EventBatch, Tensor]:
    """The records of a hard process with the jets that were radiated, in place of its partons.

    The hard object takes the recoil: see `recoil`. Weights, scales and couplings stay what they are.

    Args:
        radiated: in the order of the hard process; their jets alone are used.

    Returns:
        events: rows are the incoming partons, the hard object's, then the jets.
        fits: (n,), bool: which the beams have the energy for; the others are no events.
    """
    events, jets = process.events, radiated.jets
    moved = recoil(process.hard, jets, beam_energies)
    n, n_jets = len(events), jets.shape[1]
    is_row = torch.cat(
        [torch.ones(n, 2, dtype=torch.bool, device=jets.device), process.inside, radiated.is_jet], 1
    )
    # A stable sort moves the rows that are not there to the end, where they are filler.
    order = torch.argsort((~is_row).to(torch.int8), dim=1, stable=True)
    order = order[:, : max(is_row.sum(1).tolist(), default=0)]
    kept = is_row.gather(1, order)

    def rows(incoming: Tensor, inside: Tensor, outgoing: Tensor) -> Tensor:
        every = torch.cat([incoming, inside, outgoing], dim=1)
        index = order.reshape(*order.shape, *[1] * (every.dim() - 2)).expand(
            *order.shape, *every.shape[2:]
        )
        chosen = every.gather(1, index)
        return chosen * kept.reshape(*kept.shape, *[1] * (every.dim() - 2))

    def constant(value: float, like: Tensor, count: int) -> Tensor:
        return torch.full((n, count, *like.shape[2:]), value, dtype=like.dtype, device=like.device)

    mothers = _mothers(process)
    jet_mass = (jets[..., 0].square() - jets[..., 1:].square().sum(-1)).clamp(min=0).sqrt()
    found = replace(
        events,
        pdg_id=rows(
            constant(JET, events.pdg_id, 2), events.pdg_id, constant(JET, events.pdg_id, n_jets)
        ),
        status=rows(
            constant(INCOMING, events.status, 2),
            events.status,
            constant(OUTGOING, events.status, n_jets),
        ),
        mothers=rows(constant(0, mothers, 2), mothers, _of_both(mothers, n_jets)),
        colour=rows(
            constant(0, events.colour, 2), 0 * events.colour, constant(0, events.colour, n_jets)
        ),
        momenta=rows(moved.incoming, moved.apply(events.momenta), jets),
        mass=rows(constant(0, events.mass, 2), events.mass, jet_mass),
        spin=rows(
            constant(UNKNOWN_SPIN, events.spin, 2),
            events.spin,
            constant(UNKNOWN_SPIN, events.spin, n_jets),
        ),
    )
    return found, moved.fits


def _mothers(process: HardEvents) -> Tensor:
    """MOTHUP of the rows of the hard process (n, n_max, 2), where only those inside are left, from row 3."""
    number = 2 + process.inside.cumsum(1)
    old = process.events.mothers
    at = (old - 1).clamp(min=0).flatten(1)
    is_inside = process.inside.gather(1, at).reshape(old.shape) & (old > 0)
    return torch.where(
        is_inside, number.gather(1, at).reshape(old.shape), _of_both(old, old.shape[1])
    )


def _of_both(like: Tensor, count: int) -> Tensor:
    """MOTHUP (n, count, 2) of what comes from both incoming partons."""
    return torch.tensor([1, 2], dtype=like.dtype, device=like.device).expand(len(like), count, 2)
