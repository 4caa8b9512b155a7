"""Faults of whole files, of their heads and of their weights: see `event_faults`."""

from __future__ import annotations

from tests.events.event_faults import Row
from tests.events.planting import (
    block,
    both,
    column,
    entity_bomb,
    event_twice,
    init,
    note,
    replaced,
    rows_in_order,
    scaled,
    without_event,
)

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

WARNINGS_OF_COLLIDER: dict[str, Row] = {
    "weights in pb that are all equal": (
        both(
            init(0, 8, "-4"),
            init(1, 2, "0.4"),
            *(column(0, 2, "0.4", event=event) for event in (1, 2, 3)),
        ),
        "weighting_strategy",
        "all weights are equal: expected 3",
    ),
}
