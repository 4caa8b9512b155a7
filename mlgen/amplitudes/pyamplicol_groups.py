"""The matrix elements of a group of flavours, as pyamplicol evaluates them: at full and leading colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlgen.amplitudes.colour_words import colour_tags, leading_words
from mlgen.amplitudes.picking_in_turn import (
    TOLERANCE,
    Array,
    Indices,
    by_usual_share,
    pick_in_turn,
)
from mlgen.amplitudes.probe_points import probe_points
from mlgen.amplitudes.pyamplicol_runtime import ProcessRuntime
from mlgen.amplitudes.relabelling import Relabelling
from mlgen.core import SubprocessGroup
from mlgen.errors import MatrixElementError
from mlgen.physics.kinematics import boost_back

CHUNK = 1024
"""Points evaluated at a time: they stay in the processor's cache, and below the 32768 numbers from
which torch starts threads, whose waiting for each other on a busy machine cost 20 us a point."""

_USUAL_POINTS = 32
_USUAL_MOMENTUM_GEV = 150.0
"""Where the usual shares of helicities are measured: like events at the LHC they have jets of some
100 GeV. Found in g g > t t~ g g: 15.1 helicities for an event, where its own events give 14.4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PyamplicolGroup:
    """Where the matrix element of one group is found."""

    group: SubprocessGroup
    relabelling: Relabelling
    process: str
    """Which the group is relabelled to."""
    masses_gev: tuple[float, ...]
    """Of its legs."""
    full: Path
    leading: Path | None
    """None where there is only one leading colour flow."""
    parameters: Mapping[str, float]

    def runtime(self, artifact: Path) -> ProcessRuntime:
        return ProcessRuntime(
            artifact.resolve(), self.process, self.relabelling.pdg_ids, self.parameters
        )

    def in_centre_of_mass(self, momenta: Tensor) -> Iterator[Array]:
        """The momenta (n, n_ext, 4) of the relabelled process, in chunks, incoming legs at rest."""
        momenta = momenta.detach().double().cpu()
        for start in range(0, len(momenta), CHUNK):
            yield self.relabelling.momenta(_at_rest(momenta[start : start + CHUNK])).numpy()


class FullColour:
    """|M|² of a group, and its helicities."""

    def __init__(self, group: PyamplicolGroup) -> None:
        self._group = group
        self.runtime = group.runtime(group.full)

    @cached_property
    def usual_order(self) -> Indices:
        """The helicities in the order of their usual shares of |M|², the largest first.

        Raises:
            MatrixElementError: one by one, they do not sum to |M|².
        """
        points = probe_points(self._group.masses_gev, _USUAL_POINTS, _USUAL_MOMENTUM_GEV).numpy()
        indices = range(len(self.runtime.helicities))
        parts = np.stack([self.runtime.one_helicity(points, i) for i in indices], axis=1)
        found, expected = parts.sum(axis=1), self.runtime.totals(points)
        if not np.allclose(found, expected, rtol=TOLERANCE, atol=0.0):
            raise MatrixElementError(
                f"{self._group.process}: the helicities, one by one, sum to {found.tolist()}: "
                f"expected |M|² = {expected.tolist()}"
            )
        return by_usual_share(parts)

    def values(self, momenta: Array, helicity: Indices) -> Array:
        """|M|² (n,) of one configuration at each point, for helicity (n,)."""
        values = np.empty(len(momenta))
        for index in np.unique(helicity):
            at = np.flatnonzero(helicity == index)
            values[at] = self.runtime.one_helicity(momenta[at], index)
        return values

    def pick(self, momenta: Array, total: Array, uniform: Array) -> Indices:
        """A helicity (n,) in proportion to its part of the total (n,), for uniform (n,) in [0, 1).

        Raises:
            MatrixElementError: they do not sum to the total.
        """

        def part(helicity: int, at: Indices) -> Array:
            return self.runtime.one_helicity(momenta[at], helicity)

        try:
            return pick_in_turn(part, self.usual_order.tolist(), total, uniform)
        except MatrixElementError as error:
            raise MatrixElementError(f"helicities of {self._group.process}: {error}") from error


class LeadingColour:
    """The leading colour flows of a group, and their |M|²."""

    def __init__(
        self, group: PyamplicolGroup, artifact: Path, full_helicities: tuple[tuple[int, ...], ...]
    ) -> None:
        self._name = group.process
        self._runtime = group.runtime(artifact)
        words = self._runtime.colour_words
        pdg_ids = group.relabelling.pdg_ids
        self._kept = leading_words(words, pdg_ids, group.group.qcd_order)
        tags = torch.tensor([colour_tags(words[index], pdg_ids) for index in self._kept])
        self.tags = group.relabelling.colour_flows(tags)
        index_of = {labels: i for i, labels in enumerate(self._runtime.helicities)}
        # None where a configuration vanishes at leading colour only.
        self._helicity = [index_of.get(labels) for labels in full_helicities]

    def values(self, momenta: Array, helicity: Indices) -> Array:
        """(n, n_flows) for helicity (n,), an index into the full-colour configurations.

        A configuration may vanish at leading colour only; its flows are then chosen as those
        of the sum over helicities.
        """
        values = np.empty((len(momenta), len(self._kept)))
        for index in np.unique(helicity):
            at = np.flatnonzero(helicity == index)
            values[at] = self._each_flow(momenta[at], self._helicity[index])
        vanishing = values.sum(axis=1) == 0
        if vanishing.any():
            values[vanishing] = self._each_flow(momenta[vanishing], None)
        if (values.sum(axis=1) == 0).any():
            raise MatrixElementError(
                f"{self._name} has no colour flow at leading colour for some of the events"
            )
        return values

    def _each_flow(self, momenta: Array, helicity: int | None) -> Array:
        parts = [
            self._runtime.by_flow(momenta[start : start + CHUNK], helicity)[:, self._kept]
            for start in range(0, len(momenta), CHUNK)
        ]
        return np.concatenate(parts)


def _at_rest(momenta: Tensor) -> Tensor:
    """The momenta (n, n_ext, 4) in the rest frame of the two incoming legs."""
    total = momenta[:, 0] + momenta[:, 1]
    if bool(total[:, 1:3].any()):
        return boost_back(momenta, total[:, None])
    # Along the beam, as events come: a quarter of the time.
    energy, pz = total[:, None, 0], total[:, None, 3]
    mass = ((energy - pz) * (energy + pz)).sqrt()
    gamma, gamma_beta = energy / mass, pz / mass
    boosted = momenta.clone()
    boosted[..., 0] = gamma * momenta[..., 0] - gamma_beta * momenta[..., 3]
    boosted[..., 3] = gamma * momenta[..., 3] - gamma_beta * momenta[..., 0]
    return boosted
