from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlgen.campaign.run_record import (
    ChannelRecord,
    Decision,
    Efficiency,
    FileRecord,
    GroupRecord,
    RunRecord,
    SamplerRecord,
    card_table,
    describe_file,
    portable_card,
    versions,
)
from mlgen.campaign.step_clock import STEPS, StepClock
from mlgen.campaign.whole_files import checksum, write_json_atomically
from mlgen.card_files import card_from_table
from mlgen.cards import Card
from mlgen.errors import MlgenError


def a_card(cache_folder: str = "") -> Card:
    return card_from_table(
        {
            "process": {"name": "pp_to_eej", "definition": "p p > e+ e- j"},
            "beams": {"particles": ["p", "p"], "energies_gev": [6500, 6500]},
            "matrix_element": {"cache_folder": cache_folder},
        }
    )


def a_record(cross_section_pb: float = 212.04) -> RunRecord:
    eps_uw = Efficiency(value=0.31, error=0.004, n=131_072, t=0.001)
    sampler = SamplerRecord(
        eps_uw=eps_uw,
        cross_section_pb=cross_section_pb,
        cross_section_error_pb=0.12,
        ess=0.8,
        overweight_fraction=0.0011,
        us_per_point=2.1,
        n_points=131_072,
    )
    group = "u u~ > e+ e- g"
    return RunRecord(
        status="complete",
        process="p p > e+ e- j",
        seed=1,
        sampler="flow",
        cross_section_pb=cross_section_pb,
        cross_section_error_pb=0.12,
        n_events=10_000,
        eps_uw=eps_uw,
        ess=0.8,
        overweight_fraction=0.0011,
        n_matrix_element_calls=400_000,
        cpu_s=StepClock().cpu_s,
        wall_s=StepClock().wall_s,
        samplers={"flow": sampler},
        groups=(GroupRecord(name=group, cross_section_pb=60.0, cross_section_error_pb=0.1),),
        channels=(
            ChannelRecord(
                group=group,
                topology="(e+ e-)Z g",
                cross_section_pb=60.0,
                cross_section_error_pb=0.1,
                fraction=1.0,
            ),
        ),
        decisions=(Decision(name="sampler", choice="flow", reason="the card names it"),),
        files={"events.lhe.gz": FileRecord(sha256="00" * 32, n_bytes=12)},
        versions=versions(),
        card=card_table(a_card()),
    )


def test_the_record_holds_every_promised_key(tmp_path: Path) -> None:
    a_record().write(tmp_path / "run.json")
    table = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    promised = (
        "schema status process card seed versions sampler cross_section_pb cross_section_error_pb"
        " n_events eps_uw samplers ess overweight_fraction n_matrix_element_calls cpu_s wall_s files"
    )
    assert set(promised.split()) <= set(table)
    assert set(table["eps_uw"]) == {"value", "error", "n", "t"}
    assert set(table["samplers"]["flow"]["eps_uw"]) == {"value", "error", "n", "t"}
    assert list(table["cpu_s"]) == list(STEPS)
    assert table == a_record().to_table()


def test_a_failed_run_leaves_a_record_too(tmp_path: Path) -> None:
    record = RunRecord(
        status="failed",
        error="run.n_events = 10: only 3 could be made",
        process="p p > e+ e- j",
        seed=1,
        sampler="flow",
        card=card_table(a_card()),
    )
    record.write(tmp_path / "run.json")
    table = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert table["status"] == "failed"
    assert table["cross_section_pb"] is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_name(tmp_path: Path, bad: float) -> None:
    with pytest.raises(MlgenError, match=rf"run\.json: cross_section_pb = {bad}: expected a fin"):
        a_record(cross_section_pb=bad).write(tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []


def test_the_place_of_a_bad_number_is_named_inside_lists(tmp_path: Path) -> None:
    with pytest.raises(MlgenError, match=r"t\.json: a\.b\[1\] = nan"):
        write_json_atomically(tmp_path / "t.json", {"a": {"b": [1.0, math.nan]}})


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    a_record().write(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_json_atomically(path, {"a": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_outside_the_run_folder_is_refused() -> None:
    file = FileRecord(sha256="", n_bytes=0)
    for name in ("/data/events.lhe", "../events.lhe"):
        with pytest.raises(MlgenError, match="relative to the run folder"):
            RunRecord(status="failed", process="", seed=1, sampler="", card={}, files={name: file})


def test_the_card_in_the_record_is_valid_json_and_names_no_folder() -> None:
    table = card_table(a_card(cache_folder="/home/someone/cache"))
    text = json.dumps(table, allow_nan=False)
    assert "/home" not in text
    assert table["cuts"]["jets"]["abs_eta_max"] == "inf"
    assert portable_card(a_card(cache_folder="/home/someone")) == a_card()


def test_versions_are_found_without_importing_the_packages() -> None:
    code = (
        "import sys, mlgen.campaign.run_record as r; v = r.versions();"
        "print(v['torch'], v['python'], v['mlgen'], 'pyamplicol' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch_version, python_version, mlgen_version, imported = out.stdout.split()
    assert torch_version.startswith("2.")
    assert python_version == ".".join(map(str, sys.version_info[:3]))
    assert mlgen_version
    assert imported == "False"


def test_a_checksum_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "events.lhe"
    path.write_bytes(b"events" * 100_000)
    expected = hashlib.sha256(b"events" * 100_000).hexdigest()
    assert checksum(path) == expected
    assert describe_file(path) == FileRecord(sha256=expected, n_bytes=600_000)


def test_the_clock_charges_each_step_and_an_inner_step_only_once() -> None:
    clock = StepClock()
    started = time.monotonic()
    with clock.step("generate"):
        time.sleep(0.05)
        with clock.step("write"):
            time.sleep(0.1)
        time.sleep(0.05)
    passed = time.monotonic() - started
    wall_s = clock.wall_s
    assert 0.09 < wall_s["generate"] < passed
    assert 0.09 < wall_s["write"] < passed
    assert sum(wall_s.values()) == pytest.approx(passed, abs=0.05)
    assert wall_s["train"] == 0


def test_the_clock_counts_cpu_time_and_not_sleep() -> None:
    clock = StepClock()
    with clock.step("adapt"):
        time.sleep(0.2)
    with clock.step("train"):
        _burn(0.2)
    assert clock.cpu_s["adapt"] < 0.1
    assert 0.15 < clock.cpu_s["train"] < 2


def test_the_clock_counts_worker_processes() -> None:
    clock = StepClock()
    with clock.step("generate"):
        burn = "import os\nwhile sum(os.times()[:2]) < 0.3: pass"
        subprocess.run([sys.executable, "-c", burn], check=True)
    assert clock.cpu_s["generate"] > 0.25


def test_the_clock_refuses_an_unknown_step() -> None:
    with (
        pytest.raises(ValueError, match="'tune': expected one of prepare"),
        StepClock().step("tune"),  # type: ignore[arg-type]  # that is what is tested
    ):
        pass


def _burn(seconds: float) -> None:
    until = sum(os.times()[:2]) + seconds
    while sum(os.times()[:2]) < until:
        pass
