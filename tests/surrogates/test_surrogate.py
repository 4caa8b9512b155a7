from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import MlgenError, PackError, TrainingFailed
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.accuracy import accuracy
from mlgen.surrogates.calibration import ONE_SIGMA
from mlgen.surrogates.domain import TargetRange
from mlgen.surrogates.group_surrogate import (
    LARGEST_STD,
    GroupSurrogate,
    recalibrate,
    train_group,
)
from mlgen.surrogates.sample import AmplitudeSample
from mlgen.surrogates.surrogate import Surrogate, restore_surrogate, train_surrogate
from tests.laws import (
    check_amplitude_is_lorentz_invariant,
    check_amplitude_is_symmetric,
    check_amplitude_scales,
)
from tests.surrogates.toys import EEG, GGG, MODEL, ZGG, ToyZgg, flat_points, toy_sample

SETTINGS = SurrogateCard(
    n_hidden=32, n_layers=2, n_steps=400, learning_rate=5e-3, calibration_share=0.2
)


@pytest.fixture(scope="module")
def learned() -> GroupSurrogate:
    return train_group(toy_sample(8000, seed=1), ZGG, MODEL, SETTINGS, 1, SilentProgress())[0]


@pytest.fixture
def surrogate(learned: GroupSurrogate) -> Surrogate:
    return Surrogate([ZGG], [learned], SETTINGS)


@pytest.fixture(scope="module")
def momenta() -> Tensor:
    return flat_points(ZGG, 2000, seed=7)


def test_an_amplitude_is_learned_with_its_uncertainty(learned: GroupSurrogate) -> None:
    found = accuracy(learned, toy_sample(20_000, seed=2))
    assert found["all"].delta_quantiles[0] < 0.01
    assert found["all"].coverage_68 == pytest.approx(ONE_SIGMA, abs=0.05)
    assert found["all"].covered_share > 0.98


def test_a_surrogate_obeys_the_laws_of_an_amplitude(surrogate: Surrogate, momenta: Tensor) -> None:
    check_amplitude_is_symmetric(surrogate, momenta, (3, 4), 0, rtol=1e-4)
    check_amplitude_scales(surrogate, momenta, 2, 0)
    check_amplitude_is_lorentz_invariant(surrogate, momenta, 0, rtol=1e-4)


def test_the_laws_are_not_empty(surrogate: Surrogate, momenta: Tensor) -> None:
    with pytest.raises(AssertionError):
        check_amplitude_is_symmetric(surrogate, momenta, (0, 1), 0, rtol=1e-4)
    with pytest.raises(AssertionError):
        check_amplitude_scales(surrogate, momenta, 3, 0)


def test_a_value_does_not_depend_on_its_batch(surrogate: Surrogate, momenta: Tensor) -> None:
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    every = surrogate(momenta, alpha_s, 0)
    few = surrogate(momenta[10:13], alpha_s[10:13], 0)
    torch.testing.assert_close(few.value, every.value[10:13], rtol=1e-5, atol=0)
    torch.testing.assert_close(few.std, every.std[10:13], rtol=1e-4, atol=0)
    assert every.value.dtype == every.std.dtype == torch.float64
    assert bool((every.std > 0).all())


def test_one_seed_makes_one_surrogate(momenta: Tensor) -> None:
    sample, settings = toy_sample(3000, seed=1), replace(SETTINGS, n_steps=30)
    one, two, other = (
        train_group(sample, ZGG, MODEL, settings, seed, SilentProgress())[0].predict(momenta)
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.log_value, two.log_value)
    assert torch.equal(one.std, two.std)
    assert not torch.equal(one.log_value, other.log_value)


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, n_steps=20),
        replace(SETTINGS, n_steps=20, method="repulsive"),
        replace(SETTINGS, n_steps=20, method="bayesian"),
        replace(SETTINGS, n_steps=20, method="bayesian", variational="all"),
    ],
)
def test_a_state_gives_the_same_surrogate_back(settings: SurrogateCard, momenta: Tensor) -> None:
    sample = toy_sample(3000, seed=1)
    surrogate, records = train_surrogate([sample], [ZGG], MODEL, settings, 1, SilentProgress())
    assert [record.n_steps for record in records] == [20]
    restored = restore_surrogate([ZGG], MODEL, settings, surrogate.state())
    alpha_s = torch.full((len(momenta),), 0.1, dtype=torch.float64)
    before, after = surrogate(momenta, alpha_s, 0), restored(momenta, alpha_s, 0)
    assert torch.equal(before.value, after.value)
    assert torch.equal(before.std, after.std)
    assert torch.equal(surrogate.covers(momenta, 0), restored.covers(momenta, 0))


def test_a_foreign_state_is_an_error(surrogate: Surrogate) -> None:
    state = surrogate.state()
    for groups, settings in (([GGG], SETTINGS), ([ZGG], replace(SETTINGS, n_hidden=16))):
        with pytest.raises(PackError, match="does not fit its settings"):
            restore_surrogate(groups, MODEL, settings, state)
    elsewhere = {"3" + name.removeprefix("0"): tensor for name, tensor in state.items()}
    with pytest.raises(PackError, match=r"groups \['3'\]: expected some of 1, from 0"):
        restore_surrogate([ZGG], MODEL, SETTINGS, elsewhere)


def test_a_group_without_a_state_has_learned_nothing(surrogate: Surrogate) -> None:
    first, second = restore_surrogate([ZGG, ZGG], MODEL, SETTINGS, surrogate.state()).of_groups
    assert first is not None
    assert second is None


def test_unlike_points_are_recognised(surrogate: Surrogate, momenta: Tensor) -> None:
    assert float(surrogate.covers(momenta, 0).double().mean()) > 0.98
    for beam_gev in (200.0, 499.0, 5e4):
        elsewhere = flat_points(ZGG, 500, seed=8, beam_gev=beam_gev)
        assert not bool(surrogate.covers(elsewhere, 0).any())
        found = surrogate(elsewhere, torch.full((500,), 0.118, dtype=torch.float64), 0)
        assert bool(found.std.isposinf().all())
        assert bool((found.value.isfinite() & (found.value > 0)).all())
    here = surrogate(momenta, torch.full((2000,), 0.118, dtype=torch.float64), 0)
    assert torch.equal(here.std.isfinite(), surrogate.covers(momenta, 0))


@pytest.mark.parametrize("height", [-30.0, 30.0])
def test_a_value_unlike_those_of_the_sample_is_not_believed(
    height: float, learned: GroupSurrogate, momenta: Tensor
) -> None:
    astray = deepcopy(learned)
    with torch.no_grad():
        # The mean is the first output; its bias the last row.
        list(astray.method.parameters())[-1][0, -1, 0] += height
    before, after = learned.predict(momenta), astray.predict(momenta)
    assert float((after.log_value - before.log_value).abs().min()) > 10
    torch.testing.assert_close(after.std.median(), before.std.median(), rtol=1, atol=0)
    assert not bool(after.is_covered.any())
    astray.target_range = TargetRange()
    assert bool(astray.predict(momenta).is_covered.any()), "the control"


def test_large_deviations_are_not_believed(learned: GroupSurrogate, momenta: Tensor) -> None:
    noisy, sample = deepcopy(learned), toy_sample(4000, seed=4)
    rng = torch.Generator().manual_seed(1)
    factor = (3 * torch.randn(4000, generator=rng, dtype=torch.float64)).exp()
    recalibrate(noisy, AmplitudeSample(momenta=sample.momenta, value=factor * sample.value))
    found = noisy.predict(momenta)
    assert float(found.std.median()) > 2
    assert not bool(found.is_covered[found.std > LARGEST_STD].any())
    recalibrate(noisy, sample)
    assert float(noisy.predict(momenta).is_covered.double().mean()) > 0.98, "the control"


def test_recalibration_repairs_deviations_that_were_changed(momenta: Tensor) -> None:
    settings = replace(SETTINGS, n_steps=100)
    sample = toy_sample(6000, seed=1)
    learned, _ = train_group(sample, ZGG, MODEL, settings, 1, SilentProgress())
    with torch.no_grad():
        last = list(learned.method.parameters())[-1]
        # ln std is the second output; its bias the last row.
        last[0, -1, 1] -= 2
    test = toy_sample(20_000, seed=3)
    assert accuracy(learned, test)["all"].coverage_68 < 0.3, "the control"
    recalibrate(learned, toy_sample(4000, seed=4))
    assert accuracy(learned, test)["all"].coverage_68 == pytest.approx(ONE_SIGMA, abs=0.03)


def test_boosted_points_are_used_more_often() -> None:
    settings = replace(SETTINGS, n_steps=200, boost=3.0)
    _, record = train_group(toy_sample(3000, seed=1), ZGG, MODEL, settings, 1, SilentProgress())
    assert record.n_steps == 200
    assert record.validation_losses[-1] < record.validation_losses[0]


def test_a_training_ends_in_time() -> None:
    settings = replace(SETTINGS, n_steps=10**9, max_cpu_s=0.5)
    _, record = train_group(toy_sample(3000, seed=1), ZGG, MODEL, settings, 1, SilentProgress())
    assert record.n_steps < 10**6
    assert record.best_step <= record.n_steps


def test_parts_of_a_sample_are_disjoint_and_have_their_sizes() -> None:
    sample = toy_sample(1000, seed=1)
    parts = sample.split((0.1, 0.25), seed=3)
    assert [len(part) for part in parts] == [650, 100, 250]
    joined = torch.cat([part.value for part in parts])
    assert torch.equal(joined.sort().values, sample.value.sort().values)
    again = sample.split((0.1, 0.25), seed=3)
    assert torch.equal(again[0].value, parts[0].value)
    with pytest.raises(MlgenError, match="expected a sum below 1"):
        sample.split((0.5, 0.5), seed=1)


def test_samples_that_teach_nothing_are_errors() -> None:
    momenta = flat_points(ZGG, 10, seed=1)
    value = ToyZgg()(momenta, torch.ones(10, dtype=torch.float64), 0).value
    value[3] = torch.nan
    with pytest.raises(MlgenError, match=r"sample.value = nan: expected a finite positive"):
        AmplitudeSample(momenta=momenta, value=value)
    with pytest.raises(MlgenError, match=r"sample.momenta = shape \(10, 5, 4\): expected"):
        AmplitudeSample(momenta=momenta, value=value[:5])
    few = toy_sample(500, seed=1)
    with pytest.raises(TrainingFailed, match="500 points of d d~ > z g g: expected at least"):
        train_group(few, ZGG, MODEL, SETTINGS, 1, SilentProgress())


def test_points_without_a_value_are_left_out() -> None:
    momenta = flat_points(ZGG, 10, seed=1)
    value = torch.arange(10, dtype=torch.float64)
    alpha_s = torch.full((10,), 0.5, dtype=torch.float64)
    sample = AmplitudeSample.of(momenta, value, alpha_s, ZGG)
    assert len(sample) == 9
    torch.testing.assert_close(sample.value, 4 * value[1:])


@pytest.mark.filterwarnings("ignore")  # of the exporter's own, which change with its versions
@pytest.mark.parametrize("group", [ZGG, EEG])
def test_a_surrogate_becomes_an_onnx_model_for_any_number_of_points(
    group: SubprocessGroup, learned: GroupSurrogate, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    momenta = flat_points(group, 2000, seed=7)
    exported = learned if group == ZGG else GroupSurrogate(group, MODEL, SETTINGS)
    n = torch.export.Dim("n", min=2)
    program = torch.onnx.export(exported, (momenta[:20],), dynamo=True, dynamic_shapes=({0: n},))
    assert program is not None
    program.save(tmp_path / "surrogate.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "surrogate.onnx")
    found = session.run(None, {session.get_inputs()[0].name: momenta.numpy()})
    expected = exported.predict(momenta)
    torch.testing.assert_close(torch.from_numpy(found[0]), expected.log_value, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(found[1]), expected.systematic, rtol=1e-3, atol=0)
    assert torch.equal(torch.from_numpy(found[3]), expected.is_covered)
