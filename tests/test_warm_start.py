"""Training that begins from the flow of a pack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlgen.api import integrate, run
from mlgen.campaign.pack import read_pack, write_pack
from mlgen.campaign.whole_files import checksum
from mlgen.card_files import find_card, read_card
from mlgen.cards import Card
from mlgen.cli import run_arguments
from mlgen.errors import CardError, PackError
from mlgen.jobs.stages import RunResult

PACK = "ee_to_mumu.mlgen.zip"


def card_with(*overrides: str, name: str = "ee_to_mumu") -> Card:
    settings = (
        "run.sampler=flow",
        "run.n_events=100",
        "run.n_estimate=8000",
        "vegas.n_points=2000",
        "vegas.n_iterations=2",
        "vegas.n_bins=16",
        "vegas.damping=0",  # a grid that leaves the flow something to learn
        "flow.n_bins=6",
        "flow.n_hidden=16",
        "flow.batch_size=512",
        "flow.n_steps=160",
    )
    return read_card(find_card(name), (*settings, *overrides))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(card_with(), tmp_path_factory.mktemp("before") / "out")


@pytest.fixture(scope="module")
def warm(before: RunResult, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    card = card_with(f"flow.start_from={before.folder / PACK}", "flow.n_steps=32", "run.seed=2")
    return run(card, tmp_path_factory.mktemp("warm") / "out")


def first_efficiency(result: RunResult) -> float:
    assert result.record.training is not None
    return result.record.training.eps_uw[0]


def test_a_warm_start_begins_with_the_efficiency_of_the_pack(
    before: RunResult, warm: RunResult
) -> None:
    reached = before.record.samplers["flow"].eps_uw.value
    vegas = before.record.samplers["vegas"].eps_uw.value
    assert reached > 1.1 * vegas
    assert first_efficiency(before) == pytest.approx(vegas, rel=0.03)
    assert first_efficiency(warm) == pytest.approx(reached, rel=0.03)


def test_a_run_names_the_pack_that_it_started_from_without_its_folder(
    before: RunResult, warm: RunResult
) -> None:
    record = json.loads((warm.folder / "run.json").read_text())
    sha256 = before.record.files[PACK].sha256
    assert record["warm_start"] == {"file": PACK, "sha256": sha256}
    assert record["card"]["flow"]["start_from"] == PACK
    assert record["notes"] == []
    for path in warm.folder.iterdir():
        assert str(before.folder).encode() not in path.read_bytes()
    assert f'start_from = "{PACK}"' in read_pack(warm.folder / PACK).card
    assert PACK in (warm.folder / "report.html").read_text()
    assert before.record.warm_start is None


def test_integrate_starts_warm_too(before: RunResult) -> None:
    overrides = (f"flow.start_from={before.folder / PACK}", "flow.n_steps=16")
    found = integrate(card_with(*overrides))
    reached = before.record.samplers["flow"].eps_uw.value
    assert found.chosen.efficiencies[0] == pytest.approx(reached, rel=0.03)


def test_a_warm_start_says_in_what_the_cards_differ(before: RunResult, tmp_path: Path) -> None:
    card = card_with(
        f"flow.start_from={before.folder / PACK}",
        "flow.n_steps=16",
        "process.definition=e+ e- > mu- mu+",
        "cuts.leptons.pt_min_gev=5",
    )
    (note,) = run(card, tmp_path).record.notes
    assert note.startswith(
        f"training began from {PACK}, whose card differs in `e+ e- > mu+ mu-`, [cuts]"
    )


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["flow.n_hidden=8"], CardError, r"flow\.n_hidden = 8: expected 16, as in .*zip"),
        (["flow.n_blocks=4"], CardError, r"flow\.n_blocks = 4: expected 0, as in"),
        (["vegas.n_bins=32"], CardError, r"vegas\.n_bins = 32: expected 16, as in"),
        (["process.definition=e+ e- > u u~ g"], PackError, r"n_dim = 1: expected "),
        (["flow.start_from=nowhere.zip"], PackError, r"nowhere\.zip: cannot be read"),
    ],
)
def test_a_pack_that_does_not_fit_is_refused(
    overrides: list[str], error: type[Exception], message: str, before: RunResult, tmp_path: Path
) -> None:
    start = f"flow.start_from={before.folder / PACK}"
    with pytest.raises(error, match=message):
        run(card_with(start, *overrides), tmp_path)


def test_a_pack_without_a_trained_sampler_is_refused(tmp_path: Path) -> None:
    run(card_with("run.sampler=vegas"), tmp_path / "vegas")
    card = card_with(f"flow.start_from={tmp_path / 'vegas' / PACK}")
    with pytest.raises(PackError, match=r"holds vegas: expected a trained flow"):
        run(card, tmp_path / "out")


def test_a_run_with_vegas_alone_needs_no_pack(tmp_path: Path) -> None:
    record = run(card_with("run.sampler=vegas", "flow.start_from=nowhere.zip"), tmp_path).record
    assert (record.status, record.warm_start) == ("complete", None)


def test_a_warm_start_goes_on_only_with_the_pack_that_it_began_from(
    before: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlgen.campaign.checkpoint.INTERVAL_S", 0.0)
    from tests.stopping import StopsAt

    pack, folder = tmp_path / PACK, tmp_path / "out"
    pack.write_bytes((before.folder / PACK).read_bytes())
    stops = StopsAt("training the flow", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(card_with(f"flow.start_from={pack}", "flow.n_steps=32"), folder, progress=stops)
    damaged: Any = read_pack(pack)
    damaged.tables["other"] = 1
    write_pack(pack, damaged)
    assert run_arguments(["run", "--resume", str(folder)]) == PackError.exit_code
    pack.write_bytes((before.folder / PACK).read_bytes())
    assert run_arguments(["run", "--resume", str(folder)]) == 0
    assert checksum(pack) == json.loads((folder / "run.json").read_text())["warm_start"]["sha256"]
