from __future__ import annotations

import gzip
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlgen.core import EventBatch
from mlgen.errors import EventFileError
from mlgen.events.formats import open_writer, write_events
from mlgen.events.lhe_writer import LheEncoder, compressed
from mlgen.events.writing import EVENTS_PER_PIECE, FileWeights, in_pieces
from tests.events.samples import eej, same_bits
from tests.events.varied import varied

NAMES = ["events.lhe", "events.lhe.gz", "events.lheh5"]


@pytest.mark.parametrize(
    ("weights", "weighted", "strategy"),
    [
        ([1.0] * 5, False, 3),
        ([1.0] * 5, True, -4),
        ([1.0, 1.0, 1.5], False, -4),
        ([1.0, 1.0 + 2**-52], False, -4),
        ([1.0, -1.0, 1.0], False, -4),
        ([-1.0] * 3, False, -4),
        ([2.0] * 3, False, -4),
        ([0.3, 7.0, 0.1], True, -4),
    ],
)
def test_the_strategy_is_3_only_where_every_weight_is_exactly_1(
    weights: list[float], weighted: bool, strategy: int
) -> None:
    info = replace(eej()[0], weighted=weighted)
    found = FileWeights.of(weights, info)
    assert found.strategy == strategy
    assert found.n_events == len(weights)
    mean = math.fsum(weights) / len(weights)
    written = [found.factor * weight for weight in weights]
    if strategy == 3:
        assert (found.factor, found.largest) == (1.0, 1.0)
    else:
        assert math.fsum(written) / len(written) == pytest.approx(info.cross_section_pb, rel=1e-14)
        assert found.largest == max(map(abs, written))
    assert found.kish_effective_size == pytest.approx(
        (len(weights) * mean) ** 2 / sum(weight**2 for weight in weights), rel=1e-13
    )


def test_the_mean_weight_is_exact_over_any_number_of_blocks() -> None:
    info = replace(eej()[0], weighted=True, cross_section_pb=1.0)
    weights = [1e16, 1.0, -1e16, 3.0] * 25_000
    assert FileWeights.of(iter(weights), info).factor == 1.0
    control = sum(weights) / len(weights)
    assert control != 1.0, "plain sums would do, and this test shows nothing"


def test_weights_of_both_signs_are_left_alone_when_a_file_is_copied() -> None:
    rng = torch.Generator().manual_seed(3)
    u = torch.rand(10_001, generator=rng, dtype=torch.float64) * (-1) ** torch.arange(10_001)
    info = replace(eej()[0], weighted=True)
    first = FileWeights.of(u.tolist(), info)
    assert abs(float(u.mean() / u.abs().mean())) < 1e-3
    again = FileWeights.of((first.factor * u).tolist(), info)
    assert again.factor == 1.0
    assert again.largest == first.largest


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_named(broken: float) -> None:
    weights = [1.0] * 20_000
    weights[17_000] = broken
    with pytest.raises(EventFileError, match=r"event 17001: weight = .*: expected finite numbers"):
        FileWeights.of(weights, eej()[0])


def test_absurd_weights_give_no_effective_size_rather_than_a_crash() -> None:
    info = replace(eej()[0], weighted=True)
    assert math.isnan(FileWeights.of([1e-300] * 3, info).kish_effective_size)
    assert FileWeights.of([1e300] * 3, info).kish_effective_size == 0


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 2500), max_size=6))
def test_pieces_do_not_depend_on_batches(cuts: list[int]) -> None:
    events = EventBatch.concatenate([eej()[1]] * 13).select(slice(0, 2500))
    bounds = [0, *sorted(cuts), 2500]
    batches = [events.select(slice(start, end)) for start, end in pairwise(bounds)]
    pieces = list(in_pieces(batches))
    assert [len(piece) for piece in pieces] == [EVENTS_PER_PIECE, EVENTS_PER_PIECE, 452]
    assert same_bits(EventBatch.concatenate(pieces), events) == []


@pytest.fixture(scope="module")
def other_process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_do_not_depend_on_batches_nor_on_the_process_that_encodes(
    tmp_path: Path, name: str, other_process: ProcessPoolExecutor
) -> None:
    info, events = varied(200, [3.0, -1.0])
    events = EventBatch.concatenate([events] * 12)
    whole, parted, sent = (tmp_path / f"{how}.{name}" for how in ("whole", "parted", "sent"))
    write_events(whole, [events], info)
    parts = [slice(0, 1), slice(1, 1), slice(1, 1025), slice(1025, 1030), slice(1030, None)]
    write_events(parted, [events.select(part) for part in parts], info)
    weights = FileWeights.of(events.weight.tolist(), info)
    with open_writer(sent, info, weights) as writer:
        for piece in other_process.map(writer.encode, in_pieces([events])):
            writer.append(piece)
    assert parted.read_bytes() == whole.read_bytes()
    assert sent.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_written", [0, 150, 201])
def test_another_number_of_events_than_weights_is_refused(
    tmp_path: Path, name: str, n_written: int
) -> None:
    info, events = eej()
    weights = FileWeights.of([1.0] * 200, info)
    events = EventBatch.concatenate([events, events]).select(slice(0, n_written))
    message = rf"{name}: {n_written} events: expected 200, as many as their weights"
    with (
        pytest.raises(EventFileError, match=message),
        open_writer(tmp_path / name, info, weights) as writer,
    ):
        writer.write(events)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_error_while_writing_leaves_the_file_that_was_there(tmp_path: Path, name: str) -> None:
    info, events = eej()
    path = tmp_path / name
    path.write_text("before")
    weights = FileWeights.of(events.weight.tolist(), info)

    def write_and_fail() -> None:
        with open_writer(path, info, weights) as writer:
            writer.write(events)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        write_and_fail()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_event_is_refused_with_its_number_in_the_file(tmp_path: Path, name: str) -> None:
    info, events = eej()
    events = EventBatch.concatenate([events] * 12)
    scale = events.scale.clone()
    scale[1999] = math.nan
    with pytest.raises(EventFileError, match=r"event 2000: scale = nan: expected finite numbers"):
        write_events(tmp_path / name, [replace(events, scale=scale)], info)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_refuses_what_is_no_event_by_itself() -> None:
    _, events = eej()
    encode = LheEncoder(factor=1.0)
    with pytest.raises(EventFileError, match="event 1: 9 variations: expected 0"):
        encode(varied(3)[1])
    weight = torch.tensor([1.0, 1.0, math.inf], dtype=torch.float64)
    with pytest.raises(EventFileError, match="event 3: weight = inf"):
        encode(replace(events.select(slice(0, 3)), weight=weight))


def test_a_compressed_piece_of_another_maker_is_refused(tmp_path: Path) -> None:
    info, events = eej()
    weights = FileWeights.of(events.weight.tolist(), info)
    text = LheEncoder(factor=1.0)(events)
    assert gzip.decompress(compressed(text, 200)) == text
    with (
        pytest.raises(EventFileError, match="a piece that no encoder made"),
        open_writer(tmp_path / "events.lhe.gz", info, weights) as writer,
    ):
        writer.append(gzip.compress(text))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path, name: str) -> None:
    info, events = eej()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EventFileError, match=rf"{name}: cannot be written: .*"):
        write_events(tmp_path / "file" / name, [events], info)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
