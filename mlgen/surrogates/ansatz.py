"""What is known of |M|² before anything is learned: its soft and collinear poles.

At leading colour |M|² is a sum over the orders in which gluons lie between colour and anticolour, each
a product of antennae (hep-ph/9807318, section 3): with a quark line q, a and n gluons

    A = N sum over orders of s_qa / (s_q1 s_12 ... s_na),

and of gluons alone the Parke-Taylor sum over cyclic orders (Phys. Rev. Lett. 56 (1986) 2459),

    A = N sum over orders of 1 / (s_12 s_23 ... s_n1),   N = sum over pairs of s_ij^4.

Where nothing but a quark line and gluons is there, N is that of the helicities which are known for all
n (Phys. Rep. 200 (1991) 301), the sum over gluons of s_qi³ s_ai + s_ai³ s_qi, over s_qa². Two quark lines exchange a gluon, which adds its
propagator. ln(|M|² / A) is smooth, and that is what a network learns. Massive legs enter through
2 p_i·p_j, which is what their eikonal factors have.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.physics.model import Model
from mlgen.surrogates.invariants import pairs_of

MAX_ORDERS = 720
"""With more orders than these the sum costs more than the network."""

_Powers = Counter[tuple[int, int]]
"""The power of 2 p_i · p_j for each pair of legs (i, j)."""


class AnsatzPowers(NamedTuple):
    """The powers of the products of pairs in each term of a product of two sums."""

    numerator: Tensor
    """(n_numerators, n_pairs)."""
    orders: Tensor
    """(n_orders, n_pairs); with a power of s_hat that gives A the dimension of |M|²."""


def ansatz_powers(group: SubprocessGroup, model: Model) -> AnsatzPowers:
    """The powers of both sums of A. Where nothing is known, both are one power of s_hat."""
    legs = _coloured_legs(group, model)
    orders = list(_orders(legs))
    numerators = list(_numerators(group, legs)) if orders else []
    numerator = _rows(numerators or [_Powers()], group.n_ext)
    poles = _rows(orders or [_Powers()], group.n_ext)
    poles[:, 0] += (4 - group.n_ext) - poles.sum(1) - numerator[0].sum()
    return AnsatzPowers(numerator, poles)


def _rows(terms: Sequence[_Powers], n_ext: int) -> Tensor:
    pairs = pairs_of(n_ext)
    rows = torch.zeros(len(terms), len(pairs), dtype=torch.float64)
    for row, powers in zip(rows, terms, strict=True):
        for pair, power in powers.items():
            row[pairs.index(pair)] += power
    return rows


class _Legs(NamedTuple):
    """The coloured legs of a group, all outgoing."""

    pdg_ids: list[int]
    """Of all legs."""
    quarks: list[int]
    antiquarks: list[int]
    gluons: list[int]
    others: list[int]
    """Of higher representations, of which nothing is known here."""


def _coloured_legs(group: SubprocessGroup, model: Model) -> _Legs:
    incoming, final = group.pdg_ids[0][:2], group.pdg_ids[0][2:]
    legs = _Legs([*map(model.conjugate, incoming), *final], [], [], [], [])
    by_colour = {3: legs.quarks, -3: legs.antiquarks, 8: legs.gluons}
    for leg, pdg_id in enumerate(legs.pdg_ids):
        colour = model.particles[pdg_id].colour
        if colour != 1:
            by_colour.get(colour, legs.others).append(leg)
    return legs


def _numerators(group: SubprocessGroup, legs: _Legs) -> Iterator[_Powers]:
    """The terms of N; none where there are legs without colour, or two quark lines."""
    n_coloured = len(legs.gluons) + 2 * len(legs.quarks)
    if n_coloured < group.n_ext or len(legs.quarks) > 1 or len(legs.gluons) < 2:
        return
    if not legs.quarks:
        for pair in itertools.combinations(legs.gluons, 2):
            yield _Powers({pair: 4})
        return
    line = [*legs.quarks, *legs.antiquarks]
    for gluon, ends in itertools.product(legs.gluons, itertools.permutations(line)):
        powers = _Powers()
        powers.subtract(2 * _neighbours(line))
        near, far = (_neighbours([end, gluon]) for end in ends)
        powers.update(3 * near + far)
        yield powers


def _orders(legs: _Legs) -> Iterator[_Powers]:
    """The poles of each colour order; none where there are too many, or colours without a formula."""
    pdg_ids, quarks, antiquarks, gluons, others = legs
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
    """Each cyclic order, once with its reflection."""
    first, *others = gluons
    for order in itertools.permutations(others):
        if order[0] < order[-1]:
            powers = _Powers()
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

    numerator: Tensor
    orders: Tensor

    def __init__(self, powers: AnsatzPowers) -> None:
        super().__init__()
        self.register_buffer("numerator", powers.numerator)
        self.register_buffer("orders", powers.orders)

    def forward(self, log_products: Tensor) -> Tensor:
        """ln A (n,) at ln of the products of pairs (n_pairs, n)."""
        return _log_sum(self.numerator @ log_products) + _log_sum(self.orders @ log_products)


def _log_sum(log_terms: Tensor) -> Tensor:
    """ln of a sum of terms whose logarithms are the rows (n_terms, n): (n,)."""
    return log_terms[0] if len(log_terms) == 1 else log_terms.logsumexp(0)
