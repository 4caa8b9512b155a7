"""What worker processes gain, and what memory a large sample takes.

    python benchmarks/workers.py [--card pp_to_eej] [--events 1000000 ...] [--workers 1 2]
        [--set SECTION.KEY=VALUE ...] [--format lhe.gz] [--folder DIR] [--json FILE]

Trains a pack once, then makes events from it by `mlgen generate`, each in a fresh interpreter, and
compares their files. Times are wall-clock from start to end of the process, imports included; the
peak memory is that of the largest process, resident, as the system counts it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mlgen
from mlgen.campaign.whole_files import checksum
from mlgen.card_files import find_card, read_card

LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One sample."""

    n_events: int
    n_workers: int
    wall_s: float
    cpu_s: float
    parent_mib: float
    """Peak resident memory of the process that was called."""
    worker_mib: float
    """That of the largest of its workers; 0 where there are none."""
    sha256: str

    @property
    def rate(self) -> float:
        """Events per second of wall-clock time."""
        return self.n_events / self.wall_s


def peak_mib(pid: int) -> float:
    """The peak resident memory of a process; 0 where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def generate(pack: Path, n_events: int, n_workers: int, format: str, folder: Path) -> Measured:
    """Make a sample, and watch what it takes."""
    main = [sys.executable, "-c", "from mlgen.cli import main; main()", "generate"]
    options = ["-n", str(n_events), "--workers", str(n_workers), "--format", format]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*main, str(pack), "-o", str(folder), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    parent = worker = 0.0
    while process.poll() is None:
        parent = max(parent, peak_mib(process.pid))
        worker = max([worker, *map(peak_mib, children(process.pid))])
        time.sleep(LOOK_S)
    wall_s = time.perf_counter() - started
    if process.returncode:
        assert process.stderr is not None
        raise SystemExit(process.stderr.read())
    record = json.loads((folder / "run.json").read_text())
    events = folder / f"events.{format}"
    found = Measured(
        n_events=n_events,
        n_workers=n_workers,
        wall_s=wall_s,
        cpu_s=sum(record["cpu_s"].values()),
        parent_mib=parent,
        worker_mib=worker,
        sha256=checksum(events),
    )
    events.unlink()
    return found


def show(found: Sequence[Measured]) -> None:
    print(
        f"{'events':>10} {'workers':>7} {'wall s':>8} {'CPU s':>8} {'events/s':>9} {'gain':>6}",
        end="",
    )
    print(f" {'MiB':>6} {'MiB a worker':>12}  sha256")
    for one in found:
        alone = [x for x in found if (x.n_events, x.n_workers) == (one.n_events, 1)]
        gain = f"{one.rate / alone[0].rate:6.2f}" if alone else f"{'':6}"
        print(
            f"{one.n_events:10,} {one.n_workers:7} {one.wall_s:8.1f} {one.cpu_s:8.1f} {one.rate:9,.0f} "
            f"{gain} {one.parent_mib:6.0f} {one.worker_mib:12.0f}  {one.sha256[:12]}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--card", default="pp_to_eej")
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--format", default="lhe.gz")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--folder", type=Path, help="where the samples are made; a temporary one")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as temporary:
        pack = Path(temporary) / f"{chosen.card}.mlgen.zip"
        card = read_card(find_card(chosen.card), chosen.set)
        mlgen.train(card, pack, n_events=max(chosen.events))
        found = [
            generate(pack, n_events, n, chosen.format, Path(temporary) / f"{n_events}-{n}")
            for n_events in chosen.events
            for n in chosen.workers
        ]
    show(found)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
