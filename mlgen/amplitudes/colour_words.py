"""Colour words, such as `[3, 1, 2, 5, 4]`, to the colour tags of Les Houches events.

A word lists the coloured legs, counted from 1, along the strings of a leading-colour amplitude
with all legs outgoing: quark, gluons, antiquark, and then the next string; or, where there is
no quark, the gluons of a closed string.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from mlgen.errors import MatrixElementError

FIRST_TAG = 501
GLUON = 21
QUARKS = (1, 2, 3, 4, 5, 6)


def is_coloured(pdg_id: int) -> bool:
    """Whether a particle of the Standard Model carries colour."""
    return abs(pdg_id) in (*QUARKS, GLUON)


def colour_strings(word: Sequence[int], pdg_ids: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The strings of a word: legs, counted from 0, from the quark to the antiquark.

    Args:
        word: legs counted from 1.
        pdg_ids: (n_ext,), two incoming first.

    Raises:
        MatrixElementError: the word is not a sequence of strings over all coloured legs.
    """
    outgoing = [-pdg if leg < 2 and pdg != GLUON else pdg for leg, pdg in enumerate(pdg_ids)]
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


def leading_words(
    words: Sequence[Sequence[int]], pdg_ids: Sequence[int], alpha_s_power: int
) -> list[int]:
    """The indices of the words that are leading in 1/N_c.

    Where gluons join all quark lines (alpha_s_power = n_coloured - 2), a string that begins and
    ends on one line means that the gluon between this line and the rest was a colour singlet:
    suppressed by 1/N_c² in |M|², not a colour flow of an octet, and left out by MadGraph too.
    A word is leading if the strings close the lines into a single cycle, for at least one way
    of pairing the quarks with the antiquarks of their flavour. Where no word is (lines that
    change flavour, or that only electroweak bosons join), all are kept.
    """
    outgoing = [-pdg if leg < 2 else pdg for leg, pdg in enumerate(pdg_ids)]
    everything = list(range(len(words)))
    if alpha_s_power != sum(is_coloured(pdg) for pdg in pdg_ids) - 2:
        return everything
    kept = []
    for index, word in enumerate(words):
        ends = {string[0]: string[-1] for string in colour_strings(word, pdg_ids)}
        quarks = list(ends)
        if outgoing[quarks[0]] not in QUARKS or any(
            _is_single_cycle(ends, dict(zip(quarks, antiquarks, strict=True)))
            for antiquarks in itertools.permutations(ends.values())
            if all(outgoing[q] == -outgoing[a] for q, a in zip(quarks, antiquarks, strict=True))
        ):
            kept.append(index)
    return kept or everything


def _is_single_cycle(strings: dict[int, int], lines: dict[int, int]) -> bool:
    """Whether following strings (quark to antiquark) and lines (back to a quark) meets all quarks."""
    quark_of = {antiquark: quark for quark, antiquark in lines.items()}
    first = quark = next(iter(strings))
    n_met = 0
    while n_met == 0 or quark != first:
        quark = quark_of[strings[quark]]
        n_met += 1
    return n_met == len(strings)
