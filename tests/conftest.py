from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Two torch threads on two busy cores make small operations ten times slower.
torch.set_num_threads(1)

# UFO folders: packages of their own, which are read, not imported.
collect_ignore = ["models"]


TESTS = Path(__file__).parent

LONG = (
    "integration/test_pulls.py",
    "test_reference_cross_sections.py",
    "amplitudes/test_pyamplicol.py",
    "test_campaign.py",
    "test_surrogate_resume.py",
    "test_surrogate_run.py",
    "test_faults.py",
    "test_dropped_run.py",
    "radiation/test_training.py",
    "integration/test_two_stage.py",
    "test_resume.py",
    "test_radiate_run.py",
)
"""Files that take longest: begun last, one of them would keep a single process at work in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; with `--no-loadscope-reorder`, pytest-xdist does so too."""
    ranks = {TESTS / name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(scope="session")
def artifact_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests keep the matrix elements they make, so that each is made once; empty at first."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then its parent is that of all processes
        folder = folder.parent
    cache = folder / "artifact_cache"
    cache.mkdir(exist_ok=True)
    return cache
