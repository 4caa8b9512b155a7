"""The further weights of real events, against independent integrations and recomputations."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mlgen.build import Process
from mlgen.campaign.step_clock import StepClock
from mlgen.core import Evaluation, EventBatch, PhaseSpacePoints, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Integration
from mlgen.integration.estimate import ratios_of_means
from mlgen.integration.generate import ChunkPlan, EventSource, generate
from mlgen.integration.integrator import integrate
from mlgen.physics.pdf import find_set
from tests.integration.toys import process

QUICK = (
    "run.sampler=vegas",
    "vegas.n_iterations=5",
    "vegas.n_points=20000",
    "run.n_estimate=65536",
)
VARIED = "weights.scale_variations=true"


def integrated(made: Process) -> Integration:
    return integrate(made.integrand, made.card, Aids(progress=SilentProgress(), clock=StepClock()))


@cache
def varied_cross_sections(
    name: str, weighted: bool
) -> tuple[float, float, dict[tuple[float, float], tuple[float, float]]]:
    """The nominal cross section with its error; the ratios and errors by (k_r, k_f)."""
    made = process(name, *QUICK, VARIED, "run.n_events=20000")
    integration = integrated(made)
    chosen = integration.chosen
    run = replace(made.card.run, weighted=weighted)
    source = EventSource(
        integrand=made.integrand,
        pick=made.picker,
        proposal=chosen.proposal_for(weighted),
        w_max=chosen.measured.w_max,
        run=run,
    )
    sample = generate(
        source, ChunkPlan.from_estimate(source.run, chosen.measured), SilentProgress()
    )
    sums = chosen.measured.sums + sample.totals.sums
    ratio, error = ratios_of_means([sample.events])
    points = [(v.mu_r_factor, v.mu_f_factor) for v in made.picker.reweighting.variations]
    found = dict(zip(points, zip(ratio.tolist(), error.tolist(), strict=True), strict=True))
    return sums.mean, sums.error, found


@cache
def integrated_at(name: str, k_r: float, k_f: float) -> tuple[float, float]:
    """An integration of its own, with other scales from the start and another seed."""
    scales = (f"scales.mu_r_gev={k_r * 91.188}", f"scales.mu_f_gev={k_f * 91.188}")
    sums = integrated(process(name, *QUICK, *scales, "run.seed=2")).chosen.measured.sums
    return sums.mean, sums.error


def pull_from_integration(
    name: str, weighted: bool, point: tuple[float, float], other: tuple[float, float]
) -> tuple[float, float]:
    """The pull of the variation `point` from the integration at `other`; its relative error."""
    sigma, sigma_error, found = varied_cross_sections(name, weighted)
    ratio, ratio_error = found[point]
    reference, reference_error = integrated_at(name, *other)
    variance = (sigma_error * ratio) ** 2 + (sigma * ratio_error) ** 2 + reference_error**2
    return (sigma * ratio - reference) / variance**0.5, variance**0.5 / reference


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("point", [(2.0, 2.0), (0.5, 1.0), (1.0, 0.5)])
def test_the_varied_weights_average_to_the_cross_section_at_their_scales(
    point: tuple[float, float], weighted: bool
) -> None:
    pull, error = pull_from_integration("pp_to_eej", weighted, point, point)
    assert abs(pull) < 5, f"pull {pull:.1f}"
    assert error < 0.005
    wrong = (0.5, 1.0) if point == (2.0, 2.0) else (2.0, 2.0)
    pull, _ = pull_from_integration("pp_to_eej", weighted, point, wrong)
    assert abs(pull) > 5, "this test would not see wrong scales"


def test_a_process_without_alpha_s_varies_with_mu_f_alone() -> None:
    _, _, found = varied_cross_sections("pp_to_ee", False)
    assert found[2.0, 1.0] == found[0.5, 1.0] == (1.0, 0.0)
    assert found[2.0, 2.0] == found[1.0, 2.0]
    pull, error = pull_from_integration("pp_to_ee", False, (1.0, 2.0), (1.0, 2.0))
    assert abs(pull) < 5, f"pull {pull:.1f}"
    assert error < 0.005
    pull, _ = pull_from_integration("pp_to_ee", False, (1.0, 2.0), (1.0, 0.5))
    assert abs(pull) > 5, "this test would not see wrong scales"


def some_events(made: Process) -> tuple[PhaseSpacePoints, EventBatch]:
    """Points of all channels and both orientations, and events with weights that all differ."""
    integrand = made.integrand
    n = 100 * integrand.n_channels
    rng = random_stream(8, "variations", 0)
    r = torch.rand(n, integrand.n_dim + integrand.n_flat, generator=rng, dtype=torch.float64)
    evaluation = integrand(r, torch.arange(n) % integrand.n_channels)
    passed = evaluation.value > 0
    points = evaluation.points.select(passed)
    return points, made.picker(points, evaluation.value[passed], rng)


def test_each_weight_is_that_of_the_same_point_computed_anew_at_the_other_scales() -> None:
    made = process("pp_to_eej", VARIED, "scales.choice=half_ht")
    points, events = some_events(made)
    assert len(events) > 100
    mirrored = points.momenta[:, 0, 3] < 0
    assert bool(mirrored.any())
    assert not bool(mirrored.all())
    integrand = made.integrand
    # The flavours of an event's legs, in the order of the group's.
    first_two = torch.where(
        mirrored[:, None], events.pdg_id[:, :2].flip(1), events.pdg_id[:, :2]
    ).tolist()
    last = events.pdg_id[torch.arange(len(events)), (events.pdg_id != 0).sum(1) - 1].tolist()

    def weight_of(event: int, k_r: float, k_f: float) -> float:
        def scales(momenta: Tensor, group: int) -> tuple[Tensor, Tensor]:
            mu_r, mu_f = integrand.scales(momenta, group)
            return k_r * mu_r, k_f * mu_f

        channel = integrand.phase_space.channels[int(points.channel[event])]
        ids = (*first_two[event], -11, 11, last[event])
        assert ids in integrand.groups[channel.group].pdg_ids
        groups = list(integrand.groups)
        groups[channel.group] = replace(groups[channel.group], pdg_ids=(ids,))
        alone = replace(integrand, groups=tuple(groups), scales=scales)
        evaluation: Evaluation = alone.weight(
            points.select(torch.tensor([event])), integrand.amplitude
        )
        return float(evaluation.value)

    for event in range(0, len(events), 7):
        nominal = weight_of(event, 1, 1)
        expected = [
            float(events.weight[event]) * weight_of(event, v.mu_r_factor, v.mu_f_factor) / nominal
            for v in made.picker.reweighting.variations
        ]
        assert events.variations[event].tolist() == pytest.approx(expected, rel=1e-12)


def test_a_member_that_is_a_scaled_copy_gives_the_exact_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "NNPDF23_lo_as_0130_qed"
    lines = find_set(name, 0).read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line == "---"][:-1]
    # A block is: knots of x, knots of Q, flavours, then a row of flavours for each pair of knots.
    scaled, flavours, first_row = [], [], len(lines)
    for i, line in enumerate(lines):
        if i - 3 in starts:
            flavours, first_row = [int(word) for word in line.split()], i + 1
        if line == "---":
            first_row = len(lines)
        if i < first_row:
            scaled.append(line)
            continue
        factors = [1.5 if pdg_id in (0, 21) else 1.25 for pdg_id in flavours]
        row = [repr(f * float(word)) for f, word in zip(factors, line.split(), strict=True)]
        scaled.append(" ".join(row))
    (tmp_path / f"{name}_0001.dat").write_text("\n".join(scaled) + "\n")
    monkeypatch.setenv("LHAPDF_DATA_PATH", str(tmp_path))
    made = process("pp_to_eej", "weights.pdf_members=[0, 1]")
    assert [v.pdf_id for v in made.picker.reweighting.variations] == [247000, 247001]
    _, events = some_events(made)
    n_gluons = (events.pdg_id[:, :2] == 21).sum(1)
    assert set(n_gluons.tolist()) == {0, 1}
    expected = torch.where(n_gluons == 1, 1.5 * 1.25, 1.25**2)
    ratio = events.variations / events.weight[:, None]
    torch.testing.assert_close(ratio[:, 1], expected.double(), rtol=1e-12, atol=0)
    assert torch.equal(events.variations[:, 0], events.weight)


def test_no_points_have_variations_of_the_right_number() -> None:
    made = process("pp_to_eej", VARIED)
    points, events = some_events(made)
    none = made.picker(points.select(torch.arange(0)), events.weight[:0], random_stream(1, "a", 0))
    assert none.variations.shape == (0, 7)
    joined = EventBatch.concatenate([none, events])
    assert torch.equal(joined.variations, events.variations)


class Weights(NamedTuple):
    """Of some events."""

    variations: Tensor
    weight: Tensor


def test_the_error_of_a_ratio_is_the_spread_over_independent_samples() -> None:
    rng = torch.Generator().manual_seed(3)
    weight = torch.rand(400, 500, generator=rng, dtype=torch.float64) + 0.5
    values = weight * (1 + 0.2 * torch.randn(400, 500, generator=rng, dtype=torch.float64))
    found = [
        ratios_of_means([Weights(v[:250, None], w[:250]), Weights(v[250:, None], w[250:])])
        for v, w in zip(values, weight, strict=True)
    ]
    ratio, error = torch.cat([r for r, _ in found]), torch.cat([e for _, e in found])
    assert abs(float((ratio.mean() - 1) / (ratio.std() / 20))) < 5
    assert float(error.mean() / ratio.std()) == pytest.approx(1, abs=0.15)
    unbroken, none = ratios_of_means([Weights(3 * weight[0][:, None], weight[0])])
    assert float(unbroken) == pytest.approx(3, rel=1e-14)
    assert float(none) == pytest.approx(0, abs=1e-14)
