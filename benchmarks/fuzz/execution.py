"""Cases in processes of their own, with limits: one that dies or hangs is noticed, and goes on."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from benchmarks.fuzz.readers import Broken, Reader
from mlgen.errors import MlgenError

LIMIT_S = 5.0
"""Going through a file for longer is to hang. CPU time, so that a busy machine matters less."""
PATIENCE = 6.0
"""How many times as long a case may take by the clock on the wall, before it is ended."""
LIMIT_BYTES = 1_000_000_000
"""Memory beyond that before the case."""
ADDRESS_SPACE = 1_500_000_000
"""The same, of addresses: the operating system refuses more."""

Verdict = Literal["refused", "read", "broken law", "other error", "too slow", "too large", "died"]
GOOD: Sequence[Verdict] = ("refused", "read")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a case ended."""

    number: int
    verdict: Verdict
    message: str = ""
    cpu_s: float = 0.0
    n_bytes: int = 0
    """Memory at its peak, beyond that before."""


def run_cases(reader: Reader, seed: int, numbers: range) -> Iterator[Outcome]:
    """Run the cases of these numbers, and say how each ended."""
    context = multiprocessing.get_context("fork")
    files = reader.good_files()
    todo = numbers
    while todo:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_work, args=(theirs, reader, files, seed, todo), daemon=True
        )
        process.start()
        theirs.close()
        done = 0
        for outcome in _watch(ours, todo):
            done += 1
            yield outcome
        process.kill()
        process.join()
        ours.close()
        todo = todo[done:]


def _watch(connection: Connection, todo: range) -> Iterator[Outcome]:
    """The outcomes that a process sends, with that of the case in which it died or hung."""
    for number in todo:
        if not connection.poll(PATIENCE * LIMIT_S):
            yield Outcome(number=number, verdict="too slow", cpu_s=PATIENCE * LIMIT_S)
            return
        try:
            outcome: Outcome = connection.recv()
        except (EOFError, OSError):
            yield Outcome(number=number, verdict="died")
            return
        yield outcome


def _work(
    connection: Connection, reader: Reader, files: Sequence[bytes], seed: int, numbers: range
) -> None:
    """Run cases in this process, and send their outcomes."""
    address_space = _pages()[0] * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (address_space + ADDRESS_SPACE,) * 2)
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            connection.send(run_case(reader, reader.case(files, seed, number), number, folder))


def run_case(reader: Reader, content: bytes, number: int, folder: str) -> Outcome:
    """Read a file of this content, in this process."""
    path = Path(folder) / reader.file
    path.write_bytes(content)
    before, start = _reset_peak(), time.process_time()
    verdict: Verdict
    message = ""
    try:
        reader.read(path)
        verdict = "read"
    except MlgenError as error:
        verdict, message = "refused", str(error)
        if "\n" in message or len(message) > 2000:
            verdict = "broken law"
            message = f"a message of {len(message)} characters: {message[:300]}"
    except Broken as error:
        verdict, message = "broken law", str(error)
    except Exception as error:
        verdict, message = "other error", f"{type(error).__name__}: {error}"
    seconds, n_bytes = time.process_time() - start, _peak() - before
    if verdict in GOOD and n_bytes > LIMIT_BYTES:
        verdict = "too large"
    if verdict in GOOD and seconds > reader.n_readings * LIMIT_S:
        verdict = "too slow"
    return Outcome(
        number=number, verdict=verdict, message=message[:500], cpu_s=seconds, n_bytes=n_bytes
    )


def _pages() -> tuple[int, int]:
    """Addresses and memory of this process."""
    first, second = Path("/proc/self/statm").read_text().split()[:2]
    return int(first), int(second)


def _reset_peak() -> int:
    """Forget the peak of this process's memory; what it has now, in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _pages()[1] * resource.getpagesize()


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
