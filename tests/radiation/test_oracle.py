"""The analytic shower: that what it says of its own events is true."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.physics.kinematics import pt, transverse_mass
from mlgen.radiation.jets import JetEvents, check_jet_events, from_cylindrical
from mlgen.radiation.oracle import (
    ETA_SPREAD,
    HARD_LOG_MASS,
    HARD_LOG_PT,
    HARD_RAPIDITY,
    LOG_MASS,
    PHI_SPREAD,
    RECOIL_SPREAD,
    AnalyticShower,
)
from tests.laws import check_estimate, check_frequencies

SHOWER = AnalyticShower()
N = 100_000


@pytest.fixture(scope="module")
def events() -> JetEvents:
    return SHOWER.sample(N, torch.Generator().manual_seed(1))


def test_events_are_what_models_may_learn_from(events: JetEvents) -> None:
    check_jet_events(events, SHOWER.pt_min)
    assert len(events) == N
    assert events.n_max == int(events.n_jets.max())


def test_multiplicities_are_those_of_the_events(events: JetEvents) -> None:
    counts = torch.bincount(events.n_jets, minlength=9)[:7]
    check_frequencies(counts, SHOWER.multiplicities(6))


@pytest.mark.parametrize("other", [{"rate": 0.41}, {"growth": 0.7}, {"slope": 0.35}])
def test_other_showers_have_other_multiplicities(
    events: JetEvents, other: dict[str, float]
) -> None:
    counts = torch.bincount(events.n_jets, minlength=9)[:7]
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(counts, replace(SHOWER, **other).multiplicities(6))


def test_multiplicities_add_up_to_one() -> None:
    assert abs(float(SHOWER.multiplicities(40).sum()) - 1) < 1e-9


def test_multiplicities_are_neither_a_staircase_nor_poisson() -> None:
    p = SHOWER.multiplicities(6)
    ratios = p[1:] / p[:-1]
    for law in (ratios, ratios * torch.arange(1, 7)):
        assert float(law.max() / law.min()) > 1.5


def test_multiplicities_agree_with_the_closed_form_of_birth_processes() -> None:
    """P_n = prod c_k sum_j exp(-c_j x) / prod_(k != j) (c_k - c_j), averaged by another quadrature."""
    n_max = 5
    z, w = leggauss(200)
    z, w = 9 * z, 9 * w * np.exp(-0.5 * (9 * z) ** 2) / math.sqrt(2 * math.pi)
    log_pt = HARD_LOG_PT[0] + HARD_LOG_PT[1] * z
    log_m = HARD_LOG_MASS[0] + HARD_LOG_MASS[1] * z
    log_l = np.log(np.hypot(np.exp(log_pt)[:, None], np.exp(log_m)) / SHOWER.pt_min)
    x = SHOWER.rate * (log_l + 0.5 * SHOWER.slope * log_l**2)
    c = [1 + SHOWER.growth * i / (i + 1) for i in range(n_max + 1)]
    for n in range(n_max + 1):
        value = np.zeros_like(x)
        for j in range(n + 1):
            value += np.exp(-c[j] * x) / math.prod(c[k] - c[j] for k in range(n + 1) if k != j)
        expected = float(w @ (math.prod(c[:n]) * value) @ w)
        assert abs(float(SHOWER.multiplicities(n_max)[n]) - expected) < 1e-8


def test_without_growth_emission_is_poisson(events: JetEvents) -> None:
    flat = replace(SHOWER, growth=0.0)
    hard = events.hard[:100]
    log_l = (transverse_mass(hard) / flat.pt_min).log()
    mean = flat.rate * (log_l + 0.5 * flat.slope * log_l.square())
    counts = torch.arange(5)
    expected = torch.distributions.Poisson(mean[:, None]).log_prob(counts).exp()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.testing.assert_close(flat.multiplicities_of(hard, 4), expected)


def test_as_many_events_split_again_as_splitting_probabilities_say(events: JetEvents) -> None:
    split = SHOWER.split_probability(events)
    for count in range(4):
        there = events.n_jets >= count
        p = split[there, count]
        error = float((p * (1 - p)).sum().sqrt())
        again = int((events.n_jets > count).sum())
        check_estimate(again, error, float(p.sum()), max_relative_error=0.02)


def test_nothing_splits_after_the_last_jet(events: JetEvents) -> None:
    split = SHOWER.split_probability(events)
    exists = torch.arange(1 + events.n_max) <= events.n_jets[:, None]
    assert not bool(split[~exists].any())
    assert bool(((split[exists] > 0) & (split[exists] < 1)).all())


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_density_of_a_jet_given_those_before_is_normalised(
    events: JetEvents, position: int
) -> None:
    chosen = events.select(events.n_jets > position).select(slice(0, 1))
    before = pt(chosen.jets[0, position - 1]) if position else transverse_mass(chosen.hard[0])
    axes = [
        _nodes(math.log(SHOWER.pt_min), math.log(float(before)), 16),
        _nodes(-math.pi, math.pi, 36),
        _nodes(-9.0, 9.0, 30),
        _nodes(LOG_MASS[0] - 6 * LOG_MASS[1], LOG_MASS[0] + 6 * LOG_MASS[1], 20),
    ]
    log_pt, azimuth, eta, log_ratio = torch.meshgrid(*[x for x, _ in axes], indexing="ij")
    weight = torch.stack(torch.meshgrid(*[w for _, w in axes], indexing="ij")).prod(0).flatten()
    jet_pt = log_pt.exp()
    mass = jet_pt * log_ratio.exp()
    points = from_cylindrical(jet_pt, azimuth, eta, mass).reshape(-1, 4)
    n = len(points)
    jets = chosen.jets.expand(n, -1, -1)[:, : position + 1].clone()
    jets[:, position] = points
    n_jets = torch.full((n,), position + 1)
    many = JetEvents(hard=chosen.hard.expand(n, -1), jets=jets, n_jets=n_jets)
    density = SHOWER.log_kinematics(many)[:, position + 1].exp()
    # From ln pt and ln m to pt and m.
    total = float((density * weight * (jet_pt * mass).flatten()).sum())
    assert abs(total - 1) < 1e-6


def _nodes(low: float, high: float, n: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights."""
    x, w = leggauss(n)
    half = 0.5 * (high - low)
    return torch.from_numpy(low + half * (1 + x)), torch.from_numpy(half * w)


def test_the_likelihood_is_that_of_a_poisson_process_in_pt(events: JetEvents) -> None:
    """Of two showers whose angles and masses are alike, by a loop over events and quadrature."""
    some = events.select(events.n_jets >= 2).select(slice(0, 30))
    other = AnalyticShower(rate=0.6, slope=0.1, growth=0.3)
    found = SHOWER.log_likelihood(some) - other.log_likelihood(some)
    for i in range(len(some)):
        expected = _log_emissions(SHOWER, some, i) - _log_emissions(other, some, i)
        assert abs(float(found[i]) - expected) < 1e-9


def _log_emissions(shower: AnalyticShower, events: JetEvents, i: int) -> float:
    """ln of the rates at the jets of an event, less the integral of the rate over all pt in between."""
    scale = float(transverse_mass(events.hard[i]))
    ends = [scale, *pt(events.jets[i, : int(events.n_jets[i])]).tolist(), shower.pt_min]

    def rate(at: Tensor, k: int) -> Tensor:
        c = 1 + shower.growth * k / (k + 1)
        return c * shower.rate * (1 + shower.slope * (scale / at).log()) / at

    total = 0.0
    for k, (high, low) in enumerate(pairwise(ends)):
        at, w = _nodes(low, high, 40)
        total -= float((rate(at, k) * w).sum())
        if k < len(ends) - 2:
            total += float(rate(torch.tensor(low, dtype=torch.float64), k).log())
    return total


@pytest.mark.parametrize("other", [{"rate": 0.36}, {"growth": 0.6}, {"slope": 0.4}])
def test_the_likelihood_of_all_events_together_is_normalised(
    events: JetEvents, other: dict[str, float]
) -> None:
    """The mean of p'/p is 1 for any other normalised p'; both factors are this shower's own."""
    log_ratio = replace(SHOWER, **other).log_likelihood(events) - SHOWER.log_likelihood(events)
    ratio = log_ratio.exp()
    check_estimate(float(ratio.mean()), float(ratio.std()) / N**0.5, 1.0, max_relative_error=0.005)
    assert float(log_ratio.std()) > 0.02


def test_the_mean_log_likelihood_is_the_exact_entropy(events: JetEvents) -> None:
    found = SHOWER.log_likelihood(events)
    check_estimate(float(found.mean()), float(found.std()) / N**0.5, _mean_log_likelihood(), 0.002)


def _mean_log_likelihood() -> float:
    """By quadrature over the hard object, and over L for each jet: jet k comes at P_(k-1)(L) c_(k-1) lambda(L).

    Each integral of a rate over what it is integrated along has the mean number of jets as its mean.
    """

    def normal(std: float) -> float:
        return -0.5 - math.log(std * math.sqrt(2 * math.pi))

    def wrapped(std: float) -> float:
        x, w = _nodes(-math.pi, math.pi, 200)
        windings = 2 * math.pi * torch.arange(-5, 6, dtype=torch.float64)
        p = torch.exp(-0.5 * ((x[:, None] + windings) / std) ** 2).sum(1)
        p = p / (p * w).sum()
        return float((p * p.log() * w).sum())

    hard = sum(normal(std) for _, std in (HARD_LOG_PT, HARD_RAPIDITY, HARD_LOG_MASS))
    hard -= HARD_LOG_PT[0] + HARD_LOG_MASS[0]
    z, w = np.polynomial.hermite_e.hermegauss(24)
    total = 0.0
    for z1, w1 in zip(z, w / w.sum(), strict=True):
        # The spread of the mass moves m_T by 2 % at most, and the mean in its second order only.
        scale = math.hypot(math.exp(HARD_LOG_PT[0] + HARD_LOG_PT[1] * z1), math.exp(HARD_LOG_MASS[0]))  # fmt: skip
        log_l, step = _nodes(0.0, math.log(scale / SHOWER.pt_min), 30)
        passed = SHOWER.rate * (log_l + 0.5 * SHOWER.slope * log_l**2)
        at_rate = SHOWER.rate * (1 + SHOWER.slope * log_l)
        log_pt = math.log(scale) - log_l
        c = 1 + SHOWER.growth * torch.arange(14) / (torch.arange(14) + 1.0).double()
        births = torch.matrix_exp(passed[:, None, None] * (torch.diag(-c) + torch.diag(c[:-1], 1)))[
            :, 0
        ]
        for k in range(1, 14):
            density = births[:, k - 1] * c[k - 1] * at_rate * step
            value = (c[k - 1] * at_rate).log() - log_pt - 1.0
            value = value + wrapped(RECOIL_SPREAD if k == 1 else PHI_SPREAD) + normal(ETA_SPREAD)
            value = value + normal(LOG_MASS[1]) - LOG_MASS[0] - log_pt
            total += w1 * float((density * value).sum())
    return hard + total


def test_what_cannot_be_has_no_density(events: JetEvents) -> None:
    one = events.select(events.n_jets == 1).padded(1).select(slice(0, 3))
    assert bool(SHOWER.log_likelihood(one).isfinite().all())
    momenta = from_cylindrical(*torch.tensor([[5000.0, 0, 0, 500], [19.0, 0, 0, 2]]).double().T)
    for momentum in momenta:
        impossible = replace(one, jets=momentum.expand(3, 1, 4))
        assert bool((SHOWER.log_likelihood(impossible) == -math.inf).all())


def test_a_seed_gives_the_same_events() -> None:
    first, again, other = (
        SHOWER.sample(50, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first.jets, again.jets)
    assert not torch.equal(first.hard, other.hard)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pt_min": 90.0}, r"pt_min = 90\.0: expected above 0, at most 60 GeV"),
        ({"rate": 0.0}, r"rate = 0\.0: expected at least 1e-06"),
        ({"growth": math.nan}, r"growth = nan: expected at least -0\.9"),
    ],
)
def test_impossible_showers_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(MlgenError, match=message):
        AnalyticShower(**wrong)
