from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from mlgen.card_files import card_from_table

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]


def test_the_page_of_card_keys_is_what_its_script_makes() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_cards.py"))["render"]()
    assert (ROOT / "docs" / "cards.md").read_text(encoding="utf-8") == made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_card_that_is_shipped_is_documented_by_its_comment() -> None:
    for path in (ROOT / "processes").glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert card_from_table(tomllib.loads(text)).process.name == path.stem
