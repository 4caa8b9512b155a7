"""The main job, end to end: a card becomes an event file that a shower reads."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mlgen.campaign.pack import read_pack
from mlgen.campaign.whole_files import checksum
from mlgen.card_files import card_from_table
from mlgen.cli import run_arguments
from mlgen.core import random_stream
from mlgen.events.check import check_file
from mlgen.events.formats import read_events
from mlgen.physics.kinematics import pt
from mlgen.samplers.registry import restore_sampler
from tests.event_counts import count, p_value
from tests.events.pythia_reading import shower_file

N_EVENTS = 4000
QUICK = (
    "--set=flow.n_steps=40",
    "--set=run.n_estimate=32768",
    "--set=vegas.n_iterations=5",
)


@dataclass(frozen=True)
class Run:
    folder: Path
    record: dict[str, Any]


def run(folder: Path, *arguments: str) -> Run:
    assert run_arguments(["run", *arguments, *QUICK, "-o", str(folder)]) == 0
    return Run(folder=folder, record=json.loads((folder / "run.json").read_text()))


@pytest.fixture(scope="module")
def eej(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("eej") / "out", "pp_to_eej", "-n", str(N_EVENTS))


def test_a_run_leaves_exactly_the_events_that_were_asked_for(eej: Run) -> None:
    info, events = read_events(eej.folder / "events.lhe.gz")
    assert len(events) == N_EVENTS == eej.record["n_events"]
    assert info.cross_section_pb == eej.record["cross_section_pb"]
    assert eej.record["status"] == "complete"
    assert eej.record["sampler"] == "flow"


def test_the_event_file_of_a_run_passes_its_check(eej: Run) -> None:
    report = check_file(eej.folder / "events.lhe.gz")
    assert report.is_good, report.findings


def test_the_record_holds_what_is_promised(eej: Run) -> None:
    promised = (
        "schema status process card seed versions sampler cross_section_pb cross_section_error_pb "
        "n_events eps_uw samplers ess overweight_fraction n_matrix_element_calls cpu_s wall_s files"
    )
    assert set(promised.split()) <= set(eej.record)
    assert set(eej.record["samplers"]) == {"vegas", "flow"}
    for sampler in eej.record["samplers"].values():
        assert set(sampler["eps_uw"]) == {"value", "error", "n", "t"}
        assert 0 < sampler["eps_uw"]["value"] < 1
    steps = {"prepare", "adapt", "train", "estimate", "surrogate", "generate", "write"}
    assert set(eej.record["cpu_s"]) == set(eej.record["wall_s"]) == steps
    for name, file in eej.record["files"].items():
        assert checksum(eej.folder / name) == file["sha256"]
    assert {"events.lhe.gz", "report.html", "pp_to_eej.mlgen.zip"} == set(eej.record["files"])


def test_the_cross_section_of_a_run_agrees_with_an_independent_integration(eej: Run) -> None:
    reference = json.loads((Path(__file__).parent / "reference" / "xsec.json").read_text())
    sigma, error = reference["independent_integrations"]["pp_epemj"]
    mine, mine_error = eej.record["cross_section_pb"], eej.record["cross_section_error_pb"]
    assert mine_error < 0.005 * mine
    assert abs(mine - sigma) < 3 * math.hypot(mine_error, error) + 0.001 * sigma


def test_pythia_showers_and_hadronises_the_events_without_a_failure(eej: Run) -> None:
    reading = shower_file(eej.folder / "events.lhe.gz", 200)
    assert (reading.n_ok, reading.n_failed) == (200, 0)
    assert 23 in reading.resonances


@pytest.fixture(scope="module")
def madgraph_counts() -> dict[str, dict[str, int]]:
    path = Path(__file__).parent / "reference" / "events" / "pp_epemj_counts.json"
    counts: dict[str, dict[str, int]] = json.loads(path.read_text())["counts"]
    return counts


def test_the_events_are_distributed_as_those_of_madgraph(
    eej: Run, madgraph_counts: dict[str, dict[str, int]]
) -> None:
    _, events = read_events(eej.folder / "events.lhe.gz")
    # Overweight events are few and hardly so: counting them as one is within the statistics.
    assert eej.record["overweight_fraction"] < 0.005
    counts = count(events)
    p_values = {name: p_value(counts[name], madgraph_counts[name]) for name in counts}
    assert min(p_values.values()) > 1e-3, p_values


def test_events_of_other_cuts_are_told_apart_from_those_of_madgraph(
    eej: Run, madgraph_counts: dict[str, dict[str, int]]
) -> None:
    _, events = read_events(eej.folder / "events.lhe.gz")
    harder = (events.status == 1) & (events.pdg_id.abs() != 11)
    transverse = torch.where(harder, pt(events.momenta), torch.zeros_like(events.mass)).sum(1)
    counts = count(events.select(transverse > 23))
    assert p_value(counts["pt_jet"], madgraph_counts["pt_jet"]) < 1e-6


def test_pythia_finds_our_cross_section(eej: Run) -> None:
    reading = shower_file(eej.folder / "events.lhe.gz", N_EVENTS)
    assert reading.n_ok == N_EVENTS
    assert reading.cross_section_pb == pytest.approx(eej.record["cross_section_pb"], rel=1e-6)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    eej: Run, tmp_path: Path
) -> None:
    arguments = ("pp_to_eej", "-n", str(N_EVENTS))
    again = run(tmp_path / "again", *arguments)
    other = run(tmp_path / "other", *arguments, "--seed", "2")
    for name in ("events.lhe.gz", "pp_to_eej.mlgen.zip"):
        assert checksum(again.folder / name) == eej.record["files"][name]["sha256"]
        assert checksum(other.folder / name) != eej.record["files"][name]["sha256"]


def test_a_pack_brings_back_the_samplers_that_the_run_trained(eej: Run) -> None:
    pack = read_pack(eej.folder / "pp_to_eej.mlgen.zip")
    card = card_from_table(tomllib.loads(pack.card))
    measured = eej.record["samplers"][pack.sampler]["cross_section_pb"]
    assert pack.chosen.estimate.sums.mean == measured
    for name, packed in pack.samplers.items():
        shape = packed.config["n_channels"], packed.config["n_dim"]
        sampler = restore_sampler(name, card, *shape, packed.tensors)
        channel = torch.arange(shape[0]).repeat(50)
        with torch.no_grad():
            r, log_q = sampler.sample(channel, random_stream(1, "test", 0))
            log_prob = sampler.log_prob(r, channel)
        # The blocks of the flow compute in float32, there and back.
        torch.testing.assert_close(log_prob, log_q, rtol=0, atol=1e-4 if name == "flow" else 1e-9)


def test_weighted_events_average_to_the_cross_section(tmp_path: Path) -> None:
    done = run(tmp_path / "out", "pp_to_ee", "-n", "2000", "--weighted", "--sampler", "vegas")
    info, events = read_events(done.folder / "events.lhe.gz")
    assert len(events) == 2000
    assert len(set(events.weight.tolist())) > 1000
    assert float(events.weight.mean()) == pytest.approx(info.cross_section_pb, rel=1e-9)
    assert check_file(done.folder / "events.lhe.gz").is_good


def test_a_run_with_pyamplicol_gives_the_numbers_of_the_closed_form(
    artifact_cache: Path, tmp_path: Path
) -> None:
    arguments = (
        "pp_to_eej",
        "-n",
        "200",
        "--sampler=vegas",
        f"--set=matrix_element.cache_folder={artifact_cache}",
    )
    closed = run(tmp_path / "closed", *arguments)
    made = run(tmp_path / "made", *arguments, "--set=matrix_element.provider=pyamplicol")
    sigma = closed.record["cross_section_pb"]
    assert made.record["cross_section_pb"] == pytest.approx(sigma, rel=1e-9)
    _, closed_events = read_events(closed.folder / "events.lhe.gz")
    _, made_events = read_events(made.folder / "events.lhe.gz")
    torch.testing.assert_close(made_events.momenta, closed_events.momenta)
    assert check_file(made.folder / "events.lhe.gz").is_good


def test_top_pairs_with_a_jet_run_through_pyamplicol(artifact_cache: Path, tmp_path: Path) -> None:
    # The gluonic part alone: what the other parts need would be two more artifacts.
    done = run(
        tmp_path / "out",
        "pp_to_ttj",
        "-n",
        "200",
        "--sampler=vegas",
        "--set=process.definition=g g > t t~ g",
        f"--set=matrix_element.cache_folder={artifact_cache}",
    )
    assert check_file(done.folder / "events.lhe.gz").is_good
    # MadGraph5_aMC@NLO 3.1.1, reference/xsec.json of the project: g g > t t~ g, run_hi.
    sigma, error = 484.357, 0.545
    mine, mine_error = done.record["cross_section_pb"], done.record["cross_section_error_pb"]
    assert mine_error < 0.01 * mine
    assert abs(mine - sigma) < 3 * math.hypot(mine_error, error) + 0.003 * sigma
    reading = shower_file(done.folder / "events.lhe.gz", 50)
    assert (reading.n_ok, reading.n_failed) == (50, 0)
