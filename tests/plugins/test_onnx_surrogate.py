from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import MissingExtra, MlgenError
from mlgen.plugins import onnx_surrogate
from mlgen.plugins.onnx_surrogate import export_surrogate
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.group_surrogate import GroupSurrogate, train_group
from mlgen.surrogates.methods import METHODS
from mlgen.surrogates.surrogate import Surrogate
from tests.surrogates.toys import MODEL, ZGG, flat_points, toy_sample

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

SETTINGS = SurrogateCard(n_hidden=16, n_layers=2, n_steps=100)
STRANGER = """
import sys
import numpy as np, onnxruntime
points = np.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1])
inputs = {"momenta": points["momenta"], "alpha_s": points["alpha_s"]}
value, std, covered = session.run(["value", "std", "covered"], inputs)
np.savez(sys.argv[3], value=value, std=std, covered=covered)
assert not {"mlgen", "torch"} & set(sys.modules)
"""


def a_surrogate(method: str = "gaussian") -> GroupSurrogate:
    settings = replace(SETTINGS, method=method)
    return train_group(toy_sample(4000, seed=1), ZGG, MODEL, settings, 1, SilentProgress())[0]


@pytest.fixture(scope="module")
def learned() -> GroupSurrogate:
    return a_surrogate()


@pytest.fixture(scope="module")
def momenta() -> Tensor:
    """Most of them like those learned from, the last hundred not."""
    elsewhere = flat_points(ZGG, 100, seed=8, beam_gev=5e4)
    return torch.cat([flat_points(ZGG, 900, seed=7), elsewhere])


@pytest.fixture(scope="module")
def alpha_s() -> Tensor:
    return torch.linspace(0.08, 0.13, 1000, dtype=torch.float64)


@pytest.fixture(scope="module")
def file(
    learned: GroupSurrogate,
    momenta: Tensor,
    alpha_s: Tensor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "zgg.onnx"
    export_surrogate(learned, ZGG, path, momenta, alpha_s)
    assert [entry.name for entry in path.parent.iterdir()] == ["zgg.onnx"]
    return path


def test_a_program_without_mlgen_gets_the_same_numbers(
    file: Path, learned: GroupSurrogate, momenta: Tensor, alpha_s: Tensor, tmp_path: Path
) -> None:
    np.savez(tmp_path / "points.npz", momenta=momenta.numpy(), alpha_s=alpha_s.numpy())
    arguments = [str(file), str(tmp_path / "points.npz"), str(tmp_path / "found.npz")]
    subprocess.run([sys.executable, "-c", STRANGER, *arguments], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npz")
    expected = Surrogate((ZGG,), (learned,), SETTINGS)(momenta, alpha_s, 0)
    assert found["covered"].dtype == np.bool_
    assert found["value"].dtype == found["std"].dtype == np.float64
    np.testing.assert_array_equal(found["covered"], expected.std.isfinite().numpy())
    np.testing.assert_array_equal(np.isfinite(found["std"]), found["covered"])
    assert found["covered"][:900].mean() > 0.95
    assert not found["covered"][900:].any()
    inside = found["covered"]
    np.testing.assert_allclose(found["value"][inside], expected.value.numpy()[inside], rtol=1e-5)
    np.testing.assert_allclose(found["std"][inside], expected.std.numpy()[inside], rtol=1e-4)


@pytest.mark.parametrize("n", [1, 3, 1000])
def test_any_number_of_points_can_be_asked_for(
    file: Path, learned: GroupSurrogate, momenta: Tensor, alpha_s: Tensor, n: int
) -> None:
    session = onnxruntime.InferenceSession(file)
    inputs = {"momenta": momenta[:n].numpy(), "alpha_s": alpha_s[:n].numpy()}
    value = session.run(["value"], inputs)[0]
    expected = Surrogate((ZGG,), (learned,), SETTINGS)(momenta, alpha_s, 0).value[:n]
    inside = slice(min(n, 900))
    np.testing.assert_allclose(value[inside], expected.numpy()[inside], rtol=1e-5)


def test_the_file_says_what_its_numbers_are(file: Path) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["schema"] == "mlgen-surrogate-onnx"
    assert json.loads(said["pdg_ids"]) == [[1, -1, 23, 21, 21]]
    assert (said["process"], said["qcd_order"]) == ("d d~ > z g g", "2")
    assert "GeV^-2" in said["value"]
    assert "GeV" in said["momenta"]
    assert said["mlgen_version"]
    names = [[entry.name for entry in of] for of in (model.graph.input, model.graph.output)]
    assert names == [["momenta", "alpha_s"], ["value", "std", "covered"]]


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gaussian"}))
def test_every_method_can_be_exported(
    method: str, momenta: Tensor, alpha_s: Tensor, tmp_path: Path
) -> None:
    export_surrogate(a_surrogate(method), ZGG, tmp_path / "a.onnx", momenta, alpha_s)
    assert (tmp_path / "a.onnx").stat().st_size > 1000


def test_a_file_that_gives_other_numbers_is_refused(
    learned: GroupSurrogate,
    momenta: Tensor,
    alpha_s: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to_onnx: Callable[..., Any] = onnx_surrogate._to_onnx

    def another_power(module: Any, *rest: Any) -> Any:
        module.qcd_order = 3
        return to_onnx(module, *rest)

    (tmp_path / "a.onnx").write_text("what was there before")
    monkeypatch.setattr(onnx_surrogate, "_to_onnx", another_power)
    with pytest.raises(
        MlgenError, match=r"is not the surrogate: the largest deviation of value over"
    ):
        export_surrogate(learned, ZGG, tmp_path / "a.onnx", momenta, alpha_s)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_text() == "what was there before"


def test_points_that_compare_nothing_are_errors(
    learned: GroupSurrogate, momenta: Tensor, alpha_s: Tensor, tmp_path: Path
) -> None:
    for points, couplings, message in (
        (momenta[:1], alpha_s[:1], "momenta = 1 points, alpha_s = 1: expected as many of both"),
        (momenta[:5], alpha_s[:4], "momenta = 5 points, alpha_s = 4: expected as many of both"),
        (momenta[900:], alpha_s[900:], "momenta = 100 points: expected some like those learned"),
    ):
        with pytest.raises(MlgenError, match=message):
            export_surrogate(learned, ZGG, tmp_path / "a.onnx", points, couplings)


def test_a_folder_that_is_not_there_is_an_error(
    learned: GroupSurrogate, momenta: Tensor, alpha_s: Tensor, tmp_path: Path
) -> None:
    with pytest.raises(MlgenError, match=r"nowhere/a.onnx: cannot be written: .*nowhere is not a"):
        export_surrogate(learned, ZGG, tmp_path / "nowhere" / "a.onnx", momenta, alpha_s)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_names_the_way_round(
    missing: str,
    learned: GroupSurrogate,
    momenta: Tensor,
    alpha_s: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without(name: str) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_module(name)

    monkeypatch.setattr(onnx_surrogate, "import_module", without)
    with pytest.raises(MissingExtra, match=rf"{missing} is not installed: .*mlgen-hep\[export\]"):
        export_surrogate(learned, ZGG, tmp_path / "a.onnx", momenta, alpha_s)
