"""Amplitudes of which only the sum over helicities and colours is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mlgen.amplitudes.colour_flows import leading_flows
from mlgen.core import AmplitudeValue, SubprocessGroup
from mlgen.errors import MatrixElementError

UNKNOWN_HELICITY = 9
"""SPINUP of a particle whose helicity nobody knows."""


class Unresolved(ABC):
    """An amplitude that gives |M|² alone.

    Its events have helicity 9, unknown. Their colour flow is drawn from all the leading ones with
    equal probability: exact where there is only one, as for one quark line with at most one gluon.
    Where there are more, all colour lines close, but a shower that begins from them radiates from
    dipoles that the amplitude may not favour: take a provider that resolves colour for that.
    """

    def __init__(self, groups: Sequence[SubprocessGroup]) -> None:
        self.groups = tuple(groups)

    @abstractmethod
    def value(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        """|M|² (n,) at the momenta (n, n_ext, 4), GeV, laboratory frame, and alpha_s (n,), of one group."""

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        value = self.value(momenta, alpha_s, group)
        return AmplitudeValue(value=value, std=torch.zeros_like(value))

    def helicities(self, group: int) -> Tensor:
        return torch.full((1, self.groups[group].n_ext), UNKNOWN_HELICITY)

    def helicity_values(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        return self.value(momenta, alpha_s, group)[:, None]

    def colour_flows(self, group: int) -> Tensor:
        asked = self.groups[group]
        return torch.tensor(leading_flows(asked.pdg_ids[0], asked.qcd_order))

    def colour_flow_values(
        self, momenta: Tensor, alpha_s: Tensor, helicity: Tensor, group: int
    ) -> Tensor:
        return momenta.new_ones((len(momenta), len(self.colour_flows(group))))


def check_values(value: Tensor, momenta: Tensor, where: str) -> None:
    """A value for each point, and all of them finite.

    Args:
        value: what came back.
        momenta: (n, n_ext, 4), GeV, where it was computed.
        where: what computed it, for the message.

    Raises:
        MatrixElementError: with the momenta where a value is not finite.
    """
    if value.shape != momenta.shape[:1] or not value.is_floating_point():
        raise MatrixElementError(
            f"{where} = a tensor of shape {tuple(value.shape)}, {value.dtype}: expected |M|² of "
            f"each point, real, of shape ({len(momenta)},)"
        )
    finite = value.isfinite()
    if not bool(finite.all()):
        index = int((~finite).nonzero()[0])
        raise MatrixElementError(
            f"{where} = {float(value[index])}: expected a finite |M|²; "
            f"(E, px, py, pz) in GeV = {momenta[index].tolist()}"
        )
