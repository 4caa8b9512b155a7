"""What is known of |M|² before anything is learned: its soft and collinear poles.

At leading colour |M|² is a sum over the orders in which gluons lie between colour and anticolour, each
a product of antennae (hep-ph/9807318, section 3): with a quark line q, a and n gluons

    A = sum over orders of s_qa / (s_q1 s_12 ... s_na),

and of gluons alone the Parke-Taylor sum over cyclic orders (Phys. Rev. Lett. 56 (1986) 2459),

    A = (sum over pairs of s_ij^4) sum over orders of 1 / (s_12 s_23 ... s_n1).

Two quark lines exchange a gluon, which adds its propagator. ln(|M|² / A) is smooth, and that is what
a network learns. Massive legs enter through 2 p_i·p_j, which is what their eikonal factors have.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.physics.model import Model
from mlgen.surrogates.invariants import pairs_of

MAX_ORDERS = 720
"""With more orders than these the sum costs more than the network."""

_Powers = Counter[tuple[int, int]]
"""The power of 2 p_i · p_j for each pair of legs (i, j)."""


def pole_powers(group: SubprocessGroup, model: Model) -> Tensor:
    """The powers of the products of pairs in each term of A: (n_terms, n_pairs).

    A power of s_hat gives each term the dimension of |M|², so that the ratio has none. Where nothing
    is known of the poles, that power is the only term.
    """
    pairs = pairs_of(group.n_ext)
    terms = list(_terms(group, model)) or [_Powers()]
    rows = torch.zeros(len(terms), len(pairs), dtype=torch.float64)
    for row, powers in zip(rows, terms, strict=True):
        for pair, power in powers.items():
            row[pairs.index(pair)] += power
    rows[:, 0] += (4 - group.n_ext) - rows.sum(1)
    return rows


def _terms(group: SubprocessGroup, model: Model) -> Iterator[_Powers]:
    """The terms of A; none where there are too many, or colours without such a formula."""
    incoming, final = group.pdg_ids[0][:2], group.pdg_ids[0][2:]
    pdg_ids = [*map(model.conjugate, incoming), *final]
    legs: dict[int, list[int]] = {3: [], -3: [], 8: []}
    for leg, pdg_id in enumerate(pdg_ids):
        colour = model.particles[pdg_id].colour
        if colour != 1:
            legs.setdefault(colour, []).append(leg)
    quarks, antiquarks, gluons, *others = legs.values()
    n_lines, n_gluons = len(quarks), len(gluons)
    if others or len(antiquarks) != n_lines or n_lines > 2:
        return
    if n_lines == 0:
        if n_gluons >= 4 and math.factorial(n_gluons - 1) <= 2 * MAX_ORDERS:
            yield from _cyclic(gluons)
    elif n_lines * math.factorial(n_gluons + n_lines - 1) <= MAX_ORDERS:
        for matched in itertools.permutations(antiquarks):
            propagators = _exchange(quarks, matched, pdg_ids)
            if propagators is None:
                continue
            for chains in _chains(gluons, n_lines):
                powers = _Powers(propagators)
                for quark, chain, antiquark in zip(quarks, chains, matched, strict=True):
                    powers.update(_antenna(quark, chain, antiquark))
                yield powers


def _cyclic(gluons: Sequence[int]) -> Iterator[_Powers]:
    """Each cyclic order, once with its reflection, with each pair to the fourth power."""
    first, *others = gluons
    for order in itertools.permutations(others):
        if order[0] < order[-1]:
            for pair in itertools.combinations(gluons, 2):
                powers = _Powers({pair: 4})
                powers.subtract(_neighbours([first, *order, first]))
                yield powers


def _chains(gluons: Sequence[int], n_lines: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The gluons in all orders, cut into one chain for each quark line in all ways."""
    for order in itertools.permutations(gluons):
        for cuts in itertools.combinations_with_replacement(range(len(gluons) + 1), n_lines - 1):
            ends = (0, *cuts, len(gluons))
            yield tuple(order[a:b] for a, b in itertools.pairwise(ends))


def _antenna(quark: int, chain: Sequence[int], antiquark: int) -> _Powers:
    """s_qa / (s_q1 s_12 ... s_na); 1 where there is no gluon."""
    powers = _Powers({(min(quark, antiquark), max(quark, antiquark)): 1})
    powers.subtract(_neighbours([quark, *chain, antiquark]))
    return powers


def _exchange(
    quarks: Sequence[int], matched: Sequence[int], pdg_ids: Sequence[int]
) -> _Powers | None:
    """The gluon between two quark lines, for one way to join their colours; none for one line.

    At leading colour a quark's colour goes to the antiquark of the other line. None for a way that
    would need lines on which flavour is not conserved, while there is one on which it is.
    """
    if len(quarks) == 1:
        return _Powers()
    lines = list(zip(quarks, reversed(matched), strict=True))
    is_kept = all(pdg_ids[quark] == -pdg_ids[antiquark] for quark, antiquark in lines)
    flavours = [sorted(pdg_ids[leg] for leg in legs) for legs in (quarks, matched)]
    if not is_kept and flavours[0] == sorted(-pdg_id for pdg_id in flavours[1]):
        return None
    return _Powers({(min(line), max(line)): -1 for line in lines})


def _neighbours(chain: Sequence[int]) -> list[tuple[int, int]]:
    return [(min(pair), max(pair)) for pair in itertools.pairwise(chain)]


class PoleAnsatz(torch.nn.Module):
    """ln A at points."""

    powers: Tensor

    def __init__(self, powers: Tensor) -> None:
        """Take the powers (n_terms, n_pairs) of `pole_powers`."""
        super().__init__()
        self.register_buffer("powers", powers)

    def forward(self, log_products: Tensor) -> Tensor:
        """ln A (n,) at ln of the products of pairs (n, n_pairs)."""
        return (log_products @ self.powers.T).logsumexp(1)
