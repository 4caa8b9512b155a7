"""From showers to a model to events with jets, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mlgen.campaign.radiation_file import read_radiation
from mlgen.cli import run_arguments
from mlgen.core import EventBatch
from mlgen.events.check import check_file
from mlgen.events.formats import read_events
from mlgen.physics.kinematics import mass_squared, pt

pytest.importorskip("pythia8mc")
pytest.importorskip("fastjet")

N_EVENTS = 300
SHIPPED = Path(__file__).parents[1] / "examples" / "zjets.radiation.zip"
SMALL = ["--channels", "16", "--blocks", "1", "--epochs", "1", "--members", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of jets, a model of them, and events of two hard processes."""
    path = tmp_path_factory.mktemp("radiation")
    jets, model = str(path / "z.jets.zip"), str(path / "z.radiation.zip")
    assert run_arguments(["radiation", "data", "-n", "1500", "--workers", "1", "-o", jets]) == 0
    assert run_arguments(["radiation", "train", jets, *SMALL, "-o", model]) == 0
    for name in ("pp_to_z", "pp_to_zj"):
        made = ["run", name, "-n", str(N_EVENTS), "--sampler", "vegas", "-o", str(path / name)]
        assert run_arguments(made) == 0
    return path


def radiate(folder: Path, name: str, output: str, *options: str) -> int:
    events, model = folder / name / "events.lhe.gz", folder / "z.radiation.zip"
    arguments = ["radiate", str(events), "--model", str(model), "-o", str(folder / output)]
    return run_arguments([*arguments, *options])


def balance(events: EventBatch) -> float:
    """The largest component of what goes in but does not come out, GeV."""
    final = (events.momenta * (events.status == 1)[..., None]).sum(1)
    return float((final - events.momenta[:, :2].sum(1)).abs().max())


@pytest.mark.parametrize("name", ["pp_to_z", "pp_to_zj"])
def test_events_with_jets_pass_the_check_and_say_what_they_are(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert radiate(folder, name, f"{name}.lhe.gz") == 0
    assert f"{N_EVENTS} events" in capsys.readouterr().out
    path = folder / f"{name}.lhe.gz"
    assert check_file(path).is_good
    before, hard = read_events(folder / name / "events.lhe.gz")
    info, events = read_events(path)
    assert len(events) == N_EVENTS
    assert info.cross_section_pb == before.cross_section_pb
    notes = dict(info.notes)
    assert notes["may_be_showered"].startswith("no:")
    assert notes["radiation_learned_from"].startswith("up to 4 jets")
    assert balance(events) < 1e-6
    muons = (events.pdg_id.abs() == 13)[..., None] * events.momenta
    same = (hard.pdg_id.abs() == 13)[..., None] * hard.momenta
    torch.testing.assert_close(
        mass_squared(muons.sum(1)), mass_squared(same.sum(1)), rtol=1e-6, atol=0
    )
    is_jet = (events.pdg_id == 93) & (events.status == 1)
    assert float(pt(events.momenta[is_jet]).min()) > 20
    assert bool(is_jet.any(1).all()) == (name == "pp_to_zj")
    assert [v.name for v in info.variations] == ["RADIATION_MEMBER=0", "RADIATION_MEMBER=1"]
    mean = events.variations.mean(1)
    torch.testing.assert_close(mean, events.weight, rtol=1e-6, atol=0)


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(folder: Path) -> None:
    for output, seed in (("a.lhe", "3"), ("b.lhe", "3"), ("c.lhe", "4")):
        assert radiate(folder, "pp_to_z", output, "--seed", seed) == 0
    contents = [(folder / output).read_bytes() for output in ("a.lhe", "b.lhe", "c.lhe")]
    assert contents[0] == contents[1] != contents[2]


def test_a_model_says_what_it_was_learned_from(folder: Path) -> None:
    stored = read_radiation(folder / "z.radiation.zip")
    assert (stored.origin.n_max, stored.origin.n_events) == (4, 1500)
    assert stored.origin.jets["level"] == "partons"
    assert len(stored.radiation.networks) == 2


def test_show_tells_what_jets_and_models_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_arguments(["show", str(folder / "z.jets.zip")]) == 0
    assert "1,500 (partons)" in capsys.readouterr().out
    assert run_arguments(["show", str(folder / "z.radiation.zip")]) == 0
    assert "1,500 events, of each up to 4 jets" in capsys.readouterr().out


def test_half_precision_changes_little_and_takes_half_the_room(folder: Path) -> None:
    jets, small = str(folder / "z.jets.zip"), folder / "small.radiation.zip"
    assert run_arguments(["radiation", "train", jets, *SMALL, "--small", "-o", str(small)]) == 0
    whole = folder / "z.radiation.zip"
    assert small.stat().st_size < 0.7 * whole.stat().st_size
    one, other = (read_radiation(path).radiation.networks[0].state() for path in (whole, small))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--max-jets", "0"], 2, "--max-jets 0: expected at least 1"),
        (["--model", "nothing.radiation.zip"], 8, "nothing.radiation.zip: cannot be read"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, options: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert radiate(folder, "pp_to_z", "wrong.lhe", *options) == code
    assert message in capsys.readouterr().err
    assert not (folder / "wrong.lhe").exists()


def test_events_that_have_jets_already_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert radiate(folder, "pp_to_zj", "once.lhe") == 0
    model = str(folder / "z.radiation.zip")
    again = ["radiate", str(folder / "once.lhe"), "--model", model, "-o", str(folder / "twice.lhe")]
    assert run_arguments(again) != 0
    assert "events with jets of a model already" in capsys.readouterr().err
    assert not (folder / "twice.lhe").exists()


def test_a_damaged_model_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((folder / "z.radiation.zip").read_bytes())
    content[len(content) // 2] ^= 1
    bad = folder / "bad.radiation.zip"
    bad.write_bytes(bytes(content))
    assert radiate(folder, "pp_to_z", "bad.lhe", "--model", str(bad)) == 8
    assert "damaged" in capsys.readouterr().err


def test_the_model_that_comes_with_mlgen_is_small_and_radiates(folder: Path) -> None:
    assert SHIPPED.stat().st_size < 2_000_000
    assert radiate(folder, "pp_to_zj", "shipped.lhe", "--model", str(SHIPPED)) == 0
    info, events = read_events(folder / "shipped.lhe")
    assert dict(info.notes)["radiation_learned_from"].startswith("up to 4 jets")
    n_jets = ((events.pdg_id == 93) & (events.status == 1)).sum(1)
    # By Pythia, with its own Z and a jet above 20 GeV, 1.33 jets on average: half of it is not enough.
    assert 1.1 < float(n_jets.double().mean()) < 1.7


def test_a_model_is_compared_with_events_that_it_has_not_seen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jets, model = str(folder / "other.jets.zip"), str(folder / "z.radiation.zip")
    data = ["radiation", "data", "-n", "2000", "--seed", "2", "--workers", "1", "-o", jets]
    assert run_arguments(data) == 0
    output = folder / "control"
    command = ["radiation", "control", jets, "--model", model, "-o", str(output)]
    assert run_arguments(command) == 0
    shown = capsys.readouterr().out
    assert "2,000 true, 2,000 generated" in shown
    record = json.loads((output / "control.json").read_text(encoding="utf-8"))
    assert record["schema"] == "mlgen-radiation-control"
    assert (record["n_truth"], record["n_members"]) == (2000, 2)
    assert record["model"]["training"]["n_max"] == 4
    # One epoch of a tiny network: even the number of jets is not learned yet, and it shows.
    assert record["classifiers"][0]["auc"] > 0.4
    assert "<svg" in (output / "control.html").read_text(encoding="utf-8")
    same = ["radiation", "control", str(folder / "z.jets.zip"), "--model", model]
    assert run_arguments([*same, "-o", str(folder / "none")]) == 2
    assert "beside those that the model has learned from" in capsys.readouterr().err


def test_options_of_training_are_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jets = str(folder / "z.jets.zip")
    for options, message in (
        (["--bayesian", "first"], "--bayesian first: expected one of none, last, all"),
        (["--variant", "wild"], "wild"),
        (["-n", "2000"], "--n-events 2000: expected at most 1500"),
        (["-o", jets], "expected a name that ends in .radiation.zip"),
    ):
        output = [] if "-o" in options else ["-o", str(folder / "none.radiation.zip")]
        assert run_arguments(["radiation", "train", jets, *options, *output]) == 2
        assert message in capsys.readouterr().err
