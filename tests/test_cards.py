from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlgen.card_files import (
    card_folder,
    card_from_table,
    card_names,
    card_to_toml,
    find_card,
    read_card,
)
from mlgen.cards import BeamCard, Card, ModelCard, ProcessCard
from mlgen.cut_cards import (
    CutsCard,
    ListedPairCutsCard,
    ListedParticleCutsCard,
    PairCutsCard,
)
from mlgen.errors import CardError

MINIMAL = """
[process]
name = "a_name"
definition = "p p > e+ e- j"

[beams]
particles = ["p", "p"]
energies_gev = [6500.0, 6500]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a_card.toml"
    path.write_text(MINIMAL)
    return path


def test_what_a_card_does_not_say_has_the_defaults(file: Path) -> None:
    expected = Card(
        process=ProcessCard(name="a_name", definition="p p > e+ e- j"),
        beams=BeamCard(particles=("p", "p"), energies_gev=(6500.0, 6500.0)),
    )
    assert read_card(file) == expected
    assert expected.model == ModelCard()
    assert expected.cuts == CutsCard()
    assert expected.cuts.lepton_lepton == PairCutsCard()


def test_an_integer_will_do_for_a_number_and_becomes_one(file: Path) -> None:
    energies = read_card(file).beams.energies_gev
    assert energies == (6500.0, 6500.0)
    assert all(type(energy) is float for energy in energies)


@pytest.mark.parametrize("name", card_names())
def test_each_card_that_comes_with_mlgen_can_be_read_and_is_named_as_its_file(name: str) -> None:
    card = read_card(find_card(name))
    assert card.process.name == name
    assert (card_folder() / f"{name}.toml").read_text().startswith("# ")


def test_the_cards_that_the_documentation_speaks_of_are_there() -> None:
    assert {"pp_to_eej", "pp_to_ee", "pp_to_ttj", "ee_to_mumu"} <= set(card_names())


@pytest.mark.parametrize("name", card_names())
def test_a_card_written_out_reads_back_the_same(name: str, tmp_path: Path) -> None:
    card = read_card(find_card(name))
    path = tmp_path / "again.toml"
    path.write_text(card_to_toml(card))
    assert read_card(path) == card
    assert "inf" in path.read_text()  # the bounds that are not there


def test_any_text_and_number_reads_back_the_same(file: Path) -> None:
    text = 'a "quoted" \\ back\\slash\ttab\nline\x00\x1b\x7f é 粒子'
    process = ProcessCard(name="n", definition=f"a > b {text}")
    for value in (1e-300, 5e-324, 1.7976931348623157e308, 1e16, 123456789.123456789, 0.1):
        card = dataclasses.replace(
            read_card(file), process=process, model=ModelCard(higgs_width_gev=value)
        )
        file.write_text(card_to_toml(card), encoding="utf-8")
        assert read_card(file) == card
        file.write_text(MINIMAL)


def test_an_optional_value_reads_back_whether_there_or_not(file: Path) -> None:
    for overrides in ([], ["alpha_s.top_threshold_gev=173"]):
        card = read_card(file, overrides)
        path = file.with_name("again.toml")
        path.write_text(card_to_toml(card))
        assert read_card(path) == card
    assert card.alpha_s.top_threshold_gev == 173.0


def keys_of(section: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        key = f"{where}.{item.name}" if where else item.name
        if dataclasses.is_dataclass(value):
            yield from keys_of(value, key)
        else:
            yield key, value


OTHERS = {
    "process.definition": "e+ e- > u u~",
    "process.multiparticles": {"e": ("e+", "e-"), "b~ or b": ("b", "b~"), "none": ()},
    "model.parameters": {"MX": 500.0, "g'": 0.25},
    "beams.particles": ("e+", "e-"),
    "beams.energies_gev": (1.5, 2.5),
    "alpha_s.at_z_mass": 0.118,
    "alpha_s.loops": 1,
    "alpha_s.top_threshold_gev": 171.5,
    "scales.choice": "half_ht",
    "cuts.particles": (
        ListedParticleCutsCard(pdg_ids=(6, -6), pt_min_gev=50.0),
        ListedParticleCutsCard(pdg_ids=(24,), abs_y_max=2.0),
    ),
    "cuts.pairs": (ListedPairCutsCard(first=(6,), second=(24, -24), delta_r_min=0.5),),
    "weights.pdf_members": (1, 2, 100),
    "phase_space.maps": "rambo",
    "phase_space.prior": "propagators",
    "phase_space.drop_below": 0.05,
    "vegas.n_points": 20_000,
    "flow.loss": "variance",
    "flow.offline": 0.25,
    "flow.renyi_order": 3.5,
    "surrogate.network": "lgatr",
    "surrogate.variational": "all",
    "surrogate.n_hidden": 64,
    "surrogate.validation_share": 0.1,
    "surrogate.calibration_share": 0.1,
    "surrogate.guides": "never",
    "surrogate.helicities": "drawn",
    "run.overweight_budget": 0.25,
    "run.surrogate": "auto",
}
"""Another value where neither twice nor half the default will do."""


def another(key: str, value: Any) -> Any:
    if key in OTHERS:
        return OTHERS[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, int):
        return 2 * value + 1
    return 100.0 if math.isinf(value) else 2 * value + 1.0


def written(value: Any, inside: bool = False) -> str:
    """A value as `--set` takes it; only texts inside of lists and tables need their quotes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return written(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        entries = (f'"{key}" = {written(item, inside=True)}' for key, item in value.items())
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(written(item, inside=True) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if inside and isinstance(value, str) else str(value)


def test_each_key_of_a_card_can_be_overridden_and_nothing_else_changes(file: Path) -> None:
    card = read_card(file)
    before = dict(keys_of(card))
    assert len(before) > 130
    for key, value in before.items():
        wanted = another(key, value)
        assert wanted != value, key
        after = dict(keys_of(read_card(file, [f"{key}={written(wanted)}"])))
        assert after == {**before, key: wanted}


@pytest.mark.parametrize(
    ("key", "least"),
    [
        ("cuts.particles", ListedParticleCutsCard(pdg_ids=(6, -6))),
        ("cuts.pairs", ListedPairCutsCard(first=(6,), second=(-6,))),
    ],
)
def test_each_key_of_a_listed_cut_can_be_given_and_nothing_else_changes(
    file: Path, key: str, least: ListedParticleCutsCard | ListedPairCutsCard
) -> None:
    name = key.partition(".")[2]
    for item in dataclasses.fields(least):
        value = getattr(least, item.name)
        wanted = (1, 22) if isinstance(value, tuple) else another(item.name, value)
        changed: dict[str, Any] = {item.name: wanted}
        cuts = dataclasses.replace(least, **changed)
        before = dict(keys_of(read_card(file)))
        card = read_card(file, [f"{key}={written((least, cuts))}"])
        assert dict(keys_of(card)) == {**before, key: (least, cuts)}
        assert getattr(card.cuts, name)[1] == cuts != least


def test_a_card_with_no_default_left_reads_back_the_same(file: Path) -> None:
    before = dict(keys_of(read_card(file)))
    overrides = [f"{key}={written(another(key, value))}" for key, value in before.items()]
    card = read_card(file, overrides)
    assert all(value != before[key] for key, value in keys_of(card))
    file.write_text(card_to_toml(card))
    assert read_card(file) == card
    assert "[[cuts.particles]]\npt_min_gev = 50.0\n" in file.read_text()


def test_lists_of_tables_and_mappings_are_read_as_people_write_them(file: Path) -> None:
    file.write_text(
        MINIMAL.replace(
            "[beams]",
            'multiparticles = { e = ["e+", "e-"] }\n[model.parameters]\nMX = 500\n[beams]',
        )
        + """
[[cuts.particles]]
pdg_ids = [6, -6]
pt_min_gev = 50

[[cuts.particles]]
pdg_ids = [24]
abs_y_max = 2

[[cuts.pairs]]
first = [6]
second = [24, -24]
delta_r_min = 0.5

[cuts.event]
ht_min_gev = 100
"""
    )
    card = read_card(file)
    assert card.process.multiparticles == {"e": ("e+", "e-")}
    assert card.model.parameters == {"MX": 500.0}
    assert card.cuts.particles == OTHERS["cuts.particles"]
    assert card.cuts.pairs == OTHERS["cuts.pairs"]
    assert card.cuts.event.ht_min_gev == 100.0


def test_one_entry_of_a_mapping_can_be_overridden(file: Path) -> None:
    card = read_card(file, ["model.parameters.MX=500", "model.parameters.MY=1"])
    assert card.model.parameters == {"MX": 500.0, "MY": 1.0}
    card = read_card(file, ['process.multiparticles.e=["e+", "e-"]'])
    assert card.process.multiparticles == {"e": ("e+", "e-")}


def test_overrides_apply_in_their_order_and_leave_the_file_alone(file: Path) -> None:
    card = read_card(file, ["run.seed=2", "cuts.jets.pt_min_gev = 30", "run.seed=3"])
    assert card.run.seed == 3
    assert card.cuts.jets.pt_min_gev == 30.0
    assert file.read_text() == MINIMAL


def test_a_text_needs_no_quotes_in_an_override(file: Path) -> None:
    for text in ("vegas", '"vegas"', " vegas "):
        assert read_card(file, [f"run.sampler={text}"]).run.sampler == "vegas"
    card = read_card(file, ["process.definition=p p > t t~ j"])
    assert card.process.definition == "p p > t t~ j"


def test_a_card_is_found_by_its_path_or_its_name(file: Path) -> None:
    assert find_card(file) == file
    assert find_card(str(file)) == file
    assert find_card("pp_to_eej") == card_folder() / "pp_to_eej.toml"


def test_a_card_that_is_not_there_is_named_with_the_nearest_one() -> None:
    with pytest.raises(CardError) as error:
        find_card("pp_to_eeej")
    assert str(error.value) == (
        "pp_to_eeej: no such file, and no card of that name; did you mean pp_to_eej?"
    )
    with pytest.raises(CardError, match=r"no such file, .* did you mean pp_to_ttj\?"):
        find_card(Path("processes/pp_to_ttj2.toml"))
    with pytest.raises(CardError, match=r"known: .*ee_to_mumu, .*pp_to_ee, "):
        find_card("qqqqq")


def test_a_card_can_be_made_from_a_table() -> None:
    table: dict[str, Any] = {
        "process": {"name": "n", "definition": "e+ e- > mu+ mu-"},
        "beams": {"particles": ["e+", "e-"], "energies_gev": [250, 250]},
    }
    assert card_from_table(table).beams.particles == ("e+", "e-")


def test_a_card_cannot_be_changed(file: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_card(file).run.seed = 3  # type: ignore[misc]  # what is tested
