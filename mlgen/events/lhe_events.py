"""The text of events as it stands in a Les Houches file.

What repeats from event to event, the whole numbers and helicities of its particles, is formatted
once for each pattern of them; orjson formats the other numbers, each as the shortest text that is
read back to the same bits. pylhe 2.1.0's objects, or Python's own formatting, would be the bottleneck
(see benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from xml.sax.saxutils import quoteattr

import numpy as np
import orjson
from numpy.typing import NDArray

from mlgen.core import EventBatch
from mlgen.events.lhe_text import PROCESS_ID

N_REPEATING = 7
"""IDUP ISTUP MOTHUP(2) ICOLUP(2) of a particle as int64, and the bits of its SPINUP."""
N_PATTERNS_KEPT = 1 << 14

Floats = NDArray[np.float64]


def events_text(events: EventBatch, factor: float, weight_names: Sequence[str] = ()) -> bytes:
    """The text of some events.

    Args:
        events: finite numbers alone.
        factor: XWGTUP over the weight of an event.
        weight_names: those of the further weights of each event.
    """
    is_row = events.pdg_id.numpy(force=True) != 0
    frames = [_frame(pattern) for pattern in _patterns(events)]
    lines = np.empty(sum(map(len, frames)), dtype=object)
    ends = np.cumsum(is_row.sum(1) + 2)
    starts = np.concatenate([[0], ends[:-1]])
    is_particle = np.ones(len(lines), dtype=bool)
    is_particle[starts] = False
    is_particle[ends - 1] = False
    lines[starts] = _rows(_event_numbers(events, factor))
    lines[is_particle] = _rows(_particle_numbers(events)[is_row])
    lines[ends - 1] = _closings(factor * events.variations.numpy(force=True), weight_names)
    text: list[bytes] = [b""] * (2 * len(lines))
    text[0::2] = chain.from_iterable(frames)
    text[1::2] = lines.tolist()
    return b"".join(text)


def _patterns(events: EventBatch) -> list[bytes]:
    """What repeats of each event: the bytes of (n_max, N_REPEATING)."""
    n_events, n_max = events.pdg_id.shape
    columns = np.empty((n_events, n_max, N_REPEATING), dtype=np.int64)
    columns[..., 0] = events.pdg_id.numpy(force=True)
    columns[..., 1] = events.status.numpy(force=True)
    columns[..., 2:4] = events.mothers.numpy(force=True)
    columns[..., 4:6] = events.colour.numpy(force=True)
    columns[..., 6] = np.ascontiguousarray(events.spin.numpy(force=True)).view(np.int64)
    content, size = columns.tobytes(), n_max * N_REPEATING * 8
    return [content[start : start + size] for start in range(0, n_events * size, size)]


@lru_cache(maxsize=N_PATTERNS_KEPT)
def _frame(pattern: bytes) -> tuple[bytes, ...]:
    """What stands before the numbers of the event, of each particle, and before the closing."""
    columns = np.frombuffer(pattern, dtype=np.int64).reshape(-1, N_REPEATING)
    columns = columns[columns[:, 0] != 0]
    spins = columns[:, 6].copy().view(np.float64).tolist()
    before = [" ".join(map(str, whole)) + " " for whole in columns[:, :6].tolist()]
    # PUP is followed by VTIMUP, the lifetime, and SPINUP.
    after = ["\n", *(f" 0.0 {spin!r}\n" for spin in spins)]
    texts = [f"<event>\n{len(spins)} {PROCESS_ID} "]
    texts += [end + start for end, start in zip(after, [*before, ""], strict=True)]
    return tuple(text.encode() for text in texts)


def _event_numbers(events: EventBatch, factor: float) -> Floats:
    """XWGTUP SCALUP AQEDUP AQCDUP, (n, 4)."""
    columns = (events.weight, events.scale, events.alpha_em, events.alpha_s)
    numbers = np.stack([column.numpy(force=True) for column in columns], axis=1)
    numbers[:, 0] *= factor
    return numbers


def _particle_numbers(events: EventBatch) -> Floats:
    """PUP: px py pz E m, (n, n_max, 5)."""
    momenta = events.momenta.numpy(force=True)
    numbers = np.empty((*momenta.shape[:2], 5))
    numbers[..., :3] = momenta[..., 1:]
    numbers[..., 3] = momenta[..., 0]
    numbers[..., 4] = events.mass.numpy(force=True)
    return numbers


def _rows(numbers: Floats) -> list[bytes]:
    """The text of each row of numbers (n, k), with spaces between them."""
    if not len(numbers):
        return []
    text = orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[2:-2].replace(b",", b" ").split(b"] [")


def _closings(weights: Floats, names: Sequence[str]) -> list[bytes]:
    """What ends each event, with the further weights (n, n_weights) in `<rwgt>`."""
    if not names:
        return [b"</event>\n"] * len(weights)
    # The names take the place of the text between two numbers, row by row.
    before = [f"<wgt id={quoteattr(name)}>".replace("%", "%%").encode() for name in names]
    row = b"</wgt>\n".join(opening + b"%b" for opening in before)
    form = b"<rwgt>\n" + row + b"</wgt>\n</rwgt>\n</event>\n"
    n_weights = len(names)
    numbers = b" ".join(_rows(weights)).split(b" ")
    return [
        form % tuple(numbers[start : start + n_weights])
        for start in range(0, len(numbers), n_weights)
    ]
