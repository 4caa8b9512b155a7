from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.errors import MlgenError
from mlgen.radiation.jets import JetEvents, from_cylindrical, from_rapidity
from mlgen.radiation.multiplicities import MIN_COUNT, multiplicities, scaling
from mlgen.radiation.observables import jet_observables
from mlgen.radiation.oracle import AnalyticShower
from mlgen.radiation.spectra import (
    ONE_SIGMA,
    Estimates,
    GeneratedEvents,
    agreement,
    shared_spread,
    shares,
    spectra,
    spread,
)
from tests.laws import check_estimate, check_pulls

SHOWER = AnalyticShower()
N = 60_000


def sample(shower: AnalyticShower, n: int, seed: int) -> JetEvents:
    return shower.sample(n, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def truth() -> JetEvents:
    return sample(SHOWER, N, seed=1)


@pytest.fixture(scope="module")
def same() -> GeneratedEvents:
    return GeneratedEvents.of(sample(SHOWER, N, seed=2))


def exact_ratios(n: int) -> tuple[Tensor, Tensor]:
    """The exact exclusive and inclusive ratios of the shower, n each."""
    p = SHOWER.multiplicities(40)
    at_least = p.flip(0).cumsum(0).flip(0)
    return p[1 : n + 1] / p[:n], at_least[1 : n + 1] / at_least[:n]


def test_ratios_of_multiplicities_are_the_exact_ones(
    truth: JetEvents, same: GeneratedEvents
) -> None:
    found = multiplicities(truth, same)
    assert len(found.exclusive.truth.value) >= 5
    for of, exact in zip((found.exclusive, found.inclusive), exact_ratios(5), strict=True):
        for estimates in (of.truth, of.generated):
            for k in range(5):
                check_estimate(estimates.value[k], estimates.error[k], float(exact[k]), 0.1)
    for k, p in enumerate(SHOWER.multiplicities(4)):
        check_estimate(found.share.truth.value[k], found.share.truth.error[k], float(p), 0.05)


def test_errors_of_ratios_and_shares_cover() -> None:
    """With weights that have nothing to do with the events, too."""
    pulls: list[tuple[float, ...]] = []
    exclusive, inclusive = exact_ratios(2)
    expected = [float(SHOWER.multiplicities(1)[1]), float(exclusive[1]), float(inclusive[1])]
    for seed in range(250):
        events = sample(SHOWER, 1500, seed)
        rng = torch.Generator().manual_seed(seed)
        weight = torch.rand(len(events), generator=rng, dtype=torch.float64)
        found = multiplicities(events, GeneratedEvents.of(events, weight))
        row = [
            (of.value[1] - exact) / of.error[1]
            for compared, exact in zip(
                (found.share, found.exclusive, found.inclusive), expected, strict=True
            )
            for of in (compared.truth, compared.generated)
        ]
        pulls.append(tuple(row))
    for column in torch.tensor(pulls).T:
        check_pulls(column)


def test_pulls_of_ratios_find_another_shower(truth: JetEvents, same: GeneratedEvents) -> None:
    alike = multiplicities(truth, same).inclusive.pulls
    assert max(map(abs, alike[:5])) < 4.5
    other = GeneratedEvents.of(sample(replace(SHOWER, growth=0.5), N, seed=3))
    assert max(map(abs, multiplicities(truth, other).inclusive.pulls)) > 6


def test_what_has_too_few_events_is_left_out(truth: JetEvents, same: GeneratedEvents) -> None:
    found = multiplicities(truth, same)
    n = len(found.share.truth.value)
    counts = torch.bincount(truth.n_jets)
    assert int(counts[n - 1]) >= MIN_COUNT
    assert n == len(counts) or min(counts[n], (same.events.n_jets == n).sum()) < MIN_COUNT
    assert len(found.exclusive.truth.value) == n - 1
    one = truth.select(truth.n_jets == 0)
    assert multiplicities(one, GeneratedEvents.of(one)).exclusive.truth.value == ()


def with_counts(n_jets: Tensor) -> JetEvents:
    """Events of which only the number of jets, 0 or 1, means anything."""
    n = len(n_jets)
    hard = torch.tensor([100.0, 10.0, 0.0, 0.0], dtype=torch.float64).expand(n, 4)
    jet = torch.tensor([40.0, 30.0, 0.0, 20.0], dtype=torch.float64)
    return JetEvents(hard=hard, jets=(n_jets[:, None] * jet)[:, None], n_jets=n_jets)


@pytest.mark.parametrize(("claimed", "covers"), [(1.0, True), (0.4, False)])
def test_an_ensemble_that_knows_how_far_it_may_be_off_covers(claimed: float, covers: bool) -> None:
    """A model's share of events with a jet is off by 0.05 at random; members scatter as it says."""
    pulls = []
    for seed in range(250):
        rng = torch.Generator().manual_seed(seed)
        noise = 0.05 * torch.randn(41, generator=rng, dtype=torch.float64)
        model = 0.4 + noise[0]
        each = model + claimed * noise[1:]
        true, made = torch.rand(2, 2000, generator=rng)
        has_jet = made < model
        weight = torch.where(has_jet[:, None], each / model, (1 - each) / (1 - model))
        generated = GeneratedEvents.of(with_counts(has_jet.long()), members=weight)
        found = multiplicities(with_counts((true < 0.4).long()), generated)
        pulls.append(found.share.pulls[0])
    if covers:
        check_pulls(torch.tensor(pulls))
    else:
        with pytest.raises(AssertionError, match="width"):
            check_pulls(torch.tensor(pulls))


@pytest.mark.parametrize("n_members", [2, 4, 10])
def test_the_error_of_a_mean_of_members_covers_however_few_they_are(n_members: int) -> None:
    """Members scatter around what their events say, and that around the truth, which is 0."""
    n = 100_000
    rng = torch.Generator().manual_seed(n_members)
    events_say = torch.randn(n, generator=rng)
    members = events_say + torch.randn(n_members, n, generator=rng)
    inside = (members.mean(0).abs() < spread(members)).double().mean()
    assert abs(float(inside) - ONE_SIGMA) < 0.006
    alone = (members.mean(0).abs() < members.std(0)).double().mean()
    assert float(alone) < ONE_SIGMA - 0.03


@pytest.mark.parametrize("unlike", [1.0, 2.0])
def test_bins_of_one_spectrum_know_their_errors_better_together(unlike: float) -> None:
    """Errors of bins are those of counts, times up to `unlike` or down to its inverse."""
    rng = torch.Generator().manual_seed(7)
    n_spectra, n_bins, n_members = 2000, 20, 4
    factor = torch.logspace(-1, 1, n_bins, base=unlike, dtype=torch.float64)
    shares = torch.logspace(-1, 1, n_bins, dtype=torch.float64)[
        torch.randperm(n_bins, generator=rng)
    ]
    shares = shares / shares.sum()
    error = 0.05 * factor * (shares / n_bins).sqrt()
    noise = torch.randn(n_spectra, 1 + n_members, n_bins, generator=rng, dtype=torch.float64)
    alone, together = [], []
    for events_say, *each in (shares + error * noise).unbind(0):
        members = torch.stack(each) + events_say - shares
        off = members.mean(0) - shares
        alone.append(off / spread(members))
        together.append(off / shared_spread(members))
    width = torch.cat(together).square().mean().sqrt()
    assert abs(float(width) - 1) < 0.1
    inside = (torch.cat(together).abs() < 1).double().mean()
    # Bins that are better than the others are said to be worse.
    assert -0.03 < float(inside) - ONE_SIGMA < 0.1
    # Student's t of three degrees of freedom has a root mean square of 1.73, its 68 % are within 1.20.
    assert float(torch.cat(alone).square().mean().sqrt()) > 1.35


def test_a_bin_without_any_event_has_no_error_and_members_alike_have_none() -> None:
    members = torch.tensor([[0.4, 0.6, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    found = shared_spread(members)
    assert float(found[2]) == 0
    assert bool((found[:2] > 0).all())
    assert not bool(shared_spread(members[:1].expand(3, -1)).any())
    assert not bool(shared_spread(torch.zeros(3, 2, dtype=torch.float64)).any())


def test_the_two_patterns_of_scaling_are_recognised() -> None:
    error = (0.01,) * 4
    staircase = scaling(Estimates(value=(0.3,) * 4, error=error))
    poisson = scaling(Estimates(value=(1.2, 0.6, 0.4, 0.3), error=error))
    assert staircase is not None
    assert poisson is not None
    assert staircase.staircase == pytest.approx(0.3)
    assert staircase.staircase_chi2 < 1e-9 < 100 < staircase.poisson_chi2
    assert poisson.poisson == pytest.approx(1.2)
    assert poisson.poisson_chi2 < 1e-9 < 100 < poisson.staircase_chi2
    assert scaling(Estimates(value=(0.3,), error=(0.1,))) is None


@pytest.mark.parametrize("n_jets", [0, 1, 3])
def test_spectra_of_one_shower_agree_and_their_errors_cover(
    truth: JetEvents, same: GeneratedEvents, n_jets: int
) -> None:
    found = list(spectra(truth, same, n_jets, and_more=False))
    assert len(found) == len(list(jet_observables(n_jets)))
    of = agreement(found, N, N)
    # Spectra of the same events move together: some times the error of independent bins.
    assert abs(of.pull_width - 1) < 5 * of.pull_width_error + 0.1
    assert of.pull_width_error < 0.15
    assert of.n_bins > 0.8 * sum(len(spectrum.truth.value) for spectrum in found)
    assert of.band_share == 0
    for spectrum in found:
        assert 0.99 < sum(spectrum.truth.value) <= 1 + 1e-9


def test_spectra_of_another_shower_do_not_agree(truth: JetEvents) -> None:
    other = GeneratedEvents.of(sample(replace(SHOWER, slope=1.5), N, seed=4))
    found = list(spectra(truth, other, 2, and_more=False))
    assert agreement(found, N, N).pull_width > 1.6
    by_name = {spectrum.observable: spectrum for spectrum in found}
    off = {
        name: math.sqrt(sum(p**2 for p in spectrum.pulls if math.isfinite(p)))
        for name, spectrum in by_name.items()
    }
    # The slope moves pt, and leaves directions alone.
    assert off["pt of jet 2"] > 2 * off["pseudorapidity of jet 1"]


def test_weights_make_the_spectra_of_another_shower_the_true_ones(truth: JetEvents) -> None:
    shower = replace(SHOWER, slope=1.0)
    events = sample(shower, N, seed=5)
    weight = (SHOWER.log_likelihood(events) - shower.log_likelihood(events)).exp()
    for made, agrees in (
        (GeneratedEvents.of(events, weight), True),
        (GeneratedEvents.of(events), False),
    ):
        of = agreement(list(spectra(truth, made, 1, and_more=True)), N, N)
        assert (abs(of.pull_width - 1) < 0.3) == agrees


def test_a_share_is_a_ratio_of_sums_of_weights() -> None:
    bins, weight = torch.tensor([0, 1, 1, 2]), torch.tensor([1.0, 2, 3, 2]).double()
    members = torch.stack([weight, weight * torch.tensor([3.0, 1, 1, 1])], dim=1)
    found = shares(bins, weight, members, 2)
    assert found.value == pytest.approx((1 / 8, 5 / 8))
    p = 5 / 8
    assert found.error[1] == pytest.approx(math.sqrt(13 * (1 - p) ** 2 + 5 * p**2) / 8)
    # Of two members, Student's t is Cauchy's.
    student = math.tan(0.5 * math.pi * math.erf(1 / math.sqrt(2)))
    scatter = (3 / 10 - 1 / 8) / math.sqrt(2)
    assert found.band[0] == pytest.approx(student * math.sqrt(1.5) * scatter)


def test_of_few_events_there_is_no_spectrum(truth: JetEvents, same: GeneratedEvents) -> None:
    few = truth.select(torch.arange(50))
    assert list(spectra(few, same, 0, and_more=False)) == []
    assert list(spectra(truth, GeneratedEvents.of(few), 0, and_more=True)) == []
    assert list(spectra(truth, same, 30, and_more=True)) == []


def test_observables_of_a_known_event() -> None:
    def row(*numbers: float) -> list[Tensor]:
        return [torch.tensor([x], dtype=torch.float64) for x in numbers]

    hard = from_rapidity(*row(50.0, 0.5, -0.3, 91.0))
    jets = [from_cylindrical(*row(40.0, 3.0, 1.0, 5.0)), from_cylindrical(*row(30.0, -3.0, 1.5, 4.0))]  # fmt: skip
    events = JetEvents(hard=hard, jets=torch.stack(jets, dim=1), n_jets=torch.tensor([2]))
    found = {of.name: float(of.of(events)) for of in jet_observables(2)}
    turn = 2 * math.pi - 6
    vectors = [(50, 0.5), (40, 3.0), (30, -3.0)]
    x, y = (sum(p * f(a) for p, a in vectors) for f in (math.cos, math.sin))
    for name, expected in {
        "pt of the hard object": 50,
        "rapidity of the hard object": -0.3,
        "pt of jet 2": 30,
        "pseudorapidity of jet 1": 1.0,
        "mass of jet 2": 4.0,
        "azimuth between jet 1 and the hard object": 2.5,
        "azimuth between jet 2 and the hard object": 2 * math.pi - 3.5,
        "delta_r of jets 1 and 2": math.hypot(0.5, turn),
        "sum of pt of jets": 70,
        "pt of all together": math.hypot(x, y),
    }.items():
        assert found[name] == pytest.approx(expected), name


def test_every_observable_has_a_name_of_its_own() -> None:
    names = [of.name for of in jet_observables(6)]
    assert len(names) == len(set(names))


def test_impossible_weights_are_refused(truth: JetEvents) -> None:
    few = truth.select(slice(0, 3))
    with pytest.raises(MlgenError, match=r"weight = -1 at least: expected finite numbers"):
        GeneratedEvents.of(few, torch.tensor([1.0, -1.0, 2.0]))
    with pytest.raises(MlgenError, match=r"members = a tensor \(2, 4\): expected one row an event"):
        GeneratedEvents.of(few, members=torch.ones(2, 4))
