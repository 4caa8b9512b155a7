from __future__ import annotations

from pathlib import Path

import pytest

from mlgen.amplitudes.pyamplicol import PyamplicolAmplitude, provide
from tests.amplitudes.pyamplicol_requests import (
    RecordedProgress,
    request,
)


@pytest.fixture(scope="session")
def made(artifact_cache: Path) -> tuple[PyamplicolAmplitude, RecordedProgress]:
    progress = RecordedProgress()
    return provide(request(artifact_cache), progress), progress


@pytest.fixture(scope="session")
def amplitude(made: tuple[PyamplicolAmplitude, RecordedProgress]) -> PyamplicolAmplitude:
    return made[0]
