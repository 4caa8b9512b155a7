from __future__ import annotations

import importlib.util
import json
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
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.pyamplicol import PyamplicolAmplitude, model_parameters, provide
from mlgen.amplitudes.pyamplicol_artifacts import Artifact, prepare
from mlgen.amplitudes.pyamplicol_runtime import ProcessRuntime
from mlgen.cards import ModelCard
from mlgen.core import SubprocessGroup
from mlgen.errors import MatrixElementError, MissingExtra, UnsupportedProcess
from mlgen.physics.kinematics import boost_back
from mlgen.physics.model import StandardModel
from mlgen.physics.process import process_name
from tests.laws import check_amplitude_is_lorentz_invariant

REFERENCE = Path(__file__).parents[1] / "reference"

UUX, GU, GUX, GG = range(4)
# The u-type groups as p p > e+ e- j has them, and the gluonic one of p p > t t~ j: a run of
# those cards in the same session finds these artifacts made.
GROUPS = tuple(
    SubprocessGroup(name=process_name(pdg_ids), pdg_ids=(pdg_ids,))
    for pdg_ids in (
        (2, -2, -11, 11, 21),
        (21, 2, -11, 11, 2),
        (21, -2, -11, 11, -2),
        (21, 21, 6, -6, 21),
    )
)
TAGS = {UUX: "uux_epemg", GU: "gu_epemu", GG: "gg_ttxg"}
OTHER_TAGS = ("uux_epem", "uux_ttx", "ddx_epem", "gg_gg", "gg_ttx", "ee_uuxg", "uux_epemgg")


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
def other_processes(artifact_cache: Path) -> Artifact:
    """One artifact, full colour only, for many processes that are compared with references."""
    names = tuple(process_name(reference(tag)["pdg"]) for tag in OTHER_TAGS)
    artifact = Artifact(processes=names, colour="full")
    prepare([artifact], artifact_cache, RecordedProgress())
    return artifact


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


@pytest.mark.parametrize("tag", OTHER_TAGS)
def test_the_model_and_its_parameters_reproduce_madgraph(
    other_processes: Artifact, artifact_cache: Path, tag: str
) -> None:
    momenta, expected = points(tag)
    pdg_ids = reference(tag)["pdg"]
    runtime = ProcessRuntime(
        other_processes.folder(artifact_cache),
        process_name(pdg_ids),
        pdg_ids,
        model_parameters(StandardModel()),
    )
    values = torch.from_numpy(runtime.totals(momenta.numpy()))
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=0)


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


def test_colour_flows_add_up_to_nine_eighths_of_the_value_of_one_quark_line_and_one_gluon(
    amplitude: PyamplicolAmplitude,
) -> None:
    momenta, expected = points("uux_epemg")
    coupling = alpha_s(momenta, 0.236)
    total = torch.zeros_like(expected)
    for index in range(len(amplitude.helicities(UUX))):
        helicity = torch.full((len(momenta),), index)
        total += amplitude.colour_flow_values(momenta, coupling, helicity, UUX).sum(dim=1)
    # The colour factor (N² - 1) / 2 is N² / 2 at leading colour.
    torch.testing.assert_close(total, expected * 2 * 9 / 8, rtol=1e-9, atol=0)


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
    assert first.totals.get(title, 0) <= 4
    monkeypatch.setattr(subprocess, "Popen", None)
    progress = RecordedProgress()
    provide(request(artifact_cache), progress)
    assert not progress.totals


def test_each_artifact_has_a_note_beside_it(
    amplitude: PyamplicolAmplitude, artifact_cache: Path
) -> None:
    notes = [
        json.loads(path.read_text()) for path in (artifact_cache / "pyamplicol").glob("*.json")
    ]
    described = {(tuple(note["processes"]), note["colour"]) for note in notes}
    assert (("g g > t t~ g",), "lc") in described
    assert (("g u > e+ e- u", "g u~ > e+ e- u~", "u u~ > e+ e- g"), "full") in described


def test_a_process_without_colour_is_refused(tmp_path: Path) -> None:
    leptons = SubprocessGroup(name="e+ e- > mu+ mu-", pdg_ids=((-11, 11, -13, 13),))
    with pytest.raises(UnsupportedProcess, match=r"coloured leg.*closed_form"):
        provide(request(tmp_path, (leptons,)), RecordedProgress())


def test_a_missing_extra_names_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"mlgen-hep\[amplitudes\].*closed_form"):
        provide(request(tmp_path), RecordedProgress())


def test_a_process_that_cannot_be_made_says_why(artifact_cache: Path) -> None:
    forbidden = Artifact(processes=("u u~ > e+ mu- g",), colour="full")
    with pytest.raises(MatrixElementError, match=r"could not make u u~ > e\+ mu- g.*no concrete"):
        prepare([forbidden], artifact_cache, RecordedProgress())
    assert not forbidden.folder(artifact_cache).exists()


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
    damaged = Artifact(processes=("g g > t t~ g",), colour="lc").folder(tmp_path)
    shutil.copytree(artifact_cache / "pyamplicol", damaged.parent)
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
import pickle, sys, time
amplitude, momenta, alpha_s = pickle.load(sys.stdin.buffer)
amplitude(momenta, alpha_s, 0)
print("ready", flush=True)
start = time.time()
value = None
while time.time() < start + 2:
    value = amplitude(momenta, alpha_s, 0).value
imported = {"pyamplicol", "symbolica"} & set(sys.modules)
print(start, time.time(), len(imported), *value.tolist())
"""


def test_several_processes_evaluate_at_once_and_without_symbolica(
    amplitude: PyamplicolAmplitude,
) -> None:
    momenta, expected = points("uux_epemg")
    task = pickle.dumps((amplitude, momenta, alpha_s(momenta)))
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
    spans = []
    for worker in workers:
        out, _ = worker.communicate(timeout=100)
        assert worker.returncode == 0
        start, end, n_imported, *values = (float(x) for x in out.split()[1:])
        assert n_imported == 0
        torch.testing.assert_close(
            torch.tensor(values, dtype=torch.float64), expected, rtol=1e-9, atol=0
        )
        spans.append((start, end))
    assert max(start for start, _ in spans) < min(end for _, end in spans)
    assert not {"pyamplicol", "symbolica"} & set(sys.modules)
