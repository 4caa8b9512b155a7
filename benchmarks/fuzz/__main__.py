"""Damaged files of all kinds, read: each is refused in one line, or read as it should be.

    python -m benchmarks.fuzz [--cases N] [--seed S] [--reader NAME ...] [--save FOLDER] [--json FILE]

Runs in processes whose memory is limited; inputs that broke something are saved. The exit code is 1
where there are any.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from benchmarks.fuzz.execution import GOOD, Outcome, run_cases
from benchmarks.fuzz.readers import READERS, Reader

SHOWN = 10
"""Faults of a reader that are printed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """How the cases of a reader ended."""

    reader: str
    n_cases: int
    verdicts: dict[str, int]
    worst_cpu_s: float
    peak_bytes: int
    faults: tuple[Outcome, ...]

    @classmethod
    def of(cls, reader: Reader, outcomes: Iterator[Outcome]) -> Tally:
        found = list(outcomes)
        return cls(
            reader=reader.name,
            n_cases=len(found),
            verdicts=dict(Counter(outcome.verdict for outcome in found)),
            worst_cpu_s=max(outcome.cpu_s for outcome in found),
            peak_bytes=max(outcome.n_bytes for outcome in found),
            faults=tuple(outcome for outcome in found if outcome.verdict not in GOOD),
        )


def save(reader: Reader, seed: int, faults: tuple[Outcome, ...], folder: Path) -> None:
    """Write the inputs that broke something."""
    folder.mkdir(parents=True, exist_ok=True)
    files = reader.good_files()
    for outcome in faults:
        name = f"{reader.name}-{seed}-{outcome.number}-{reader.file}"
        (folder / name).write_bytes(reader.case(files, seed, outcome.number))


def report(tally: Tally) -> None:
    refused, read = (tally.verdicts.get(verdict, 0) for verdict in GOOD)
    print(
        f"| {tally.reader} | {tally.n_cases:,} | {refused:,} | {read:,} | {len(tally.faults)} "
        f"| {tally.worst_cpu_s:.2f} | {tally.peak_bytes / 1e6:.0f} |",
        flush=True,
    )
    for outcome in islice(tally.faults, SHOWN):
        print(f"{tally.reader} {outcome.number}: {outcome.verdict}: {outcome.message}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged files of all kinds, read.")
    parser.add_argument("--cases", type=int, default=1000, help="of each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--reader", action="append", help="only this one; all by default")
    parser.add_argument("--save", type=Path, help="folder for inputs that broke something")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [r for r in READERS if options.reader is None or r.name in options.reader]
    numbers = range(options.first, options.first + options.cases)

    start = time.monotonic()
    tallies = []
    print("| reader | cases | refused | read | faults | worst CPU s | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for reader in chosen:
        tallies.append(Tally.of(reader, run_cases(reader, options.seed, numbers)))
        report(tallies[-1])
        if options.save and tallies[-1].faults:
            save(reader, options.seed, tallies[-1].faults, options.save)
    print(f"{time.monotonic() - start:.0f} s, seed {options.seed}")
    if options.json:
        table = {
            "seed": options.seed,
            "first": options.first,
            "readers": [
                {
                    "reader": tally.reader,
                    "n_cases": tally.n_cases,
                    "verdicts": tally.verdicts,
                    "worst_cpu_s": tally.worst_cpu_s,
                    "peak_bytes": tally.peak_bytes,
                }
                for tally in tallies
            ],
        }
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return int(any(tally.faults for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
