from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import AmplitudeValue, EventBatch
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.candidates import Candidate
from mlgen.integration.generate import ChunkPlan, EventSource, generate
from mlgen.integration.measure import estimate
from mlgen.integration.proposal import Proposal
from mlgen.integration.reference import reference_sample
from mlgen.physics.variations import SCALES
from mlgen.samplers.vegas import VegasGrid
from tests.integration.toys import process

CARD = RunCard(n_estimate=40_000, chunk_size=4096, seed=1, weighted=True)
VARIED = ("pp_to_eej", "weights.scale_variations=true")


class Forbidden:
    """An amplitude that must not be asked for anything."""

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        raise AssertionError("a matrix element was computed")

    def helicities(self, group: int) -> Tensor:
        raise AssertionError("helicities were asked for")

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        raise AssertionError("helicities were computed")

    def colour_flows(self, group: int) -> Tensor:
        raise AssertionError("colour flows were asked for")

    def colour_flow_values(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        raise AssertionError("colour flows were computed")


@cache
def candidate() -> Candidate:
    integrand = process(*VARIED).integrand
    grid = VegasGrid.uniform(integrand.n_channels, integrand.n_dim, 4)
    fractions = torch.arange(1, integrand.n_channels + 1, dtype=torch.float64)
    proposal = Proposal(sampler=grid, fractions=fractions / fractions.sum())
    measured = estimate(integrand, proposal, CARD, "crude", SilentProgress())
    return Candidate(name="crude", sampler=grid, proposal=proposal, measured=measured)


def sample(n_events: int) -> EventBatch:
    picker = process(*VARIED).picker
    integrand = replace(picker.integrand, amplitude=Forbidden())
    pick = replace(picker, amplitude=Forbidden(), integrand=integrand)
    return reference_sample(candidate(), pick, CARD, n_events)


def test_the_points_that_measured_a_sampler_come_back_with_their_weights() -> None:
    # Weighted generation with the stream of the measurement draws the same points.
    made = process(*VARIED)
    measured = candidate().measured
    card = replace(CARD, n_events=10_000)
    source = EventSource(
        integrand=made.integrand,
        pick=made.picker,
        proposal=candidate().proposal,
        w_max=measured.w_max,
        run=card,
        title="estimate crude",
    )
    again = generate(source, ChunkPlan.from_estimate(source.run, measured), SilentProgress()).events
    events = sample(10_000)
    assert torch.equal(events.weight, again.weight)
    final, others = events.status == 1, again.status == 1
    assert torch.equal(
        events.momenta[final].reshape(10_000, 3, 4), again.momenta[others].reshape(10_000, 3, 4)
    )


def test_nothing_but_kinematics_and_flavours_is_told() -> None:
    events = sample(500)
    external = (events.status == 1) | (events.status == -1)
    assert bool((events.spin[external] == 9).all())
    assert not bool(events.colour.any())
    assert events.variations.shape == (500, 0)
    assert len({tuple(ids) for ids in events.pdg_id[:, :2].tolist()}) > 10, "flavours are picked"
    varied = process(*VARIED).picker.reweighting.variations
    assert varied[0].group == SCALES, "an ordinary event has them"


@pytest.mark.parametrize("asked", [1, 7000, 1_000_000])
def test_a_sample_ends_where_the_measurement_ends(asked: int) -> None:
    there = int((candidate().measured.weights != 0).sum())
    assert len(sample(asked)) == min(asked, there)
    assert there < CARD.n_estimate


def test_all_of_a_sample_adds_up_to_the_cross_section() -> None:
    sums = candidate().measured.sums
    total = float(sample(1_000_000).weight.sum()) / CARD.n_estimate
    # The channels' numbers of points are within 1 of what they should be.
    assert total == pytest.approx(sums.mean, rel=1e-2)
    assert total != pytest.approx(sums.mean + 5 * sums.error, rel=1e-2)
