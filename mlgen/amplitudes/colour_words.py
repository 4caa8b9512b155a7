"""Colour words, such as `[3, 1, 2, 5, 4]`, to the colour tags of Les Houches events.

A word lists the coloured legs, counted from 1, along the strings of a leading-colour amplitude
with all legs outgoing: quark, gluons, antiquark, and then the next string; or, where there is
no quark, the gluons of a closed string.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from mlgen.errors import MatrixElementError

FIRST_TAG = 501
GLUON = 21
QUARKS = (1, 2, 3, 4, 5, 6)
NEUTRINOS = (12, 14, 16)
W = 24


def is_coloured(pdg_id: int) -> bool:
    """Whether a particle of the Standard Model carries colour."""
    return abs(pdg_id) in (*QUARKS, GLUON)


def as_outgoing(pdg_ids: Sequence[int]) -> list[int]:
    """The legs as if all were outgoing, (n_ext,): an incoming quark is an antiquark."""
    return [-pdg if leg < 2 and pdg != GLUON else pdg for leg, pdg in enumerate(pdg_ids)]


def colour_strings(word: Sequence[int], pdg_ids: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The strings of a word: legs, counted from 0, from the quark to the antiquark.

    Args:
        word: legs counted from 1.
        pdg_ids: (n_ext,), two incoming first.

    Raises:
        MatrixElementError: the word is not a sequence of strings over all coloured legs.
    """
    outgoing = as_outgoing(pdg_ids)
    legs = [entry - 1 for entry in word]
    if sorted(legs) != [leg for leg, pdg in enumerate(pdg_ids) if is_coloured(pdg)]:
        raise MatrixElementError(
            f"colour word = {list(word)}: expected each coloured leg of {list(pdg_ids)} once"
        )
    if all(outgoing[leg] == GLUON for leg in legs):
        return (tuple(legs),)
    strings = []
    string: list[int] = []
    for leg in legs:
        if (outgoing[leg] in QUARKS) != (not string):
            break
        string.append(leg)
        if -outgoing[leg] in QUARKS:
            strings.append(tuple(string))
            string = []
    if string or sum(len(done) for done in strings) != len(legs):
        raise MatrixElementError(
            f"colour word = {list(word)}: expected strings from a quark to an antiquark of {list(pdg_ids)}"
        )
    return tuple(strings)


def colour_tags(word: Sequence[int], pdg_ids: Sequence[int]) -> list[tuple[int, int]]:
    """ICOLUP of each leg: (colour, anticolour), tags from 501, 0 for none.

    >>> colour_tags([2, 5, 1], [2, -2, -11, 11, 21])  # u u~ > e+ e- g
    [(502, 0), (0, 501), (0, 0), (0, 0), (502, 501)]
    """
    colour = [0] * len(pdg_ids)
    anticolour = [0] * len(pdg_ids)
    tags = itertools.count(FIRST_TAG)
    for string in colour_strings(word, pdg_ids):
        neighbours = list(itertools.pairwise(string))
        if pdg_ids[string[0]] == GLUON:
            neighbours.append((string[-1], string[0]))
        for leg, next_leg in neighbours:
            colour[leg] = anticolour[next_leg] = next(tags)
    # An incoming leg carries its colour into the vertex, the opposite of an outgoing one.
    return [
        (anticolour[leg], colour[leg]) if leg < 2 else (colour[leg], anticolour[leg])
        for leg in range(len(pdg_ids))
    ]


def n_colour_parts(pdg_ids: Sequence[int], alpha_s_power: int) -> int:
    """Of a tree amplitude of order g_s^p, the parts that only electroweak bosons join.

    c = (n_coloured - p) / 2: each part with n coloured legs has n - 2 powers of g_s.
    """
    return (sum(is_coloured(pdg) for pdg in pdg_ids) - alpha_s_power) // 2


def leading_words(
    words: Sequence[Sequence[int]], pdg_ids: Sequence[int], alpha_s_power: int
) -> list[int]:
    """The indices of the words that are leading in 1/N_c.

    Strings and quark lines, followed in turn, close into cycles: a word is leading if there is one
    cycle for each part of `n_colour_parts`, for at least one way of pairing the quarks with the
    antiquarks to which their lines may run. More cycles mean that a gluon between two lines was a colour singlet,
    suppressed by 1/N_c² in |M|² and left out by MadGraph too.

    A line may change flavour within its generation where it emits a W: an external one, one that
    ends in a neutrino, or one that joins two parts. Where no word is leading (a process that does
    not exist at this order), all are kept.
    """
    outgoing = as_outgoing(pdg_ids)
    n_parts = n_colour_parts(pdg_ids, alpha_s_power)
    n_w = sum(abs(pdg) == W for pdg in pdg_ids) + sum(abs(pdg) in NEUTRINOS for pdg in pdg_ids)
    n_changes = n_w + 2 * (n_parts - 1)
    kept = []
    for index, word in enumerate(words):
        ends = {string[0]: string[-1] for string in colour_strings(word, pdg_ids)}
        if outgoing[next(iter(ends))] not in QUARKS or any(
            _n_cycles(ends, lines) == n_parts for lines in _lines(ends, outgoing, n_changes)
        ):
            kept.append(index)
    return kept or list(range(len(words)))


def _lines(
    ends: Mapping[int, int], outgoing: Sequence[int], n_changes: int
) -> Iterator[dict[int, int]]:
    """The ways in which quark lines may run: from each antiquark to a quark.

    Args:
        ends: the legs of quarks, and the antiquarks at the ends of their strings.
        n_changes: how many lines may change their flavour.
    """
    for antiquarks in itertools.permutations(ends.values()):
        flavours = [(outgoing[q], -outgoing[a]) for q, a in zip(ends, antiquarks, strict=True)]
        if (
            all((a + 1) // 2 == (b + 1) // 2 for a, b in flavours)
            and sum(a != b for a, b in flavours) <= n_changes
        ):
            yield dict(zip(antiquarks, ends, strict=True))


def _n_cycles(strings: Mapping[int, int], quark_of: Mapping[int, int]) -> int:
    """How many cycles strings (quark to antiquark) and lines (antiquark to quark) close into."""
    unmet = set(strings)
    n_cycles = 0
    while unmet:
        n_cycles += 1
        quark = next(iter(unmet))
        while quark in unmet:
            unmet.remove(quark)
            quark = quark_of[strings[quark]]
    return n_cycles
