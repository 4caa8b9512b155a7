"""design.md's allowed imports: a room knows only what stands below it, and core, errors and cards."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mlgen

PACKAGE = Path(mlgen.__file__).parent

STEPS = (
    {
        "core",
        "errors",
        "json_tables",
        "fitting",
        "soap",
        "cut_cards",
        "surrogate_cards",
        "cards",
        "card_files",
    },
    {"physics"},
    {"phasespace", "amplitudes", "samplers", "surrogates", "radiation", "events"},
    {"integration"},
    {"diagnostics", "plugins", "campaign"},
    {"build"},
    {"jobs"},
    {"api"},
    {"show"},  # what commands print
    {"commands"},
    {"cli"},
)
"""From the bottom up. Registries load entry points by name, which is no import."""

ALLOWED_BESIDE = {
    ("cut_cards", "errors"),
    ("surrogate_cards", "cut_cards"),
    ("cards", "cut_cards"),
    ("cards", "surrogate_cards"),
    ("card_files", "cards"),
    ("card_files", "cut_cards"),
    ("card_files", "errors"),
    ("core", "errors"),
    ("fitting", "errors"),
}
"""Pairs within one step that may know each other, in this direction; else a step has none."""

ANYWHERE = {"__init__"}
"""The package itself: a version, and lazy names."""


def room_of(path: Path, package: Path) -> str:
    return path.relative_to(package).with_suffix("").parts[0]


def imported_modules(path: Path, package: Path) -> Iterator[str]:
    """The dotted names that a file imports, anywhere in it, made absolute."""
    here = [package.name, *path.relative_to(package).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            # `from mlgen import api` imports a module, `from mlgen.api import run` a name.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def forbidden_imports(package: Path) -> list[str]:
    """`file: imports room`, for each import that points upwards or sideways."""
    step_of = {room: step for step, rooms in enumerate(STEPS) for room in rooms}
    found = []
    for path in sorted(package.rglob("*.py")):
        importer = room_of(path, package)
        if importer in ANYWHERE:
            continue
        for module in imported_modules(path, package):
            name, _, rest = module.partition(".")
            imported = rest.partition(".")[0]
            if name != package.name or imported in {importer, "", "__version__"}:
                continue
            allowed = (importer, imported) in ALLOWED_BESIDE
            if not allowed and step_of[imported] >= step_of[importer]:
                found.append(f"{path.relative_to(package)}: imports {imported}")
    return found


def test_rooms_import_only_what_stands_below_them() -> None:
    assert forbidden_imports(PACKAGE) == []


def test_each_room_has_its_step() -> None:
    rooms = {room_of(path, PACKAGE) for path in PACKAGE.rglob("*.py")} - ANYWHERE
    known = set.union(*STEPS)
    assert rooms <= known, f"rooms without a step: {sorted(rooms - known)}"


def plant(package: Path, file: str, text: str) -> list[str]:
    path = package / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return forbidden_imports(package)


def test_planted_imports_are_found(tmp_path: Path) -> None:
    package = tmp_path / "mlgen"
    upwards = "def f():\n    from mlgen.integration.losses import LOSSES\n"
    assert plant(package, "physics/a.py", upwards) == ["physics/a.py: imports integration"]
    (package / "physics/a.py").unlink()
    for file, text, imported in (
        ("samplers/b.py", "import mlgen.phasespace.tree as t\n", "phasespace"),
        ("events/c.py", "from ..samplers.vegas import VegasGrid\n", "samplers"),
        ("campaign/d.py", "from mlgen import diagnostics\n", "diagnostics"),
        ("core.py", "from mlgen.cards import Card\n", "cards"),
        ("cut_cards.py", "from mlgen.cards import Card\n", "cards"),
        ("api.py", "from mlgen import cli\n", "cli"),
        ("physics/e.py", "if True:\n    from mlgen import physics, events\n", "events"),
    ):
        assert plant(package, file, text) == [f"{file}: imports {imported}"]
        (package / file).unlink()


def test_what_is_allowed_is_not_found(tmp_path: Path) -> None:
    package = tmp_path / "mlgen"
    for file, text in (
        (
            "physics/a.py",
            "import torch\nfrom mlgen.cards import Card\nfrom mlgen.physics import b\n",
        ),
        ("physics/b.py", "from . import c\nfrom .c import d\n"),
        ("integration/c.py", "import mlgen.core\nfrom mlgen.phasespace.tree import TreeMap\n"),
        ("build.py", "from mlgen.campaign.pack import Pack\n"),
        ("cut_cards.py", "from mlgen.errors import CardError\n"),
        ("cards.py", "from mlgen.cut_cards import require\n"),
        ("card_files.py", "from mlgen import cards, errors\n"),
        ("cli.py", "import mlgen\nfrom mlgen import api\n"),
        ("__init__.py", "from mlgen import api\n"),
    ):
        assert plant(package, file, text) == []
