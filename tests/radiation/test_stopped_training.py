"""A training of several networks that was stopped goes on with the next one, and ends as if it had not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlgen.campaign.jet_file import JetOrigin, StoredJets, write_jets
from mlgen.campaign.radiation_file import StoredRadiation, read_radiation
from mlgen.campaign.radiation_members import MemberFile
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, PackError
from mlgen.jobs.radiation_job import RadiationOrder, train_radiation
from mlgen.physics.kinematics import eta, mass, phi, pt, rapidity
from mlgen.radiation import hard_object
from mlgen.radiation.cluster import CompactEvents, JetDefinition
from mlgen.radiation.oracle import AnalyticShower
from mlgen.radiation.settings import NetworkSettings, TrainingSettings
from tests.stopping import StopsAt

N_MEMBERS = 3
FEW_STEPS = 20
"""Of the hard object, which has a part in this at the end alone."""


@pytest.fixture(scope="module")
def jets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of events of the analytic shower."""
    events = AnalyticShower().sample(1500, torch.Generator().manual_seed(1))
    seen, hard = events.jets[events.is_jet], events.hard
    compact = CompactEvents(
        hard=torch.stack([pt(hard), phi(hard), rapidity(hard), mass(hard)], dim=1).float(),
        jets=torch.stack([pt(seen), phi(seen), eta(seen), mass(seen)], dim=1).float(),
        n_jets=events.n_jets.to(torch.uint8),
    )
    origin = JetOrigin(
        settings=(),
        level="partons",
        jets=JetDefinition(),
        seed=1,
        events_per_chunk=1500,
        event_file="",
        event_file_sha256="",
        n_hard_events=0,
        n_failed=0,
        n_tried=1500,
        cross_section_pb=1.0,
        cross_section_error_pb=0.1,
        versions={},
    )
    path = tmp_path_factory.mktemp("jets") / "shower.jets.zip"
    write_jets(path, StoredJets(events=compact, origin=origin))
    return path


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hard_object, "N_STEPS", FEW_STEPS)
        yield


def order_of(jets: Path, seed: int = 1) -> RadiationOrder:
    return RadiationOrder(
        jets=jets,
        network=NetworkSettings(n_channels=8, n_blocks=1, n_heads=2, n_components=3),
        training=TrainingSettings(n_max=3, n_epochs=1, batch_size=64, n_members=N_MEMBERS),
        seed=seed,
    )


@pytest.fixture(scope="module")
def whole(jets: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredRadiation:
    """The model of a training that nothing stopped."""
    path = tmp_path_factory.mktemp("whole") / "a.radiation.zip"
    train_radiation(path, order_of(jets), SilentProgress())
    return read_radiation(path)


def stopped(folder: Path, jets: Path) -> Path:
    """Where a model was to stand whose training was stopped while it learned the second network."""
    path = folder / "a.radiation.zip"
    # Each training advances 20 times.
    progress = StopsAt("training radiation (truncated)", 25, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train_radiation(path, order_of(jets), progress)
    return path


def check_same(path: Path, whole: StoredRadiation) -> None:
    """All but the time that it took."""
    found = read_radiation(path)
    assert replace(found.origin, cpu_s=0.0) == replace(whole.origin, cpu_s=0.0)
    (table, tensors), (its_table, its_tensors) = found.radiation.state(), whole.radiation.state()
    assert table == its_table
    torch.testing.assert_close(tensors, its_tensors, rtol=0, atol=0)


def test_finished_networks_are_not_trained_again(
    jets: Path, whole: StoredRadiation, tmp_path: Path
) -> None:
    path = stopped(tmp_path, jets)
    assert [file.name for file in tmp_path.iterdir()] == ["a.radiation.zip.members"]
    progress = StopsAt("", 0, KeyboardInterrupt())
    train_radiation(path, order_of(jets), progress)
    assert progress.seen.count("training radiation (truncated)") == 20 * (N_MEMBERS - 1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.radiation.zip"]
    check_same(path, whole)


def test_other_options_are_refused(jets: Path, tmp_path: Path) -> None:
    path = stopped(tmp_path, jets)
    with pytest.raises(CardError, match=r"networks of a training with another seed: expected"):
        train_radiation(path, order_of(jets, seed=2), SilentProgress())


def test_a_damaged_file_of_networks_is_refused(jets: Path, tmp_path: Path) -> None:
    path = stopped(tmp_path, jets)
    members = tmp_path / "a.radiation.zip.members"
    content = bytearray(members.read_bytes())
    content[len(content) // 2] ^= 1
    members.write_bytes(content)
    with pytest.raises(PackError, match="damaged"):
        train_radiation(path, order_of(jets), SilentProgress())


def test_a_file_without_networks_is_none(tmp_path: Path) -> None:
    found = MemberFile(tmp_path / "a.radiation.zip", NetworkSettings(), {})
    assert len(found) == 0
    assert found.load(0) is None
    found.remove()


_TRAIN = """
import sys
from pathlib import Path
from mlgen.diagnostics.progress import SilentProgress
from mlgen.jobs.radiation_job import train_radiation
from mlgen.radiation import hard_object
from tests.radiation.test_stopped_training import FEW_STEPS, order_of
hard_object.N_STEPS = FEW_STEPS
train_radiation(Path(sys.argv[2]), order_of(Path(sys.argv[1])), SilentProgress())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals that cannot be caught")
def test_a_killed_training_ends_as_if_it_had_not_been(
    jets: Path, whole: StoredRadiation, tmp_path: Path
) -> None:
    path = tmp_path / "a.radiation.zip"
    members = tmp_path / "a.radiation.zip.members"
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, str(jets), str(path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 120
    while not members.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert members.exists() or path.exists(), "nothing was learned"
    if not path.exists():
        train_radiation(path, order_of(jets), SilentProgress())
    check_same(path, whole)
