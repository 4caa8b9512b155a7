from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache

import pytest
import torch
from torch import Tensor

from benchmarks.distributions import Spectra, compare, legs_of_events, observables, spectra_of
from mlgen.campaign.chunk_files import chunk_bytes
from mlgen.core import Amplitude, AmplitudeValue, ChannelWeights, EventBatch, Sampler, random_stream
from mlgen.errors import GenerationError, NonFiniteWeight
from mlgen.integration.generate import EventSource
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.integration.trust import Trust
from mlgen.integration.two_stage import Maxima, SurrogateIntegrand, TwoStageSource
from tests.integration.lepton_pairs import MuonPairs
from tests.integration.surrogates import (
    N_CHUNKS,
    QUALITIES,
    Prepared,
    chunks_of,
    estimated,
    joined,
    prepared,
    source,
    totals,
)
from tests.laws import check_estimate, check_pulls


def one_stage(made: Prepared, fractions: Tensor, w_max: Tensor) -> EventSource:
    return EventSource(
        integrand=made.process.integrand,
        pick=made.process.picker,
        proposal=replace(made.proposal, fractions=fractions),
        w_max=w_max,
        run=made.card,
    )


def identical(first: EventBatch, second: EventBatch) -> bool:
    return all(
        torch.equal(getattr(first, one.name), getattr(second, one.name))
        for one in fields(EventBatch)
    )


# --- distributions ---------------------------------------------------------------------------


@cache
def reference() -> Spectra:
    """Of events that were unweighted in one stage; the bins are filled equally."""
    made = prepared("pp_to_eej")
    alone = one_stage(made, made.measured.unweighting_fractions, made.measured.w_max)
    events = joined([alone.chunk(index) for index in range(N_CHUNKS)])
    legs = legs_of_events(events)
    steps = torch.linspace(0, 1, 25, dtype=torch.float64)
    edges = {name: of(legs).quantile(steps) for name, of in observables(list(legs)).items()}
    return spectra_of(events, edges)


def p_values(events: EventBatch) -> Mapping[str, float]:
    found = compare(spectra_of(events, reference().edges), reference())
    assert min(one.n_dof for one in found) >= 15
    return {one.observable: one.p_value for one in found}


@pytest.mark.parametrize("quality", QUALITIES)
def test_events_are_distributed_as_without_a_surrogate_whatever_it_is_worth(quality: str) -> None:
    events = joined(chunks_of(quality))
    assert len(events) > 2000
    found = p_values(events)
    assert len(found) >= 15
    assert min(found.values()) > 1e-4, found


def test_the_test_above_notices_that_the_second_step_is_left_out() -> None:
    found = p_values(joined(chunks_of("wrong in a corner", second_step=False)))
    assert min(found.values()) < 1e-12


def test_muon_pairs_have_the_asymmetry_of_the_textbook_with_a_surrogate_that_has_not() -> None:
    made = source("ee_to_mumu", "wrong in a corner")
    events = joined([made.chunk(index) for index in range(30)])
    muon, electron = (events.momenta[events.pdg_id == pdg_id] for pdg_id in (13, 11))
    cos_theta = (muon[:, 1:] * electron[:, 1:]).sum(1) / (muon[:, 0] * electron[:, 0])
    mean = float((events.weight * cos_theta).sum() / events.weight.sum())
    error = float((events.weight * (cos_theta - mean)).square().sum().sqrt() / events.weight.sum())
    check_estimate(mean, error, MuonPairs(500.0).mean_cos_theta, max_relative_error=0.02)


# --- the cross section -----------------------------------------------------------------------


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_cross_section_of_a_chunk_has_no_bias_and_an_honest_error(quality: str) -> None:
    made = source("ee_to_mumu", quality)
    made = replace(made, run=replace(made.run, chunk_size=1000))
    sums = [made.chunk(index).summary.sums for index in range(200)]
    truth = MuonPairs(500.0).cross_section_pb
    pulls = [(one.mean - truth) / one.error for one in sums]
    check_pulls(torch.tensor(pulls, dtype=torch.float64))


def test_the_test_above_notices_that_the_second_step_is_left_out_too() -> None:
    made = source("ee_to_mumu", "wrong in a corner")
    believed = replace(made.integrand.integrand, amplitude=made.integrand.surrogate)
    made = replace(
        made,
        integrand=replace(made.integrand, integrand=believed),
        run=replace(made.run, chunk_size=1000),
    )
    sums = [made.chunk(index).summary.sums for index in range(200)]
    truth = MuonPairs(500.0).cross_section_pb
    with pytest.raises(AssertionError, match="mean pull"):
        check_pulls(torch.tensor([(one.mean - truth) / one.error for one in sums]))


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_cross_section_is_that_of_one_stage(quality: str) -> None:
    expected = prepared("pp_to_eej").measured.sums
    measured = estimated("pp_to_eej", quality).sums
    for sums in (measured, totals(chunks_of(quality)).sums):
        error = math.hypot(sums.error, expected.error)
        check_estimate(sums.mean, error, expected.mean, max_relative_error=0.02)


def test_a_good_surrogate_leaves_the_error_of_the_cross_section_as_it_was() -> None:
    """Though two thirds of the weights are not known: points are used again for nothing."""
    made = chunks_of("good")
    found = totals(made)
    expected = prepared("pp_to_eej").measured
    one_stage_error = expected.sums.error * (len(expected.weights) / found.n_points) ** 0.5
    assert found.n_calls < 0.7 * found.n_points
    assert found.sums.error < 2 * one_stage_error


# --- what is computed ------------------------------------------------------------------------


class Counting:
    """An amplitude that remembers the momenta it was asked for."""

    def __init__(self, amplitude: Amplitude) -> None:
        self.amplitude = amplitude
        self.asked: list[Tensor] = []

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        self.asked.append(momenta)
        return self.amplitude(momenta, alpha_s, group)


def counted(made: TwoStageSource) -> tuple[TwoStageSource, Counting]:
    counting = Counting(made.integrand.integrand.amplitude)
    integrand = replace(made.integrand.integrand, amplitude=counting)
    return replace(made, integrand=replace(made.integrand, integrand=integrand)), counting


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_exact_matrix_element_is_computed_once_for_those_that_need_it(quality: str) -> None:
    made, counting = counted(source("pp_to_eej", quality))
    chunk = made.chunk(3)
    asked = torch.cat(counting.asked).flatten(1)
    different = {tuple(momenta) for momenta in asked.tolist()}
    assert chunk.summary.n_calls == len(asked) == len(different)
    assert chunk.summary.n_events < len(asked) < 0.8 * chunk.summary.n_points
    # The mirrored assignment of the beams is the same event turned by pi: energies are as they were.
    energies = {round(float(energy), 6) for energy in asked[:, 8]}
    is_first = (chunk.events.pdg_id == -11) & (chunk.events.status == 1)
    of_events = chunk.events.momenta[is_first][:, 0].tolist()
    assert len(of_events) == chunk.summary.n_events
    assert all(round(energy, 6) in energies for energy in of_events)


def test_a_chunk_depends_on_its_index_alone() -> None:
    made = source("pp_to_eej", "rough")
    first, later = made.chunk(0), made.chunk(5)
    again = made.chunk(5)
    assert identical(later.events, again.events)
    assert chunk_bytes(later, "here") == chunk_bytes(again, "here")
    assert not identical(first.events, later.events)


def test_with_the_exact_amplitude_for_a_surrogate_the_events_are_those_of_one_stage() -> None:
    """Point by point: what the first step keeps is not rejected by the second."""
    made = prepared("pp_to_eej")
    w_max = made.measured.w_max
    exact = made.process.integrand.amplitude
    integrand = SurrogateIntegrand(
        integrand=made.process.integrand, surrogate=exact, trust=Trust(floor=0.0)
    )
    maxima = Maxima(floor=torch.zeros_like(w_max), s_max=w_max, x_max=torch.ones_like(w_max))
    two = TwoStageSource(
        integrand=integrand,
        pick=made.process.picker,
        proposal=replace(made.proposal, fractions=maxima.fractions),
        maxima=maxima,
        run=made.card,
    )
    mine, expected = two.chunk(1), one_stage(made, maxima.fractions, w_max).chunk(1)
    torch.testing.assert_close(mine.events.weight, expected.events.weight)
    assert float(mine.events.weight.max()) > 1
    torch.testing.assert_close(
        mine.events.momenta.abs(), expected.events.momenta.abs(), rtol=1e-9, atol=1e-6
    )
    assert mine.summary.sums.mean == pytest.approx(expected.summary.sums.mean)
    assert mine.summary.sums.error == pytest.approx(expected.summary.sums.error)


class Reshared(Sampler):
    """A grid with channel weights as if they had been learned: large random ones."""

    def __init__(self, grid: Sampler, integrand: ProcessIntegrand) -> None:
        self.grid, self.n_dim, self.n_channels = grid, grid.n_dim, grid.n_channels
        rng = torch.Generator().manual_seed(3)
        weights = integrand.start_weights(rng)
        assert weights is not None
        with torch.no_grad():
            weights.last.normal_(std=0.3, generator=rng)
        self.weights = weights

    @property
    def channel_weights(self) -> ChannelWeights:
        return self.weights

    def forward(self, u: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        return self.grid.forward(u, channel)

    def inverse(self, r: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        return self.grid.inverse(r, channel)


def check_all_but_the_amplitude_is_shared(made: Prepared, proposal: Proposal) -> None:
    integrand = made.surrogate("rough")
    drawn = integrand.draw(proposal, 2000, random_stream(1, "points", 0))
    batch, evaluation = draw(made.process.integrand, proposal, 2000, random_stream(1, "points", 0))
    inside = batch.value.nonzero()[:, 0]
    squared = integrand.exact(drawn.points, drawn.per_squared, inside)
    torch.testing.assert_close(squared * drawn.per_squared[inside], channel_weight(batch)[inside])
    outside = batch.value == 0
    assert int(outside.sum()) == 2000 - evaluation.n_calls > 0
    for column in (drawn.per_squared, drawn.squared, drawn.bound):
        assert not bool(column[outside].any())


@pytest.mark.parametrize("name", ["ee_to_uug", "pp_to_eej"])
def test_the_surrogate_and_the_exact_weight_have_all_else_in_common(name: str) -> None:
    check_all_but_the_amplitude_is_shared(prepared(name), prepared(name).proposal)


def test_learned_channel_weights_are_part_of_either_weight() -> None:
    made = prepared("ee_to_uug", "phase_space.learned_weights=true")
    sampler = Reshared(made.proposal.sampler, made.process.integrand)
    reshared = replace(made.proposal, sampler=sampler)
    check_all_but_the_amplitude_is_shared(made, reshared)
    drawn = made.surrogate("rough").draw(reshared, 2000, random_stream(1, "points", 0))
    assert float(drawn.batch.log_share.abs().max()) > 0.1


# --- trust -----------------------------------------------------------------------------------


def test_the_exact_matrix_element_stands_in_where_the_surrogate_is_unsure() -> None:
    quality = "wrong in a corner, and not asked there"
    made, counting = counted(source("pp_to_eej", quality))
    drawn = made.integrand.draw(made.proposal, 4096, random_stream(2, "points", 0))
    found = QUALITIES[quality][0](drawn.points.momenta)[1] > 0.5
    inside = drawn.per_squared != 0
    assert torch.equal(drawn.is_exact, found & inside)
    assert len(torch.cat(counting.asked)) == drawn.n_exact > 200
    exact = made.integrand.exact(drawn.points, drawn.per_squared, drawn.is_exact.nonzero()[:, 0])
    torch.testing.assert_close(drawn.squared[drawn.is_exact], exact)


class Spoilt:
    """A surrogate that gives what is no number, or nothing, for some points."""

    def __init__(self, amplitude: Amplitude, value: float, std: float) -> None:
        self.amplitude, self.value, self.std = amplitude, value, std

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        good = self.amplitude(momenta, alpha_s, group)
        forward = momenta[:, 2, 3] > 0
        return AmplitudeValue(
            value=torch.where(forward, self.value, good.value),
            std=torch.where(forward, self.std, good.std),
        )


@pytest.mark.parametrize(
    ("value", "std"),
    [(math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan), (1.0, math.inf), (0.0, 0.0), (1.0, 5.1)],
)
def test_a_surrogate_that_gives_no_number_is_not_trusted_there(value: float, std: float) -> None:
    made = prepared("pp_to_eej")
    spoilt = Spoilt(made.process.integrand.amplitude, value, std)
    integrand = SurrogateIntegrand(integrand=made.process.integrand, surrogate=spoilt)
    drawn = integrand.draw(made.proposal, 2000, random_stream(3, "points", 0))
    forward = drawn.points.momenta[:, 2, 3] > 0
    assert torch.equal(drawn.is_exact, forward & (drawn.per_squared != 0))
    assert bool(drawn.squared.isfinite().all())
    assert bool(drawn.bound.isfinite().all())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_exact_weight_that_is_not_finite_stops_the_run_with_its_momenta(bad: float) -> None:
    made = source("pp_to_eej", "good")
    broken = Spoilt(made.integrand.integrand.amplitude, bad, 0.0)
    integrand = replace(made.integrand.integrand, amplitude=broken)
    made = replace(made, integrand=replace(made.integrand, integrand=integrand))
    with pytest.raises(
        NonFiniteWeight,
        match=r"weight = -?(nan|inf): expected a finite weight \(pb\); .* in GeV = \[",
    ):
        made.chunk(0)


def test_weighted_events_are_refused() -> None:
    made = source("pp_to_eej", "good")
    with pytest.raises(
        GenerationError, match=r"run\.weighted = true with a surrogate: expected un"
    ):
        replace(made, run=replace(made.run, weighted=True))
