from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from mlgen.diagnostics.rounding import with_error
from mlgen.diagnostics.surrogate_report import render_surrogate_report
from mlgen.surrogates.accuracy import NEAR_CUTS, STATISTICAL, TOTAL
from mlgen.surrogates.record import SurrogateRecord, TwoStageRecord
from tests.surrogates.records import known_group, known_record, known_region

EVIL = '<script>alert("x")</script> & {{ 7 * 7 }}'
TITLES = (
    "Deviations",
    "Pulls, by part of the uncertainty",
    "Pulls, by region",
    "Coverage",
    "Predicted and realised errors",
    "What points are worth",
    "Training",
)
GAIN = "Gain against the efficiency already reached"


@pytest.fixture(scope="module")
def record() -> SurrogateRecord:
    return known_record()


@pytest.fixture(scope="module")
def html(record: SurrogateRecord) -> str:
    return render_surrogate_report(record, card='[process]\nname = "gg_to_ttgg"\n')


def text_of(html: str) -> str:
    """What a reader sees, in one line."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_page_has_the_numbers_of_the_record(html: str, record: SurrogateRecord) -> None:
    text, group = text_of(html), record.groups[0]
    for number in (
        "g g &gt; t t~ g g",
        "2 min 03 s",
        "100,000",
        "4711",
        "4.2 µs",
        "repulsive",
        "14.5% 15% 82% 0.99960 5.66 3.1 any",
        "torch 2.13.0",
        "gg_to_ttgg",
        *group.regions,
    ):
        assert number in text, number
    for region in group.regions.values():
        assert f"{region.n:,} {100 * region.precise_share:.1f} " in text
        for of in region.pulls.values():
            assert with_error(of.width, of.width_error) in text
    assert 'name = "gg_to_ttgg"'.replace('"', "&#34;") in text


def test_every_plot_is_there_and_well_formed(html: str) -> None:
    text = text_of(html)
    for title in (*TITLES, GAIN):
        assert title in text, title
    assert html.count("<svg") == len(TITLES) + 1
    root = ET.fromstring(html.removeprefix("<!DOCTYPE html>"))
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    links = [element.attrib["href"].removeprefix("#") for element in root.iter("use")]
    assert set(links) <= set(ids)


def test_the_page_loads_nothing_and_decides_every_colour(html: str) -> None:
    assert "http" not in html
    assert "<script" not in html
    assert "@import" not in html
    svgs = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "#0" not in svgs.replace('href="#', "").replace("url(#", "")
    assert "nan" not in svgs


def test_several_groups_have_a_section_each(record: SurrogateRecord) -> None:
    good, bad = known_group("u u~ > z g g g"), known_group("g g > t t~ g g")
    bad = replace(bad, regions=dict(bad.regions) | {"all": known_region(100_000, 1e-2, 2.0)})
    html = render_surrogate_report(known_record(good, bad))
    assert html.count("<svg") == 2 * len(TITLES) + 1
    text = text_of(html)
    assert "u u~ &gt; z g g g Learned from" in text
    ET.fromstring(html.removeprefix("<!DOCTYPE html>"))
    # The tiles are of the worst one.
    tiles = text[: text.index("u u~ &gt; z g g g Learned")]
    assert f"{100 * bad.regions['all'].precise_share:.1f}%" in tiles
    of = bad.regions["all"].pulls[TOTAL]
    assert f"pull width {with_error(of.width, of.width_error)}" in tiles


def test_uncertainties_that_are_wrong_are_marked(record: SurrogateRecord) -> None:
    for too_narrow_by, is_marked in ((1.0, False), (1.05, False), (1.3, True), (0.7, True)):
        group = replace(
            record.groups[0], regions={"all": known_region(100_000, 1e-3, too_narrow_by)}
        )
        html = render_surrogate_report(replace(record, groups=(group,)))
        assert ('<span class="warning">' in html) == is_marked, too_narrow_by
    # Of 20 points nothing is known: no alarm.
    few = replace(record.groups[0], regions={"all": known_region(20, 1e-3, 1.2)})
    html = render_surrogate_report(replace(record, groups=(few,)))
    assert '<span class="warning">' not in html


def test_what_is_not_known_is_left_out(record: SurrogateRecord) -> None:
    region = known_region(5000, 1e-3)
    pulls = {name: of for name, of in region.pulls.items() if name != STATISTICAL}
    group = replace(
        record.groups[0], regions={"all": replace(region, pulls=pulls)}, learning_curve=()
    )
    html = render_surrogate_report(replace(record, groups=(group,), two_stage=()))
    text = text_of(html)
    assert "pull width, statistical" not in text
    assert NEAR_CUTS not in text
    assert "What points are worth" not in text
    assert "What it gains" not in text
    assert html.count("<svg") == len(TITLES) - 1


def test_statistical_pulls_of_smaller_samples_stand_in_for_missing_ones(
    record: SurrogateRecord,
) -> None:
    region = record.groups[0].regions["all"]
    pulls = {name: of for name, of in region.pulls.items() if name != STATISTICAL}
    group = replace(record.groups[0], regions={"all": replace(region, pulls=pulls)})
    text = text_of(render_surrogate_report(replace(record, groups=(group,))))
    assert "of surrogates that learned from 100,000 points each (width" in text
    of = group.learning_curve[-1].regions["all"].pulls[STATISTICAL]
    assert f"(width {with_error(of.width, of.width_error)})" in text


def test_texts_from_the_card_are_escaped(record: SurrogateRecord) -> None:
    group = replace(record.groups[0], name=EVIL)
    gain = TwoStageRecord(sampler="flow", eps_full=0.9, eps_1=0.5, eps_2=0.3, alpha=1.0, f_eff=0.2)
    html = render_surrogate_report(
        replace(record, process=EVIL, notes=(EVIL,), groups=(group,), two_stage=(gain,)), EVIL
    )
    assert "<script" not in html
    assert "{{ 7 * 7 }}" in html
    ET.fromstring(html.removeprefix("<!DOCTYPE html>"))


def test_a_page_is_the_same_each_time(html: str, record: SurrogateRecord) -> None:
    again = render_surrogate_report(record, card='[process]\nname = "gg_to_ttgg"\n')
    assert again == html
