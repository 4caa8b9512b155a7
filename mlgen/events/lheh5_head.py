"""What an LHEH5 file says before its events, as the head of a Les Houches file would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from isal import isal_zlib

from mlgen.core import Variation
from mlgen.errors import EventFileError
from mlgen.events.lhe_numbers import MAX_WHOLE, exact_sum
from mlgen.events.lhe_scan import LheHead, LheScanner
from mlgen.events.lheh5_datasets import UntrustedFile, check_sum, rows
from mlgen.events.lheh5_layout import INIT_COLUMNS, PROCESS_COLUMNS, UNIT_WEIGHTS_FLAG
from mlgen.events.writing import UNIT_WEIGHTS

MAX_PROCESSES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Lheh5Head:
    """A head, and what one weight stands for."""

    lhe: LheHead
    """With IDWTUP = +3 and XMAXUP = 1 where the weights stand for 1."""
    unit_pb: float | None
    """The weight in the file that stands for 1, in pb; None where weights are what they are."""
    checksums: dict[str, int]
    """The CRC-32 of the rows of tables of events; empty in the files of others."""


def read_head(file: UntrustedFile, weight_names: Sequence[str]) -> Lheh5Head:
    """The head of an open file whose events have these further weights.

    Raises:
        EventFileError: tables are missing or damaged, or the header declares other weights.
    """
    path = file.path
    init = file.table("init", n_dim=1)
    init_row = rows(init, 0, init.shape[0])
    numbers = dict(zip(file.column_names(init, INIT_COLUMNS), init_row.tolist(), strict=True))
    processes = file.table("procInfo")
    if not 0 < len(processes) <= MAX_PROCESSES:
        raise EventFileError(
            f"{path}: procInfo: {len(processes)} rows: expected 1 to {MAX_PROCESSES}"
        )
    names = file.column_names(processes, PROCESS_COLUMNS)
    process_rows = rows(processes, 0, len(processes))
    found = [dict(zip(names, row, strict=True)) for row in process_rows.tolist()]
    checksums = file.declared_checksums(processes)
    for name, content in {"init": init_row, "procInfo": process_rows}.items():
        if name in checksums:
            check_sum(path, name, isal_zlib.crc32(content), checksums.pop(name))
    unit_pb = None
    if UNIT_WEIGHTS_FLAG in init.attrs:
        unit_pb = exact_sum(process.get("xSection", 0.0) for process in found)
        numbers["weightingStrategy"] = UNIT_WEIGHTS
        for process in found:
            process["unitWeight"] = 1.0
    lines = [_init_line(path, numbers, len(found))]
    lines += [_process_line(path, process) for process in found]
    header = file.text("xml/header")
    head = _scanned(path, header, lines, weight_names)
    return Lheh5Head(lhe=head, unit_pb=unit_pb, checksums=checksums)


def _init_line(path: Path, numbers: dict[str, float], n_processes: int) -> str:
    words = []
    for name in INIT_COLUMNS[:-1]:
        if name.startswith("energy"):
            words.append(repr(numbers.get(name, 0.0)))
        else:
            words.append(_whole(path, name, numbers.get(name, 0.0)))
    return " ".join([*words, str(n_processes)])


def _process_line(path: Path, numbers: dict[str, float]) -> str:
    floats = [repr(numbers.get(name, 0.0)) for name in ("xSection", "error", "unitWeight")]
    return " ".join([*floats, _whole(path, "procId", numbers.get("procId", 0.0))])


def _whole(path: Path, name: str, number: float) -> str:
    if not (abs(number) <= MAX_WHOLE and number == math.floor(number)):
        raise EventFileError(f"{path}: {name} = {number}: expected a whole number")
    return str(int(number))


def _scanned(
    path: Path, header: str, init_lines: Sequence[str], weight_names: Sequence[str]
) -> LheHead:
    """The head that the same text gives in a Les Houches file."""
    init = "\n".join(["<init>", *init_lines, "</init>"])
    whole = f'<LesHouchesEvents version="3.0">\n{header}\n{init}\n</LesHouchesEvents>\n'
    with LheScanner(path, BytesIO(whole.encode())) as scanner:
        head = scanner.head
    declared = {variation.name: variation for variation in head.variations}
    if not header:
        declared = {name: Variation(name=name, group="") for name in weight_names}
    if set(declared) != set(weight_names) or len(weight_names) != len(head.variations or declared):
        raise EventFileError(
            f"{path}: further weights {list(weight_names)}: expected {list(declared)}, as the "
            f"header declares"
        )
    return replace(head, variations=tuple(declared[name] for name in weight_names))
