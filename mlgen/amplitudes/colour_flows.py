"""The leading colour flows of a process from its legs alone, where no amplitude tells them apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from mlgen.amplitudes.colour_words import (
    GLUON,
    QUARKS,
    as_outgoing,
    colour_tags,
    is_coloured,
    leading_words,
)
from mlgen.errors import MatrixElementError


def leading_flows(pdg_ids: Sequence[int], alpha_s_power: int) -> list[list[tuple[int, int]]]:
    """ICOLUP of each leg in each leading colour flow: (n_flows, n_ext) pairs, tags from 501.

    The flows are all ways of connecting the coloured legs that are leading in 1/N_c at this power
    of alpha_s; which of them are probable at a point, only an amplitude knows.

    >>> leading_flows([2, -2, 11, -11], 0)
    [[(501, 0), (0, 501), (0, 0), (0, 0)]]

    Raises:
        MatrixElementError: the legs cannot be a colour singlet.
    """
    words = colour_words(pdg_ids)
    if not words:
        return [[(0, 0)] * len(pdg_ids)]
    return [
        colour_tags(words[index], pdg_ids) for index in leading_words(words, pdg_ids, alpha_s_power)
    ]


def colour_words(pdg_ids: Sequence[int]) -> list[list[int]]:
    """Every colour word of a process; none where no leg is coloured.

    With n gluons and k quark lines there are (n + k - 1)! k! / (k - 1)! words: each antiquark
    ends one of k strings, and the gluons stand on them in every order. Without quarks, the
    n gluons stand on one closed string, in (n - 1)! cyclic orders.

    Raises:
        MatrixElementError: a quark has no antiquark, or a gluon is alone.
    """
    outgoing = as_outgoing(pdg_ids)
    quarks = [leg + 1 for leg, pdg in enumerate(outgoing) if pdg in QUARKS]
    antiquarks = [leg + 1 for leg, pdg in enumerate(outgoing) if -pdg in QUARKS]
    gluons = [leg + 1 for leg, pdg in enumerate(outgoing) if pdg == GLUON]
    if len(quarks) != len(antiquarks) or (len(gluons) == 1 and not quarks):
        coloured = [pdg for pdg in pdg_ids if is_coloured(pdg)]
        raise MatrixElementError(
            f"coloured legs = {coloured} of {list(pdg_ids)}: expected as many quarks as "
            "antiquarks, all taken as outgoing, and not one gluon alone"
        )
    if not quarks and not gluons:
        return []
    if not quarks:
        return [[*gluons[:1], *others] for others in itertools.permutations(gluons[1:])]
    return [
        [leg for string in strings for leg in string]
        for ends in itertools.permutations(antiquarks)
        for order in itertools.permutations(gluons)
        for strings in _strings(quarks, order, ends)
    ]


def _strings(
    quarks: Sequence[int], gluons: Sequence[int], antiquarks: Sequence[int]
) -> Iterator[list[list[int]]]:
    """A row of gluons cut into as many parts as there are quarks, in every way."""
    places = range(len(gluons) + 1)
    for cuts in itertools.combinations_with_replacement(places, len(quarks) - 1):
        bounds = itertools.pairwise((0, *cuts, len(gluons)))
        yield [
            [quark, *gluons[start:end], antiquark]
            for quark, (start, end), antiquark in zip(quarks, bounds, antiquarks, strict=True)
        ]
