from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from mlgen.diagnostics.plots import WeightSample
from mlgen.diagnostics.report import ReportInput, render_report
from tests.diagnostics.samples import eej, events_of, random_momenta

EVIL = '<script>alert("x")</script> & {{ 7 * 7 }}'


def sampler_entry(eps_uw: float, error: float) -> dict[str, Any]:
    return {
        "eps_uw": {"value": eps_uw, "error": error, "n": 131_072, "t": 0.001},
        "cross_section_pb": 211.9,
        "cross_section_error_pb": 0.31,
        "ess": 0.82,
        "overweight_fraction": 0.0013,
        "us_per_point": 2.0,
        "n_points": 131_072,
    }


def a_record(**changes: Any) -> dict[str, Any]:
    steps = ("prepare", "adapt", "train", "estimate", "generate", "write")
    flow, vegas = sampler_entry(0.4, 0.004), sampler_entry(0.1, 0.002)
    group = {
        "name": "u u~ > e+ e- g",
        "cross_section_pb": 38.214,
        "cross_section_error_pb": 0.051,
    }
    return {
        "status": "complete",
        "error": "",
        "process": "p p > e+ e- j",
        "seed": 4711,
        "sampler": "flow",
        "cross_section_pb": 212.0412,
        "cross_section_error_pb": 0.1234,
        "n_events": 10_000,
        "eps_uw": flow["eps_uw"],
        "n_matrix_element_calls": 523_456,
        "cpu_s": dict.fromkeys(steps, 20.0),
        "wall_s": dict.fromkeys(steps, 15.0),
        "samplers": {"vegas": vegas, "flow": flow},
        "groups": [group, {**group, "name": "g u > e+ e- u", "cross_section_pb": 60.0}],
        "channels": [{**group, "group": group["name"], "topology": "(e+ e-)Z g", "fraction": 1.0}],
        "decisions": [{"name": "run.sampler", "choice": "flow", "reason": "it is cheaper"}],
        "files": {"events.lhe.gz": {"sha256": "ab" * 32, "n_bytes": 1_834_567}},
        "versions": {"mlgen": "0.1.0", "torch": "2.13.0"},
        "card": {},
    } | changes


def a_report(**changes: Any) -> ReportInput:
    weight = torch.tensor([0.0, 1.0, 2.0, 3.0] * 100, dtype=torch.float64)
    sample = WeightSample(
        weight=weight,
        channel=torch.zeros(400, dtype=torch.int64),
        w_max=torch.tensor([2.9], dtype=torch.float64),
    )
    return ReportInput(
        record=a_record(**changes),
        card='[process]\nname = "pp_to_eej"\n',
        weights={"vegas": sample, "flow": sample},
        loss=[1 + 1 / (i + 1) for i in range(200)],
        events=eej(2000, seed=1),
        reference=eej(2000, seed=2, weighted=True),
    )


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(a_report())


def text_of(html: str) -> str:
    """What a reader sees, in one line."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_report_contains_the_numbers(html: str) -> None:
    text = text_of(html)
    for number in (
        "p p &gt; e+ e- j",
        "212.04 ± 0.12 pb",
        "(40.0 ± 0.4)%",
        "(10.00 ± 0.20)%",
        "4.00 ± 0.09",  # the gain over VEGAS: 4 * hypot(1%, 2%)
        "N = 131,072, t = 0.1%",
        "10,000",
        "523,456",
        "4711",
        "1 min 30 s",
        "u u~ &gt; e+ e- g",
        "38.21 ± 0.05",
        "run.sampler: flow (it is cheaper)",
        "1.83 MB",
        "torch",
        "2.13.0",
        'name = "pp_to_eej"'.replace('"', "&#34;"),
    ):
        assert number in text, number


def test_the_largest_group_comes_first(html: str) -> None:
    text = text_of(html)
    assert text.index("g u &gt; e+ e- u") < text.index("u u~ &gt; e+ e- g")


def test_every_kind_of_plot_is_there(html: str) -> None:
    text = text_of(html)
    for title in (
        "Weights",
        "Efficiency against overweight budget",
        "Loss",
        "Transverse momentum of e+",
        "Pseudorapidity of jet",
        "Mass of e+ e-",
    ):
        assert title in text
    assert html.count("<svg") == 3 + 10
    assert text.count("χ²/n") == 10


def test_the_report_is_well_formed(html: str) -> None:
    root = ET.fromstring(html.removeprefix("<!DOCTYPE html>"))
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))


def test_the_report_loads_nothing_and_runs_nothing(html: str) -> None:
    found: list[tuple[str, str, str | None]] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend((tag, name, value) for name, value in attrs)
            assert tag not in ("script", "link", "img", "iframe", "object")

    Collector().feed(html)
    for tag, name, value in found:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src", "srcset", "action"):
            assert (value or "").startswith("#"), (tag, name, value)
    assert "http" not in html
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_texts_from_the_card_are_escaped() -> None:
    report = a_report(process=EVIL, error=EVIL, sampler=EVIL)
    record = dict(report.record)
    record["groups"] = [{**record["groups"][0], "name": EVIL}]
    record["samplers"] = {EVIL: sampler_entry(0.4, 0.01)}
    record["files"] = {EVIL: {"sha256": EVIL, "n_bytes": 1}}
    report = replace(
        report, record=record, card=EVIL, events=None, weights={EVIL: report.weights["flow"]}
    )
    html = render_report(report)
    assert "<script" not in html
    assert "{{ 7 * 7 }}" in html
    ET.fromstring(html.removeprefix("<!DOCTYPE html>"))


def test_a_failed_run_has_a_report_too() -> None:
    record = a_record(
        status="failed",
        error="run.n_events = 10000: only 12 could be made",
        cross_section_pb=None,
        cross_section_error_pb=None,
        eps_uw=None,
        samplers={},
        groups=[],
        channels=[],
        decisions=[],
        files={},
        cpu_s={},
        wall_s={},
    )
    html = render_report(ReportInput(record=record, card=""))
    assert "only 12 could be made" in html
    assert "<svg" not in html
    ET.fromstring(html.removeprefix("<!DOCTYPE html>"))


def test_a_disagreement_is_marked() -> None:
    jets, others, harder = (
        events_of(random_momenta(1000, 1, seed, mean_pt), [21])
        for seed, mean_pt in ((1, 30), (2, 30), (3, 90))
    )
    bare = ReportInput(record=a_record(), card="", reference=others)
    assert 'class="warning">χ²' in render_report(replace(bare, events=harder))
    assert 'class="warning">χ²' not in render_report(replace(bare, events=jets))


def cost(sampler: str, n_steps: int, training_s: float, goal_s: float) -> dict[str, Any]:
    return {
        "sampler": sampler, "n_steps": n_steps, "training_s": training_s, "goal_s": goal_s,
    }  # fmt: skip


def test_a_decision_shows_what_was_expected_and_what_it_took() -> None:
    decision = {
        "name": "run.sampler",
        "choice": "flow",
        "reason": "it is cheaper",
        "expected": [cost("vegas", 0, 0.0, 91.4), cost("flow", 600, 12.31, 4.56)],
        "outcome": cost("flow", 600, 13.9, 5.04),
    }
    text = text_of(render_report(a_report(decisions=[decision])))
    assert "expected: vegas, the events in 91 s" in text
    assert "expected: flow, 600 training steps in 12 s, the events in 4.6 s" in text
    assert "in the end: flow, 600 training steps in 14 s, the events in 5 s" in text


def test_a_warning_stands_above_all_numbers(html: str) -> None:
    assert "Warning" not in text_of(html)
    text = text_of(render_report(a_report(warnings=["the flow has <drifted>; vegas is used"])))
    assert "Warning: the flow has &lt;drifted&gt;; vegas is used" in text
    assert text.index("Warning:") < text.index("212.04")


def test_the_report_shows_how_training_went(html: str) -> None:
    training = {
        "sampler": "flow",
        "n_steps": 32,
        "steps": [0.0, 8.0],
        "eps_uw": [0.1, 0.3],
        "loss": [1.0, 0.5],
    }
    shown = render_report(a_report(training=training))
    assert "Training The unweighting efficiency of points" in text_of(shown)
    assert shown.count("<svg") == html.count("<svg") + 1


def test_a_warm_start_and_interruptions_are_said() -> None:
    text = text_of(
        render_report(
            a_report(warm_start={"file": "eej.mlgen.zip", "sha256": "cd" * 32}, n_resumed=2)
        )
    )
    assert "Training began from eej.mlgen.zip (SHA-256 cdcdcdcdcdcd… )" in text
    assert "Interrupted and gone on with 2 times." in text
