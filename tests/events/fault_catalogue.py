"""Faults of event files, each with what a check must report of it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlgen.events.check_findings import Severity
from tests.events.good_files import write_good_file
from tests.events.planting import (
    Plant,
    block,
    both,
    column,
    entity_bomb,
    event_twice,
    in_header,
    in_third_event,
    init,
    note,
    replaced,
    rows_in_order,
    scaled,
    weight,
    without_declarations,
    without_event,
    without_further_weight,
)
from tests.events.varied import VARIATIONS

OWN, OTHER = (VARIATIONS[index].name for index in (0, 1))
"""Further weights: the event's own, and one with other scales."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedFault:
    """A fault in a file that was good."""

    base: str
    """The good file: one of GOOD_FILES."""
    plant: Callable[[bytes], bytes]
    kind: str
    """`Finding.kind` of what must be found."""
    text: str
    """A part of `Finding.what`."""
    severity: Severity = "error"
    suffix: str = ".lhe"

    def write(self, path: Path) -> None:
        """Write the good file to a path with this suffix, and plant the fault in it."""
        write_good_file(self.base, path)
        good = path.read_bytes()
        bad = self.plant(good)
        assert bad != good, "the file is as good as before"
        path.write_bytes(bad)


Row = tuple[Plant, str, str]
"""What plants it, the kind and a part of the text that must be found."""


def _in_text(
    base: str, rows: dict[str, Row], severity: Severity = "error"
) -> dict[str, PlantedFault]:
    def on_bytes(plant: Plant) -> Callable[[bytes], bytes]:
        return lambda content: plant(content.decode()).encode()

    return {
        f"{base}: {name}": PlantedFault(
            base=base, plant=on_bytes(plant), kind=kind, text=text, severity=severity
        )
        for name, (plant, kind, text) in rows.items()
    }


# The first event of "unit", g u~ > Z u~, Z > e+ e-, is:
#   1 g  -1  0 0  501 502
#   2 u~ -1  0 0    0 501
#   3 Z   2  1 2    0   0
#   4 e+  1  3 3    0   0
#   5 e-  1  3 3    0   0
#   6 u~  1  1 2    0 502
DOCUMENT: dict[str, Row] = {
    "truncated inside an event": (lambda t: t[: len(t) // 2], "document", "truncated"),
    "closing tag missing": (replaced("</LesHouchesEvents>\n", ""), "document", "truncated"),
    "text behind the end": (lambda t: t + "<event>", "document", "not well-formed XML"),
    "a second document": (lambda t: t + t, "document", "junk after document element"),
    "a zero byte": (replaced("<event>", "<event>\0"), "document", "not well-formed XML"),
    "tag not closed": (replaced("</event>\n", ""), "document", "<event> inside <event>"),
    "another tag closed": (replaced("</event>\n", "</events>\n"), "document", "mismatched tag"),
    "unknown entity": (replaced("<event>", "<event>&x;"), "document", "not well-formed XML"),
    "DOCTYPE": (replaced("<Les", "<!DOCTYPE a>\n<Les"), "document", "DOCTYPE: refused"),
    "external entity": (
        replaced("<Les", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<Les'),
        "document",
        "DOCTYPE: refused",
    ),
    "entity bomb": (entity_bomb, "document", "DOCTYPE: refused"),
    "another first tag": (replaced("LesHouchesEvents", "html", 2), "document", "first tag <html>"),
    "no init block": (
        lambda t: t[: t.index("<init>")] + "</LesHouchesEvents>",
        "document",
        "no <init> block",
    ),
    "a second init block": (
        lambda t: t.replace("</LesHouchesEvents>", f"{block(t, 'init')}</LesHouchesEvents>"),
        "document",
        "a second <init>",
    ),
    "a second header": (
        lambda t: t.replace("<init>", f"{block(t, 'header')}<init>"),
        "document",
        "<header> behind another block",
    ),
    "header behind the events": (
        lambda t: t.replace("</LesHouchesEvents>", f"{block(t, 'header')}</LesHouchesEvents>"),
        "document",
        "<header> behind another block",
    ),
    "event in an event": (
        both(replaced("<event>", "<event><event>"), replaced("</event>", "</event></event>")),
        "document",
        "<event> inside <event>",
    ),
    "event in the init block": (
        lambda t: t.replace("</init>", f"{block(t, 'event')}</init>"),
        "document",
        "<event> inside <init>",
    ),
    "event in the header": (
        lambda t: t.replace("</header>", f"{block(t, 'event')}</header>"),
        "document",
        "<event> inside <header>",
    ),
    "an event of another tag": (
        both(replaced("<event>", "<Event>"), replaced("</event>", "</Event>")),
        "n_events",
        "19 events: expected 20",
    ),
    "no events": (
        lambda t: t[: t.index("<event>")] + "</LesHouchesEvents>",
        "n_events",
        "no events",
    ),
    "an event missing": (without_event, "n_events", "19 events: expected 20"),
    "an event twice": (event_twice, "n_events", "21 events: expected 20"),
}

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

INIT: dict[str, Row] = {
    "NPRUP too large": (init(0, 9, "2"), "init", "NPRUP = 2: expected 1"),
    "NPRUP too small": (init(0, 9, "0"), "init", "NPRUP = 0: expected 1"),
    "number missing": (init(0, 0, ""), "init", "init block: lines of [9, 4] numbers"),
    "no number": (init(1, 0, "abc"), "init", "init block"),
    "no beam": (init(0, 0, "0"), "init", "IDBMUP(1) = 0"),
    "no beam energy": (init(0, 2, "0.0"), "init", "expected a positive energy in GeV"),
    "beam energy NaN": (init(0, 3, "nan"), "init", "EBMUP(2) = nan"),
    "cross section 0": (init(1, 0, "0.0"), "init", "XSECUP = 0.0: expected a cross section"),
    "cross section NaN": (init(1, 0, "nan"), "init", "XSECUP = nan"),
    "cross section negative": (init(1, 0, scaled(-1)), "cross_section", "expected a positive one"),
    "error negative": (init(1, 1, "-1.0"), "init", "XERRUP = -1.0"),
    "XMAXUP infinite": (init(1, 2, "inf"), "init", "XMAXUP = inf"),
    "IDWTUP unknown": (init(0, 8, "7"), "init", "IDWTUP = 7"),
    "a process twice": (
        both(init(0, 9, "2"), init(1, 3, "1\n2.0 1.0 1.0 1")),
        "init",
        "LPRUP = 1: expected it once, not 2 times",
    ),
    "process unknown": (column(0, 1, "5"), "process_number", "IDPRUP = 5"),
    "parton above the beam": (init(0, 3, "400.0"), "beam_energy", "at most the beam's energy"),
    "XMAXUP of a file of ours": (init(1, 2, "2.0"), "largest_weight", "XMAXUP = 2: expected 1"),
}

STRATEGY: dict[str, Row] = {
    "overweight with IDWTUP 3": (
        column(0, 2, "1.5"),
        "unit_weight",
        "XWGTUP = 1.5 with IDWTUP = 3",
    ),
    "overweight in the last event": (column(0, 2, "1.5", event=20), "unit_weight", "XWGTUP = 1.5"),
    "almost unit weight with IDWTUP 3": (
        column(0, 2, "1.0000000000000002"),
        "unit_weight",
        "with IDWTUP = 3",
    ),
    "negative weight with IDWTUP 3": (
        column(0, 2, "-1.0"),
        "weight_sign",
        "expected no negative weight",
    ),
    "unit weights with IDWTUP -4": (
        init(0, 8, "-4"),
        "cross_section",
        "mean of XWGTUP = 1 pb: expected",
    ),
    "weight above XMAXUP with IDWTUP 1": (
        both(init(0, 8, "1"), column(0, 2, "2.0")),
        "largest_weight",
        "expected at most XMAXUP, 1.0",
    ),
    "weight above XMAXUP with IDWTUP -2": (
        both(init(0, 8, "-2"), column(0, 2, "-2.0")),
        "largest_weight",
        "expected at most XMAXUP, 1.0",
    ),
    "no XMAXUP with IDWTUP 1": (
        both(init(0, 8, "1"), init(1, 2, "0.0")),
        "init",
        "XMAXUP = 0.0: expected a largest weight",
    ),
    "negative weight with IDWTUP 2": (
        both(init(0, 8, "2"), column(0, 2, "-1.0")),
        "weight_sign",
        "with IDWTUP = 2",
    ),
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

NOTES: dict[str, Row] = {
    "number of events": (note("n_events", "21"), "n_events", "20 events: expected 21"),
    "number of events is no number": (note("n_events", "many"), "n_events", "expected many"),
    "Kish size": (note("kish_effective_size", "19"), "kish_effective_size", "expected 17.3"),
    "Kish size is no number": (note("kish_effective_size", "?"), "kish_effective_size", "'?'"),
    "no overweight": (note("overweight_fraction", "0"), "overweight_fraction", "= 0: expected"),
}

OVERWEIGHT: dict[str, Row] = {
    "cross section off by 1e-5": (init(1, 0, scaled(1 + 1e-5)), "cross_section", "mean of XWGTUP"),
    "a weight lost its excess": (column(0, 2, scaled(1 / 3)), "cross_section", "mean of XWGTUP"),
    "a weight lost its sign": (column(0, 2, scaled(-1.0)), "cross_section", "mean of XWGTUP"),
    "all weights twice as large": (
        both(*(column(0, 2, scaled(2), event=event) for event in range(1, 21))),
        "cross_section",
        "mean of XWGTUP",
    ),
    "IDWTUP 3": (init(0, 8, "3"), "unit_weight", "with IDWTUP = 3: expected 1"),
    "XMAXUP": (init(1, 2, "1.0"), "largest_weight", "XMAXUP = 1: expected"),
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

MADGRAPH: dict[str, Row] = {
    "momentum off by 1e-6": (column(5, 8, scaled(1 + 1e-6)), "momentum", "as much as comes in"),
    "weights in fb": (
        replaced(" +2.1145050e+02", " +2.1145050e+05", count=200),
        "cross_section",
        "mean of XWGTUP",
    ),
    "cross section off by 1e-4": (init(1, 0, scaled(1 + 1e-4)), "cross_section", "mean of XWGTUP"),
    "IDWTUP 3 and a weight that differs": (
        both(init(0, 8, "3"), column(0, 2, scaled(2.0), event=7)),
        "unit_weight",
        "expected 1, but for the sign",
    ),
    "truncated": (lambda t: t[:-1000], "document", "truncated"),
}

PYTHIA: dict[str, Row] = {
    "cross section 0": (init(1, 0, "0.0"), "init", "XSECUP = 0.0"),
    "momentum": (column(5, 7, scaled(1.001)), "momentum", "as much as comes in"),
    "charge": (column(5, 0, "-11"), "charge", "charge: as much as comes in"),
    "weight of the first event": (column(0, 2, "0.5"), "unit_weight", "weights from 0.5 to 1"),
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

WARNINGS_OF_OURS: dict[str, Row] = {
    "spin": (column(4, 12, "2.0"), "spin", "expected a helicity within"),
    "lifetime": (column(4, 11, "-1.0"), "lifetime", "expected a lifetime"),
    "scale": (column(0, 3, "0.0"), "scale", "SCALUP = 0.0"),
    "coupling": (column(0, 5, "-0.1"), "coupling", "AQEDUP, AQCDUP"),
    "version": (replaced('version="3.0"', 'version="4.0"'), "version", "version = '4.0'"),
    "incoming partons change places": (
        both(*(column(row, c, scaled(-1.0)) for row in range(1, 7) for c in (7, 8))),
        "incoming_order",
        "the first line along +z",
    ),
    "a mother after its daughters": (
        both(
            *(column(row, c, "5") for row in (4, 5) for c in (2, 3)),
            rows_in_order([1, 2, 4, 5, 3, 6]),
        ),
        "mother_order",
        "lines above its own",
    ),
}

WARNINGS_OF_MADGRAPH: dict[str, Row] = {
    "number of events": (replaced("       200", "       201"), "n_events", "expected 201"),
    "cross section": (replaced("  211.4505", "  215.0"), "cross_section", "expected 215.0 pb"),
    "weights in pb with IDWTUP 3": (init(0, 8, "3"), "unit_weight", "1 by the accord"),
}

WARNINGS_OF_MANY: dict[str, Row] = {
    "overweight fraction": (note("overweight_fraction", "0.9"), "overweight_fraction", "= 0.9"),
}

WARNINGS_OF_TOPS: dict[str, Row] = {
    "tops of two masses": (
        both(*(column(row, c, scaled(1.1), event=2) for row in range(1, 6) for c in range(6, 11))),
        "mass_spectrum",
        "line 3: mass = 190.3",
    ),
}


def _flipped(at: float) -> Callable[[bytes], bytes]:
    """Change a bit at this share of the length of a file."""

    def plant(content: bytes) -> bytes:
        damaged = bytearray(content)
        damaged[int(at * len(content))] ^= 1
        return bytes(damaged)

    return plant


COMPRESSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated in the middle": (lambda b: b[: len(b) // 2], "truncated"),
    "last byte missing": (lambda b: b[:-1], "truncated"),
    "checksum missing": (lambda b: b[:-8], "truncated"),
    "checksum changed": (lambda b: b[:-8] + b"\0\0\0\0" + b[-4:], "cannot be read"),
    "a bit flipped": (_flipped(0.6), ""),
    "garbage behind the end": (lambda b: b + b"garbage", "cannot be read"),
    "a second document": (lambda b: b + b, "junk after document element"),
    "text behind the end": (lambda b: b + gzip.compress(b"<event>"), "not well-formed XML"),
    "header of gzip alone": (lambda b: b[:10], ""),
}

CATALOGUE: dict[str, PlantedFault] = {
    **_in_text("unit", DOCUMENT | LINES | STRATEGY | PARTICLES | KINEMATICS),
    **_in_text("unit", {f"init, {name}": row for name, row in INIT.items()}),
    **_in_text("unit", {f"colour, {name}": row for name, row in COLOUR.items()}),
    **_in_text("unit", WARNINGS_OF_OURS, "warning"),
    **_in_text("overweight", OVERWEIGHT | NOTES),
    **_in_text("many", WARNINGS_OF_MANY, "warning"),
    **_in_text("varied", FURTHER_WEIGHTS),
    **_in_text("collider", COLLIDER),
    **_in_text("tops", WARNINGS_OF_TOPS, "warning"),
    **_in_text("madgraph", MADGRAPH),
    **_in_text("madgraph", WARNINGS_OF_MADGRAPH, "warning"),
    **_in_text("pythia", PYTHIA),
    **_in_text("pythia tops", DECAYS),
    **{
        f"{base}, compressed: {name}": PlantedFault(
            base=base, plant=plant, kind="document", text=text, suffix=".lhe.gz"
        )
        for base in ("unit", "madgraph")
        for name, (plant, text) in COMPRESSED.items()
    },
}
