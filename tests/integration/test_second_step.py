from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from mlgen.campaign.chunk_files import chunk_bytes
from mlgen.core import EventBatch, OneHelicity, PhaseSpacePoints, random_stream
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.second_step import ALL, DrawnHelicities, ExactSquared, drawn_columns
from mlgen.integration.two_stage import SurrogateIntegrand, TwoStageSource, first_step
from mlgen.surrogates.helicity_shares import HelicityShares
from tests.integration.lepton_pairs import MuonPairs
from tests.integration.surrogates import N_CHUNKS, joined, prepared
from tests.integration.test_two_stage import identical, p_values
from tests.laws import check_estimate, check_frequencies, check_pulls

QualityOf = Callable[[Tensor], Tensor]
"""Of true shares (n, n_helicities): what q is, up to a factor."""


class SharesLike(HelicityShares):
    """True shares, made worse."""

    def __init__(self, amplitude: OneHelicity, quality: QualityOf) -> None:
        super().__init__([])
        self.amplitude, self.quality = amplitude, quality

    def __call__(self, momenta: Tensor, group: int) -> Tensor | None:
        alpha_s = torch.full_like(momenta[:, 0, 0], 0.118)
        q = self.quality(self.amplitude.helicity_values(momenta, alpha_s, group))
        q = q / q.sum(1, keepdim=True)
        return 0.9 * q + 0.1 / q.shape[1]


class NoShares(SharesLike):
    def __call__(self, momenta: Tensor, group: int) -> Tensor | None:
        return None


def wrong_by_factors(values: Tensor) -> Tensor:
    return values * torch.arange(1.0, 1 + values.shape[1], dtype=torch.float64).square()


QUALITIES: dict[str, QualityOf] = {
    "flat": torch.ones_like,
    "true": lambda values: values,
    "wrong by factors": wrong_by_factors,
    "the wrong way round": lambda values: values.flip(1),
}


def drawing(integrand: SurrogateIntegrand, quality: str, n_draws: int = 1) -> SurrogateIntegrand:
    amplitude = integrand.integrand.amplitude
    assert isinstance(amplitude, OneHelicity)
    shares = SharesLike(amplitude, QUALITIES[quality])
    return replace(
        integrand, second=DrawnHelicities(amplitude=amplitude, shares=shares, n_draws=n_draws)
    )


@cache
def source(name: str, quality: str, surrogate: str = "rough", n_draws: int = 1) -> TwoStageSource:
    made = prepared(name)
    integrand = drawing(made.surrogate(surrogate), quality, n_draws)
    return replace(made.source(integrand, made.estimate(integrand)), title="one helicity")


@cache
def events_of(name: str, quality: str, n_draws: int = 1) -> EventBatch:
    made = source(name, quality, n_draws=n_draws)
    return joined([made.chunk(index) for index in range(N_CHUNKS)])


# --- what comes of it ------------------------------------------------------------------------


@pytest.mark.parametrize("quality", QUALITIES)
def test_events_are_distributed_as_with_all_helicities_whatever_the_shares(quality: str) -> None:
    events = events_of("pp_to_eej", quality)
    assert len(events) > 1500
    found = p_values(events)
    assert min(found.values()) > 1e-4, found


@cache
def helicity_shares_of(name: str) -> Tensor:
    """Of the whole cross section: (n_helicities,), by points that are weighted with all of |M|²."""
    made = prepared(name)
    integrand = made.surrogate("rough")
    amplitude = made.process.picker.amplitude
    total = torch.zeros(len(amplitude.helicities(0)), dtype=torch.float64)
    for index in range(8):
        rng = random_stream(9, "shares of helicities", index)
        drawn = integrand.draw(made.proposal, 16_384, rng)
        at = drawn.per_squared.nonzero()[:, 0]
        points = drawn.points.select(at)
        alpha_s = integrand.integrand.alpha_s(points.momenta, 0)
        values = amplitude.helicity_values(points.momenta, alpha_s, 0)
        total += (drawn.per_squared[at] / drawn.batch.fraction[at]) @ values
    return total / total.sum()


def counts_of(name: str, events: EventBatch) -> Tensor:
    """How many effective events have each configuration: (n_helicities,)."""
    table = prepared(name).process.picker.amplitude.helicities(0).double()
    is_external = events.status[0].abs() == 1
    spins = events.spin[:, is_external]
    matches = (spins[:, None] == table).all(2)
    assert bool((matches.sum(1) == 1).all())
    u = events.weight
    return u @ matches.double() * u.sum() / u.square().sum()


@pytest.mark.parametrize("n_draws", [1, 3])
@pytest.mark.parametrize("quality", QUALITIES)
def test_events_have_each_helicity_as_often_as_its_part_of_the_cross_section(
    quality: str, n_draws: int
) -> None:
    events = events_of("ee_to_uug", quality, n_draws)
    shares = helicity_shares_of("ee_to_uug")
    assert float(shares.max() / shares.min()) > 2
    check_frequencies(counts_of("ee_to_uug", events), shares)


@pytest.mark.parametrize("quality", ["flat", "wrong by factors"])
def test_the_cross_section_of_a_chunk_has_no_bias_and_an_honest_error(quality: str) -> None:
    made = source("ee_to_mumu", quality, "wrong in a corner")
    made = replace(made, run=replace(made.run, chunk_size=1000))
    sums = [made.chunk(index).summary.sums for index in range(240)]
    truth = MuonPairs(500.0).cross_section_pb
    pulls = [(one.mean - truth) / one.error for one in sums]
    check_pulls(torch.tensor(pulls, dtype=torch.float64))


def test_an_estimate_foresees_what_is_made() -> None:
    made = prepared("pp_to_eej")
    measured = made.estimate(drawing(made.surrogate("rough"), "wrong by factors"))
    expected = made.measured.sums
    error = math.hypot(measured.sums.error, expected.error)
    check_estimate(measured.sums.mean, error, expected.mean, max_relative_error=0.03)
    n_points = N_CHUNKS * made.card.chunk_size
    kept, error = measured.kept
    found = len(events_of("pp_to_eej", "wrong by factors")) / n_points
    check_estimate(found, math.hypot(error, (kept / n_points) ** 0.5), kept, 0.05)


@pytest.mark.parametrize("surrogate", ["good", "rough"])
@pytest.mark.parametrize("quality", ["flat", "wrong by factors"])
def test_fewer_survivors_become_events_the_fewer_helicities_are_drawn(
    surrogate: str, quality: str
) -> None:
    """With the same s_max, which runs choose by what things cost."""
    made = prepared("pp_to_eej")
    every = made.surrogate(surrogate)
    all_of, one, three = (
        made.estimate(integrand)
        for integrand in (every, drawing(every, quality), drawing(every, quality, n_draws=3))
    )
    assert torch.equal(one.maxima.s_max, all_of.maxima.s_max)
    assert 0 < one.efficiency.eps_2 < three.efficiency.eps_2 < all_of.efficiency.eps_2


# --- what would be wrong ---------------------------------------------------------------------


class NotDivided(DrawnHelicities):
    """Leaves 1 / q out, but for its mean."""

    def __call__(
        self, integrand: ProcessIntegrand, points: PhaseSpacePoints, rng: torch.Generator
    ) -> ExactSquared:
        found = super().__call__(integrand, points, rng)
        q = self.shares(points.momenta, 0)
        assert q is not None
        mine = q.gather(1, found.helicity[:, None])[:, 0]
        return replace(found, value=found.value * mine * q.shape[1])


class NotCorrected(DrawnHelicities):
    """Takes the helicity that was drawn, and |M|² of all."""

    def __call__(
        self, integrand: ProcessIntegrand, points: PhaseSpacePoints, rng: torch.Generator
    ) -> ExactSquared:
        found = super().__call__(integrand, points, rng)
        return replace(found, value=integrand.squared(points, integrand.amplitude).value)


@pytest.mark.parametrize("wrong", [NotDivided, NotCorrected])
def test_the_frequencies_notice_what_is_wrong(wrong: type[DrawnHelicities]) -> None:
    made = source("ee_to_uug", "wrong by factors")
    second = made.integrand.second
    assert isinstance(second, DrawnHelicities)
    spoilt = wrong(amplitude=second.amplitude, shares=second.shares)
    made = replace(made, integrand=replace(made.integrand, second=spoilt))
    events = joined([made.chunk(index) for index in range(N_CHUNKS)])
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(counts_of("ee_to_uug", events), helicity_shares_of("ee_to_uug"))


# --- what is computed ------------------------------------------------------------------------


def test_a_chunk_depends_on_its_index_alone() -> None:
    made = source("pp_to_eej", "flat")
    first, later = made.chunk(0), made.chunk(5)
    assert chunk_bytes(later, "here") == chunk_bytes(made.chunk(5), "here")
    assert not identical(first.events, later.events)


def test_drawings_are_in_proportion_and_evenly_spaced() -> None:
    parts = torch.tensor([[0.1, 0.0, 0.5, 0.4], [3.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    uniform = torch.rand(40_000, generator=random_stream(1, "columns", 0), dtype=torch.float64)
    for row in parts:
        drawn = drawn_columns(row.expand(len(uniform), -1), uniform, 5)
        check_frequencies(drawn.flatten().bincount(minlength=4), row)
        counts = torch.nn.functional.one_hot(drawn, 4).sum(1)
        expected = 5 * row / row.sum()
        assert bool((counts >= expected.floor()).all())
        assert bool((counts <= expected.ceil()).all())


def test_each_survivor_has_a_helicity_but_where_the_surrogate_was_not_trusted() -> None:
    made = prepared("pp_to_eej")
    integrand = drawing(made.surrogate("wrong in a corner, and not asked there"), "flat")
    drawn = integrand.draw(made.proposal, 4096, random_stream(2, "points", 0))
    zeros = torch.zeros_like(made.proposal.fractions)
    s_max = zeros + float(drawn.s(zeros).max()) / 100
    rng = random_stream(3, "first step", 0)
    survivors = first_step(integrand, drawn, zeros, s_max, rng)
    is_exact = drawn.is_exact[survivors.kept]
    assert 0 < int(is_exact.sum()) < len(is_exact)
    assert torch.equal(survivors.helicity == ALL, is_exact)
    exact = integrand.exact(drawn.points, drawn.per_squared, survivors.kept.nonzero()[:, 0])
    torch.testing.assert_close(survivors.squared[is_exact], exact[is_exact])


def test_true_shares_give_what_all_helicities_do() -> None:
    """Up to the floor: there each configuration over its share is their sum."""
    made = prepared("pp_to_eej")
    integrand = made.surrogate("rough")
    drawn = integrand.draw(made.proposal, 4096, random_stream(2, "points", 0))
    at = drawn.per_squared.nonzero()[:, 0]
    exact = integrand.exact(drawn.points, drawn.per_squared, at)
    one = drawing(integrand, "true").corrected(
        drawn.points, drawn.per_squared, at, random_stream(3, "drawn", 0)
    )
    ratio = one.value / exact
    assert float(ratio.max()) < 1 / 0.9 + 1e-9
    assert float(ratio.mean()) == pytest.approx(1, abs=0.01)


def test_a_group_of_which_nothing_was_learned_has_all_helicities() -> None:
    made = prepared("pp_to_eej")
    integrand = made.surrogate("rough")
    amplitude = integrand.integrand.amplitude
    assert isinstance(amplitude, OneHelicity)
    second = DrawnHelicities(amplitude=amplitude, shares=NoShares(amplitude, torch.ones_like))
    drawn = integrand.draw(made.proposal, 500, random_stream(2, "points", 0))
    at = drawn.per_squared.nonzero()[:, 0]
    found = second(integrand.integrand, drawn.points.select(at), random_stream(3, "drawn", 0))
    assert bool((found.helicity == ALL).all())
    torch.testing.assert_close(found.value, integrand.exact(drawn.points, drawn.per_squared, at))
