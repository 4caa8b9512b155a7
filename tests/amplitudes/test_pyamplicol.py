from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.amplitudes import closed_form
from mlgen.amplitudes.parameters import named_parameters
from mlgen.amplitudes.probe_points import probe_points
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.pyamplicol import ArtifactChecks, PyamplicolAmplitude, provide
from mlgen.amplitudes.pyamplicol_artifacts import ArtifactCache, MatrixElement, folder_digest
from mlgen.amplitudes.pyamplicol_runtime import Array, ProcessRuntime
from mlgen.cards import ModelCard
from mlgen.core import OneHelicity, PicksHelicity, SubprocessGroup, random_stream
from mlgen.errors import MatrixElementError
from mlgen.physics.kinematics import boost, boost_back
from mlgen.physics.model import StandardModel
from mlgen.physics.ufo import UfoModel
from tests.amplitudes.pyamplicol_requests import (
    GG,
    GROUPS,
    GU,
    GUX,
    OTHER_ELEMENTS,
    PORTAL,
    REFERENCE,
    TAGS,
    UUX,
    RecordedProgress,
    alpha_s,
    group_points,
    points,
    request,
)
from tests.amplitudes.user_functions import invariants
from tests.laws import (
    check_amplitude_is_lorentz_invariant,
    check_frequencies,
    check_single_helicities,
)


@pytest.fixture(scope="module")
def other_processes(artifact_cache: Path) -> Callable[..., ProcessRuntime]:
    """Processes at full colour only, that are compared with references."""
    cache = ArtifactCache(artifact_cache)
    cache.prepare(
        list(OTHER_ELEMENTS.values()), ArtifactChecks(StandardModel(), cache), RecordedProgress()
    )

    def load(tag: str, **parameters: float) -> ProcessRuntime:
        element = OTHER_ELEMENTS[tag]
        return ProcessRuntime(
            cache.folder_of(element),
            element.process,
            element.pdg_ids,
            named_parameters(StandardModel()) | parameters,
        )

    return load


@pytest.mark.parametrize("group", TAGS)
def test_the_adapter_reproduces_madgraph(amplitude: PyamplicolAmplitude, group: int) -> None:
    momenta, expected = points(TAGS[group])
    result = amplitude(momenta, alpha_s(momenta), group)
    torch.testing.assert_close(result.value, expected, rtol=1e-9, atol=0)
    assert bool((result.std == 0).all())


@pytest.mark.parametrize("tag", [tag for tag in OTHER_ELEMENTS if tag != "gg_bbx"])
def test_the_model_and_its_parameters_reproduce_madgraph(
    other_processes: Callable[..., ProcessRuntime], tag: str
) -> None:
    momenta, expected = points(tag)
    values = torch.from_numpy(other_processes(tag).totals(momenta.numpy()))
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=0)


def test_the_bottom_quark_has_its_mass(other_processes: Callable[..., ProcessRuntime]) -> None:
    momenta = probe_points([0, 0, 4.7, 4.7], 5).numpy()
    bottom = torch.from_numpy(other_processes("gg_bbx").totals(momenta))
    # QCD knows flavours by their masses alone.
    light_top = torch.from_numpy(other_processes("gg_ttx", MT=4.7, WT=0.0).totals(momenta))
    torch.testing.assert_close(bottom, light_top, rtol=1e-9, atol=0)
    massless = torch.from_numpy(other_processes("gg_bbx", MB=1e-3).totals(momenta))
    assert float((massless / bottom - 1).abs().max()) > 1e-6


def test_a_model_in_a_folder_gives_its_own_matrix_elements(artifact_cache: Path) -> None:
    gu, ge, mass, width = 0.3, 0.2, 300.0, 8.0
    model = UfoModel(str(PORTAL), {"gu": gu, "ge": ge, "MX": mass, "WX": width})
    group = SubprocessGroup(name="u u~ > e+ e-", pdg_ids=((2, -2, -11, 11),), qed_order=2)
    ours = provide(
        AmplitudeRequest(groups=(group,), model=model, cache_folder=artifact_cache),
        RecordedProgress(),
    )
    momenta = probe_points([0.0] * 4, 6)
    s, t, u = invariants(momenta)
    photon = -2 / 3 * 4 * math.pi * model.alpha_em / s
    portal = gu * ge / torch.complex(s - mass**2, torch.full_like(s, mass * width))
    # A vector couples to both chiralities alike: averaged over nine colours and four spins.
    expected = 2 / 3 * (photon + portal).abs().square() * (t**2 + u**2)
    value = ours(momenta, alpha_s(momenta), 0).value
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)


def test_a_changed_model_is_another_one(tmp_path: Path) -> None:
    folder = tmp_path / "portal"
    shutil.copytree(PORTAL, folder)
    before = MatrixElement(
        process="u u~ > e+ e-",
        pdg_ids=(2, -2, -11, 11),
        colour="full",
        qcd_order=0,
        qed_order=2,
        ufo_folder=str(folder),
    ).kind()
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert folder_digest(moved) == before["model"]
    with (moved / "couplings.py").open("a") as file:
        file.write("# changed\n")
    folder_digest.cache_clear()
    assert folder_digest(moved) != before["model"]


def test_parameters_of_the_card_reach_the_couplings(
    amplitude: PyamplicolAmplitude, artifact_cache: Path
) -> None:
    card = ModelCard(
        inverse_alpha_em=128.0,
        fermi_constant_per_gev2=1.2e-5,
        z_mass_gev=90.0,
        z_width_gev=3.0,
        top_mass_gev=170.0,
    )
    changed = request(artifact_cache, GROUPS, StandardModel(card))
    progress = RecordedProgress()
    ours = provide(changed, progress)
    assert not progress.notes  # parameters are set, not compiled in
    oracle = closed_form.provide(
        request(artifact_cache, GROUPS[:3], StandardModel(card)), RecordedProgress()
    )
    for group in (UUX, GU, GUX):
        momenta = group_points(group)
        expected = oracle(momenta, alpha_s(momenta), group).value
        value = ours(momenta, alpha_s(momenta), group).value
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)
        before = amplitude(momenta, alpha_s(momenta), group).value
        assert float((value / before - 1).abs().min()) > 1e-3


@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_the_value_is_lorentz_invariant(amplitude: PyamplicolAmplitude, group: int) -> None:
    check_amplitude_is_lorentz_invariant(amplitude, group_points(group), group)


@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_a_boost_along_the_beam_changes_nothing(amplitude: PyamplicolAmplitude, group: int) -> None:
    momenta = group_points(group)
    moving = boost(momenta, momenta.new_tensor([1000.0, 0.0, 0.0, -800.0]))
    here, there = (amplitude(p, alpha_s(p), group).value for p in (momenta, moving))
    torch.testing.assert_close(there, here, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("group", "power"), [(UUX, 1), (GU, 1), (GG, 3)])
def test_the_value_scales_with_its_power_of_alpha_s(
    amplitude: PyamplicolAmplitude, group: int, power: int
) -> None:
    momenta = group_points(group)
    coupling = torch.linspace(0.08, 0.2, len(momenta), dtype=torch.float64)
    at_reference = amplitude(momenta, alpha_s(momenta), group).value
    expected = at_reference * (coupling / 0.118) ** power
    value = amplitude(momenta, coupling, group).value
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_helicities_sum_to_the_value(amplitude: PyamplicolAmplitude, group: int) -> None:
    momenta = group_points(group)
    coupling = alpha_s(momenta, 0.13)
    parts = amplitude.helicity_values(momenta, coupling, group)
    assert parts.shape == (len(momenta), len(amplitude.helicities(group)))
    value = amplitude(momenta, coupling, group).value
    torch.testing.assert_close(parts.sum(dim=1), value, rtol=1e-12, atol=0)


def test_massless_lines_keep_their_helicity(amplitude: PyamplicolAmplitude) -> None:
    assert len(amplitude.helicities(UUX)) == len(amplitude.helicities(GU)) == 8
    for group in (UUX, GU, GUX):
        helicities = amplitude.helicities(group)
        assert bool((helicities.abs() == 1).all())
        assert bool((helicities[:, 2] == -helicities[:, 3]).all())
    annihilating = amplitude.helicities(UUX)
    assert bool((annihilating[:, 0] == -annihilating[:, 1]).all())
    for group in (GU, GUX):
        scattered = amplitude.helicities(group)
        assert bool((scattered[:, 1] == scattered[:, 4]).all())


def madgraph_events(tag: str) -> tuple[Tensor, Tensor, Tensor]:
    """Momenta in the partonic centre-of-mass frame, helicities, colour tags."""
    events = json.loads((REFERENCE / f"events/{tag}.json").read_text())["events"]
    momenta = torch.tensor([event["p"] for event in events], dtype=torch.float64)
    momenta = boost_back(momenta, momenta[:, :2].sum(dim=1, keepdim=True))
    spins = torch.tensor([event["spinup"] for event in events])
    return momenta, spins, torch.tensor([event["icolup"] for event in events])


def log_likelihood(values: Tensor, picked: Tensor) -> tuple[float, float, float]:
    """Mean ln p of what was picked; its expectation, and the standard error, if p was right."""
    p = values / values.sum(dim=1, keepdim=True)
    log_p = p.clamp(min=1e-12).log()
    mean = (p * log_p).sum(dim=1)
    error = ((p * log_p.square()).sum(dim=1) - mean.square()).mean().div(len(p)).sqrt()
    found = log_p.gather(1, picked[:, None]).mean()
    return float(found), float(mean.mean()), float(error)


def index_of(rows: Tensor, table: Tensor) -> Tensor:
    """The index in the table (n_table, k) of each of the rows (n, k)."""
    equal = (rows[:, None] == table).all(dim=2)
    assert bool((equal.sum(dim=1) == 1).all())
    return equal.int().argmax(dim=1)


@pytest.mark.parametrize(("tag", "group"), [("gu_epemu", GU), ("gg_ttxg", GG)])
def test_helicities_are_those_of_madgraphs_events(
    amplitude: PyamplicolAmplitude, tag: str, group: int
) -> None:
    momenta, spins, _ = madgraph_events(tag)
    values = amplitude.helicity_values(momenta, alpha_s(momenta), group)
    helicities = amplitude.helicities(group)
    found, expected, error = log_likelihood(values, index_of(spins, helicities))
    assert error < 0.1
    assert abs(found - expected) < 5 * error, f"{found:.3f}, expected {expected:.3f} +- {error:.3f}"
    gluons = torch.tensor([-1 if p == 21 else 1 for p in GROUPS[group].pdg_ids[0][:2]])
    flipped = spins.clone()
    flipped[:, :2] *= gluons
    wrong, _, _ = log_likelihood(values, index_of(flipped, helicities))
    assert wrong < expected - 10 * error  # an incoming gluon's helicity with the other sign


def canonical(flow: Tensor) -> tuple[int, ...]:
    """Tags renumbered in the order in which they occur."""
    numbers = {0: 0}
    return tuple(numbers.setdefault(int(tag), len(numbers)) for tag in flow.flatten())


def test_colour_flows_are_those_of_madgraphs_events(amplitude: PyamplicolAmplitude) -> None:
    momenta, spins, tags = madgraph_events("gg_ttxg")
    flows = [canonical(flow) for flow in amplitude.colour_flows(GG)]
    picked = [canonical(flow) for flow in tags]
    assert set(flows) == set(picked)
    helicity = index_of(spins, amplitude.helicities(GG))
    values = amplitude.colour_flow_values(momenta, alpha_s(momenta), helicity, GG)
    found, expected, error = log_likelihood(
        values, torch.tensor([flows.index(flow) for flow in picked])
    )
    # MadGraph admits the flows of one diagram at a time, so that its choice is more peaked.
    assert found > expected - 5 * error
    reversed_strings = [canonical(flow) for flow in reversed_along_the_top(amplitude)]
    wrong, _, _ = log_likelihood(
        values, torch.tensor([reversed_strings.index(flow) for flow in picked])
    )
    assert wrong < expected - 10 * error


def reversed_along_the_top(amplitude: PyamplicolAmplitude) -> Tensor:
    """The flows with the gluons in the reversed order between t and t~."""
    mirrored = amplitude.colour_flows(GG).flip(2)
    return mirrored[:, [0, 1, 3, 2, 4]]


@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_each_colour_has_two_ends(amplitude: PyamplicolAmplitude, group: int) -> None:
    pdg_ids = GROUPS[group].pdg_ids[0]
    for flow in amplitude.colour_flows(group).tolist():
        # A line runs from a colour that comes in, or an anticolour that goes out, to the reverse.
        starts = [c for c, _ in flow[:2]] + [a for _, a in flow[2:]]
        ends = [a for _, a in flow[:2]] + [c for c, _ in flow[2:]]
        lines = sorted(tag for tag in starts if tag)
        assert lines == sorted(tag for tag in ends if tag)
        assert all(b - a == 1 for a, b in pairwise([500, *lines]))
        for pdg, (colour, anticolour) in zip(pdg_ids, flow, strict=True):
            assert (colour > 0) == (pdg == 21 or 0 < pdg <= 6)
            assert (anticolour > 0) == (pdg == 21 or -6 <= pdg < 0)


def test_the_only_flow_of_one_quark_line_and_one_gluon_needs_no_amplitude(
    amplitude: PyamplicolAmplitude, artifact_cache: Path
) -> None:
    momenta = group_points(UUX)
    helicity = torch.zeros(len(momenta), dtype=torch.int64)
    flows = amplitude.colour_flow_values(momenta, alpha_s(momenta), helicity, UUX)
    assert flows.shape == (len(momenta), 1)
    oracle = closed_form.provide(request(artifact_cache, GROUPS[:3]), RecordedProgress())
    for group in (UUX, GU, GUX):
        found, expected = amplitude.colour_flows(group), oracle.colour_flows(group)
        assert [canonical(f) for f in found] == [canonical(f) for f in expected]


def test_a_charge_conjugated_process_has_the_helicities_of_the_closed_form(
    amplitude: PyamplicolAmplitude, artifact_cache: Path
) -> None:
    oracle = closed_form.provide(request(artifact_cache, GROUPS[:3]), RecordedProgress())
    for group in (GU, GUX):
        momenta = group_points(group)
        index = index_of(amplitude.helicities(group), oracle.helicities(group))
        expected = oracle.helicity_values(momenta, alpha_s(momenta), group)[:, index]
        parts = amplitude.helicity_values(momenta, alpha_s(momenta), group)
        torch.testing.assert_close(parts, expected, rtol=1e-9, atol=0)
    # Parity is violated: without the mirror the values would be others.
    without = amplitude.helicity_values(group_points(GU), alpha_s(group_points(GU)), GU)
    assert float((without.flip(1) / without - 1).abs().max()) > 0.01


def test_a_configuration_that_vanishes_at_leading_colour_takes_the_flows_of_the_sum(
    amplitude: PyamplicolAmplitude, monkeypatch: pytest.MonkeyPatch
) -> None:
    momenta = group_points(GG)[:3]
    helicity = torch.tensor([0, 1, 2])
    before = amplitude.colour_flow_values(momenta, alpha_s(momenta), helicity, GG)
    by_flow = ProcessRuntime.by_flow
    asked: list[int | None] = []

    def vanishes(self: ProcessRuntime, momenta: Array, helicity: int | None) -> Array:
        values = by_flow(self, momenta, helicity)
        if len(asked) == 1:
            values = 0 * values
        asked.append(helicity)
        return values

    monkeypatch.setattr(ProcessRuntime, "by_flow", vanishes)
    after = amplitude.colour_flow_values(momenta, alpha_s(momenta), helicity, GG)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    assert bool((after[1] > before[1]).all())


@pytest.mark.parametrize("group", [UUX, GU, GUX, GG])
def test_single_helicities_are_those_of_the_table(
    amplitude: PyamplicolAmplitude, group: int
) -> None:
    assert isinstance(amplitude, OneHelicity)
    check_single_helicities(amplitude, group_points(group), group)


@pytest.mark.parametrize("group", [UUX, GU, GUX, GG])
def test_helicities_are_picked_in_proportion_to_their_values(
    amplitude: PyamplicolAmplitude, group: int
) -> None:
    assert isinstance(amplitude, PicksHelicity)
    momenta = group_points(group)[:1].expand(20_000, -1, -1)
    coupling = alpha_s(momenta, 0.13)
    total = amplitude(momenta, coupling, group).value
    uniform = torch.rand(len(momenta), generator=random_stream(1, "picked", 0), dtype=torch.float64)
    picked = amplitude.pick_helicity(momenta, coupling, total, uniform, group)
    shares = amplitude.helicity_values(momenta[:1], coupling[:1], group)[0]
    rare = shares * len(momenta) < 5 * shares.sum()

    def joined(values: Tensor) -> Tensor:
        """With what is too rare to tell in the first of the others."""
        return values[~rare].index_add(0, torch.tensor([0]), values[rare].sum()[None])

    counts = joined(picked.bincount(minlength=len(shares)))
    check_frequencies(counts, joined(shares))
    with pytest.raises(AssertionError, match="chi2"):
        check_frequencies(counts, joined(shares).roll(1))
    for i in range(20):
        one = slice(i, i + 1)
        alone = amplitude.pick_helicity(
            momenta[one], coupling[one], total[one], uniform[one], group
        )
        assert torch.equal(alone, picked[one])


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_helicities_of_another_total_are_refused(
    amplitude: PyamplicolAmplitude, factor: float
) -> None:
    momenta = group_points(GG)[:1].expand(1000, -1, -1)
    total = factor * amplitude(momenta, alpha_s(momenta), GG).value
    uniform = torch.rand(len(momenta), generator=random_stream(1, "picked", 1), dtype=torch.float64)
    with pytest.raises(MatrixElementError, match=r"^helicities of g g > g t t~: .*their sum"):
        amplitude.pick_helicity(momenta, alpha_s(momenta), total, uniform, GG)


def test_helicities_that_one_by_one_are_others_are_found_when_an_artifact_is_loaded(
    artifact_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_helicity = ProcessRuntime.one_helicity
    monkeypatch.setattr(ProcessRuntime, "one_helicity", lambda *asked: 1.01 * one_helicity(*asked))
    with pytest.raises(MatrixElementError, match="one by one"):
        provide(request(artifact_cache, GROUPS[:1]), RecordedProgress())


def test_no_points_give_no_values(amplitude: PyamplicolAmplitude) -> None:
    nothing = torch.zeros((0, 5, 4), dtype=torch.float64)
    none = alpha_s(nothing)
    result = amplitude(nothing, none, GG)
    assert result.value.shape == result.std.shape == (0,)
    assert amplitude.helicity_values(nothing, none, GG).shape == (0, 32)
    no_index = torch.zeros(0, dtype=torch.int64)
    assert amplitude.colour_flow_values(nothing, none, no_index, GG).shape == (0, 6)
    assert torch.equal(amplitude.pick_helicity(nothing, none, none, none, GG), no_index)


def test_a_large_batch_is_its_points_one_by_one(amplitude: PyamplicolAmplitude) -> None:
    momenta, expected = points("uux_epemg")
    many = momenta.repeat(300, 1, 1)
    value = amplitude(many, alpha_s(many), UUX).value
    torch.testing.assert_close(value, expected.repeat(300), rtol=1e-9, atol=0)
    helicity = torch.arange(len(many)) % len(amplitude.helicities(UUX))
    flows = amplitude.colour_flow_values(many, alpha_s(many), helicity, UUX)
    last = amplitude.colour_flow_values(many[-1:], alpha_s(many[-1:]), helicity[-1:], UUX)
    torch.testing.assert_close(flows[-1:], last)


def test_momenta_in_any_memory_layout_give_the_same_value(amplitude: PyamplicolAmplitude) -> None:
    momenta, expected = points("uux_epemg")
    other_layout = momenta.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    value = amplitude(other_layout, alpha_s(momenta), UUX).value
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)


def test_a_matrix_element_is_loaded_once_for_all_who_use_it(
    other_processes: Callable[..., ProcessRuntime],
) -> None:
    """The runtime never gives its memory back: a program that loads again would end at a limit."""
    other_processes("uux_ttx")
    before = _n_memory_maps()
    values = {float(other_processes("uux_ttx").totals(_pair_of_tops())[0]) for _ in range(5)}
    assert len(values) == 1
    assert _n_memory_maps() - before < 5


def _n_memory_maps() -> int:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux says how many maps there are")
    return len(maps.read_text().splitlines())


def _pair_of_tops() -> Array:
    return probe_points([0.0, 0.0, 173.0, 173.0], 1).numpy()
