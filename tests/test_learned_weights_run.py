"""A run with learned channel weights, from the card to the pack."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import mlgen
from mlgen.build import build
from mlgen.campaign.pack import Pack, read_pack
from mlgen.card_files import card_from_table, find_card, read_card
from mlgen.core import random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.events.check import check_file
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.proposal import Proposal, draw
from mlgen.samplers.registry import restore_sampler

SETTINGS = (
    "phase_space.learned_weights=true",
    "matrix_element.provider=closed_form",
    "run.sampler=flow",
    "run.n_events=500",
    "run.n_estimate=32768",
    "flow.n_steps=64",
    "flow.n_hidden=16",
    "flow.batch_size=512",
    "vegas.n_iterations=3",
    "vegas.n_points=10000",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("learned") / "run"
    mlgen.run(read_card(find_card("ee_to_uug"), SETTINGS), made)
    return made


def record(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return table


def test_the_record_says_which_sampler_has_learned_weights(folder: Path) -> None:
    samplers = record(folder)["samplers"]
    assert samplers["vegas"]["channel_weights"] == "prior"
    assert samplers["flow"]["channel_weights"] == "learned"
    assert record(folder)["card"]["phase_space"]["learned_weights"] is True


def test_both_kinds_of_weights_give_one_cross_section(folder: Path) -> None:
    vegas, flow = (record(folder)["samplers"][name] for name in ("vegas", "flow"))
    error = math.hypot(vegas["cross_section_error_pb"], flow["cross_section_error_pb"])
    assert abs(vegas["cross_section_pb"] - flow["cross_section_pb"]) < 5 * error
    assert error < 0.05 * flow["cross_section_pb"]
    assert check_file(folder / "events.lhe.gz").is_good


def cross_section_from(pack: Pack) -> ChannelSums:
    card = card_from_table(tomllib.loads(pack.card))
    integrand, packed = build(card, SilentProgress()).integrand, pack.samplers["flow"]
    shape = integrand.n_channels, integrand.n_dim
    sampler = restore_sampler("flow", card, *shape, packed.tensors)
    assert sampler.channel_weights is not None
    fractions = torch.tensor(packed.fraction, dtype=torch.float64)
    proposal = Proposal(sampler=sampler, fractions=fractions)
    batch, _ = draw(integrand, proposal, 32_768, random_stream(7, "from a pack", 0))
    assert bool(batch.log_share.any())
    return ChannelSums.of(batch, integrand.n_channels)


def test_the_pack_brings_the_weights_back(folder: Path) -> None:
    """The channels' own integrals depend on them, and come out as in the run."""
    sums = cross_section_from(read_pack(folder / "ee_to_uug.mlgen.zip"))
    rows = record(folder)["channels"]
    for row, mean, variance in zip(rows, sums.means, sums.variances, strict=True):
        error = math.hypot(row["cross_section_error_pb"], float(variance) ** 0.5)
        assert abs(row["cross_section_pb"] - float(mean)) < 5 * error


def test_training_goes_on_from_the_weights_of_a_pack(folder: Path, tmp_path: Path) -> None:
    pack = folder / "ee_to_uug.mlgen.zip"
    more = (*SETTINGS, f"flow.start_from={pack}", "flow.n_steps=16")
    warm = mlgen.run(read_card(find_card("ee_to_uug"), more), tmp_path / "warm")
    tensors = read_pack(warm.folder / "ee_to_uug.mlgen.zip").samplers["flow"].tensors
    before = read_pack(pack).samplers["flow"].tensors
    name = "learned_weights.last"
    change = (tensors[name] - before[name]).norm()
    assert 0 < float(change) < float(before[name].norm())


def test_without_the_option_weights_of_a_pack_are_left_out(folder: Path, tmp_path: Path) -> None:
    pack = folder / "ee_to_uug.mlgen.zip"
    off = ("phase_space.learned_weights=false", f"flow.start_from={pack}", "flow.n_steps=16")
    card = read_card(find_card("ee_to_uug"), (*SETTINGS, *off))
    plain = mlgen.run(card, tmp_path / "plain")
    assert plain.record.samplers["flow"].channel_weights == "prior"
    tensors = read_pack(plain.folder / "ee_to_uug.mlgen.zip").samplers["flow"].tensors
    assert not any(name.startswith("learned_weights") for name in tensors)
