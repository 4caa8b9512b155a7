from __future__ import annotations

import json
import math
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.core import PartonDensity
from mlgen.errors import MissingExtra, MlgenError
from mlgen.physics.pdf import GridDensity, find_set, read_grid

REFERENCE = Path(__file__).parents[1] / "reference/pdf/lhapdf_NNPDF23_lo_as_0130_qed.json"

X_KNOTS = (1e-4, 1e-3, 2e-2, 0.1, 0.4, 0.9, 1.0)
Q_KNOTS = ((1.0, 1.5, 2.5, 4.5), (4.5, 10.0), (10.0, 30.0, 50.0, 200.0, 1000.0))
FLAVOURS = (-1, 21, 2)


def value_at_knot(x: float, q: float, block: int, pdg_id: int) -> float:
    """Something uneven, which jumps from one block to the next as at a flavour threshold."""
    return (1 - x) ** 3 * (1 + 0.1 * pdg_id * math.log(q + block)) * math.pow(x, -0.2) + 0.3 * block


def grid_text() -> str:
    blocks = ["PdfType: central\nFormat: lhagrid1"]
    for block, q_knots in enumerate(Q_KNOTS):
        lines = [" ".join(map(repr, knots)) for knots in (X_KNOTS, q_knots, FLAVOURS)]
        lines += [
            " ".join(repr(value_at_knot(x, q, block, pdg_id)) for pdg_id in FLAVOURS)
            for x in X_KNOTS
            for q in q_knots
        ]
        blocks.append("\n".join(lines))
    return "\n---\n".join(blocks) + "\n---\n"


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy_0000.dat"
    path.write_text(grid_text())
    return path


@pytest.fixture(scope="module")
def nnpdf() -> GridDensity:
    try:
        return read_grid(find_set("NNPDF23_lo_as_0130_qed", 0))
    except MissingExtra as missing:
        pytest.skip(str(missing))


def hermite(t: float, low: float, low_slope: float, high: float, high_slope: float) -> float:
    return (
        (2 * t**3 - 3 * t**2 + 1) * low
        + (t**3 - 2 * t**2 + t) * low_slope
        + (3 * t**2 - 2 * t**3) * high
        + (t**3 - t**2) * high_slope
    )


def spline(knots: list[float], values: list[float], at: float, linear: bool) -> float:
    """One point of a cubic Hermite spline with finite-difference slopes, step by step."""
    i = max(j for j in range(len(knots) - 1) if knots[j] <= at)
    secant = [
        (values[j + 1] - values[j]) / (knots[j + 1] - knots[j]) for j in range(len(knots) - 1)
    ]
    t = (at - knots[i]) / (knots[i + 1] - knots[i])
    if linear:
        return values[i] + t * (values[i + 1] - values[i])
    slopes = []
    for j in (i, i + 1):
        sides = ([secant[j - 1]] if j > 0 else []) + ([secant[j]] if j < len(secant) else [])
        slopes.append(sum(sides) / len(sides) * (knots[i + 1] - knots[i]))
    return hermite(t, values[i], slopes[0], values[i + 1], slopes[1])


def interpolate_slowly(pdg_id: int, x: float, q: float) -> float:
    """One point, with LHAPDF's recipe followed step by step: the oracle of the tensor code."""
    block = max(i for i, q_knots in enumerate(Q_KNOTS) if q_knots[0] <= q)
    linear = len(Q_KNOTS[block]) == 2
    log_x = [math.log(knot) for knot in X_KNOTS]
    at_q_knots = [
        spline(
            log_x,
            [value_at_knot(x_knot, q_knot, block, pdg_id) for x_knot in X_KNOTS],
            math.log(x),
            linear,
        )
        for q_knot in Q_KNOTS[block]
    ]
    return spline(
        [math.log(knot**2) for knot in Q_KNOTS[block]], at_q_knots, math.log(q**2), linear
    )


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_densities_are_those_of_lhapdf(nnpdf: GridDensity) -> None:
    points = json.loads(REFERENCE.read_text())["points"]
    pdg_ids = [int(key) for key in points[0]["xf"]]
    density: PartonDensity = nnpdf
    got = density.xfx(
        pdg_ids, column([p["x"] for p in points]), column([p["Q"] for p in points]) ** 2
    )
    expected = torch.stack([column(list(p["xf"].values())) for p in points])
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=0)


def test_the_interpolation_is_that_of_the_slow_recipe(grid_file: Path) -> None:
    rng = torch.Generator().manual_seed(1)
    u = torch.rand(300, 2, generator=rng, dtype=torch.float64)
    x, q = 10 ** (-4 * u[:, 0]), 1000 ** u[:, 1]
    got = read_grid(grid_file).xfx(FLAVOURS, x, q**2)
    expected = [
        [interpolate_slowly(pdg_id, float(x[i]), float(q[i])) for pdg_id in FLAVOURS]
        for i in range(len(x))
    ]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_knots_are_reproduced_and_a_threshold_belongs_to_the_upper_block(
    grid_file: Path,
) -> None:
    density = read_grid(grid_file)
    for block, q_knots in enumerate(Q_KNOTS):
        ends_here = block == len(Q_KNOTS) - 1
        for q in q_knots if ends_here else q_knots[:-1]:
            got = density.xfx([2], column(list(X_KNOTS)), torch.full((7,), q**2).double())[:, 0]
            expected = column([value_at_knot(x, q, block, 2) for x in X_KNOTS])
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


def test_a_density_is_frozen_at_the_edges_of_its_grid_and_zero_above_x_of_one(
    grid_file: Path,
) -> None:
    density = read_grid(grid_file)
    x, q2 = column([1e-6, 0.3, 0.3, 1 + 1e-12]), column([25.0, 0.01, 1e9, 25.0])
    edges = density.xfx([21], column([1e-4, 0.3, 0.3]), column([25.0, 1.0, 1e6]))
    got = density.xfx([21], x, q2)
    torch.testing.assert_close(got[:3], edges, rtol=1e-13, atol=0)
    assert float(got[3]) == 0
    assert (density.x_range, density.q_range_gev) == ((1e-4, 1.0), (1.0, 1000.0))


def test_not_a_number_stays_one(grid_file: Path) -> None:
    got = read_grid(grid_file).xfx([21], column([math.nan, 0.1]), column([25.0, math.nan]))
    assert bool(got.isnan().all())


def test_it_computes_on_the_device_of_its_input(grid_file: Path) -> None:
    density = read_grid(grid_file)
    points = torch.full((3,), 0.5, dtype=torch.float64)
    on_cpu = density.xfx([21], points, points)
    # The device `meta` has no values, but refuses to be mixed with another one.
    assert density.xfx([21], points.to("meta"), points.to("meta")).is_meta
    assert torch.equal(density.xfx([21], points, points), on_cpu)


def test_zero_is_the_gluon_and_an_absent_flavour_has_no_density(grid_file: Path) -> None:
    got = read_grid(grid_file).xfx([21, 0, 5], column([0.1]), column([25.0]))
    assert float(got[0, 0]) == float(got[0, 1]) > 0
    assert float(got[0, 2]) == 0


def test_a_point_does_not_depend_on_its_batch(nnpdf: GridDensity) -> None:
    rng = torch.Generator().manual_seed(2)
    x = torch.rand(1000, generator=rng, dtype=torch.float64)
    q2 = torch.full_like(x, 91.188**2)
    whole = nnpdf.xfx([21, 2, -2], x, q2)
    assert torch.equal(whole[17:40], nnpdf.xfx([21, 2, -2], x[17:40], q2[17:40]))
    assert torch.equal(whole[:, 1:2], nnpdf.xfx([2], x, q2))


@pytest.mark.parametrize("q", [1.5, 10.0, 1000.0])
def test_momentum_and_valence_sum_rules_hold_to_a_percent(nnpdf: GridDensity, q: float) -> None:
    log_x = torch.linspace(math.log(1e-9), 0, 20_001, dtype=torch.float64)
    x = log_x.exp()
    xf = nnpdf.xfx(nnpdf.pdg_ids, x, torch.full_like(x, q**2))
    assert 22 in nnpdf.pdg_ids  # the photon carries its share
    momentum = float(torch.trapezoid(xf.sum(dim=1) * x, log_x))
    assert abs(momentum - 1) < 0.01
    for pdg_id, n_valence in ((2, 2.0), (1, 1.0), (3, 0.0)):
        quark, antiquark = (nnpdf.pdg_ids.index(i) for i in (pdg_id, -pdg_id))
        valence = float(torch.trapezoid(xf[:, quark] - xf[:, antiquark], log_x))
        assert abs(valence - n_valence) < 0.01


def test_the_info_file_is_heeded(grid_file: Path) -> None:
    text = grid_file.read_text().replace("0.7", "-0.7")
    grid_file.write_text(text)
    x, q2 = 10 ** (-4 * torch.linspace(0, 1, 200).double()), torch.full((200,), 6.0).double()
    assert float(read_grid(grid_file).xfx([2], x, q2).min()) < 0
    info = grid_file.with_name("toy.info")
    info.write_text("SetDesc: a toy\nInterpolator: logcubic\nForcePositive: 1\n")
    assert float(read_grid(grid_file).xfx([2], x, q2).min()) == 0
    info.write_text("Interpolator: linear\n")
    with pytest.raises(MlgenError, match=r"Interpolator = linear: expected logcubic"):
        read_grid(grid_file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lhagrid1", "lhagrid2", "Format = lhagrid2: expected lhagrid1"),
        ("---\n", "", "truncated"),
        ("0.02 0.1", "2e-4 0.1", "block 3: expected at least 4 positive, rising knots in x"),
        ("0.02 0.1", "0.03 0.1", "block 3: expected the flavours and x of block 1"),
        ("-1 21 2\n", "-1 21 1\n", "block 3: expected the flavours and x of block 1"),
        ("10.0 30.0", "11.0 30.0", "block 3: starts at Q = 11 GeV: expected 10 GeV"),
        ("10.0 30.0", "10.0 zero", "block 3: could not convert string to float: 'zero'"),
        ("10.0 30.0", "10.0 inf", "block 3: expected at least 2 positive, rising knots in Q"),
        ("4.5 10.0", "4.5 8.0 10.0", r"block 2: 42 values: expected 7 x 3 x 3"),
    ],
)
def test_a_damaged_grid_is_named_with_what_is_wrong(
    grid_file: Path, old: str, new: str, message: str
) -> None:
    before, _, after = grid_file.read_text().rpartition(old)
    grid_file.write_text(before + new + after)
    with pytest.raises(MlgenError, match=message) as error:
        read_grid(grid_file)
    assert str(error.value).startswith(str(grid_file))


def test_a_file_cut_short_is_refused(grid_file: Path) -> None:
    text = grid_file.read_text()
    grid_file.write_text(text[: len(text) // 2])
    with pytest.raises(MlgenError, match="truncated"):
        read_grid(grid_file)


def test_a_file_that_is_absent_or_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy_0000.dat"
    with pytest.raises(MlgenError, match="cannot be read"):
        read_grid(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MlgenError, match="cannot be read"):
        read_grid(path)


def test_a_set_is_sought_in_each_folder_of_the_lhapdf_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "toy").mkdir(parents=True)
    first.mkdir()
    nested, flat = second / "toy/toy_0003.dat", second / "toy_0003.dat"
    nested.touch()
    flat.touch()
    monkeypatch.setenv("LHAPDF_DATA_PATH", f"{first}:{second}")
    assert find_set("toy", 3) == nested
    nested.unlink()
    assert find_set("toy", 3) == flat


def test_a_set_is_sought_in_the_data_folder_of_pythia(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = tmp_path / "share/Pythia8/pdfdata/toy_0000.dat"
    grid.parent.mkdir(parents=True)
    grid.touch()
    monkeypatch.delenv("LHAPDF_DATA_PATH", raising=False)
    monkeypatch.setenv("PYTHIA8DATA", str(tmp_path / "share/Pythia8/xmldoc"))
    assert find_set("toy", 0) == grid


def test_a_missing_set_is_named_with_the_places_and_the_ways_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LHAPDF_DATA_PATH", str(tmp_path))
    monkeypatch.delenv("PYTHIA8DATA", raising=False)
    with pytest.raises(MissingExtra) as error:
        find_set("no_such_set", 2)
    for part in (
        "no_such_set_0002.dat",
        str(tmp_path),
        "pdfdata",
        "mlgen-hep[shower]",
        "LHAPDF_DATA_PATH",
    ):
        assert part in str(error.value)


def test_without_pythia_the_data_folder_of_the_environment_is_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def not_installed(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", not_installed)
    with pytest.raises(MissingExtra, match="share/Pythia8/pdfdata"):
        find_set("no_such_set", 0)
