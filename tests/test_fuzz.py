"""Damaged files of all kinds, and any events that can be written: see also benchmarks/fuzz."""

from __future__ import annotations

import gzip
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.fuzz import good_files
from benchmarks.fuzz.containers import members_of, signed, zipped
from benchmarks.fuzz.execution import GOOD, run_case, run_cases
from benchmarks.fuzz.readers import READERS, Broken, Reader, same_bits
from mlgen.campaign.conforming import check_conforms
from mlgen.campaign.pack import read_pack
from mlgen.campaign.run_record import read_settled
from mlgen.card_files import read_card
from mlgen.core import BeamInfo, EventBatch, SampleInfo, Variation
from mlgen.errors import CardError, EventFileError, MlgenError, PackError
from mlgen.events.check import check_file
from mlgen.events.formats import read_events, write_events
from mlgen.jobs.pack_job import read_job

BY_NAME = {reader.name: reader for reader in READERS}
N_CASES = {"lhe.gz": 60, "lheh5": 100}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_files_are_refused_in_one_line_or_read_as_they_should_be(
    tmp_path: Path, reader: Reader
) -> None:
    files = reader.good_files()
    outcomes = [
        run_case(reader, reader.case(files, 5, number), number, str(tmp_path))
        for number in range(N_CASES.get(reader.name, 200))
    ]
    assert [outcome for outcome in outcomes if outcome.verdict not in GOOD] == []
    assert {outcome.verdict for outcome in outcomes} == set(GOOD)


def test_cases_in_processes_of_their_own_end_as_they_do_here(tmp_path: Path) -> None:
    reader = BY_NAME["job.json"]
    files = reader.good_files()
    here = [
        run_case(reader, reader.case(files, 5, number), number, str(tmp_path)).verdict
        for number in range(20)
    ]
    assert [outcome.verdict for outcome in run_cases(reader, 5, range(20))] == here


def test_what_breaks_a_reader_is_noticed_and_the_cases_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: readers that die, hang, fill the memory, fail, or break a law."""

    def read(path: Path) -> object:
        kind = int(path.read_text())
        if kind == 0:
            os._exit(1)
        if kind == 1:
            time.sleep(100)
        if kind == 2:
            return torch.zeros(1_100_000_000, dtype=torch.uint8).add_(1)
        if kind == 3:
            raise ZeroDivisionError
        if kind == 4:
            raise Broken("a law")
        if kind == 5:
            raise TwoLines
        return kind

    class TwoLines(MlgenError):
        def __str__(self) -> str:
            return "two\nlines"

    class Numbers(Reader):
        def case(self, files: Sequence[bytes], seed: int, number: int) -> bytes:
            return str(number).encode()

    monkeypatch.setattr("benchmarks.fuzz.execution.LIMIT_S", 0.5)
    reader = Numbers(name="a", file="a", good_files=lambda: (b"",), mutations=(), read=read)
    verdicts = [outcome.verdict for outcome in run_cases(reader, 1, range(7))]
    assert verdicts == [
        "died",
        "too slow",
        "too large",
        "other error",
        "broken law",
        "broken law",
        "read",
    ]


# --- any events that can be written ----------------------------------------------------------

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SIZES = st.floats(1e-100, 1e100) | st.floats(-1e100, -1e-100)
"""Of weights: products of larger and smaller ones have no float."""
WHOLE = st.integers(-(2**53), 2**53)
IDS = WHOLE.filter(bool)
CHARACTERS = st.characters(
    exclude_categories=["Cc", "Cs"], include_characters="\t\n\r", exclude_characters="\ufffe\uffff"
)
"""Those that XML has."""
TEXTS = st.text(CHARACTERS, max_size=30)
NAMES = st.text(CHARACTERS, min_size=1, max_size=12)


@st.composite
def infos(draw: st.DrawFn) -> SampleInfo:
    """Anything that a file may say of itself."""
    beam = st.builds(
        BeamInfo,
        pdg_id=st.integers(-(10**7), 10**7),
        energy_gev=FLOATS,
        pdf_id=st.integers(-1, 10**7),
    )
    variation = st.builds(
        Variation,
        name=NAMES,
        group=TEXTS,
        mu_r_factor=FLOATS,
        mu_f_factor=FLOATS,
        pdf_id=st.integers(0, 2**31),
    )
    line = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=12)
    key = line.filter(lambda text: text and " = " not in text)
    tag = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
    return SampleInfo(
        beams=(draw(beam), draw(beam)),
        cross_section_pb=draw(SIZES),
        cross_section_error_pb=abs(draw(FLOATS)),
        weighted=draw(st.booleans()),
        process=draw(TEXTS),
        card=draw(TEXTS),
        variations=tuple(draw(st.lists(variation, max_size=3, unique_by=lambda v: v.name))),
        notes=tuple(draw(st.lists(st.tuples(key, line), max_size=3, unique_by=lambda n: n[0]))),
        blocks=tuple(draw(st.lists(st.tuples(tag, TEXTS), max_size=2, unique_by=lambda b: b[0]))),
    )


@st.composite
def samples(draw: st.DrawFn) -> tuple[SampleInfo, EventBatch]:
    """Events of any finite numbers."""
    info = draw(infos())
    n, n_max = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    n_rows = draw(st.lists(st.integers(1, n_max), min_size=n, max_size=n))
    n_rows[0] = n_max
    is_row = torch.arange(n_max) < torch.tensor(n_rows)[:, None]

    def floats(*shape: int, of: st.SearchStrategy[float] = FLOATS) -> torch.Tensor:
        return torch.from_numpy(draw(arrays("float64", shape, elements=of)).copy())

    def whole(*shape: int, of: st.SearchStrategy[int] = WHOLE) -> torch.Tensor:
        return torch.from_numpy(draw(arrays("int64", shape, elements=of)).copy())

    def rows(column: torch.Tensor) -> torch.Tensor:
        column[~is_row] = 0
        return column

    weight = torch.ones(n, dtype=torch.float64) if draw(st.booleans()) else floats(n, of=SIZES)
    return info, EventBatch(
        pdg_id=rows(whole(n, n_max, of=IDS)),
        status=rows(whole(n, n_max)),
        mothers=rows(whole(n, n_max, 2)),
        colour=rows(whole(n, n_max, 2)),
        momenta=rows(floats(n, n_max, 4)),
        mass=rows(floats(n, n_max)),
        spin=rows(floats(n, n_max)),
        weight=weight,
        scale=floats(n),
        alpha_em=floats(n),
        alpha_s=floats(n),
        variations=floats(n, len(info.variations), of=SIZES),
    )


@pytest.mark.parametrize("suffix", ["lhe", "lhe.gz", "lheh5"])
@settings(max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(made=samples())
def test_any_events_that_can_be_written_come_back_bit_for_bit(
    suffix: str, made: tuple[SampleInfo, EventBatch]
) -> None:
    info, events = made
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"events.{suffix}"
        try:
            write_events(path, [events], info)
        except EventFileError:
            assume(False)  # a mean of 0, a character that XML has not
        info_back, back = read_events(path)
        is_unit = not info.weighted and bool((events.weight == 1).all())
        scaled = set() if is_unit else {"weight", "variations"}
        assert set(same_bits(events, back)) <= scaled
        assert replace(info_back, weighted=info.weighted) == info
        assert info_back.weighted != is_unit
        write_events(path, [back], info_back)
        assert read_events(path)[0] == info_back
        assert same_bits(read_events(path)[1], back) == []


@pytest.mark.parametrize("suffix", ["lhe", "lhe.gz", "lheh5"])
@pytest.mark.parametrize("character", ["\0", "\x1b", "\ud800", "\uffff"])
def test_what_no_header_can_hold_is_refused(tmp_path: Path, suffix: str, character: str) -> None:
    info, events = good_files.sample(2, 1, False)
    named = (replace(info.variations[0], name=character),)
    for wrong in (replace(info, card=character), replace(info, variations=named)):
        with pytest.raises(EventFileError, match=r"character .*: not well-formed XML"):
            write_events(tmp_path / f"events.{suffix}", [events], wrong)


@pytest.mark.parametrize("suffix", ["lhe", "lhe.gz", "lheh5"])
def test_weights_whose_sum_no_float_can_hold_are_refused(tmp_path: Path, suffix: str) -> None:
    info, events = good_files.sample(2, 0, True)
    events = replace(events, weight=torch.full((2,), 1.7e308, dtype=torch.float64))
    with pytest.raises(EventFileError, match="sum of event weights = inf: expected a finite"):
        write_events(tmp_path / f"events.{suffix}", [events], info)


# --- what was found --------------------------------------------------------------------------


def lhe_text() -> str:
    return good_files.event_files("lhe")[2].decode()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<Les", '<?xml version="1.0" encoding="no-such"?>\n<Les', r"unknown encoding: no-such"),
        ("<event>\n", "<event>\n" + "<a>" * 100_000, "elements 65 deep: refused"),
        ("<event>\n", "<event>\n" + "x" * 500_000, r"event 1: .* \.\.\. .*: expected"),
    ],
)
def test_texts_made_to_harm_are_refused_at_once_in_a_short_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "events.lhe"
    path.write_text(lhe_text().replace(old, new, 1))
    start = time.process_time()
    with pytest.raises(EventFileError, match=message) as caught:
        read_events(path)
    assert time.process_time() - start < 2
    assert len(str(caught.value)) < 2100
    assert not check_file(path).is_good


def test_a_message_is_one_line_that_a_terminal_can_be_sent() -> None:
    error = CardError("a = 'é\n\x1b[2J\ud800'" + "x" * 10_000 + ": expected b")
    assert str(error).startswith(r"a = 'é\n\x1b[2J\ud800'xx")
    assert str(error).endswith("xx: expected b")
    assert len(str(error)) < 2100


def test_a_row_without_a_particle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.lhe"
    head, tag, rest = lhe_text().partition("<event>\n")
    first_line, particle, others = rest.split("\n", 2)
    particle = "0 " + particle.split(" ", 1)[1]
    path.write_text(head + tag + "\n".join([first_line, particle, others]))
    with pytest.raises(EventFileError, match="event 1: IDUP = 0: expected a particle"):
        read_events(path)


@pytest.mark.parametrize(
    ("read", "error"), [(read_job, PackError), (read_settled, CardError), (read_card, CardError)]
)
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "a = " + "[" * 100_000, "9" * 10_000, "a = " + "9" * 10_000, "a = " + "{a=" * 10_000])  # fmt: skip
def test_deep_nesting_and_long_numbers_are_refused(
    tmp_path: Path, read: Callable[[Path], object], error: type[MlgenError], text: str
) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(error):
        read(path)


def test_a_card_whose_keys_have_parts_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    for n, message in ((100_000, "more than 16384 characters"), (8_000, "no such key")):
        path.write_text("a." * n + "a = 1\n")
        start = time.process_time()
        with pytest.raises(CardError, match=message):
            read_card(path)
        assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_events", 1.5), ("n_events", "1"), ("pack", ["a"]), ("shard", [1]), ("seed", True)],
)
def test_a_job_of_other_types_is_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(json.loads(good_files.jobs()[0]) | {key: value}))
    with pytest.raises(PackError, match=rf"job.json: .*{key}"):
        read_job(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"seed": 7', b'"seed": "7"', "Pack.seed = '7': no int"),
        (b'"ess": 0.8', b'"ess": NaN', "NaN: expected a number"),
        (b'"ess": 0.8', b'"ess": 1e999', "Infinity: expected a number"),
        (b'"ess": 0.8', b'"ess": [0.8]', r"ess = \[0.8\]: no float"),
        (b'"ess": 0.8', b'"ess": ' + b"[" * 100_000, "recursion"),
    ],
)
def test_a_pack_of_other_types_is_refused(
    tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    members = members_of(good_files.packs()[0])
    assert members is not None
    assert old in members["pack.json"]
    members["pack.json"] = members["pack.json"].replace(old, new, 1)
    path = tmp_path / "a.mlgen.zip"
    path.write_bytes(zipped(signed(members)))
    with pytest.raises(PackError, match=message):
        read_pack(path)


def test_a_pack_that_unfolds_is_refused(tmp_path: Path) -> None:
    members = members_of(good_files.packs()[0])
    assert members is not None
    path = tmp_path / "a.mlgen.zip"
    path.write_bytes(zipped(members | {"bomb": bytes(1 << 24)}, method=8))
    with pytest.raises(PackError, match=r"\d+ bytes in \d+: refused"):
        read_pack(path)


@pytest.mark.parametrize("read", [read_events, check_file, read_pack])
@pytest.mark.parametrize("place", ["pipe", "folder", "dangling link", "nothing"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    tmp_path: Path, read: Callable[[Path], object], place: str
) -> None:
    path = tmp_path / "file"
    if place == "pipe":
        os.mkfifo(path)
    elif place == "folder":
        path.mkdir()
    elif place == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises((EventFileError, PackError), match=re.escape(str(path))):
        read(path)


def test_a_link_to_a_good_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(lhe_text().encode()))
    (tmp_path / "events.lhe.gz").symlink_to(tmp_path / "a")
    assert len(read_events(tmp_path / "events.lhe.gz")[1]) == 5


def test_a_number_too_large_for_a_float_does_not_conform() -> None:
    info = good_files.sample(1, 0, False)[0]
    check_conforms(info)
    with pytest.raises(TypeError, match=r"SampleInfo.cross_section_pb = 1000.*: expected a finite"):
        check_conforms(replace(info, cross_section_pb=10**400))
