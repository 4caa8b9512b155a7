from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mlgen.errors import CardError, TrainingFailed
from mlgen.radiation.auc import area_under_curve
from mlgen.radiation.classifier import ClassifierSettings, Judgement, judge
from mlgen.radiation.classifier_features import classifier_features
from mlgen.radiation.classifier_weights import ClassifierRecord
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.oracle import AnalyticShower
from mlgen.radiation.representation import Representation
from tests.laws import check_estimate, check_pulls
from tests.radiation.samples import PT_MIN, random_events

SHOWER = AnalyticShower()
OTHER = replace(SHOWER, slope=1.5, growth=0.2)
SMALL = ClassifierSettings(n_hidden=32, n_layers=2, n_steps=100, n_networks=2)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_jets(shower: AnalyticShower, n: int, seed: int, n_jets: int = 2) -> JetEvents:
    """Events of one multiplicity, out of n."""
    events = shower.sample(n, torch.Generator().manual_seed(seed))
    return events.select(events.n_jets == n_jets).padded(events.n_max)


TRUTH = with_jets(SHOWER, 24_000, seed=1)
REPRESENTATION = Representation.of(TRUTH, SHOWER.pt_min)


def features(events: JetEvents) -> Tensor:
    return classifier_features(events, REPRESENTATION, 2)


def log_ratio(events: JetEvents) -> Tensor:
    """ln of the exact density over that of the other shower, up to a constant."""
    return SHOWER.log_likelihood(events) - OTHER.log_likelihood(events)


@pytest.fixture(scope="module")
def other() -> JetEvents:
    return with_jets(OTHER, 24_000, seed=2)


@pytest.fixture(scope="module")
def told_apart(other: JetEvents) -> Judgement:
    return judge(features(TRUTH), features(other), SMALL, seed=1)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.5])
def test_the_auc_of_two_normal_densities_is_the_closed_form(shift: float) -> None:
    found = area_under_curve(normal(20_000, seed=1) + shift, normal(30_000, seed=2))
    expected = 0.5 * math.erfc(-shift / 2)
    check_estimate(found.value, found.error, expected, max_relative_error=0.01)


def test_weights_make_another_density_of_scores() -> None:
    """exp(s x - s²/2) makes N(s, 1) of N(0, 1)."""
    x = normal(40_000, seed=3)
    found = area_under_curve(normal(20_000, seed=4) + 1, x, background_weight=(0.5 * x - 0.125).exp())  # fmt: skip
    check_estimate(found.value, found.error, 0.5 * math.erfc(-0.5 / 2), max_relative_error=0.01)


def test_errors_of_an_auc_cover() -> None:
    pulls = []
    for seed in range(300):
        x = normal(300, seed=2 * seed)
        found = area_under_curve(
            normal(200, seed=2 * seed + 1) + 0.8, x, background_weight=(0.3 * x).exp()
        )
        pulls.append((found.value - 0.5 * math.erfc(-0.5 / 2)) / found.error)
    check_pulls(torch.tensor(pulls))


def test_ties_count_one_half() -> None:
    signal, background = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 0.0])
    # 6 pairs: two ties, four wins.
    assert area_under_curve(signal, background).value == pytest.approx(5 / 6)


def test_samples_of_one_density_are_not_told_apart() -> None:
    found = judge(features(TRUTH), features(with_jets(SHOWER, 24_000, seed=3)), SMALL, seed=1)
    check_estimate(found.auc.value, found.auc.error, 0.5, max_relative_error=0.02)
    record = ClassifierRecord.of(found, 2, False)
    assert abs(record.mean_weight - 1) < 0.05
    assert record.ess > 0.98
    assert record.tails[1].weight_above < 0.005


def test_a_sample_of_another_density_is_found_nearly_as_well_as_can_be(
    told_apart: Judgement, other: JetEvents
) -> None:
    """No score does better than the exact ratio of likelihoods."""
    exact = area_under_curve(log_ratio(TRUTH), log_ratio(other))
    found = told_apart.auc
    assert exact.value > 0.55
    assert found.value > 0.5 + 5 * found.error
    assert 0.7 < (found.value - 0.5) / (exact.value - 0.5) < 1.1


def test_weights_are_the_ratio_of_densities(told_apart: Judgement, other: JetEvents) -> None:
    w = told_apart.generated_log_weight.exp()
    assert abs(float(w.mean()) - 1) < 0.05
    # What w says of a set of events, by the number of true ones among them.
    truth, made = told_apart.truth_log_weight, told_apart.generated_log_weight
    ends = made.quantile(torch.tensor([0.0, 0.2, 0.8, 1.0], dtype=torch.float64)).tolist()
    for low, high in pairwise(ends):
        n_true = int(((truth > low) & (truth < high)).sum())
        chosen = (made > low) & (made < high)
        found = float(w[chosen].sum()) * len(truth) / len(made)
        error = math.hypot(n_true**0.5, float(w[chosen].square().sum()) ** 0.5)
        assert abs(found - n_true) < 5 * error
        assert error < 0.15 * n_true


def test_numbers_of_events_of_either_kind_do_not_matter(
    told_apart: Judgement, other: JetEvents
) -> None:
    few = TRUTH.select(slice(0, len(TRUTH) // 4))
    found = judge(features(few), features(other), SMALL, seed=1)
    error = math.hypot(found.auc.error, told_apart.auc.error)
    assert abs(found.auc.value - told_apart.auc.value) < 5 * error
    assert error < 0.02
    assert abs(float(found.generated_log_weight.exp().mean()) - 1) < 0.1


def test_weights_of_generated_events_are_heeded(other: JetEvents) -> None:
    """With the exact ratio as their weight, events are those of the truth."""
    weight = log_ratio(other).exp()
    found = judge(features(TRUTH), features(other), SMALL, seed=1, generated_weight=weight)
    check_estimate(found.auc.value, found.auc.error, 0.5, max_relative_error=0.03)
    assert float(found.generated_weight.mean()) == pytest.approx(1)


def test_a_seed_gives_the_same_judgement(other: JetEvents) -> None:
    quick = replace(SMALL, n_steps=5)
    one, again, another = (
        judge(features(TRUTH), features(other), quick, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(one.generated_log_weight, again.generated_log_weight)
    assert one.auc != another.auc


def test_no_more_events_are_used_than_asked_for(other: JetEvents) -> None:
    settings = replace(SMALL, n_steps=2, max_events=500)
    found = judge(features(TRUTH), features(other), settings, seed=1)
    assert len(found.truth_log_weight) == len(found.generated_log_weight) == 500


def test_tails_and_quantiles_are_those_of_the_weights() -> None:
    w = torch.tensor([0.1, 0.5, 1.0, 4.0], dtype=torch.float64)
    judgement = Judgement(
        auc=area_under_curve(w, w),
        truth_log_weight=w.log(),
        generated_log_weight=w.log(),
        generated_weight=torch.ones_like(w),
        best_steps=(1, 1),
    )
    record = ClassifierRecord.of(judgement, 3, False)
    tail = record.tails[1]
    assert tail.threshold == 2
    assert tail.weight_above == pytest.approx(4 / 5.6)
    assert tail.generated_below == pytest.approx(1 / 4)
    assert record.quantiles[0] == pytest.approx(0.1)
    assert record.quantiles[-1] == pytest.approx(4.0)
    assert record.ess == pytest.approx(5.6**2 / (4 * float(w.square().sum())))
    assert sum(record.counts) == pytest.approx(1)


@pytest.mark.parametrize("n_seen", [0, 1, 3, 6])
def test_features_are_finite_and_do_not_depend_on_the_azimuth(n_seen: int) -> None:
    events = random_events(200, seed=1)
    representation = Representation.of(events, PT_MIN)
    found = classifier_features(events, representation, n_seen)
    assert found.shape == (200, 5 * (1 + n_seen) + 3 * n_seen * (n_seen + 1) // 2 + 3)
    assert bool(found.isfinite().all())
    cos, sin = math.cos(1.0), math.sin(1.0)
    turn = torch.eye(4, dtype=torch.float64)
    turn[1:3, 1:3] = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    turned = replace(events, hard=events.hard @ turn.T, jets=events.jets @ turn.T)
    torch.testing.assert_close(classifier_features(turned, representation, n_seen), found)


def test_too_few_events_are_refused() -> None:
    with pytest.raises(
        TrainingFailed, match=r"true events = 100: expected at least 400 for a classifier"
    ):
        judge(torch.zeros(100, 3), torch.zeros(1000, 3), SMALL, seed=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_steps": 0}, r"classifier\.n_steps = 0: expected at least 1"),
        ({"n_networks": 1}, r"classifier\.n_networks = 1: expected at least 2"),
        ({"min_events": 3}, r"classifier\.min_events = 3: expected at least 20"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(CardError, match=message):
        replace(SMALL, **wrong)
