"""Colour in event records: who carries it, and whether its lines close."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mlgen.events.check_findings import Fault
from mlgen.events.check_view import View

LARGEST_QUARK = 8
GLUON = 21
IS_COLOURLESS = np.zeros(64, dtype=np.bool_)
"""By |IDUP|: leptons, the other gauge bosons and Higgs bosons, also of extended models."""
IS_COLOURLESS[[*range(11, 19), *range(22, 26), *range(32, 38)]] = True

TAG_BITS = 31

Ends = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Ends of colour lines: the vertex and the tag of each, both (k,)."""


def colour_faults(view: View) -> Iterator[Fault]:
    """Colour on the wrong particles, and lines that do not close."""
    yield _carrier_fault(view)
    yield _lines_fault(view)
    if len(view.decays.mother):
        yield _decay_lines_fault(view)


def _carrier_fault(view: View) -> Fault:
    """A quark has a line, an antiquark an anti-line, a gluon both, and they differ."""
    lines, antilines = view.colour[..., 0], view.colour[..., 1]
    size = np.abs(view.pdg_id)
    is_quark = (size >= 1) & (size <= LARGEST_QUARK)
    is_particle = view.pdg_id > 0
    own = np.where(is_particle, lines, antilines)
    other = np.where(is_particle, antilines, lines)
    wrong = is_quark & ((own <= 0) | (other != 0))
    wrong |= (view.pdg_id == GLUON) & ((lines <= 0) | (antilines <= 0) | (lines == antilines))
    is_colourless = IS_COLOURLESS[np.minimum(size, len(IS_COLOURLESS) - 1)]
    wrong |= is_colourless & ((lines != 0) | (antilines != 0))
    return view.row_fault(
        "colour_carriers",
        "error",
        "the colours of such a particle (quark, gluon or neither)",
        view.is_row & wrong,
        "colour",
    )


def _lines_fault(view: View) -> Fault:
    """Each line of the whole event begins once and ends once."""
    n_max = view.status.shape[1]
    (into,) = np.nonzero(view.is_incoming.reshape(-1))
    (out,) = np.nonzero(view.is_outgoing.reshape(-1))
    mask = np.zeros(len(view.info), dtype=np.bool_)
    mask[_open_vertices(view, (into // n_max, into), (out // n_max, out))] = True

    def got(event: int) -> str:
        legs = (view.is_incoming | view.is_outgoing)[event]
        return f"ICOLUP = {view.colour[event][legs].tolist()}"

    return Fault("colour_lines", "error", "colour lines that each begin and end once", mask, got)


def _decay_lines_fault(view: View) -> Fault:
    """The lines that enter a decay leave it, and those that begin in it end there."""
    decays = view.decays
    (mothers,) = np.nonzero(decays.has_daughters.reshape(-1))
    flat = np.zeros(view.status.size, dtype=np.bool_)
    flat[_open_vertices(view, (mothers, mothers), (decays.mother, decays.daughter))] = True
    mask = flat.reshape(view.status.shape)
    expected = "colour lines that close in a resonance's decay"
    return view.row_fault("decay_colour_lines", "error", expected, mask, "colour")


def _open_vertices(view: View, into: Ends, out: Ends) -> NDArray[np.int64]:
    """The vertices at which the colour lines do not close; some twice.

    Args:
        view: n events with up to n_max particles.
        into: the vertex and the row, among the n n_max rows, of what enters a vertex.
        out: the same of what leaves one.
    """
    lines, antilines = (_tags(view)[..., side].reshape(-1) for side in (0, 1))
    ends = _keys((out[0], lines[out[1]]), (into[0], antilines[into[1]]))
    begins = _keys((out[0], antilines[out[1]]), (into[0], lines[into[1]]))
    if np.array_equal(ends, begins) and bool((ends[1:] > ends[:-1]).all()):
        return np.empty(0, dtype=np.int64)
    is_open = [
        np.setxor1d(ends, begins),
        *(keys[1:][keys[1:] == keys[:-1]] for keys in (ends, begins)),
    ]
    return np.concatenate(is_open) >> TAG_BITS


def _tags(view: View) -> NDArray[np.int64]:
    """The tags (n, n_max, 2), or numbers in their place that fit into TAG_BITS, 0 for none."""
    if not bool(((view.colour < 0) | (view.colour >> TAG_BITS != 0)).any()):
        return view.colour
    _, rank = np.unique(view.colour, return_inverse=True)
    return np.where(view.colour == 0, 0, rank.reshape(view.colour.shape) + 1)


def _keys(one: Ends, other: Ends) -> NDArray[np.int64]:
    """One number for each vertex and tag, in order; ends without a line are left out."""
    vertex, tag = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    is_line = tag != 0
    keys: NDArray[np.int64] = np.sort((vertex[is_line] << TAG_BITS) | tag[is_line])
    return keys
