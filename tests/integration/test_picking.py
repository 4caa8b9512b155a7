from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.core import (
    AmplitudeValue,
    EventBatch,
    PhaseSpacePoints,
    ResolvedAmplitude,
    random_stream,
)
from mlgen.integration.picking import EventPicker
from mlgen.integration.second_step import ExactSquared
from mlgen.physics.kinematics import mass
from tests.integration.toys import process
from tests.laws import check_frequencies

N = 20_000


def copies_of_a_point(channel: int, mirrored: bool) -> PhaseSpacePoints:
    """N times the same point of p p > e+ e- j: near the Z, with helicities that all occur."""
    picker = process("pp_to_eej").picker
    integrand = picker.integrand
    group = integrand.phase_space.channels[channel].group
    rng = random_stream(3, "picking", channel)
    r = torch.rand(500, integrand.n_dim + integrand.n_flat, generator=rng, dtype=torch.float64)
    evaluation = integrand(r, torch.full((500,), channel))
    momenta = evaluation.points.momenta
    near_z = (mass(momenta[:, 2] + momenta[:, 3]) - 91.188).abs() < 10
    good = (evaluation.value > 0) & near_z & ((momenta[:, 0, 3] < 0) == mirrored)
    by_helicity = picker.amplitude.helicity_values(momenta, 0 * momenta[:, 0, 0] + 0.13, group)
    least = (by_helicity / by_helicity.sum(1, keepdim=True)).amin(1)
    return evaluation.points.select((least * good).argmax().expand(N))


def picked(points: PhaseSpacePoints, amplitude: ResolvedAmplitude | None = None) -> EventBatch:
    pick = process("pp_to_eej").picker
    if amplitude is not None:
        pick = replace(pick, amplitude=amplitude)
    weight = torch.ones(len(points), dtype=torch.float64)
    return pick(points, weight, random_stream(4, "picking", 0))


def counts_of(rows: Tensor, choices: Sequence[Sequence[float]]) -> Tensor:
    """How often each choice occurs among the rows (n, k)."""
    counts = [int((rows == torch.tensor(choice)).all(1).sum()) for choice in choices]
    assert sum(counts) == len(rows), "something that is no choice occurred"
    return torch.tensor(counts)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("channel", range(6))
def test_flavours_are_picked_in_proportion_to_their_densities(channel: int, mirrored: bool) -> None:
    integrand = process("pp_to_eej").integrand
    group = integrand.groups[integrand.phase_space.channels[channel].group]
    points = copies_of_a_point(channel, mirrored)
    events = picked(points)
    assert integrand.density is not None
    q2 = torch.tensor([91.188**2], dtype=torch.float64)
    shares, rows = [], []
    for ids in group.pdg_ids:
        x = points.x[:1]
        shares.append(
            float(integrand.density.xfx([ids[0]], x[:, 0].contiguous(), q2))
            * float(integrand.density.xfx([ids[1]], x[:, 1].contiguous(), q2))
        )
        rows.append([*(ids[1::-1] if mirrored else ids[:2]), 23, *ids[2:]])
    assert events.pdg_id.shape[1] == 6, "the Z is written"
    counts = counts_of(events.pdg_id, rows)
    check_frequencies(counts, torch.tensor(shares, dtype=torch.float64))
    swapped = torch.tensor(shares[::-1], dtype=torch.float64)
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(counts, swapped)


@pytest.mark.parametrize("channel", [0, 5])
def test_helicities_are_picked_in_proportion_to_their_part_of_the_matrix_element(
    channel: int,
) -> None:
    picker = process("pp_to_eej").picker
    points = copies_of_a_point(channel, mirrored=False)
    group = picker.integrand.phase_space.channels[channel].group
    alpha_s = torch.tensor([0.13], dtype=torch.float64)
    one = points.momenta[:1]
    shares = picker.amplitude.helicity_values(one, alpha_s, group)[0]
    events = picked(points)
    final = events.spin[:, [0, 1, 3, 4, 5]]
    counts = counts_of(final, picker.amplitude.helicities(group).to(torch.float64).tolist())
    check_frequencies(counts, shares)
    assert float(shares.max() / shares.min()) > 2
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(counts, shares.flip(0))


class ThreeFlows:
    """Two helicity configurations, and three colour flows that depend on them."""

    BY_HELICITY = ((1.0, 3.0, 0.0), (2.0, 0.0, 2.0))

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        ones = torch.ones(len(momenta), dtype=torch.float64)
        return AmplitudeValue(value=ones, std=0 * ones)

    def helicities(self, group: int) -> Tensor:
        return torch.tensor([[1, 1, 1, 1, 1], [-1, -1, -1, -1, -1]])

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        return torch.tensor([[1.0, 4.0]], dtype=torch.float64).expand(len(momenta), -1)

    def colour_flows(self, group: int) -> Tensor:
        flows = torch.zeros(3, 5, 2, dtype=torch.int64)
        flows[:, 0, 0] = torch.tensor([501, 502, 503])
        return flows

    def colour_flow_values(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        return torch.tensor(self.BY_HELICITY, dtype=torch.float64)[helicity]


def test_the_colour_flow_is_picked_given_the_helicities() -> None:
    events = picked(copies_of_a_point(0, mirrored=False), ThreeFlows())
    flow = events.colour[:, 0, 0] - 501
    minus = events.spin[:, 0] < 0
    helicities = torch.tensor([int((~minus).sum()), int(minus.sum())])
    check_frequencies(helicities, torch.tensor([1.0, 4.0]))
    for mask, shares in zip((~minus, minus), ThreeFlows.BY_HELICITY, strict=True):
        check_frequencies(flow[mask].bincount(minlength=3), torch.tensor(shares))


class PicksItself(ThreeFlows):
    """The same, which picks its helicities itself, and counts how often |M|² was asked for."""

    def __init__(self) -> None:
        self.n_values = 0
        self.totals: list[float] = []

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        self.n_values += len(momenta)
        return super().__call__(momenta, alpha_s, group)

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        raise AssertionError("expected to be asked for a pick")

    def pick_helicity(
        self, momenta: Tensor, alpha_s: Tensor, total: Tensor, uniform: Tensor, group: int
    ) -> Tensor:
        self.totals += total.tolist()
        return (uniform > 0.2).long()


def test_an_amplitude_that_picks_helicities_itself_is_let() -> None:
    points = copies_of_a_point(0, mirrored=False)
    amplitude = PicksItself()
    minus = picked(points, amplitude).spin[:, 0] < 0
    check_frequencies(torch.tensor([int((~minus).sum()), int(minus.sum())]), torch.tensor([1.0, 4]))
    assert amplitude.n_values == N
    assert amplitude.totals == [1.0] * N


def test_the_matrix_element_of_accepted_points_is_not_computed_again_where_it_is_known() -> None:
    integrand = process("pp_to_eej").integrand
    rng = random_stream(5, "picking", 0)
    r = torch.rand(500, integrand.n_dim + integrand.n_flat, generator=rng, dtype=torch.float64)
    evaluation = integrand(r, torch.arange(500) % 6)
    points = evaluation.points.select(evaluation.value > 0)
    amplitude = PicksItself()
    pick = replace(process("pp_to_eej").picker, amplitude=amplitude)
    squared = torch.arange(1.0, 1 + len(points), dtype=torch.float64)
    pick(points, torch.ones_like(squared), rng, ExactSquared.of_all(squared))
    assert amplitude.n_values == 0
    # By channels, and in the order of the points within each.
    assert amplitude.totals == squared[points.channel.argsort(stable=True)].tolist()


def test_events_keep_the_order_of_their_points() -> None:
    integrand = process("pp_to_eej").integrand
    rng = random_stream(5, "picking", 0)
    r = torch.rand(500, integrand.n_dim + integrand.n_flat, generator=rng, dtype=torch.float64)
    evaluation = integrand(r, torch.arange(500) % 6)
    points = evaluation.points.select(evaluation.value > 0)
    weight = torch.arange(len(points), dtype=torch.float64)
    events = process("pp_to_eej").picker(points, weight, rng)
    assert torch.equal(events.weight, weight)
    jet_row = (events.status == 1).int().cumsum(1).argmax(1)
    jet = events.momenta[torch.arange(len(points)), jet_row]
    torch.testing.assert_close(jet, points.momenta[:, 4], rtol=0, atol=0)
    along_z = points.momenta[:, 0, 3] > 0
    first = torch.where(along_z[:, None], points.momenta[:, 0], points.momenta[:, 1])
    torch.testing.assert_close(events.momenta[:, 0], first, rtol=0, atol=0)


def test_each_event_carries_its_scale_and_couplings() -> None:
    events = picked(copies_of_a_point(0, mirrored=False).select(torch.arange(3)))
    assert events.scale.tolist() == [91.188] * 3
    assert events.alpha_s.tolist() == pytest.approx([0.130] * 3, rel=1e-12)
    assert events.alpha_em.tolist() == pytest.approx([1 / 132.507] * 3, rel=1e-12)


def test_no_points_become_no_events_that_join_with_others() -> None:
    points = copies_of_a_point(0, mirrored=False).select(torch.arange(2))
    some = picked(points)
    none = picked(points.select(torch.arange(0)))
    assert len(none) == 0
    joined = EventBatch.concatenate([none, some, none])
    assert torch.equal(joined.pdg_id, some.pdg_id)
    assert torch.equal(joined.momenta, some.momenta)


def test_the_same_stream_picks_the_same() -> None:
    points = copies_of_a_point(0, mirrored=False)
    assert torch.equal(picked(points).pdg_id, picked(points).pdg_id)
    pick: EventPicker = process("pp_to_eej").picker
    other = pick(points, torch.ones(N, dtype=torch.float64), random_stream(4, "picking", 1))
    assert not torch.equal(picked(points).pdg_id, other.pdg_id)
