from __future__ import annotations

import json
from pathlib import Path

import pytest

import mlgen
from mlgen.cli import run_arguments

QUICK = (
    "--sampler=vegas",
    "--set=run.n_estimate=2000",
    "--set=run.chunk_size=2000",
    "--set=vegas.n_points=2000",
    "--set=vegas.n_iterations=2",
)


@pytest.mark.parametrize("command", [[], ["run"], ["compare"], ["list"], ["check"], ["show"]])
def test_every_command_explains_itself(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_arguments([*command, "--help"]) == 0
    assert "Usage: mlgen" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_arguments(["--version"]) == 0
    assert mlgen.__version__ in capsys.readouterr().out


def test_list_shows_the_cards_with_their_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_arguments(["list"]) == 0
    shown = capsys.readouterr().out
    for name, process in {"pp_to_eej": "p p > e+ e- j", "pp_to_ttj": "p p > t t~ j"}.items():
        assert any(name in line and process in line for line in shown.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "pp_to_tj"], "did you mean pp_to_ttj?"),
        (["run", "pp_to_ee", "--set", "cuts.jets.pt_min=3"], "did you mean cuts.jets.pt_min_gev?"),
        (["run", "pp_to_ee", "--set", "beams.energies_gev=3"], "beams.energies_gev = 3"),
        (["run", "pp_to_ee", "--set", "cuts"], "expected section.key=value"),
        (["run", "pp_to_ee", "-n", "0"], "run.n_events = 0: expected at least 1"),
        (["run", "pp_to_ee", "--sampler", "vegaz"], "run.sampler = 'vegaz': expected one of"),
        (["run", "pp_to_ee", "--set", "matrix_element.provider=mg"], "expected one of auto"),
        (["run", "pp_to_ee", "--set", "process.definition=p p > e+"], "process.definition"),
        (["run", "pp_to_ee", "--set", "process.definition=p p > e+ q"], "no particle 'q'"),
        (["show", "no_such_thing"], "no such file"),
        (["run"], "Missing argument"),
        (["walk"], "No such command"),
    ],
)
def test_what_a_person_got_wrong_is_said_in_one_line_with_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_arguments(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_missing_density_has_its_own_exit_code_and_names_the_way_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "pp_to_ee", "--set", "pdf.set=NoSuchSet", "-o", str(tmp_path / "out")]
    assert run_arguments(arguments) == 3
    assert "LHAPDF_DATA_PATH" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "failed"
    assert "NoSuchSet" in record["error"]


def test_too_few_events_are_a_failure_and_leave_no_event_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "pp_to_ee", "-n", "100000", "--set=run.max_points=2000", *QUICK]
    assert run_arguments([*arguments, "-o", str(tmp_path / "out")]) == 6
    assert "of 100000 events after 2000 points" in capsys.readouterr().err
    assert not (tmp_path / "out" / "events.lhe.gz").exists()


def test_a_stack_trace_is_shown_only_with_debug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "pp_to_ee", "--sampler", "vegaz", "-o"]
    run_arguments([*arguments, str(tmp_path / "a")])
    assert "Traceback" not in capsys.readouterr().err
    run_arguments([*arguments, str(tmp_path / "b"), "--debug"])
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("mlgen.cli.card_names", broken)
    assert run_arguments(["list"]) == 70
    error = capsys.readouterr().err
    assert "unexpected RuntimeError: the sky fell" in error
    assert len(error.splitlines()) == 1


def test_an_interruption_says_so_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlgen.cli.card_names", interrupt)
    assert run_arguments(["list"]) == 130
    assert "mlgen: interrupted" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_not_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert run_arguments(["run", "pp_to_ee", "-o", str(tmp_path)]) == 2
    assert "expected a new or an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_runs_without_an_output_folder_are_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run_arguments(["run", "ee_to_mumu", "-n", "10", *QUICK]) == 0
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders == ["ee_to_mumu", "ee_to_mumu-2"]


def test_show_and_check_understand_what_a_run_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert run_arguments(["run", "ee_to_mumu", "-n", "10", *QUICK, "-o", str(folder)]) == 0
    assert "cross section" in capsys.readouterr().out
    shown = {
        "": "eps_uw vegas",
        "events.lhe.gz": "mu+ mu-",
        "run.json": "complete",
        "ee_to_mumu.mlgen.zip": "makes the events",
    }
    for name, text in shown.items():
        assert run_arguments(["show", str(folder / name)]) == 0
        assert text in capsys.readouterr().out
    assert run_arguments(["show", "pp_to_eej"]) == 0
    assert "g u > e+ e- u" in capsys.readouterr().out
    assert run_arguments(["check", str(folder / "events.lhe.gz")]) == 0
    damaged = folder / "damaged.lhe.gz"
    damaged.write_bytes((folder / "events.lhe.gz").read_bytes()[:-50])
    capsys.readouterr()
    assert run_arguments(["check", str(damaged)]) == 7
    assert "error" in capsys.readouterr().out


def test_every_key_of_the_card_can_be_set(tmp_path: Path) -> None:
    settings = ["--set=cuts.leptons.pt_min_gev=20", "--set=cuts.leptons.abs_eta_max=2.0"]
    folder = tmp_path / "out"
    arguments = ["run", "pp_to_ee", "-n", "10", *QUICK, *settings, "-o", str(folder)]
    assert run_arguments(arguments) == 0
    cuts = json.loads((folder / "run.json").read_text())["card"]["cuts"]
    set_to = {key: cuts["leptons"][key] for key in ("pt_min_gev", "pt_max_gev", "abs_eta_max")}
    assert set_to == {"pt_min_gev": 20.0, "pt_max_gev": "inf", "abs_eta_max": 2.0}
