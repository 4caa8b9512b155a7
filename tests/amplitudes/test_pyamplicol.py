from __future__ import annotations

import importlib.util
import json
import math
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from mlgen.amplitudes import closed_form, pyamplicol_artifacts
from mlgen.amplitudes.parameters import named_parameters
from mlgen.amplitudes.probe_points import probe_points
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.pyamplicol import ArtifactChecks, PyamplicolAmplitude, provide
from mlgen.amplitudes.pyamplicol_artifacts import ArtifactCache, MatrixElement, folder_digest
from mlgen.amplitudes.pyamplicol_runtime import ProcessRuntime
from mlgen.cards import ModelCard
from mlgen.core import SubprocessGroup
from mlgen.errors import MatrixElementError, MissingExtra, UnsupportedProcess
from mlgen.physics.kinematics import boost_back
from mlgen.physics.model import StandardModel
from mlgen.physics.process import process_name
from mlgen.physics.ufo import UfoModel
from tests.amplitudes.user_functions import invariants
from tests.laws import check_amplitude_is_lorentz_invariant

REFERENCE = Path(__file__).parents[1] / "reference"
PORTAL = Path(__file__).parents[1] / "models/vector_portal"

UUX, GU, GUX, GG, EE = range(5)
# The u-type groups as p p > e+ e- j has them, and the gluonic one of p p > t t~ j: a run of
# those cards in the same session finds these artifacts made.
GROUPS = tuple(
    SubprocessGroup(
        name=process_name(pdg_ids), pdg_ids=(pdg_ids,), qcd_order=qcd_order, qed_order=qed_order
    )
    for pdg_ids, qcd_order, qed_order in (
        ((2, -2, -11, 11, 21), 1, 2),
        ((21, 2, -11, 11, 2), 1, 2),
        ((21, -2, -11, 11, -2), 1, 2),
        ((21, 21, 6, -6, 21), 3, 0),
        ((-11, 11, 2, -2, 21), 1, 2),
    )
)
TAGS = {UUX: "uux_epemg", GU: "gu_epemu", GG: "gg_ttxg", EE: "ee_uuxg"}
OTHER_ELEMENTS = {
    tag: MatrixElement(
        process=process_name(pdg_ids),
        pdg_ids=pdg_ids,
        colour="full",
        qcd_order=2,
        qed_order=len(pdg_ids) - 4,
    )
    for tag, pdg_ids in (
        ("uux_ttx", (2, -2, 6, -6)),
        ("gg_gg", (21, 21, 21, 21)),
        ("gg_ttx", (21, 21, 6, -6)),
        ("gg_bbx", (21, 21, 5, -5)),
        ("uux_epemgg", (2, -2, -11, 11, 21, 21)),
    )
}


class RecordedProgress:
    """Progress that remembers its steps and notes."""

    def __init__(self) -> None:
        self.done: dict[str, float] = {}
        self.totals: dict[str, float] = {}
        self.notes: list[str] = []

    @contextmanager
    def step(self, title: str, total: float) -> Iterator[Callable[[float, str], None]]:
        self.done[title] = 0
        self.totals[title] = total

        def advance(more: float, note: str = "") -> None:
            self.done[title] += more
            self.notes.append(note)

        yield advance


def request(
    cache: Path,
    groups: tuple[SubprocessGroup, ...] = GROUPS,
    model: StandardModel | None = None,
) -> AmplitudeRequest:
    return AmplitudeRequest(groups=groups, model=model or StandardModel(), cache_folder=cache)


@pytest.fixture(scope="module")
def made(artifact_cache: Path) -> tuple[PyamplicolAmplitude, RecordedProgress]:
    progress = RecordedProgress()
    return provide(request(artifact_cache), progress), progress


@pytest.fixture(scope="module")
def amplitude(made: tuple[PyamplicolAmplitude, RecordedProgress]) -> PyamplicolAmplitude:
    return made[0]


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


def reference(tag: str) -> Any:
    return json.loads((REFERENCE / f"amplitudes/{tag}.json").read_text())


def points(tag: str) -> tuple[Tensor, Tensor]:
    found = reference(tag)["points"]
    momenta = torch.tensor([point["p"] for point in found], dtype=torch.float64)
    return momenta, torch.tensor([point["m2"] for point in found], dtype=torch.float64)


def group_points(group: int) -> Tensor:
    return points(TAGS[GU] if group == GUX else TAGS[group])[0]


def alpha_s(momenta: Tensor, value: float = 0.118) -> Tensor:
    return torch.full((len(momenta),), value, dtype=torch.float64)


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
    selected = ProcessRuntime.selected

    def vanishing(self: ProcessRuntime, momenta: Any, helicity: Any, flow: Any) -> Any:
        values = selected(self, momenta, helicity, flow)
        if helicity is not None:
            values[1] = 0
        return values

    monkeypatch.setattr(ProcessRuntime, "selected", vanishing)
    after = amplitude.colour_flow_values(momenta, alpha_s(momenta), helicity, GG)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    assert bool((after[1] > before[1]).all())


def test_no_points_give_no_values(amplitude: PyamplicolAmplitude) -> None:
    nothing = torch.zeros((0, 5, 4), dtype=torch.float64)
    none = alpha_s(nothing)
    result = amplitude(nothing, none, GG)
    assert result.value.shape == result.std.shape == (0,)
    assert amplitude.helicity_values(nothing, none, GG).shape == (0, 32)
    no_index = torch.zeros(0, dtype=torch.int64)
    assert amplitude.colour_flow_values(nothing, none, no_index, GG).shape == (0, 6)


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


def test_the_first_call_reports_each_artifact_and_the_second_makes_none(
    made: tuple[PyamplicolAmplitude, RecordedProgress],
    artifact_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, first = made
    title = "preparing the matrix element"
    assert first.done == pytest.approx(first.totals)
    assert first.totals.get(title, 0) <= 5
    monkeypatch.setattr(subprocess, "Popen", None)
    progress = RecordedProgress()
    provide(request(artifact_cache), progress)
    assert not progress.totals


def test_each_artifact_has_a_note_beside_it_with_what_was_checked(
    amplitude: PyamplicolAmplitude, artifact_cache: Path
) -> None:
    notes = [
        json.loads(path.read_text()) for path in (artifact_cache / "pyamplicol").glob("*.json")
    ]
    checks = {
        (process, note["colour"]): found
        for note in notes
        for process, found in note["processes"].items()
    }
    assert 1 < checks["g g > g t t~", "lc"]["leading over full colour"] < 1.5
    assert checks["g u > e- e+ u", "full"]["Lorentz invariance"] < 1e-9
    assert ("g u~ > e+ e- u~", "full") not in checks  # conjugate to the one above


def test_a_process_that_is_part_of_an_artifact_is_found_there(
    amplitude: PyamplicolAmplitude, artifact_cache: Path
) -> None:
    progress = RecordedProgress()
    # The same with its legs in another order.
    reordered = SubprocessGroup(
        name="u g > e- e+ u", pdg_ids=((2, 21, 11, -11, 2),), qcd_order=1, qed_order=2
    )
    alone = provide(request(artifact_cache, (reordered,)), progress)
    assert not progress.totals
    momenta, expected = points("gu_epemu")
    momenta = momenta[:, [1, 0, 3, 2, 4]]
    value = alone(momenta, alpha_s(momenta), 0).value
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)


def test_a_process_without_colour_is_refused(tmp_path: Path) -> None:
    leptons = SubprocessGroup(name="e+ e- > mu+ mu-", pdg_ids=((-11, 11, -13, 13),), qed_order=2)
    with pytest.raises(UnsupportedProcess, match=r"coloured leg.*closed_form.*umami.*python"):
        provide(request(tmp_path, (leptons,)), RecordedProgress())


def test_quark_lines_that_only_electroweak_bosons_join_are_refused(tmp_path: Path) -> None:
    scattering = SubprocessGroup(
        name="u u > w+ w+ d d", pdg_ids=((2, 2, 24, 24, 1, 1),), qcd_order=0, qed_order=4
    )
    with pytest.raises(UnsupportedProcess, match=r"^u u > w\+ w\+ d d with QCD=0: .*umami.*python"):
        provide(request(tmp_path, (scattering,)), RecordedProgress())


def test_another_power_of_alpha_s_than_the_groups_is_refused(
    amplitude: PyamplicolAmplitude, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = ProcessRuntime.totals
    monkeypatch.setattr(
        ProcessRuntime, "totals", lambda self, momenta: 0 * totals(self, momenta) + 1
    )
    with pytest.raises(MatrixElementError, match=r"alpha_s\^0: expected alpha_s\^1"):
        amplitude.check_alpha_s_power(UUX, StandardModel())


def test_a_missing_extra_names_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"mlgen-hep\[amplitudes\].*closed_form"):
        provide(request(tmp_path), RecordedProgress())


def test_a_process_that_cannot_be_made_says_why(artifact_cache: Path) -> None:
    forbidden = MatrixElement(
        process="u u~ > e+ mu- g",
        pdg_ids=(2, -2, -11, 13, 21),
        colour="full",
        qcd_order=1,
        qed_order=2,
    )
    cache = ArtifactCache(artifact_cache)
    message = r"could not make u u~ > e\+ mu- g.*no concrete.*umami"
    with pytest.raises(UnsupportedProcess, match=message):
        cache.prepare([forbidden], ArtifactChecks(StandardModel(), cache), RecordedProgress())
    assert cache.find(forbidden) is None


def test_a_matrix_element_that_fails_a_check_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(processes: list[str], artifact: Path, **options: Any) -> None:
        artifact.mkdir()

    def failing(element: MatrixElement, artifact: Path) -> dict[str, float]:
        raise MatrixElementError("|M|² = -1: expected a positive number")

    monkeypatch.setattr(pyamplicol_artifacts, "generate", fake)
    cache = ArtifactCache(tmp_path)
    elements = [OTHER_ELEMENTS["gg_gg"]]
    with pytest.raises(MatrixElementError, match="expected a positive number"):
        cache.prepare(elements, failing, RecordedProgress())
    assert not list((tmp_path / "pyamplicol").iterdir())
    cache.prepare(elements, lambda element, artifact: {"a law": 0.0}, RecordedProgress())
    assert cache.find(elements[0]) is not None


def test_a_generation_that_is_aborted_says_what_is_likely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def aborting(command: list[str], **options: Any) -> subprocess.Popen[str]:
        return popen([sys.executable, "-c", "import os; os.abort()"], **options)

    monkeypatch.setattr(subprocess, "Popen", aborting)
    with pytest.raises(MatrixElementError, match="signal 6: another process of this user"):
        provide(request(tmp_path), RecordedProgress())
    assert not list((tmp_path / "pyamplicol").iterdir())


def test_a_damaged_artifact_names_the_folder_to_delete(
    amplitude: PyamplicolAmplitude, artifact_cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(artifact_cache / "pyamplicol", tmp_path / "pyamplicol")
    leading = MatrixElement(
        process="g g > g t t~", pdg_ids=(21, 21, 21, 6, -6), colour="lc", qcd_order=3, qed_order=0
    )
    damaged = ArtifactCache(tmp_path).folder_of(leading)
    payload = damaged / "evaluators.pacbin"
    payload.write_bytes(payload.read_bytes()[:-1000])
    with pytest.raises(MatrixElementError, match=f"delete {damaged}"):
        provide(request(tmp_path), RecordedProgress())


class Waited(Exception):
    """Raised by a progress that is told to wait."""


def test_two_generations_of_one_user_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user_cache(name: str, ensure_exists: bool) -> Path:
        return tmp_path

    class Impatient(RecordedProgress):
        @contextmanager
        def step(self, title: str, total: float) -> Iterator[Callable[[float, str], None]]:
            def advance(more: float, note: str = "") -> None:
                raise Waited(note)

            yield advance

    monkeypatch.setattr(pyamplicol_artifacts, "user_cache_path", user_cache)
    with (
        FileLock(tmp_path / "symbolica.lock"),
        pytest.raises(Waited, match="waiting for another process"),
    ):
        provide(request(tmp_path), Impatient())


WORKER = """
import pickle, sys
from pathlib import Path
amplitude, momenta, alpha_s, stop = pickle.load(sys.stdin.buffer)
amplitude(momenta, alpha_s, 0)
print("ready", flush=True)
value = None
while value is None or not Path(stop).exists():
    value = amplitude(momenta, alpha_s, 0).value
imported = {"pyamplicol", "symbolica"} & set(sys.modules)
print(len(imported), *value.tolist())
"""


def test_several_processes_evaluate_at_once_and_without_symbolica(
    amplitude: PyamplicolAmplitude, tmp_path: Path
) -> None:
    momenta, expected = points("uux_epemg")
    stop = tmp_path / "stop"
    task = pickle.dumps((amplitude, momenta, alpha_s(momenta), str(stop)))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(task)
        worker.stdin.close()
        worker.stdin = None
    # Each one evaluates on until both do.
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    stop.touch()
    for worker in workers:
        out, _ = worker.communicate(timeout=100)
        assert worker.returncode == 0
        n_imported, *values = (float(x) for x in out.split())
        assert n_imported == 0
        torch.testing.assert_close(
            torch.tensor(values, dtype=torch.float64), expected, rtol=1e-9, atol=0
        )
    assert not {"pyamplicol", "symbolica"} & set(sys.modules)
