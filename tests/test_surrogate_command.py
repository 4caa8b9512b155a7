"""`mlgen surrogate`: a matrix element learned on its own, from the command line to what loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mlgen
from mlgen.build import build
from mlgen.card_files import find_card, read_card
from mlgen.cli import run_arguments
from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import PackError
from mlgen.integration.proposal import Proposal, draw
from mlgen.jobs.surrogate_job import SurrogateOrder, SurrogateResult
from mlgen.samplers.vegas import VegasGrid

NAME = "ee_to_uug"
SETTINGS = (
    "matrix_element.provider=closed_form",
    "run.sampler=vegas",
    "run.n_estimate=16384",
    "vegas.n_points=4000",
    "vegas.n_iterations=3",
    "vegas.n_bins=16",
    "surrogate.n_hidden=32",
    "surrogate.n_layers=1",
    "surrogate.n_steps=600",
)
SETS = tuple(f"--set={setting}" for setting in SETTINGS)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the command."""
    folder = tmp_path_factory.mktemp("learned") / "out"
    points = ("--points=6000", "--tests=4000")
    assert run_arguments(["surrogate", NAME, *SETS, *points, "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def by_script(tmp_path_factory: pytest.TempPathFactory) -> SurrogateResult:
    """The same from Python, without the curve."""
    card = read_card(find_card(NAME), SETTINGS)
    order = SurrogateOrder(n_points=6000, n_test=4000, with_curve=False)
    return mlgen.learn_surrogate(card, tmp_path_factory.mktemp("script") / "out", order)


@pytest.fixture(scope="module")
def inside() -> tuple[Tensor, Tensor, Tensor]:
    """Momenta inside the cuts, couplings, and the exact |M|²."""
    integrand = build(read_card(find_card(NAME), SETTINGS), SilentProgress()).integrand
    n_channels = integrand.n_channels
    uniform = Proposal(
        sampler=VegasGrid.uniform(n_channels, integrand.n_dim, 4),
        fractions=torch.full((n_channels,), 1 / n_channels, dtype=torch.float64),
    )
    _, evaluation = draw(integrand, uniform, 500, random_stream(1, "points", 0))
    momenta = evaluation.points.momenta[evaluation.value != 0]
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    return momenta, alpha_s, integrand.amplitude(momenta, alpha_s, 0).value


def record_of(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "surrogate.json").read_text())
    return table


def test_the_command_leaves_the_surrogate_its_numbers_and_its_report(learned: Path) -> None:
    files = {path.name for path in learned.iterdir()}
    assert files == {f"{NAME}.surrogate.zip", "surrogate.json", "surrogate.html"}


def test_the_record_says_how_well_the_matrix_element_is_known(learned: Path) -> None:
    record = record_of(learned)
    assert record["process"] == "e+ e- > u u~ g"
    assert (record["seed"], record["sampler"]) == (1, "vegas")
    (group,) = record["groups"]
    assert (group["n_sample"], group["n_test"]) == (6000, 4000)
    assert group["us_per_point"] > 0
    assert {"all", "top 1 %", "top 0.1 %"} < set(group["regions"])
    everywhere = group["regions"]["all"]
    assert 0.8 < everywhere["pulls"]["total"]["width"] < 1.25
    shares = {round(one["nominal"], 2): one["share"] for one in everywhere["coverage"]}
    assert 0.6 < shares[0.68] < 0.76
    assert 0.9 < shares[0.95] < 0.99
    sizes = [point["n"] for point in group["learning_curve"]]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 6000
    (gain,) = record["two_stage"]
    assert gain["sampler"] == "vegas"
    assert 0 < gain["f_eff"] < gain["eps_2"] / gain["eps_full"]
    assert record["notes"] == []


def test_the_report_has_its_parts(learned: Path) -> None:
    report = (learned / "surrogate.html").read_text()
    for title in ("What it gains", "Settings", "Versions", "Card"):
        assert f"<h2>{title}</h2>" in report
    assert "e+ e- &gt; u u~ g" in report
    assert report.count("<svg") + report.count("data:image") >= 3


def test_what_is_loaded_is_what_was_learned(
    by_script: SurrogateResult, learned: Path, inside: tuple[Tensor, Tensor, Tensor]
) -> None:
    momenta, alpha_s, exact = inside
    expected = by_script.surrogate(momenta, alpha_s, 0)
    for path in (by_script.path, learned / f"{NAME}.surrogate.zip"):
        found = mlgen.load_surrogate(path)(momenta, alpha_s, 0)
        assert torch.equal(found.value, expected.value)
        assert torch.equal(found.std, expected.std)
    known = expected.std.isfinite()
    assert float(known.double().mean()) > 0.5
    pull = ((expected.value - exact) / expected.std)[known]
    assert float((pull.abs() < 1).double().mean()) > 0.5
    deviation = (expected.value / exact - 1)[known].abs()
    assert float(deviation.median()) < 0.3


def test_without_a_curve_there_is_none(by_script: SurrogateResult) -> None:
    assert all(not group.learning_curve for group in by_script.record.groups)


def test_an_onnx_file_gives_the_values_of_the_surrogate(
    tmp_path: Path, inside: tuple[Tensor, Tensor, Tensor]
) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    options = ("--points=4000", "--tests=2000", "--no-curve", "--onnx", "--seed=5")
    assert run_arguments(["surrogate", NAME, *SETS, *options, "-o", str(tmp_path / "out")]) == 0
    momenta, alpha_s, _ = inside
    session = onnxruntime.InferenceSession(tmp_path / "out" / f"{NAME}.0.onnx")
    inputs = {"momenta": momenta.numpy(), "alpha_s": alpha_s.numpy()}
    value, std, _ = session.run(["value", "std", "covered"], inputs)
    expected = mlgen.load_surrogate(tmp_path / "out" / f"{NAME}.surrogate.zip")(momenta, alpha_s, 0)
    torch.testing.assert_close(torch.from_numpy(value), expected.value, rtol=1e-3, atol=0)
    known = expected.std.isfinite() & torch.from_numpy(std).isfinite()
    torch.testing.assert_close(torch.from_numpy(std)[known], expected.std[known], rtol=0.02, atol=0)
    assert record_of(tmp_path / "out")["seed"] == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--points", "0"), "--points 0: expected a positive number of points"),
        (("--tests", "-3"), "--tests -3: expected a positive number of points"),
        (("--method", "magic"), "surrogate.method = 'magic': expected one of bayesian, evid"),
        (("--set", "surrogate.n_hidden=0"), "surrogate.n_hidden = 0: expected at least 1"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    options: tuple[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_arguments(["surrogate", NAME, *options, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_folder_that_holds_something_is_left_alone(
    learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_arguments(["surrogate", NAME, *SETS, "-o", str(learned)]) == 2
    assert "expected a new or an empty folder" in capsys.readouterr().err


def test_too_few_points_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = ("--points=500", "--tests=500")
    assert run_arguments(["surrogate", NAME, *SETS, *points, "-o", str(tmp_path / "out")]) == 6
    error = capsys.readouterr().err
    assert "surrogate: 500 points of a group: expected at least 1284" in error


def test_a_file_that_holds_no_surrogate_is_refused(learned: Path) -> None:
    with pytest.raises(PackError, match=r"surrogate\.json: no surrogate, or a damaged one"):
        mlgen.load_surrogate(learned / "surrogate.json")
