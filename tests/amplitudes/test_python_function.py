from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.amplitudes.probe_points import probe_points
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.python_function import PythonFunction, provide
from mlgen.core import ResolvedAmplitude, SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, MatrixElementError
from mlgen.physics.model import StandardModel
from tests.amplitudes.user_functions import photon_exchange
from tests.laws import check_amplitude_is_lorentz_invariant

MUON_PAIRS = SubprocessGroup(name="e+ e- > mu+ mu-", pdg_ids=((-11, 11, -13, 13),), qed_order=2)
GLUONS = SubprocessGroup(name="g g > g g", pdg_ids=((21, 21, 21, 21),), qcd_order=2)
MODULE = "tests.amplitudes.user_functions"


def amplitude_of(function: str, *groups: SubprocessGroup) -> PythonFunction:
    request = AmplitudeRequest(
        groups=groups or (MUON_PAIRS,),
        model=StandardModel(),
        cache_folder=Path(),
        function=function,
    )
    return provide(request, SilentProgress())


@pytest.fixture(scope="module")
def momenta() -> Tensor:
    return probe_points([0.0] * 4, 5)


def couplings(momenta: Tensor) -> Tensor:
    return torch.full((len(momenta),), 0.118, dtype=torch.float64)


def test_a_users_function_is_the_amplitude(momenta: Tensor) -> None:
    amplitude = amplitude_of(f"{MODULE}:photon_exchange")
    result = amplitude(momenta, couplings(momenta), 0)
    expected = photon_exchange(momenta, couplings(momenta), torch.tensor([-11, 11, -13, 13]))
    torch.testing.assert_close(result.value, expected)
    assert not bool(result.std.any())
    assert isinstance(amplitude, ResolvedAmplitude)
    check_amplitude_is_lorentz_invariant(amplitude, momenta, 0)


def test_the_function_survives_being_sent_to_another_process(momenta: Tensor) -> None:
    amplitude = amplitude_of(f"{MODULE}:photon_exchange")
    sent = pickle.loads(pickle.dumps(amplitude))
    here, there = (a(momenta, couplings(momenta), 0).value for a in (amplitude, sent))
    torch.testing.assert_close(there, here, rtol=0, atol=0)


def test_helicities_are_unknown_and_sum_to_the_value(momenta: Tensor) -> None:
    amplitude = amplitude_of(f"{MODULE}:photon_exchange")
    assert amplitude.helicities(0).tolist() == [[9, 9, 9, 9]]
    parts = amplitude.helicity_values(momenta, couplings(momenta), 0)
    value = amplitude(momenta, couplings(momenta), 0).value
    torch.testing.assert_close(parts[:, 0], value, rtol=0, atol=0)


def test_leading_colour_flows_are_equally_probable(momenta: Tensor) -> None:
    amplitude = amplitude_of(f"{MODULE}:photon_exchange", MUON_PAIRS, GLUONS)
    no_helicity = torch.zeros(len(momenta), dtype=torch.int64)
    assert amplitude.colour_flows(0).tolist() == [[[0, 0]] * 4]
    assert amplitude.colour_flows(1).shape == (6, 4, 2)
    values = amplitude.colour_flow_values(momenta, couplings(momenta), no_helicity, 1)
    torch.testing.assert_close(values, torch.ones(5, 6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("of_the_wrong_shape", r"shape \(5, 2\).*expected \|M\|² of each point.*\(5,\)"),
        ("of_integers", "torch.int64: expected"),
        ("no_tensor", "a list: expected a tensor"),
        ("failing", "raised ZeroDivisionError.*of the user's"),
        ("exiting", r"raised SystemExit\(0\)"),
    ],
)
def test_a_function_that_gives_something_else_is_named_with_what_it_gave(
    momenta: Tensor, function: str, message: str
) -> None:
    amplitude = amplitude_of(f"{MODULE}:{function}")
    with pytest.raises(MatrixElementError, match=f"{function} of .*{message}"):
        amplitude(momenta, couplings(momenta), 0)


def test_a_value_that_is_not_finite_comes_with_its_momenta(momenta: Tensor) -> None:
    amplitude = amplitude_of(f"{MODULE}:nan_at_the_second_point")
    with pytest.raises(
        MatrixElementError,
        match=re.escape(
            f"nan: expected a finite |M|²; (E, px, py, pz) in GeV = {momenta[1].tolist()}"
        ),
    ):
        amplitude(momenta, couplings(momenta), 0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("", "expected module:function"),
        ("no_colon", "expected module:function"),
        ("no_such_module:f", "No module named"),
        (f"{MODULE}:no_such_function", "no attribute"),
        (f"{MODULE}:NOT_A_FUNCTION", "expected a function, not a int"),
    ],
)
def test_a_function_that_is_not_there_is_an_error_of_the_card(function: str, message: str) -> None:
    with pytest.raises(CardError, match=rf"matrix_element\.function = '{function}': .*{message}"):
        amplitude_of(function)
