"""From accepted phase-space points to Les Houches records.

The record's rows are the parton that moves along +z, the other parton, the resonances (mothers
before daughters), then the final legs in the group's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlgen.core import EventBatch, PhaseSpacePoints, Resonance, SubprocessGroup
from mlgen.errors import MlgenError

BWCUTOFF = 15.0
"""A resonance is written where |m_inv - mass| is below this many widths, as in MadGraph."""

LINES = {1: (0, 0), 3: (1, 0), -3: (0, 1), 8: (1, 1)}
"""How many lines and anti-lines a particle carries, by its representation of SU(3)."""
NEVER = (-1, -1)
"""Of representations that a flow of colour lines cannot carry, such as a sextet."""

UNKNOWN_SPIN = 9.0
"""SPINUP of a particle whose helicity is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picks:
    """What was picked for each accepted point, and the numbers that go with it."""

    flavour: Tensor
    """(n,), int64: an index into the group's `pdg_ids`."""
    helicity: Tensor
    """(n, n_ext): the helicity of each leg, as in SPINUP."""
    colour: Tensor
    """(n, n_ext, 2), int64: ICOLUP of each leg."""
    weight: Tensor
    """(n,): u, or for weighted events the weight in pb."""
    scale: Tensor
    """(n,): SCALUP, GeV."""
    alpha_s: Tensor
    """(n,)."""
    variations: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.float64))
    """(n, n_variations), in the unit of `weight`; none by default."""


def assemble(
    points: PhaseSpacePoints,
    group: SubprocessGroup,
    picks: Picks,
    masses_gev: Tensor,
    alpha_em: float,
    resonances: tuple[Resonance, ...] = (),
) -> EventBatch:
    """The records of accepted points of one group.

    Where leg 0 moves along -z (the mirrored orientation) legs 0 and 1 change places in the
    record, with all that belongs to them. A resonance is written, with status 2 and unknown spin,
    where its invariant mass lies within BWCUTOFF widths of its mass and the colour lines that
    leave its decay are those of its representation: none of a singlet, one line of a triplet, one
    anti-line of an antitriplet, one of each of an octet (other representations are not written).
    It then carries these lines, and its decay products have it as their mother, the innermost one
    where resonances are nested.

    Args:
        points: n accepted points of the group.
        group: the flavours of its legs.
        picks: what was picked for each point.
        masses_gev: (n_ext,), the on-shell mass of each leg, exactly 0 for a massless one.
        alpha_em: AQEDUP.
        resonances: of the channel that the points come from. Any two of them have either no leg
            in common, or all those of the smaller one.

    Raises:
        MlgenError: two resonances overlap.
    """
    momenta = points.momenta
    n, n_ext, _ = momenta.shape
    device = momenta.device
    resonances = _outermost_first(resonances)
    leg = torch.arange(n_ext, device=device).repeat(n, 1)
    leg[momenta[:, 0, 3] < 0, :2] = torch.tensor([1, 0], device=device)
    status = torch.ones_like(leg)
    status[:, :2] = -1
    pdg_ids = torch.tensor(group.pdg_ids, device=device)[picks.flavour]

    inner_momenta, inner_mass, is_near = _resonance_kinematics(momenta, resonances)
    inner_colour, is_allowed = _resonance_colour(picks.colour, resonances)
    written = is_near & is_allowed
    inner_ids = torch.tensor([r.pdg_id for r in resonances], dtype=torch.int64, device=device)
    inner_ids = inner_ids.expand(n, -1)

    def rows(external: Tensor, inner: Tensor) -> Tensor:
        return torch.cat([external[:, :2], inner, external[:, 2:]], dim=1)

    present = rows(torch.ones_like(leg, dtype=torch.bool), written)
    n_rows = present.sum(1)
    # A stable sort moves the resonances that are not written to the end, where they are filler.
    order = torch.argsort((~present).to(torch.int8), dim=1, stable=True)
    order = order[:, : max(n_rows.tolist(), default=0)]
    is_filler = torch.arange(order.shape[1], device=device) >= n_rows[:, None]

    def record(column: Tensor) -> Tensor:
        kept = column[torch.arange(n, device=device)[:, None], order]
        kept[is_filler] = 0
        return kept

    return EventBatch(
        pdg_id=record(rows(pdg_ids.gather(1, leg), inner_ids)),
        status=record(rows(status, torch.full_like(inner_ids, 2))),
        mothers=record(_mothers(present, resonances)),
        colour=record(rows(_of_legs(picks.colour, leg), inner_colour)),
        momenta=record(rows(_of_legs(momenta, leg), inner_momenta)),
        mass=record(rows(masses_gev.to(momenta)[leg], inner_mass)),
        spin=record(
            rows(
                picks.helicity.to(momenta.dtype).gather(1, leg),
                torch.full_like(inner_mass, UNKNOWN_SPIN),
            )
        ),
        weight=picks.weight,
        scale=picks.scale,
        alpha_em=torch.full_like(picks.weight, alpha_em),
        alpha_s=picks.alpha_s,
        variations=picks.variations,
    )


def _outermost_first(resonances: tuple[Resonance, ...]) -> tuple[Resonance, ...]:
    """The resonances so that each comes before those nested in it."""
    for i, one in enumerate(resonances):
        for other in resonances[i + 1 :]:
            shared = len(set(one.legs) & set(other.legs))
            if shared not in (0, min(len(one.legs), len(other.legs))):
                raise MlgenError(
                    f"resonances of legs {one.legs} and {other.legs}: expected legs that are "
                    "nested or have none in common"
                )
    return tuple(sorted(resonances, key=lambda resonance: -len(resonance.legs)))


def _resonance_kinematics(
    momenta: Tensor, resonances: tuple[Resonance, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Momenta (n, k, 4) and masses (n, k) of the resonances; which are near their pole (n, k)."""
    total = momenta.new_empty(len(momenta), len(resonances), 4)
    for j, resonance in enumerate(resonances):
        total[:, j] = momenta[:, list(resonance.legs)].sum(1)
    mass = (total[..., 0].square() - total[..., 1:].square().sum(-1)).clamp(min=0).sqrt()
    pole = momenta.new_tensor([resonance.mass_gev for resonance in resonances])
    width = momenta.new_tensor([resonance.width_gev for resonance in resonances])
    return total, mass, (mass - pole).abs() < BWCUTOFF * width


def _resonance_colour(colour: Tensor, resonances: tuple[Resonance, ...]) -> tuple[Tensor, Tensor]:
    """ICOLUP of the resonances (n, k, 2); which have those of their representation (n, k).

    A decay product's line that is no other one's anti-line leaves the decay, and so belongs to the
    resonance; likewise its anti-lines.
    """
    n, k = len(colour), len(resonances)
    carried = colour.new_zeros(n, k, 2)
    is_allowed = torch.ones(n, k, dtype=torch.bool, device=colour.device)
    for j, resonance in enumerate(resonances):
        of_legs = colour[:, list(resonance.legs)]
        expected = LINES.get(resonance.colour, NEVER)
        for side in (0, 1):
            mine, others = of_legs[..., side], of_legs[..., 1 - side]
            leaves = (mine != 0) & ~(mine[:, :, None] == others[:, None, :]).any(2)
            carried[:, j, side] = (mine * leaves).sum(1)
            is_allowed[:, j] &= leaves.sum(1) == expected[side]
    return carried, is_allowed


def _mothers(present: Tensor, resonances: tuple[Resonance, ...]) -> Tensor:
    """MOTHUP of all rows (n, n_rows, 2), of which those that are `present` are written."""
    number = present.cumsum(1)
    mothers = torch.zeros(*present.shape, 2, dtype=torch.int64, device=present.device)
    mothers[:, 2:] = torch.tensor([1, 2], device=present.device)
    for j, resonance in enumerate(resonances):
        row = 2 + j
        daughters = [leg + len(resonances) for leg in resonance.legs]
        daughters += [
            2 + i
            for i in range(j + 1, len(resonances))
            if set(resonances[i].legs) <= set(resonance.legs)
        ]
        # Those nested deeper come later in this loop, and claim their own.
        mothers[:, daughters] = torch.where(
            present[:, row, None, None], number[:, row, None, None], mothers[:, daughters]
        )
    return mothers


def _of_legs(values: Tensor, leg: Tensor) -> Tensor:
    """The values (n, n_ext, m) of the legs (n, n_ext)."""
    return values.gather(1, leg[..., None].expand(-1, -1, values.shape[2]))
