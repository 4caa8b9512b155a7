"""Reading an HDF5 file in another process first, where it may run or grow without bounds, or die.

HDF5 files of before 2010's format, which most programs still write, have no checksums, and HDF5 2.0
searches damaged ones for ever or asks for all of the memory.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from mlgen.errors import EventFileError

MEMORY_BYTES = 1 << 30
"""For the process and its libraries."""
CPU_SECONDS = 5
BYTES_PER_SECOND = 20_000_000
"""What a process reads at least, beyond the first CPU_SECONDS."""
ROWS_AT_ONCE = 1024

REFUSED = 7
"""Exit code of the process that could read on, but should not; its message is on its output."""


def rehearse(path: Path) -> None:
    """Have another process read what a reader of LHEH5 reads of a file.

    Raises:
        EventFileError: that process could not.
    """
    code = "from mlgen.events.lheh5_rehearsal import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == REFUSED:
        raise EventFileError(done.stdout.strip())
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EventFileError(
            f"{path}: damaged: HDF5 could not read it within {MEMORY_BYTES >> 20} MiB and "
            f"{_cpu_seconds(path)} s ({reason})"
        )


def main() -> None:
    """What the other process does."""
    from mlgen.events.lheh5_datasets import UntrustedFile, reporting

    path = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_cpu_seconds(path),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with reporting(path):
            file = UntrustedFile(path, is_rehearsal=True)
            file.text("xml/header")
            for name, n_dim in {"events": 2, "particles": 2, "init": 1, "procInfo": 2}.items():
                table = file.table(name, n_dim)
                file.check_is_filled(table)
                file.column_names(table, ())
                file.declared_checksums(table)
                for first in range(0, len(table), ROWS_AT_ONCE):
                    table[first : first + ROWS_AT_ONCE]
            file.close()
    except EventFileError as error:
        print(error)
        sys.exit(REFUSED)


def _cpu_seconds(path: Path) -> int:
    return CPU_SECONDS + path.stat().st_size // BYTES_PER_SECOND
