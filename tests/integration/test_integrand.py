from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.amplitudes.closed_form import provide
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.core import (
    GEV2_PB,
    Amplitude,
    AmplitudeValue,
    PhaseSpacePoints,
    SubprocessGroup,
    random_stream,
)
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import NonFiniteWeight
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.physics.model import StandardModel
from tests.integration.toys import process

ENERGY_GEV = 6500.0
ALPHA_S = 0.130


def random_r(integrand: ProcessIntegrand, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uniform r and every channel in turn."""
    rng = random_stream(seed, "integrand", 0)
    r = torch.rand(n, integrand.n_dim + integrand.n_flat, generator=rng, dtype=torch.float64)
    return r, torch.arange(n) % integrand.n_channels


class Counting:
    """An amplitude that remembers the momenta it was asked for."""

    def __init__(self, amplitude: Amplitude) -> None:
        self.amplitude = amplitude
        self.asked: list[Tensor] = []

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        self.asked.append(momenta)
        return self.amplitude(momenta, alpha_s, group)


class BrokenAt:
    """An amplitude with one value that is not finite: that of its first point of highest energy."""

    def __init__(self, amplitude: Amplitude, value: float) -> None:
        self.amplitude, self.value = amplitude, value

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        good = self.amplitude(momenta, alpha_s, group)
        value = good.value.clone()
        if len(value):
            value[momenta[:, 0, 0].argmax()] = self.value
        return AmplitudeValue(value=value, std=good.std)


# --- an oracle: one point, one flavour, one beam at a time -----------------------------------


def squared(pdg_ids: tuple[int, ...], momenta: Tensor) -> float:
    """|M|² of one flavour assignment, as a process of its own."""
    group = SubprocessGroup(name="one", pdg_ids=(pdg_ids,))
    request = AmplitudeRequest(groups=(group,), model=StandardModel(), cache_folder=Path())
    alpha_s = torch.tensor([ALPHA_S], dtype=torch.float64)
    return float(provide(request, SilentProgress())(momenta[None], alpha_s, 0).value)


def xf(pdg_id: int, x: float) -> float:
    density = process("pp_to_eej").integrand.density
    assert density is not None
    q2 = torch.tensor([91.188**2], dtype=torch.float64)
    return float(density.xfx([pdg_id], torch.tensor([x], dtype=torch.float64), q2))


def passes_cuts(momenta: Tensor) -> bool:
    """The cuts of pp_to_eej, leg by leg."""
    positron, electron, jet = momenta[2:].tolist()

    def pt(p: list[float]) -> float:
        return math.hypot(p[1], p[2])

    def eta(p: list[float]) -> float:
        return math.asinh(p[3] / pt(p))

    def delta_r(p: list[float], q: list[float]) -> float:
        delta_phi = abs(math.atan2(p[2], p[1]) - math.atan2(q[2], q[1]))
        return math.hypot(eta(p) - eta(q), min(delta_phi, 2 * math.pi - delta_phi))

    pair = [a + b for a, b in zip(electron, positron, strict=True)]
    mass = math.sqrt(pair[0] ** 2 - pair[1] ** 2 - pair[2] ** 2 - pair[3] ** 2)
    return (
        pt(jet) >= 20
        and abs(eta(jet)) <= 5
        and all(pt(lepton) >= 10 and abs(eta(lepton)) <= 2.5 for lepton in (electron, positron))
        and all(delta_r(jet, lepton) >= 0.4 for lepton in (electron, positron))
        and mass >= 50
    )


def expected_weight(points: PhaseSpacePoints, i: int, group: SubprocessGroup) -> float:
    momenta = points.momenta[i]
    if not passes_cuts(momenta):
        return 0.0
    total = momenta[2:].sum(0).tolist()
    x_plus = (total[0] + total[3]) / (2 * ENERGY_GEV)
    x_minus = (total[0] - total[3]) / (2 * ENERGY_GEV)
    s_hat = 4 * ENERGY_GEV**2 * x_plus * x_minus
    mirrored = float(momenta[0, 3]) < 0
    sigma = 0.0
    for ids in group.pdg_ids:
        along_z, against_z = (ids[1], ids[0]) if mirrored else (ids[0], ids[1])
        luminosity = xf(along_z, x_plus) / x_plus * xf(against_z, x_minus) / x_minus
        sigma += luminosity * squared(ids, momenta) / (2 * s_hat)
    return GEV2_PB * sigma * math.exp(float(points.log_jac[i]))


def test_weights_are_those_of_a_loop_over_points_and_flavours() -> None:
    integrand = process("pp_to_eej").integrand
    r, channel = random_r(integrand, 240, seed=1)
    evaluation = integrand(r, channel)
    expected = []
    for i in range(len(r)):
        group = integrand.groups[integrand.phase_space.channels[int(channel[i])].group]
        expected.append(expected_weight(evaluation.points, i, group))
    want = torch.tensor(expected, dtype=torch.float64)
    # Both orientations, points inside and outside, in each of the six channels.
    inside = want > 0
    mirrored = evaluation.points.momenta[:, 0, 3] < 0
    for c in range(6):
        for side in (mirrored, ~mirrored):
            assert bool((inside & side & (channel == c)).any())
    assert int((~inside).sum()) > 5
    torch.testing.assert_close(evaluation.value, want, rtol=1e-9, atol=0)


def test_flavours_that_share_a_group_share_their_matrix_element() -> None:
    integrand = process("pp_to_eej").integrand
    r, channel = random_r(integrand, 12, seed=2)
    points = integrand.phase_space.forward(r, channel)
    for i in range(len(points)):
        group = integrand.groups[integrand.phase_space.channels[int(channel[i])].group]
        values = [squared(ids, points.momenta[i]) for ids in group.pdg_ids]
        assert len(values) > 1
        assert values == pytest.approx([values[0]] * len(values), rel=1e-12)


def test_the_parts_of_the_flavours_add_up_to_the_weight() -> None:
    integrand = process("pp_to_eej").integrand
    r, channel = random_r(integrand, 600, seed=3)
    evaluation = integrand(r, channel)
    ratios = []
    for index, at in (
        (c.group, channel == i) for i, c in enumerate(integrand.phase_space.channels)
    ):
        mine = evaluation.points.select(at & (evaluation.value != 0))
        parts = integrand.flavour_weights(mine, index)
        alpha_s = torch.full((len(mine),), ALPHA_S, dtype=torch.float64)
        squared_ = integrand.amplitude(mine.momenta, alpha_s, index).value
        s_hat = 4 * ENERGY_GEV**2 * mine.x.prod(1)
        whole = GEV2_PB * parts.sum(1) * squared_ * mine.log_jac.exp() / (2 * s_hat)
        ratios.append(whole / evaluation.value[at & (evaluation.value != 0)])
    torch.testing.assert_close(torch.cat(ratios), torch.ones(len(torch.cat(ratios))).double())


def test_a_point_outside_the_cuts_weighs_nothing_and_costs_no_matrix_element() -> None:
    integrand = process("pp_to_eej").integrand
    counting = Counting(integrand.amplitude)
    r, channel = random_r(integrand, 3000, seed=4)
    points = integrand.phase_space.forward(r, channel)
    evaluation = integrand.weight(points, counting)
    asked = torch.cat(counting.asked)
    n_inside = int((evaluation.value != 0).sum())
    assert 0 < n_inside < 3000
    assert len(asked) == n_inside == evaluation.n_calls
    assert all(passes_cuts(momenta) for momenta in asked)
    # One call for each group, however many channels and points there are.
    assert len(counting.asked) == len(integrand.groups)


@pytest.mark.parametrize("name", ["ee_to_mumu", "pp_to_eej"])
@pytest.mark.parametrize("energy", [math.nan, 100.0])
def test_a_point_that_does_not_exist_weighs_nothing(name: str, energy: float) -> None:
    integrand = process(name).integrand
    r, channel = random_r(integrand, 600, seed=5)
    points = integrand.phase_space.forward(r, channel)
    before = integrand.weight(points, integrand.amplitude)
    first = int(before.value.nonzero()[0])
    log_jac, momenta = points.log_jac.clone(), points.momenta.clone()
    log_jac[first], momenta[first, 2:, 0] = -math.inf, energy
    counting = Counting(integrand.amplitude)
    after = integrand.weight(replace(points, log_jac=log_jac, momenta=momenta), counting)
    assert float(after.value[first]) == 0
    assert after.n_calls == before.n_calls - 1 == sum(map(len, counting.asked))
    assert int((after.value != before.value).sum()) == 1


def test_a_weight_does_not_depend_on_its_neighbours() -> None:
    integrand = process("pp_to_eej").integrand
    r, channel = random_r(integrand, 600, seed=6)
    whole = integrand(r, channel).value
    reverse = integrand(r.flip(0), channel.flip(0)).value.flip(0)
    torch.testing.assert_close(whole, reverse, rtol=1e-12, atol=0)
    one_by_one = torch.cat([integrand(r[i : i + 1], channel[i : i + 1]).value for i in range(50)])
    torch.testing.assert_close(whole[:50], one_by_one, rtol=1e-12, atol=0)


def test_no_points_have_no_weights() -> None:
    integrand = process("pp_to_eej").integrand
    r, channel = random_r(integrand, 0, seed=7)
    evaluation = integrand(r, channel)
    assert (len(evaluation.value), evaluation.n_calls) == (0, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_matrix_element_that_is_not_finite_stops_the_run_with_its_momenta(bad: float) -> None:
    integrand = process("ee_to_mumu").integrand
    r, channel = random_r(integrand, 100, seed=8)
    points = integrand.phase_space.forward(r, channel)
    with pytest.raises(
        NonFiniteWeight,
        match=r"weight = (nan|inf): expected a finite weight \(pb\); e\+ e- > mu\+ mu- at "
        r"\(E, px, py, pz\) in GeV = \[\[250\.0",
    ) as raised:
        integrand.weight(points, BrokenAt(integrand.amplitude, bad))
    culprit = points.momenta[int(points.momenta[:, 0, 0].argmax())]
    assert str(culprit.tolist()) in str(raised.value)


@pytest.mark.parametrize("what", ["momenta", "log_jac"])
def test_a_point_that_is_not_a_number_is_not_taken_for_one_outside_the_cuts(what: str) -> None:
    integrand = process("pp_to_eej").integrand
    r, channel = random_r(integrand, 100, seed=9)
    points = integrand.phase_space.forward(r, channel)
    broken = getattr(points, what).clone()
    broken[17] = math.nan
    with pytest.raises(NonFiniteWeight, match=r"weight = nan: expected a finite weight"):
        integrand.weight(replace(points, **{what: broken}), integrand.amplitude)
