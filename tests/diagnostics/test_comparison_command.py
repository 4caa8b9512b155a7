"""`mlgen compare`, from a card to what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlgen.cli import run_arguments

CLOSED_FORM = "--set=matrix_element.provider=closed_form"


def test_a_card_becomes_a_table_a_json_and_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, folder = tmp_path / "compared.json", tmp_path / "plots"
    arguments = ["compare", "ee_to_mumu", "--calls=5000", "--points=2000", "--samplers=grid"]
    arguments += [CLOSED_FORM, "--json", str(numbers), "-o", str(folder)]
    assert run_arguments(arguments) == 0
    shown = capsys.readouterr().out
    assert "e+ e- > mu+ mu-: each learns from 5,000 calls" in shown
    assert "mlgen grid" in shown
    row = json.loads(numbers.read_text())["samplers"]["grid"]
    assert abs(row["cross_section"] - 0.42827) < 5 * row["error"]  # benchmarks/README.md
    assert 0 < row["error"] < 0.01 * row["cross_section"]
    assert {path.name for path in folder.iterdir()} == {"weights.png", "efficiency.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samplers=vegas"], "--samplers vegas: expected one of vegas-classic,"),
        (["--calls=3"], "--calls 3: expected at least 1000"),
        (["--set=flow.n_step=1"], "did you mean flow.n_steps?"),
    ],
)
def test_wrong_options_are_said_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_arguments(["compare", "ee_to_mumu", *arguments]) == 2
    assert message in capsys.readouterr().err
