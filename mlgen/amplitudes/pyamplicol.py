"""Tree-level matrix elements of the Standard Model by pyamplicol.

For each coupling structure, that is each set of legs up to crossing, two artifacts: full colour
for the weight and the helicities, and leading colour, in which the colour flow of an accepted
event is chosen. u-type and d-type quarks are different structures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlgen.amplitudes.colour_words import colour_tags, is_coloured, leading_words
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.pyamplicol_artifacts import Artifact, prepare
from mlgen.amplitudes.pyamplicol_runtime import Array, Indices, ProcessRuntime, package_folder
from mlgen.core import AmplitudeValue, Progress, SubprocessGroup
from mlgen.errors import MatrixElementError, UnsupportedProcess
from mlgen.physics.kinematics import boost_back
from mlgen.physics.model import StandardModel
from mlgen.physics.process import process_name

_REFERENCE_ALPHA_S = 0.118
"""Where artifacts are evaluated; |M|² at another alpha_s follows from its power."""

_CHUNK = 1024
"""Points evaluated at a time: they stay in the processor's cache, and below the 32768 numbers from
which torch starts threads, whose waiting for each other on a busy machine cost 20 us a point."""


def provide(request: AmplitudeRequest, progress: Progress) -> PyamplicolAmplitude:
    """The matrix elements of a process, made where the cache lacks them.

    Raises:
        UnsupportedProcess: a group has no coloured leg, or mixes powers of alpha_s.
        MissingExtra: pyamplicol is not installed.
        MatrixElementError: a matrix element could not be made or loaded.
    """
    package_folder()
    structures: dict[tuple[int, ...], list[str]] = {}
    for group in request.groups:
        _check_coloured(group)
        processes = structures.setdefault(_structure(group), [])
        if process_name(group.pdg_ids[0]) not in processes:
            processes.append(process_name(group.pdg_ids[0]))
    artifacts = {
        structure: (
            Artifact(processes=tuple(processes), colour="full"),
            Artifact(processes=tuple(processes), colour="lc"),
        )
        for structure, processes in structures.items()
    }
    prepare([a for pair in artifacts.values() for a in pair], request.cache_folder, progress)
    parameters = model_parameters(request.model)
    loaded = []
    for group in request.groups:
        full, leading = (a.folder(request.cache_folder) for a in artifacts[_structure(group)])
        pdg_ids = group.pdg_ids[0]
        runtime = ProcessRuntime(full, process_name(pdg_ids), pdg_ids, parameters)
        masses = [request.model.mass_gev(pdg) for pdg in pdg_ids]
        power = _alpha_s_power(runtime, group.name, masses)
        loaded.append(
            _Group(
                pdg_ids=pdg_ids,
                full=full.resolve(),
                leading=leading.resolve(),
                alpha_s_power=power,
                parameters=parameters,
            )
        )
    amplitude = PyamplicolAmplitude(tuple(loaded))
    for index in range(len(loaded)):
        amplitude.colour_flows(index)  # a damaged artifact is to be found now, not after a long run
    return amplitude


def model_parameters(model: StandardModel) -> dict[str, float]:
    """The external parameters of MadGraph's `sm` by their names there, alpha_s at a reference."""
    inputs = model.inputs
    return {
        "aEWM1": inputs.inverse_alpha_em,
        "Gf": inputs.fermi_constant_per_gev2,
        "aS": _REFERENCE_ALPHA_S,
        "MZ": inputs.z_mass_gev,
        "MT": inputs.top_mass_gev,
        "MB": inputs.bottom_mass_gev,
        "MTA": inputs.tau_mass_gev,
        "MH": inputs.higgs_mass_gev,
        "ymt": inputs.top_mass_gev,
        "ymb": inputs.bottom_mass_gev,
        "ymtau": inputs.tau_mass_gev,
        "WZ": inputs.z_width_gev,
        "WW": inputs.w_width_gev,
        "WT": inputs.top_width_gev,
        "WH": inputs.higgs_width_gev,
    }


def _structure(group: SubprocessGroup) -> tuple[int, ...]:
    return tuple(sorted(abs(pdg) for pdg in group.pdg_ids[0]))


def _check_coloured(group: SubprocessGroup) -> None:
    if not any(is_coloured(pdg) for pdg in group.pdg_ids[0]):
        # pyamplicol 1.0.1: e+ e- > mu+ mu- is too small by the constant 4 e^4.
        raise UnsupportedProcess(
            f"{group.name}: pyamplicol 1.0.1 gives wrong values for processes without a coloured "
            'leg; set matrix_element.provider = "closed_form"'
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Where the matrix element of one group is found, and how it scales."""

    pdg_ids: tuple[int, ...]
    full: Path
    leading: Path
    alpha_s_power: int
    parameters: Mapping[str, float]

    def runtime(self, artifact: Path) -> ProcessRuntime:
        return ProcessRuntime(artifact, process_name(self.pdg_ids), self.pdg_ids, self.parameters)


class _LeadingColour:
    """The leading colour flows of a group, and their |M|²."""

    def __init__(self, group: _Group, full_helicities: tuple[tuple[int, ...], ...]) -> None:
        self._name = process_name(group.pdg_ids)
        self._runtime = group.runtime(group.leading)
        words = self._runtime.colour_words
        self._kept = leading_words(words, group.pdg_ids, group.alpha_s_power)
        self.tags = [colour_tags(words[index], group.pdg_ids) for index in self._kept]
        index_of = {labels: i for i, labels in enumerate(self._runtime.all_helicities)}
        self._helicity = np.array([index_of[labels] for labels in full_helicities], dtype=np.int64)

    def values(self, momenta: Array, helicity: Indices) -> Array:
        """(n, n_flows) for helicity (n,), an index into the full-colour configurations.

        A configuration may vanish at leading colour only; its flows are then chosen as those
        of the sum over helicities.
        """
        values = self._each_flow(momenta, self._helicity[helicity])
        vanishing = values.sum(axis=1) == 0
        if vanishing.any():
            values[vanishing] = self._each_flow(momenta[vanishing], None)
        if (values.sum(axis=1) == 0).any():
            raise MatrixElementError(
                f"{self._name} has no colour flow at leading colour for some of the events"
            )
        return values

    def _each_flow(self, momenta: Array, helicity: Indices | None) -> Array:
        columns = [
            self._runtime.selected(momenta, helicity, np.full(len(momenta), flow))
            for flow in self._kept
        ]
        return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class PyamplicolAmplitude:
    """|M|² of the groups of a process; exact. It can be sent to other processes.

    Everything is evaluated in the partonic centre-of-mass frame. Helicities are physical ones
    there, of incoming legs too, as MadGraph writes them. And a width in a propagator breaks gauge
    invariance, so that the frame matters a little: 2e-5 of |M|² in g g > t t~ g.
    """

    _groups: tuple[_Group, ...]
    _full: dict[int, ProcessRuntime] = field(default_factory=dict, repr=False, compare=False)
    _leading: dict[int, _LeadingColour] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[type[PyamplicolAmplitude], tuple[tuple[_Group, ...]]]:
        # Native handles stay in their process; a copy elsewhere loads its own when first used.
        return PyamplicolAmplitude, (self._groups,)

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        runtime = self._full_runtime(group)
        values = [runtime.totals(chunk) for chunk in _in_centre_of_mass(momenta)]
        value = _tensor(values, momenta, ()) * self._scaling(alpha_s, group)
        return AmplitudeValue(value=value, std=torch.zeros_like(value))

    def helicities(self, group: int) -> Tensor:
        return torch.tensor(self._full_runtime(group).helicities, dtype=torch.int64)

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        runtime = self._full_runtime(group)
        values = [runtime.by_helicity(chunk) for chunk in _in_centre_of_mass(momenta)]
        parts = _tensor(values, momenta, (len(runtime.helicities),))
        return parts * self._scaling(alpha_s, group)[:, None]

    def colour_flows(self, group: int) -> Tensor:
        return torch.tensor(self._leading_colour(group).tags, dtype=torch.int64)

    def colour_flow_values(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        leading = self._leading_colour(group)
        index = helicity.cpu().numpy()
        values = [
            leading.values(chunk, index[n * _CHUNK : (n + 1) * _CHUNK])
            for n, chunk in enumerate(_in_centre_of_mass(momenta))
        ]
        parts = _tensor(values, momenta, (len(leading.tags),))
        return parts * self._scaling(alpha_s, group)[:, None]

    def _full_runtime(self, group: int) -> ProcessRuntime:
        if group not in self._full:
            self._full[group] = self._groups[group].runtime(self._groups[group].full)
        return self._full[group]

    def _leading_colour(self, group: int) -> _LeadingColour:
        if group not in self._leading:
            helicities = self._full_runtime(group).helicities
            self._leading[group] = _LeadingColour(self._groups[group], helicities)
        return self._leading[group]

    def _scaling(self, alpha_s: Tensor, group: int) -> Tensor:
        """|M|² at alpha_s (n,) over that at the reference: its power."""
        return (alpha_s.double() / _REFERENCE_ALPHA_S) ** self._groups[group].alpha_s_power


def _in_centre_of_mass(momenta: Tensor) -> list[Array]:
    """The momenta (n, n_ext, 4) in chunks, in the rest frame of the incoming legs."""
    momenta = momenta.detach().double().cpu()
    chunks = [momenta[start : start + _CHUNK] for start in range(0, len(momenta), _CHUNK)]
    return [boost_back(c, c[:, :2].sum(dim=1, keepdim=True)).numpy() for c in chunks]


def _tensor(chunks: list[Array], like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The chunks joined, each (n_chunk, *shape), on the device of `like`."""
    return torch.from_numpy(np.concatenate([np.zeros((0, *shape)), *chunks])).to(like.device)


def _alpha_s_power(runtime: ProcessRuntime, name: str, masses: list[float]) -> int:
    """n of |M|² ~ alpha_s^n, measured at one point for three couplings.

    Raises:
        UnsupportedProcess: there is no single n.
        MatrixElementError: |M|² vanishes.
    """
    point = _any_point(masses)
    values = []
    for factor in (1, 2, 4):
        runtime.set_parameters({"aS": factor * _REFERENCE_ALPHA_S})
        values.append(float(runtime.totals(point)[0]))
    runtime.set_parameters({"aS": _REFERENCE_ALPHA_S})
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise MatrixElementError(
            f"{name}: pyamplicol gives |M|² = {values[0]} at {point.tolist()}: expected a positive number"
        )
    powers = [math.log2(values[1] / values[0]), math.log2(values[2] / values[1])]
    power = round(powers[0])
    if max(abs(p - power) for p in powers) > 1e-6:
        raise UnsupportedProcess(
            f"{name}: |M|² mixes powers of alpha_s, which cannot be rescaled for each event"
        )
    return power


def _any_point(masses: list[float]) -> Array:
    """One phase-space point (1, n_ext, 4), GeV, nowhere special, with the given masses."""
    final = np.array(masses[2:])
    spatial = np.random.default_rng(1).normal(scale=500, size=(len(final), 3))
    spatial -= spatial.mean(axis=0)
    energies = np.sqrt((spatial**2).sum(axis=1) + final**2)
    s = energies.sum() ** 2
    a, b = masses[0] ** 2, masses[1] ** 2
    p = math.sqrt(((s - a - b) ** 2 - 4 * a * b) / (4 * s))
    incoming = [[math.sqrt(p**2 + a), 0, 0, p], [math.sqrt(p**2 + b), 0, 0, -p]]
    return np.concatenate([incoming, np.column_stack([energies, spatial])])[None]
