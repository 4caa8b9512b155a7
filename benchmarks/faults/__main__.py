"""Plants faults into real runs of the command line, and checks that every promise holds.

    python -m benchmarks.faults [--only TEXT] [--repeats N] [--quick] [--json FILE]

After each fault: the exit code that is documented, one clear line on standard error, nothing under its
final name that is not whole, nothing lost that was written, the same bytes after `--resume` as without
the fault, and exit 0 only where all events are there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.faults import disks, inputs, interruptions, merging, spoilt_functions, stored
from benchmarks.faults.cases import CASES, Case
from benchmarks.faults.process import Broken
from benchmarks.faults.stage import Stage, Wholes

# Each registers its cases.
MODULES = (interruptions, spoilt_functions, disks, stored, merging, inputs)


def play(case: Case, n_repeats: int, wholes: Wholes, folder: Path, seed: int) -> dict[str, Any]:
    """Play a case several times; what came of it."""
    outcomes: Counter[str] = Counter()
    broken: list[str] = []
    started = time.monotonic()
    for i in range(n_repeats):
        stage = Stage(folder / f"{CASES.index(case)}-{i}", wholes, seed + i)
        try:
            outcomes[case.play(stage)] += 1
        except (Broken, OSError, ValueError) as error:
            what = str(error) if isinstance(error, Broken) else repr(error)
            broken.append(f"repeat {i}: {what}")
            print(f"  BROKEN {case.name}, repeat {i}, in {stage.folder}: {what}", flush=True)
        else:
            shutil.rmtree(stage.folder, ignore_errors=True)
    return {
        "name": case.name,
        "repeats": n_repeats,
        "outcomes": dict(outcomes),
        "broken": broken,
        "wall_s": round(time.monotonic() - started, 1),
    }


def shown(outcomes: dict[str, int]) -> str:
    """What came of a case, most frequent first, for a line of the table."""
    words = Counter[str]()
    for outcome, n in outcomes.items():
        words[outcome.split(": ", 1)[-1]] += n
    return "; ".join(text if n == 1 else f"{n} x {text}" for text, n in words.most_common(3))


def main() -> None:
    parser = argparse.ArgumentParser(description="Plants faults into runs of the command line.")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--repeats", type=int, help="of each case; default: its own number")
    parser.add_argument("--quick", action="store_true", help="each case once")
    parser.add_argument("--seed", type=int, default=1, help="of the random times and places")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="a new folder for what is played")
    options = parser.parse_args()
    chosen = [case for case in CASES if options.only in case.name]
    folder = options.keep or Path(tempfile.mkdtemp(prefix="mlgen-faults-"))
    rows = []
    print(f"| {'fault':70} | repeats | broken | what came of it |")
    print("| --- | --- | --- | --- |")
    try:
        wholes = Wholes(folder / "wholes")
        for case in chosen:
            repeats = 1 if options.quick else options.repeats or case.repeats
            row = play(case, repeats, wholes, folder, options.seed)
            rows.append(row)
            text = shown(row["outcomes"])
            print(f"| {case.name} | {repeats} | {len(row['broken'])} | {text} |", flush=True)
    finally:
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    n_broken = sum(len(row["broken"]) for row in rows)
    print(f"{len(rows)} kinds, {sum(row['repeats'] for row in rows)} times, {n_broken} broken")
    raise SystemExit(1 if n_broken else 0)


if __name__ == "__main__":
    main()
