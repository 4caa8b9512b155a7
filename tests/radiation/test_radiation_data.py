"""From orders to files of jets."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.campaign.archive import archive_bytes
from mlgen.campaign.jet_file import _KIND, SUFFIX, StoredJets, read_jets, write_jets
from mlgen.campaign.run_folder import new_file
from mlgen.campaign.workers import LocalWorkers, local_workers
from mlgen.cli import run_arguments
from mlgen.core import EventBatch, SampleInfo
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, EventFileError, PackError
from mlgen.events.formats import read_events, write_events
from mlgen.jobs.radiation_data import JetOrder, make_radiation_data
from mlgen.physics.kinematics import mass
from mlgen.radiation.jets import check_jet_events
from mlgen.radiation.pythia_data import PythiaSettings

for extra in ("pythia8mc", "fastjet"):
    pytest.importorskip(extra, reason="needs the extra `radiation`")

EEJ = Path(__file__).parents[1] / "reference" / "lhe" / "pp_epemj_200.lhe.gz"


class SmallChunks(PythiaSettings):
    """Chunks that are small enough for a test to make several."""

    @property
    def events_per_chunk(self) -> int:
        return 80


def made(path: Path, order: JetOrder, n_workers: int = 1) -> StoredJets:
    with local_workers(n_workers) as workers:
        return make_radiation_data(path, order, workers, SilentProgress())


def event_file(path: Path, weights: Tensor | None = None) -> tuple[SampleInfo, EventBatch]:
    """200 events with relative weights."""
    info, events = read_events(EEJ)
    info = replace(info, weighted=False, process="p p > e+ e- j", card="[process]\n")
    if weights is None:
        weights = torch.ones(len(events), dtype=torch.float64)
    events = replace(events, weight=weights)
    write_events(path, [events], info)
    return info, events


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoredJets]:
    path = tmp_path_factory.mktemp("jets") / "z.jets.zip"
    return path, made(path, JetOrder(settings=SmallChunks(), seed=7, n_events=100))


def test_what_is_read_is_what_was_written(stored: tuple[Path, StoredJets]) -> None:
    path, written = stored
    read = read_jets(path)
    for name in ("hard", "jets", "n_jets"):
        assert torch.equal(getattr(read.events, name), getattr(written.events, name))
    assert read.origin == written.origin
    assert len(read.events) == 100
    check_jet_events(read.events.to_events(), read.origin.jets.pt_min_gev)


def test_a_file_says_where_its_events_come_from(stored: tuple[Path, StoredJets]) -> None:
    origin = read_jets(stored[0]).origin
    assert origin.seed == 7
    assert "WeakSingleBoson:ffbar2gmZ = on" in origin.settings
    assert {"pythia8mc", "fastjet", "mlgen"} <= origin.versions.keys()
    assert 1000 < origin.cross_section_pb < 2000
    assert 0 < origin.cross_section_error_pb < 200


def test_bytes_do_not_depend_on_who_makes_the_events(
    stored: tuple[Path, StoredJets], tmp_path: Path
) -> None:
    again = tmp_path / "again.jets.zip"
    made(again, JetOrder(settings=SmallChunks(), seed=7, n_events=100), n_workers=2)
    assert again.read_bytes() == stored[0].read_bytes()


def test_more_events_begin_with_the_same_ones(
    stored: tuple[Path, StoredJets], tmp_path: Path
) -> None:
    order = JetOrder(settings=SmallChunks(), seed=7, n_events=90)
    fewer = made(tmp_path / "fewer.jets.zip", order)
    assert torch.equal(fewer.events.hard, stored[1].events.hard[:90])
    assert torch.equal(fewer.events.jets, stored[1].events.jets[: len(fewer.events.jets)])


def test_an_event_file_is_showered_in_its_order(tmp_path: Path) -> None:
    info, events = event_file(tmp_path / "hard.lhe.gz")
    order = JetOrder(settings=SmallChunks(), event_file=tmp_path / "hard.lhe.gz")
    found = made(tmp_path / "a.jets.zip", order)
    pairs = (events.momenta * (events.pdg_id.abs() == 11)[..., None]).sum(1)
    torch.testing.assert_close(found.events.hard[:, 3].double(), mass(pairs), rtol=1e-3, atol=0)
    assert found.origin.event_file == "hard.lhe.gz"
    assert found.origin.n_hard_events == 200
    assert found.origin.cross_section_pb == pytest.approx(info.cross_section_pb)
    first = made(tmp_path / "b.jets.zip", replace(order, n_events=50))
    assert torch.equal(first.events.jets, found.events.jets[: len(first.events.jets)])
    assert len(first.events) == 50


def test_an_overweight_event_is_showered_as_often_as_it_counts(tmp_path: Path) -> None:
    weights = torch.ones(200, dtype=torch.float64)
    weights[[3, 100]] = torch.tensor([3.0, 2.5], dtype=torch.float64)
    weights[7] = 0.0
    event_file(tmp_path / "hard.lhe", weights)
    found = made(
        tmp_path / "a.jets.zip", JetOrder(settings=SmallChunks(), event_file=tmp_path / "hard.lhe")
    )
    masses = found.events.hard[:, 3]
    same = (masses[1:] / masses[:-1] - 1).abs() < 1e-5
    # 200 - 1 of weight 0 + 2 + 1 or 2.
    assert len(found.events) in (202, 203)
    assert int(same.sum()) == len(found.events) - 199
    assert found.origin.n_hard_events == 199
    # Each with radiation of its own.
    assert not torch.equal(found.events.hard[3, :3], found.events.hard[4, :3])


def _weighted(path: Path) -> None:
    rng = torch.Generator().manual_seed(1)
    event_file(path, torch.randn(200, generator=rng, dtype=torch.float64).mul(2).exp())


def _negative(path: Path) -> None:
    weights = torch.ones(200, dtype=torch.float64)
    weights[5] = -1.0
    event_file(path, weights)


def _truncated(path: Path) -> None:
    event_file(path)
    path.write_bytes(path.read_bytes()[:40_000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_weighted, "% of the events would be repeated, by their weights: expected unweighted"),
        (_negative, "a weight of -.*: expected none below 0"),
        (_truncated, r"hard\.lhe"),
        (lambda path: None, "expected an event file"),
    ],
    ids=["weighted", "negative", "truncated", "missing"],
)
def test_event_files_that_cannot_be_showered_are_refused_and_leave_nothing(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(tmp_path / "hard.lhe")
    before = sorted(tmp_path.iterdir())
    order = JetOrder(settings=SmallChunks(), event_file=tmp_path / "hard.lhe")
    with pytest.raises(EventFileError, match=message):
        made(tmp_path / "a.jets.zip", order)
    assert sorted(tmp_path.iterdir()) == before


def test_more_events_than_a_file_has_are_refused(tmp_path: Path) -> None:
    event_file(tmp_path / "hard.lhe")
    order = JetOrder(settings=SmallChunks(), event_file=tmp_path / "hard.lhe", n_events=300)
    with pytest.raises(EventFileError, match="200 events: expected at least 300"):
        made(tmp_path / "a.jets.zip", order)


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    event_file(tmp_path / "hard.lhe")
    monkeypatch.setattr(LocalWorkers, "_listen", interrupted)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    order = JetOrder(settings=SmallChunks(), event_file=tmp_path / "hard.lhe")
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "a.jets.zip", order, n_workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["hard.lhe"]


def rewritten(path: Path, change: Callable[[dict[str, object], dict[str, Tensor]], None]) -> None:
    """A file with valid checksums whose content was changed."""
    stored = read_jets(path)
    with zipfile.ZipFile(path) as archive:
        table = json.loads(archive.read("jets.json"))
    columns = {name: getattr(stored.events, name).clone() for name in ("hard", "jets", "n_jets")}
    change(table, columns)
    for key in ("schema", "schema_version", "sha256"):
        table.pop(key)
    path.write_bytes(archive_bytes(_KIND, table, {"events": columns}))


@pytest.mark.parametrize(
    "change",
    [
        lambda table, columns: columns["n_jets"].fill_(1),
        lambda table, columns: columns["jets"].fill_(float("nan")),
        lambda table, columns: columns.pop("hard"),
        lambda table, columns: columns.update(hard=columns["hard"].double()),
        lambda table, columns: table.update(n_events=3),
        lambda table, columns: table["origin"].pop("seed"),
        lambda table, columns: table["origin"]["jets"].update(radius=-1.0),
        lambda table, columns: table["origin"].update(settings=[1, 2]),
    ],
)
def test_a_file_that_another_program_wrote_wrongly_is_refused(
    stored: tuple[Path, StoredJets],
    tmp_path: Path,
    change: Callable[[dict[str, object], dict[str, Tensor]], None],
) -> None:
    path = tmp_path / "z.jets.zip"
    write_jets(path, stored[1])
    rewritten(path, lambda table, columns: None)
    assert read_jets(path).origin == stored[1].origin
    rewritten(path, change)
    with pytest.raises(PackError):
        read_jets(path)


def test_a_flipped_bit_is_noticed(stored: tuple[Path, StoredJets], tmp_path: Path) -> None:
    content = bytearray(stored[0].read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "z.jets.zip").write_bytes(content)
    with pytest.raises(PackError, match="damaged"):
        read_jets(tmp_path / "z.jets.zip")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("z.zip", r"expected a name that ends in \.jets\.zip"),
        ("there.jets.zip", "expected a file that does not exist yet"),
        ("no/z.jets.zip", "expected an existing folder"),
    ],
)
def test_where_a_file_cannot_stand_is_known_at_once(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "there.jets.zip").touch()
    with pytest.raises(CardError, match=message):
        new_file(tmp_path / name, "z", SUFFIX)


def test_the_command_makes_a_file_and_says_what_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "z.jets.zip"
    options = ["--n-events", "300", "--output", str(path), "--workers", "1", "--mass", "85", "97"]
    assert run_arguments(["radiation", "data", *options]) == 0
    printed = capsys.readouterr().out
    assert "300 events" in printed
    assert "0 jets" in printed
    masses = read_jets(path).events.hard[:, 3]
    assert 85 <= float(masses.min()) < float(masses.max()) <= 97


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--n-events", "0"], 2),
        (["--seed", "-1"], 2),
        (["--level", "quarks"], 2),
        (["--workers", "0"], 2),
        (["--events", "nothing.lhe"], 7),
    ],
)
def test_wrong_options_have_the_exit_codes_of_other_commands(
    tmp_path: Path, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "z.jets.zip")]
    assert run_arguments(["radiation", "data", *output, *options]) == code
    assert list(tmp_path.iterdir()) == []
