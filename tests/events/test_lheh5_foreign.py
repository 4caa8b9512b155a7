from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pylhe
import pytest
import torch
from pylhe import lheh5

from mlgen.core import EventBatch, SampleInfo
from mlgen.errors import EventFileError
from mlgen.events.formats import open_reader, read_events, write_events
from mlgen.events.lheh5_reader import Lheh5Reader
from tests.events.samples import same_bits
from tests.events.varied import VARIATIONS, varied

PLAIN = pylhe.LHEHDF5Format(event_chunk_rows=16, particle_chunk_rows=64)
COMPRESSED = pylhe.LHEHDF5Format(
    compression="gzip", compression_opts=4, shuffle=True, event_chunk_rows=16
)


def ours(path: Path) -> tuple[SampleInfo, EventBatch]:
    """A file of 40 events with further weights, and what it holds."""
    info, events = varied(40, [3.0])
    write_events(path, [events], info)
    return read_events(path)


def by_pylhe(path: Path, layout: pylhe.LHEHDF5Format = PLAIN) -> tuple[SampleInfo, EventBatch]:
    """The same in a file that pylhe wrote."""
    sample = ours(path.with_suffix(".lheh5"))
    with h5py.File(path, "w") as file:
        lheh5.write(pylhe.LHEFile.fromfile(path.with_suffix(".lheh5")), file, layout)
    return sample


@pytest.mark.parametrize("layout", [PLAIN, COMPRESSED], ids=["plain", "compressed"])
def test_a_file_of_pylhe_gives_the_same_events(tmp_path: Path, layout: pylhe.LHEHDF5Format) -> None:
    info, events = by_pylhe(tmp_path / "events.h5", layout)
    info_back, events_back = read_events(tmp_path / "events.h5")
    assert same_bits(events_back, events) == []
    assert info_back == info


def sherpas(path: Path, n_max: int = 8) -> tuple[SampleInfo, EventBatch]:
    """As Sherpa writes: rows of zeros after the particles, columns under the name of the table, no
    header, and events without particles that count trials which failed."""
    info, events = ours(path.with_suffix(".lheh5"))
    with h5py.File(path.with_suffix(".lheh5")) as file, h5py.File(path, "w") as other:
        table, particles = file["events"][:], file["particles"][:]
        padded = np.zeros((2 * len(table), n_max, 13))
        rows = np.zeros((2 * len(table), 10))
        rows[1::2] = table[:, :10]
        for i, row in enumerate(table):
            first, n = int(row[2]), int(row[1])
            padded[2 * i + 1, :n] = particles[first : first + n]
        rows[:, 2] = np.arange(len(rows)) * n_max
        rows[::2, 1] = n_max
        rows[:, 3] = 2.0
        names = [name.decode() for name in file["events"].attrs["properties"]][:10]
        names[9] = "Weight"
        other["events"], other["particles"] = rows, padded.reshape(-1, 13)
        other["events"].attrs["events"] = names
        for name in ("init", "procInfo", "version"):
            other[name] = file[name][:]
    empty = replace(info, process="", card="", notes=(), variations=())
    return empty, replace(events, variations=torch.empty(0, 0, dtype=torch.float64))


def test_a_file_like_sherpas_gives_its_events_and_leaves_the_rest_empty(tmp_path: Path) -> None:
    info, events = sherpas(tmp_path / "events.hdf5")
    info_back, events_back = read_events(tmp_path / "events.hdf5")
    assert info_back == info
    assert same_bits(events_back, events) == []


def test_the_reader_gives_the_head_and_tables_of_a_les_houches_file(tmp_path: Path) -> None:
    _, events = ours(tmp_path / "events.lheh5")
    with Lheh5Reader(tmp_path / "events.lheh5") as reader:
        assert reader.head.weight_ids == tuple(variation.name for variation in VARIATIONS)
        assert reader.head.init[0].split()[8:] == ["-4", "1"]
        (table,) = reader.tables()
    assert table.info[:, 0].tolist() == (events.pdg_id != 0).sum(1).tolist()
    assert table.info[:, 2].tolist() == events.weight.tolist()
    assert set(table.info[:, 1]) == {1.0}


def renamed(file: h5py.File, name: str, make: Callable[[], Any]) -> None:
    del file[name]
    file[name] = make()


def with_column(file: h5py.File, name: str, column: int, row: int, value: float) -> None:
    file[name][row, column] = value


DAMAGE: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "no events": (lambda f: f.__delitem__("events"), "events: missing: expected it"),
    "no init": (lambda f: f.__delitem__("init"), "init: missing"),
    "group": (lambda f: renamed(f, "init", lambda: h5py.SoftLink("/xml")), "SoftLink: refused"),
    "external link": (
        lambda f: renamed(f, "events", lambda: h5py.ExternalLink("/etc/passwd", "/x")),
        "ExternalLink: refused",
    ),
    "text": (lambda f: renamed(f, "init", lambda: "text"), "of type object: expected numbers"),
    "flat": (lambda f: renamed(f, "events", lambda: np.zeros(5)), r"shape \(5,\): expected 2 axes"),
    "few columns": (
        lambda f: renamed(f, "particles", lambda: np.zeros((240, 3))),
        "no columns .*'color1'",
    ),
    "processes": (
        lambda f: renamed(f, "procInfo", lambda: np.zeros((0, 6))),
        "0 rows: expected 1 to 10000",
    ),
    "beam": (lambda f: f["init"].__setitem__(0, 0.5), "beamA = 0.5: expected a whole number"),
    "beam nan": (lambda f: f["init"].__setitem__(1, math.nan), "beamB = nan: expected a whole"),
    "status": (lambda f: with_column(f, "particles", 1, 7, 1.5), "event 2: expected whole numbers"),
    "far": (lambda f: with_column(f, "events", 2, 39, 1e18), "event 40: start = 1e[+]18: expected"),
    "before": (lambda f: with_column(f, "events", 2, 3, 0), "event 4: start = 0.0: expected"),
    "negative": (lambda f: with_column(f, "events", 2, 0, -1), "event 1: start = -1.0: expected 0"),
    "part": (lambda f: with_column(f, "events", 2, 1, 6.5), "event 2: start = 6.5"),
    "nan": (lambda f: with_column(f, "events", 2, 1, math.nan), "event 2: start = nan"),
    "many": (lambda f: with_column(f, "events", 1, 5, 1e9), "event 6: nparticles = 1000000000.0"),
    "whole": (lambda f: with_column(f, "events", 1, 5, 2.5), "event 6: nparticles = 2.5"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    change, message = DAMAGE[name]
    by_pylhe(tmp_path / "events.h5")
    with h5py.File(tmp_path / "events.h5", "r+") as file:
        change(file)
    with pytest.raises(EventFileError, match=message) as caught:
        read_events(tmp_path / "events.h5")
    assert str(caught.value).startswith(f"{tmp_path / 'events.h5'}: ")
    assert "\n" not in str(caught.value)


def remade(file: h5py.File, name: str, **options: Any) -> None:
    """The dataset made anew, of the same rows and names."""
    rows, names = file[name][:], file[name].attrs["properties"]
    del file[name]
    file.create_dataset(name, data=rows, **options).attrs["properties"] = names


def absurd(file: h5py.File) -> None:
    names = file["events"].attrs["properties"]
    n_columns = len(names)
    del file["events"]
    file.create_dataset("events", (10**15, n_columns), "f8", chunks=(64, n_columns))
    file["events"].attrs["properties"] = names


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=file["particles"].shape, dtype="f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=file["particles"].shape)
    del file["particles"]
    file.create_virtual_dataset("particles", layout)


def external(file: h5py.File) -> None:
    shape = file["particles"].shape
    del file["particles"]
    file.create_dataset("particles", shape, "f8", external=[("/etc/passwd", 0, 10**6)])


DANGERS: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "absurd": (absurd, "events: 1000000000000000 rows: expected no more than 0 bytes can hold"),
    "virtual": (virtual, "data in another file: refused"),
    "external": (external, "data in another file: refused"),
    "plugin": (lambda f: remade(f, "events", compression="lzf"), r"filters \[32000\]: refused"),
    "chunk": (
        lambda f: remade(f, "events", chunks=(10**6, 19), maxshape=(None, 19)),
        "chunks of 1.52e[+]08 bytes",
    ),
}


@pytest.mark.parametrize("name", DANGERS)
def test_what_event_files_do_not_need_is_refused(tmp_path: Path, name: str) -> None:
    change, message = DANGERS[name]
    by_pylhe(tmp_path / "events.h5")
    with h5py.File(tmp_path / "events.h5", "r+") as file:
        change(file)
    with pytest.raises(EventFileError, match=message):
        read_events(tmp_path / "events.h5")


def test_a_file_that_hdf5_searches_for_ever_is_refused(tmp_path: Path) -> None:
    by_pylhe(tmp_path / "events.h5")
    content = bytearray((tmp_path / "events.h5").read_bytes())
    # The first object of a heap of texts gets the index 0 and the size 0.
    at = content.index(b"GCOL") + 16
    content[at : at + 16] = bytes(16)
    (tmp_path / "events.h5").write_bytes(content)
    with pytest.raises(EventFileError, match="HDF5 could not read it within 1024 MiB and 5 s"):
        read_events(tmp_path / "events.h5")


def test_weights_that_stand_for_1_are_all_alike(tmp_path: Path) -> None:
    info, events = varied(40)
    write_events(tmp_path / "events.lheh5", [events], info)
    with h5py.File(tmp_path / "events.lheh5", "r+") as file:
        with_column(file, "events", 9, 4, 7.0)
    with pytest.raises(EventFileError, match=r"event 5: weight = 7.0: expected 211.4505 pb"):
        read_events(tmp_path / "events.lheh5")


@pytest.mark.parametrize(
    ("name", "where"),
    [("init", 2), ("procInfo", (0, 4)), ("events", (3, 4)), ("particles", (3, 7))],
)
def test_a_number_that_was_changed_is_found(
    tmp_path: Path, name: str, where: int | tuple[int, int]
) -> None:
    # By a program that knows HDF5, whose own sums are right then.
    ours(tmp_path / "events.lheh5")
    with h5py.File(tmp_path / "events.lheh5", "r+") as file:
        file[name][where] = np.nextafter(file[name][where], np.inf)
    with pytest.raises(EventFileError, match=f"{name}: its checksum is wrong"):
        read_events(tmp_path / "events.lheh5")


def test_a_header_that_was_changed_is_found(tmp_path: Path) -> None:
    ours(tmp_path / "events.lheh5")
    with h5py.File(tmp_path / "events.lheh5", "r+") as file:
        file["xml/header"][()] = file["xml/header"][()].replace(b"e- j", b"e- g")
    with pytest.raises(EventFileError, match="xml/header: its checksum is wrong"):
        read_events(tmp_path / "events.lheh5")


def test_a_file_that_breaks_off_is_refused(tmp_path: Path) -> None:
    ours(tmp_path / "events.lheh5")
    content = (tmp_path / "events.lheh5").read_bytes()
    for share in (0.001, 0.1, 0.5, 0.99):
        (tmp_path / "short.lheh5").write_bytes(content[: int(share * len(content))])
        with pytest.raises(EventFileError, match=r"truncated|damaged|checksum"):
            read_events(tmp_path / "short.lheh5")


def test_no_change_of_some_bytes_gives_other_events_or_another_error(tmp_path: Path) -> None:
    good = ours(tmp_path / "good.lheh5")
    content = (tmp_path / "good.lheh5").read_bytes()
    filled = [i for i, byte in enumerate(content) if byte]
    rng = random.Random(7)
    n_refused = 0
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 4])):
            at = rng.choice(filled)
            piece = rng.choice([bytes([rng.randrange(256)]), bytes(8), b"\xff" * 4])
            changed[at : at + len(piece)] = piece
        (tmp_path / "changed.lheh5").write_bytes(changed)
        try:
            info, events = read_events(tmp_path / "changed.lheh5")
        except EventFileError as error:
            assert "\n" not in str(error)  # noqa: PT017
            n_refused += 1
        else:
            assert info == good[0]
            assert same_bits(events, good[1]) == []
    assert n_refused > 100


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["measured"] = [1.0, 2.0]
    with pytest.raises(EventFileError, match="events: missing: expected it in an LHEH5 file"):
        read_events(tmp_path / "other.h5")
    shutil.copy(tmp_path / "other.h5", tmp_path / "events.lhe")
    with pytest.raises(EventFileError, match="events: missing"), open_reader(tmp_path / "other.h5"):
        pass
