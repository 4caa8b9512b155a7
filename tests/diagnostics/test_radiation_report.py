from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch

from mlgen.diagnostics.progress import SilentProgress
from mlgen.diagnostics.radiation_report import render_radiation_report
from mlgen.diagnostics.rounding import with_error
from mlgen.errors import MlgenError
from mlgen.radiation.classifier import ClassifierSettings
from mlgen.radiation.control import ControlRecord, ControlSettings, control, multiplicity_name
from mlgen.radiation.oracle import AnalyticShower
from mlgen.radiation.spectra import GeneratedEvents

EVIL = '<script>alert("x")</script> & {{ 7 * 7 }}'
SHOWER = AnalyticShower()
SETTINGS = ControlSettings(
    pt_min=SHOWER.pt_min,
    n_trained=2,
    n_max=3,
    classifier=ClassifierSettings(n_hidden=16, n_layers=1, n_steps=20, n_networks=2),
)


def made_record(shower: AnalyticShower, n: int = 12_000) -> ControlRecord:
    """Of true events, and of those of a shower, with an ensemble of weights."""
    truth = SHOWER.sample(n, torch.Generator().manual_seed(1))
    events = shower.sample(n, torch.Generator().manual_seed(2))
    members = [
        (replace(shower, slope=slope).log_likelihood(events) - shower.log_likelihood(events)).exp()
        for slope in (0.2, 0.3, 0.4)
    ]
    generated = GeneratedEvents.of(events, members=torch.stack(members, dim=1))
    return replace(
        control(truth, generated, SETTINGS, SilentProgress()),
        process="p p > z",
        cpu_s=12.3,
        model={"variant": "truncated", "events": "100,000"},
        versions={"torch": "2.13.0"},
    )


@pytest.fixture(scope="module")
def record() -> ControlRecord:
    return made_record(SHOWER)


@pytest.fixture(scope="module")
def html(record: ControlRecord) -> str:
    return render_radiation_report(record)


def text_of(html: str) -> str:
    """What a reader sees, in one line."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def without_ensemble(record: ControlRecord) -> ControlRecord:
    found = record.multiplicities
    bare = {
        name: replace(of, generated=replace(of.generated, band=()))
        for name, of in (
            ("share", found.share),
            ("exclusive", found.exclusive),
            ("inclusive", found.inclusive),
        )
    }
    return replace(
        record,
        n_members=0,
        multiplicities=replace(found, **bare),  # type: ignore[arg-type]  # one type for all of them
        spectra=tuple(
            replace(of, generated=replace(of.generated, band=())) for of in record.spectra
        ),
    )


def test_the_page_has_the_numbers_of_the_record(html: str, record: ControlRecord) -> None:
    text = text_of(html)
    for number in ("p p &gt; z", "12,000", "12.3 s", "truncated", "torch 2.13.0", "20 GeV"):
        assert number in text, number
    assert "the spread of 3 members of an ensemble" in text
    assert [of.n_jets for of in record.classifiers] == [0, 1, 2, 3]
    for of in record.classifiers:
        row = f"{multiplicity_name(of.n_jets, of.and_more)} {of.n_truth:,} {of.n_generated:,} "
        assert row + with_error(of.auc, of.auc_error) in text
    for agreement in record.agreements:
        assert with_error(agreement.pull_width, agreement.pull_width_error) in text
    for of_kind in record.closeness:
        counts = f"{of_kind.n_within:,} {of_kind.n_open:,} {of_kind.n_off:,} {of_kind.n_chance:.1f}"
        assert counts in text
    ratio = record.multiplicities.exclusive.truth
    for k in range(len(ratio.value)):
        assert f"{k + 1} / {k} {with_error(ratio.value[k], ratio.error[k])} " in text


def test_every_plot_is_there_and_well_formed(html: str, record: ControlRecord) -> None:
    text = text_of(html)
    for title in (
        "Multiplicities",
        "Ratios of multiplicities",
        "AUC, by multiplicity",
        "Weights, 2 jets",
        "Pulls of all bins",
        "Widths of pulls",
        "ΔR of jets 1 and 2",
        "pt of jet 3",
        "Azimuth between jet 1 and the hard object",
        "Events with 3 jets , more than the model has seen",
    ):
        assert title.replace(" ,", ",") in text, title
    root = ET.fromstring(html.removeprefix("<!DOCTYPE html>"))
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    links = [element.attrib["href"].removeprefix("#") for element in root.iter("use")]
    assert set(links) <= set(ids)
    assert html.count("<svg") == 3 + 1 + len(record.classifiers) + 2 + 6 + 6 + 7 + 7 * (
        record.agreements[-1].and_more
    )


def test_the_page_loads_nothing_and_decides_every_colour(html: str) -> None:
    assert "http" not in html
    assert "<script" not in html
    svgs = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "#0" not in svgs.replace('href="#', "").replace("url(#", "")
    assert "nan" not in svgs


def test_what_is_not_known_is_left_out(record: ControlRecord) -> None:
    bare = replace(
        without_ensemble(record), classifiers=(), agreements=(), closeness=(), spectra=()
    )
    html = render_radiation_report(bare)
    text = text_of(html)
    assert "ensemble" not in text
    assert "Classifier" not in text
    assert html.count("<svg") == 3
    ET.fromstring(html.removeprefix("<!DOCTYPE html>"))


def test_a_model_that_is_wrong_is_marked(html: str, record: ControlRecord) -> None:
    assert '<span class="warning">' not in html
    record = replace(record, spectra=())
    bad = replace(record.classifiers[1], auc=0.7, auc_error=0.01)
    far = replace(record.agreements[1], pull_width=3.0)
    for changed in (
        replace(record, classifiers=(bad,)),
        replace(record, agreements=(far,)),
        replace(record, closeness=(replace(record.closeness[1], n_off=9, n_chance=0.4),)),
    ):
        assert '<span class="warning">' in render_radiation_report(changed)
    # Beyond what it was trained for there is no goal.
    beyond = replace(bad, n_jets=3)
    html = render_radiation_report(replace(record, classifiers=(beyond,)))
    assert '<span class="warning">' not in html


def test_texts_are_escaped(record: ControlRecord) -> None:
    html = render_radiation_report(
        replace(record, process=EVIL, notes=(EVIL,), model={EVIL: EVIL}, spectra=())
    )
    assert "<script" not in html
    assert "{{ 7 * 7 }}" in html
    ET.fromstring(html.removeprefix("<!DOCTYPE html>"))


def test_a_page_is_the_same_each_time(html: str, record: ControlRecord) -> None:
    assert render_radiation_report(record) == html


def test_a_record_is_json_and_the_same_each_time(record: ControlRecord) -> None:
    table = record.to_table()
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert table["schema"] == "mlgen-radiation-control"
    again = made_record(SHOWER).to_table()
    assert again == table


def test_uncertain_members_take_part_in_the_predicted_error(record: ControlRecord) -> None:
    shares = [of.band_share for of in record.agreements if of.n_jets == 1]
    assert 0 < shares[0] < 1
    spectrum = next(of for of in record.spectra if of.observable == "pt of jet 1")
    bare = replace(spectrum, generated=replace(spectrum.generated, band=()))
    pairs = [
        pair
        for pair in zip(spectrum.pulls, bare.pulls, strict=True)
        if all(map(math.isfinite, pair))
    ]
    assert pairs
    assert all(abs(with_band) <= abs(without) for with_band, without in pairs)


def test_few_events_are_refused() -> None:
    truth = SHOWER.sample(1000, torch.Generator().manual_seed(1))
    few = GeneratedEvents.of(truth.select(slice(0, 10)))
    with pytest.raises(MlgenError, match="generated events = 10: expected at least 100 to compare"):
        control(truth, few, SETTINGS, SilentProgress())
