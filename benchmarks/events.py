"""Events a CPU-second written to and read from event files, beside pylhe.

    python benchmarks/events.py [--events N] [--json FILE]

g g > t t~ g g, six particles with flat momenta and random helicities and colour flows, unweighted; the
same with nine further weights. Writing begins with an `EventBatch` and ends with a file that is on the
disk under its name, reading ends with an `EventBatch`. pylhe writes its own objects, which are made
before, with its 9 digits; its reading ends with its objects.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pylhe
import torch

from mlgen.core import BeamInfo, EventBatch, SampleInfo, Variation
from mlgen.events.formats import open_reader, read_events, write_events
from mlgen.events.lhe_writer import LheEncoder
from mlgen.events.writing import in_pieces

FORMATS = ("lhe", "lhe.gz", "lheh5")
FLOWS = (
    ((501, 502), (502, 503), (501, 0), (0, 504), (505, 503), (504, 505)),
    ((501, 502), (503, 501), (503, 0), (0, 504), (505, 502), (504, 505)),
    ((501, 502), (503, 504), (503, 0), (0, 502), (501, 505), (505, 504)),
)
N_REPEATS = 5
PYLHE_EVENTS = 5000
INFO = SampleInfo(
    beams=(
        BeamInfo(pdg_id=2212, energy_gev=6500.0, pdf_id=247000),
        BeamInfo(pdg_id=2212, energy_gev=6500.0, pdf_id=247000),
    ),
    cross_section_pb=325.11,
    cross_section_error_pb=0.19,
    weighted=False,
    process="g g > t t~ g g",
    card="",
)
VARIATIONS = tuple(Variation(name=f"MUR={i}__MUF=1__LHAPDF=247000", group="s") for i in range(9))


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Events a CPU-second with one format."""

    what: str
    write: float
    read: float
    bytes_per_event: float


def main() -> None:
    """Print a row for each format, and write all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    events = sample(options.events)
    ratios = 1 + 0.2 * torch.rand(len(events), len(VARIATIONS), dtype=torch.float64)
    varied = replace(events, variations=ratios)
    with TemporaryDirectory() as folder:
        rows = [measured(Path(folder), suffix, events, INFO) for suffix in FORMATS]
        rows += [
            measured(Path(folder), suffix, varied, replace(INFO, variations=VARIATIONS))
            for suffix in FORMATS
        ]
        rows += pylhe_rows(Path(folder), events.select(slice(0, PYLHE_EVENTS)))
    print(f"{'':32} {'write':>9} {'read':>9} {'bytes an event':>15}")
    for row in rows:
        print(f"{row.what:32} {row.write:9.3g} {row.read:9.3g} {row.bytes_per_event:15.0f}")
    pieces = list(in_pieces([events]))
    encoding = {}
    for suffix in ("lhe", "lhe.gz"):
        encode = LheEncoder(factor=1.0, compress=suffix == "lhe.gz")
        encoding[suffix] = len(events) / best(partial(encoded, encode, pieces))
    print("encoded alone: " + ", ".join(f"{key} {value:.3g}" for key, value in encoding.items()))
    if options.json:
        found = {"rows": [asdict(row) for row in rows]}
        text = json.dumps(found | {"encoded": encoding}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")


def sample(n_events: int) -> EventBatch:
    """Events of g g > t t~ g g as the writers see them."""
    rng = torch.Generator().manual_seed(1)
    shape = (n_events, 6)
    momenta = 300 * torch.randn(*shape, 4, generator=rng, dtype=torch.float64)
    momenta[:, :2, 1:3] = 0.0
    mass = torch.tensor([0, 0, 173, 173, 0, 0], dtype=torch.float64).expand(shape)
    flow = torch.randint(len(FLOWS), (n_events,), generator=rng)
    flat = torch.ones(n_events, dtype=torch.float64)
    return EventBatch(
        pdg_id=torch.tensor([21, 21, 6, -6, 21, 21]).expand(shape),
        status=torch.tensor([-1, -1, 1, 1, 1, 1]).expand(shape),
        mothers=torch.tensor([[0, 0]] * 2 + [[1, 2]] * 4).expand(*shape, 2),
        colour=torch.tensor(FLOWS)[flow],
        momenta=momenta,
        mass=mass,
        spin=2.0 * torch.randint(2, shape, generator=rng).double() - 1,
        weight=flat,
        scale=300 * torch.rand(n_events, generator=rng, dtype=torch.float64),
        alpha_em=0.0075 * flat,
        alpha_s=0.1 + 0.02 * torch.rand(n_events, generator=rng, dtype=torch.float64),
    )


def measured(folder: Path, suffix: str, events: EventBatch, info: SampleInfo) -> Row:
    """A format with these events."""
    path = folder / f"events.{suffix}"
    written = best(lambda: write_events(path, [events], info))
    read = best(lambda: read_events(path))
    with open_reader(path) as reader:
        assert sum(map(len, reader)) == len(events)
    n_weights = f", {len(info.variations)} weights" if info.variations else ""
    return Row(
        what=f".{suffix}{n_weights}",
        write=len(events) / written,
        read=len(events) / read,
        bytes_per_event=path.stat().st_size / len(events),
    )


def pylhe_rows(folder: Path, events: EventBatch) -> list[Row]:
    """pylhe with its defaults."""
    source = folder / "source.lhe"
    write_events(source, [events], INFO)
    held = pylhe.LHEFile.fromfile(source, generator=False)
    rows = []
    for suffix in FORMATS:
        path = folder / f"pylhe.{suffix}"
        written = best(partial(held.tofile, path), 2)
        read = best(partial(pylhe.LHEFile.fromfile, path, generator=False), 2)
        rows.append(
            Row(
                what=f"pylhe, .{suffix}",
                write=len(events) / written,
                read=len(events) / read,
                bytes_per_event=path.stat().st_size / len(events),
            )
        )
    return rows


def encoded(encode: LheEncoder, pieces: list[EventBatch]) -> list[bytes]:
    """The pieces of a file, in memory."""
    return [encode(piece) for piece in pieces]


def best(work: Callable[[], object], n_repeats: int = N_REPEATS) -> float:
    """The least CPU seconds of several repeats."""
    seconds = []
    for _ in range(n_repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
