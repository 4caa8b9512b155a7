from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def artifact_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests keep the matrix elements they make, so that each is made once; empty at first."""
    return tmp_path_factory.mktemp("artifact_cache")
