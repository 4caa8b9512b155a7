"""The head of a Les Houches event file.

It is formatted here: importing pylhe 2.1.0 for it takes 0.6 s, as long as writing 1e5 events; it
brings awkward, vector and sympy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import mlgen
from mlgen.core import SampleInfo, Variation
from mlgen.errors import EventFileError
from mlgen.events.writing import FileWeights

PROCESS_ID = 1
"""LPRUP, the same for all events."""

CLOSING_TAG = b"</LesHouchesEvents>\n"
END_OF_EVENT = b"</event>\n"

WRITERS_NOTES = ("n_events", "kish_effective_size")
"""Notes that a file states of its events, before those of `SampleInfo.notes`."""
OWN_ELEMENTS = ("mlgen_process", "mlgen_card", "mlgen_notes", "initrwgt")
"""Elements of the header that are no `SampleInfo.blocks`."""
NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TAG = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


def head_text(info: SampleInfo, weights: FileWeights) -> str:
    """The file up to its first event.

    Raises:
        EventFileError: see `header_text`.
    """
    header, init = header_text(info, weights), _init_text(info, weights)
    return f'<LesHouchesEvents version="3.0">\n{header}\n{init}\n'


def header_text(info: SampleInfo, weights: FileWeights) -> str:
    """The `<header>`.

    Raises:
        EventFileError: a note is not one line, or notes, variations or blocks share a name.
    """
    own = (str(weights.n_events), f"{weights.kish_effective_size:.9g}")
    notes = [*zip(WRITERS_NOTES, own, strict=True), *info.notes]
    for key, value in notes:
        if not key or " = " in key or len(f"{key}{value}".splitlines()) > 1:
            raise EventFileError(f"notes.{key} = {value!r}: expected one line")
    if len({key for key, _ in notes}) < len(notes):
        raise EventFileError(
            f"notes = {info.notes}: expected keys that differ, {' and '.join(WRITERS_NOTES)} apart"
        )
    texts = {
        "mlgen_process": info.process,
        "mlgen_card": info.card and f"\n{info.card}\n",
        "mlgen_notes": "".join(f"\n{key} = {value}" for key, value in notes) + "\n",
    }
    header = ElementTree.Element("header")
    for tag, text in texts.items():
        if text:
            ElementTree.SubElement(header, tag).text = text
    for tag, text in _checked_blocks(info):
        ElementTree.SubElement(header, tag).text = text
    if info.variations:
        header.append(_declared(info.variations))
    ElementTree.indent(header)
    text = ElementTree.tostring(header, encoding="unicode")
    if found := NOT_IN_XML.search(text):
        raise EventFileError(f"header: character {found[0]!r}: not well-formed XML")
    # XML reads a bare carriage return as a line feed.
    return text.replace("\r", "&#13;")


def _checked_blocks(info: SampleInfo) -> tuple[tuple[str, str], ...]:
    tags = [tag for tag, _ in info.blocks]
    for tag in tags:
        if not TAG.fullmatch(tag) or tag in OWN_ELEMENTS or tags.count(tag) > 1:
            raise EventFileError(f"blocks.{tag}: expected a tag of its own")
    return info.blocks


def _init_text(info: SampleInfo, weights: FileWeights) -> str:
    """The init block, floats as the shortest text that is read back to the same bits."""
    one, other = info.beams
    energies = f"{float(one.energy_gev)!r} {float(other.energy_gev)!r}"
    # Since LHAPDF 5 the number of a set says it all, and the group is 0.
    densities = f"0 0 {one.pdf_id} {other.pdf_id}"
    cross_section = f"{float(info.cross_section_pb)!r} {float(info.cross_section_error_pb)!r}"
    lines = [
        "<init>",
        f"{one.pdg_id} {other.pdg_id} {energies} {densities} {weights.strategy} 1",
        f"{cross_section} {weights.largest!r} {PROCESS_ID}",
        f'<generator name="mlgen" version={quoteattr(mlgen.__version__)}></generator>',
        "</init>",
    ]
    return "\n".join(lines)


def _declared(variations: Sequence[Variation]) -> ElementTree.Element:
    """The further weights of the events, in groups; attributes are named as MadGraph names them."""
    names = [variation.name for variation in variations]
    if len(set(names)) < len(names) or not all(names):
        raise EventFileError(f"variations = {names}: expected names that differ")
    declared = ElementTree.Element("initrwgt")
    for group, members in groupby(variations, key=lambda variation: variation.group):
        parent = ElementTree.SubElement(declared, "weightgroup", name=group) if group else declared
        for member in members:
            _declare(parent, member)
    return declared


def _declare(parent: ElementTree.Element, variation: Variation) -> None:
    mu_r, mu_f = repr(variation.mu_r_factor), repr(variation.mu_f_factor)
    attributes = {"MUR": mu_r, "MUF": mu_f}
    if variation.pdf_id:
        attributes["PDF"] = str(variation.pdf_id)
    weight = ElementTree.SubElement(parent, "weight", attributes, id=variation.name)
    # Pythia 8.317 looks for the scales in the text, spelt like this.
    weight.text = f"muR={mu_r} muF={mu_f}"
