from __future__ import annotations

from pathlib import Path

import pytest
import torch

# Two torch threads on two busy cores make small operations ten times slower.
torch.set_num_threads(1)

# UFO folders: packages of their own, which are read, not imported.
collect_ignore = ["models"]


@pytest.fixture(scope="session")
def artifact_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests keep the matrix elements they make, so that each is made once; empty at first."""
    return tmp_path_factory.mktemp("artifact_cache")
