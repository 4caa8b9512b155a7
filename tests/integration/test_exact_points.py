from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.cards import RunCard
from mlgen.core import AmplitudeValue, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import GenerationError
from mlgen.integration.exact_points import ExactPoints, draw_exact, samples_of
from mlgen.integration.integrand import ProcessIntegrand
from mlgen.integration.proposal import Proposal, draw
from tests.integration.surrogates import prepared
from tests.integration.toys import peaks

RUN = RunCard(seed=3, chunk_size=1000)


def drawn(integrand: ProcessIntegrand, proposal: Proposal, n: int, index: int = 0) -> ExactPoints:
    _, evaluation = draw(integrand, proposal, n, random_stream(1, "points", index))
    found = ExactPoints.of(evaluation)
    assert found is not None
    return found


class HalfSure:
    """An amplitude that says of every other point that it is not exact."""

    def __init__(self, amplitude: ProcessIntegrand) -> None:
        self.exact = amplitude.amplitude

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        found = self.exact(momenta, alpha_s, group)
        std = torch.zeros_like(found.std)
        std[::2] = 1e-300
        return AmplitudeValue(value=found.value, std=std)


def test_points_are_those_inside_the_cuts_with_their_exact_values() -> None:
    made = prepared("ee_to_uug")
    integrand = made.process.integrand
    _, evaluation = draw(integrand, made.proposal, 500, random_stream(1, "points", 0))
    found = drawn(integrand, made.proposal, 500)
    inside = evaluation.value != 0
    assert 0 < len(found) == int(inside.sum()) < 500
    assert torch.equal(found.momenta, evaluation.points.momenta[inside])
    again = integrand.squared(evaluation.points.select(inside), integrand.amplitude).value
    torch.testing.assert_close(found.squared, again)


def test_the_value_of_a_surrogate_is_not_kept() -> None:
    made = prepared("ee_to_uug")
    integrand = made.process.integrand
    every = drawn(integrand, made.proposal, 500)
    some = drawn(replace(integrand, amplitude=HalfSure(integrand)), made.proposal, 500)
    assert len(some) == len(every) // 2
    assert torch.equal(some.squared, every.squared[1::2])


def test_points_of_no_process_are_none() -> None:
    toy = peaks()
    evaluation = toy(torch.rand(10, 3, dtype=torch.float64), torch.zeros(10, dtype=torch.int64))
    assert ExactPoints.of(evaluation) is None


def test_as_many_points_are_drawn_as_are_wanted_always_the_same_ones() -> None:
    made = prepared("ee_to_uug")
    both = [
        draw_exact(made.process.integrand, made.proposal, n, RUN, "points", SilentProgress())
        for n in (2500, 700)
    ]
    assert [len(one) for one in both] == [2500, 700]
    assert torch.equal(both[0].momenta[:700], both[1].momenta)
    other = draw_exact(made.process.integrand, made.proposal, 700, RUN, "tests", SilentProgress())
    assert not torch.equal(other.momenta, both[1].momenta)


def test_cuts_that_leave_nothing_end_the_drawing() -> None:
    made = prepared("ee_to_uug")

    class Closed:
        def __call__(self, momenta: Tensor, group: int) -> Tensor:
            return torch.zeros(len(momenta), dtype=torch.bool)

    closed = replace(made.process.integrand, cut=Closed())
    with pytest.raises(GenerationError, match="0 of 1000 points pass the cuts: expected more"):
        draw_exact(closed, made.proposal, 10, RUN, "points", SilentProgress())


def test_the_last_points_are_learned_from_each_by_its_group() -> None:
    made = prepared("pp_to_eej")
    integrand = made.process.integrand
    parts = [drawn(integrand, made.proposal, 300, index) for index in range(4)]
    n_all = sum(map(len, parts))
    samples = samples_of(parts, integrand, max_points=n_all - len(parts[0]) - 10)
    kept = ExactPoints.joined(parts).select(slice(len(parts[0]) + 10, None))
    assert sum(map(len, samples)) == len(kept)
    group = torch.tensor([channel.group for channel in integrand.phase_space.channels])
    for index, sample in enumerate(samples):
        mine = group[kept.channel] == index
        assert torch.equal(sample.momenta, kept.momenta[mine])
        mu_r, _ = integrand.scales(kept.momenta[mine], index)
        power = integrand.coupling(mu_r.square()) ** integrand.groups[index].qcd_order
        torch.testing.assert_close(sample.value * power, kept.squared[mine])


def test_no_more_batches_are_held_than_are_learned_from() -> None:
    """All that was kept may be more than there is memory for."""
    made = prepared("ee_to_uug")
    part = drawn(made.process.integrand, made.proposal, 200)
    alive: list[int] = []

    class Counted(ExactPoints):
        def __del__(self) -> None:
            alive.append(-1)

    def batches() -> Iterator[ExactPoints]:
        for _ in range(50):
            alive.append(1)
            assert sum(alive) <= 5
            yield Counted(momenta=part.momenta, channel=part.channel, squared=part.squared)

    (sample,) = samples_of(batches(), made.process.integrand, max_points=3 * len(part) - 1)
    assert len(sample) == 3 * len(part) - 1


def test_nothing_kept_is_nothing_to_learn_from() -> None:
    samples = samples_of([], prepared("pp_to_eej").process.integrand, 100)
    assert [len(sample) for sample in samples] == [0] * 6
