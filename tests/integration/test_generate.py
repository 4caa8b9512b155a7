from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cache

import pytest
import torch
from torch import Tensor

from mlgen.build import Process
from mlgen.cards import RunCard
from mlgen.core import Amplitude, AmplitudeValue, EventBatch, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import GenerationError, NonFiniteWeight
from mlgen.events.unweighting import effective_sample_size, find_w_max_by_channel
from mlgen.integration.generate import ChunkPlan, EventSource, Generated, generate
from mlgen.integration.measure import Estimate, estimate
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.physics.kinematics import mass, rapidity
from mlgen.samplers.vegas import VegasGrid
from tests.integration.lepton_pairs import MuonPairs
from tests.integration.toys import Toy, nothing, peaks, process
from tests.laws import check_estimate


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A process with a grid that was not adapted, so that its weights spread."""

    process: Process
    proposal: Proposal
    measured: Estimate
    card: RunCard

    def generate(
        self,
        weighted: bool = False,
        title: str = "generating",
        *,
        n_events: int,
        seed: int = 1,
        max_points: int = 0,
    ) -> Generated:
        card = replace(
            self.card, weighted=weighted, n_events=n_events, seed=seed, max_points=max_points
        )
        fractions = self.proposal.fractions if weighted else self.measured.unweighting_fractions
        plan = ChunkPlan.from_estimate(card, self.measured)
        return generate(self.source(fractions, card, title), plan, SilentProgress())

    def source(self, fractions: Tensor, card: RunCard, title: str = "generating") -> EventSource:
        return EventSource(
            integrand=self.process.integrand,
            pick=self.process.picker,
            proposal=replace(self.proposal, fractions=fractions),
            w_max=self.measured.w_max,
            run=card,
            title=title,
        )


@cache
def setup(name: str, budget: float = 0.001) -> Setup:
    made = process(name)
    n_channels = made.integrand.n_channels
    grid = VegasGrid.uniform(n_channels, made.integrand.n_dim, 4)
    even = torch.full((n_channels,), 1 / n_channels, dtype=torch.float64)
    proposal = Proposal(sampler=grid, fractions=even)
    card = RunCard(n_estimate=40_000, chunk_size=4096, seed=1, overweight_budget=budget)
    measured = estimate(made.integrand, proposal, card, "crude", SilentProgress())
    return Setup(process=made, proposal=proposal, measured=measured, card=card)


def identical(first: EventBatch, second: EventBatch) -> bool:
    names = [field.name for field in fields(EventBatch)]
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


# --- measuring -------------------------------------------------------------------------------


def measure(
    toy: Toy, title: str = "toy", *, n_estimate: int = 10_000, chunk_size: int = 3000, seed: int = 1
) -> Estimate:
    grid = VegasGrid.uniform(toy.n_channels, toy.n_dim, 4)
    even = torch.full((toy.n_channels,), 1 / toy.n_channels, dtype=torch.float64)
    card = RunCard(n_estimate=n_estimate, chunk_size=chunk_size, seed=seed)
    return estimate(toy, Proposal(sampler=grid, fractions=even), card, title, SilentProgress())


def test_an_estimate_has_as_many_points_as_the_card_says_in_chunks() -> None:
    toy = peaks()
    measured = measure(toy)
    assert toy.sizes == [3000, 3000, 3000, 1000]
    assert len(measured.weights) == len(measured.channel) == measured.eps_uw.n == 10_000
    assert float(measured.sums.n_points.sum()) == 10_000
    assert measured.n_calls == int((measured.weights != 0).sum())
    assert measured.us_per_point > 0


def test_an_estimate_is_true_and_its_numbers_are_those_of_its_weights() -> None:
    toy = peaks()
    measured = measure(toy, n_estimate=60_000)
    check_estimate(measured.sums.mean, measured.sums.error, toy.integral, 0.02)
    weights, channel = measured.weights, measured.channel
    w_max = find_w_max_by_channel(weights, channel, 3, 0.001)
    assert torch.equal(measured.w_max, w_max)
    assert measured.eps_uw.value == pytest.approx(measured.sums.mean / float(w_max.sum()))
    assert measured.ess == pytest.approx(effective_sample_size(weights), rel=1e-3)
    assert torch.equal(measured.unweighting_fractions, w_max / w_max.sum())


def test_a_seed_and_a_title_fix_an_estimate() -> None:
    first, again = measure(peaks()), measure(peaks())
    assert torch.equal(first.weights, again.weights)
    assert first.eps_uw == again.eps_uw
    for other in (measure(peaks(), seed=2), measure(peaks(), title="another")):
        assert not torch.equal(first.weights, other.weights)


def test_chunks_of_another_size_give_the_same_number_within_errors() -> None:
    small, large = (measure(peaks(), n_estimate=60_000, chunk_size=n).sums for n in (700, 20_000))
    assert small.mean != large.mean
    error = math.hypot(small.error, large.error)
    check_estimate(small.mean, error, large.mean, max_relative_error=0.02)


def test_points_that_are_all_zero_are_an_error() -> None:
    with pytest.raises(
        GenerationError, match=r"none of 10000 points passes the cuts: expected a larger run\.n_est"
    ):
        measure(nothing())


def test_each_channel_counts_with_its_cross_section_in_the_overweight_excess() -> None:
    """However few of the points it got: the excess is what events would have, on average."""
    power, shares = 0.2, (0.95, 0.05)
    toy = Toy(
        functions=(lambda r: torch.ones_like(r[:, 0]), lambda r: r[:, 0] ** -power),
        integrals=(1.0, 1 / (1 - power)),
        n_dim=1,
    )
    proposal = Proposal(
        sampler=VegasGrid.uniform(2, 1, 4), fractions=torch.tensor(shares, dtype=torch.float64)
    )

    def excess(w_max: Tensor) -> float:
        """The integral of (f - w_max)+ over both channels."""
        flat, steep = float(w_max[0]), float(w_max[1])
        below = math.pow(steep, -1 / power)
        return 1 - flat + math.pow(below, 1 - power) / (1 - power) - steep * below

    found, expected = [], []
    for seed in range(150):
        card = RunCard(n_estimate=4000, chunk_size=4000, seed=seed, overweight_budget=0.001)
        measured = estimate(toy, proposal, card, "toy", SilentProgress())
        found.append(measured.overweight_on_fresh_points)
        for half in (slice(0, None, 2), slice(1, None, 2)):
            weights, channel = measured.weights[half], measured.channel[half]
            w_max = find_w_max_by_channel(weights, channel, 2, 0.001)
            expected.append(excess(w_max) / toy.integral)
    values = torch.tensor(found, dtype=torch.float64)
    truth = sum(expected) / len(expected)
    assert truth > 0.003, "w_max is optimistic here, several times over"
    check_estimate(float(values.mean()), float(values.std()) / 150**0.5, truth, 0.15)


# --- generating ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_events", [1, 50, 3000])
@pytest.mark.parametrize("weighted", [False, True])
def test_there_are_exactly_as_many_events_as_asked_for(n_events: int, weighted: bool) -> None:
    made = setup("pp_to_eej").generate(weighted, n_events=n_events)
    assert len(made.events) == n_events
    assert made.totals.n_points % 4096 == 0
    assert float(made.totals.sums.n_points.sum()) == made.totals.n_points


def test_the_first_events_do_not_depend_on_how_many_are_asked_for() -> None:
    few, many = (setup("pp_to_eej").generate(n_events=n) for n in (100, 2000))
    assert many.totals.n_points > few.totals.n_points
    assert identical(few.events, many.events.select(slice(0, 100)))


def test_a_seed_and_a_title_fix_the_events() -> None:
    prepared = setup("pp_to_eej")
    first, again = (prepared.generate(n_events=100) for _ in range(2))
    assert identical(first.events, again.events)
    for other in (
        prepared.generate(n_events=100, seed=2),
        prepared.generate(n_events=100, title="another"),
    ):
        assert not identical(first.events, other.events)


def test_too_few_events_after_the_largest_number_of_points_are_an_error() -> None:
    with pytest.raises(
        GenerationError,
        match=r"\d+ of 100000 events after 8192 points: expected more from the efficiency",
    ):
        setup("pp_to_eej").generate(n_events=100_000, max_points=5000)


class NotANumberAt:
    """An amplitude that is NaN at its n-th point, counted over all calls."""

    def __init__(self, amplitude: Amplitude, n: int) -> None:
        self.amplitude, self.left = amplitude, n

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        good = self.amplitude(momenta, alpha_s, group)
        value = good.value.clone()
        if 0 <= self.left < len(value):
            value[self.left] = math.nan
        self.left -= len(value)
        return AmplitudeValue(value=value, std=good.std)


def test_one_matrix_element_that_is_not_a_number_stops_generation() -> None:
    prepared = setup("ee_to_mumu")
    integrand = prepared.process.integrand
    broken = replace(integrand, amplitude=NotANumberAt(integrand.amplitude, 5000))
    stopping = replace(prepared, process=replace(prepared.process, integrand=broken))
    with pytest.raises(NonFiniteWeight, match=r"e\+ e- > mu\+ mu- at \(E, px, py, pz\) in GeV"):
        stopping.generate(n_events=20_000)


def test_cross_sections_of_generated_chunks_agree_with_the_estimate() -> None:
    prepared = setup("pp_to_ee", budget=0.1)
    made = prepared.generate(n_events=20_000)
    error = math.hypot(made.totals.sums.error, prepared.measured.sums.error)
    check_estimate(
        made.totals.sums.mean, error, prepared.measured.sums.mean, max_relative_error=0.02
    )


def test_the_overweight_fraction_is_that_of_the_events() -> None:
    prepared = setup("pp_to_ee", budget=0.2)
    made = prepared.generate(n_events=20_000)
    u = made.events.weight
    assert float(u.min()) == 1
    from_events = float((u - 1).sum() / u.sum())
    assert made.totals.overweight_fraction == pytest.approx(from_events, rel=0.05)
    assert made.totals.overweight_fraction == pytest.approx(0.2, rel=0.1)
    fresh = prepared.measured.overweight_on_fresh_points
    assert made.totals.overweight_fraction == pytest.approx(fresh, rel=0.1)


# --- events are distributed as the integrand is ----------------------------------------------


def mean_and_error(values: Tensor, weights: Tensor) -> tuple[float, float]:
    """The weighted mean of an observable and its error."""
    mean = float((weights * values).sum() / weights.sum())
    return mean, float((weights * (values - mean)).square().sum().sqrt() / weights.sum())


def of_pair(momenta: Tensor) -> dict[str, Tensor]:
    """Observables of a lepton pair (n, 2, 4)."""
    pair = momenta.sum(1)
    return {"mass": mass(pair), "abs_rapidity": rapidity(pair).abs()}


def of_events(events: EventBatch) -> dict[str, Tensor]:
    n = len(events)
    leptons = events.momenta[events.status == 1].reshape(n, 2, 4)
    flavour = events.pdg_id[:, 0].abs()
    shares = {f"share_{q}": (flavour == q).double() for q in (1, 2, 3, 4)}
    mirrored = {"from_antiquark": (events.pdg_id[:, 0] < 0).double()}
    return of_pair(leptons) | shares | mirrored


@cache
def expected_of_drell_yan() -> dict[str, tuple[float, float]]:
    """Means and errors from weighted points, without unweighting or picks."""
    prepared = setup("pp_to_ee")
    integrand = prepared.process.integrand
    batch, evaluation = draw(
        integrand, prepared.proposal, 300_000, random_stream(77, "expected", 0)
    )
    weights = channel_weight(batch) / batch.fraction
    points = evaluation.points
    values = of_pair(points.momenta[:, 2:])
    for q in (1, 2, 3, 4):
        values[f"share_{q}"] = torch.zeros_like(weights)
    for group, subprocess in enumerate(integrand.groups):
        at = (points.channel == group).nonzero()[:, 0]
        parts = integrand.flavour_weights(points.select(at), group)
        for column, ids in enumerate(subprocess.pdg_ids):
            values[f"share_{abs(ids[0])}"][at] = parts[:, column] / parts.sum(1)
    return {name: mean_and_error(value, weights) for name, value in values.items()} | {
        "from_antiquark": (0.5, 0.0)
    }


OBSERVABLES = ("mass", "abs_rapidity", "share_1", "share_2", "share_3", "share_4", "from_antiquark")


@cache
def overweight_events() -> EventBatch:
    return setup("pp_to_ee", budget=0.2).generate(n_events=40_000).events


@pytest.mark.parametrize("observable", OBSERVABLES)
def test_unweighted_events_have_the_means_of_weighted_points(observable: str) -> None:
    events = overweight_events()
    mean, error = mean_and_error(of_events(events)[observable], events.weight)
    expected, expected_error = expected_of_drell_yan()[observable]
    check_estimate(mean, math.hypot(error, expected_error), expected, max_relative_error=0.04)


def test_the_test_above_notices_events_that_lose_their_excess_weight() -> None:
    events = overweight_events()
    values = of_events(events)["mass"]
    mean, error = mean_and_error(values, torch.ones_like(values))
    expected, expected_error = expected_of_drell_yan()["mass"]
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(mean, math.hypot(error, expected_error), expected, max_relative_error=0.04)


def test_the_test_above_notices_channels_in_the_wrong_proportion() -> None:
    """Events of the proposal's own fractions, instead of those in proportion to w_max."""
    prepared = setup("pp_to_ee", budget=0.2)
    skewed = torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert abs(float(prepared.measured.unweighting_fractions[0]) - 0.3) > 0.05
    source = prepared.source(skewed, replace(prepared.card, n_events=20_000))
    made = generate(
        source, ChunkPlan.from_estimate(source.run, prepared.measured), SilentProgress()
    )
    mean, error = mean_and_error(of_events(made.events)["share_2"], made.events.weight)
    expected, expected_error = expected_of_drell_yan()["share_2"]
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(mean, math.hypot(error, expected_error), expected, max_relative_error=0.04)


def cos_theta_of_muons(events: EventBatch) -> Tensor:
    """Of the angle between e- and mu-."""
    muon = events.momenta[events.pdg_id == 13]
    electron = events.momenta[events.pdg_id == 11]
    return (muon[:, 1:] * electron[:, 1:]).sum(1) / (muon[:, 0] * electron[:, 0])


@pytest.mark.parametrize("weighted", [False, True])
def test_muon_pairs_have_the_asymmetry_of_the_textbook(weighted: bool) -> None:
    events = setup("ee_to_mumu").generate(weighted, n_events=40_000).events
    mean, error = mean_and_error(cos_theta_of_muons(events), events.weight)
    check_estimate(mean, error, MuonPairs(500.0).mean_cos_theta, max_relative_error=0.02)


def test_the_test_above_notices_points_without_their_weights() -> None:
    events = setup("ee_to_mumu").generate(weighted=True, n_events=40_000).events
    cos_theta = cos_theta_of_muons(events)
    mean, error = mean_and_error(cos_theta, torch.ones_like(cos_theta))
    with pytest.raises(AssertionError, match="pull"):
        check_estimate(mean, error, MuonPairs(500.0).mean_cos_theta, max_relative_error=0.02)


def test_weighted_events_have_the_cross_section_as_their_mean_where_no_point_is_cut() -> None:
    weights = setup("ee_to_mumu").generate(weighted=True, n_events=40_000).events.weight
    error = float(weights.std()) / 40_000**0.5
    check_estimate(float(weights.mean()), error, MuonPairs(500.0).cross_section_pb, 0.01)


def test_weighted_events_are_the_points_inside_the_cuts_with_their_weights_in_pb() -> None:
    prepared = setup("pp_to_eej")
    first_chunk = prepared.generate(weighted=True, n_events=1)
    assert first_chunk.totals.n_points == 4096
    made = prepared.generate(weighted=True, n_events=first_chunk.totals.n_calls)
    assert made.totals.overweight_fraction == 0
    per_point = float(made.events.weight.sum()) / first_chunk.totals.n_points
    # Whole numbers of points and channels' fractions differ by 1 in 700.
    assert per_point == pytest.approx(first_chunk.totals.sums.mean, rel=2e-3)


def test_how_many_points_are_drawn_does_not_depend_on_what_they_weigh() -> None:
    prepared = setup("ee_to_uug")
    # On average so many events as fill ten chunks: half of the samples would stop before others.
    efficiency = prepared.measured.eps_uw.value
    n_events = round(10 * 4096 * efficiency)
    made = [prepared.generate(n_events=n_events, seed=seed) for seed in range(6)]
    assert len({sample.totals.n_points for sample in made}) == 1
    assert made[0].totals.n_points >= 10 * 4096
