"""What is imported before anything is computed is paid for by every command."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "awkward", "importlib_metadata", "matplotlib", "normflows", "numba", "numpy", "particle", "pylhe",
    "pythia8", "scipy", "sympy", "torch", "torch._dynamo", "vegas",
}  # fmt: skip
ALL_RUNS_NEED = {"matplotlib", "numpy", "torch"}


def imported_by(statement: str) -> set[str]:
    """The heavy modules that a statement brings into a fresh interpreter."""
    code = f"{statement}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return HEAVY & set(run.stdout.split())


@pytest.mark.parametrize("module", ["mlgen", "mlgen.cli"])
def test_help_and_lists_of_cards_wait_for_no_library(module: str) -> None:
    assert imported_by(f"import {module}") == set()


def test_a_run_waits_only_for_what_every_run_uses() -> None:
    assert imported_by("import mlgen.api, mlgen.show") <= ALL_RUNS_NEED


def test_a_check_waits_for_no_library_of_event_files() -> None:
    assert imported_by("import mlgen.events.check") <= {*ALL_RUNS_NEED, "particle"}


def test_the_tests_above_notice_a_heavy_import() -> None:
    assert "torch" in imported_by("import mlgen; mlgen.run")
    assert "particle" in imported_by("import mlgen.events.check")


def test_a_run_collects_garbage_again_but_not_among_what_it_imported() -> None:
    code = (
        "import gc; from mlgen.cli import run_arguments; run_arguments(['run', 'no_such_card']); "
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["True", "True"]
