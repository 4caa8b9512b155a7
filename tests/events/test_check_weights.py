from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlgen.events.check import check_file
from mlgen.events.formats import write_events
from tests.events.varied import varied

OWN = "MUR=1__MUF=1__LHAPDF=247000"
OTHER = "MUR=0.5__MUF=1__LHAPDF=247000"


def written(path: Path, u: list[float] | None = None, weighted: bool = False) -> Path:
    info, events = varied(20, u, weighted)
    write_events(path, [events], info)
    return path


@pytest.mark.parametrize(
    ("u", "weighted"),
    [([], False), ([3.0, 1.5], False), ([-1.0, -1.0], False), ([0.2, 7.0], True)],
    ids=["unit", "overweight", "negative", "weighted"],
)
@pytest.mark.parametrize("name", ["events.lhe", "events.lhe.gz"])
def test_files_of_ours_with_further_weights_pass(
    tmp_path: Path, name: str, u: list[float], weighted: bool
) -> None:
    report = check_file(written(tmp_path / name, u, weighted))
    assert report.findings == ()
    assert report.n_events == 20


def in_event(old: str, new: str) -> Callable[[str], str]:
    """Replace a text in the third event."""

    def plant(text: str) -> str:
        parts = text.split("<event>")
        assert old in parts[3], "this fault cannot be planted"
        parts[3] = parts[3].replace(old, new, 1)
        return "<event>".join(parts)

    return plant


def in_header(old: str, new: str) -> Callable[[str], str]:
    def plant(text: str) -> str:
        head, tag, rest = text.partition("</header>")
        assert old in head, "this fault cannot be planted"
        return head.replace(old, new, 1) + tag + rest

    return plant


def value(name: str, new: str) -> Callable[[str], str]:
    """Give a weight of the third event another text."""

    def plant(text: str) -> str:
        parts = text.split("<event>")
        before, tag, rest = parts[3].partition(f'<wgt id="{name}">')
        parts[3] = before + tag + new + rest[rest.index("</wgt>") :]
        return "<event>".join(parts)

    return plant


def without_weight(text: str) -> str:
    parts = text.split("<event>")
    before, _, rest = parts[3].partition("<wgt")
    parts[3] = before + rest.partition("</wgt>\n")[2]
    return "<event>".join(parts)


def without_declarations(text: str) -> str:
    before, _, rest = text.partition("<initrwgt>")
    return before + rest.partition("</initrwgt>")[2]


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "a weight missing": (without_weight, "<rwgt> of 8 weights: expected 9"),
    "no weights": (
        lambda text: text.replace("rwgt>", "others>").replace("initothers>", "initrwgt>"),
        "<rwgt> of 0 weights: expected 9",
    ),
    "none declared": (without_declarations, "<rwgt> of 9 weights: expected 0"),
    "another id": (in_event(OTHER, "MUR=3"), "<wgt id='MUR=3'>: expected an id"),
    "an id twice": (in_event(OTHER, OWN), "<wgt> of the same id twice"),
    "no id": (in_event(f' id="{OTHER}"', ""), "<wgt id=''>: expected an id"),
    "declared twice": (in_header(OTHER, OWN), f"<weight id='{OWN}'> 2 times: expected once"),
    "declared without an id": (in_header(f' id="{OTHER}"', ""), "a weight without an id"),
    "NaN": (value(OTHER, "nan"), "expected finite numbers"),
    "infinity": (value(OTHER, "1e999"), "expected finite numbers"),
    "no number": (value(OTHER, "one"), "expected a number"),
    "nothing": (value(OTHER, ""), "expected a number"),
    "digits of Python": (value(OTHER, "1_0"), "characters that do not belong"),
    "the event's own weight changed": (value(OWN, "1.001"), "expected XWGTUP in the weight"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(tmp_path: Path, fault: str) -> None:
    plant, message = FAULTS[fault]
    path = written(tmp_path / "events.lhe")
    path.write_text(plant(path.read_text()))
    report = check_file(path)
    assert not report.is_good
    assert any(message in finding.what for finding in report.findings), report.findings
    named = [f.first_event for f in report.findings if message in f.what]
    if "declared" not in fault and "no weights" not in fault:
        assert named == [3]


def test_another_value_of_a_true_variation_is_no_fault(tmp_path: Path) -> None:
    path = written(tmp_path / "events.lhe")
    path.write_text(value(OTHER, "-17.0")(path.read_text()))
    assert check_file(path).findings == ()
