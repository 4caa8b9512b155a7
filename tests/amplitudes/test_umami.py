from __future__ import annotations

import pickle
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from mlgen.amplitudes.probe_points import probe_points
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.umami import UmamiAmplitude, provide
from mlgen.core import SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, MatrixElementError, MlgenError, UnsupportedProcess
from mlgen.physics.model import StandardModel
from tests.amplitudes.user_functions import quark_exchange

SOURCE = Path(__file__).parent / "quark_exchange.c"
COMPILER = shutil.which("cc")
GROUP = SubprocessGroup(name="u u~ > c c~", pdg_ids=((2, -2, 4, -4),), qcd_order=2)
MOMENTA = probe_points([0.0] * 4, 7)
ALPHA_S = torch.linspace(0.1, 0.2, 7, dtype=torch.float64)


def library(folder: Path, *definitions: str, name: str = "quarks.so") -> Path:
    """The library of quark_exchange.c, with its variants switched by definitions."""
    if COMPILER is None:
        pytest.skip("there is no C compiler, cc, to make a library with")
    path = folder / name
    defines = [f"-D{definition}" for definition in definitions]
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", *defines, str(SOURCE), "-o", str(path)], check=True
    )
    return path


def amplitude_of(path: Path | str, *groups: SubprocessGroup) -> UmamiAmplitude:
    request = AmplitudeRequest(
        groups=groups or (GROUP,),
        model=StandardModel(),
        cache_folder=Path(),
        library=str(path),
    )
    return provide(request, SilentProgress())


@pytest.mark.parametrize("variant", ["TAKES_ALPHA_S", "HAS_ITS_OWN_ALPHA_S"])
def test_a_library_gives_the_values_of_the_closed_form(tmp_path: Path, variant: str) -> None:
    amplitude = amplitude_of(library(tmp_path, variant))
    expected = quark_exchange(MOMENTA, ALPHA_S, torch.tensor(GROUP.pdg_ids[0]))
    result = amplitude(MOMENTA, ALPHA_S, 0)
    torch.testing.assert_close(result.value, expected, rtol=1e-12, atol=0)
    assert not bool(result.std.any())


def test_a_library_is_opened_again_in_another_process(tmp_path: Path) -> None:
    amplitude = amplitude_of(library(tmp_path, "TAKES_ALPHA_S"))
    sent = pickle.loads(pickle.dumps(amplitude))
    here, there = (a(MOMENTA, ALPHA_S, 0).value for a in (amplitude, sent))
    torch.testing.assert_close(there, here, rtol=0, atol=0)


def test_no_points_give_no_values(tmp_path: Path) -> None:
    amplitude = amplitude_of(library(tmp_path, "TAKES_ALPHA_S"))
    assert amplitude(MOMENTA[:0], ALPHA_S[:0], 0).value.shape == (0,)


def test_each_group_may_have_a_library_of_its_own(tmp_path: Path) -> None:
    other = SubprocessGroup(name="u c > u c", pdg_ids=((2, 4, 2, 4),), qcd_order=2)
    library(tmp_path, "TAKES_ALPHA_S", name="2_-2_4_-4.so")
    library(tmp_path, "TAKES_ALPHA_S", "FACTOR=2", name="2_4_2_4.so")
    amplitude = amplitude_of(tmp_path / "{pdg_ids}.so", GROUP, other)
    first, second = (amplitude(MOMENTA, ALPHA_S, group).value for group in (0, 1))
    torch.testing.assert_close(second, 2 * first)
    with pytest.raises(UnsupportedProcess, match=r"expected \{pdg_ids\} in the name"):
        amplitude_of(tmp_path / "2_-2_4_-4.so", GROUP, other)


@pytest.mark.parametrize(
    ("definitions", "error", "message"),
    [
        (("TAKES_ALPHA_S", "N_LEGS=5"), UnsupportedProcess, "external legs = 5: expected 4"),
        (("TAKES_ALPHA_S", "DEVICE=1"), UnsupportedProcess, "a device .* = 1: expected 0"),
        (("TAKES_ALPHA_S", "STATUS=1"), MatrixElementError, r"umami_matrix_element gave status 1 \(error\)"),
        (("TAKES_ALPHA_S", "VALUE=NAN"), MatrixElementError, r"nan: expected a finite \|M\|²"),
        (("TAKES_ALPHA_S", "FACTOR=-1"), MatrixElementError, r"go as alpha_s\^2"),
        (("TAKES_ALPHA_S", "VALUE=1"), MatrixElementError, r"go as alpha_s\^2"),
        ((), MatrixElementError, "takes alpha_s for each event, or tells"),
        (("WITHOUT_EVALUATION",), MatrixElementError, "UMAMI interface .*umami_matrix_element"),
    ],
)  # fmt: skip
def test_a_library_that_does_not_serve_says_why(
    tmp_path: Path, definitions: tuple[str, ...], error: type[MlgenError], message: str
) -> None:
    path = library(tmp_path, *definitions)
    with pytest.raises(error, match=f"{re.escape(str(path))}.*{message}"):
        amplitude_of(path)


def test_what_is_no_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"library = '.*missing\.so': expected a shared library"):
        amplitude_of(tmp_path / "missing.so")
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises(MatrixElementError, match=r"text\.so': expected a shared library with"):
        amplitude_of(text)
