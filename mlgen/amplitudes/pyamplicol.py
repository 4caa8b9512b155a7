"""Tree-level matrix elements of the Standard Model, or of a UFO model, by pyamplicol.

For each process up to the order of its legs and, in the Standard Model, charge conjugation, one
matrix element at full colour for the weight and the helicities; and, where there is more than one
leading colour flow, one at leading colour, in which the flow of an accepted event is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mlgen.amplitudes.colour_flows import leading_flows
from mlgen.amplitudes.colour_words import is_coloured, n_colour_parts
from mlgen.amplitudes.cross_checks import cross_check
from mlgen.amplitudes.parameters import REFERENCE_ALPHA_S, WIDTHS, named_parameters
from mlgen.amplitudes.probe_points import measured_power, probe_points
from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.pyamplicol_artifacts import ArtifactCache, MatrixElement
from mlgen.amplitudes.pyamplicol_generation import ALTERNATIVES
from mlgen.amplitudes.pyamplicol_groups import FullColour, LeadingColour, PyamplicolGroup
from mlgen.amplitudes.pyamplicol_runtime import Array, ProcessRuntime, package_folder
from mlgen.amplitudes.relabelling import Relabelling, canonical_relabelling
from mlgen.core import AmplitudeValue, Progress, SubprocessGroup
from mlgen.errors import MatrixElementError, UnsupportedProcess
from mlgen.physics.model import Model, StandardModel
from mlgen.physics.process import process_name


def provide(request: AmplitudeRequest, progress: Progress) -> PyamplicolAmplitude:
    """The matrix elements of a process, made where the cache lacks them.

    Raises:
        UnsupportedProcess: a group is beyond pyamplicol, or mixes powers of alpha_s.
        MissingExtra: pyamplicol is not installed.
        MatrixElementError: a matrix element could not be made or loaded, fails a check, or has
            another power of alpha_s than its group.
    """
    package_folder()
    for group in request.groups:
        _check_served(group, request.model)
    relabellings = [_relabelling(group, request.model) for group in request.groups]
    full, leading = [], []
    for group, relabelling in zip(request.groups, relabellings, strict=True):
        full.append(_matrix_element(group, relabelling, "full", request.model))
        has_one_flow = len(leading_flows(group.pdg_ids[0], group.qcd_order)) == 1
        leading.append(
            None if has_one_flow else _matrix_element(group, relabelling, "lc", request.model)
        )
    cache = ArtifactCache(request.cache_folder)
    parameters = named_parameters(request.model)
    wanted = [element for element in (*full, *leading) if element is not None]
    cache.prepare(wanted, ArtifactChecks(request.model, cache), progress)
    loaded = []
    for index, group in enumerate(request.groups):
        last = leading[index]
        loaded.append(
            PyamplicolGroup(
                group=group,
                relabelling=relabellings[index],
                process=full[index].process,
                masses_gev=tuple(request.model.mass_gev(p) for p in relabellings[index].pdg_ids),
                full=cache.folder_of(full[index]),
                leading=None if last is None else cache.folder_of(last),
                parameters=parameters,
            )
        )
    amplitude = PyamplicolAmplitude(tuple(loaded))
    for index in range(len(loaded)):
        amplitude.check_alpha_s_power(index)
        # A damaged artifact is to be found now, not after a long run.
        amplitude.check_helicities(index)
        amplitude.colour_flows(index)
    return amplitude


def _check_served(group: SubprocessGroup, model: Model) -> None:
    pdg_ids = group.pdg_ids[0]
    if not any(is_coloured(pdg) for pdg in pdg_ids):
        # pyamplicol 1.0.1: e+ e- > mu+ mu- is too small by the constant 4 e^4.
        raise UnsupportedProcess(
            f"{group.name}: pyamplicol 1.0.1 gives wrong values for processes without a coloured "
            f"leg; set matrix_element.provider to closed_form, for l+ l- > l'+ l'-, or {ALTERNATIVES}"
        )
    if isinstance(model, StandardModel) and n_colour_parts(pdg_ids, group.qcd_order) > 1:
        # pyamplicol 1.0.1 fails on u u > w+ w+ d d with QCD=0, or, on the fly, gives 0.
        raise UnsupportedProcess(
            f"{group.name} with QCD={group.qcd_order}: pyamplicol 1.0.1 has no processes in which "
            f"electroweak bosons alone join quark lines; {ALTERNATIVES}"
        )


def _relabelling(group: SubprocessGroup, model: Model) -> Relabelling:
    particles = model.particles
    return canonical_relabelling(
        group.pdg_ids[0],
        self_conjugate=frozenset(p for p in particles if particles[p].is_self_conjugate),
        # There is no phase in the couplings of the Standard Model here; of others nothing is known.
        has_cp=isinstance(model, StandardModel),
    )


def _matrix_element(
    group: SubprocessGroup, relabelling: Relabelling, colour: Literal["full", "lc"], model: Model
) -> MatrixElement:
    return MatrixElement(
        process=process_name(relabelling.pdg_ids, model),
        pdg_ids=relabelling.pdg_ids,
        colour=colour,
        qcd_order=group.qcd_order,
        qed_order=group.qed_order,
        ufo_folder=model.ufo_folder,
    )


@dataclass(frozen=True, slots=True)
class ArtifactChecks:
    """What a matrix element goes through after it was made."""

    model: Model
    cache: ArtifactCache

    def __call__(self, element: MatrixElement, artifact: Path) -> dict[str, float]:
        parameters = named_parameters(self.model)
        is_standard = isinstance(self.model, StandardModel)
        full_colour = None
        if element.colour == "lc":
            folder = self.cache.folder_of(replace(element, colour="full"))
            full_colour = ProcessRuntime(folder, element.process, element.pdg_ids, parameters)
        return cross_check(
            ProcessRuntime(artifact, element.process, element.pdg_ids, parameters),
            f"{element.process} ({element.colour} colour) by pyamplicol",
            element.pdg_ids,
            [self.model.mass_gev(pdg) for pdg in element.pdg_ids],
            {name: parameters[name] for name in WIDTHS} if is_standard else None,
            full_colour,
        )


@dataclass(frozen=True, slots=True)
class PyamplicolAmplitude:
    """|M|² of the groups of a process; exact. It can be sent to other processes.

    Everything is evaluated in the partonic centre-of-mass frame. Helicities are physical ones
    there, of incoming legs too, as MadGraph writes them. And a width in a propagator breaks gauge
    invariance, so that the frame matters a little: 2e-5 of |M|² in g g > t t~ g. Where there is
    only one colour flow, its value is 1.
    """

    _groups: tuple[PyamplicolGroup, ...]
    _full: dict[int, FullColour] = field(default_factory=dict, repr=False, compare=False)
    _leading: dict[int, LeadingColour] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[type[PyamplicolAmplitude], tuple[tuple[PyamplicolGroup, ...]]]:
        # Native handles stay in their process; a copy elsewhere loads its own when first used.
        return PyamplicolAmplitude, (self._groups,)

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        runtime = self._full_runtime(group)
        chunks = self._groups[group].in_centre_of_mass(momenta)
        value = _tensor([runtime.totals(chunk) for chunk in chunks], momenta, ())
        value *= self._scaling(alpha_s, group)
        return AmplitudeValue(value=value, std=torch.zeros_like(value))

    def helicities(self, group: int) -> Tensor:
        table = torch.tensor(self._full_runtime(group).helicities, dtype=torch.int64)
        return self._groups[group].relabelling.helicities(table)

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        runtime = self._full_runtime(group)
        chunks = self._groups[group].in_centre_of_mass(momenta)
        values = [runtime.by_helicity(chunk) for chunk in chunks]
        parts = _tensor(values, momenta, (len(runtime.helicities),))
        return parts * self._scaling(alpha_s, group)[:, None]

    def pick_helicity(
        self, momenta: Tensor, alpha_s: Tensor, total: Tensor, uniform: Tensor, group: int
    ) -> Tensor:
        at_rest = _joined(self._groups[group].in_centre_of_mass(momenta), momenta.shape[1:])
        at_reference = (total.double() / self._scaling(alpha_s, group)).detach().cpu().numpy()
        uniforms = uniform.double().cpu().numpy()
        picked = self._full_colour(group).pick(at_rest, at_reference, uniforms)
        return torch.from_numpy(picked).to(momenta.device)

    def helicity_value(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        at_rest = _joined(self._groups[group].in_centre_of_mass(momenta), momenta.shape[1:])
        values = self._full_colour(group).values(at_rest, helicity.cpu().numpy())
        return torch.from_numpy(values).to(momenta.device) * self._scaling(alpha_s, group)

    def colour_flows(self, group: int) -> Tensor:
        leading = self._leading_colour(group)
        if leading is None:
            asked = self._groups[group].group
            return torch.tensor(leading_flows(asked.pdg_ids[0], asked.qcd_order))
        return leading.tags

    def colour_flow_values(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        leading = self._leading_colour(group)
        if leading is None:
            return momenta.new_ones((len(momenta), 1))
        at_rest = _joined(self._groups[group].in_centre_of_mass(momenta), momenta.shape[1:])
        values = leading.values(at_rest, helicity.cpu().numpy())
        parts = torch.from_numpy(values).to(momenta.device)
        return parts * self._scaling(alpha_s, group)[:, None]

    def check_helicities(self, group: int) -> None:
        """See that the helicities sum to |M|², one by one.

        Raises:
            MatrixElementError: they do not.
        """
        _ = self._full_colour(group).usual_order

    def check_alpha_s_power(self, group: int) -> None:
        """Compare the power of alpha_s, at one point for three couplings, with the group's.

        Raises:
            UnsupportedProcess: there is no single power.
            MatrixElementError: it is another one, or |M|² is not a positive number.
        """
        asked, runtime = self._groups[group], self._full_runtime(group)
        if "aS" not in asked.parameters:
            return
        point = probe_points(asked.masses_gev, 1).numpy()
        values = []
        try:
            for factor in (1, 2, 4):
                runtime.set_parameters({"aS": factor * REFERENCE_ALPHA_S})
                values.append(float(runtime.totals(point)[0]))
        finally:  # runtimes are shared
            runtime.set_parameters({"aS": REFERENCE_ALPHA_S})
        name, expected = asked.group.name, asked.group.qcd_order
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise MatrixElementError(
                f"{name}: pyamplicol gives |M|² = {values[0]} at {point.tolist()}: expected a "
                "positive number"
            )
        power = measured_power(values, factor=2)
        if power is None:
            raise UnsupportedProcess(
                f"{name}: |M|² mixes powers of alpha_s, which cannot be rescaled for each event"
            )
        if power != expected:
            raise MatrixElementError(
                f"{name}: pyamplicol's |M|² goes as alpha_s^{power:g}: expected alpha_s^{expected}, "
                "by the diagrams of the process"
            )

    def _full_runtime(self, group: int) -> ProcessRuntime:
        return self._full_colour(group).runtime

    def _full_colour(self, group: int) -> FullColour:
        if group not in self._full:
            self._full[group] = FullColour(self._groups[group])
        return self._full[group]

    def _leading_colour(self, group: int) -> LeadingColour | None:
        artifact = self._groups[group].leading
        if artifact is None:
            return None
        if group not in self._leading:
            helicities = self._full_runtime(group).helicities
            self._leading[group] = LeadingColour(self._groups[group], artifact, helicities)
        return self._leading[group]

    def _scaling(self, alpha_s: Tensor, group: int) -> Tensor:
        """|M|² at alpha_s (n,) over that at the reference: its power."""
        return (alpha_s.double() / REFERENCE_ALPHA_S) ** self._groups[group].group.qcd_order


def _tensor(chunks: Iterable[Array], like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The chunks joined, each (n_chunk, *shape), on the device of `like`."""
    return torch.from_numpy(_joined(chunks, shape)).to(like.device)


def _joined(chunks: Iterable[Array], shape: tuple[int, ...]) -> Array:
    return np.concatenate([np.zeros((0, *shape)), *chunks])
