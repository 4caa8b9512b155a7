"""Where training fails, VEGAS makes the events, and nobody can overlook it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.cards import Card
from mlgen.cli import run_arguments
from mlgen.events.check import check_file
from mlgen.samplers import flow
from mlgen.samplers.vegas import VegasGrid
from tests.test_resume import SETTINGS

QUICK = [f"--set={setting}" for setting in SETTINGS]
REFERENCE_PB = 0.42807
"""MadGraph's, run `ee_mumu_500` of `tests/reference/xsec.json`."""


class NarrowFlow(flow.CouplingFlow):
    """A flow that never samples a part of phase space: what a bug, or mode collapse, would do."""

    share = 0.6
    """Of the range of the first dimension that it reaches."""

    def forward(self, u: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        r, log_det = super().forward(u, channel)
        narrow = torch.ones_like(r)
        narrow[:, 0] = self.share
        return r * narrow, log_det + torch.log(torch.tensor(self.share))

    def inverse(self, r: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.ones_like(r)
        wide[:, 0] = 1 / self.share
        u, log_det = super().inverse((r * wide).clamp(max=1.0), channel)
        return u, log_det - torch.log(torch.tensor(self.share))


def narrow(grid: VegasGrid, card: Card, rng: torch.Generator) -> flow.CouplingFlow:
    return NarrowFlow(grid, card.flow, rng)


def spoilt(case: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What it takes to spoil the training."""
    if case == "lost a part of phase space":
        monkeypatch.setattr(flow, "start", narrow)
        return []
    return ["--set=flow.learning_rate=1e30"]


@pytest.mark.parametrize("sampler", ["flow", "auto"])
@pytest.mark.parametrize("case", ["training the flow failed", "lost a part of phase space"])
def test_where_training_fails_vegas_makes_the_events_loudly(
    case: str,
    sampler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mlgen.integration.integrator.NOT_WORTH_MEASURING_S", 0.0)
    # Training always looks cheap, and worth it.
    monkeypatch.setattr("mlgen.integration.choosing.MARGIN", 1e9)
    monkeypatch.setattr("mlgen.integration.choosing.LITTLE", 1e9)
    options = [*spoilt(case, monkeypatch), *QUICK, f"--sampler={sampler}", "-o", str(tmp_path)]
    assert run_arguments(["run", "ee_to_mumu", *options]) == 0

    record = json.loads((tmp_path / "run.json").read_text())
    (warning,) = record["warnings"]
    assert case in warning
    assert "vegas is used instead" in warning
    assert (record["status"], record["sampler"]) == ("complete", "vegas")
    assert record["training"]["sampler"] == "flow"
    assert record["cross_section_pb"] == pytest.approx(REFERENCE_PB, rel=0.02)
    assert check_file(tmp_path / "events.lhe.gz").is_good

    said = capsys.readouterr()
    assert f"WARNING: {warning}" in " ".join(said.err.split())
    assert f"WARNING                  {warning}" in said.out
    assert "vegas is used instead" in (tmp_path / "report.html").read_text()


def test_a_sound_training_warns_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*QUICK, "--sampler=flow", "-o", str(tmp_path)]
    assert run_arguments(["run", "ee_to_mumu", *options]) == 0
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["sampler"], record["warnings"]) == ("flow", [])
    assert "WARNING" not in "".join(capsys.readouterr())
