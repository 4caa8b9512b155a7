from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.amplitudes.closed_form import provide
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.core import SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.physics.kinematics import minkowski_product
from mlgen.physics.model import StandardModel
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates import features as features_module
from mlgen.surrogates import resonances as resonances_module
from mlgen.surrogates.ansatz import PoleAnsatz, ansatz_powers
from mlgen.surrogates.features import PointFeatures
from mlgen.surrogates.group_surrogate import train_group
from mlgen.surrogates.invariants import pair_products
from mlgen.surrogates.resonances import Line, decay_lines
from mlgen.surrogates.sample import AmplitudeSample
from tests.laws import boost_and_rotate
from tests.surrogates.toys import EEG, GGG, MODEL, ZGG, flat_points


def group(name: str, *pdg_ids: int, qcd_order: int = 0, qed_order: int = 0) -> SubprocessGroup:
    return SubprocessGroup(name=name, pdg_ids=(pdg_ids,), qcd_order=qcd_order, qed_order=qed_order)


EE = group("u u~ > e+ e-", 2, -2, -11, 11, qed_order=2)
EVG = group("u d~ > e+ ve g", 2, -1, -11, 12, 21, qcd_order=1, qed_order=2)
FOUR_LEPTONS = group("u u~ > e+ e- e+ e-", 2, -2, -11, 11, -11, 11, qed_order=4)
TTG = group("g g > t t~ g", 21, 21, 6, -6, 21, qcd_order=3)
WW = group("u u~ > w+ w-", 2, -2, 24, -24, qed_order=2)

PT_MIN_GEV = 10.0
Z_MASS, Z_WIDTH = MODEL.mass_gev(23), MODEL.width_gev(23)


def closed_form_points(
    of: SubprocessGroup, n: int, seed: int, beam_gev: float
) -> tuple[Tensor, Tensor]:
    """Momenta (n, n_ext, 4) of flat phase space, and |M|² (n,) with alpha_s = 1."""
    request = AmplitudeRequest(groups=(of,), model=MODEL, cache_folder=Path())
    momenta = flat_points(of, n, seed, beam_gev, PT_MIN_GEV)
    one = torch.ones(n, dtype=torch.float64)
    return momenta, provide(request, SilentProgress())(momenta, one, 0).value


def log_poles(of: SubprocessGroup, momenta: Tensor) -> Tensor:
    """ln of the ansatz without resonances, of massless legs."""
    products = pair_products(momenta.permute(2, 1, 0), (0.0,) * of.n_ext)
    log_ansatz: Tensor = PoleAnsatz(ansatz_powers(of, MODEL))(products.log())
    return log_ansatz


def test_lepton_pairs_come_from_a_photon_or_a_z() -> None:
    photon, z = Line((2, 3), 0.0, 0.0), Line((2, 3), Z_MASS, Z_WIDTH)
    assert decay_lines(EEG, MODEL) == [(photon,), (z,)]
    w = Line((2, 3), MODEL.mass_gev(24), MODEL.width_gev(24))
    assert decay_lines(EVG, MODEL) == [(w,)]


def test_resonances_may_be_nested_or_beside_each_other() -> None:
    diagrams = [{line.legs for line in term} for term in decay_lines(FOUR_LEPTONS, MODEL)]
    for legs in ({(2, 3), (4, 5)}, {(2, 5), (3, 4)}, {(3, 4), (2, 3, 4, 5)}):
        assert legs in diagrams


def test_couplings_that_vanish_make_no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = group("u u~ > e+ e- b b~", 2, -2, -11, 11, 5, -5, qed_order=4)
    higgs = Line((4, 5), MODEL.mass_gev(25), MODEL.width_gev(25))
    assert any(higgs in term for term in decay_lines(pair, MODEL))
    kept = tuple(v for v in MODEL.vertices() if not {5, 25} <= set(v.particles))
    monkeypatch.setattr(StandardModel, "vertices", lambda model: kept)
    assert not any(higgs in term for term in decay_lines(pair, MODEL))


def test_with_very_many_diagrams_peaks_stay_features_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resonances_module, "MAX_TERMS", 1)
    momenta = flat_points(EEG, 100, 1, 75.0, PT_MIN_GEV)
    seen, log_ansatz = PointFeatures(EEG, MODEL)(momenta)
    torch.testing.assert_close(log_ansatz, log_poles(EEG, momenta))
    monkeypatch.undo()
    assert torch.equal(PointFeatures(EEG, MODEL)(momenta)[0], seen)


@pytest.mark.parametrize("of", [ZGG, GGG, TTG, WW])
def test_where_nothing_can_be_on_its_shell_features_stay_as_they_are(of: SubprocessGroup) -> None:
    assert decay_lines(of, MODEL) == []
    assert PointFeatures(of, MODEL).resonances is None


def test_a_peak_is_a_height_and_a_phase() -> None:
    momenta = flat_points(EEG, 500, 1, 75.0, PT_MIN_GEV)
    seen, log_ansatz = PointFeatures(EEG, MODEL)(momenta)
    pair = momenta[:, 2] + momenta[:, 3]
    s, s_hat = minkowski_product(pair, pair), 150.0**2
    propagator = 1 / (s - complex(Z_MASS**2, -Z_MASS * Z_WIDTH))
    height = -2 * (propagator.abs() * Z_MASS**2).log()
    torch.testing.assert_close(seen[:, -2], height.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen[:, -1], propagator.angle().cos().float(), rtol=1e-5, atol=1e-5)
    expected = (s_hat / s + s_hat * s * propagator.abs().square()).log()
    found = log_ansatz - log_poles(EEG, momenta)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_ansatz_takes_the_peak_away() -> None:
    seen = PointFeatures(EE, MODEL)
    ratios = []
    for energy_gev in torch.linspace(70, 110, 41).tolist():
        momenta, value = closed_form_points(EE, 200, 1, energy_gev / 2)
        log_value = value.log()
        ratios.append(
            torch.stack([log_value - seen(momenta)[1], log_value - log_poles(EE, momenta)])
        )
    # Averaged over angles, a function of the energy.
    means = torch.stack(ratios).mean(2)
    flat, peaked = (means.amax(0) - means.amin(0)).tolist()
    assert flat < 0.7
    assert peaked > 4, "the control"


@pytest.mark.parametrize("order", [[0, 1, 4, 3, 2, 5], [0, 1, 2, 5, 4, 3], [0, 1, 4, 5, 2, 3]])
def test_resonances_do_not_depend_on_the_order_of_identical_legs(order: list[int]) -> None:
    momenta = flat_points(FOUR_LEPTONS, 500, 2, 150.0, PT_MIN_GEV)
    seen = PointFeatures(FOUR_LEPTONS, MODEL)
    assert seen.resonances is not None
    assert seen.resonances.n_resonances > 4
    for moved in (momenta[:, order], boost_and_rotate(momenta, seed=3)):
        for here, there in zip(seen(momenta), seen(moved), strict=True):
            torch.testing.assert_close(there, here, rtol=0, atol=1e-5)
    # The sum over diagrams is symmetric by itself, so that it is continuous where the order changes.
    plain = [_log_propagators(seen, legs) for legs in (momenta, momenta[:, order])]
    torch.testing.assert_close(plain[1], plain[0], rtol=0, atol=1e-9)
    other = _log_propagators(seen, momenta[:, [0, 1, 3, 2, 4, 5]])
    assert float((other - plain[0]).abs().max()) > 0.1, "the control"


def _log_propagators(seen: PointFeatures, momenta: Tensor) -> Tensor:
    assert seen.resonances is not None
    products = [
        2 * minkowski_product(momenta[:, i], momenta[:, j])
        for i in range(6)
        for j in range(i + 1, 6)
    ]
    log_sum: Tensor = seen.resonances(torch.stack(products))[1]
    return log_sum


def median_error() -> float:
    """Of ln |M|² of u u~ > e+ e- g, learned across the Z peak."""
    settings = SurrogateCard(n_hidden=32, n_layers=2, n_steps=400, learning_rate=5e-3)
    momenta, value = closed_form_points(EEG, 6000, 1, 75.0)
    sample = AmplitudeSample(momenta=momenta, value=value)
    learned, _ = train_group(sample, EEG, MODEL, settings, 1, SilentProgress())
    momenta, value = closed_form_points(EEG, 5000, 2, 75.0)
    return float((learned.predict(momenta).log_value - value.log()).abs().median())


def test_a_z_peak_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    error = median_error()
    assert error < 0.02
    monkeypatch.setattr(features_module, "decay_lines", lambda group, model: [])
    assert median_error() > 5 * error, "the control"
