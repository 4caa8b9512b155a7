from __future__ import annotations

import cmath
import math
import random
from pathlib import Path

import feyngraph
import pytest

from mlgen.amplitudes.pyamplicol_runtime import package_folder
from mlgen.cards import ModelCard
from mlgen.errors import ModelError
from mlgen.physics.diagrams import generate_diagrams
from mlgen.physics.model import Model, StandardModel
from mlgen.physics.ufo import UfoModel, read_model
from mlgen.physics.ufo_expressions import evaluate
from tests.subprocess_groups import subprocess_groups

PORTAL = str(Path(__file__).parents[1] / "models" / "vector_portal")
SHIPPED = package_folder() / "assets" / "models" / "ufo"

MASSLESS_AND_DIAGONAL = {
    **dict.fromkeys(("lamWS", "AWS", "rhoWS", "etaWS", "ymc", "yme", "ymm", "MC", "Me", "MM"), 0.0),
    **{"ymb": 4.7, "ymt": 173.0, "ymtau": 1.777, "WTau": 0.0, "aEWM1": 132.507},
    **{"WZ": 2.441404, "WW": 2.0476, "WT": 1.4915, "WH": 0.006382339},
}
"""What turns the Standard Model of the UFO folder into the built-in one."""


def standard_ufo() -> UfoModel:
    return UfoModel(str(SHIPPED / "sm"), MASSLESS_AND_DIAGONAL)


def test_the_standard_model_of_a_ufo_folder_is_the_built_in_one() -> None:
    ufo, built_in = standard_ufo(), StandardModel()
    assert set(ufo.particles) == set(built_in.particles)
    for pdg_id, particle in built_in.particles.items():
        other = ufo.particles[pdg_id]
        assert (other.spin, other.colour, other.name.lower()) == (
            particle.spin,
            particle.colour,
            particle.name,
        )
        assert other.charge == pytest.approx(particle.charge)
        assert ufo.mass_gev(pdg_id) == pytest.approx(built_in.mass_gev(pdg_id), rel=1e-12)
        assert ufo.width_gev(pdg_id) == pytest.approx(built_in.width_gev(pdg_id), rel=1e-12)
    assert ufo.alpha_em == pytest.approx(built_in.alpha_em, rel=1e-14)
    assert ufo.parameter("sw2").real == pytest.approx(built_in.sin2_theta_w, rel=1e-12)
    assert dict(ufo.hierarchy) == dict(built_in.hierarchy)


def test_the_vertices_of_both_standard_models_are_the_same() -> None:
    def contents(model: Model) -> set[object]:
        return {(tuple(sorted(v.particles)), v.orders) for v in model.vertices()}

    assert contents(standard_ufo()) == contents(StandardModel())


@pytest.mark.parametrize(
    ("particles", "size"),
    [
        ((-2, 2, 22), lambda m: 2 / 3 * m.electric_charge),
        ((-24, 22, 24), lambda m: m.electric_charge),
        ((-24, 23, 24), lambda m: m.electric_charge / math.tan(math.asin(m.sin2_theta_w**0.5))),
        ((-24, 24, 25), lambda m: m.electric_charge * m.w_mass_gev / m.sin2_theta_w**0.5),
        ((-6, 6, 25), lambda m: m.electric_charge * 173 / (2 * m.sin2_theta_w**0.5 * m.w_mass_gev)),
        ((-2, 1, 24), lambda m: m.electric_charge / (2 * m.sin2_theta_w) ** 0.5),
        (
            (25, 25, 25),
            lambda m: 3 * m.electric_charge * 125**2 / (2 * m.sin2_theta_w**0.5 * m.w_mass_gev),
        ),
    ],
)
def test_couplings_of_both_standard_models_have_the_textbook_sizes(
    particles: tuple[int, ...], size: object
) -> None:
    assert callable(size)
    expected = size(StandardModel())
    for model in (StandardModel(), standard_ufo()):
        (vertex,) = (v for v in model.vertices() if tuple(sorted(v.particles)) == particles)
        assert abs(vertex.couplings[0][1]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "definition", ["p p > e+ e- j", "p p > e+ ve j", "p p > j j", "p p > t t~ j", "p p > a j"]
)
def test_both_standard_models_have_the_same_groups(definition: str) -> None:
    ours = subprocess_groups(definition)
    assert subprocess_groups(definition, model=standard_ufo()) == ours


def test_a_mixing_matrix_and_masses_keep_generations_apart() -> None:
    model = UfoModel(str(SHIPPED / "sm"))
    assert [g.pdg_ids for g in subprocess_groups("p p > e+ ve", model=model)] == [
        ((2, -1, -11, 12),),
        ((2, -3, -11, 12),),
    ]
    assert all(
        4 not in ids for g in subprocess_groups("p p > j j", model=model) for ids in g.pdg_ids
    )


def test_the_portal_has_its_own_diagrams_in_both_readers() -> None:
    rules = feyngraph.Model.from_ufo(PORTAL)
    names = {p.pdg(): p.name() for p in rules.particles()}
    for ids in ((2, -2, -11, 11, 21), (-11, 11, -13, 13), (21, 21, 1, -1), (21, 21, 21, 21)):
        found = feyngraph.generate_diagrams(
            [names[p] for p in ids[:2]], [names[p] for p in ids[2:]], 0, rules
        )
        assert len(generate_diagrams(ids, PORTAL)) == len(found) > 0
    exchanged = {d.propagators[0].pdg_id for d in generate_diagrams((-11, 11, -13, 13), PORTAL)}
    assert exchanged == {22, 32}


def test_parameters_of_the_card_reach_masses_and_couplings() -> None:
    model = read_model(ModelCard(ufo_folder=PORTAL, parameters={"MX": 500.0, "ge": 0.0}))
    assert model.mass_gev(32) == 500
    assert model.width_gev(32) == 8
    assert model.external_parameters()["MX"] == 500
    assert model.external_parameters()["gu"] == 0.1
    vertices = {tuple(sorted(v.particles)) for v in model.vertices()}
    assert (-2, 2, 32) in vertices
    assert (-11, 11, 32) not in vertices
    assert not subprocess_groups("e+ e- > mu+ mu- QED=2", ("e+", "e-"), model)[0].qcd_order
    assert read_model(ModelCard()) == StandardModel()


def test_names_of_a_model_are_its_own_and_partons_its_massless_ones() -> None:
    model = UfoModel(PORTAL)
    groups = subprocess_groups("p p > x j", model=model)
    assert {g.name for g in groups} >= {"u u~ > x g", "g d > x d"}
    # Equal couplings at one point are no law: gu and gd are the model's to choose.
    assert all(len(g.pdg_ids) == 1 for g in groups)
    heavy_d = subprocess_groups("p p > j j", model=UfoModel(PORTAL, {"MD": 3.0}))
    assert all(1 not in ids for g in heavy_d for ids in g.pdg_ids)


def test_a_varied_model_differs_in_all_but_what_is_zero() -> None:
    model = UfoModel(PORTAL)
    varied = model.varied(random.Random(1)).external_parameters()
    for name, value in model.external_parameters().items():
        assert varied[name] == 0 if value == 0 else 1 < varied[name] / value < 1.5


@pytest.mark.parametrize("name", ["scalars", "scalar_gravity"])
def test_models_that_are_written_with_loops_are_read(name: str) -> None:
    model = UfoModel(str(SHIPPED / name))
    scalars = [p for p in model.particles.values() if p.spin == 1]
    assert [model.mass_gev(p.pdg_id) for p in scalars] == [0, 1, 2]
    assert model.vertices()
    a, b, c = (p.pdg_id for p in scalars)
    if name == "scalars":
        diagrams = generate_diagrams((a, a, b, c), str(SHIPPED / name))
        assert len(diagrams) == 3 * 3 + 1


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("2*cmath.sqrt(x)*cmath.sqrt(cmath.pi)", 2 * cmath.sqrt(2 * cmath.pi)),
        ("-(x*complex(0,1))/3. + x**2", 4 - 2j / 3),
        ("complexconjugate(y) + re(y) - im(y)", (1 - 3j) + 1 - 3),
        ("sec(x)*cmath.cos(x) + csc(y)*cmath.sin(y)", 2),
        ("twice(x, y) if x > 1 else 0", 2 * (2 + 1 + 3j)),
        ("1 if x == 2 and y != 0 else 5", 1),
    ],
)
def test_formulas_have_their_values(formula: str, value: complex) -> None:
    values = {"x": 2.0, "y": 1 + 3j}
    functions = {"twice": (("a", "b"), "2*(a + b)")}
    assert evaluate(formula, values.__getitem__, functions) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    "formula",
    ["z", "1/0", "open('x')", "(lambda: 1)()", "x.__class__", "[1]", "x +", "__import__('os')"],
)
def test_what_is_no_formula_is_refused(formula: str) -> None:
    with pytest.raises(ModelError, match="expected"):
        evaluate(formula, {"x": 2.0}.__getitem__, {})


def portal_with(tmp_path: Path, file: str, added: str) -> str:
    for path in Path(PORTAL).glob("*.py"):
        text = path.read_text() + (added if path.name == file else "")
        (tmp_path / path.name).write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("file", "added", "message"),
    [
        ("particles.py", "\nopen('ran', 'w')\n", "particles.py, line"),
        ("parameters.py", "\ndef f():\n    return 1\n", "parameters.py, line"),
        ("couplings.py", "\nGC_1.__class__.__bases__[0]\n", "couplings.py, line"),
        ("vertices.py", "\nV_9 = Vertex(name='V_9'\n", "expected a readable vertices.py"),
        ("vertices.py", "\nV_9 = Vertex(name='V_9', particles=[P.zz])\n", "vertices.py, line"),
        ("vertices.py", "\nV_9 = Vertex(name='V_9', particles=[P.x])\n", "expected a UFO model"),
    ],
)
def test_code_in_a_folder_never_runs(tmp_path: Path, file: str, added: str, message: str) -> None:
    folder = portal_with(tmp_path, file, added)
    with pytest.raises(ModelError) as error:
        UfoModel(folder)
    assert str(error.value).startswith(f"model.ufo_folder = {folder!r}: ")
    assert message in str(error.value)
    assert not Path("ran").exists()


def test_what_the_card_gets_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model.parameters.MY = 1.0: no external parameter of"):
        read_model(ModelCard(ufo_folder=PORTAL, parameters={"MY": 1.0}))
    with pytest.raises(ModelError, match=r"'nowhere': expected a folder with a UFO model"):
        read_model(ModelCard(ufo_folder="nowhere"))
    with pytest.raises(ModelError, match=r"expected a readable particles.py"):
        read_model(ModelCard(ufo_folder=str(tmp_path)))
    with pytest.raises(ModelError, match=r"expected model.ufo_folder"):
        read_model(ModelCard(parameters={"MT": 172.5}))


def test_a_parameter_that_needs_itself_is_named(tmp_path: Path) -> None:
    added = '\nloop = Parameter(name="loop", nature="internal", type="real", value="loop + 1")\n'
    model = UfoModel(portal_with(tmp_path, "parameters.py", added))
    with pytest.raises(ModelError, match="no parameter 'loop'"):
        model.parameter("loop")
