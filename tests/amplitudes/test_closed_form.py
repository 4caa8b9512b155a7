from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mlgen.amplitudes.closed_form import provide
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.core import OneHelicity, ResolvedAmplitude, SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import UnsupportedProcess
from mlgen.physics.model import StandardModel
from tests.laws import (
    boost_and_rotate,
    check_amplitude_is_lorentz_invariant,
    check_single_helicities,
)

REFERENCES = Path(__file__).parents[1] / "reference/amplitudes"
TO_TWO = ("ee_mumu", "uux_epem", "ddx_epem")
TO_THREE = ("uux_epemg", "gu_epemu", "ee_uuxg")
ALPHA_S = 0.118


def amplitude_of(*pdg_ids: int, name: str = "a process") -> ResolvedAmplitude:
    groups = (SubprocessGroup(name=name, pdg_ids=(pdg_ids,)),)
    request = AmplitudeRequest(groups=groups, model=StandardModel(), cache_folder=Path())
    return provide(request, SilentProgress())


def reference(name: str) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """PDG ids, momenta and |M|² of MadGraph5_aMC@NLO."""
    table = json.loads((REFERENCES / f"{name}.json").read_text())
    momenta = torch.tensor([point["p"] for point in table["points"]], dtype=torch.float64)
    squared = torch.tensor([point["m2"] for point in table["points"]], dtype=torch.float64)
    return tuple(table["pdg"]), momenta, squared


def alpha_s_of(momenta: Tensor) -> Tensor:
    return torch.full((len(momenta),), ALPHA_S, dtype=torch.float64)


@pytest.mark.parametrize("name", TO_TWO + TO_THREE)
def test_the_values_are_those_of_madgraph(name: str) -> None:
    pdg_ids, momenta, expected = reference(name)
    got = amplitude_of(*pdg_ids)(momenta, alpha_s_of(momenta), 0)
    torch.testing.assert_close(got.value, expected, rtol=1e-11, atol=0)
    assert torch.equal(got.std, torch.zeros_like(expected))


@pytest.mark.parametrize("name", TO_TWO + TO_THREE)
def test_it_is_lorentz_invariant(name: str) -> None:
    pdg_ids, momenta, _ = reference(name)
    check_amplitude_is_lorentz_invariant(amplitude_of(*pdg_ids), momenta, 0)


# --- an oracle: Feynman diagrams with Dirac matrices, one point and one helicity at a time ------

Matrix = npt.NDArray[Any]

SIGMA = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
ZERO = np.zeros((2, 2))
GAMMA = np.array(
    [np.block([[ZERO, s], [s if mu == 0 else -s, ZERO]]) for mu, s in enumerate(SIGMA)]
)
GAMMA_5 = np.diag([-1, -1, 1, 1]).astype(complex)
METRIC = np.diag([1.0, -1.0, -1.0, -1.0])


def slash(p: Matrix) -> Matrix:
    gamma_p: Matrix = np.einsum("m,mab->ab", METRIC @ p, GAMMA)
    return gamma_p


def spinor(p: Matrix, helicity: int) -> Matrix:
    """u(p) of a massless fermion."""
    theta, phi = math.acos(p[3].real / p[0].real), math.atan2(p[2].real, p[1].real)
    plus = [math.cos(theta / 2), math.sin(theta / 2) * np.exp(1j * phi)]
    minus = [-math.sin(theta / 2) * np.exp(-1j * phi), math.cos(theta / 2)]
    two = np.array(plus if helicity > 0 else minus) * math.sqrt(2 * p[0].real)
    return np.concatenate([np.zeros(2), two] if helicity > 0 else [two, np.zeros(2)])


def polarisation(k: Matrix, helicity: int) -> Matrix:
    theta, phi = math.acos(k[3].real / k[0].real), math.atan2(k[2].real, k[1].real)
    e_theta = np.array(
        [0, math.cos(theta) * math.cos(phi), math.cos(theta) * math.sin(phi), -math.sin(theta)]
    )
    e_phi = np.array([0, -math.sin(phi), math.cos(phi), 0])
    return (-helicity * e_theta - 1j * e_phi) / math.sqrt(2)


def vertices(pdg_id: int, model: StandardModel) -> tuple[Matrix, Matrix]:
    """Photon and Z vertices (4, 4, 4) of a fermion, in the form with g_V and g_A."""
    charge, isospin = {1: (-1 / 3, -1 / 2), 0: (2 / 3, 1 / 2)}[pdg_id % 2]
    if pdg_id > 10:
        charge, isospin = -1, -1 / 2
    sine2 = model.sin2_theta_w
    e = model.electric_charge
    g_v, g_a = isospin - 2 * charge * sine2, isospin
    coupling = g_v * np.eye(4) - g_a * GAMMA_5
    to_z = e / (2 * math.sqrt(sine2 * (1 - sine2))) * (GAMMA @ coupling)
    return e * charge * GAMMA, to_z


def squared_by_diagrams(
    pdg_ids: tuple[int, ...], p: Matrix, helicities: tuple[int, ...], gauge: float = 0.0
) -> float:
    """|M|² of one helicity configuration, colour-summed, averages included.

    Args:
        gauge: so much of the gluon's momentum is added to its polarisation, to no effect.
    """
    model = StandardModel()
    sign = [-1 if leg < 2 else 1 for leg in range(len(pdg_ids))]
    lines = []
    for flavour in sorted({abs(i) for i in pdg_ids if i != 21}):
        legs = [leg for leg, i in enumerate(pdg_ids) if abs(i) == flavour]
        end = next(leg for leg in legs if pdg_ids[leg] * sign[leg] > 0)
        start = next(leg for leg in legs if leg != end)
        # An antifermion has the spinor of the fermion of opposite helicity.
        flow = [1 if pdg_ids[leg] > 0 else -1 for leg in (end, start)]
        bar = spinor(p[end], flow[0] * helicities[end]).conj() @ GAMMA[0]
        ket = spinor(p[start], flow[1] * helicities[start])
        lines.append((bar, flow[0] * p[end], flow[1] * p[start], ket, vertices(flavour, model)))
    exchanged = lines[1][1] - lines[1][2]
    currents = []
    for number, (bar, p_end, p_start, ket, both) in enumerate(lines):
        if number == 1 or 21 not in pdg_ids:
            currents.append([np.einsum("a,mab,b->m", bar, vertex, ket) for vertex in both])
            continue
        leg = pdg_ids.index(21)
        epsilon = polarisation(p[leg], helicities[leg]) + gauge * p[leg]
        emitted = slash(epsilon.conj() if sign[leg] > 0 else epsilon)
        k = -sign[leg] * p[leg]
        after, before = p_end - k, p_start + k
        currents.append(
            [
                np.einsum(
                    "a,mab,b->m",
                    bar,
                    emitted @ slash(after) @ vertex / (after @ METRIC @ after)
                    + vertex @ slash(before) @ emitted / (before @ METRIC @ before),
                    ket,
                )
                for vertex in both
            ]
        )
    s = (exchanged @ METRIC @ exchanged).real
    mass, width = model.mass_gev(23), model.width_gev(23)
    propagators = (1 / s, 1 / (s - mass**2 + 1j * mass * width))
    amplitude = sum(
        propagator * (first @ METRIC @ second)
        for propagator, first, second in zip(propagators, *currents, strict=True)
    )
    colours = 1.0
    if any(abs(i) < 10 for i in pdg_ids):
        colours = 4 * (4 * math.pi * ALPHA_S) if 21 in pdg_ids else 3
    for i in pdg_ids[:2]:
        colours /= 2 * (8 if i == 21 else 3 if abs(i) < 10 else 1)
    return float(colours * abs(amplitude) ** 2)


ORACLE_PROCESSES = [
    (2, -2, -11, 11, 21),
    (-1, 1, 21, 13, -13),
    (21, 2, -11, 11, 2),
    (3, 21, 3, -13, 13),
    (21, -4, 11, -11, -4),
    (-1, 21, -1, -11, 11),
    (-11, 11, 2, -2, 21),
    (13, -13, 21, -3, 3),
    (11, 2, 11, 2, 21),
    (-13, 21, 1, -1, -13),
    (-11, 11, -13, 13),
    (13, -13, 11, -11),
    (4, -4, 13, -13),
    (-3, 3, -11, 11),
    (11, -11, 1, -1),
    (11, -13, 11, -13),
    (2, 11, 2, 11),
]


@pytest.mark.parametrize("pdg_ids", ORACLE_PROCESSES, ids=str)
@pytest.mark.parametrize("sqrt_s", [91.188, 1000.0])
def test_each_helicity_is_that_of_the_feynman_diagrams(
    pdg_ids: tuple[int, ...], sqrt_s: float
) -> None:
    _, momenta, _ = reference("uux_epem" if len(pdg_ids) == 4 else "uux_epemg")
    momenta = boost_and_rotate(momenta[:3], seed=7) * (sqrt_s / 1000)
    amplitude = amplitude_of(*pdg_ids)
    table = [tuple(row) for row in amplitude.helicities(0).tolist()]
    assert len(set(table)) == len(table)
    got = amplitude.helicity_values(momenta, alpha_s_of(momenta), 0)
    for point, values in zip(momenta.numpy().astype(complex), got.tolist(), strict=True):
        total = sum(values)
        for helicities in product((-1, 1), repeat=len(pdg_ids)):
            expected = squared_by_diagrams(pdg_ids, point, helicities)
            value = values[table.index(helicities)] if helicities in table else 0.0
            assert abs(value - expected) < 1e-10 * expected + 1e-13 * total


def test_the_oracle_is_gauge_invariant() -> None:
    pdg_ids, momenta, _ = reference("uux_epemg")
    point = boost_and_rotate(momenta[:1], seed=7)[0].numpy().astype(complex)
    helicities = (1, -1, -1, 1, 1)
    plain = squared_by_diagrams(pdg_ids, point, helicities)
    assert squared_by_diagrams(pdg_ids, point, helicities, gauge=0.3) == pytest.approx(plain, 1e-9)


# --- the parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TO_TWO + TO_THREE)
def test_single_helicities_are_those_of_the_table(name: str) -> None:
    pdg_ids, momenta, _ = reference(name)
    amplitude = amplitude_of(*pdg_ids)
    assert isinstance(amplitude, OneHelicity)
    check_single_helicities(amplitude, momenta, 0)


@pytest.mark.parametrize("name", TO_TWO + TO_THREE)
def test_the_helicities_sum_to_the_value(name: str) -> None:
    pdg_ids, momenta, _ = reference(name)
    amplitude, alpha_s = amplitude_of(*pdg_ids), alpha_s_of(momenta)
    parts = amplitude.helicity_values(momenta, alpha_s, 0)
    assert parts.shape == (len(momenta), len(amplitude.helicities(0)))
    total = amplitude(momenta, alpha_s, 0).value
    torch.testing.assert_close(parts.sum(dim=1), total, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("pdg_ids", "flow"),
    [
        # As in an event file of MadGraph5_aMC@NLO for p p > e+ e- j.
        ((2, 21, -11, 11, 2), [(502, 0), (501, 502), (0, 0), (0, 0), (501, 0)]),
        ((21, 2, -11, 11, 2), [(501, 502), (502, 0), (0, 0), (0, 0), (501, 0)]),
        ((2, -2, -11, 11, 21), [(502, 0), (0, 501), (0, 0), (0, 0), (502, 501)]),
        ((21, -2, -11, 11, -2), [(501, 502), (0, 501), (0, 0), (0, 0), (0, 502)]),
        ((-2, 2, -11, 11, 21), [(0, 501), (502, 0), (0, 0), (0, 0), (502, 501)]),
        ((-2, 21, -11, 11, -2), [(0, 501), (501, 502), (0, 0), (0, 0), (0, 502)]),
        # The same crossed, and a quark pair without a gluon.
        ((-11, 11, 2, -2, 21), [(0, 0), (0, 0), (501, 0), (0, 502), (502, 501)]),
        ((2, -2, -11, 11), [(501, 0), (0, 501), (0, 0), (0, 0)]),
        ((-11, 11, 2, -2), [(0, 0), (0, 0), (501, 0), (0, 501)]),
        ((-11, 11, -13, 13), [(0, 0)] * 4),
    ],
    ids=str,
)
def test_the_colour_flow_is_that_of_the_les_houches_accord(
    pdg_ids: tuple[int, ...], flow: list[tuple[int, int]]
) -> None:
    got = amplitude_of(*pdg_ids).colour_flows(0)
    assert torch.equal(got, torch.tensor([flow]))


@pytest.mark.parametrize(("name", "ratio"), [("uux_epem", 1.0), ("gu_epemu", 9 / 8)])
def test_the_colour_flow_has_the_leading_colour_value_of_the_given_helicity(
    name: str, ratio: float
) -> None:
    pdg_ids, momenta, _ = reference(name)
    amplitude, alpha_s = amplitude_of(*pdg_ids), alpha_s_of(momenta)
    full = amplitude.helicity_values(momenta, alpha_s, 0)
    helicity = torch.arange(len(momenta)) % full.shape[1]
    got = amplitude.colour_flow_values(momenta, alpha_s, helicity, 0)
    expected = ratio * full[torch.arange(len(momenta)), helicity][:, None]
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("name", "power"), [("uux_epem", 0), ("uux_epemg", 1)])
def test_the_value_has_the_power_of_alpha_s_of_the_number_of_gluons(name: str, power: int) -> None:
    pdg_ids, momenta, _ = reference(name)
    amplitude, alpha_s = amplitude_of(*pdg_ids), alpha_s_of(momenta)
    once, twice = (amplitude(momenta, factor * alpha_s, 0).value for factor in (1, 2))
    torch.testing.assert_close(twice, 2**power * once, rtol=1e-13, atol=0)


def test_legs_are_found_by_flavour_whatever_their_order() -> None:
    pdg_ids, momenta, expected = reference("uux_epemg")
    order = [0, 1, 4, 3, 2]
    amplitude = amplitude_of(*(pdg_ids[leg] for leg in order))
    got = amplitude(momenta[:, order], alpha_s_of(momenta), 0).value
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=0)


def test_it_computes_on_the_device_of_its_input() -> None:
    pdg_ids, momenta, _ = reference("uux_epemg")
    # The device `meta` has no values, but refuses to be mixed with another one.
    momenta, alpha_s = momenta.to("meta"), alpha_s_of(momenta).to("meta")
    amplitude = amplitude_of(*pdg_ids)
    assert amplitude(momenta, alpha_s, 0).value.is_meta
    assert amplitude.helicity_values(momenta, alpha_s, 0).is_meta


def test_each_group_has_its_own_amplitude() -> None:
    (up, momenta, up_value), (down, _, down_value) = reference("uux_epem"), reference("ddx_epem")
    groups = tuple(SubprocessGroup(name=str(i), pdg_ids=(i,)) for i in (up, down))
    request = AmplitudeRequest(groups=groups, model=StandardModel(), cache_folder=Path())
    amplitude = provide(request, SilentProgress())
    for group, expected in enumerate((up_value, down_value)):
        got = amplitude(momenta, alpha_s_of(momenta), group).value
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize(
    ("name", "pdg_ids"),
    [
        ("e+ e- > e+ e-", (-11, 11, -11, 11)),
        ("e+ e- > ta+ ta-", (-11, 11, -15, 15)),
        ("e+ e- > ve ve~", (-11, 11, 12, -12)),
        ("e+ e- > mu+ mu- a", (-11, 11, -13, 13, 22)),
        ("b b~ > e+ e-", (5, -5, -11, 11)),
        ("u d~ > e+ ve", (2, -1, -11, 12)),
        ("u u~ > d d~", (2, -2, 1, -1)),
        ("g g > u u~", (21, 21, 2, -2)),
        ("g g > t t~ g", (21, 21, 6, -6, 21)),
        ("u u~ > e+ e- g g", (2, -2, -11, 11, 21, 21)),
        ("u u > e+ e- g", (2, 2, -11, 11, 21)),
        ("u u~ > e+ mu- g", (2, -2, -11, 13, 21)),
    ],
)
def test_another_process_is_refused_with_what_is_served(
    name: str, pdg_ids: tuple[int, ...]
) -> None:
    with pytest.raises(UnsupportedProcess) as error:
        amplitude_of(*pdg_ids, name=name)
    assert str(error.value).startswith(f"closed_form has no {name}: it serves l+ l- > l'+ l'-")
