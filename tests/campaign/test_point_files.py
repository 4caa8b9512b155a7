from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlgen.campaign.point_files import POINTS_FOLDER, STAGES, PointFiles
from mlgen.errors import PackError
from mlgen.integration.adapt import GridLearner
from mlgen.integration.exact_points import ExactPoints
from mlgen.integration.integrator import VEGAS
from mlgen.integration.learner import Round
from mlgen.integration.training import SamplerLearner

ORDER = (
    ("adapt", 0),
    ("adapt", 1),
    ("adapt_again", 0),
    ("estimate vegas", 0),
    ("estimate vegas", 1),
    ("train", 0),
    ("estimate flow", 0),
    ("estimate vegas for comparison", 0),
)


def points(number: int, n: int = 3) -> ExactPoints:
    """Some that are known by a number."""
    return ExactPoints(
        momenta=torch.full((n, 5, 4), number / 3, dtype=torch.float64),
        channel=torch.full((n,), number),
        squared=torch.full((n,), 1 / (1 + number), dtype=torch.float64),
    )


@pytest.fixture
def files(tmp_path: Path) -> PointFiles:
    return PointFiles(tmp_path / POINTS_FOLDER)


def numbers(files: PointFiles, before: Round | None = None) -> list[int]:
    return [int(part.channel[0]) for part in files.read(before)]


def test_points_come_back_bit_for_bit(files: PointFiles) -> None:
    files.write("adapt", 0, points(7))
    (read,) = files.read()
    for name in ("momenta", "channel", "squared"):
        assert torch.equal(getattr(read, name), getattr(points(7), name))


def test_points_are_read_by_stage_whenever_they_were_written(files: PointFiles) -> None:
    for number in (3, 0, 7, 5, 1, 6, 4, 2):
        files.write(*ORDER[number], points(number))
    assert numbers(files) == list(range(8))


def test_what_came_before_a_round_is_read_alone(files: PointFiles) -> None:
    for number, (stage, index) in enumerate(ORDER):
        files.write(stage, index, points(number))
    for number, place in enumerate(ORDER[:7]):
        assert numbers(files, before=place) == list(range(number))
    assert numbers(files, before=("adapt", 0)) == []


def test_stages_are_those_of_the_learners() -> None:
    assert {GridLearner.purpose, SamplerLearner.purpose, f"estimate {VEGAS}"} < set(STAGES)


def test_a_batch_takes_the_place_of_the_one_before(files: PointFiles) -> None:
    """As when a run that was stopped draws it again."""
    files.write("train", 4, points(1))
    files.write("train", 4, points(2))
    assert numbers(files) == [2]


def test_nothing_is_there_to_begin_with_and_in_the_end(files: PointFiles) -> None:
    assert numbers(files) == []
    files.remove()
    files.write("adapt", 0, points(1))
    files.remove()
    assert not files.folder.exists()
    assert numbers(files) == []


def test_a_damaged_file_is_named_with_what_to_do(files: PointFiles) -> None:
    files.write("adapt", 0, points(1))
    path = files.folder / "0-adapt-000000.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        PackError, match=r"0-adapt-000000\.zip: damaged.*; delete this file to go on"
    ):
        numbers(files)
    files.write("adapt", 1, points(2))
    path.unlink()
    assert numbers(files) == [2]
