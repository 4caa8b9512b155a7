"""Faults of single events: what plants each, and the kind and a part of the text that is found."""

from __future__ import annotations

from tests.events.planting import (
    Plant,
    both,
    column,
    in_header,
    in_third_event,
    init,
    scaled,
    weight,
    without_declarations,
    without_further_weight,
)
from tests.events.varied import VARIATIONS

OWN, OTHER = (VARIATIONS[index].name for index in (0, 1))
"""Further weights: the event's own, and one with other scales."""

Row = tuple[Plant, str, str]
"""What plants it, the kind and a part of the text that must be found."""

# The first event of "unit", g u~ > Z u~, Z > e+ e-, is:
#   1 g  -1  0 0  501 502
#   2 u~ -1  0 0    0 501
#   3 Z   2  1 2    0   0
#   4 e+  1  3 3    0   0
#   5 e-  1  3 3    0   0
#   6 u~  1  1 2    0 502
LINES: dict[str, Row] = {
    "NUP too large": (column(0, 0, "7"), "lines", "NUP = 7: expected 6"),
    "NUP too small": (column(0, 0, "5"), "lines", "NUP = 5: expected 6"),
    "NUP 0": (column(0, 0, "0"), "lines", "NUP = 0"),
    "NUP absurd": (column(0, 0, "1000000000"), "lines", "expected at most 500"),
    "NUP no whole number": (column(0, 0, "6.5"), "lines", "NUP = 6.5"),
    "first line short": (column(0, 5, ""), "lines", "first line of 5 numbers"),
    "no lines": (
        lambda t: t.replace(t.split("<event>")[1].split("</event>")[0], "\n", 1),
        "lines",
        "expected an event",
    ),
    "number missing": (column(3, 12, ""), "lines", "particle line of 12 numbers"),
    "number too many": (column(3, 12, "0. 9.0"), "lines", "particle line of 14 numbers"),
    "no number": (column(3, 8, "abc"), "lines", "expected a number"),
    "Fortran exponent": (column(3, 8, "1.0D+02"), "lines", "expected a number"),
    "digits of Python": (column(3, 8, "1_0.0"), "lines", "characters that do not belong"),
    "other alphabets' digits": (column(3, 8, "١٢"), "lines", "characters that do not belong"),
    "NaN momentum": (column(5, 8, "nan"), "finite", "expected finite numbers"),
    "infinite energy": (column(5, 9, "inf"), "finite", "expected finite numbers"),
    "energy that overflows": (column(5, 9, "1e999"), "finite", "expected finite numbers"),
    "NaN mass": (column(5, 10, "nan"), "finite", "expected finite numbers"),
    "NaN weight": (column(0, 2, "nan"), "finite", "expected finite numbers"),
    "NaN scale": (column(0, 3, "nan"), "finite", "expected finite numbers"),
    "NaN in the last event": (column(4, 7, "nan", event=20), "finite", "NaN"),
    "fraction of a status": (column(6, 1, "1.5"), "whole", "expected whole numbers"),
    "absurd id": (column(6, 0, "1e300"), "whole", "expected whole numbers"),
}

PARTICLES: dict[str, Row] = {
    "id 0": (column(6, 0, "0"), "pdg_id", "expected a particle's PDG id"),
    "status unknown": (column(6, 1, "5"), "status", "status = 5"),
    "three incoming": (column(6, 1, "-1"), "incoming", "3 lines of status -1"),
    "one incoming": (column(2, 1, "1"), "incoming", "1 lines of status -1"),
    "nothing outgoing": (
        both(*(column(row, 1, "3") for row in (4, 5, 6))),
        "outgoing",
        "no line of status 1",
    ),
    "mother out of range": (column(6, 3, "9"), "mothers", "mothers = [1, 9]"),
    "mother negative": (column(6, 2, "-1"), "mothers", "mothers = [-1, 2]"),
    "own mother": (column(6, 2, "6"), "mothers", "mothers = [6, 2]"),
    "no mother": (
        both(column(6, 2, "0"), column(6, 3, "0")),
        "mothers",
        "a line that it comes from",
    ),
    "mother of an incoming": (column(1, 2, "3"), "mothers", "none, as it is incoming"),
    "mother that is outgoing": (
        both(column(6, 2, "4"), column(6, 3, "4")),
        "mothers",
        "mothers that are not outgoing",
    ),
    "resonance without daughters": (
        both(*(column(row, c, w) for row in (4, 5) for c, w in ((2, "1"), (3, "2")))),
        "decay_products",
        "decay products",
    ),
    "one daughter lost": (
        both(column(4, 2, "1"), column(4, 3, "2")),
        "decay_momentum",
        "as much as the resonance has",
    ),
}

COLOUR: dict[str, Row] = {
    "line broken": (column(6, 5, "503"), "colour_lines", "that each begin and end once"),
    "line of an absurd number": (column(6, 5, "9007199254740992"), "colour_lines", "ICOLUP"),
    "swapped": (
        both(column(6, 4, "502"), column(6, 5, "0")),
        "colour_carriers",
        "the colours of such a particle",
    ),
    "gluon without": (
        both(column(1, 4, "0"), column(1, 5, "0"), column(2, 5, "0"), column(6, 5, "0")),
        "colour_carriers",
        "the colours of such a particle",
    ),
    "gluon of one line": (column(1, 5, "501"), "colour_carriers", "the colours of such a"),
    "negative tag": (
        both(column(1, 5, "-502"), column(6, 5, "-502")),
        "colour_carriers",
        "the colours of such a particle",
    ),
    "coloured electron": (column(4, 4, "501"), "colour_carriers", "the colours of such a"),
    "tag used twice": (
        both(column(1, 5, "501"), column(6, 5, "501")),
        "colour_lines",
        "that each begin and end once",
    ),
}

KINEMATICS: dict[str, Row] = {
    "charge": (column(6, 0, "-1"), "charge", "charge: as much as comes in"),
    "charge of a decay": (
        both(column(4, 0, "-12"), column(6, 0, "-1")),
        "decay_charge",
        "charge: as much as the resonance has",
    ),
    "momentum off by 1e-6": (column(5, 8, scaled(1 + 1e-6)), "momentum", "as much as comes in"),
    "energy off by 1e-6": (column(6, 9, scaled(1 + 1e-6)), "momentum", "as much as comes in"),
    "incoming momentum off": (column(1, 8, scaled(1 + 1e-6)), "momentum", "as much as comes in"),
    "momentum of the last event off": (
        column(5, 8, scaled(1 + 1e-6), event=20),
        "momentum",
        "as much as comes in",
    ),
    "resonance's momentum": (
        column(3, 8, scaled(1.001)),
        "decay_momentum",
        "as much as the resonance has",
    ),
    "resonance's mass": (column(3, 10, scaled(1.001)), "mass", "line 3: mass"),
    "electron too heavy": (column(5, 10, "5.0"), "mass", "line 5: mass = 5.0"),
    "mass imaginary": (column(5, 10, "-5.0"), "mass", "line 5: mass = -5.0"),
    "energy negative": (column(5, 9, scaled(-1.0)), "energy", "expected a positive energy"),
}

# t (3) and t~ (4), W+ (5) of t, b (6) of t, W- (7) of t~, b~ (8), then the leptons of both W.
DECAYS: dict[str, Row] = {
    "a resonance is its own ancestor": (
        column(3, 2, "5"),
        "mothers",
        "no line that is its own ancestor",
    ),
    "colour line that ends in a decay": (
        column(6, 4, "999"),
        "decay_colour_lines",
        "that close in a resonance's decay",
    ),
    "colour of two resonances swapped": (
        both(column(3, 4, "102"), column(3, 5, "103"), column(4, 4, "103"), column(4, 5, "0")),
        "decay_colour_lines",
        "that close in a resonance's decay",
    ),
    "W of the wrong charge": (column(5, 0, "-24"), "decay_charge", "as the resonance has"),
    "momentum of a W": (column(5, 6, scaled(1.0001)), "decay_momentum", "as the resonance has"),
    "mass of a top": (column(3, 10, "173.0"), "mass", "line 3: mass = 173.0"),
    "a lepton from the other W": (column(9, 2, "7"), "decay_momentum", "as the resonance has"),
}

FURTHER_WEIGHTS: dict[str, Row] = {
    "one missing": (without_further_weight, "lines", "<rwgt> of 8 weights: expected 9"),
    "none": (
        lambda text: text.replace("rwgt>", "others>").replace("initothers>", "initrwgt>"),
        "lines",
        "<rwgt> of 0 weights: expected 9",
    ),
    "none declared": (without_declarations, "lines", "<rwgt> of 9 weights: expected 0"),
    "another id": (in_third_event(OTHER, "MUR=3"), "lines", "<wgt id='MUR=3'>: expected an id"),
    "an id twice": (in_third_event(OTHER, OWN), "lines", "<wgt> of the same id twice"),
    "no id": (in_third_event(f' id="{OTHER}"', ""), "lines", "<wgt id=''>: expected an id"),
    "declared twice": (
        in_header(OTHER, OWN),
        "declared_weights",
        f"<weight id='{OWN}'> 2 times: expected once",
    ),
    "declared without an id": (
        in_header(f' id="{OTHER}"', ""),
        "declared_weights",
        "a weight without an id",
    ),
    "NaN": (weight(OTHER, "nan"), "finite", "expected finite numbers"),
    "infinity": (weight(OTHER, "1e999"), "finite", "expected finite numbers"),
    "no number": (weight(OTHER, "one"), "lines", "expected a number"),
    "nothing": (weight(OTHER, ""), "lines", "expected a number"),
    "digits of Python": (weight(OTHER, "1_0"), "lines", "characters that do not belong"),
    "the event's own weight changed": (
        weight(OWN, "1.001"),
        "nominal_weight",
        "expected XWGTUP in the weight",
    ),
}

COLLIDER: dict[str, Row] = {
    "beams of another energy": (init(0, 2, "300.0"), "beam_energy", "the beam's energy, 300.0"),
    "beams of another particle": (init(0, 0, "13"), "beam_particle", "the beam's particle, 13"),
}
